-- delivery: one message to one account: build the request, send it, judge the answer, and try again while that may help.
--
-- A job is the list of who is told by it, and beside them what is known of the delivery: { letter, delivery = what the adapter
-- is given, tried = attempts that count, warning, began = when the attempt did, where that was not at once, admitted }. Unless
-- the adapter groups it is one entry, which is its own job. It goes on in steps, between which it waits and has no coroutine:
-- what thousands of messages in flight hold is the job and no more.

local callback = require "callback"
local config = require "config"
local content = require "content"
local result = require "result"
local schema = require "schema"
local task = require "task"
local url = require "url"

local always = callback.always
local admit, attempted, monotonic, now = task.admit, task.attempted, task.monotonic, task.now

local M = {}

local prepared -- the configuration
local guarded -- whether it allows no private addresses
local loaded -- the rules; nil when there are none

function M.setup(given, rules_loaded)
  prepared, guarded, loaded = given, given.guard == "private", rules_loaded
end

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
  local request, body, code = delivery.guard.request(delivery)
  if not request then
    return nil, body, code
  end
  local copy = {} -- other messages may share the request
  for name, value in pairs(request) do
    copy[name] = value
  end
  copy.guard, copy.guard_allow = true, delivery.guard.allow
  copy.body = body or copy.body
  return copy
end

-- The judgement of an answer: a result, or a list of them for a group.
local function judge(delivery, adapter, response)
  if response.error then
    return result.fail(response.error, response.message, {
      retryable = response.retryable, retry_after = response.retry_after, final = response.final,
    })
  elseif response.judged then -- by lib/simulation: nothing was sent
    return response.judged
  end
  -- An adapter is somebody's script: its errors are results.
  local ok, judged = pcall(adapter.response, response, delivery)
  if not ok or type(judged) ~= "table" then
    return result.fail("script", not ok and tostring(judged) or "the adapter judged nothing")
  end
  for index = 1, #judged do
    local each = judged[index]
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
  local account, ok, said = entry.account, judged.ok and true or false, words(judged.warning)
  local told = {
    platform = adapter.name,
    target = entry.shown,
    ok = ok,
    status_code = type(judged.status_code) == "number" and math.tointeger(judged.status_code) or nil,
    provider_id = words(judged.provider_id),
    warning = said and M.scrub(said, account) or warning,
    attempts = entry.attempts or 0,
    latency = monotonic() - entry.started,
  }
  if not ok then
    told.code = words(judged.code) or "rejected"
    told.error = M.scrub(words(judged.error) or "refused", account)
    told.retryable = may_retry(judged) and true or nil
  end
  if entry.waited then
    told.waited = entry.waited
  end
  entry.result = told
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

local function progress(context, count)
  local done = context.done + count
  context.done = done
  task.progress(done, context.total)
  if loaded and (always.progress or context.names) then
    callback.on_progress(context)
  end
end

-- Gives each entry its result.
local function settle(job, judged, warning)
  local adapter = job[1].account.adapter
  for index = 1, #job do
    finish(judged[index] or judged, job[index], adapter, warning)
  end
  job.delivery = nil -- an entry that is its own job stays for the receipt
  progress(job.letter.context, #job)
end

local NONE = {} -- options of a platform that a message has none for; read only

-- What a delivery is called, over all its attempts and after a restart: a platform that knows such names takes it once. The
-- first of a message, which has no place, is called as the message is.
local function name_of(message, place)
  return ("%s.%d"):format(message.id, place)
end

local function policy_of(letter, account)
  return config.retry(letter.message, letter.retry, account.retry, prepared.retry)
end

-- Attempts that failed before the program was started again count, but one is always left. What a handler sends begins anew:
-- nobody knows which of its sends they were.
local function attempts_before(letter, account)
  return letter.sent and 0 or math.min(letter.context.attempts, policy_of(letter, account).attempts - 1)
end

-- What a message says to this platform alone, with what the platform asks of each; or nil and a failed result.
local function options_for(message, adapter)
  local options = message.platform and message.platform[adapter.name] or NONE
  local ok, checked = pcall(schema.check, options, adapter.message_options, "platform." .. adapter.name, "invalid")
  if not ok then
    return nil, result.fail("invalid", type(checked) == "table" and checked.message or tostring(checked))
  end
  return checked
end

local function recipients_of(job)
  local recipients = {}
  for index, entry in ipairs(job) do
    recipients[index] = entry.recipient
  end
  return recipients
end

-- An adapter that judges by the status alone asks nothing of a delivery once its request is built, so that all of an account
-- are one table, which is lent to the job whose request is made.
local function lend(account, job)
  local delivery = account.delivery
  if not delivery then
    delivery = {
      title = nil, body = nil, format = nil, attachments = nil, message = nil, options = nil, id = nil, account = account.options,
      recipient = nil, recipients = nil, target = nil, guard = nil, now = nil, attempt = nil, -- they get their room
    }
    account.delivery = delivery
  end
  account.lent = job
  return delivery
end

-- What the adapter is given, and a warning; or nil and a failed result.
local function prepare(job)
  local letter, first = job.letter, job[1]
  local message, account = letter.message, first.account
  local adapter, options = account.adapter, NONE
  if adapter.asks or message.platform then
    local failure
    options, failure = options_for(message, adapter)
    if not options then
      return nil, failure
    end
  end
  local title, body, format, attachments, warning = content.fit(letter, adapter)
  if not title then
    return nil, body
  end
  local place, recipient = first.place, first.recipient
  local delivery = adapter.response == result.http and not attachments[1] and lend(account, job) or { account = account.options }
  delivery.title, delivery.body, delivery.format, delivery.attachments = title, body, format, attachments
  delivery.message, delivery.options, delivery.target = letter.shown, options, first.shown
  delivery.id = place and name_of(message, place) or message.id
  delivery.recipient, delivery.recipients = recipient, recipient and recipients_of(job) or NONE
  delivery.guard = (guarded or message.untrusted) and adapter.transport ~= "console"
    and { request = adapter.request, allow = prepared.guard_allow } or nil
  return delivery, warning
end

-- What the adapter is given, made when it is not there; or nil and the failed result of a job that cannot go out.
local function ready(job)
  local delivery, account = job.delivery, job[1].account
  if delivery and (delivery ~= account.delivery or account.lent == job) then
    return delivery
  end
  local ok, made, warning = pcall(prepare, job)
  if not ok then
    local problem = type(made) == "table" and made or { code = "script", message = tostring(made) }
    return nil, result.fail(problem.code, problem.message)
  elseif not made then
    return nil, warning
  end
  job.delivery = made
  if warning then
    job.warning = warning
  end
  return made
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

-- Asks for a place in all rates of a delivery: → whether one has to be waited for; or nil and a failed result when there will
-- be none. The recipients' rates come first: who waits for a busy one takes nothing from the others.
local function queue(job)
  local first = job[1]
  local account = first.account
  local places = account.target_rate and #job or 0
  for number = (job.admitted or 0) + 1, places + 1 do
    local lane, rate
    if number <= places then
      lane, rate = place_of(job[number]), account.target_rate
    else
      lane, rate = first.recipient and lane_of(first) or account.lane, account.rate
    end
    if lane ~= account.lane then
      job.lane = lane -- who waits for it borrows the text
    end
    local wait, message, code = admit(lane, rate, LONGEST_WAIT - (first.waited or 0))
    if not wait then
      return nil, result.fail(code, message)
    elseif wait > 0 then
      for _, entry in ipairs(job) do
        entry.waited = (entry.waited or 0) + wait
      end
      job.admitted = number
      return true
    end
  end
  job.admitted = nil
  return false
end

-- A platform that was asked too often gets nothing for so long, whoever it was about.
local function pause(job, seconds)
  task.pause(lane_of(job[1]), seconds)
  if job[1].account.target_rate then
    for _, entry in ipairs(job) do
      task.pause(place_of(entry), seconds)
    end
  end
end

-- Counts an attempt that took `seconds`. → how long to wait before the next one; nil when that was it.
local function wait_after(judged, job, seconds)
  local letter, first = job.letter, job[1]
  if judged.final then
    return nil -- it was not sent
  end
  local account = first.account
  local platform = account.adapter.name
  local worst = judged[1] and failure_of(judged) or judged
  if worst.ok then
    attempted(account.name, platform, first.shown, seconds)
    return nil
  end
  local code, text = words(worst.code) or "rejected", M.scrub(words(worst.error) or "refused", account)
  attempted(account.name, platform, first.shown, seconds, code, text)
  local again, hint = wants_retry(judged)
  local policy = policy_of(letter, account)
  if again and code == "rate_limited" and (first.waited or 0) < LONGEST_WAIT then
    job.tried = job.tried - 1 -- it costs none, but the whole lane pauses
    first.limited = (first.limited or 0) + 1
    pause(job, result.wait(hint) or backoff(LIMITED, first.limited))
    return 0
  elseif not again or job.tried >= policy.attempts then
    return nil
  end
  local wait = backoff(policy, job.tried, hint)
  task.retrying(platform, job.tried)
  if loaded then
    callback.on_retry(letter.context, {
      platform = platform, target = first.shown, attempt = job.tried, wait = wait, code = code, error = text,
    })
  end
  return wait
end

-- One more attempt: its transport, the request, the body where that stands beside it, whether it is not the first, and whether
-- a success needs no more than its status; or nil and the failed result of the attempt.
local function build(job, delivery, began)
  local adapter, attempt = job[1].account.adapter, job.tried + 1
  job.tried, delivery.attempt, delivery.now = attempt, attempt, now()
  for index = 1, #job do
    job[index].attempts = attempt
  end
  if began > job[1].started then -- else it is the same
    job.began = began
  end
  local ok, request, body, code = pcall(delivery.guard and with_guard or adapter.request, delivery)
  if not ok then -- an adapter is somebody's script: its errors are results
    return nil, result.fail("script", tostring(request))
  elseif not request then
    return nil, result.fail(code or "invalid", body or "the adapter built no request")
  end
  return adapter.transport, request, body, attempt > 1, adapter.response == result.http
end

-- What was refused before it was sent is no attempt.
local function take_back(job)
  job.tried = job.tried - 1
  for index = 1, #job do
    job[index].attempts = job.tried
  end
end

local function begin(job, at)
  local letter = job.letter
  for index = 1, #job do
    job[index].started = at -- for a receipt that is made before this ends
  end
  job.tried = letter.context.attempts and attempts_before(letter, job[1].account) or 0
end

-- The next step of a job: begins, or goes on after a pause or with the answer to its request. → nothing when it has ended and
-- its entries have their results; the seconds after which it goes on (0: when a rate lets it); or what `build` gives, the
-- account's name, and whether it is rather refused than waiting for a host that does not answer; after that it goes on with the
-- answer.
function M.step(job, answer)
  local judged
  local at = monotonic()
  if not job.tried then
    begin(job, at)
  elseif answer then
    judged = judge(job.delivery, job[1].account.adapter, answer)
    if judged.final then
      take_back(job)
    end
  end
  while true do
    if judged then
      local wait = wait_after(judged, job, at - (job.began or job[1].started))
      if not wait then
        return settle(job, judged, job.warning)
      elseif wait > 0 then
        return wait
      end
    end
    local delivery, failure = ready(job)
    if not delivery then
      return settle(job, failure, job.warning)
    end
    local waits
    waits, failure = queue(job)
    if failure then
      return settle(job, failure, job.warning)
    elseif waits then
      return 0
    end
    local transport, request, body, again, brief = build(job, delivery, at)
    if transport then
      return transport, request, body, again, brief, job[1].account.name, job.hasty
    end
    judged = request
  end
end

-- Ends a job whose adapter judges by the status alone, with that of its success. A result is made of it only when somebody
-- wants one: a script, which the message then waits for, or lib/receipt. → when the message has ended with it: true, and whether
-- callbacks want to hear of that.
function M.delivered(job, status)
  local context, first, ended = job.letter.context, job[1], monotonic()
  local account = first.account
  attempted(account.name, account.adapter.name, first.shown, ended - (job.began or first.started))
  if job ~= first or job.warning or context.scripted then
    return settle(job, result.success(status), job.warning)
  end
  job.delivered, job.latency, job.delivery = status, ended - job.started, nil
  progress(context, 1)
  if context.total == 1 then
    return true, loaded and callback.follow(context, "delivered")
  end
end

return M
