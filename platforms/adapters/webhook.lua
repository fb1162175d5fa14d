-- webhook: any HTTP endpoint that takes a message as JSON, as a form or as XML. The target's own URL is the one that is called.
--
-- Signing follows Standard Webhooks (https://www.standardwebhooks.com): the id stays the same over all attempts, the
-- timestamp is the attempt's. For receivers with a scheme of their own there is a plain HMAC of the body in a header.

local crypto, json, result, text, url = require "crypto", require "json", require "result", require "text", require "url"

--------------------------------------------------------------- the fields

local NONE = {} -- read only

-- Messages come many in a second, and many in a millisecond.
local second, text_of_second, millisecond, text_of_it

local function rfc3339(seconds)
  local whole = seconds // 1
  local fraction = (seconds - whole) * 1000 // 1
  if whole ~= second then
    second, millisecond = whole, nil
    text_of_second = os.date("!%Y-%m-%dT%H:%M:%S", math.tointeger(whole))
  end
  if fraction ~= millisecond then
    millisecond = fraction
    text_of_it = ("%s.%03dZ"):format(text_of_second, fraction)
  end
  return text_of_it
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local NAMES = { "message_id", "title", "body", "format", "priority", "targets", "timestamp", "metadata" }

-- What is sent, by name.
local function values_of(delivery)
  local message = delivery.message
  return {
    message_id = message.id, title = delivery.title, body = delivery.body, format = delivery.format,
    priority = message.priority, targets = message.targets, metadata = message.metadata or NONE,
    timestamp = rfc3339(message.created_at or delivery.now),
  }
end

-- What is sent, as an ordered list of { name, value }. The account's `fields` add to it, rename (the name of a field of ours:
-- { title = "subject" }) or remove one (an empty value), as Apprise's :key=value does.
local function fields_of(delivery)
  local values = values_of(delivery)
  local changes, ours, fields = delivery.account.fields or {}, { attachments = true }, {}
  for _, name in ipairs(NAMES) do
    ours[name] = true
    local shown = changes[name] or name
    if shown ~= "" then
      fields[#fields + 1] = { shown, values[name] }
    end
  end
  for _, name in ipairs(sorted_keys(changes)) do
    if not ours[name] then
      fields[#fields + 1] = { name, changes[name] }
    end
  end
  return fields, changes.attachments or "attachments"
end

----------------------------------------------------------------- payloads

local function json_attachments(attachments)
  local list = {}
  for index, attachment in ipairs(attachments) do
    list[index] = {
      name = attachment.name, content_type = attachment.content_type, inline_id = attachment.inline_id,
      content = crypto.base64(attachment.content),
    }
  end
  return list
end

local encode = json.object { -- in the order that json.encode has, too
  "attachments", "body", "format", "message_id", "metadata", "priority", "targets", "timestamp", "title",
}

local function json_payload(delivery)
  local attachments = delivery.attachments[1] and json_attachments(delivery.attachments)
  if not delivery.account.fields then
    local message = delivery.message
    return encode(attachments, delivery.body, delivery.format, message.id, message.metadata or NONE, message.priority,
      message.targets, rfc3339(message.created_at or delivery.now), delivery.title)
  end
  local fields, attachments_name = fields_of(delivery)
  local object = {}
  for _, field in ipairs(fields) do
    object[field[1]] = field[2]
  end
  if attachments and attachments_name ~= "" then
    object[attachments_name] = attachments
  end
  return json.encode(object)
end

local function scalar(value)
  if value == json.null then
    return ""
  elseif math.type(value) == "float" and value == value // 1 and math.abs(value) < 2 ^ 53 then
    return ("%d"):format(value)
  end
  return tostring(value)
end

-- Tables become name[key] and, for lists, the name again for each element. Messages are at most 32 levels deep.
local function flatten(name, value, out)
  if type(value) ~= "table" or value == json.null then
    out[#out + 1] = { name, scalar(value) }
  elseif value[1] ~= nil then
    for _, inner in ipairs(value) do
      flatten(name, inner, out)
    end
  else
    for _, key in ipairs(sorted_keys(value)) do
      flatten(("%s[%s]"):format(name, key), value[key], out)
    end
  end
  return out
end

local function form_fields(delivery)
  local fields, attachments_name = fields_of(delivery)
  local out = {}
  for _, field in ipairs(fields) do
    flatten(field[1], field[2], out)
  end
  return out, attachments_name
end

local function form_payload(delivery)
  local fields, attachments_name = form_fields(delivery)
  if #delivery.attachments == 0 or attachments_name == "" then
    return url.query(fields)
  end
  if delivery.account.secret or delivery.account.signature then
    return nil, "attachments: a multipart form cannot be signed; use payload = \"json\" or \"xml\"", "invalid"
  end
  local parts = {}
  for index, field in ipairs(fields) do
    parts[index] = { name = field[1], content = field[2] }
  end
  for _, attachment in ipairs(delivery.attachments) do
    parts[#parts + 1] = {
      name = attachments_name, filename = attachment.name, content_type = attachment.content_type,
      content = attachment.content,
    }
  end
  return parts
end

local function element(name, value, attributes)
  return ("<%s%s>%s</%s>"):format(name, attributes or "", value, name)
end

local function xml_value(value, item)
  if type(value) ~= "table" or value == json.null then
    return text.escape_xml(scalar(value))
  end
  local out = {}
  if value[1] ~= nil then
    for index, inner in ipairs(value) do
      out[index] = element(item, xml_value(inner, "item"))
    end
    return table.concat(out)
  end
  for index, key in ipairs(sorted_keys(value)) do
    out[index] = element("entry", xml_value(value[key], "item"), (' name="%s"'):format(text.escape_xml(tostring(key))))
  end
  return table.concat(out)
end

local function xml_payload(delivery)
  local fields, attachments_name = fields_of(delivery)
  local out = {}
  for _, field in ipairs(fields) do
    out[#out + 1] = element(field[1], xml_value(field[2], "target"))
  end
  if #delivery.attachments > 0 and attachments_name ~= "" then
    local files = {}
    for index, attachment in ipairs(delivery.attachments) do
      files[index] = element("attachment", crypto.base64(attachment.content),
        (' name="%s" content_type="%s" encoding="base64"'):format(text.escape_xml(attachment.name),
          text.escape_xml(attachment.content_type or "application/octet-stream")))
    end
    out[#out + 1] = element(attachments_name, table.concat(files))
  end
  return '<?xml version="1.0" encoding="UTF-8"?>\n' .. element("notification", table.concat(out)) .. "\n"
end

-- Each gives the body; a table of parts for a multipart form; or nil, message, code.
local PAYLOADS = { json = json_payload, form = form_payload, xml = xml_payload }
local TYPES = {
  json = "application/json; charset=utf-8", form = "application/x-www-form-urlencoded", xml = "application/xml; charset=utf-8",
}

----------------------------------------------------------------- headers

local function is_header_name(name)
  return type(name) == "string" and name:find("^[%w!#$%%&'*+.^_`|~-]+$") ~= nil
end

-- Header names differ by more than case: a second Content-Type would be sent beside the first.
local function set_header(headers, name, value)
  for present in pairs(headers) do
    if present:lower() == name:lower() then
      headers[present] = nil
      break
    end
  end
  headers[name] = tostring(value)
end

--------------------------------------------------------------- signatures

-- "whsec_<base64> whsec_<base64>" → the keys; or nil and what is wrong. Several keys sign while one is being replaced.
local function keys_of(secret)
  local keys = {}
  for word in secret:gmatch("%S+") do
    local key = word:find("^whsec_") and crypto.unbase64(word:sub(7))
    if not key or key == "" then
      return nil, "secret: must be whsec_ and base64, several separated by spaces"
    end
    keys[#keys + 1] = key
  end
  if #keys == 0 then
    return nil, "secret: is empty"
  end
  return keys
end

local ALGORITHMS = { sha256 = crypto.hmac_sha256, sha1 = crypto.hmac_sha1 }

local function sign(delivery, headers, body)
  local account = delivery.account
  if account.secret then
    local id, timestamp = delivery.id, ("%d"):format(delivery.now // 1)
    local signatures = {}
    for index, key in ipairs(keys_of(account.secret)) do
      local signed = crypto.hmac_sha256(key, ("%s.%s.%s"):format(id, timestamp, body))
      signatures[index] = "v1," .. crypto.base64(signed)
    end
    set_header(headers, "webhook-id", id)
    set_header(headers, "webhook-timestamp", timestamp)
    set_header(headers, "webhook-signature", table.concat(signatures, " "))
  end
  local signature = account.signature
  if signature then
    local hmac = ALGORITHMS[signature.algorithm or "sha256"]
    set_header(headers, signature.header or "X-Signature",
      (signature.prefix or "") .. crypto.hex(hmac(signature.secret, body)))
  end
end

local SIGNATURE = { header = "string", secret = "string", algorithm = "string", prefix = "string" }

local function check_signature(signature)
  for name, value in pairs(signature) do
    if type(value) ~= SIGNATURE[name] then
      return nil, ("signature: %s"):format(SIGNATURE[name] and name .. " must be a string"
        or "knows header, secret, algorithm and prefix only")
    end
  end
  if not signature.secret or signature.secret == "" then
    return nil, "signature: secret is missing"
  elseif not ALGORITHMS[signature.algorithm or "sha256"] then
    return nil, "signature: algorithm must be sha256 or sha1"
  end
  return true
end

-------------------------------------------------------------------- parse

local PAYLOAD_OF = { json = "json", jsons = "json", form = "form", forms = "form", xml = "xml", xmls = "xml",
                     webhook = "json" }
local PLAIN = { json = true, form = true, xml = true }

-- A web address is called as it stands; only user and password leave it (they go into a header), and the fragment.
local function parse_web(parsed)
  local rest = parsed.text:match("^%a+://[^/?#]*([^#]*)")
  local address = parsed.scheme .. "://" .. url.host(parsed.host, parsed.port) .. url.escape(rest)
  return { url = address, user = parsed.user, password = parsed.password }, {}
end

local PREFIXES = { ["+"] = "headers", ["-"] = "query", [":"] = "fields" }

-- json(s)://[user:password@]host[:port]/path?method=PUT&+Header=…&-parameter=…&:field=…
local function parse_apprise(parsed)
  if not url.is_host(parsed.host) then
    return nil, "url: the host is not valid"
  end
  local account, message = url.arguments(parsed, {
    method = { "method", "string" }, verify = { "verify", "boolean" }, rto = { "timeout", "number" },
    cto = { "connect_timeout", "number" },
  }, "+-:")
  if not account then
    return nil, message
  end
  for _, parameter in ipairs(parsed.parameters) do
    local option = PREFIXES[parameter[1]:sub(1, 1)]
    if option then
      account[option] = account[option] or {}
      account[option][parameter[1]:sub(2)] = parameter[2]
    end
  end
  account.method = account.method and account.method:upper()
  account.payload = PAYLOAD_OF[parsed.scheme]
  account.user, account.password = parsed.user, parsed.password
  account.url = (PLAIN[parsed.scheme] and "http://" or "https://") .. url.host(parsed.host, parsed.port)
    .. url.escape(parsed.raw_path)
  return account, {}
end

------------------------------------------------------------------ request

local CREDENTIALS = { "user", "bearer", "api_key", "headers", "client_cert" }

-- Whether what proves who we are may go to this address: an account with an address of its own keeps it for that server.
local function may_know(account, address)
  if not account.url then
    return true
  end
  local own = url.parse(account.url)
  local function origin(parsed)
    return ("%s %s %d"):format(parsed.scheme, parsed.host:lower(), parsed.port or parsed.scheme == "https" and 443 or 80)
  end
  if own and origin(own) == origin(address) then
    return true
  end
  for _, name in ipairs(CREDENTIALS) do
    if account[name] then
      return false
    end
  end
  return true
end

local function with_query(address, query)
  local before, fragment = address:match("^([^#]*)(.*)$")
  return before .. (before:find("?", 1, true) and "&" or "?") .. query .. fragment
end

local function has_body(method)
  return method ~= "GET"
end

local function resolve(account, address)
  if not address then
    return nil, "no address: name one in the target or in the account's `url`", "unknown_target"
  end
  local parsed, message = url.parse(address)
  if not parsed then
    return nil, message, "invalid"
  elseif parsed.scheme ~= "https" and parsed.scheme ~= "http" then
    return nil, "url: must begin with https:// or http://", "invalid"
  elseif not may_know(account, parsed) then
    return nil, "the account's credentials are for another server than the target's", "invalid"
  end
  local own = parse_web(parsed)
  if own.user then
    return own.url, own.user, own.password
  end
  return own.url, account.user, account.password
end

-- The address and what is known about who calls it.
local function destination(delivery)
  local account = delivery.account
  return resolve(account, delivery.recipient and delivery.recipient.value or account.url)
end

-- Whether all the names are ones.
local function add_headers(headers, more)
  if more then
    for name, value in pairs(more) do
      if not is_header_name(name) then
        return false
      end
      set_header(headers, name, value)
    end
  end
  return true
end

-- Options of an account that a request has as they are.
local AS_THEY_ARE = { "method", "verify", "client_cert", "client_key", "ca_file", "proxy", "http2", "timeout", "connect_timeout" }

-- A request without a payload; or nil, message, code.
local function envelope(delivery, more_headers)
  local account = delivery.account
  local address, user, password = destination(delivery)
  if not address then
    return nil, user, password
  end
  local headers = {}
  if not (add_headers(headers, account.headers) and add_headers(headers, more_headers)) then
    return nil, "headers: a name holds a character that is not allowed there", "invalid"
  end
  if account.query and next(account.query) then
    address = with_query(address, url.query(account.query))
  end
  if account.api_key and account.api_key_in == "query" then
    address = with_query(address, url.query { [account.api_key_name] = account.api_key })
  elseif account.api_key then
    set_header(headers, account.api_key_name, account.api_key)
  end
  local request = {
    url = address, headers = headers, user = user, password = password, bearer = not user and account.bearer or nil,
  }
  for _, name in ipairs(AS_THEY_ARE) do
    request[name] = account[name]
  end
  return request
end

local common = setmetatable({}, { __mode = "k" }) -- by account: the request of all its messages; false when there is none

-- The request that all messages of an account share but for their bodies, when it sends JSON and signs nothing; else nil. Not to
-- be written to.
local function common_request(delivery)
  local account = delivery.account
  if delivery.recipient or delivery.options and delivery.options.headers then
    return nil
  end
  local shared = common[account]
  if shared == nil then
    shared = account.payload == "json" and has_body(account.method) and not account.secret and not account.signature
      and envelope(delivery) or false
    if shared then
      set_header(shared.headers, "Content-Type", TYPES.json)
    end
    common[account] = shared
  end
  return shared or nil
end

return {
  summary = "Any HTTP endpoint: JSON, form or XML",
  docs = "https://www.standardwebhooks.com",
  transport = "http",
  schemes = { "webhook", "json", "jsons", "form", "forms", "xml", "xmls", "https", "http" },
  urls = {
    "https://[user:password@]host[:port]/path?query", "http://…",
    "json://[user:password@]host[:port]/path, jsons://…", "form://…, forms://…", "xml://…, xmls://…", "webhook://…",
  },
  example = "jsons://ci.example.com/hook?+X-Tag=deploy&:environment=production",
  formats = { "text", "markdown", "html" }, -- told in the payload's `format`, so nothing is converted
  limits = { body = 1048576, title = 4096, unit = "bytes" },
  attachments = "content",
  group = false,
  recipients = { "webhook" },

  options = {
    url = { type = "string", secret = true, help = "where to send what names no address of its own" },
    method = { type = "string", one_of = { "POST", "PUT", "PATCH", "DELETE", "GET" }, default = "POST",
               help = "GET sends the fields in the query" },
    payload = { type = "string", one_of = { "json", "form", "xml" }, default = "json", help = "how the body is written" },
    headers = { type = "table", secret = true, help = "more headers, by name" },
    query = { type = "table", secret = true, help = "more query parameters, by name" },
    fields = { type = "table", help = "payload fields to add, to rename (title = \"subject\") or to remove (title = \"\")" },
    user = { type = "string", help = "for basic authentication" },
    password = { type = "string", secret = true, help = "for basic authentication" },
    bearer = { type = "string", secret = true, help = "a bearer token" },
    api_key = { type = "string", secret = true, help = "an API key" },
    api_key_name = { type = "string", default = "X-API-Key", help = "the header or query parameter of the API key" },
    api_key_in = { type = "string", one_of = { "header", "query" }, default = "header", help = "where the API key goes" },
    secret = { type = "string", secret = true, help = "signs by Standard Webhooks: whsec_…, several separated by spaces" },
    signature = { type = "table", secret = true,
                  help = "an HMAC of the body in a header: { header =, secret =, algorithm = \"sha256\", prefix = }" },
    client_cert = { type = "string", help = "file of a client certificate" },
    client_key = { type = "string", help = "file of its key" },
    ca_file = { type = "string", help = "certificates to trust instead of the system's" },
    verify = { type = "boolean", default = true, help = "verify the server's certificate" },
    proxy = { type = "string", secret = true, help = "URL of a proxy" },
    http2 = { type = "boolean", default = false, help = "HTTP/2 where the server offers it" },
    timeout = { type = "number", help = "seconds for the whole request" },
    connect_timeout = { type = "number", help = "seconds for the connection" },
  },
  message_options = {
    headers = { type = "table", help = "more headers for this message, by name" },
  },

  parse = function(parsed)
    if parsed.scheme == "https" or parsed.scheme == "http" then
      return parse_web(parsed)
    end
    return parse_apprise(parsed)
  end,

  check = function(account)
    if account.url then
      local parsed, message = url.parse(account.url)
      if not parsed then
        return nil, message
      elseif parsed.scheme ~= "https" and parsed.scheme ~= "http" then
        return nil, "url: must begin with https:// or http://"
      end
    end
    for _, name in ipairs { "headers", "query", "fields" } do
      for key, value in pairs(account[name] or {}) do
        if type(key) ~= "string" or key == "" or type(value) ~= "string" and type(value) ~= "number" then
          return nil, name .. ": must be a table of names and strings"
        elseif name == "headers" and not is_header_name(key) then
          return nil, "headers: a name holds a character that is not allowed there"
        elseif name == "fields" and value ~= "" and account.payload == "xml" then
          local ours = key == "attachments"
          for _, each in ipairs(NAMES) do
            ours = ours or each == key
          end
          if not tostring(ours and value or key):find("^[%a_][%w_.-]*$") then
            return nil, "fields: a name cannot be the name of an XML element"
          end
        end
      end
    end
    if account.secret then
      local keys, message = keys_of(account.secret)
      if not keys then
        return nil, message
      end
    end
    if account.signature then
      local ok, message = check_signature(account.signature)
      if not ok then
        return nil, message
      end
    end
    if (account.secret or account.signature) and not has_body(account.method) then
      return nil, "method: GET has no body to sign"
    end
    if account.bearer and account.user then
      return nil, "bearer: cannot be given with user"
    end
    return true
  end,

  request = function(delivery)
    local account = delivery.account
    local shared = common_request(delivery)
    if shared then
      return shared, json_payload(delivery)
    end
    local request, message, code = envelope(delivery, delivery.options and delivery.options.headers)
    if not request then
      return nil, message, code
    end
    if has_body(account.method) then
      local payload
      payload, message, code = PAYLOADS[account.payload](delivery)
      if not payload then
        return nil, message, code
      elseif type(payload) == "table" then
        request.multipart = payload
        return request
      end
      set_header(request.headers, "Content-Type", TYPES[account.payload])
      sign(delivery, request.headers, payload)
      return request, payload
    elseif #delivery.attachments > 0 then
      return nil, "attachments: GET has no body to carry them", "invalid"
    end
    request.url = with_query(request.url, url.query((form_fields(delivery))))
    return request
  end,

  response = result.http,
}
