-- main: what the runtime calls. A message's way in Lua: run → routes → what is said → telling all at once → receipt →
-- callbacks.
--
--   prepare(config, secrets)    checks a configuration, returns it with defaults (once a hub, in a scratch state)
--   platforms(config)           describes the adapters
--   setup(config)               takes what prepare made and loads the rules (once a state)
--   begin(context)              → a letter and a list of jobs, when a message is no more than these; else nil
--   deliver(letter, job)        in the job's coroutine
--   done(context)               after the last job; returns a status, a receipt and whether `after` is to be called
--   run(context)                in the message's coroutine, when begin returned nil; returns the same
--   stop(context, code, text)   ends a message that is cancelled, late or broken; returns the same
--   after(context, receipt)     runs the callbacks of a message that has settled
--   self_test, check, test, explain: lib/tools, in a scratch state

local choice = require "choice"
local config = require "config"
local content = require "content"
local delivery = require "delivery"
local json = require "json"
local platform = require "platform"
local result = require "result"
local route = require "route"
local rules = require "rules"
local schema = require "schema"
local script = require "script"
local target = require "target"
local task = require "task"
local telling = require "telling"
local template = require "template"

local M = {}

local prepared
local loaded -- the rules; nil when there are none
local generation

M.prepare = config.prepare

function M.platforms()
  local list = {}
  for _, name in ipairs(schema.names(platform.known())) do
    list[#list + 1] = platform.describe(name)
  end
  return list
end

----------------------------------------------------------------- receipts

local WARNINGS_MOST = 20 -- of one receipt
local STOPPED = { cancelled = "cancelled", expired = "expired" } -- by code; all else is failed

local function result_of(entry, code, text)
  local each = entry.result or { ok = false, code = code or "internal", error = text or "the delivery did not end" }
  each.target = each.target or entry.shown
  each.platform = each.platform or entry.account and entry.account.adapter.name
  each.attempts = each.attempts or entry.attempts or 0
  each.latency = each.latency or entry.started and task.monotonic() - entry.started or 0
  each.route = entry.route
  return each
end

-- How a message names its callback of each event.
local ON = { complete = "on_complete", error = "on_error", retry = "on_retry", progress = "on_progress" }

local function has_callbacks(event, message)
  local name = message[ON[event]]
  return #loaded.callbacks[event] > 0 or name and loaded.named[event][name]
end

-- Sums the results up. `code` and `text` tell why a message ended that has no failed result of its own; `handled` says that
-- a script took it without telling anybody.
local function receipt(context, code, text, handled)
  local message, results = context.message, {}
  local delivered, first_failure = 0, nil
  for index, entry in ipairs(context.entries) do
    local each = result_of(entry, code, text)
    results[index] = each
    if each.ok then
      delivered = delivered + 1
    elseif not each.superseded then
      first_failure = first_failure or each
    end
  end
  local status
  if not code and not first_failure and (delivered > 0 or handled) then
    status, text = "delivered", nil
  else
    if not code and not first_failure then
      code, text = "no_route", text or "nobody was told"
    end
    status = delivered > 0 and "partial" or STOPPED[code] or "failed"
    code, text = code or first_failure.code, text or first_failure.error
  end
  local told = {
    id = context.id, status = status, code = code, error = text,
    results = #results > 0 and results or json.array(results),
    created_at = context.created_at, settled_at = task.now(),
    route = context.route, generation = loaded and generation or nil, warnings = context.warnings,
  }
  local after = loaded and (has_callbacks("complete", message) or status ~= "delivered" and has_callbacks("error", message))
  return status, told, after and true or false
end

function M.stop(context, code, text)
  return receipt(context, code, text)
end

---------------------------------------------------------------- callbacks

-- Runs the callbacks of an event one after the other; what goes wrong in one is logged and harms nothing else.
local function call_back(event, context, what)
  local message = context.message
  local function call(callback)
    local ok, raised, kind = script.guard(callback, what, message)
    if not ok then
      local problem = rules.problem(raised, kind)
      script.log("error", "callback failed", ("on %s of %s: %s"):format(event, context.id, problem.message))
    end
  end
  for _, callback in ipairs(loaded.callbacks[event]) do
    call(callback)
  end
  local named = loaded.named[event][message[ON[event]]]
  if named then
    call(named)
  end
end

function M.after(context, told)
  if told.status ~= "delivered" then
    call_back("error", context, told)
  end
  call_back("complete", context, told)
end

-- Beside the message, which does not wait for them.
local function on_retry(context, failure)
  if has_callbacks("retry", context.message) then
    task.spawn(call_back, "retry", context, failure)
  end
end

local function on_progress(context)
  if has_callbacks("progress", context.message) then
    task.spawn(call_back, "progress", context, { done = context.done, total = context.total })
  end
end

------------------------------------------------------------------ letters

-- The message as adapters may see it: its targets without what is secret in them.
local function shown(message, in_place)
  local targets = {}
  for index, each in ipairs(message.targets or {}) do
    targets[index] = target.shown(each)
  end
  local copy = message
  if not in_place then
    copy = {}
    for name, value in pairs(message) do
      copy[name] = value
    end
  end
  copy.targets = targets
  copy.priority = message.priority or "normal"
  return copy
end

local function warn(context, event, text)
  context.warnings = context.warnings or {}
  if #context.warnings < WARNINGS_MOST then
    context.warnings[#context.warnings + 1] = text
    script.log("warn", event, ("%s: %s"):format(context.id, text))
  end
end

-- Callbacks that a message names and nobody has.
local function check_callbacks(context)
  for event, field in pairs(ON) do
    local name = context.message[field]
    if name and not (loaded and loaded.named[event][name]) then
      warn(context, "no such callback", ("%s: the rules have no callback '%s' for this event%s"):format(field, name,
        schema.suggest(name, schema.names(loaded and loaded.named[event] or {}))))
    end
  end
end

-- The words of a template for a platform; made once a letter and platform.
local function renderer(context, name, named)
  local made = {}
  return function(message, adapter)
    local rendered = made[adapter.name]
    if not rendered then
      local ok, words, warnings, code = script.guard(template.render, named, message, adapter.name)
      if not ok then
        local problem = rules.problem(words, warnings)
        return nil, ("template '%s': %s"):format(name, problem.message), problem.code
      elseif not words then
        return nil, warnings, code or "script"
      end
      for _, text in ipairs(warnings or {}) do
        warn(context, "template", text)
      end
      rendered = words
      rendered.title = rendered.title or message.title or ""
      if not rendered.body then -- the template has a title only
        rendered.body, rendered.format = message.body or "", message.format or "text"
      end
      made[adapter.name] = rendered
    end
    return rendered
  end
end

-- What is said, and how; or nil, message, code.
local function letter_for(context, message, options)
  local letter = {
    context = context, message = message, retry = options.retry, configured = prepared,
  }
  local name = options.template or message.template
  if name then
    local named = loaded and loaded.templates[name]
    if not named then
      return nil, ("template: there is no template '%s'%s"):format(name,
        schema.suggest(name, schema.names(loaded and loaded.templates or {}))), "invalid"
    end
    letter.template = renderer(context, name, named)
  end
  letter.shown = shown(message, not loaded)
  if loaded then
    letter.on_retry, letter.on_progress = on_retry, on_progress
  end
  return letter
end

--------------------------------------------------- what rules call: send

local SEND = { template = { type = "string" }, retry = { type = "table" } }

-- One result for a send: a single delivery's own, with `results` of all of them.
local function sum(ok, entries)
  local results, only = {}, entries[1]
  for index, entry in ipairs(entries) do
    results[index] = result_of(entry)
  end
  local first
  for _, each in ipairs(results) do
    if not each.ok and not each.superseded then
      first = first or each
    end
  end
  local one = {}
  if only and not entries[2] then
    for name, value in pairs(results[1]) do
      one[name] = value
    end
  end
  one.ok, one.results = ok, results
  one.code, one.error = not ok and (first and first.code or "no_route") or nil, not ok and (first and first.error or
    "the target stands for nobody") or nil
  return one
end

local function limit(context, text)
  context.broken = { code = "script_limit", message = text }
  error({ code = "script_limit", message = script.where(2) .. text }, 0)
end

-- schema.check, its error told with the place in the rules: `level` as script.where counts it, from the caller on.
local function check_given(given, fields, path, level)
  local ok, checked = pcall(schema.check, given, fields, path, "invalid")
  if not ok then
    error({ code = "invalid", message = script.where(level + 1) .. checked.message }, 0)
  end
  return checked
end

-- A handler may have written to the message that it was called with.
local function check_fields(message)
  for name, field in pairs(config.MESSAGE) do
    if message[name] ~= nil and type(message[name]) ~= field.type then
      error({ code = "invalid", message = ("%smessage.%s: must be a %s, not a %s"):format(script.where(2), name, field.type,
        type(message[name])) }, 0)
    end
  end
  if message.retry then
    check_given(message.retry, config.GIVEN_RETRY, "message.retry", 2)
  end
end

-- What a copy of the message has of it that is only about the message itself.
local OF_THE_MESSAGE = {
  "id", "created_at", "deliver_at", "expires_at", "timeout", "dedupe_key", "on_complete", "on_error", "on_retry", "on_progress",
}

-- A message that a script made, or copied from the one it was called for.
local function adopt(context, made)
  local original, given = context.message, {}
  for name, value in pairs(made) do
    given[name] = value
  end
  for _, name in ipairs(OF_THE_MESSAGE) do
    if rawequal(given[name], original[name]) then
      given[name] = nil
    end
  end
  local checked = check_given(given, config.MESSAGE, "message", 2)
  if checked.retry then
    check_given(checked.retry, config.GIVEN_RETRY, "message.retry", 2)
  end
  if not (checked.title or checked.body or checked.template) then
    error({ code = "invalid", message = script.where(2) .. "message: needs a title, a body or a template" }, 0)
  end
  context.adopted = (context.adopted or 0) + 1
  checked.id = ("%s-%d"):format(context.id, context.adopted)
  checked.created_at = task.now()
  checked.priority = checked.priority or context.message.priority
  return checked
end

-- send(message, target, options): delivers now, in this coroutine, and returns what came of it.
local function send(message, whom, options)
  local context = rules.context "send"
  if type(message) ~= "table" then
    error({ code = "invalid", message = ("%ssend: the message must be a table, not a %s"):format(script.where(1),
      type(message)) }, 0)
  end
  context.sends = (context.sends or 0) + 1
  if context.sends > prepared.limits.sends then
    limit(context, ("send: more than %d sends for one message (limits.sends)"):format(prepared.limits.sends))
  end
  local own = message
  if message == context.message then
    check_fields(message)
  else
    own = adopt(context, message)
  end
  whom = whom or own.targets
  if whom == nil then
    error({ code = "invalid", message = script.where(1) .. "send: names no target, and neither does the message" }, 0)
  end
  local fault = choice.fault(whom)
  if fault then
    error({ code = "invalid", message = ("%ssend: the target %s"):format(script.where(1), fault) }, 0)
  end
  options = options and check_given(options, SEND, "send", 1) or {}
  if options.retry then
    check_given(options.retry, config.GIVEN_RETRY, "send.retry", 1)
  end
  local letter, problem, code = letter_for(context, own, options)
  if not letter then
    return { ok = false, code = code, error = problem, results = {} }
  end
  return sum(telling.tell(letter, whom))
end

-------------------------------------------------------------------- setup

-- Asks the rules' resolvers one after the other.
local function resolver(text)
  for _, each in ipairs(loaded.resolvers) do
    local ok, answer, kind = script.guard(each, text)
    if not ok then
      error(rules.problem(answer, kind), 0)
    elseif answer ~= nil then
      local fault = choice.fault(answer)
      if fault then
        error({ code = "script", message = ("resolve: what '%s' stands for %s"):format(text, fault) }, 0)
      end
      return answer
    end
  end
end

-- `on_problem` is for lib/tools, which wants all of them.
function M.setup(given, on_problem)
  prepared, loaded = given, nil
  platform.hide(given.secrets)
  target.setup(given)
  if not script.folder() then
    return
  end
  choice.on_call(send)
  generation = script.generation()
  loaded = rules.load(send, platform.known(), on_problem)
  target.setup(given, #loaded.resolvers > 0 and resolver or nil)
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
    local ok, answer, reason = script.guard(plan.handle, context.message)
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
  local letter, problem, code = letter_for(context, context.message, plan)
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

local NONE = {} -- read only
local OWN = { {} } -- what no route decides: the message's own targets

local function plans_for(context)
  local matcher = loaded and loaded.matcher
  if not matcher then
    return OWN
  end
  local plans
  if matcher.raises then
    local ok, found, problem, code = script.guard(route.match, matcher, context.message)
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
    context.id, context.created_at = message.id, message.created_at -- a handler may write to the message
    if loaded then
      message.metadata = message.metadata or {} -- so that rules may ask for a field of it
      context.files = content.files(message) -- rules can name no other ones
    end
    check_callbacks(context)
  end
  for name in pairs(message.platform or NONE) do
    if not platform.known()[name] then
      return ("platform.%s: there is no platform of this name%s"):format(name,
        schema.suggest(name, schema.names(platform.known())))
    end
  end
end

-- What needs no coroutine but its deliveries': the rules, if any, do nothing on the way that may wait or raise.
function M.begin(context)
  local message = context.message
  context.entries, context.done, context.total = NONE, 0, 0
  if take(context) or loaded and (#loaded.resolvers > 0 or loaded.matcher and loaded.matcher.raises) then
    return nil
  end
  local plans = plans_for(context)
  local plan = plans and not plans[2] and plans[1]
  local whom = plan and not plan.handle and not plan.timeout and (plan.to or message.targets)
  local jobs = whom and telling.jobs(context, whom)
  if jobs then
    local letter = letter_for(context, message, plan)
    if letter then
      return letter, jobs
    end
  end
  context.plans = plans
end

M.deliver = delivery.deliver

function M.done(context)
  local failed = context.failed
  if failed ~= nil then
    local problem = type(failed) == "table" and failed or { code = "script", message = tostring(failed) }
    for _, entry in ipairs(context.entries) do
      entry.result = entry.result or result.fail(problem.code, problem.message)
    end
  end
  return receipt(context)
end

function M.run(context)
  local message = context.message
  context.entries, context.done, context.total = {}, 0, 0
  local unknown = take(context)
  if unknown then
    return receipt(context, "invalid", unknown)
  end
  local plans, problem = context.plans, nil
  if plans then
    context.plans = nil
  else
    plans, problem = plans_for(context)
  end
  if plans == OWN and not (message.targets and #message.targets > 0) then
    return receipt(context, "no_route", loaded and "no route matches, and the message names no target"
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
    return receipt(context, problem.code, problem.message)
  end
  return receipt(context, nil, nil, context.handled)
end

local tools

for _, name in ipairs { "self_test", "check", "test", "explain" } do
  M[name] = function(...)
    tools = tools or require "tools"
    return tools[name](M, prepared, ...)
  end
end

return M
