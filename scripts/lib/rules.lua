-- rules: loads a folder of scripts into an environment of its own, and keeps what they declare: routes, templates,
-- callbacks, resolvers. What the scripts may call is here, too.
--
-- Everything of a rules file that runs, runs inside script.guard: it has a time limit, and what it raises ends here.

local choice = require "choice"
local config = require "config"
local json = require "json"
local route = require "route"
local schema = require "schema"
local script = require "script"
local store = require "store"
local task = require "task"
local template = require "template"

local M = {}

local EVENTS = { complete = true, error = true, retry = true, progress = true }
local NAMES_MOST = 10000 -- routes, templates, callbacks, resolvers of one folder

local function fail(...)
  error({ code = "config", message = string.format(...) }, 0)
end

-- An error that a guard gave, as { code, message }.
function M.problem(raised, kind)
  if type(raised) == "table" and raised.code and raised.message then
    return { code = kind or raised.code, message = tostring(raised.message) }
  end
  return { code = kind or "script", message = tostring(raised) }
end

-- The context of the message for which a script calls `name`; an error of the script when there is none.
function M.context(name)
  local ok, context = pcall(task.context)
  if not ok then
    fail("%s%s can only be called for a message, and in its own coroutine", script.where(2), name)
  end
  return context
end

----------------------------------------------------------------- the API

-- What a script can declare while the folder loads: routes, templates, callbacks, resolvers.
local function declarations(self)
  local count = 0
  local function open(name)
    if self.sealed then
      fail("%s%s can only be called while the rules load, not by a message", script.where(2), name)
    end
    count = count + 1
    if count > NAMES_MOST then
      fail("%smore than %d declarations", script.where(2), NAMES_MOST)
    end
  end
  local api = {}

  function api.route(definition)
    open("route")
    if type(definition) ~= "table" then
      fail("%sroute: takes a table, not a %s", script.where(1), type(definition))
    end
    definition.source = script.where(1):gsub(": ?$", "")
    self.routes[#self.routes + 1] = definition
  end

  function api.template(name, definition)
    open("template")
    if type(name) ~= "string" or name == "" then
      fail("%stemplate: the name must be a string", script.where(1))
    elseif self.sources[name] then
      fail("%stemplate '%s': there is one already (%s)", script.where(1), name, self.sources[name])
    end
    self.sources[name] = script.where(1):gsub(": ?$", "")
    self.definitions[name] = definition
  end

  -- on(event, [name,] callback): with a name only for the messages that ask for it.
  function api.on(event, name, callback)
    open("on")
    if callback == nil then
      name, callback = nil, name
    end
    if not EVENTS[event] then
      fail("%son: there is no event '%s'%s", script.where(1), tostring(event), schema.suggest(event, schema.names(EVENTS)))
    elseif type(callback) ~= "function" then
      fail("%son: the callback must be a function, not a %s", script.where(1), type(callback))
    elseif name ~= nil and type(name) ~= "string" then
      fail("%son: the name must be a string, not a %s", script.where(1), type(name))
    elseif name then
      self.named[event][name] = callback
    else
      local list = self.callbacks[event]
      list[#list + 1] = callback
    end
  end

  function api.resolve(resolver)
    open("resolve")
    if type(resolver) ~= "function" then
      fail("%sresolve: takes a function, not a %s", script.where(1), type(resolver))
    end
    self.resolvers[#self.resolvers + 1] = resolver
  end
  return api
end

local HTTP = {
  url = { type = "string", required = true }, method = { type = "string" }, headers = { type = "table" },
  body = { type = "string" }, json = {}, timeout = { type = "number", min = 0.001, max = 3600 },
  connect_timeout = { type = "number", min = 0.001, max = 3600 }, verify = { type = "boolean" },
  ca_file = { type = "string" }, proxy = { type = "string" },
}

-- http { url =, method =, headers =, body = | json =, timeout = } → { status, headers, body }; or nil, message, code. An
-- answer with a status of 400 is an answer.
local function http(options)
  M.context "http"
  if type(options) == "string" then
    options = { url = options }
  elseif type(options) ~= "table" then
    fail("%shttp: takes a URL or a table, not a %s", script.where(1), type(options))
  end
  local request = {}
  for name, value in pairs(options) do
    local field = HTTP[name]
    if not field then
      fail("%shttp: there is no option '%s'%s", script.where(1), tostring(name), schema.suggest(name, schema.names(HTTP)))
    elseif field.type and type(value) ~= field.type then
      fail("%shttp: %s must be a %s, not a %s", script.where(1), name, field.type, type(value))
    end
    request[name] = value
  end
  if request.json ~= nil then
    request.body, request.json = json.encode(request.json), nil
    local headers = { ["content-type"] = "application/json" }
    for name, value in pairs(request.headers or {}) do
      headers[name] = value
    end
    request.headers = headers
  end
  request.method = request.method or request.body and "POST" or "GET"
  local response, message, code = task.transfer("http", request)
  if not response then
    return nil, message, code
  elseif response.error then
    return nil, response.message, response.error
  end
  return response
end

local function log_at(level)
  return function(text)
    script.log(level, "rules", tostring(text))
  end
end

-- The clock of the rules is the task's: in a test it is the test's.
local function clock(environment)
  local date = environment.os.date
  local os = { clock = environment.os.clock, difftime = environment.os.difftime }
  function os.time(fields)
    return fields and environment.os.time(fields) or math.floor(task.now())
  end
  function os.date(format, seconds) -- now() has fractions, which Lua's own does not take
    seconds = seconds or task.now()
    return date(format, math.type(seconds) == "float" and math.floor(seconds) or seconds)
  end
  return os
end

local function environment_for(self, send)
  local environment = script.environment()
  local raw_os = environment.os
  environment.os = script.freeze(clock { os = raw_os }, "os")
  for name, value in pairs(declarations(self)) do
    environment[name] = value
  end
  for name, maker in pairs(choice.makers) do
    environment[name] = maker
  end
  environment.send = send
  environment.sleep, environment.now, environment.env = task.sleep, task.now, script.env
  environment.http, environment.store = http, script.freeze(store, "store")
  environment.json = script.freeze(json, "json")
  environment.log = script.freeze({
    error = log_at "error", warn = log_at "warn", info = log_at "info", debug = log_at "debug",
  }, "log")
  local loaded, missing = {}, {}
  environment.require = function(name)
    if type(name) ~= "string" then
      error("require: the name must be a string", 2)
    elseif loaded[name] == missing then
      error(("module '%s' requires itself"):format(name), 2)
    elseif loaded[name] ~= nil then
      return loaded[name]
    end
    return self.run(name, 2)
  end
  -- Runs a script of the folder once, whoever asks for it first.
  function self.run(name, level)
    if loaded[name] ~= nil then
      return loaded[name]
    end
    local chunk = script.load(name, environment)
    local value
    if chunk then
      loaded[name] = missing
      local ok, raised = pcall(chunk, name)
      if not ok then
        loaded[name] = nil
        error(raised, 0)
      end
      value = raised
    else
      local problem
      value, problem = script.allowed(name)
      if value == nil then
        error(problem or ("there is no script '%s' in %s, and the configuration allows no module of that name")
          :format(name, script.folder()), level)
      end
    end
    loaded[name] = value == nil and true or value
    return loaded[name]
  end
  return environment
end

----------------------------------------------------------------- loading

local function empty()
  local self = { routes = {}, definitions = {}, sources = {}, callbacks = {}, named = {}, resolvers = {}, templates = {} }
  for event in pairs(EVENTS) do
    self.callbacks[event], self.named[event] = {}, {}
  end
  return self
end

-- The folder's templates/, by file name.
local function files_of_templates()
  local texts, files = script.templates(), {}
  for file, text in pairs(texts) do
    files[#files + 1] = { file = "templates/" .. file, text = text }
  end
  table.sort(files, function(a, b) return a.file < b.file end)
  return files
end

local function add_files(self)
  for name, definition in pairs(template.gather(files_of_templates())) do
    if self.definitions[name] then
      fail("%s: there is a template '%s' already (%s)", definition.origin and definition.origin.file or "templates", name,
        self.sources[name])
    end
    self.definitions[name] = definition
  end
end

local function compile_templates(self, attempt)
  for _, name in ipairs(schema.names(self.definitions)) do
    attempt(function()
      self.templates[name] = template.compile(name, self.definitions[name], {
        load = script.compile, env = self.environment, file = self.sources[name], platforms = self.platforms,
        find = function(other) return self.definitions[other] end,
      })
    end)
  end
end

-- Routes as the scripts cannot change them any more. What is no route at all is left to route.compile, which names it.
local function own_routes(routes, depth)
  if type(routes) ~= "table" or depth > 32 then
    return routes
  end
  local own = {}
  for key, each in pairs(routes) do
    local copy = each
    if type(each) == "table" then
      copy = {}
      for name, value in pairs(each) do
        copy[name] = value
      end
      copy.to = type(copy.to) == "table" and choice.copy(copy.to) or copy.to
      copy.retry = type(copy.retry) == "table" and script.plain(copy.retry) or copy.retry
      copy.routes = own_routes(copy.routes, depth + 1)
    end
    own[key] = copy
  end
  return own
end

-- With all problems asked for, each route is tried by itself first.
local function compile_routes(self, attempt, one_by_one)
  local options = {
    templates = self.definitions, target_fault = choice.fault, is_choice = choice.is,
    check_retry = function(policy) schema.check(policy, config.GIVEN_RETRY, "retry") end,
  }
  local good = attempt(function()
    self.routes = own_routes(self.routes, 1)
  end)
  for _, each in ipairs(one_by_one and self.routes or {}) do
    good = attempt(function()
      route.compile({ each }, options)
    end) and good
  end
  if good then
    attempt(function()
      self.matcher = #self.routes > 0 and route.compile(self.routes, options) or nil
    end)
  end
end

-- Loads the folder. `send` is what rules call; `platforms` is the set of their names; `on_problem` (optional) takes each problem
-- and lets the rest go on, else the first is raised.
function M.load(send, platforms, on_problem)
  local self = empty()
  self.platforms = platforms
  self.environment = environment_for(self, send)
  local function attempt(f)
    local ok, raised, kind = script.guard(f)
    if not ok then
      local problem = M.problem(raised, kind)
      if not on_problem then
        error({ code = "config", message = problem.message }, 0)
      end
      on_problem(problem.message)
    end
    return ok
  end
  local names, tests = script.names()
  self.tests = tests
  for _, name in ipairs(names) do
    attempt(function()
      self.run(name, 0)
    end)
  end
  attempt(function()
    add_files(self)
  end)
  compile_templates(self, attempt)
  compile_routes(self, attempt, on_problem)
  self.sealed = true
  return self
end

return M
