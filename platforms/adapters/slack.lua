-- slack: messages to Slack, by an incoming webhook or, with a bot token, by chat.postMessage.
--
-- Everything that people wrote goes out with & < > escaped, so that <!channel> and <@U…> stay words. Markdown becomes
-- Slack's mrkdwn; plain text is sent with mrkdwn switched off. A message is an attachment with a bar in the colour of its
-- priority, unless it brings blocks or attachments of its own.
--
-- https://api.slack.com/messaging/webhooks
-- https://api.slack.com/methods/chat.postMessage

local json, result, url = require "json", require "result", require "url"

local COLORS = { urgent = "danger", high = "warning", normal = "good", low = "#9e9e9e" }

-- The errors of both interfaces. What is not here is `rejected`.
local CODES = {
  invalid_auth = "auth", not_authed = "auth", token_revoked = "auth", token_expired = "auth", account_inactive = "auth",
  missing_scope = "auth", no_permission = "auth", not_allowed_token_type = "auth", access_denied = "auth",
  accesslimited = "auth", ekm_access_denied = "auth", org_login_required = "auth", team_access_not_granted = "auth",
  two_factor_setup_required = "auth", enterprise_is_restricted = "auth", restricted_action = "auth",
  invalid_token = "auth", no_service = "auth", no_service_id = "auth", no_team = "auth", team_disabled = "auth",
  action_prohibited = "auth", posting_to_general_channel_denied = "auth",

  channel_not_found = "unknown_target", user_not_found = "unknown_target", users_not_found = "unknown_target",
  not_in_channel = "unknown_target", is_archived = "unknown_target", channel_is_archived = "unknown_target",
  cannot_dm_bot = "unknown_target", is_inactive = "unknown_target", user_disabled = "unknown_target",

  ratelimited = "rate_limited", rate_limited = "rate_limited", message_limit_exceeded = "rate_limited",

  msg_too_long = "too_large", msg_blocks_too_long = "too_large", too_many_attachments = "too_large",

  service_unavailable = "unavailable", internal_error = "unavailable", fatal_error = "unavailable",
  request_timeout = "unavailable", rollup_error = "unavailable", team_added_to_org = "unavailable",

  no_text = "invalid", invalid_payload = "invalid", invalid_blocks = "invalid", invalid_blocks_format = "invalid",
  invalid_arguments = "invalid", invalid_json = "invalid", invalid_attachments = "invalid",
}

------------------------------------------------------------------ mrkdwn

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }

local function escape(s)
  return (s:gsub("[&<>]", ESCAPES))
end

local function link(address, label)
  if not address:find("^https?://[^%s]") and not address:find("^mailto:[^%s]") then
    return escape(label)
  end
  address = escape((address:gsub("[|<>]", { ["|"] = "%7C", ["<"] = "%3C", [">"] = "%3E" })))
  return label == "" and "<" .. address .. ">" or "<" .. address .. "|" .. escape(label:gsub("|", "¦")) .. ">"
end

-- CommonMark's markers and Slack's, the longest first.
local MARKERS = {
  { "***", "*_", "_*" }, { "___", "*_", "_*" }, { "**", "*", "*" }, { "__", "*", "*" }, { "~~", "~", "~" },
  { "*", "_", "_" }, { "_", "_", "_" },
}

local MAX_DEPTH = 6 -- of emphasis inside emphasis; deeper markers stay as they are

-- One line's emphasis, code, links and images. A marker without a partner is looked for once: `alone` remembers it.
local function inline(s, depth)
  local out, from, alone = {}, 1, {}

  local function emphasis(at)
    for _, marker in ipairs(MARKERS) do
      local mark, open, close = marker[1], marker[2], marker[3]
      local first = at + #mark
      if s:sub(at, first - 1) == mark then
        local word = mark:sub(1, 1) == "_" -- an underscore inside of a word is a letter: snake_case
        if depth == MAX_DEPTH or alone[mark] or not s:find("^[^%s]", first)
          or (word and at > 1 and s:find("^[%w\128-\255]", at - 1)) then
          return escape(mark), first
        end
        local stop = s:find(mark, first + 1, true)
        while stop and (s:find("^%s", stop - 1) or (word and s:find("^[%w\128-\255]", stop + #mark))) do
          stop = s:find(mark, stop + #mark, true)
        end
        if not stop then
          alone[mark] = true
          return escape(mark), first
        end
        return open .. inline(s:sub(first, stop - 1), depth + 1) .. close, stop + #mark
      end
    end
  end

  local function code(at)
    local ticks = s:match("^`+", at)
    local stop = not alone[ticks] and s:find(ticks, at + #ticks, true)
    if not stop then
      alone[ticks] = true
      return ticks, at + #ticks
    end
    return "`" .. escape(s:sub(at + #ticks, stop - 1)) .. "`", stop + #ticks
  end

  local function bracket(at)
    local label, address, stop = s:match("^!?%[([^%[%]]*)%]%(<?([^%s()<>]+)>?%)()", at)
    if label then
      return link(address, (label:gsub("[*_~`]", ""))), stop
    end
    return s:sub(at, at), at + 1
  end

  while true do
    local at = s:find("[`*_~%[!<\\]", from)
    out[#out + 1] = escape(s:sub(from, (at or #s + 1) - 1))
    if not at then
      return table.concat(out)
    end
    local char = s:sub(at, at)
    local done, next_from
    if char == "`" then
      done, next_from = code(at)
    elseif char == "[" or char == "!" then
      done, next_from = bracket(at)
    elseif char == "<" then
      local address = s:match("^<(https?://[^%s<>]+)>", at)
      done, next_from = address and link(address, "") or "&lt;", at + (address and #address + 2 or 1)
    elseif char == "\\" then
      local literal = s:match("^\\(%p)", at)
      done, next_from = escape(literal or "\\"), at + (literal and 2 or 1)
    else
      done, next_from = emphasis(at)
      if not done then -- a single tilde
        done, next_from = char, at + 1
      end
    end
    out[#out + 1], from = done, next_from
  end
end

local function is_rule(line)
  local marks = line:gsub("%s", "")
  return #marks >= 3 and (marks:find("^%-+$") or marks:find("^%*+$") or marks:find("^_+$")) ~= nil
end

local function block(line)
  if is_rule(line) then
    return "———"
  end
  local heading = line:match("^%s?%s?%s?#+%s+(.-)%s*#*$")
  if heading then
    return heading == "" and "" or "*" .. inline(heading:gsub("%*%*", ""):gsub("__", ""), 1) .. "*"
  end
  local quote, rest = line:match("^(%s?%s?%s?>[> ]*)(.*)$")
  if quote then
    return "> " .. inline(rest, 0)
  end
  local indent, item = line:match("^(%s*)[-*+]%s+(.*)$")
  if indent and item ~= "" then
    return indent .. "• " .. inline(item, 0)
  end
  return inline(line, 0)
end

local function mrkdwn(source)
  local lines, fenced = {}, false
  for line in (source .. "\n"):gmatch("(.-)\r?\n") do
    if line:find("^%s?%s?%s?```") then
      fenced = not fenced
      lines[#lines + 1] = "```"
    else
      lines[#lines + 1] = fenced and escape(line) or block(line)
    end
  end
  if fenced then
    lines[#lines + 1] = "```"
  end
  return table.concat(lines, "\n")
end

------------------------------------------------------------------ payload

-- A channel or user as Slack wants it: an id as it is, a name with its sign.
local function address(recipient)
  local value = recipient.value
  if recipient.type == "user" then
    return value:find("^@?[UWD][A-Z0-9]+$") and value:gsub("^@", "") or "@" .. value:gsub("^@", "")
  end
  value = value:gsub("^[#@]", "")
  return value:find("^[CGD][A-Z0-9]+$") and #value >= 9 and value or "#" .. value
end

-- Title and body in one text, for what shows no attachment.
local function whole(delivery, title, body)
  if title == "" or body == "" then
    return title .. body
  end
  return (delivery.format == "markdown" and "*" .. title .. "*" or title) .. "\n" .. body
end

-- What the message says, else what the account does, of the options that are the payload's own fields.
local FIELDS = { "username", "icon_emoji", "icon_url", "unfurl_links", "unfurl_media", "mrkdwn", "thread_ts",
                 "reply_broadcast" }

local function payload_of(delivery)
  local options, account = delivery.options, delivery.account
  local payload = {}
  for _, name in ipairs(FIELDS) do
    payload[name] = options[name]
    if payload[name] == nil then
      payload[name] = account[name]
    end
  end
  local is_markdown = delivery.format == "markdown"
  local title = escape(delivery.title)
  local body = is_markdown and mrkdwn(delivery.body) or escape(delivery.body)
  payload.blocks, payload.attachments = options.blocks, options.attachments
  if payload.mrkdwn == nil and not is_markdown then
    payload.mrkdwn = false
  end
  if options.blocks or options.attachments or not account.color then
    payload.text = whole(delivery, title, body)
  else
    payload.attachments = { {
      color = COLORS[delivery.message.priority],
      fallback = title ~= "" and title or body,
      title = title ~= "" and title or nil,
      text = body ~= "" and body or nil,
      mrkdwn_in = payload.mrkdwn ~= false and { "text" } or nil,
    } }
  end
  return payload
end

----------------------------------------------------------------- adapter

local shared = setmetatable({}, { __mode = "k" }) -- by account: the request of all its messages, but for the body

local function request_of(account)
  local request = shared[account]
  if not request then
    request = {
      method = "POST", url = account.webhook_url or account.api_url .. "chat.postMessage", bearer = account.token,
      headers = { ["Content-Type"] = "application/json; charset=utf-8" },
      timeout = account.timeout, connect_timeout = account.connect_timeout,
      verify = account.verify, ca_file = account.ca_file, proxy = account.proxy,
    }
    shared[account] = request
  end
  return request
end

local function failure(name, response)
  return result.fail(CODES[name] or response.status == 429 and "rate_limited" or "rejected", "slack: " .. name, {
    status_code = response.status, retry_after = result.hint(response),
  })
end

return {
  summary = "Slack, by incoming webhook or bot token",
  docs = "https://api.slack.com/messaging",
  transport = "http",
  schemes = { "slack" },
  native = { "https://hooks.slack.com/services/" },
  urls = { "slack://[name@]A/B/C[/#channel][/@user][/+id]…", "slack://[name@]xoxb-…/#channel[/@user]…" },
  example = "slack://deploys@T024BE7LD/B01ABCDEF/h8Kx2pQvR7sT/#ops",
  formats = { "markdown", "text" },
  -- https://api.slack.com/apis/rate-limits: a message a second to a channel, some more in bursts; several hundred a minute to
  -- a workspace. A webhook has one channel.
  rate = { tokens = 300, per = 60, burst = 30 },
  target_rate = { tokens = 1, per = 1, burst = 10 },
  limits = { body = 35000, title = 1000, unit = "characters" },
  attachments = "none",
  group = false,
  recipients = { "channel", "user", "group" },

  options = {
    webhook_url = { type = "string", secret = true, help = "an incoming webhook; or give token" },
    token = { type = "string", secret = true, help = "a bot token (xoxb-…), for chat.postMessage" },
    api_url = { type = "string", default = "https://slack.com/api/", help = "the Web API, for GovSlack or a gateway" },
    channel = { type = "string", help = "where messages go that name nobody: #channel, an id or @user" },
    username = { type = "string", help = "the name that messages appear under" },
    icon_emoji = { type = "string", help = "an emoji as the sender's picture, :robot_face:" },
    icon_url = { type = "string", help = "an image as the sender's picture" },
    unfurl_links = { type = "boolean", help = "show previews of linked pages" },
    unfurl_media = { type = "boolean", help = "show previews of linked media" },
    mrkdwn = { type = "boolean", help = "let Slack format the text (default: for markdown only)" },
    color = { type = "boolean", default = true, help = "a bar in the colour of the priority" },
    timeout = { type = "number", help = "seconds for the whole request" },
    connect_timeout = { type = "number", help = "seconds for the connection" },
    verify = { type = "boolean", default = true, help = "verify the server's certificate" },
    ca_file = { type = "string", help = "certificates to trust instead of the system's" },
    proxy = { type = "string", secret = true, help = "URL of a proxy" },
  },
  message_options = {
    blocks = { type = "table", help = "Block Kit blocks, sent as they are; title and body become the notification's text" },
    attachments = { type = "table", help = "Slack attachments, sent as they are below title and body" },
    thread_ts = { type = "string", help = "the ts of the message to answer in its thread" },
    reply_broadcast = { type = "boolean", help = "show the answer in the channel too" },
    username = { type = "string", help = "over the account's" },
    icon_emoji = { type = "string", help = "over the account's" },
    icon_url = { type = "string", help = "over the account's" },
    unfurl_links = { type = "boolean", help = "over the account's" },
    unfurl_media = { type = "boolean", help = "over the account's" },
    mrkdwn = { type = "boolean", help = "over the account's" },
  },

  -- slack://[name@]A/B/C[/#channel][/@user][/+id]…, slack://[name@]xoxb-…/#channel…, or the webhook's own https address
  parse = function(parsed)
    if parsed.scheme == "https" then
      return { webhook_url = parsed.text }, {}
    end
    local account, message = url.arguments(parsed, {
      username = { "username", "string" }, icon_emoji = { "icon_emoji", "string" }, icon_url = { "icon_url", "string" },
      color = { "color", "boolean" }, verify = { "verify", "boolean" }, rto = { "timeout", "number" },
      cto = { "connect_timeout", "number" },
    })
    if not account then
      return nil, message
    end
    account.username = account.username or parsed.user
    local first = 1
    if parsed.host:find("^xox%a%-") then
      account.token = parsed.host
    else
      local a, b, c = parsed.host, parsed.path[1], parsed.path[2]
      if not c or (a .. b .. c):find("%W") then
        return nil, "url: must be slack://A/B/C (the parts of the webhook) or slack://xoxb-… (a bot token)"
      end
      account.webhook_url = ("https://hooks.slack.com/services/%s/%s/%s"):format(a, b, c)
      first = 3
    end
    local recipients = {}
    for index = first, #parsed.path do
      local segment = parsed.path[index]
      if segment:find(".@", 1) then
        return nil, "url: Slack knows people by id or @name, not by e-mail address"
      end
      local sign, name = segment:match("^([#@+]?)(.+)$")
      recipients[#recipients + 1] = { type = sign == "@" and "user" or "channel", value = sign == "#" and segment or name }
    end
    return account, recipients
  end,

  check = function(account)
    if (account.webhook_url == nil) == (account.token == nil) then
      return nil, account.token and "webhook_url: cannot be given with token" or "webhook_url: is missing (or give token)"
    end
    for _, name in ipairs { "webhook_url", "api_url" } do
      local parsed, message = url.parse(account[name] or "https://unset.invalid/")
      if not parsed or parsed.scheme ~= "https" and parsed.scheme ~= "http" then
        return nil, name .. ": " .. (message and message:gsub("^url: ", "") or "must be an https address")
      end
    end
    return true
  end,

  request = function(delivery)
    local account = delivery.account
    local payload = payload_of(delivery)
    if delivery.recipient then
      payload.channel = address(delivery.recipient)
    else
      payload.channel = account.channel
    end
    if account.token and not payload.channel then
      return nil, "a bot token needs a channel: name one in the target or in the account's `channel`", "unknown_target"
    end
    return request_of(account), json.encode(payload)
  end,

  response = function(response, delivery)
    if delivery.account.webhook_url then
      local word = (response.body or ""):match("^%s*([%w_]*)%s*$")
      if response.status == 200 and word == "ok" then
        return { ok = true, status_code = 200 }
      elseif word and word:find("%l") then
        return failure(word, response)
      end
      local failed = result.http(response)
      return failed.ok and result.fail("rejected", "the answer is not Slack's", { status_code = response.status }) or failed
    end
    local answer, failed = result.json(response)
    if not answer then
      return failed
    end
    if answer.ok == true then
      return { ok = true, status_code = response.status, provider_id = answer.ts }
    elseif type(answer.error) == "string" then
      return failure(answer.error:gsub("[^%w_]", "?"):sub(1, 64), response)
    end
    failed = result.http(response)
    return failed.ok and result.fail("rejected", "the answer is not Slack's", { status_code = response.status }) or failed
  end,
}
