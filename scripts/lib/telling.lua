-- telling: carries a letter to a target, which may be a tree of lists and choices. All that can go out at once does.

local choice = require "choice"
local result = require "result"
local target = require "target"
local task = require "task"

local M = {}

-- Entries that go out in one request together: those of an account whose adapter groups; every other one by itself. What comes
-- of it are jobs of lib/delivery.
local function group(letter, entries, jobs)
  local by_account
  for index = 1, #entries do
    local entry = entries[index]
    local account = entry.account
    if account then
      local together = account.adapter.group
      if type(together) == "function" then
        together = together(account.options)
      end
      together = together and entry.recipient
      local job = together and by_account and by_account[account]
      if job then
        job[#job + 1] = entry
      elseif together then
        job = { entry, letter = letter, delivery = nil, tried = nil, began = nil } -- they get their room
        jobs[#jobs + 1] = job
        by_account = by_account or {}
        by_account[account] = job
      else
        entry[1], entry.letter = entry, letter
        jobs[#jobs + 1] = entry
      end
    end
  end
end

local tell

local function supersede(entries)
  for _, entry in ipairs(entries) do
    if entry.result and not entry.result.ok then
      entry.result.superseded = true
    end
  end
end

-- One after the other until one delivers; what failed before it does not count any more.
local function tell_in_order(letter, items, seen, own, hasty)
  local tried = {}
  for index, item in ipairs(items) do
    local entries = {}
    local ok = tell(letter, item, seen, entries, hasty or index < #items)
    table.move(entries, 1, #entries, #own + 1, own)
    if ok then
      supersede(tried)
      return true
    end
    table.move(entries, 1, #entries, #tried + 1, tried)
  end
  return false
end

-- Runs jobs at once; → whether all, and whether any of them went well.
local function at_once(jobs, run)
  local every, some = true, false
  if #jobs == 1 then
    every = run(jobs[1])
    some = every
  else
    for _, outcome in ipairs(task.parallel(jobs, run)) do
      if type(outcome) == "table" then -- an error in it
        error(outcome.error, 0)
      end
      every, some = every and outcome, some or outcome
    end
  end
  return every, some
end

local function tell_any(letter, items, seen, own, hasty)
  local lists = {}
  local jobs = {}
  for index in ipairs(items) do
    jobs[index], lists[index] = index, {}
  end
  local _, some = at_once(jobs, function(index)
    return tell(letter, items[index], seen, lists[index], hasty)
  end)
  for _, list in ipairs(lists) do
    if some then
      supersede(list)
    end
    table.move(list, 1, #list, #own + 1, own)
  end
  return some
end

local function score(item)
  local name = target.account_name(item)
  return name and task.score(name) or 0
end

local function tell_choice(letter, chosen, seen, own, hasty)
  if chosen.kind == "all" then
    return tell(letter, chosen.items, seen, own, hasty)
  elseif chosen.kind == "any" then
    return tell_any(letter, chosen.items, seen, own, hasty)
  end
  return tell_in_order(letter, choice.order(chosen, task.turn, score), seen, own, hasty)
end

local function run_job(letter, job, seen, own, hasty)
  if choice.is(job) then
    return tell_choice(letter, choice.of(job), seen, own, hasty)
  end
  job.hasty = hasty
  task.carry(job)
  return true
end

local function all_ok(entries)
  for _, entry in ipairs(entries) do
    if not (entry.result and entry.result.ok) then
      return false
    end
  end
  return true
end

-- Somebody else tells them at the moment: their results are waited for, a little longer each time.
local function await(entries)
  local pause = 0.01
  for _, entry in ipairs(entries) do
    while not entry.result do
      task.sleep(pause)
      pause = math.min(pause * 2, 1)
    end
  end
end

-- → whether everybody was told who had to be. The entries that were made are added to `own` and to the context's. `hasty`: there
-- is somebody else to be told instead, so no host that does not answer is waited for.
function tell(letter, whom, seen, own, hasty)
  local context = letter.context
  local entries, choices, before = target.resolve(whom, seen)
  for _, entry in ipairs(entries) do
    local place = #context.entries + 1
    context.entries[place] = entry
    entry.place = place > 1 and place or nil
    own[#own + 1] = entry
    if entry.result then
      context.done = context.done + 1
    end
    if letter.route then
      entry.route = letter.route
    end
  end
  context.total = context.total + #entries
  if #entries == 0 and not choices and not before then
    return false
  end
  local jobs = {}
  group(letter, entries, jobs)
  if choices then
    table.move(choices, 1, #choices, #jobs + 1, jobs)
  end
  local chosen = true
  if #jobs > 0 then
    chosen = at_once(jobs, function(job)
      return run_job(letter, job, seen, own, hasty)
    end)
  end
  if before then
    await(before)
  end
  return chosen and all_ok(entries) and (not before or all_ok(before))
end

local JOBS_MOST = 1000 -- above, it is task.parallel's to refuse

-- What `whom` stands for, as jobs that need no order among each other and whose entries are the context's now; they still need
-- their letter. Besides, `whom` as a list that may be shown, where that is known. nil when there is more to it, and nothing was
-- done.
function M.jobs(context, whom)
  local entries, shown = target.simple(whom)
  local choices
  if entries and not entries[2] then -- it is its own job
    context.entries, context.total = entries, 1
    return entries, shown
  elseif not entries then
    entries, choices = target.resolve(whom, {})
  end
  if choices then
    return nil
  end
  local jobs = {}
  group(false, entries, jobs)
  if #jobs == 0 or #jobs > JOBS_MOST then
    return nil
  end
  for index = 1, #entries do
    local entry = entries[index]
    entry.place = index > 1 and index or nil
    if entry.result then
      context.done = context.done + 1
    end
  end
  context.entries, context.total = entries, #entries
  return jobs, shown
end

-- Tells everybody that `whom` stands for, in a coroutine that wants their results. → ok, the entries made. An error of a script
-- on the way becomes the result of what it kept from being sent.
function M.tell(letter, whom, seen)
  local own = {}
  letter.context.scripted = true
  local ok, told = pcall(tell, letter, whom, seen or {}, own)
  if not ok then
    local problem = type(told) == "table" and told or { code = "script", message = tostring(told) }
    local missing = 0
    for _, entry in ipairs(own) do
      if not entry.result then
        entry.result = result.fail(problem.code, problem.message)
        missing = missing + 1
      end
    end
    if missing == 0 then
      own[1] = { shown = "", result = result.fail(problem.code, problem.message) }
      letter.context.entries[#letter.context.entries + 1] = own[1]
    end
    return false, own
  end
  return told, own
end

return M
