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

local LONGEST_HINT = 3600 -- seconds: the most that a platform's own Retry-After is followed
local LONGEST_WAIT = 7200 -- seconds that a delivery waits for rate limits in all
local LIMITED = { initial = 1, multiplier = 2, max = 60, jitter = 0.5 } -- a 429 that does not say when

-- Codes after which the same request may succeed later, when the adapter does not say.
local RETRYABLE = { timeout = true, network = true, rate_limited = true, unavailable = true }

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

-- Seconds before the next attempt; attempts that failed are counted from 1.
local function backoff(policy, failures, hint)
  if type(hint) == "number" and hint >= 0 then
    return math.min(hint, LONGEST_HINT)
  end
  local pause = math.min(policy.initial * policy.multiplier ^ (failures - 1), policy.max)
  return pause * (1 - policy.jitter * math.random())
end

-- An adapter is somebody's script: its errors are results.
local function guarded(call, ...)
  local ok, first, second, third = pcall(call, ...)
  if ok then
    return first, second, third
  end
  return nil, tostring(first), "script"
end

-- Sends a request, if there is one. A tail call: while the transfer is under way nothing here holds on to the request.
local function transfer(delivery, account, request, message, code)
  if not request then
    return nil, message, code
  end
  local guard = delivery.guard
  if guard and account.adapter.transport ~= "console" then
    request.guard, request.guard_allow = true, guard
  end
  return task.transfer(account.adapter.transport, request, delivery, account)
end

-- One attempt → a result, or a list of them for a group.
local function attempt(delivery, account)
  local adapter = account.adapter
  local response, message, code = transfer(delivery, account, guarded(adapter.request, delivery))
  if not response then
    return result.fail(code or "invalid", message or "the adapter built no request")
  elseif response.error then
    return result.fail(response.error, response.message, {
      retryable = response.retryable, retry_after = response.retry_after,
    })
  elseif response.judged then -- by lib/simulation: nothing was sent
    return response.judged
  end
  local judged
  judged, message = guarded(adapter.response, response, delivery)
  if type(judged) ~= "table" then
    return result.fail("script", message or "the adapter judged nothing")
  end
  for index, each in ipairs(judged) do
    if type(each) ~= "table" then
      return result.fail("script", ("the adapter judged recipient %d with a %s"):format(index, type(each)))
    end
  end
  return judged
end

local function may_retry(judged)
  if judged.retryable ~= nil then
    return judged.retryable
  end
  return RETRYABLE[judged.code] or false
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

-- What the adapter is given, and a warning; or nil and a failed result.
local function prepare(letter, entries, account)
  local adapter, message = account.adapter, letter.message
  local options = message.platform and message.platform[adapter.name]
  if options or next(adapter.message_options) then
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
  delivery.id, delivery.message, delivery.account = message.id, letter.shown, account.options
  delivery.recipients, delivery.recipient = recipients, recipients[1]
  delivery.options, delivery.attempt, delivery.target = options or NONE, 0, entries[1].shown
  if letter.configured.guard == "private" or message.untrusted then
    delivery.guard = letter.configured.guard_allow
  end
  return delivery, warning
end

-- One attempt, counted for health.
local function one_attempt(delivery, account, entries)
  local began = task.monotonic()
  local judged = attempt(delivery, account)
  local worst = judged[1] and failure_of(judged) or judged
  task.attempted(account.name, account.adapter.name, entries[1].shown, task.monotonic() - began,
    not worst.ok and (words(worst.code) or "rejected") or nil,
    not worst.ok and M.scrub(words(worst.error) or "refused", account) or nil)
  return judged
end

-- Tells everybody that there will be another attempt.
local function retry(letter, entries, delivery, account, failure, pause)
  task.retrying()
  if letter.on_retry then
    letter.on_retry(letter.context, {
      platform = account.adapter.name, target = entries[1].shown, attempt = delivery.attempt, wait = pause,
      code = words(failure.code), error = M.scrub(words(failure.error) or "refused", account),
    })
  end
end

-- What is limited together: an account, or the server of an address that a message brought.
local function lane_of(entry)
  local recipient = entry.recipient
  if recipient and recipient.type == "webhook" then
    return entry.account.lane .. " " .. (recipient.value:match("^%a+://([^/?#]*)") or "")
  end
  return entry.account.lane
end

-- Delivers a letter to the entries of one account (one entry, unless the adapter groups) and gives each its result.
function M.deliver(letter, entries)
  local account, started = entries[1].account, task.monotonic()
  local adapter, lane = account.adapter, lane_of(entries[1])
  local policy = config.retry(letter.message, letter.retry, account.retry, letter.configured.retry)
  for _, entry in ipairs(entries) do
    entry.started = started -- for a receipt that is made before this ends
  end
  local delivery, warning = prepare(letter, entries, account)
  if not delivery then
    return settle(letter, entries, adapter, warning)
  end
  local waited, limited = 0, 0
  while true do
    local held, message, code = task.admit(lane, account.rate, LONGEST_WAIT - waited)
    waited = waited + (held or 0)
    delivery.attempt, delivery.now = delivery.attempt + 1, task.now()
    for _, entry in ipairs(entries) do
      entry.attempts, entry.waited = delivery.attempt, waited > 0 and waited or nil
    end
    local judged = held and one_attempt(delivery, account, entries) or result.fail(code, message)
    local worst = judged[1] and failure_of(judged) or judged
    local again, hint = wants_retry(judged)
    if held and again and worst.code == "rate_limited" then -- the lane pauses, and it costs no attempt
      limited = limited + 1
      delivery.attempt = delivery.attempt - 1
      task.pause(lane, math.min(hint or backoff(LIMITED, limited), LONGEST_HINT))
      again = waited < LONGEST_WAIT
    elseif not held or not again or delivery.attempt >= policy.attempts then
      return settle(letter, entries, adapter, judged, warning)
    else
      local pause = backoff(policy, delivery.attempt, hint)
      retry(letter, entries, delivery, account, worst, pause)
      task.sleep(pause)
    end
    if not again then
      return settle(letter, entries, adapter, judged, warning)
    end
  end
end

return M
