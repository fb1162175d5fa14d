-- result: what adapters make of an answer. A result is { ok = true, status_code, provider_id } or { ok = false, code, error,
-- status_code, retryable, retry_after }; where `retryable` is absent the code's own default holds.

local json = require "json"
local text = require "text"
local url = require "url"

local M = {}

local MIN_WAIT, MAX_WAIT = 1, 3600 -- seconds: what a platform may ask of us
local EXCERPT = 200 -- characters of a server's own words that go into an error

-- Every code there is; docs/operations.md tells what they mean.
local KNOWN = {}
for code in ([[invalid no_route unknown_platform unknown_target queue_full closed timeout expired cancelled duplicate network
    tls auth rejected rate_limited unavailable too_large script script_limit script_memory config journal
    internal]]):gmatch("%S+") do
  KNOWN[code] = true
end

-- Codes after which the same request may succeed later, when the adapter says nothing else. What becomes of an answer is
-- told by the tables below (HTTP, SMTP) and by the transports, whose own failures are `network`, `timeout` and `tls`.
M.RETRYABLE = { timeout = true, network = true, rate_limited = true, unavailable = true }

-- A failed result whose code is one of ours: an adapter's own becomes `rejected`, and is kept in the text.
function M.known(judged)
  local code, said = judged.code, judged.error
  if judged.ok or code == nil or KNOWN[code] then
    return judged
  end
  local copy = {}
  for name, value in pairs(judged) do
    copy[name] = value
  end
  copy.code = "rejected"
  if type(code) == "string" or type(code) == "number" then
    copy.error = (type(said) == "string" or type(said) == "number") and ("%s: %s"):format(code, said) or tostring(code)
  end
  return copy
end

function M.fail(code, message, fields)
  local failed = { ok = false, code = code, error = message }
  for name, value in pairs(fields or {}) do
    failed[name] = value
  end
  return failed
end

------------------------------------------------------------------ waits

-- What a platform asks for, within the bounds; nil when it is no number of seconds.
function M.wait(seconds)
  if type(seconds) ~= "number" or seconds ~= seconds or seconds < 0 then
    return nil
  end
  return math.min(math.max(seconds, MIN_WAIT), MAX_WAIT)
end

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11,
                 Dec = 12 }

-- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
end

-- An HTTP date in any of its three forms (RFC 9110, 5.6.7) → seconds since the epoch, or nil.
function M.http_date(value)
  local day, month, year, hour, minute, second =
    value:match("^%a+, (%d%d)[ -](%a%a%a)[ -](%d%d%d?%d?) (%d%d):(%d%d):(%d%d) GMT$")
  if not day then
    month, day, hour, minute, second, year = value:match("^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$")
  end
  if not day or not MONTHS[month] then
    return nil
  end
  local number = math.tointeger
  year, day = number(tonumber(year)), number(tonumber(day))
  hour, minute, second = number(tonumber(hour)), number(tonumber(minute)), number(tonumber(second))
  if year < 100 then
    year = year + (year < 70 and 2000 or 1900)
  end
  if day < 1 or day > 31 or hour > 23 or minute > 59 or second > 60 then
    return nil
  end
  return days(year, MONTHS[month], day) * 86400 + hour * 3600 + minute * 60 + second
end

-- A Retry-After value (seconds or a date) → seconds from 1 to 3600; nil when it is absent or makes no sense. A date is read
-- against the server's own Date where there is one: the clocks need not agree.
function M.retry_after(value, date)
  if type(value) == "number" then
    value = ("%.3f"):format(value)
  elseif type(value) ~= "string" then
    return nil
  end
  local seconds = value:find("^%d+%.?%d*$") and tonumber(value)
  if not seconds then
    local at = M.http_date(value)
    seconds = at and at - (date and M.http_date(date) or os.time())
  end
  return seconds and M.wait(math.max(seconds, 0))
end

-- How long a platform asks us to wait: by its Retry-After, or in the JSON of its answer as Discord (`retry_after`) and
-- Telegram (`parameters.retry_after`) do. `decoded` is that JSON where it is known.
function M.hint(response, decoded)
  local headers = response.headers or {}
  local seconds = M.retry_after(headers["retry-after"], headers.date)
  if not seconds and (decoded or (response.body or ""):find("^%s*{")) then
    decoded = decoded or json.decode(response.body)
    if type(decoded) == "table" then
      local parameters = type(decoded.parameters) == "table" and decoded.parameters or {}
      seconds = M.wait(decoded.retry_after) or M.wait(parameters.retry_after)
    end
  end
  return seconds
end

-------------------------------------------------------------------- http

local CODES = {
  [401] = "auth", [403] = "auth", [407] = "auth",
  [404] = "unknown_target", [410] = "unknown_target",
  [408] = "timeout",
  [413] = "too_large", [414] = "too_large", [431] = "too_large",
  [421] = "unavailable", [423] = "unavailable", [425] = "unavailable",
  [429] = "rate_limited",
  [501] = "rejected", [505] = "rejected",
}

local CLASSES = { [3] = "rejected", [4] = "rejected", [5] = "unavailable" }

-- Where servers put their own words, the most telling first.
local WORDS = { "message", "error_description", "error", "detail", "errmsg", "msg", "description", "title" }

local function words_of(value, depth)
  if type(value) == "string" then
    return value
  end
  if type(value) ~= "table" or depth == 0 then
    return nil
  end
  for _, name in ipairs(WORDS) do
    local words = words_of(value[name], depth - 1)
    if words and words ~= "" then
      return words
    end
  end
end

-- One short line of what the server said, its URLs redacted; "" when it said nothing to a person.
function M.excerpt(response)
  local body, content_type = response.body or "", (response.headers or {})["content-type"] or ""
  local words
  if body:find("^%s*{") then
    words = words_of(json.decode(body), 2)
  elseif content_type:find("^text/plain") then
    words = body
  end
  if not words then
    return ""
  end
  words = text.visible(words):gsub("%s+", " "):match("^ ?(.-) ?$")
  return text.truncate(url.redact(words), EXCERPT)
end

-- The failure of a redirect names the new place's host and no more of it.
local function redirect(response)
  local location = (response.headers or {}).location
  return location and " to " .. (location:find("://", 1, true) and url.redact(location) or "another path")
    .. ", which is not followed" or ""
end

local successes = {} -- by status; read only

-- The result of a success of which nothing is known but its status.
function M.success(status)
  local success = successes[status]
  if not success then
    success = { ok = true, status_code = status }
    successes[status] = success
  end
  return success
end

-- A result by status code: 2xx has succeeded, everything else has failed. An adapter whose `response` this is is asked about
-- failures only.
function M.http(response)
  local status = response.status or 0
  if status >= 200 and status < 300 then
    return { ok = true, status_code = status }
  end
  local message = "HTTP " .. status
  if status >= 300 and status < 400 then
    message = message .. redirect(response)
  end
  local said = M.excerpt(response)
  if said ~= "" then
    message = message .. ": " .. said
  end
  return M.fail(CODES[status] or CLASSES[status // 100] or "network", message, {
    status_code = status, retry_after = status >= 400 and M.hint(response) or nil,
  })
end

-------------------------------------------------------------------- smtp

local REPLIES = {
  [421] = "unavailable", [454] = "unavailable",
  [530] = "auth", [534] = "auth", [535] = "auth", [538] = "auth",
  [550] = "unknown_target", [551] = "unknown_target", [553] = "unknown_target",
  [552] = "too_large", [523] = "too_large",
}

local REPLY_CLASSES = { [4] = "unavailable" } -- 5xx: for good

-- Enhanced status codes (RFC 3463) say more than the reply code.
local ENHANCED = {
  ["5.1.1"] = "unknown_target", ["5.1.2"] = "unknown_target", ["5.1.3"] = "unknown_target",
  ["5.1.6"] = "unknown_target", ["5.1.10"] = "unknown_target", ["5.2.1"] = "unknown_target",
  ["5.2.2"] = "rejected", -- the mailbox is full
  ["5.3.4"] = "too_large", ["5.2.3"] = "too_large",
  ["5.7.8"] = "auth", ["5.7.9"] = "auth", ["5.7.0"] = "rejected", ["5.7.1"] = "rejected",
  ["4.7.28"] = "rate_limited", ["5.7.28"] = "rate_limited", ["4.3.2"] = "unavailable",
}

-- A result by a mail server's reply: 2xx has succeeded, everything else has failed.
function M.smtp(code, reply, provider_id)
  if code >= 200 and code < 300 then
    return { ok = true, status_code = code, provider_id = provider_id }
  end
  reply = reply or ""
  local enhanced = ENHANCED[reply:match("%f[%d]([245]%.%d+%.%d+)%f[^%d.]") or ""]
  local said = text.truncate(url.redact(text.visible(reply):gsub("%s+", " ")), EXCERPT)
  said = said:gsub("^" .. code .. "[ -]", "") -- the server's own number often stands before its words
  return M.fail(enhanced or REPLIES[code] or REPLY_CLASSES[code // 100] or "rejected", ("SMTP %d: %s"):format(code, said), {
    status_code = code,
  })
end

-------------------------------------------------------------------- json

-- The decoded JSON object of an answer, whatever its status; or nil and the failure.
function M.json(response)
  local decoded = response.body and json.decode(response.body)
  if type(decoded) == "table" then
    return decoded
  end
  local failed = M.http(response)
  if failed.ok then
    failed = M.fail("rejected", "the answer is not JSON", { status_code = response.status })
  end
  return nil, failed
end

return M
