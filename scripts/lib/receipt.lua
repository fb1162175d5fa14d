-- receipt: what became of a message: a status, and a table with a result for everybody who was to be told.

local callback = require "callback"
local failure = require "failure"
local json = require "json"
local task = require "task"

local M = {}

local STOPPED = { cancelled = "cancelled", expired = "expired" } -- by code; all else is failed

local generation -- of the rules; nil when there are none

function M.setup(number)
  generation = number
end

-- The result of an entry, complete; `code` and `text` are of one that was not reached.
function M.result(entry, code, text)
  local each = entry.result
  if not each and entry.delivered then
    each = {
      ok = true, status_code = entry.delivered, platform = entry.account.adapter.name, target = entry.shown,
      attempts = entry.attempts, latency = entry.latency, waited = entry.waited,
    }
  elseif not each then
    each = { ok = false, code = code or "internal", error = text or "the delivery did not end" }
  end
  if not each.latency then -- lib/delivery has not made it
    each.target = each.target or entry.shown
    each.platform = each.platform or entry.account and entry.account.adapter.name
    each.attempts = each.attempts or entry.attempts or 0
    each.latency = entry.started and task.monotonic() - entry.started or 0
  end
  if entry.route then
    each.route = entry.route
  end
  return each
end

-- Whether each entry was delivered with nothing but a status to tell.
local function is_plain(entries)
  for index = 1, #entries do
    if not entries[index].delivered then
      return false
    end
  end
  return entries[1] ~= nil
end

-- Sums the results up → status, receipt and whether callbacks wait for it. `code` and `text` tell why a message ended that has
-- no failed result of its own; `handled` says that a script took it without telling anybody. The receipt that most messages
-- have is made by the runtime, which needs the generation for it.
function M.make(context, code, text, handled)
  if not code and is_plain(context.entries) then
    return "delivered", generation or 0, callback.follow(context, "delivered")
  end
  local results = {}
  local delivered, first_failure = 0, nil
  local entries = context.entries
  for index = 1, #entries do
    local each = M.result(entries[index], code, text)
    results[index] = each
    if each.ok then
      delivered = delivered + 1
    elseif not each.superseded then
      first_failure = first_failure or each
    end
  end
  local status
  if not code and not first_failure and (delivered > 0 or handled) then
    status, text = "delivered", nil
  else
    if not code and not first_failure then
      code, text = "no_route", text or "nobody was told"
    end
    status = delivered > 0 and "partial" or STOPPED[code] or "failed"
    code, text = code or first_failure.code, text or first_failure.error
  end
  local told = {
    id = context.id, status = status, results = #results > 0 and results or json.array(results),
    created_at = context.message.created_at, settled_at = task.now(), route = context.route, generation = generation,
    warnings = context.warnings,
  }
  if code then
    told.code, told.error = code, text
  end
  if code or delivered < #results then
    failure.log(told)
  end
  return status, told, callback.follow(context, status)
end

return M
