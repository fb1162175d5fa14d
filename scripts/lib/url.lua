-- url: a strict, bounded parser for target URLs and web addresses (RFC 3986), with the two liberties that notification
-- URLs take: a host may be a token, so its case and its colons are kept where the scheme names no real host; and
-- outside of http and https a "#" that begins a path segment is part of it (slack://…/#general).
--
-- Errors name the part that is wrong and never print it: any part may be a secret. The one exception is the name of a
-- query parameter that has a value and reads like a word. Linear in the length of the text.

local task = require "task"

local M = {}

local MAX_LENGTH, MAX_SEGMENTS, MAX_PARAMETERS = 8192, 100, 100

-- Schemes whose host is the name of a machine and not a secret. Only these show their host when redacted.
local HOST_IS_PUBLIC = {
  http = true, https = true, json = true, jsons = true, form = true, forms = true, xml = true, xmls = true,
  webhook = true, mailto = true, mailtos = true,
}

local WEB = { http = true, https = true }

---------------------------------------------------------------- encoding

local function percent(byte)
  return ("%%%02X"):format(byte:byte())
end

-- Percent-encodes one component: everything but the unreserved characters.
function M.encode(text)
  return (tostring(text):gsub("[^%w%-._~]", percent))
end

-- Percent-encodes what no URL may hold and leaves the rest of a written URL alone.
function M.escape(text)
  return (text:gsub("[\0-\32\"<>\\^`{|}\127-\255]", percent))
end

-- nil for an invalid escape, invalid UTF-8 or a control character. A "+" stays a plus: e-mail addresses hold them.
local function decode(text)
  if text:find("%%%X") or text:find("%%%x%X") or text:find("%%%x?$") then
    return nil
  end
  text = text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  if text:find("[\0-\31\127]") or not utf8.len(text) then
    return nil
  end
  return text
end

-- A map (in the order of its names) or a list of { name, value } → "a=1&b=2".
function M.query(values)
  local pairs_list = {}
  if values[1] then
    for index, pair in ipairs(values) do
      pairs_list[index] = M.encode(pair[1]) .. "=" .. M.encode(pair[2])
    end
  else
    local names = {}
    for name in pairs(values) do
      names[#names + 1] = name
    end
    table.sort(names)
    for index, name in ipairs(names) do
      pairs_list[index] = M.encode(name) .. "=" .. M.encode(values[name])
    end
  end
  return table.concat(pairs_list, "&")
end

------------------------------------------------------------------ hosts

local function is_ipv4(text)
  local count = 0
  for part in (text .. "."):gmatch("(.-)%.") do
    count = count + 1
    if not part:find("^%d%d?%d?$") or tonumber(part) > 255 then
      return false
    end
  end
  return count == 4
end

local function is_ipv6(text)
  if #text > 45 or text:find("[^%x:.]") or text:find(":::", 1, true) then
    return false
  end
  local _, gaps = text:gsub("::", "")
  if gaps > 1 or (text:find("^:") and not text:find("^::")) or (text:find(":$") and not text:find("::$")) then
    return false
  end
  local groups, v4 = 0, false
  for part in text:gmatch("[^:]+") do
    if v4 then
      return false -- the dotted form may only stand at the end
    elseif part:find(".", 1, true) then
      if not is_ipv4(part) then
        return false
      end
      groups, v4 = groups + 2, true
    elseif #part <= 4 then
      groups = groups + 1
    else
      return false
    end
  end
  return gaps == 1 and groups < 8 or groups == 8
end

-- Whether the text can be the name or the address of a machine (IPv6 without brackets).
function M.is_host(text)
  if #text == 0 or #text > 253 then
    return false
  end
  if text:find(":", 1, true) then
    return is_ipv6(text)
  end
  for label in (text:gsub("%.$", "") .. "."):gmatch("(.-)%.") do
    if #label == 0 or #label > 63 or not label:find("^[%w_][%w_-]*$") or label:find("%-$") then
      return false
    end
  end
  return true
end

-- "host[:port]" → host, port; or nil and what is wrong.
local function split_host(text, scheme)
  local host, rest = text:match("^%[([^%[%]]*)%](.*)$")
  if host then
    if not is_ipv6(host) then
      return nil, "the IPv6 address is not valid"
    end
  elseif text:find("[%[%]]") then
    return nil, "the host is not valid"
  else
    host, rest = text:match("^(.*)(:%d*)$")
    if not host then
      host, rest = text, ""
    end
  end
  local port
  if rest ~= "" then
    port = math.tointeger(tonumber(rest:match("^:(%d%d?%d?%d?%d?)$") or ""))
    if not port or port < 1 or port > 65535 then
      return nil, "the port must be a number from 1 to 65535"
    end
  end
  host = decode(host)
  if not host then
    return nil, "the host is not valid"
  end
  if WEB[scheme] and not M.is_host(host) then
    return nil, host == "" and "the host is missing" or "the host is not valid (other alphabets are written xn--…)"
  end
  return host, port
end

---------------------------------------------------------------- parsing

-- "name=value&…" → a map (the last one of a name counts) and the list in order; or nil and what is wrong.
local function parse_query(text)
  local map, list = {}, {}
  for pair in text:gmatch("[^&]+") do
    if #list == MAX_PARAMETERS then
      return nil, "more than " .. MAX_PARAMETERS .. " query parameters"
    end
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name, value = decode(name), decode(value)
    if not name or not value then
      return nil, "a query parameter is not valid percent-encoded UTF-8"
    end
    list[#list + 1], map[name] = { name, value }, value
  end
  return map, list
end

local function parse_path(text)
  local path = {}
  for segment in text:gmatch("[^/]+") do
    if #path == MAX_SEGMENTS then
      return nil, "more than " .. MAX_SEGMENTS .. " path segments"
    end
    local decoded = decode(segment)
    if not decoded then
      return nil, "a path segment is not valid percent-encoded UTF-8"
    end
    path[#path + 1] = decoded
  end
  return path
end

-- Splits the fragment off. Apprise's "/#channel" is a path, except on the web.
local function split_fragment(text, scheme)
  local from = 1
  while true do
    local at = text:find("#", from, true)
    if not at then
      return text
    end
    if WEB[scheme] or at == 1 or text:sub(at - 1, at - 1) ~= "/" then
      return text:sub(1, at - 1), text:sub(at + 1)
    end
    from = at + 1
  end
end

-- Text → { scheme, user, password, host, port, path = { segment, … }, query = { name = value }, fragment, text }, each
-- part decoded; besides them `raw_path` and `raw_query` as they were written and `parameters`, the query as an ordered
-- list of { name, value }. Or nil and a message.
function M.parse(text)
  if type(text) ~= "string" then
    return nil, "url: not a string"
  end
  if #text > MAX_LENGTH then
    return nil, "url: longer than " .. MAX_LENGTH .. " bytes"
  end
  if text:find("[\0-\32\127]") then
    return nil, "url: holds a space or a control character"
  end
  if not utf8.len(text) then
    return nil, "url: not valid UTF-8"
  end
  local scheme, rest = text:match("^(%a[%w+.-]*)://(.*)$")
  if not scheme then
    return nil, "url: must begin with scheme://, as https:// does"
  end
  if #scheme > 32 then
    return nil, "url: the scheme is not known"
  end
  scheme = scheme:lower()

  local fragment, raw_query, authority, raw_path, user, password
  rest, fragment = split_fragment(rest, scheme)
  rest, raw_query = rest:match("^([^?]*)%??(.*)$")
  authority, raw_path = rest:match("^([^/]*)(.*)$")
  local userinfo, host_text = authority:match("^(.*)@(.*)$")
  if userinfo then
    user, password = userinfo:match("^([^:]*):(.*)$")
    user, password = decode(user or userinfo), password and decode(password)
    if not user or (userinfo:find(":", 1, true) and not password) then
      return nil, "url: the user or password is not valid percent-encoded UTF-8"
    end
  end

  local host, port = split_host(host_text or authority, scheme)
  if not host then
    return nil, "url: " .. port
  end
  local path, path_error = parse_path(raw_path)
  if not path then
    return nil, "url: " .. path_error
  end
  local query, parameters = parse_query(raw_query)
  if not query then
    return nil, "url: " .. parameters
  end
  fragment = fragment and decode(fragment) or fragment and false
  if fragment == false then
    return nil, "url: the fragment is not valid percent-encoded UTF-8"
  end
  return {
    scheme = scheme, user = user, password = password, host = host, port = port, path = path, query = query,
    fragment = fragment, text = text, raw_path = raw_path, raw_query = raw_query, parameters = parameters,
  }
end

-- A host as it stands in a URL: IPv6 in brackets.
function M.host(host, port)
  local text = host:find(":", 1, true) and "[" .. host .. "]" or host
  return port and text .. ":" .. port or text
end

-------------------------------------------------------------- arguments

local WORDS = {
  yes = true, ["true"] = true, on = true, ["1"] = true, no = false, ["false"] = false, off = false, ["0"] = false,
}

local CONVERT = {
  string = function(text) return text end,
  boolean = function(text) return WORDS[text:lower()] end,
  number = function(text)
    local number = text:find("^%d+%.?%d*$") and tonumber(text)
    return number and number > 0 and number <= 1e6 and number or nil
  end,
  list = function(text)
    local list = {}
    for item in text:gmatch("[^,]+") do
      list[#list + 1] = item:match("^%s*(.-)%s*$")
    end
    return list
  end,
}

local LONGEST_NAME = 24

-- What is said of a parameter that nobody knows. What has no value, or digits, may be a token that lost its name.
local function unknown_parameter(name, value, known)
  local names = {}
  for each in pairs(known) do
    names[#names + 1] = each
  end
  table.sort(names)
  local list = "known are " .. table.concat(names, ", ")
  if value == "" or #name > LONGEST_NAME or name:find("[^%a_-]") or name == "" then
    return "url: unknown query parameter; " .. list
  end
  local near = task.nearest(name, names)
  return ("url: unknown query parameter '%s'%s; %s"):format(name, near and (" (did you mean '%s'?)"):format(near) or "", list)
end

-- Turns a target URL's query into account options. `known` maps a parameter to { option, type }, the type being string,
-- boolean, number (above 0) or list (separated by commas). Parameters that begin with one of the characters of `prefixes`
-- are left to the caller. Returns the options, or nil and a message for a parameter that is unknown or wrong.
function M.arguments(parsed, known, prefixes)
  local options = {}
  for _, parameter in ipairs(parsed.parameters) do
    local name, text = parameter[1], parameter[2]
    local rule = known[name]
    if rule then
      local value = CONVERT[rule[2]](text)
      if value == nil then
        return nil, ("url: the parameter %q must be a %s"):format(name, rule[2])
      end
      options[rule[1]] = value
    elseif not (prefixes and name ~= "" and prefixes:find(name:sub(1, 1), 1, true)) then
      return nil, unknown_parameter(name, text, known)
    end
  end
  return options
end

------------------------------------------------------------------- hints

-- What may have been meant by a target that is no name, as the end of a sentence; "" when nothing comes to mind. And the
-- text as it may be shown: an address that lacks only its scheme has its tokens all the same.
function M.hint(text)
  local shown = text:gsub("^([%w._-]+[:%d]*/).+$", "%1…")
  if text:find("^%a[%w+.-]*:/?[^/]") and not text:find("^[%w.-]+:%d") then
    return "; a URL has :// after its scheme, as in mailto://server/to@example.com", text:match("^[^:]*:") .. "…"
  elseif text:find("^[%w.-]+%.[%w-]+/") or text:find("^[%w.-]+:%d+") or text:find("^localhost/") then
    return "; a server's address begins with its scheme, as in https://host/path or json://host/path", shown
  elseif text:find("^[%w.-]+%.%a%a+$") then
    return "; a mail address has an @, a server's address begins with its scheme, as in https://host/path", text
  end
  return "", text
end

--------------------------------------------------------------- redacting

local function redact_one(scheme, rest)
  scheme = scheme:lower()
  if not HOST_IS_PUBLIC[scheme] then
    return scheme .. "://…"
  end
  local authority, tail = rest:match("^([^/?#]*)(.*)$")
  local host = authority:match("([^@]*)$")
  local name = host:match("^%[[%x:.]+%]") or host:match("^[%w._-]+")
  if not name then
    return scheme .. "://…"
  end
  local port = host:sub(#name + 1):match("^:%d%d?%d?%d?%d?$") or ""
  return scheme .. "://" .. name .. port .. ((tail == "" or tail == "/") and "/" or "/…")
end

-- How much at the end of a URL in a text is the quote that it stands in and what follows that. A quote inside is the URL's own.
local function after_quote(rest)
  local marks = #rest:reverse():match("^%p*")
  local quote = rest:find("'", #rest - marks + 1, true)
  return quote and #rest - quote + 1 or 0
end

local function redact(text)
  local parts, from = {}, 1
  while true do
    local mark = text:find("://", from, true)
    if not mark then
      break
    end
    -- The scheme is looked for backwards and within bounds, so that no text makes this quadratic.
    local scheme = text:sub(math.max(from, mark - 32), mark - 1):match("(%a[%w+.-]*)$") or ""
    local stop = text:find("[%s\"<>]", mark + 3) or #text + 1
    stop = stop - after_quote(text:sub(mark + 3, stop - 1))
    parts[#parts + 1] = text:sub(from, mark - #scheme - 1)
    parts[#parts + 1] = redact_one(scheme, text:sub(mark + 3, stop - 1))
    from = stop
  end
  parts[#parts + 1] = text:sub(from)
  return table.concat(parts)
end

-- The same few texts come again and again: what was made of them is remembered, within bounds.
local KNOWN_MOST, KNOWN_LENGTH = 1000, 256

local function remembering(make)
  local known, count = {}, 0
  return function(text)
    local made = known[text]
    if made then
      return made
    end
    made = make(text)
    if #text <= KNOWN_LENGTH then
      if count == KNOWN_MOST then
        known, count = {}, 0
      end
      known[text], count = made, count + 1
    end
    return made
  end
end

local redact_known = remembering(redact)

-- Replaces every URL in a text by scheme://host[:port]/…, or by scheme://… where the host may be a token.
function M.redact(text)
  return text:find("://", 1, true) and redact_known(text) or text
end

-- The same for a text that is one URL and nothing else, whatever characters are in it.
M.shown = remembering(function(text)
  local scheme, rest = text:match("^(%a[%w+.-]*)://(.*)$")
  return scheme and redact_one(scheme, rest) or M.redact(text)
end)

return M
