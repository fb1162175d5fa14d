-- main: what the runtime calls. A message's way in Lua: run → render → resolve → deliver to all at once → receipt.
--
--   prepare(config, secrets)    checks a configuration, returns it with defaults (once a hub, in a scratch state)
--   platforms(config)           describes the adapters
--   setup(config)               takes what prepare made (once a worker)
--   run(context)                in the message's coroutine; returns a status and a receipt
--   stop(context, code, text)   ends a message that is cancelled, late or broken; returns the same

local config = require "config"
local content = require "content"
local delivery = require "delivery"
local json = require "json"
local platform = require "platform"
local schema = require "schema"
local target = require "target"
local task = require "task"

local M = {}

local prepared

M.prepare = config.prepare

function M.platforms()
  local list = {}
  for _, name in ipairs(schema.names(platform.known())) do
    list[#list + 1] = platform.describe(name)
  end
  return list
end

function M.setup(given)
  prepared = given
  platform.hide(given.secrets)
  target.setup(given)
end

local STOPPED = { cancelled = "cancelled", expired = "expired" } -- by code; all else is failed

-- Sums the results up. `code` and `text` tell why a message ended that has no failed result of its own.
local function receipt(context, code, text)
  local message, results = context.message, {}
  local delivered, first_failure = 0, nil
  for index, entry in ipairs(context.entries or {}) do
    local each = entry.result or { ok = false, code = code, error = text }
    each.target = each.target or entry.shown
    each.platform = each.platform or entry.account and entry.account.adapter.name
    each.attempts = each.attempts or entry.attempts or 0
    each.latency = each.latency or entry.started and task.monotonic() - entry.started or 0
    results[index] = each
    if each.ok then
      delivered = delivered + 1
    else
      first_failure = first_failure or each
    end
  end
  local status
  if delivered > 0 and delivered == #results then
    status, code, text = "delivered", nil, nil
  else
    status = delivered > 0 and "partial" or STOPPED[code] or "failed"
    code, text = code or first_failure.code, text or first_failure.error
  end
  return status, {
    id = message.id, status = status, code = code, error = text,
    results = #results > 0 and results or json.array(results),
    created_at = message.created_at, settled_at = task.now(),
  }
end

-- Entries that go out in one request together: those of an account whose adapter groups; every other one by itself.
local function group(entries)
  local groups, by_account = {}, {}
  for _, entry in ipairs(entries) do
    local account = entry.account
    if account then
      local together = account.adapter.group
      if type(together) == "function" then
        together = together(account.options)
      end
      local list = together and entry.recipient and by_account[account]
      if list then
        list[#list + 1] = entry
      else
        list = { entry }
        groups[#groups + 1] = list
        if together and entry.recipient then
          by_account[account] = list
        end
      end
    end
  end
  return groups
end

-- Makes the message what adapters may see: targets as they may be shown.
local function conceal(message, entries)
  local shown = {}
  for index, entry in ipairs(entries) do
    shown[index] = entry.shown
  end
  message.targets = shown
  message.priority = message.priority or "normal"
end

function M.run(context)
  local message = context.message
  if not message.targets or #message.targets == 0 then
    return receipt(context, "no_route", "the message names no target")
  end
  local rendered, problem, code = content.render(message)
  if not rendered then
    return receipt(context, code, problem)
  end
  for name in pairs(message.platform or {}) do
    if not platform.known()[name] then
      return receipt(context, "invalid", ("platform.%s: there is no platform of this name%s"):format(name,
        schema.suggest(name, schema.names(platform.known()))))
    end
  end
  local entries = target.resolve(message.targets)
  if #entries == 0 then
    return receipt(context, "no_route", "the message's targets stand for nobody")
  end
  context.entries, context.rendered = entries, rendered
  context.retry = config.retry(message, prepared.retry)
  conceal(message, entries)
  context.done, context.total = 0, #entries
  for _, entry in ipairs(entries) do
    if entry.result then
      context.done = context.done + 1
    end
  end
  local groups = group(entries)
  if #groups == 1 then
    delivery.deliver(context, groups[1])
  else
    local outcomes = task.parallel(groups, function(each)
      delivery.deliver(context, each)
      return true
    end)
    for index, outcome in ipairs(outcomes) do
      if outcome ~= true then
        for _, entry in ipairs(groups[index]) do
          entry.result = entry.result or { ok = false, code = "script", error = outcome.error }
        end
      end
    end
  end
  return receipt(context)
end

M.stop = receipt

return M
