-- platform: the adapters by name and by scheme, and the accounts that make one of them usable.
--
-- An adapter is loaded the first time it is needed. What it must be is checked then, so that a mistake in a user's own
-- adapter is told with its name when the hub opens and not when the first message fails.

local schema = require "schema"
local task = require "task"

local M = {}

local ADAPTER = {
  summary = { type = "string", default = "" },
  docs = { type = "string" },
  transport = { type = "string", required = true },
  schemes = { type = "list", default = {} },
  native = { type = "list", default = {} },
  formats = { type = "list", default = { "text" } },
  limits = { type = "table", default = {} },
  attachments = { type = "string", one_of = { "none", "content", "path" }, default = "none" },
  recipients = { type = "list", default = {} },
  rate = { type = "table" }, -- what the platform allows an account: { tokens, per, burst }
  target_rate = { type = "table" }, -- and each recipient of it
  urls = { type = "list", default = {} }, -- shapes of target URLs, for people
  example = { type = "string" }, -- one of them, whole
  options = { type = "table", default = {} },
  message_options = { type = "table", default = {} },
}

local FUNCTIONS = { request = true, response = true, parse = false, check = false } -- true: required

local TRANSPORTS = { http = true, smtp = true, console = true }
local FORMATS = { text = true, markdown = true, html = true }

local LIMITS = {
  body = { type = "integer", min = 1 }, title = { type = "integer", min = 1 },
  unit = { type = "string", one_of = { "bytes", "characters" } },
}

local OPTION = {
  type = { type = "string", required = true, one_of = { "string", "number", "integer", "boolean", "list", "table" } },
  required = { type = "boolean" }, secret = { type = "boolean" }, one_of = { type = "list" }, help = { type = "string" },
  min = { type = "number" }, max = { type = "number" },
}

local adapters = {} -- checked, by name

local function check_options(options, path)
  for option, field in pairs(options) do
    local where = path .. "." .. tostring(option)
    local given = {}
    for key, value in pairs(type(field) == "table" and field or {}) do
      if key ~= "default" then -- of the option's own type
        given[key] = value
      end
    end
    schema.check(type(field) == "table" and given or field, OPTION, where)
  end
end

local function check_data(name, adapter)
  local path = "adapters." .. name
  if not TRANSPORTS[adapter.transport] then
    schema.fail("config", "%s.transport: there is no transport '%s'%s", path, adapter.transport,
      schema.suggest(adapter.transport, schema.names(TRANSPORTS)))
  end
  for _, format in ipairs(adapter.formats) do
    if not FORMATS[format] then
      schema.fail("config", "%s.formats: there is no format '%s'%s", path, format,
        schema.suggest(format, schema.names(FORMATS)))
    end
  end
  schema.check(adapter.limits, LIMITS, path .. ".limits")
  check_options(adapter.options, path .. ".options")
  check_options(adapter.message_options, path .. ".message_options")
end

-- Adds what is asked of an adapter for each message.
local function ready(adapter)
  adapter.takes = {} -- formats, as a set
  for _, format in ipairs(adapter.formats) do
    adapter.takes[format] = true
  end
  adapter.asks = false -- whether there are options for a message that says nothing to the platform
  for _, field in pairs(adapter.message_options) do
    adapter.asks = adapter.asks or field.required or field.default ~= nil
  end
  return adapter
end

local function check_adapter(name, adapter)
  if type(adapter) ~= "table" then
    schema.fail("config", "adapters.%s: must return a table", name)
  end
  local data, functions = {}, {}
  for key, value in pairs(adapter) do
    if key == "group" or FUNCTIONS[key] ~= nil then
      functions[key] = value
    else
      data[key] = value
    end
  end
  local checked = schema.check(data, ADAPTER, "adapters." .. name)
  for key, required in pairs(FUNCTIONS) do
    if functions[key] ~= nil and type(functions[key]) ~= "function" or required and not functions[key] then
      schema.fail("config", "adapters.%s.%s: must be a function", name, key)
    end
    checked[key] = functions[key]
  end
  checked.group = functions.group or false
  checked.name = name
  check_data(name, checked)
  return ready(checked)
end

-- The adapter of this name; nil when there is none.
function M.adapter(name)
  if not adapters[name] and M.known()[name] then
    adapters[name] = check_adapter(name, require("adapters." .. name))
  end
  return adapters[name]
end

local known

-- The names of all adapters, as a set.
function M.known()
  if not known then
    known = {}
    for _, name in ipairs(task.adapters()) do
      known[name] = true
    end
  end
  return known
end

local hidden = {} -- the configuration's secrets, as a set

-- Takes the secrets of a configuration: what env, file and notifyhub.secret gave.
function M.hide(secrets)
  hidden = {}
  for _, secret in ipairs(secrets or {}) do
    hidden[secret] = true
  end
end

local LEAST = 4 -- bytes of a secret; what is shorter stands in every other word

-- Adds the texts of a value: all of them, or those that the configuration gave as secrets.
local function add_secrets(value, all, found)
  if type(value) == "table" then
    for _, inner in pairs(value) do
      add_secrets(inner, all, found)
    end
  elseif type(value) == "string" and #value >= LEAST and (all or hidden[value]) then
    found[#found + 1] = value
  end
end

-- The texts of an account that must never be shown, the longest first: those of options that the adapter calls secret, and
-- in all others what the configuration took from the environment or a file.
local function secrets_of(adapter, options)
  local found = {}
  for name, value in pairs(options) do
    add_secrets(value, (adapter.options[name] or {}).secret, found)
  end
  table.sort(found, function(a, b) return #a > #b end)
  return found
end

local RATE = {
  tokens = { type = "integer", min = 1, max = 1000000, required = true },
  per = { type = "number", min = 0.001, max = 86400, default = 1 },
  burst = { type = "integer", min = 1, max = 1000000 },
}

-- A rate: the account's own over what its platform allows; `false` means none. `path` is where its own stands.
function M.rate(own, of_platform, path)
  local given = own == nil and of_platform or own
  if not given then
    return nil
  end
  local checked = schema.check(given, RATE, path or "rate")
  checked.burst = checked.burst or checked.tokens
  return checked
end

-- An account: { name, adapter, options, secrets }. `path` is where its options stand, for errors with `code`.
function M.account(name, adapter, options, path, code)
  local checked = schema.check(options, adapter.options, path, code)
  if adapter.check then
    local ok, message = adapter.check(checked)
    if not ok then
      schema.fail(code or "config", "%s.%s", path, message)
    end
  end
  return { name = name, adapter = adapter, options = checked, secrets = secrets_of(adapter, checked) }
end

-- The options as data: what is said about each, without what only the check needs.
local function described(options)
  local list = {}
  for name, field in pairs(options) do
    list[name] = {
      type = field.type, required = field.required, default = field.default, one_of = field.one_of,
      min = field.min, max = field.max, secret = field.secret, help = field.help,
    }
  end
  return list
end

-- What `notifyhub platforms` shows of an adapter.
function M.describe(name)
  local adapter = M.adapter(name)
  local function list(values)
    return #values > 0 and values or require("json").array {}
  end
  return {
    name = name, summary = adapter.summary, docs = adapter.docs, transport = adapter.transport,
    schemes = list(adapter.schemes), native = list(adapter.native), urls = list(adapter.urls),
    example = adapter.example, recipients = list(adapter.recipients), formats = list(adapter.formats),
    attachments = adapter.attachments,
    limits = adapter.limits, rate = adapter.rate, target_rate = adapter.target_rate, options = described(adapter.options),
    message_options = described(adapter.message_options),
  }
end

return M
