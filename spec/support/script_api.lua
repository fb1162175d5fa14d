-- script_api: the modules that adapters and scripts/lib may `require`, on a plain Lua 5.4, so that specs can run them
-- without the runtime. The C modules are played by libraries of Debian: lua-dkjson (json), lua-luaossl and lua-socket
-- (crypto), cmark (markdown). Adapters are loaded with the globals of the sandbox and nothing else, so that one that
-- does I/O fails here.

local M = {}

local root = debug.getinfo(1, "S").source:match("^@(.*)spec/support/script_api%.lua$")

--------------------------------------------------------------- C modules

local dkjson = require "dkjson"
local digest, hmac = require "openssl.digest", require "openssl.hmac"
local mime = require "mime"

local json = { null = dkjson.null }

-- An empty table is an object unless it is marked: dkjson has it the other way round.
local function marked(value)
  if type(value) ~= "table" or value == dkjson.null then
    return value
  end
  local copy = setmetatable({}, getmetatable(value) or not next(value) and { __jsontype = "object" } or nil)
  for key, inner in pairs(value) do
    copy[key] = marked(inner)
  end
  return copy
end

function json.encode(value)
  return assert(dkjson.encode(marked(value)))
end

-- Plain tables: the runtime's decoder marks nothing either.
local function plain(value)
  if type(value) == "table" and value ~= dkjson.null then
    local array = (getmetatable(value) or {}).__jsontype == "array"
    setmetatable(value, nil)
    for key, inner in pairs(value) do
      value[key] = plain(inner)
    end
    return array and #value == 0 and json.array(value) or value
  end
  return value
end

function json.decode(source)
  local value, stop, message = dkjson.decode(source, 1, dkjson.null)
  if message then
    return nil, message
  end
  if source:find("%S", stop) then
    return nil, "text after the value"
  end
  return plain(value)
end

function json.object(names)
  return function(...)
    local object = {}
    for index, name in ipairs(names) do
      object[name] = (select(index, ...))
    end
    return json.encode(object)
  end
end

function json.array(list)
  return setmetatable(list, { __jsontype = "array" })
end

local crypto = {
  hmac_sha256 = function(key, data) return hmac.new(key, "sha256"):final(data) end,
  hmac_sha1 = function(key, data) return hmac.new(key, "sha1"):final(data) end,
  sha256 = function(data) return digest.new("sha256"):final(data) end,
  base64 = function(data) return (mime.b64(data)) or "" end,
  unbase64 = function(source)
    if #source % 4 ~= 0 or source:find("[^%w+/=]") or source:find("=[^=]") then
      return nil, "not base64"
    end
    return (mime.unb64(source)) or ""
  end,
  hex = function(data)
    return (data:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
  end,
}

local markdown = {}

-- cmark drops raw HTML, which the runtime's shows as text: specs of adapters hold none.
function markdown.to_html(source)
  local name = os.tmpname()
  local file = assert(io.open(name, "wb"))
  file:write(source)
  file:close()
  local pipe = assert(io.popen("cmark " .. name))
  local html = pipe:read("a")
  assert(pipe:close(), "cmark failed")
  os.remove(name)
  return html
end

-- Of the runtime's task only what is pure: the known name that differs in one place, or in two neighbours' order.
local task = {}

function task.nearest(name, names)
  local function spread(each)
    local seen = {}
    for at = 1, #each + 1 do
      seen[each:sub(1, at - 1) .. each:sub(at + 1)] = true
      seen[each:sub(1, at - 1) .. each:sub(at + 1, at + 1) .. each:sub(at, at) .. each:sub(at + 2)] = true
    end
    return seen
  end
  local typed = spread(name)
  for _, each in ipairs(names) do
    for form in pairs(spread(each)) do
      if typed[form] then
        return each
      end
    end
  end
end

----------------------------------------------------------------- sandbox

local modules = { json = json, crypto = crypto, markdown = markdown, task = task }
local files = {}
for _, name in ipairs { "address", "mail", "result", "text", "url" } do
  files[name] = "scripts/lib/" .. name .. ".lua"
end

local sandbox = {
  assert = assert, error = error, ipairs = ipairs, math = math, next = next, pairs = pairs, pcall = pcall,
  select = select, setmetatable = setmetatable, getmetatable = getmetatable, rawequal = rawequal, rawget = rawget,
  rawlen = rawlen, rawset = rawset, string = string, table = table, tonumber = tonumber, tostring = tostring,
  type = type, utf8 = utf8, os = { clock = os.clock, date = os.date, time = os.time },
}

-- As the runtime's: the modules of docs/platforms.md, and another adapter as "adapters.NAME".
function sandbox.require(name)
  local path = files[name] or name:match("^adapters%.[%w_]+$") and "platforms/" .. name:gsub("%.", "/") .. ".lua"
  if not modules[name] and path then
    modules[name] = assert(loadfile(root .. path, "t", sandbox))()
  end
  return modules[name] or error("module '" .. name .. "' is not available to adapters", 2)
end

M.require = sandbox.require

---------------------------------------------------------------- adapters

-- Fails on a read of an unknown field, as adapters must not depend on what the contract does not give.
local FIELDS = {
  id = true, title = true, body = true, format = true, message = true, options = true, account = true,
  recipient = true, recipients = true, attachments = true, attempt = true, now = true,
}

function M.adapter(name)
  return sandbox.require("adapters." .. name)
end

-- The account's options with their defaults, checked by name and type as the runtime does.
function M.account(adapter, options)
  local account = {}
  for key in pairs(options or {}) do
    assert(adapter.options[key], "no such account option: " .. key)
  end
  for key, rule in pairs(adapter.options) do
    local value = (options or {})[key]
    if value == nil then
      value = rule.default
    end
    if value ~= nil then
      local kind = rule.type == "list" and "table" or rule.type == "integer" and "number" or rule.type
      assert(type(value) == kind, key .. ": not a " .. rule.type)
    end
    account[key] = value
  end
  return account
end

-- A delivery as an adapter gets it; `fields` replaces what a spec is about. `account` is completed with the defaults.
function M.delivery(adapter, fields)
  fields = fields or {}
  local delivery = {
    id = "01J9Z3NDEKTSV4RRFFQ69G5FAV", title = "", body = "", format = "text",
    message = { id = "m-1", priority = "normal", metadata = {}, variables = {}, created_at = 1700000000.25,
                targets = json.array {} },
    options = {}, recipients = {}, attachments = {}, attempt = 1, now = 1700000000.5,
  }
  for key, value in pairs(fields) do
    assert(FIELDS[key], "a delivery has no field " .. key)
    if key == "message" then
      for inner, each in pairs(value) do
        delivery.message[inner] = each
      end
    else
      delivery[key] = value
    end
  end
  for key in pairs(delivery.options) do
    assert((adapter.message_options or {})[key], "no such message option: " .. key)
  end
  delivery.account = M.account(adapter, fields.account)
  delivery.recipient = delivery.recipients[1]
  return setmetatable(delivery, {
    __index = function(_, key)
      return not FIELDS[key] and error("a delivery has no field " .. tostring(key), 2) or nil
    end,
  })
end

-- The target URL's account and recipients.
function M.parse(adapter, text)
  local parsed, message = M.require("url").parse(text)
  if not parsed then
    return nil, message
  end
  local known = {}
  for _, scheme in ipairs(adapter.schemes) do
    known[scheme] = true
  end
  for _, prefix in ipairs(adapter.native or {}) do
    known[parsed.scheme] = known[parsed.scheme] or text:sub(1, #prefix) == prefix
  end
  assert(known[parsed.scheme], "not a URL of this platform")
  return adapter.parse(parsed)
end

-- The request that an adapter builds, with the body that stands beside it in it: as it is sent; or nil, message, code.
function M.request(adapter, fields)
  local built, body, code = adapter.request(M.delivery(adapter, fields))
  if not built then
    return nil, body, code
  end
  return setmetatable({ body = body }, { __index = built })
end

return M
