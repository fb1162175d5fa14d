-- sending: `send`, which rules call: checks and copies what a script gives, delivers it, and sums up what came of it.

local choice = require "choice"
local config = require "config"
local letters = require "letter"
local receipt = require "receipt"
local rules = require "rules"
local schema = require "schema"
local script = require "script"
local task = require "task"
local telling = require "telling"

local M = {}

local limits

function M.setup(prepared)
  limits = prepared.limits
end

local SEND = { template = { type = "string" }, retry = { type = "table" } }

-- One result for a send: a single delivery's own, with `results` of all of them.
local function sum(ok, entries)
  local results, only = {}, entries[1]
  for index, entry in ipairs(entries) do
    results[index] = receipt.result(entry)
  end
  local first
  for _, each in ipairs(results) do
    if not each.ok and not each.superseded then
      first = first or each
    end
  end
  local one = {}
  if only and not entries[2] then
    for name, value in pairs(results[1]) do
      one[name] = value
    end
  end
  one.ok, one.results = ok, results
  one.code, one.error = not ok and (first and first.code or "no_route") or nil, not ok and (first and first.error or
    "the target stands for nobody") or nil
  return one
end

local function limit(context, text)
  context.broken = { code = "script_limit", message = text }
  error({ code = "script_limit", message = script.where(2) .. text }, 0)
end

-- schema.check, its error told with the place in the rules: `level` as script.where counts it, from the caller on.
local function check_given(given, fields, path, level)
  local ok, checked = pcall(schema.check, given, fields, path, "invalid")
  if not ok then
    error({ code = "invalid", message = script.where(level + 1) .. checked.message }, 0)
  end
  return checked
end

-- A handler may have written to the message that it was called with.
local function check_fields(message)
  for name, field in pairs(config.MESSAGE) do
    if message[name] ~= nil and type(message[name]) ~= field.type then
      error({ code = "invalid", message = ("%smessage.%s: must be a %s, not a %s"):format(script.where(2), name, field.type,
        type(message[name])) }, 0)
    end
  end
  if message.retry then
    check_given(message.retry, config.GIVEN_RETRY, "message.retry", 2)
  end
end

-- What a copy of the message has of it that is only about the message itself.
local OF_THE_MESSAGE = {
  "id", "created_at", "deliver_at", "expires_at", "timeout", "dedupe_key", "on_complete", "on_error", "on_retry", "on_progress",
}

-- A message that a script made, or copied from the one it was called for.
local function adopt(context, made)
  local original, given = context.message, {}
  for name, value in pairs(made) do
    given[name] = value
  end
  for _, name in ipairs(OF_THE_MESSAGE) do
    if rawequal(given[name], original[name]) then
      given[name] = nil
    end
  end
  local checked = check_given(given, config.MESSAGE, "message", 2)
  if checked.retry then
    check_given(checked.retry, config.GIVEN_RETRY, "message.retry", 2)
  end
  if not (checked.title or checked.body or checked.template) then
    error({ code = "invalid", message = script.where(2) .. "message: needs a title, a body or a template" }, 0)
  end
  context.adopted = (context.adopted or 0) + 1
  checked.id = ("%s-%d"):format(context.id, context.adopted)
  checked.created_at = task.now()
  checked.priority = checked.priority or context.message.priority
  return checked
end

-- A copy of what a script gives to send.
local function taken(value, what)
  local ok, copy = pcall(choice.copy, value)
  if not ok then
    error({ code = "invalid", message = ("%ssend: %s: %s"):format(script.where(2), what, copy) }, 0)
  end
  return copy
end

-- send(message, target, options): delivers now, in this coroutine, and returns what came of it.
function M.send(message, whom, options)
  local context = rules.context "send"
  if type(message) ~= "table" then
    error({ code = "invalid", message = ("%ssend: the message must be a table, not a %s"):format(script.where(1),
      type(message)) }, 0)
  end
  context.sends = (context.sends or 0) + 1
  if context.sends > limits.sends then
    limit(context, ("send: more than %d sends for one message (limits.sends)"):format(limits.sends))
  end
  local own = taken(message, "the message")
  if message == context.given then
    check_fields(own)
    own.id, own.created_at = context.id, context.message.created_at
  else
    own = adopt(context, own)
  end
  whom = whom or own.targets
  if whom == nil then
    error({ code = "invalid", message = script.where(1) .. "send: names no target, and neither does the message" }, 0)
  end
  whom = taken(whom, "the target")
  local fault = choice.fault(whom)
  if fault then
    error({ code = "invalid", message = ("%ssend: the target %s"):format(script.where(1), fault) }, 0)
  end
  options = options and check_given(taken(options, "the options"), SEND, "send", 1) or {}
  if options.retry then
    check_given(options.retry, config.GIVEN_RETRY, "send.retry", 1)
  end
  local letter, problem, code = letters.make(context, own, options)
  if not letter then
    return { ok = false, code = code, error = problem, results = {} }
  end
  letter.sent = true
  return sum(telling.tell(letter, whom))
end

return M
