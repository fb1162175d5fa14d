-- email: mail through an SMTP server. One mail tells all recipients of a message, or each gets one of their own
-- (`individual`). Text and HTML go out as alternatives; MIME, encoded words and folding are the transport's.
--
-- Header values (lib/mail) are refused when they hold a control character, so that the error names the field; the runtime
-- refuses them once more, whatever an adapter does.
--
-- https://www.rfc-editor.org/rfc/rfc5322, rfc8058 (one-click unsubscribe), rfc3464 (DSN)

local addresses, mail, markdown, result = require "address", require "mail", require "markdown", require "result"
local text, url = require "text", require "url"

-- Servers of well-known providers, by name; `domains` are those of their users' addresses.
local PROVIDERS = {
  gmail = { host = "smtp.gmail.com", port = 587, domains = { "gmail.com", "googlemail.com" } },
  outlook = { host = "smtp-mail.outlook.com", port = 587,
              domains = { "outlook.com", "hotmail.com", "live.com", "msn.com" } },
  office365 = { host = "smtp.office365.com", port = 587, domains = {} },
  sendgrid = { host = "smtp.sendgrid.net", port = 587, user = "apikey", domains = {} },
  qq = { host = "smtp.qq.com", port = 587, domains = { "qq.com", "foxmail.com" } },
  yahoo = { host = "smtp.mail.yahoo.com", port = 587, domains = { "yahoo.com", "ymail.com" } },
  zoho = { host = "smtp.zoho.com", port = 587, domains = { "zoho.com" } },
  mxhichina = { host = "smtp.mxhichina.com", port = 587, domains = {} },
  exmail = { host = "smtp.exmail.qq.com", port = 587, domains = {} },
  ["163"] = { host = "smtp.163.com", port = 25, domains = { "163.com" } },
  ["126"] = { host = "smtp.126.com", port = 25, domains = { "126.com" } },
  yeah = { host = "smtp.yeah.net", port = 25, domains = { "yeah.net" } },
  sina = { host = "smtp.sina.com", port = 25, domains = { "sina.com", "sina.cn" } },
  sohu = { host = "smtp.sohu.com", port = 25, domains = { "sohu.com" } },
  protonmail = { host = "127.0.0.1", port = 1025, domains = {} }, -- ProtonMail Bridge
}

local PROVIDER_NAMES, PROVIDER_OF = {}, {}
for name, provider in pairs(PROVIDERS) do
  PROVIDER_NAMES[#PROVIDER_NAMES + 1] = name
  for _, domain in ipairs(provider.domains) do
    PROVIDER_OF[domain] = provider
  end
end
table.sort(PROVIDER_NAMES)

--------------------------------------------------------------- addresses

local function matches(domain, list)
  for _, each in ipairs(list or {}) do
    each = each:lower()
    if domain == each or domain:sub(-#each - 1) == "." .. each then
      return true
    end
  end
  return false
end

-- nil when mail may go to this address, else why not.
local function refusal(account, address)
  if not (account.blocked_domains or account.allowed_domains) then
    return nil
  end
  local domain = addresses.domain(address)
  if matches(domain, account.blocked_domains) then
    return "the domain " .. domain .. " is blocked"
  elseif account.allowed_domains and not matches(domain, account.allowed_domains) then
    return "the domain " .. domain .. " is not allowed"
  end
end

-- Each recipient of the delivery in order: { address =, name =, refused = result or nil }.
local function addressed(delivery)
  local account, recipients = delivery.account, delivery.recipients
  if #recipients == 0 then
    recipients = {}
    for index, value in ipairs(account.to or {}) do
      recipients[index] = { type = "email", value = value }
    end
  end
  local list = {}
  for index = 1, #recipients do
    local entry, message = addresses.parse(recipients[index].value, "recipient")
    if not entry then
      list[index] = { refused = result.fail("invalid", message) }
    else
      local reason = refusal(account, entry.address)
      entry.refused = reason and result.fail("rejected", reason) or nil
      list[index] = entry
    end
  end
  return list
end

-- Every address once, in the order of To, Cc and Bcc: what the server's replies answer to.
local function envelope_of(to, copied)
  local envelope, seen = {}, {}
  for _, entries in ipairs { to, copied.cc, copied.bcc } do
    for _, entry in ipairs(entries) do
      local key = entry.address and entry.address:lower()
      if key and not entry.refused and not seen[key] then
        envelope[#envelope + 1] = entry.address
        seen[key] = #envelope
      end
    end
  end
  return envelope, seen
end

local NO_COPIES = { cc = {}, bcc = {} } -- read only

-- Why a mail goes to nobody: the first refusal, when there is nothing else.
local function refused_all(to)
  for _, entry in ipairs(to) do
    if not entry.refused then
      return nil
    end
  end
  return to[1] and to[1].refused
end

-- Cc and Bcc of the account and of the message; or nil, message, code.
local function copies(delivery)
  local account, options = delivery.account, delivery.options
  if not (account.cc or account.bcc or options.cc or options.bcc) then
    return NO_COPIES
  end
  local all = {}
  for _, name in ipairs { "cc", "bcc" } do
    local list = {}
    for _, source in ipairs { account[name] or {}, options[name] or {} } do
      for _, value in ipairs(source) do
        list[#list + 1] = value
      end
    end
    if #list > 0 and account.individual then
      return nil, name .. ": cannot be combined with individual mails", "invalid"
    end
    local entries, message = addresses.parse_list(list, name)
    if not entries then
      return nil, message, "invalid"
    end
    for _, entry in ipairs(entries) do
      local reason = refusal(account, entry.address)
      if reason then
        return nil, name .. ": " .. reason, "rejected"
      end
    end
    all[name] = entries
  end
  return all
end

------------------------------------------------------------------ server

local SECURITY_OF_PORT = { [465] = "tls" }

-- Host, port, security and user, from the account, its provider or the domain of its user.
local function server_of(account)
  local provider = account.provider and PROVIDERS[account.provider]
  if not provider and not account.host then
    for _, address in ipairs { account.user or "", account.from or "" } do
      provider = provider or PROVIDER_OF[(address:match("@([^@>]+)>?$") or ""):lower()]
    end
  end
  provider = provider or {}
  local port = account.port
  if not port then
    port = account.security == "tls" and 465 or not account.host and provider.port or 587
  end
  return {
    host = account.host or provider.host,
    port = port,
    security = account.security or SECURITY_OF_PORT[port] or "starttls",
    user = account.user or account.password and provider.user or nil,
  }
end

-- { address =, name = }; or nil and what is wrong.
local function sender_of(account)
  local from = account.from or account.user
  local entry, message = addresses.parse(from or "", "from")
  if not entry then
    return nil, from and message or "from: is missing"
  end
  entry.name = account.from_name or entry.name
  return entry
end

local known = setmetatable({}, { __mode = "k" }) -- by account: what all its mails have in common

-- { server =, sender = what lib/mail makes of it, bounces = where they go }; or nil, message, code.
local function common_of(account)
  local common = known[account]
  if common then
    return common
  end
  local sender, message = sender_of(account)
  if not sender then
    return nil, message, "config"
  end
  common = { server = server_of(account) }
  local code
  common.sender, message, code = mail.sender(sender)
  if not common.sender then
    return nil, message, code
  end
  local bounces = account.return_path and addresses.parse(account.return_path, "return_path")
  common.bounces = (bounces or sender).address
  known[account] = common
  return common
end

---------------------------------------------------------------- contents

local PAGE = '<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head><body>\n%s</body></html>\n'

-- The text and, for what is formatted, the HTML beside it.
local function contents_of(delivery)
  local body, own = delivery.body, delivery.options.text
  if delivery.format == "markdown" then
    return own or body, (PAGE:gsub("%%s", function() return markdown.to_html(body) end))
  elseif delivery.format == "html" then
    return own or text.strip_html(body), body
  end
  return own or body
end

----------------------------------------------------------------- answers

-- Whether the server has taken the mail for everybody.
local function took_all(status, replies)
  for _, reply in ipairs(replies) do
    if reply.code < 200 or reply.code >= 300 then
      return false
    end
  end
  return status >= 200 and status < 300
end

----------------------------------------------------------------- adapter

local MODES = { ssl = "tls", tls = "tls", starttls = "starttls", insecure = "none", none = "none" }

return {
  summary = "E-mail by SMTP",
  docs = "https://www.rfc-editor.org/rfc/rfc5321",
  transport = "smtp",
  schemes = { "mailto", "mailtos" },
  urls = {
    "mailto://user:password@provider", "mailto://[user:password@]host[:port]/to@example.com/…?from=me@example.com",
    "mailtos://[user:password@]host[:port]/to@example.com/…",
  },
  example = "mailtos://me:password@smtp.example.com/joe@example.com?from=me@example.com",
  formats = { "html", "markdown", "text" },
  limits = { body = 5242880, title = 2000, unit = "bytes" },
  attachments = "path",
  group = function(account) return not account.individual end,
  recipients = { "email" },

  options = {
    provider = { type = "string", one_of = PROVIDER_NAMES, help = "a well-known server" },
    host = { type = "string", help = "the server (default: the provider's, or that of the user's domain)" },
    port = { type = "integer", help = "default 587, or 465 with security = \"tls\"" },
    security = { type = "string", one_of = { "starttls", "tls", "none" },
                 help = "default: tls on port 465, else starttls, which is required and not merely tried" },
    auth = { type = "string", one_of = { "plain", "login", "cram-md5", "xoauth2", "none" },
             help = "default: plain when there is a user" },
    user = { type = "string", help = "the name to log in with" },
    password = { type = "string", secret = true, help = "the password, or for xoauth2 the access token" },
    from = { type = "string", help = "the sender's address (default: the user)" },
    from_name = { type = "string", help = "the sender's name" },
    reply_to = { type = "string", help = "where answers go" },
    return_path = { type = "string", help = "where bounces go (default: from)" },
    to = { type = "list", help = "who gets what names no recipient" },
    cc = { type = "list", help = "copies of every mail" },
    bcc = { type = "list", help = "blind copies of every mail" },
    individual = { type = "boolean", default = false, help = "a mail of their own for each recipient" },
    headers = { type = "table", help = "more headers, by name" },
    list_unsubscribe = { type = "list", help = "https:// and mailto: addresses of List-Unsubscribe" },
    list_unsubscribe_post = { type = "boolean", help = "offer one-click unsubscription (RFC 8058)" },
    allowed_domains = { type = "list", help = "mail goes to these domains and their subdomains only" },
    blocked_domains = { type = "list", help = "mail never goes to these domains and their subdomains" },
    dsn = { type = "list", help = "delivery status notifications: never, or success, failure, delay" },
    hello = { type = "string", help = "the name to greet the server with" },
    verify = { type = "boolean", default = true, help = "verify the server's certificate" },
    ca_file = { type = "string", help = "certificates to trust instead of the system's" },
    timeout = { type = "number", help = "seconds for the whole mail" },
    connect_timeout = { type = "number", help = "seconds for the connection" },
  },
  message_options = {
    cc = { type = "list", help = "copies, besides the account's" },
    bcc = { type = "list", help = "blind copies, besides the account's" },
    reply_to = { type = "string", help = "over the account's" },
    subject = { type = "string", help = "instead of the title" },
    text = { type = "string", help = "the text alternative, instead of one made from the body" },
    headers = { type = "table", help = "more headers, by name" },
    list_unsubscribe = { type = "list", help = "over the account's" },
    list_unsubscribe_post = { type = "boolean", help = "over the account's" },
  },

  -- mailto(s)://[user[:password]@]host[:port][/recipient]…?smtp=&from=&name=&to=&cc=&bcc=&reply=&user=&pass=&mode=
  parse = function(parsed)
    local account, message = url.arguments(parsed, {
      smtp = { "host", "string" }, from = { "from", "string" }, name = { "from_name", "string" },
      to = { "to", "list" }, cc = { "cc", "list" }, bcc = { "bcc", "list" }, reply = { "reply_to", "string" },
      user = { "user", "string" }, pass = { "password", "string" }, mode = { "security", "string" },
      auth = { "auth", "string" }, verify = { "verify", "boolean" }, rto = { "timeout", "number" },
      cto = { "connect_timeout", "number" }, individual = { "individual", "boolean" },
    })
    if not account then
      return nil, message
    elseif not url.is_host(parsed.host) then
      return nil, "url: the host is not valid"
    end
    local mode = account.security
    account.security = mode and MODES[mode:lower()]
    if mode and not account.security then
      return nil, "url: mode must be ssl, starttls or insecure"
    end
    -- The user of a provider we know logs in with the whole address; elsewhere as it is written.
    local provider, login = PROVIDER_OF[parsed.host:lower()], parsed.user
    local address = login and (login:find("@", 1, true) and login or login .. "@" .. parsed.host)
    account.user = account.user or provider and address or login
    account.password = account.password or parsed.password
    account.from = account.from or address
    if provider and not account.host then
      account.host, account.port = provider.host, parsed.port or account.security == "tls" and 465 or provider.port
    else
      account.host = account.host or parsed.host
      account.port = parsed.port or account.security == "tls" and 465 or parsed.scheme == "mailtos" and 587 or 25
    end
    local recipients = {}
    for index, segment in ipairs(parsed.path) do
      recipients[index] = { type = "email", value = segment }
    end
    for _, value in ipairs(account.to or {}) do
      recipients[#recipients + 1] = { type = "email", value = value }
    end
    account.to = nil
    for index, recipient in ipairs(recipients) do
      if not recipient.value:find("@", 1, true) then
        return nil, ("url: recipient %d lacks its @: write %s://server/joe@example.com"):format(index, parsed.scheme)
      end
    end
    if not account.from then
      return nil, "url: names no sender: write " .. parsed.scheme .. "://…?from=me@example.com"
    end
    if #recipients == 0 then
      recipients[1] = { type = "email", value = account.from } -- a note to oneself
    end
    return account, recipients
  end,

  check = function(account)
    local server = server_of(account)
    if not server.host then
      return nil, "host: is missing, and no provider is known for the user's domain"
    elseif not url.is_host(server.host) then
      return nil, "host: is not valid"
    elseif server.port < 1 or server.port > 65535 then
      return nil, "port: must be from 1 to 65535"
    elseif account.auth and account.auth ~= "none" and not (server.user and account.password) then
      return nil, "auth: needs user and password"
    elseif account.password and not server.user then
      return nil, "user: is missing"
    end
    local sender, message = sender_of(account)
    if not sender then
      return nil, message
    end
    for _, name in ipairs { "reply_to", "return_path" } do
      if account[name] then
        local entry
        entry, message = addresses.parse(account[name], name)
        if not entry then
          return nil, message
        end
      end
    end
    for _, name in ipairs { "to", "cc", "bcc" } do
      local entries
      entries, message = addresses.parse_list(account[name], name)
      if not entries then
        return nil, message
      elseif name ~= "to" and #entries > 0 and account.individual then
        return nil, name .. ": cannot be combined with individual mails"
      end
    end
    if account.headers then
      local ok
      ok, message = mail.add({}, account.headers)
      if not ok then
        return nil, message
      end
    end
    if account.list_unsubscribe or account.list_unsubscribe_post then
      local value
      value, message = mail.unsubscribe(account.list_unsubscribe or {}, account.list_unsubscribe_post)
      if not value then
        return nil, message
      end
    end
    local never, count = false, #(account.dsn or {})
    for _, when in ipairs(account.dsn or {}) do
      never = never or when == "never"
      if when ~= "never" and when ~= "success" and when ~= "failure" and when ~= "delay" then
        return nil, "dsn: knows never, success, failure and delay only"
      end
    end
    if never and count > 1 then
      return nil, "dsn: never stands alone"
    end
    return true
  end,

  request = function(delivery)
    local account = delivery.account
    local common, message, code = common_of(account)
    if not common then
      return nil, message, code
    end
    local to = addressed(delivery)
    local copied
    copied, message, code = copies(delivery)
    if not copied then
      return nil, message, code
    end
    if #to == 0 and #copied.cc + #copied.bcc == 0 then
      return nil, "no recipient: name one in the target or in the account's `to`", "unknown_target"
    end
    local refused = refused_all(to)
    if refused then
      return nil, refused.error, refused.code
    end
    local headers
    headers, message, code = mail.header(delivery, common.sender, to, copied.cc)
    if not headers then
      return nil, message, code
    end
    local plain, html = contents_of(delivery)
    local server = common.server
    return {
      host = server.host, port = server.port, security = server.security,
      auth = account.auth or server.user and account.password and "plain" or "none",
      user = server.user, password = account.password,
      from = common.bounces,
      recipients = #to == 1 and copied == NO_COPIES and { to[1].address } or (envelope_of(to, copied)),
      headers = headers, text = plain, html = html, attachments = delivery.attachments,
      dsn = account.dsn, hello = account.hello, verify = account.verify, ca_file = account.ca_file,
      timeout = account.timeout, connect_timeout = account.connect_timeout,
    }
  end,

  -- Each recipient's own reply decides; the mail as a whole was taken only when the server said so at the end.
  response = function(response, delivery)
    local replies, results = response.replies or {}, {}
    local status, said = response.status or 0, response.text or ""
    local queue_id = said:find("ueued as ", 1, true) and said:match("[Qq]ueued as ([%w._-]+)")
    local provider_id = queue_id or mail.id(delivery, common_of(delivery.account).sender)
    if #delivery.recipients == 1 and took_all(status, replies) then
      return result.smtp(status, said, provider_id)
    end
    local to, copied = addressed(delivery), copies(delivery)
    local _, place = envelope_of(to, copied)

    local function of(entry)
      if entry.refused then
        return entry.refused
      end
      local reply = replies[place[entry.address:lower()]]
      if reply and (reply.code < 200 or reply.code >= 300) then
        return result.smtp(reply.code, reply.text)
      end
      return result.smtp(status, said, provider_id)
    end

    for index, entry in ipairs(to) do
      results[index] = of(entry)
    end
    if #to == 0 then
      results[1] = result.smtp(status, said, provider_id)
    end
    -- A copy that was refused has no result of its own; who asked for it is told all the same.
    for _, entries in ipairs { copied.cc, copied.bcc } do
      for _, entry in ipairs(entries) do
        local copy = of(entry)
        if not copy.ok and results[1].ok then
          results[1].warning = ("copy to %s: %s"):format(entry.address, copy.error)
        end
      end
    end
    if #delivery.recipients > 1 and not delivery.account.individual then
      return results
    elseif #results == 1 then
      return results[1]
    end
    -- The account's default recipients are one delivery: it has succeeded when all of them have it.
    for _, each in ipairs(results) do
      if not each.ok then
        return each
      end
    end
    return results[1]
  end,
}
