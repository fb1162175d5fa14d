-- feishu: a custom bot of a Feishu group, by its incoming webhook. Lark (lark.lua) is the same platform at another host.
--
-- A message in text goes out as a text, one in markdown as an interactive card whose header has the colour of the priority;
-- a rich text ("post") on request. A person's own `card` or `post` is sent as it is. The answer's business code decides:
-- Feishu answers 200 to refused messages.
--
-- https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot

local crypto, json, result, text, url = require "crypto", require "json", require "result", require "text", require "url"

local MAX_REQUEST = 20 * 1024 -- bytes of the whole request

local COLOURS = { urgent = "red", high = "orange", normal = "blue", low = "grey" }

local EVERYONE = { zh_cn = "所有人", en_us = "Everyone", ja_jp = "全員" }

-- Business codes: https://open.feishu.cn/document/server-docs/api-call-guide/generic-error-code and the page above.
local CODES = {
  [9499] = "invalid",           -- bad request
  [11232] = "rate_limited",     -- 5 a second, 100 a minute
  [11233] = "rate_limited",
  [99991400] = "rate_limited",
  [19001] = "auth",             -- the token is not known
  [19021] = "auth",             -- the signature does not match, or the clock is off by more than an hour
  [19022] = "auth",             -- the address is not on the bot's allow-list
  [19002] = "invalid",          -- a parameter
  [19024] = "rejected",         -- no keyword in the message
}

--------------------------------------------------------------- mentions

-- The recipients and the mentions of a message → ids without "@", "all" for everyone; or nil, message, code.
local function mentioned(delivery)
  local ids, seen = {}, {}
  local function add(id)
    id = id:gsub("^@", "")
    if not id:find("^[%w_-]+$") then
      return nil, "mentions: a user must be \"all\" or an open_id or user_id", "invalid"
    end
    if not seen[id] then
      ids[#ids + 1], seen[id] = id, true
    end
    return true
  end
  for _, recipient in ipairs(delivery.recipients) do
    if recipient.type == "group" and recipient.value:gsub("^@", "") ~= "all" then
      return nil, "a bot writes to its own group only; of groups it can address @all", "unknown_target"
    end
    local ok, message, code = add(recipient.value)
    if not ok then
      return nil, message, code
    end
  end
  for _, id in ipairs(delivery.options.mentions or {}) do
    local ok, message, code = add(id)
    if not ok then
      return nil, message, code
    end
  end
  return ids
end

local function card_mentions(ids)
  local tags = {}
  for index, id in ipairs(ids) do
    tags[index] = ("<at id=%s></at>"):format(id)
  end
  return { tag = "markdown", content = table.concat(tags, " ") }
end

local function post_mentions(ids)
  local nodes = {}
  for index, id in ipairs(ids) do
    nodes[index] = { tag = "at", user_id = id }
  end
  return nodes
end

local function text_mentions(ids, locale)
  local tags = {}
  for index, id in ipairs(ids) do
    tags[index] = ('<at user_id="%s">%s</at>'):format(id, id == "all" and (EVERYONE[locale] or EVERYONE.en_us) or "")
  end
  return table.concat(tags, " ")
end

--------------------------------------------------------------- keywords

local function holds(value, word)
  if type(value) == "string" then
    return value:find(word, 1, true) ~= nil
  elseif type(value) == "table" then
    for _, inner in pairs(value) do
      if holds(inner, word) then
        return true
      end
    end
  end
  return false
end

-- The keyword that must be added so that the bot accepts this content: the first one when none is there, else nil.
local function missing_keyword(delivery, ...)
  local keywords = delivery.account.keywords or {}
  for _, word in ipairs(keywords) do
    for _, value in ipairs { ... } do
      if holds(value, word) then
        return nil
      end
    end
  end
  return keywords[1]
end

local function prepend(word, s)
  return not word and s or s == "" and word or word .. " " .. s
end

---------------------------------------------------------------- contents

-- Text messages know tags and no escape for them: an invisible character after "<" makes what only looks like one inert.
local function inert(s)
  return (s:gsub("<(/?[aA][tT]%f[^%w])", "<\u{200B}%1"))
end

-- CommonMark → what a card's markdown element shows: headings bold, images as links (a card takes no image by address),
-- everything that could be a tag of Feishu's own (<at>, <font> …) literal.
local function card_markdown(source)
  local lines, fenced = {}, false
  for line in (source .. "\n"):gmatch("(.-)\r?\n") do
    local fence = line:find("^%s?%s?%s?```")
    if not fenced and not fence then
      line = line:gsub("<(https?://[^%s<>]+)>", "[%1](%1)"):gsub("!%[", "[")
      line = line:gsub("^%s?%s?%s?#+%s+(.-)%s*#*$", function(heading)
        return heading == "" and "" or "**" .. heading:gsub("%*%*", "") .. "**"
      end)
    end
    fenced = fenced ~= (fence ~= nil)
    lines[#lines + 1] = line:gsub("<", "&#60;")
  end
  return table.concat(lines, "\n")
end

-- Markdown or text → the lines of a rich text, each a list of nodes; links stay links.
local function post_lines(source, format)
  local lines = {}
  for line in (source .. "\n"):gmatch("(.-)\r?\n") do
    local nodes, from = {}, 1
    local function put(s)
      if format == "markdown" then
        s = s:gsub("^%s?%s?%s?#+%s+", ""):gsub("%*%*", ""):gsub("`", "")
      end
      if s ~= "" then
        nodes[#nodes + 1] = { tag = "text", text = s }
      end
    end
    while format == "markdown" do
      local open, stop, label, address = line:find("%[([^%[%]]+)%]%((https?://[^%s()]+)%)", from)
      if not open then
        break
      end
      put(line:sub(from, open - 1))
      nodes[#nodes + 1] = { tag = "a", text = label, href = address }
      from = stop + 1
    end
    put(line:sub(from))
    if #nodes == 0 then
      nodes[1] = { tag = "text", text = "" }
    end
    lines[#lines + 1] = nodes
  end
  return lines
end

local function copy(original)
  local fresh = {}
  for key, value in pairs(original) do
    fresh[key] = value
  end
  return fresh
end

-- A person's own card, with the mentions and the keyword that it has to carry. Cards of version 2 keep their elements in `body`.
local function own_card(delivery, ids)
  local card = copy(delivery.options.card)
  local keyword = missing_keyword(delivery, card)
  if #ids == 0 and not keyword then
    return card
  end
  local holder = card
  if type(card.elements) ~= "table" then
    if type(card.body) ~= "table" or type(card.body.elements) ~= "table" then
      return nil, "card: mentions and keywords need a card with a list `elements`", "invalid"
    end
    card.body = copy(card.body)
    holder = card.body
  end
  holder.elements = copy(holder.elements)
  if #ids > 0 then
    table.insert(holder.elements, card_mentions(ids))
  end
  if keyword then
    local title = type(card.header) == "table" and card.header.title
    if type(title) == "table" and type(title.content) == "string" then
      card.header, title = copy(card.header), copy(title)
      card.header.title, title.content = title, prepend(keyword, title.content)
    else
      table.insert(holder.elements, 1, { tag = "markdown", content = keyword })
    end
  end
  return card
end

local function own_post(delivery, ids)
  local keyword = missing_keyword(delivery, delivery.options.post)
  local post = {}
  for locale, part in pairs(delivery.options.post) do
    if type(part) ~= "table" or type(part.content) ~= "table" then
      return nil, "post: must be { zh_cn = { title =, content = { { node, … }, … } } }", "invalid"
    end
    part = copy(part)
    if keyword then
      part.title = prepend(keyword, part.title or "")
    end
    if #ids > 0 then
      part.content = copy(part.content)
      table.insert(part.content, post_mentions(ids))
    end
    post[locale] = part
  end
  return post
end

local CONTENTS = {}

function CONTENTS.text(delivery, ids)
  local words = delivery.title
  if delivery.body ~= "" then
    words = (words ~= "" and words .. "\n" or "") .. delivery.body
  end
  words = prepend(missing_keyword(delivery, words), inert(words))
  if #ids > 0 then
    words = words .. "\n" .. text_mentions(ids, delivery.account.locale)
  end
  return { msg_type = "text", content = { text = words } }
end

function CONTENTS.post(delivery, ids)
  if delivery.options.post then
    local post, message, code = own_post(delivery, ids)
    return post and { msg_type = "post", content = { post = post } }, message, code
  end
  local keyword = missing_keyword(delivery, delivery.title, delivery.body)
  local lines = delivery.body ~= "" and post_lines(delivery.body, delivery.format) or {}
  if #ids > 0 then
    lines[#lines + 1] = post_mentions(ids)
  end
  if #lines == 0 then
    lines[1] = { { tag = "text", text = "" } }
  end
  local part = { title = prepend(keyword, delivery.title), content = lines }
  return { msg_type = "post", content = { post = { [delivery.account.locale] = part } } }
end

function CONTENTS.card(delivery, ids)
  if delivery.options.card then
    local card, message, code = own_card(delivery, ids)
    return card and { msg_type = "interactive", card = card }, message, code
  end
  local title, body = delivery.title, delivery.body
  local keyword = missing_keyword(delivery, title, body)
  if keyword and title == "" then
    body = prepend(keyword, body)
  else
    title = prepend(keyword, title)
  end
  local card = { config = { wide_screen_mode = true }, elements = {} }
  if title ~= "" then
    card.header = { title = { tag = "plain_text", content = title }, template = COLOURS[delivery.message.priority] }
  end
  if body ~= "" and delivery.format == "markdown" then
    card.elements[1] = { tag = "markdown", content = card_markdown(body) }
  else
    card.elements[1] = { tag = "div", text = { tag = "plain_text", content = body ~= "" and body or title } }
  end
  if #ids > 0 then
    card.elements[2] = card_mentions(ids)
  end
  return { msg_type = "interactive", card = card }
end

-- What the message asks for, else what the account does, else what suits the format.
local function style_of(delivery)
  local options = delivery.options
  if options.card or options.post then
    return options.card and "card" or "post"
  end
  local style = options.style or delivery.account.style
  if style == "auto" then
    style = delivery.format == "markdown" and delivery.body ~= "" and "card" or "text"
  end
  return style
end

----------------------------------------------------------------- adapter

local shared = setmetatable({}, { __mode = "k" }) -- by account: the request of all its messages, but for the body

local function request_of(account)
  local request = shared[account]
  if not request then
    request = {
      method = "POST", url = account.webhook_url or account.base_url .. account.token,
      headers = { ["Content-Type"] = "application/json; charset=utf-8" },
      timeout = account.timeout, connect_timeout = account.connect_timeout,
      verify = account.verify, ca_file = account.ca_file, proxy = account.proxy,
    }
    shared[account] = request
  end
  return request
end

return {
  summary = "Groups of Feishu, by a custom bot",
  docs = "https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot",
  transport = "http",
  schemes = { "feishu" },
  native = { "https://open.feishu.cn/open-apis/bot/v2/hook/" },
  urls = { "feishu://[secret@]token[/@all][/@user]…" },
  example = "feishu://8f3c2d1e-0000-4b5a-9c7d-1a2b3c4d5e6f/@all",
  formats = { "markdown", "text" },
  rate = { tokens = 100, per = 60, burst = 5 }, -- a custom bot: 100 a minute, 5 a second
  limits = { body = 19000, title = 1000, unit = "bytes" },
  attachments = "none",
  group = true, -- one message to the group mentions them all
  recipients = { "user", "group" },

  options = {
    webhook_url = { type = "string", secret = true, help = "the bot's webhook address; or give its token" },
    token = { type = "string", secret = true, help = "the last part of the bot's webhook address" },
    base_url = { type = "string", default = "https://open.feishu.cn/open-apis/bot/v2/hook/",
                 help = "what stands before the token, for a private installation" },
    secret = { type = "string", secret = true, help = "the bot's signing key" },
    keywords = { type = "list", help = "the bot's keywords; the first is put before a message that holds none" },
    style = { type = "string", one_of = { "auto", "text", "post", "card" }, default = "auto",
              help = "auto: a card for markdown, else a text" },
    locale = { type = "string", default = "zh_cn", help = "the language under which a post is filed" },
    timeout = { type = "number", help = "seconds for the whole request" },
    connect_timeout = { type = "number", help = "seconds for the connection" },
    verify = { type = "boolean", default = true, help = "verify the server's certificate" },
    ca_file = { type = "string", help = "certificates to trust instead of the system's" },
    proxy = { type = "string", secret = true, help = "URL of a proxy" },
  },
  message_options = {
    style = { type = "string", one_of = { "text", "post", "card" }, help = "over the account's" },
    mentions = { type = "list", help = "\"all\", open_ids or user_ids to mention" },
    card = { type = "table", help = "a whole card, sent instead of title and body" },
    post = { type = "table", help = "a whole rich text by locale, sent instead of title and body" },
  },

  -- feishu://[secret@]token[/@all][/@user]…?keywords=a,b&style=post, or the bot's own https address
  parse = function(parsed)
    if parsed.scheme == "https" then
      return { webhook_url = parsed.text }, {}
    end
    local account, message = url.arguments(parsed, {
      keywords = { "keywords", "list" }, style = { "style", "string" }, locale = { "locale", "string" },
      rto = { "timeout", "number" }, cto = { "connect_timeout", "number" }, verify = { "verify", "boolean" },
    })
    if not account then
      return nil, message
    end
    if parsed.host == "" then
      return nil, "url: must be " .. parsed.scheme .. "://token"
    end
    account.token, account.secret = parsed.host, parsed.user
    local recipients = {}
    for index, segment in ipairs(parsed.path) do
      recipients[index] = { type = "user", value = segment }
    end
    return account, recipients
  end,

  check = function(account)
    if not account.webhook_url and not account.token then
      return nil, "webhook_url: is missing (or give token)"
    end
    if account.token and not account.token:find("^[%w_-]+$") then
      return nil, "token: may hold letters, digits, - and _ only"
    end
    for _, name in ipairs { "webhook_url", "base_url" } do
      local parsed, message = url.parse(account[name] or "https://unset.invalid/")
      if not parsed or parsed.scheme ~= "https" and parsed.scheme ~= "http" then
        return nil, name .. ": " .. (message and message:gsub("^url: ", "") or "must be an https address")
      end
    end
    return true
  end,

  request = function(delivery)
    local account = delivery.account
    local ids, message, code = mentioned(delivery)
    if not ids then
      return nil, message, code
    end
    local payload
    payload, message, code = CONTENTS[style_of(delivery)](delivery, ids)
    if not payload then
      return nil, message, code
    end
    if account.secret then
      payload.timestamp = ("%d"):format(delivery.now // 1)
      payload.sign = crypto.base64(crypto.hmac_sha256(payload.timestamp .. "\n" .. account.secret, ""))
    end
    local body = json.encode(payload)
    if #body > MAX_REQUEST then
      return nil, ("the request has %d bytes, %d are allowed"):format(#body, MAX_REQUEST), "too_large"
    end
    return request_of(account), body
  end,

  response = function(response)
    local answer, failed = result.json(response)
    if not answer then
      return failed
    end
    local code = answer.code or answer.StatusCode
    local status = response.status
    if code == 0 and status >= 200 and status < 300 then
      return { ok = true, status_code = status }
    end
    if code == nil or code == 0 or (status >= 500 and not CODES[code]) then
      failed = result.http(response)
      return failed.ok and result.fail("rejected", "the answer has no code", { status_code = status }) or failed
    end
    local said = text.truncate(text.visible(tostring(answer.msg or answer.StatusMessage or "")), 200)
    return result.fail(CODES[code] or status == 429 and "rate_limited" or "rejected",
      ("code %s: %s"):format(code, url.redact(said)), {
        status_code = status, retry_after = result.hint(response, answer),
      })
  end,
}
