-- simulation: stands for the module `task` in a scratch state, so that rules can be tried: nothing is sent, and the clock
-- is one that jumps. `run` takes messages to their ends and returns what would have been sent, in order.

local real = require "task"
local store = require "store"

local M = {}

local STEPS_MOST, SECONDS_MOST = 1000000, 366 * 86400

local main -- lib/main's functions
local clock = 0 -- seconds since the beginning of a run
local started = 0 -- the wall clock of that beginning
local ready, timers -- of strands
local running -- the strand that runs
local sent
local reply
local turns = {}
local scores = {}
local expiries = {} -- of the store's keys, by this clock

------------------------------------------------------------------ strands

local function spawn(owner, f, ...)
  local strand = { co = coroutine.create(f), owner = owner, given = table.pack(...) }
  ready[#ready + 1] = strand
  return strand
end

local function wait()
  return coroutine.yield()
end

local function wake(strand, ...)
  strand.given = table.pack(...)
  ready[#ready + 1] = strand
end

local function at(seconds, f)
  timers[#timers + 1] = { at = clock + seconds, nth = #timers, f = f }
  table.sort(timers, function(a, b)
    return a.at < b.at or a.at == b.at and a.nth < b.nth
  end)
end

local function step(strand)
  if strand.owner.stopped then
    return
  end
  running = strand
  local outcome = table.pack(coroutine.resume(strand.co, table.unpack(strand.given, 1, strand.given.n)))
  running = nil
  if coroutine.status(strand.co) == "dead" and strand.ended then
    strand.ended(outcome[1], outcome[2], outcome[3], outcome[4])
  elseif coroutine.status(strand.co) == "dead" and not outcome[1] then
    error(outcome[2], 0)
  end
end

local function forget_expired()
  for key, expires in pairs(expiries) do
    if expires <= clock then
      expiries[key] = nil
      store.delete(key)
    end
  end
end

local function drain()
  for _ = 1, STEPS_MOST do
    local strand = table.remove(ready, 1)
    if strand then
      step(strand)
    elseif timers[1] then
      local timer = table.remove(timers, 1)
      if timer.at > SECONDS_MOST then
        error("the simulation goes on for more than a year: does a handler sleep in an endless loop?", 0)
      end
      clock = math.max(clock, timer.at)
      forget_expired()
      timer.f()
    else
      return
    end
  end
  error(("the simulation took more than %d steps"):format(STEPS_MOST), 0)
end

--------------------------------------------------------------- the module

local task = { nearest = real.nearest, read_file = real.read_file, adapters = real.adapters }
M.task = task

function task.now()
  return started + clock
end

function task.monotonic()
  return clock
end

function task.sleep(seconds)
  if type(seconds) ~= "number" or seconds < 0 then
    error("sleep: takes seconds from 0 on", 2)
  end
  local strand = running or error("this can only wait in the coroutine of a message", 2)
  at(seconds, function()
    wake(strand)
  end)
  return wait()
end

function task.deadline(seconds)
  local owner = running.owner
  at(seconds, function()
    owner.stop("timeout", "the message's time is over")
  end)
end

function task.context()
  return running and running.owner.context or error("this can only be called for a message", 2)
end

function task.parallel(list, f)
  local parent, outcomes, missing = running, {}, #list
  for index, item in ipairs(list) do
    spawn(parent.owner, f, item).ended = function(ok, outcome)
      outcomes[index] = ok and outcome or not ok and { error = tostring(outcome) } or nil
      missing = missing - 1
      if missing == 0 then
        wake(parent, outcomes)
      end
    end
  end
  if missing == 0 then
    return outcomes
  end
  return wait()
end

function task.spawn(f, ...)
  spawn(running.owner, f, ...).ended = function(ok, problem)
    if not ok then
      error(problem, 0)
    end
  end
end

function task.progress() end

function task.retrying() end

function task.attempted() end

function task.log() end

function task.admit()
  return 0
end

function task.pause() end

function task.turn(key)
  turns[key] = (turns[key] or -1) + 1
  return turns[key]
end

function task.score(name)
  return scores[name] or 1
end

local function copy_of(request)
  local copy = {}
  for name, value in pairs(request) do
    copy[name] = value
  end
  return copy
end

-- What a test says of a delivery: nothing (it is delivered), a code, or a result.
local function judged(answer)
  if answer == nil or answer == true then
    return { ok = true }
  elseif type(answer) == "string" then
    return { ok = false, code = answer, error = "simulated" }
  elseif type(answer) == "table" then
    return answer
  end
  return { ok = false, code = "unavailable", error = "simulated" }
end

function task.transfer(transport, request, delivery, account, body)
  local strand = running or error("this can only wait in the coroutine of a message", 2)
  local context = strand.owner.context
  local one = {
    at = clock, transport = transport, request = copy_of(request), id = context.message.id, route = context.route,
  }
  one.request.body = body or request.body
  if delivery then
    one.target, one.title, one.body, one.format = delivery.target, delivery.title, delivery.body, delivery.format
    one.attempt, one.account, one.platform = delivery.attempt, account, account.adapter.name
  else
    one.url = request.url
  end
  sent[#sent + 1] = one
  local answer = reply(one)
  at(0, function()
    if delivery then
      wake(strand, { judged = judged(answer) })
    else
      wake(strand, type(answer) == "table" and answer or { status = 200, headers = {}, body = "" })
    end
  end)
  return wait()
end

-- Carries a delivery out, as the runtime does without a coroutine.
function task.carry(job)
  local what, request, body = main.step(job)
  while what do
    local answer
    if type(what) == "string" then
      answer = task.transfer(what, request, job.delivery, job[1].account, body)
    else
      task.sleep(what)
    end
    what, request, body = main.step(job, answer)
  end
end

-------------------------------------------------------------------- store

-- The store's own clock does not jump.
for _, name in ipairs { "set", "add", "incr", "push", "cas" } do
  local raw = store[name]
  store[name] = function(...)
    local given = table.pack(...)
    local last = given[given.n]
    local ttl = type(last) == "table" and rawget(last, "ttl")
    if given.n < 2 or not ttl or name == "set" and given.n < 3 then
      return raw(...)
    end
    given[given.n] = nil
    local first, second, third = raw(table.unpack(given, 1, given.n - 1))
    if first ~= nil and first ~= false then
      expiries[given[1]] = clock + ttl
    end
    return first, second, third
  end
end

function M.forget()
  turns, scores, expiries = {}, {}, {}
  for _, key in ipairs(store.keys("", 1000000)) do
    store.delete(key)
  end
end

---------------------------------------------------------------------- run

-- Runs messages to their ends. options: now (seconds since the epoch), reply(sent) → nil | code | result, scores
-- ({ account = 0…1 }). → the list of what was sent, the list of receipts.
function M.run(scripts, messages, options)
  main = scripts
  clock, started = 0, options.now or os.time()
  ready, timers, sent = {}, {}, {}
  reply = options.reply or function() end
  scores = options.scores or {}
  local receipts = {}
  for index, message in ipairs(messages) do
    local owner = { context = { message = message } }
    message.created_at = message.created_at or started + (message.at or 0)
    local after = message.at or math.max(0, (message.deliver_at or started) - started)
    message.at = nil
    at(after, function()
      local function settle(told, callbacks)
        receipts[index] = told
        if callbacks then
          spawn({ context = owner.context }, main.after, owner.context, told)
        end
      end
      function owner.stop(code, text)
        if not receipts[index] then
          owner.stopped = true
          local _, told, callbacks = main.stop(owner.context, code, text)
          settle(told, callbacks)
        end
      end
      if message.timeout then
        at(message.timeout, function() owner.stop("timeout", "the message's time is over") end)
      end
      if message.expires_at then
        at(math.max(0, message.expires_at - task.now()), function() owner.stop("expired", "the message has expired") end)
      end
      spawn(owner, main.run, owner.context).ended = function(ok, status, told, callbacks)
        if not ok then
          error(status, 0)
        end
        settle(told, callbacks)
      end
    end)
  end
  drain()
  return sent, receipts
end

return M
