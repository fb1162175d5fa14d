-- tools: answers about rules, in a scratch state where lib/simulation stands for the network and the clock: do they load,
-- do their own tests pass, what would become of a message.

local choice = require "choice"
local config = require "config"
local delivery = require "delivery"
local json = require "json"
local route = require "route"
local rules = require "rules"
local schema = require "schema"
local script = require "script"
local target = require "target"
local url = require "url"

local M = {}

local simulation -- loaded when it is there: only scratch states have it

local function simulate(main, messages, options)
  simulation = simulation or require "simulation"
  return simulation.run(main, messages, options)
end

------------------------------------------------------------ simulate{ … }

local OPTIONS = {
  now = true, replies = true, scores = true,
}

-- "2026-01-31T22:30" (UTC) or seconds.
local function moment(value)
  if type(value) == "number" or value == nil then
    return value
  end
  local year, month, day, hour, minute, second = tostring(value):match("^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):?(%d*)Z?$")
  if not year then
    error("simulate: now must be seconds since the epoch or a time like 2026-01-31T22:30", 3)
  end
  local fields = { year = year, month = month, day = day, hour = hour, min = minute, sec = tonumber(second) or 0 }
  local here = os.time(fields)
  return here + os.difftime(here, os.time(os.date("!*t", here)))
end

local function replier(replies)
  if replies == nil or type(replies) == "function" then
    return replies
  elseif type(replies) ~= "table" then
    error("simulate: replies must be a table by target or platform, or a function", 3)
  end
  return function(one)
    local answer = replies[one.target]
    if answer == nil then
      answer = replies[one.platform]
    end
    if answer == nil and one.url then
      answer = replies[one.url]
    end
    return answer
  end
end

local count = 0

local MESSAGE = {
  id = { type = "string" }, at = { type = "number", min = 0 }, created_at = { type = "number" }, deliver_at = { type = "number" },
  expires_at = { type = "number" }, timeout = { type = "number", min = 0 }, dedupe_key = { type = "string" },
  on_complete = { type = "string" }, on_error = { type = "string" }, on_retry = { type = "string" },
  on_progress = { type = "string" },
}
for name, field in pairs(config.MESSAGE) do
  MESSAGE[name] = field
end

-- What a test sees of a message: a copy, complete.
local function complete(message)
  if type(message) ~= "table" then
    error("simulate: a message must be a table, not a " .. type(message), 3)
  end
  local ok, copy = pcall(schema.check, message, MESSAGE, "message", "invalid")
  if not ok then
    error("simulate: " .. copy.message, 3)
  elseif not (copy.title or copy.body or copy.template) then
    error("simulate: a message needs a title, a body or a template", 3)
  end
  count = count + 1
  copy.id = copy.id or ("simulated-%d"):format(count)
  copy.metadata = copy.metadata or {}
  return copy
end

-- simulate(message or list of messages, options) → what would have been sent: a list of { target, platform, title, body,
-- format, attempt, at, request, route, id }, with `receipts` and `receipt`.
local function simulator(main)
  return function(given, options)
    options = options or {}
    for name in pairs(options) do
      if not OPTIONS[name] then
        error(("simulate: there is no option '%s'%s"):format(tostring(name), schema.suggest(name, schema.names(OPTIONS))), 2)
      end
    end
    local messages = {}
    for index, each in ipairs(given[1] and given or { given }) do
      messages[index] = complete(each)
    end
    local sent, receipts = simulate(main, messages, {
      now = moment(options.now), reply = replier(options.replies), scores = options.scores,
    })
    sent.receipts, sent.receipt = receipts, receipts[1]
    return sent
  end
end

-------------------------------------------------------------------- tests

local function environment_of_tests(main, environment)
  local own = setmetatable({ simulate = simulator(main) }, { __index = environment })
  return own
end

local TESTS_MOST = 10000 -- of one file

-- Runs the folder's tests; → a list of { name, ok, error }.
local function run_tests(main, loaded)
  simulation = simulation or require "simulation"
  local outcomes = {}
  local function run(file, title, body)
    simulation.forget()
    local ok, raised, kind = script.guard(body)
    outcomes[#outcomes + 1] = {
      file = file, name = title, ok = ok, error = not ok and rules.problem(raised, kind).message or nil,
    }
    return ok
  end
  for _, name in ipairs(loaded.tests) do
    local environment = environment_of_tests(main, loaded.environment)
    local asked = {}
    -- test("what it shows", function() … end): each runs when the file has, by itself and with limits of its own.
    environment.test = function(title, body)
      if type(body) ~= "function" or #asked == TESTS_MOST then
        error(type(body) ~= "function" and "test: takes a title and a function" or "test: more than " .. TESTS_MOST, 2)
      end
      asked[#asked + 1] = { title = tostring(title), body = body }
    end
    if run(name, name, script.load(name, environment)) and #asked > 0 then
      outcomes[#outcomes] = nil -- the file's own is told by its tests
    end
    for _, each in ipairs(asked) do
      run(name, each.title, each.body)
    end
  end
  return outcomes
end

-- Raises the first failure: rules whose own tests fail are not taken.
function M.self_test(main, _, loaded)
  loaded = loaded or main.loaded()
  if not loaded then
    return
  end
  for _, outcome in ipairs(run_tests(main, loaded)) do
    if not outcome.ok then
      error({ code = "config", message = ("%s: %s"):format(outcome.name, outcome.error) }, 0)
    end
  end
end

local function require_rules(loaded)
  if not loaded then
    error({ code = "config", message = "there are no rules: give a folder with --rules, or `rules` in the configuration" }, 0)
  end
  return loaded
end

function M.test(main)
  local outcomes = run_tests(main, require_rules(main.loaded()))
  local failed = 0
  for _, outcome in ipairs(outcomes) do
    failed = failed + (outcome.ok and 0 or 1)
  end
  return { tests = json.array(outcomes), failed = failed, passed = #outcomes - failed }
end

-------------------------------------------------------------------- check

-- The errors of a target, and of those that its choices choose among.
local function faults_of(whom, into)
  local ok, entries, choices = pcall(target.resolve, whom, {})
  if not ok then
    return into -- told by the route itself
  end
  for _, entry in ipairs(entries) do
    into[#into + 1] = entry.result and entry.result.error
  end
  for _, each in ipairs(choices or {}) do
    for _, item in ipairs(choice.of(each).items) do
      faults_of(item, into)
    end
  end
  return into
end

-- Names in `to` that nobody would be told by.
local function unknown_targets(loaded, add)
  local function look(list, path, source)
    for index, each in ipairs(list) do
      local name = path .. (each.name or tostring(index))
      local from = each.source or source
      for _, fault in ipairs(each.to and not choice.fault(each.to) and faults_of(each.to, {}) or {}) do
        add(("%s: route '%s': to: %s"):format(from, name, fault))
      end
      look(type(each.routes) == "table" and each.routes or {}, name .. "/", from)
    end
  end
  if #loaded.resolvers == 0 then -- they may know any name, and may wait for somebody else
    look(loaded.routes, "", "rules")
  end
end

-- Everything that is wrong, not only the first. `given` is the configuration: this state was not set up yet.
function M.check(main, _, given)
  local problems = script.problems()
  local function add(text)
    problems[#problems + 1] = text
  end
  local loaded = main.setup(given, add)
  local answer = { problems = json.array(problems), routes = 0, templates = 0, files = 0, tests = 0 }
  if not loaded then
    return answer
  end
  unknown_targets(loaded, add)
  local names, tests = script.names()
  answer.files, answer.tests, answer.routes = #names, #tests, #loaded.routes
  for _ in pairs(loaded.templates) do
    answer.templates = answer.templates + 1
  end
  return answer
end

------------------------------------------------------------------ explain

-- The request as it would go out, but for the account's secrets. Where it goes is told by its host.
local function redact(value, account)
  if type(value) == "string" then
    return delivery.hide(value, account)
  elseif type(value) ~= "table" then
    return value
  end
  local copy = {}
  for key, inner in pairs(value) do
    copy[key] = key == "url" and type(inner) == "string" and url.shown(inner) or redact(inner, account)
  end
  return copy
end

-- A route's `to` without what is secret in it; a choice is told as { choice, targets }.
local function shown(to)
  if choice.is(to) then
    return { choice = choice.of(to).kind, targets = shown(choice.of(to).items) }
  elseif type(to) == "string" or type(to) == "table" and (to.platform or to.value) then
    return target.shown(to)
  end
  local list = {}
  for index, each in ipairs(to) do
    list[index] = shown(each)
  end
  return list
end

-- The results that were decided without a request.
local function failures(told)
  local list = {}
  for _, each in ipairs(told.results) do
    if not each.ok then
      list[#list + 1] = { target = each.target, platform = each.platform, code = each.code, error = each.error }
    end
  end
  return list
end

local function explain(main, message)
  local loaded = main.loaded()
  message = complete(message)
  simulation = simulation or require "simulation"
  simulation.forget()
  local routes = {}
  if loaded and loaded.matcher then
    local ok, told, kind = script.guard(route.explain, loaded.matcher, message)
    routes = ok and told or { { route = "*", matched = false, why = rules.problem(told, kind).message } }
  end
  for _, entry in ipairs(routes) do
    entry.to = entry.to and shown(entry.to)
  end
  local sent, receipts = simulate(main, { message }, {})
  local requests = {}
  for index, one in ipairs(sent) do
    requests[index] = {
      at = one.at, target = one.target, platform = one.platform, transport = one.transport, title = one.title,
      body = one.body, format = one.format,
      request = one.account and redact(one.request, one.account) or { url = url.shown(one.url or "") },
    }
  end
  local told = receipts[1]
  return {
    id = message.id, route = told.route, status = told.status, code = told.code, error = told.error,
    routes = json.array(routes), requests = json.array(requests), warnings = json.array(told.warnings or {}),
    failures = json.array(failures(told)),
  }
end

-- What would become of a message, or of each of a list: which routes match and why the others do not, who would be told, and
-- the requests.
function M.explain(main, _, message)
  if not message[1] then
    return explain(main, message)
  end
  local answers = {}
  for index, each in ipairs(message) do
    answers[index] = explain(main, each)
  end
  return json.array(answers)
end

return M
