-- dingtalk: a custom robot of a DingTalk group, as a user of NotifyHub would write it.
--
-- The whole platform is this table: what it can do as data, `request` that makes a request of a
-- message, `response` that judges the answer. Neither does any I/O; the http transport does.
--
-- https://open.dingtalk.com/document/robots/custom-robot-access

local crypto, json, result, url = require "crypto", require "json", require "result", require "url"

-- DingTalk answers 200 to what it refuses; `errcode` decides. Other codes are "rejected".
local CODES = {
  [-1] = "unavailable",       -- the system is busy
  [130101] = "rate_limited",  -- more than 20 messages a minute
  [300001] = "auth",          -- the token is not known
  [310000] = "auth",          -- signature, address or keyword do not match the robot's settings
  [400102] = "unavailable",   -- the robot is switched off
}

-- The recipients → the `at` of the payload, and what a markdown text must hold for the mentions to show.
local function mentions(delivery)
  local at = { atMobiles = json.array {}, atUserIds = json.array {}, isAtAll = delivery.options.at_all or false }
  local words = {}
  for _, recipient in ipairs(delivery.recipients) do
    local list = recipient.type == "phone" and at.atMobiles or at.atUserIds
    list[#list + 1] = recipient.value
    words[#words + 1] = "@" .. recipient.value
  end
  return at, table.concat(words, " ")
end

local function joined(separator, ...)
  local parts = {}
  for _, part in ipairs { ... } do
    if part ~= "" then parts[#parts + 1] = part end
  end
  return table.concat(parts, separator)
end

return {
  summary = "Groups of DingTalk, by a custom robot",
  docs = "https://open.dingtalk.com/document/robots/custom-robot-access",
  transport = "http",
  schemes = { "dingtalk" },
  formats = { "markdown", "text" },
  limits = { body = 20000, title = 500, unit = "bytes" },
  attachments = "none",
  group = true, -- one message mentions all recipients
  recipients = { "phone", "user" },

  options = {
    token = { type = "string", secret = true, required = true, help = "the access token of the robot's address" },
    secret = { type = "string", secret = true, help = "the robot's signing key, SEC…" },
    base_url = { type = "string", default = "https://oapi.dingtalk.com/robot/send", help = "for a private installation" },
  },
  message_options = {
    at_all = { type = "boolean", help = "mention everyone in the group" },
  },

  -- dingtalk://[secret@]token[/phone]…
  parse = function(parsed)
    local recipients = {}
    for index, phone in ipairs(parsed.path) do
      recipients[index] = { type = "phone", value = phone }
    end
    return { token = parsed.host, secret = parsed.user }, recipients
  end,

  request = function(delivery)
    local account = delivery.account
    local query = { { "access_token", account.token } }
    if account.secret then
      local timestamp = ("%d"):format(delivery.now * 1000 // 1) -- milliseconds
      local signed = crypto.hmac_sha256(account.secret, timestamp .. "\n" .. account.secret)
      query[2], query[3] = { "timestamp", timestamp }, { "sign", crypto.base64(signed) }
    end

    local at, words = mentions(delivery)
    local payload
    if delivery.format == "markdown" then
      local title = delivery.title ~= "" and delivery.title or delivery.body:match "[^\n]*"
      local heading = delivery.title ~= "" and "### " .. delivery.title or ""
      payload = { msgtype = "markdown", at = at,
                  markdown = { title = title, text = joined("\n\n", heading, delivery.body, words) } }
    else
      payload = { msgtype = "text", at = at, text = { content = joined("\n", delivery.title, delivery.body, words) } }
    end
    return {
      method = "POST",
      url = account.base_url .. "?" .. url.query(query), -- percent-encodes the signature
      headers = { ["Content-Type"] = "application/json; charset=utf-8" },
      body = json.encode(payload),
    }
  end,

  response = function(response)
    local answer, failed = result.json(response)
    if not answer then return failed end
    if answer.errcode == 0 then return { ok = true, status_code = response.status } end
    return result.fail(CODES[answer.errcode] or "rejected",
      ("dingtalk %s: %s"):format(answer.errcode, answer.errmsg), { status_code = response.status })
  end,
}
