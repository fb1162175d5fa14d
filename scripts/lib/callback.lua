-- callback: the functions that rules have for what happens to a message, on(event, …). A message may name one of each event.

local rules = require "rules"
local schema = require "schema"
local script = require "script"
local task = require "task"
local warning = require "warning"

local M = {}

local ON = { complete = "on_complete", error = "on_error", retry = "on_retry", progress = "on_progress" }

local loaded -- the rules; nil when there are none

function M.setup(rules_loaded)
  loaded = rules_loaded
end

-- Whether the rules have a callback of this event for the message.
function M.wanted(event, message)
  if not loaded then
    return false
  end
  local name = message[ON[event]]
  return #loaded.callbacks[event] > 0 or name ~= nil and loaded.named[event][name] ~= nil
end

-- The message as the rules see it: a copy of theirs. What they do to it, now or later, is not done to the one that adapters
-- and receipts are made from, where nothing stops a script any more.
function M.message(context)
  local copy = context.given
  if not copy then
    copy = script.plain(context.message)
    context.given = copy
  end
  return copy
end

local function call(callback, event, context, what, message)
  local ok, raised, kind = script.guard(callback, what, message)
  if not ok then
    local problem = rules.problem(raised, kind)
    script.log("error", "callback failed", ("on %s of %s: %s"):format(event, context.id, problem.message))
  end
end

-- Runs the callbacks of an event one after the other; what goes wrong in one is logged and harms nothing else.
local function call_back(event, context, what)
  local name = context.message[ON[event]] -- asked of the copy, a script could answer, and take as long as it likes
  local message, list = M.message(context), loaded.callbacks[event]
  for index = 1, #list do
    call(list[index], event, context, what, message)
  end
  local named = name and loaded.named[event][name]
  if named then
    call(named, event, context, what, message)
  end
end

-- What is still asked of a message that has settled: by a send of its callbacks, and by theirs.
local KEPT = {
  "id", "created_at", "priority", "deliver_at", "expires_at", "timeout", "dedupe_key", "on_complete", "on_error", "on_retry",
  "on_progress",
}

-- Nobody needs a settled message any more, so the rules get it itself, unless they have a copy.
local function hand_over(context)
  if context.given then
    return
  end
  local message, kept = context.message, {}
  for index = 1, #KEPT do
    local name = KEPT[index]
    kept[name] = message[name]
  end
  context.given, context.message = message, kept
end

-- Those of a message that has settled.
function M.after(context, told)
  hand_over(context)
  if told.status ~= "delivered" then
    call_back("error", context, told)
  end
  call_back("complete", context, told)
end

-- Beside the message, which does not wait for them.
function M.on_retry(context, failure)
  if M.wanted("retry", context.message) then
    task.spawn(call_back, "retry", context, failure)
  end
end

function M.on_progress(context)
  if M.wanted("progress", context.message) then
    task.spawn(call_back, "progress", context, { done = context.done, total = context.total })
  end
end

-- Callbacks that a message names and nobody has.
function M.check(context)
  local message = context.message
  if not (message.on_complete or message.on_error or message.on_retry or message.on_progress) then
    return
  end
  for event, field in pairs(ON) do
    local name = message[field]
    if name and not (loaded and loaded.named[event][name]) then
      warning.add(context, "no such callback", ("%s: the rules have no callback '%s' for this event%s"):format(field, name,
        schema.suggest(name, schema.names(loaded and loaded.named[event] or {}))))
    end
  end
end

return M
