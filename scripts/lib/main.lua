-- main: what the runtime calls. A message's way in Lua: run → routes → what is said → telling all at once → receipt →
-- callbacks.
--
--   prepare(config, secrets)    checks a configuration, returns it with defaults (once a hub, in a scratch state)
--   platforms(config)           describes the adapters
--   setup(config)               takes what prepare made and loads the rules (once a state)
--   begin(context)              → a list of jobs, when a message is no more than these; else nil
--   step(job, answer)           carries a job on, see lib/delivery
--   delivered(job, status)      the same for a success that brings no more than its status; when `done` has nothing to add: true,
--                               and whether `after` is to be called
--   done(context)               after the last job; returns a status, a receipt and whether `after` is to be called; for the
--                               receipt, when it says no more than the context does, the number of the rules' generation or 0
--   run(context)                in the message's coroutine, when begin returned nil; returns the same
--   stop(context, code, text)   ends a message that is cancelled, late or broken; returns the same
--   after(context, receipt)     runs the callbacks of a message that has settled
--   self_test, check, test, explain: lib/tools, in a scratch state

local callback = require "callback"
local choice = require "choice"
local config = require "config"
local content = require "content"
local delivery = require "delivery"
local letters = require "letter"
local platform = require "platform"
local receipt = require "receipt"
local result = require "result"
local route = require "route"
local rules = require "rules"
local schema = require "schema"
local script = require "script"
local sending = require "sending"
local target = require "target"
local task = require "task"
local telling = require "telling"

local M = {}

local NONE = {} -- read only

local prepared
local loaded -- the rules; nil when there are none
local asks_scripts -- whether finding out who is told may run code of theirs

M.prepare = config.prepare

function M.platforms()
  local list = {}
  for _, name in ipairs(schema.names(platform.known())) do
    list[#list + 1] = platform.describe(name)
  end
  return list
end

M.stop = receipt.make
M.after = callback.after

-------------------------------------------------------------------- setup

-- Asks the rules' resolvers one after the other.
local function resolver(text)
  for _, each in ipairs(loaded.resolvers) do
    local ok, answer, kind = script.guard(each, text)
    if not ok then
      error(rules.problem(answer, kind), 0)
    elseif answer ~= nil then
      local copied, copy = pcall(choice.copy, answer)
      local fault = not copied and ("cannot be a target: " .. tostring(copy)) or choice.fault(copy)
      if fault then
        error({ code = "script", message = ("resolve: what '%s' stands for %s"):format(text, fault) }, 0)
      end
      return copy
    end
  end
end

-- `on_problem` is for lib/tools, which wants all of them.
function M.setup(given, on_problem)
  prepared, loaded = given, nil
  platform.hide(given.secrets)
  target.setup(given)
  letters.setup()
  delivery.setup(given)
  if not script.folder() then
    return
  end
  choice.on_call(sending.send)
  sending.setup(given)
  loaded = rules.load(sending.send, platform.known(), on_problem)
  asks_scripts = #loaded.resolvers > 0 or loaded.matcher and loaded.matcher.raises
  target.setup(given, #loaded.resolvers > 0 and resolver or nil)
  letters.setup(loaded)
  delivery.setup(given, loaded)
  callback.setup(loaded)
  receipt.setup(script.generation())
  return loaded
end

function M.loaded()
  return loaded
end

------------------------------------------------------------------ running

-- Adds what a route decided to a context: who is told by it, in which words. `several` routes decide together.
local function follow(context, plan, seen, several)
  if plan.handle then
    local before = #context.entries
    local ok, answer, reason = script.guard(plan.handle, callback.message(context))
    if context.broken or not ok then
      return context.broken or rules.problem(answer, reason)
    elseif answer == false then
      return { code = "rejected", message = ("the route '%s' refused it%s"):format(plan.name or "?",
        type(reason) == "string" and ": " .. reason or "") }
    elseif answer == nil and #context.entries == before then
      return { code = "no_route", message = ("the handler of route '%s' sent nothing (it may `return true` to say that it has "
        .. "taken the message)"):format(plan.name or "?") }
    end
    context.handled = true
    return nil
  end
  local whom = plan.to or context.message.targets
  if not whom or not plan.to and #whom == 0 then
    return { code = "no_route", message = "the message names no target, and its route sends it nowhere" }
  end
  local letter, problem, code = letters.make(context, context.message, plan)
  if not letter then
    return { code = code, message = problem }
  end
  letter.route = several and plan.path or nil
  local ok = telling.tell(letter, whom, seen)
  if not ok and #context.entries == 0 then
    return { code = "no_route", message = "the message's targets stand for nobody" }
  end
end

local function route_names(plans)
  if #plans == 1 then
    return plans[1].path
  end
  local names = {}
  for index, plan in ipairs(plans) do
    names[index] = plan.path
  end
  return table.concat(names, ", ")
end

-- Ends the message when its routes' time is over; what several allow together is the longest. The message's own timeout
-- stands over it.
local function limit_time(context, plans)
  local longest = context.message.timeout and math.huge or 0
  for _, plan in ipairs(plans) do
    longest = math.max(longest, plan.timeout or math.huge)
  end
  if longest < math.huge then
    task.deadline(math.max(0, context.message.created_at + longest - task.now()))
  end
end

local OWN = { {} } -- what no route decides: the message's own targets

local function plans_for(context)
  local matcher = loaded and loaded.matcher
  if not matcher then
    return OWN
  end
  local plans
  if matcher.raises then
    local ok, found, problem, code = script.guard(route.match, matcher, callback.message(context))
    if not ok then
      return nil, rules.problem(found, problem)
    elseif not found then
      return nil, { code = code, message = problem }
    end
    plans = found
  else
    plans = route.match(matcher, context.message)
  end
  if #plans == 0 then
    return OWN
  end
  context.route = route_names(plans)
  return plans
end

-- Makes a message ready, once; what is wrong with it, or nil.
local function take(context)
  local message = context.message
  if not context.id then
    context.id = message.id
    if loaded then
      message.metadata = message.metadata or {} -- so that rules may ask for a field of it
      message.priority = message.priority or "normal"
      context.files = message.attachments and content.files(message) or NONE -- rules can name no other ones
    end
    callback.check(context)
  end
  if not message.platform then
    return nil
  end
  for name in pairs(message.platform) do
    if not platform.known()[name] then
      return ("platform.%s: there is no platform of this name%s"):format(name,
        schema.suggest(name, schema.names(platform.known())))
    end
  end
end

-- The jobs of a message without rules, and its letter; nil when there is more to it.
local function own_jobs(context, message)
  local jobs, shown
  if message.targets and not message.template then
    jobs, shown = telling.jobs(context, message.targets)
  end
  return jobs, jobs and letters.own(context, shown)
end

-- The same of one that rules decide about; nil when a route does more than that, and then context.plans are its routes.
local function planned_jobs(context, message)
  if asks_scripts then
    return nil
  end
  local plans = plans_for(context)
  local plan = plans and not plans[2] and plans[1]
  local whom = plan and not plan.handle and not plan.timeout and (plan.to or message.targets)
  local jobs = whom and telling.jobs(context, whom)
  local letter = jobs and letters.planned(context, plan)
  if not letter then
    context.plans = plans
  end
  return jobs, letter
end

-- What needs no coroutine but its deliveries': the rules, if any, do nothing on the way that may wait or raise.
function M.begin(context)
  local message = context.message
  context.entries, context.done, context.total = NONE, 0, 0
  if take(context) then
    return nil
  end
  local jobs, letter
  if loaded then
    jobs, letter = planned_jobs(context, message)
  else
    jobs, letter = own_jobs(context, message)
  end
  if letter then
    jobs[1].letter = letter
    for index = 2, #jobs do
      jobs[index].letter = letter
    end
    return jobs
  end
end

M.step, M.delivered = delivery.step, delivery.delivered

function M.done(context)
  local failed = context.failed
  if failed ~= nil then
    local problem = type(failed) == "table" and failed or { code = "script", message = tostring(failed) }
    for _, entry in ipairs(context.entries) do
      if not entry.delivered then
        entry.result = entry.result or result.fail(problem.code, problem.message)
      end
    end
  end
  return receipt.make(context)
end

function M.run(context)
  local message = context.message
  context.entries, context.done, context.total = {}, 0, 0
  local unknown = take(context)
  if unknown then
    return receipt.make(context, "invalid", unknown)
  end
  local plans, problem = context.plans, nil
  if plans then
    context.plans = nil
  else
    plans, problem = plans_for(context)
  end
  if plans == OWN and not (message.targets and #message.targets > 0) then
    return receipt.make(context, "no_route", loaded and "no route matches, and the message names no target"
      or "the message names no target")
  end
  if plans and plans ~= OWN then
    limit_time(context, plans)
  end
  local seen = {}
  if plans and #plans == 1 then
    problem = follow(context, plans[1], seen, false)
  elseif plans then
    for _, outcome in ipairs(task.parallel(plans, function(plan)
      return follow(context, plan, seen, true) or true
    end)) do
      if type(outcome) == "table" then
        problem = problem or outcome.code and outcome or { code = "script", message = tostring(outcome.error) }
      end
    end
  end
  if problem then
    return receipt.make(context, problem.code, problem.message)
  end
  return receipt.make(context, nil, nil, context.handled)
end

local tools

for _, name in ipairs { "self_test", "check", "test", "explain" } do
  M[name] = function(...)
    tools = tools or require "tools"
    return tools[name](M, prepared, ...)
  end
end

return M
