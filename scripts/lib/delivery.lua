-- delivery: one message to one account: build the request, send it, judge the answer, and try again while that may help.

local content = require "content"
local result = require "result"
local schema = require "schema"
local task = require "task"
local url = require "url"

local M = {}

local LONGEST_HINT = 3600 -- seconds: the most that a platform's own Retry-After is followed

-- Codes after which the same request may succeed later, when the adapter does not say.
local RETRYABLE = { timeout = true, network = true, rate_limited = true, unavailable = true }

-- No secret of the account, and no URL's path, leaves in an error's text.
local function scrub(message, account)
  message = tostring(message)
  for _, secret in ipairs(account.secrets) do
    local from, to = message:find(secret, 1, true)
    while from do
      message = message:sub(1, from - 1) .. "<secret>" .. message:sub(to + 1)
      from, to = message:find(secret, from + 8, true)
    end
  end
  return url.redact(message)
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
local function transfer(adapter, request, message, code)
  if not request then
    return nil, message, code
  end
  return task.transfer(adapter.transport, request)
end

-- One attempt → a result, or a list of them for a group.
local function attempt(delivery, adapter)
  local response, message, code = transfer(adapter, guarded(adapter.request, delivery))
  if not response then
    return result.fail(code or "invalid", message or "the adapter built no request")
  elseif response.error then
    return result.fail(response.error, response.message, { retryable = response.retryable })
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

local function finish(judged, entry, delivery, account, started, warning)
  judged = result.known(judged)
  local ok = judged.ok and true or false
  local said = words(judged.warning)
  entry.result = {
    platform = account.adapter.name,
    target = entry.shown,
    ok = ok,
    code = not ok and (words(judged.code) or "rejected") or nil,
    error = not ok and scrub(words(judged.error) or "refused", account) or nil,
    status_code = type(judged.status_code) == "number" and math.tointeger(judged.status_code) or nil,
    provider_id = words(judged.provider_id),
    retryable = not ok and may_retry(judged) and true or nil,
    warning = said and scrub(said, account) or warning,
    attempts = delivery.attempt,
    latency = task.monotonic() - started,
  }
end

-- Delivers to the entries of one account (one entry, unless the adapter groups) and gives each its result.
function M.deliver(context, entries)
  local account, message = entries[1].account, context.message
  local adapter, started = account.adapter, task.monotonic()
  local recipients = {}
  for _, entry in ipairs(entries) do
    recipients[#recipients + 1] = entry.recipient
    entry.started = started -- for a receipt that is made before this ends
  end
  local delivery = {
    id = message.id, message = message, account = account.options,
    recipients = recipients, recipient = recipients[1], attempt = 0,
  }
  local warning
  local function settle(judged)
    for index, entry in ipairs(entries) do
      finish(judged[index] or judged, entry, delivery, account, started, warning)
    end
    context.done = context.done + #entries
    task.progress(context.done, context.total)
  end

  local ok, options = pcall(schema.check, message.platform and message.platform[adapter.name] or {},
    adapter.message_options, "platform." .. adapter.name, "invalid")
  if not ok then
    return settle(result.fail("invalid", type(options) == "table" and options.message or tostring(options)))
  end
  delivery.options = options
  local given, problem = content.fit(context.rendered, message, adapter)
  if not given then
    return settle(problem)
  end
  warning = problem
  delivery.title, delivery.body, delivery.format = given.title, given.body, given.format
  delivery.attachments = given.attachments

  local policy = context.retry
  while true do
    delivery.attempt, delivery.now = delivery.attempt + 1, task.now()
    for _, entry in ipairs(entries) do
      entry.attempts = delivery.attempt
    end
    local judged = attempt(delivery, adapter)
    local again, hint = wants_retry(judged)
    if not again or delivery.attempt >= policy.attempts then
      return settle(judged)
    end
    task.retrying()
    task.sleep(backoff(policy, delivery.attempt, hint))
  end
end

return M
