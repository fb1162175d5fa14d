-- delivery: one message to one account: build the request, send it, judge the answer, and try again while that may help.
--
-- A letter is what is said and how: { context, message, shown = the message as adapters may see it, template, retry,
-- on_retry, on_progress }. Several may go out for one message: one a route that matched.

local config = require "config"
local content = require "content"
local result = require "result"
local schema = require "schema"
local task = require "task"
local url = require "url"

local M = {}

local LONGEST_WAIT = 7200 -- seconds that a delivery waits for rate limits in all
local LIMITED = { backoff = "exponential", initial = 1, multiplier = 2, max = 60, jitter = 0.5 } -- a 429 that does not say when
local SCATTER = 0.1 -- of a platform's hint is added by chance, at most a second: who was sent away together comes back apart

-- The text without the account's secrets.
function M.hide(message, account)
  for _, secret in ipairs(account.secrets) do
    local from, to = message:find(secret, 1, true)
    while from do
      message = message:sub(1, from - 1) .. "<secret>" .. message:sub(to + 1)
      from, to = message:find(secret, from + 8, true)
    end
  end
  return message
end

-- No secret of the account, and no URL's path, leaves in an error's text.
function M.scrub(message, account)
  return url.redact(M.hide(tostring(message), account))
end

-- How many times `initial` a pause is, by the number of attempts that failed.
local GROWTH = {
  exponential = function(failures, multiplier) return multiplier ^ (failures - 1) end,
  linear = function(failures, multiplier) return 1 + (failures - 1) * (multiplier - 1) end,
  fixed = function() return 1 end,
}

-- Seconds before the next attempt; attempts that failed are counted from 1. The platform's own word stands over the policy.
local function backoff(policy, failures, hint)
  hint = result.wait(hint)
  if hint then
    return hint + math.random() * math.min(1, hint * SCATTER)
  end
  local whole = math.min(policy.initial * GROWTH[policy.backoff](failures, policy.multiplier), policy.max)
  return whole * (1 - policy.jitter * math.random())
end

-- Transports look at the address of a guarded request before they connect.
local function with_guard(delivery)
  local request, message, code = delivery.guard.request(delivery)
  if request then
    request.guard, request.guard_allow = true, delivery.guard.allow
  end
  return request, message, code
end

-- The judgement of an answer: a result, or a list of them for a group.
local function judge(delivery, adapter, response)
  if response.error then
    return result.fail(response.error, response.message, {
      retryable = response.retryable, retry_after = response.retry_after,
    })
  elseif response.judged then -- by lib/simulation: nothing was sent
    return response.judged
  end
  -- An adapter is somebody's script: its errors are results.
  local ok, judged = task.aside(adapter.response, response, delivery)
  if not ok or type(judged) ~= "table" then
    return result.fail("script", not ok and tostring(judged) or "the adapter judged nothing")
  end
  for index, each in ipairs(judged) do
    if type(each) ~= "table" then
      return result.fail("script", ("the adapter judged recipient %d with a %s"):format(index, type(each)))
    end
  end
  return judged
end

-- One attempt → a result, or a list of them for a group. While the transfer is under way nothing here holds on to the
-- request, nor to more than what the caller has: thousands wait at this place.
local function attempt(delivery, account)
  local response, message, code = task.exchange(delivery.guard and with_guard or account.adapter.request,
    account.adapter.transport, delivery, account)
  if not response then
    return result.fail(code or "invalid", message or "the adapter built no request")
  end
  return judge(delivery, account.adapter, response)
end

local function may_retry(judged)
  if judged.retryable ~= nil then
    return judged.retryable
  end
  return result.RETRYABLE[judged.code] or false
end

-- Whether another attempt can help, and the platform's hint when. Of a group that was told in part none is made: those who
-- have the message would get it twice.
local function wants_retry(judged)
  if #judged == 0 then
    return not judged.ok and may_retry(judged), judged.retry_after
  end
  local hint
  for _, each in ipairs(judged) do
    if each.ok or not may_retry(each) then
      return false
    end
    hint = each.retry_after or hint
  end
  return true, hint
end

-- What an adapter says, as text that may stand in a receipt; nil when it is none.
local function words(value)
  if type(value) == "number" then
    return tostring(value)
  elseif type(value) ~= "string" then
    return nil
  end
  return utf8.len(value) and value or (value:gsub("[\128-\255]", "?"))
end

local function finish(judged, entry, adapter, warning)
  judged = result.known(judged)
  local ok = judged.ok and true or false
  local said = words(judged.warning)
  local account = entry.account
  entry.result = {
    platform = adapter.name,
    target = entry.shown,
    ok = ok,
    code = not ok and (words(judged.code) or "rejected") or nil,
    error = not ok and M.scrub(words(judged.error) or "refused", account) or nil,
    status_code = type(judged.status_code) == "number" and math.tointeger(judged.status_code) or nil,
    provider_id = words(judged.provider_id),
    retryable = not ok and may_retry(judged) and true or nil,
    warning = said and M.scrub(said, account) or warning,
    attempts = entry.attempts or 0,
    waited = entry.waited,
    latency = task.monotonic() - entry.started,
  }
end

-- The first failure of a group's results, or the first of them.
local function failure_of(results)
  for _, each in ipairs(results) do
    if not each.ok then
      return each
    end
  end
  return results[1]
end

-- Gives each entry its result.
local function settle(letter, entries, adapter, judged, warning)
  for index, entry in ipairs(entries) do
    finish(judged[index] or judged, entry, adapter, warning)
  end
  local context = letter.context
  context.done = context.done + #entries
  task.progress(context.done, context.total)
  if letter.on_progress then
    letter.on_progress(context)
  end
end

local NONE = {} -- options of a platform that a message has none for; read only

local defaults = setmetatable({}, { __mode = "k" }) -- by schema: whether something is missing in an empty table

local function has_defaults(fields)
  local has = defaults[fields]
  if has == nil then
    has = false
    for _, field in pairs(fields) do
      has = has or field.required or field.default ~= nil or false
    end
    defaults[fields] = has
  end
  return has
end

-- What a delivery is called, over all its attempts and after a restart: a platform that knows such names takes it once. The
-- first of a message is called as the message is.
local function name_of(message, entry)
  return entry.place == 1 and message.id or ("%s.%d"):format(message.id, entry.place)
end

-- Attempts that failed before the program was started again count, but one is always left. What a handler sends begins anew:
-- nobody knows which of its sends they were.
local function attempts_before(letter, account)
  local before = not letter.sent and letter.context.attempts
  if not before then
    return 0
  end
  local policy = config.retry(letter.message, letter.retry, account.retry, letter.configured.retry)
  return math.min(before, policy.attempts - 1)
end

-- What the adapter is given, and a warning; or nil and a failed result.
local function prepare(letter, entries, account)
  local adapter, message = account.adapter, letter.message
  local options = message.platform and message.platform[adapter.name]
  if options or has_defaults(adapter.message_options) then
    local ok, checked = pcall(schema.check, options or NONE, adapter.message_options, "platform." .. adapter.name, "invalid")
    if not ok then
      return nil, result.fail("invalid", type(checked) == "table" and checked.message or tostring(checked))
    end
    options = checked
  end
  local delivery, warning = content.fit(letter, adapter)
  if not delivery then
    return nil, warning
  end
  local recipients = NONE
  if entries[1].recipient then
    recipients = {}
    for index, entry in ipairs(entries) do
      recipients[index] = entry.recipient
    end
  end
  delivery.id, delivery.message, delivery.account = name_of(message, entries[1]), letter.shown, account.options
  delivery.recipients, delivery.recipient = recipients, recipients[1]
  delivery.options, delivery.attempt, delivery.target = options or NONE, attempts_before(letter, account), entries[1].shown
  if adapter.transport ~= "console" and (letter.configured.guard == "private" or message.untrusted) then
    delivery.guard = { request = adapter.request, allow = letter.configured.guard_allow }
  end
  return delivery, warning
end

-- What is limited together: an account, or the server of an address that a message brought.
local function lane_of(entry)
  local recipient = entry.recipient
  if recipient and recipient.type == "webhook" then
    return entry.account.lane .. " " .. (recipient.value:match("^%a+://([^/?#]*)") or "")
  end
  return entry.account.lane
end

-- Whom some platforms limit besides: each recipient of an account, or the place that its messages go to when none is named.
local function place_of(entry)
  local recipient = entry.recipient
  return ("%s > %s"):format(entry.account.lane, recipient and recipient.type .. ":" .. recipient.value or "")
end

-- Waits for a place in a rate; a failed result when there will be none.
local function admit(entries, key, rate)
  local wait, message, code = task.admit(key, rate, LONGEST_WAIT - (entries[1].waited or 0))
  if not wait then
    return result.fail(code, message)
  elseif wait > 0 then
    for _, entry in ipairs(entries) do
      entry.waited = (entry.waited or 0) + wait
    end
  end
end

-- The same for all rates of a delivery. The recipients' come first: who waits for a busy one takes nothing from the others.
local function refused(entries, account)
  if account.target_rate then
    for _, entry in ipairs(entries) do
      local failure = admit(entries, place_of(entry), account.target_rate)
      if failure then
        return failure
      end
    end
  end
  return admit(entries, lane_of(entries[1]), account.rate)
end

-- A platform that was asked too often gets nothing for so long, whoever it was about.
local function pause(entries, seconds)
  task.pause(lane_of(entries[1]), seconds)
  if entries[1].account.target_rate then
    for _, entry in ipairs(entries) do
      task.pause(place_of(entry), seconds)
    end
  end
end

-- Counts an attempt that took `seconds`. → how long to wait before the next one; nil when that was it.
local function wait_after(judged, letter, entries, delivery, seconds)
  local account = entries[1].account
  local platform = account.adapter.name
  local worst = judged[1] and failure_of(judged) or judged
  local code = not worst.ok and (words(worst.code) or "rejected") or nil
  local text = code and M.scrub(words(worst.error) or "refused", account)
  task.attempted(account.name, platform, entries[1].shown, seconds, code, text)
  if not code then
    return nil
  end
  local again, hint = wants_retry(judged)
  local policy = config.retry(letter.message, letter.retry, account.retry, letter.configured.retry)
  if again and code == "rate_limited" and (entries[1].waited or 0) < LONGEST_WAIT then
    delivery.attempt = delivery.attempt - 1 -- it costs none, but the whole lane pauses
    entries[1].limited = (entries[1].limited or 0) + 1
    pause(entries, result.wait(hint) or backoff(LIMITED, entries[1].limited))
    return 0
  elseif not again or delivery.attempt >= policy.attempts then
    return nil
  end
  local wait = backoff(policy, delivery.attempt, hint)
  task.retrying(platform, delivery.attempt)
  if letter.on_retry then
    letter.on_retry(letter.context, {
      platform = platform, target = entries[1].shown, attempt = delivery.attempt, wait = wait, code = code, error = text,
    })
  end
  return wait
end

-- The same, with an error of what is called on the way as a failed result.
local function prepared(letter, entries, account)
  local ok, delivery, warning = task.aside(prepare, letter, entries, account)
  if ok then
    return delivery, warning
  end
  local problem = type(delivery) == "table" and delivery or { code = "script", message = tostring(delivery) }
  return nil, result.fail(problem.code, problem.message)
end

-- Delivers a letter to the entries of one account (one entry, unless the adapter groups) and gives each its result. Few
-- locals: see attempt.
function M.deliver(letter, entries)
  local account = entries[1].account
  for _, entry in ipairs(entries) do
    entry.started = task.monotonic() -- for a receipt that is made before this ends
  end
  local delivery, warning = prepared(letter, entries, account)
  if not delivery then
    return settle(letter, entries, account.adapter, warning)
  end
  while true do
    local failure = refused(entries, account)
    if failure then
      return settle(letter, entries, account.adapter, failure, warning)
    end
    delivery.attempt, delivery.now = delivery.attempt + 1, task.now()
    for _, entry in ipairs(entries) do
      entry.attempts = delivery.attempt
    end
    local began = task.monotonic()
    local judged = attempt(delivery, account)
    local wait = wait_after(judged, letter, entries, delivery, task.monotonic() - began)
    if not wait then
      return settle(letter, entries, account.adapter, judged, warning)
    elseif wait > 0 then
      task.sleep(wait)
    end
  end
end

return M
