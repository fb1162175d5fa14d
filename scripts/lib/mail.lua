-- mail: the header of a mail (RFC 5322), as the e-mail adapter gives it to the transport: a list of { name, value } in UTF-8,
-- not encoded and not folded. Nothing that holds a control character gets into it; errors name the field.

local addresses, text = require "address", require "text"

local M = {}

local PRIORITY = {
  urgent = { { "X-Priority", "1" }, { "Importance", "high" }, { "Priority", "urgent" } },
  high = { { "X-Priority", "2" }, { "Importance", "high" } },
  low = { { "X-Priority", "5" }, { "Importance", "low" }, { "Priority", "non-urgent" } },
}

-- What the adapter or the transport writes itself.
local OWN = {}
for name in ([[from to cc bcc subject date message-id reply-to return-path sender mime-version content-type
    content-transfer-encoding list-unsubscribe list-unsubscribe-post dkim-signature received]]):gmatch("%S+") do
  OWN[name] = true
end

local WEEKDAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

local dated, date -- the last that was written, which stands in many mails

local function rfc5322_date(seconds)
  seconds = math.tointeger(seconds // 1)
  if seconds ~= dated then
    local t = os.date("!*t", seconds)
    dated, date = seconds, ("%s, %d %s %04d %02d:%02d:%02d +0000"):format(WEEKDAYS[t.wday], t.day, MONTHS[t.month], t.year,
      t.hour, t.min, t.sec)
  end
  return date
end

-- A header's line; or nil, message, code.
local function line(name, value, field)
  if value:find("%c") then
    return nil, (field or name) .. ": holds a control character, which a mail's header must not", "invalid"
  end
  return { name, value }
end

-- What all mails of a sender have in common, { address =, name = }: its line, and the domain of their ids; or nil, message, code.
function M.sender(entry)
  local from, message, code = line("From", addresses.write(entry))
  return from and { from = from, domain = addresses.domain(entry.address) }, message, code
end

local identified, of_domain, identity -- the last that was written: an answer asks for it again

-- The Message-ID of a delivery: the same over all attempts.
function M.id(delivery, sender)
  local id, domain = delivery.id, sender.domain
  if id ~= identified or domain ~= of_domain then
    local safe = id:find("^[%w._-]*$") and id or id:gsub("[^%w._-]", "-")
    identified, of_domain, identity = id, domain, "<" .. safe .. "@" .. domain .. ">"
  end
  return identity
end

-- The title, or else the beginning of the text.
local function subject_of(delivery)
  local subject = delivery.options.subject or delivery.title
  if subject == "" then
    local words = delivery.format == "html" and text.strip_html(delivery.body) or delivery.body
    subject = text.truncate((words:match("^%s*([^\r\n]*)"):gsub("%c+", " ")), 78)
  end
  return subject
end

-- "https://…" and "mailto:…" → the header's value; or nil and what is wrong.
function M.unsubscribe(list, one_click)
  local values, web = {}, false
  for index, address in ipairs(list) do
    if type(address) ~= "string" or address:find("[%s<>,\0-\31\127-\255]")
      or not (address:find("^https://.") or address:find("^mailto:.")) then
      return nil, "list_unsubscribe: must be https:// or mailto: addresses"
    end
    values[index], web = "<" .. address .. ">", web or address:find("^https:") ~= nil
  end
  if one_click and not web then
    return nil, "list_unsubscribe_post: needs an https:// address in list_unsubscribe"
  end
  return table.concat(values, ", ")
end

-- Appends more lines, by name and in its order; or nil, message, code.
function M.add(headers, more)
  local names = {}
  for name in pairs(more) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    if type(name) ~= "string" or name:find("[^%w!#$%%&'*+.^_`|~-]") or name == "" then
      return nil, "headers: a name holds a character that is not allowed there", "invalid"
    elseif OWN[name:lower()] then
      return nil, "headers: " .. name .. " is set by an option or by the message itself", "invalid"
    end
    local header, message, code = line(name, tostring(more[name]))
    if not header then
      return nil, message, code
    end
    headers[#headers + 1] = header
  end
  return true
end

local function first(...)
  for index = 1, select("#", ...) do
    local value = select(index, ...)
    if value ~= nil then
      return value
    end
  end
end

-- Appends what accounts and messages seldom ask for; or nil, message, code.
local function add_wishes(headers, account, options)
  local list = options.list_unsubscribe or account.list_unsubscribe
  local one_click = first(options.list_unsubscribe_post, account.list_unsubscribe_post)
  if list and #list > 0 or one_click then
    local value, message = M.unsubscribe(list or {}, one_click)
    if not value then
      return nil, message, "invalid"
    end
    headers[#headers + 1] = { "List-Unsubscribe", value }
    if one_click then
      headers[#headers + 1] = { "List-Unsubscribe-Post", "List-Unsubscribe=One-Click" }
    end
  end
  for _, more in pairs { account.headers, options.headers } do
    local ok, message, code = M.add(headers, more)
    if not ok then
      return nil, message, code
    end
  end
  return true
end

-- Those of the recipients that are not refused, as To shows them.
local function shown(to)
  if #to == 1 and not to[1].refused then
    return addresses.write(to[1])
  end
  local list = {}
  for _, entry in ipairs(to) do
    list[#list + 1] = not entry.refused and entry or nil
  end
  return #list > 0 and addresses.join(list) or "undisclosed-recipients:;"
end

-- The whole header of a delivery, from a sender (see M.sender) to parsed addresses, with those that get copies; or nil, message,
-- code.
function M.header(delivery, sender, to, copied)
  local account, options = delivery.account, delivery.options
  local subject, message, code = line("Subject", subject_of(delivery), options.subject and "subject" or "title")
  if not subject then
    return nil, message, code
  end
  local headers = { sender.from, { "To", shown(to) } }
  if #copied > 0 then
    headers[3] = { "Cc", addresses.join(copied) }
  end
  local reply_to = options.reply_to or account.reply_to
  if reply_to then
    local entry
    entry, message = addresses.parse(reply_to, "reply_to")
    if not entry then
      return nil, message, "invalid"
    end
    headers[#headers + 1] = { "Reply-To", addresses.write(entry) }
  end
  local count = #headers
  headers[count + 1] = subject
  headers[count + 2] = { "Date", rfc5322_date(delivery.now) }
  headers[count + 3] = { "Message-ID", M.id(delivery, sender) }
  local priority = PRIORITY[delivery.message.priority]
  if priority then
    for _, pair in ipairs(priority) do
      headers[#headers + 1] = pair
    end
  end
  if account.list_unsubscribe or account.list_unsubscribe_post or account.headers or next(options) then
    local ok
    ok, message, code = add_wishes(headers, account, options)
    if not ok then
      return nil, message, code
    end
  end
  return headers
end

return M
