-- A text that somebody gave as a target: what is made of it by url.lua, target.lua and the adapters, down to the requests.

local config = require "config"
local main = require "main"
local simulation = require "simulation"
local target = require "target"
local url = require "url"

local prepared = config.prepare({
  platforms = {
    slack = { webhook_url = "https://hooks.slack.com/services/T0/B0/configured" },
    email = { host = "mail.example.com", from = "notify@example.com" },
    webhook = { url = "https://example.com/hook" },
  },
  targets = { oncall = { "slack", "a@example.com" }, loop = "loop" },
}, {})
main.setup(prepared)

-- What is shown of a URL: its scheme, at most the machine and the port.
local function is_redacted(shown)
  local rest = shown:match("^%a[%w+.-]*://(.*)$"):gsub("…$", "")
  return rest == "" or rest:find("^[%w._-]+:?%d*/$") or rest:find("^%[[%x:.]+%]:?%d*/$")
end

-- What may not be printed of a text that is a URL: each run of letters and digits that is too long to be a word and stands in
-- no part that may be shown.
local function secrets_of(text, shown)
  local list = {}
  for run in text:match("://(.*)$"):gmatch("%w+") do
    if #run >= 12 and run:find("%d") and run:find("%a") and not shown:find(run, 1, true) then
      list[#list + 1] = run
    end
  end
  return list
end

local function must_hide(told, secrets, what)
  for _, secret in ipairs(secrets) do
    if tostring(told):find(secret, 1, true) then
      error(("%s prints %q: %s"):format(what, secret, told))
    end
  end
end

local function parses(text)
  local parsed, message = url.parse(text)
  if not parsed then
    assert(type(message) == "string" and utf8.len(message), "url.parse gives no reason")
    if text:find("^%a[%w+.-]*://") then
      must_hide(message, secrets_of(text, ""), "url.parse")
    end
    return
  end
  assert(parsed.scheme:find("^%l[%l%d+.-]*$") and #parsed.scheme <= 32, "scheme")
  assert(not parsed.port or math.type(parsed.port) == "integer" and parsed.port >= 1 and parsed.port <= 65535, "port")
  for _, part in ipairs { parsed.user or "", parsed.password or "", parsed.host, parsed.fragment or "",
                          table.unpack(parsed.path) } do
    assert(utf8.len(part) and not part:find("[\0-\31\127]"), "a part holds what no part may hold")
  end
  for _, parameter in ipairs(parsed.parameters) do
    assert(parsed.query[parameter[1]] ~= nil, "a parameter is lost")
  end
  assert(is_redacted(url.shown(text)), "shown: " .. url.shown(text))
  if not text:find("[\"<>]") then -- where a URL in a text ends
    assert(url.redact(text) == url.shown(text) or text:find("'%p*$"), "redact: " .. url.redact(text))
  end
end

-- Encoded, any text is one segment of a path, and a value of a query.
local function encodes(text)
  local parsed = url.parse("https://example.com/" .. url.encode(text) .. "?v=" .. url.encode(text))
  if parsed and text ~= "" then
    assert(#parsed.path == 1 and parsed.path[1] == text and parsed.query.v == text, "encode")
  else
    assert(text == "" or not utf8.len(text) or text:find("[\0-\31\127]") or #text > 1024, "encode is refused")
  end
end

local function must_be_one_line(value, path)
  if type(value) == "string" then
    assert(not value:find("[\0-\31\127]"), path .. " holds a control character")
  elseif type(value) == "table" then
    for key, inner in pairs(value) do
      must_be_one_line(inner, path .. "." .. tostring(key))
    end
  end
end

local function resolves(text)
  local is_url = text:find("^%a[%w+.-]*://") ~= nil
  for _, entry in ipairs((target.resolve(text, {}))) do
    assert(entry.account or entry.result, "an entry that is nothing")
    assert(not is_url or is_redacted(entry.shown), "shown: " .. entry.shown)
    must_be_one_line(entry.recipient, "recipient")
    if entry.result then
      assert(type(entry.result.error) == "string", "no error")
      must_hide(entry.result.error, is_url and secrets_of(text, entry.shown) or {}, "target.resolve")
    end
  end
end

local PAYLOADS = { body = true, content = true, text = true, html = true, form = true }

-- The requests that would go out, and the receipt.
local function sends(text)
  simulation.forget()
  local message = { id = "m-1", title = "Title", body = "Body", metadata = {}, targets = { text } }
  local sent, receipts = simulation.run(main, { message }, {})
  assert(#receipts == 1, "the message has no end")
  for _, result in ipairs(receipts[1].results) do
    assert(result.ok or result.code ~= "script" and result.code ~= "internal", "an adapter failed: " .. tostring(result.error))
  end
  for _, one in ipairs(sent) do
    for key, value in pairs(one.request or {}) do
      if not PAYLOADS[key] then
        must_be_one_line(value, key)
      end
    end
  end
end

return function(text)
  assert(utf8.len(url.redact(text)) or not utf8.len(text), "redact makes broken UTF-8")
  parses(text)
  encodes(text)
  url.hint(text)
  -- As message.c lets a target in.
  if #text >= 1 and #text <= 4096 and utf8.len(text) and not text:find("[\0-\31\127]") then
    resolves(text)
    sends(text)
  end
end
