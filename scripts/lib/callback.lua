-- callback: the functions that rules have for what happens to a message, on(event, …). A message may name one of each event.

local rules = require "rules"
local schema = require "schema"
local script = require "script"
local task = require "task"
local warning = require "warning"

local guard = script.guard

local M = {}

local ON = { complete = "on_complete", error = "on_error", retry = "on_retry", progress = "on_progress" }

local loaded -- the rules; nil when there are none
local always = {} -- by event: whether the rules hear of it for every message; else a message has to name a callback

M.always = always -- read only

function M.setup(rules_loaded)
  loaded = rules_loaded
  for event in pairs(ON) do
    always[event] = #loaded.callbacks[event] > 0
  end
end

-- The callback of an event that the message names; else nil or false.
local function named(event, context)
  local name = context.names and context.message[ON[event]]
  return name and loaded.named[event][name]
end

-- Whether a message that has come to this status has callbacks.
function M.follow(context, status)
  return always.complete or named("complete", context) or status ~= "delivered" and (always.error or named("error", context))
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

local function report(event, context, raised, kind)
  local problem = rules.problem(raised, kind)
  script.log("error", "callback failed", ("on %s of %s: %s"):format(event, context.id, problem.message))
end

-- Runs the callbacks of an event one after the other; what goes wrong in one is logged and harms nothing else.
local function call_back(event, context, what, message)
  local list, one = loaded.callbacks[event], named(event, context)
  for index = 1, one and #list + 1 or #list do
    local ok, raised, kind = guard(list[index] or one, what, message)
    if not ok then
      report(event, context, raised, kind)
    end
  end
end

-- What is still asked of a message that has settled, besides its id: by a send of its callbacks, and by theirs.
local KEPT = { "deliver_at", "expires_at", "timeout", "dedupe_key", "on_complete", "on_error", "on_retry", "on_progress" }

-- The message for the rules to do with what they like. Nobody needs it any more, so they get it itself, unless they have a
-- copy; what is kept of it is put into the context, which stands in for it.
local function handed_over(context)
  local message = context.given
  if message then
    return message
  end
  message = context.message
  context.created_at, context.priority = message.created_at, message.priority
  if context.names or message.timeout or message.deliver_at or message.expires_at or message.dedupe_key then
    for index = 1, #KEPT do
      local name = KEPT[index]
      context[name] = message[name]
    end
  end
  context.given, context.message = message, context
  return message
end

-- Those of a message that has settled.
function M.after(context, told)
  local message = handed_over(context)
  if told.status ~= "delivered" then
    call_back("error", context, told, message)
  end
  call_back("complete", context, told, message)
end

-- Beside the message, which does not wait for them.
local function beside(event, context, what)
  call_back(event, context, what, M.message(context))
end

function M.on_retry(context, failure)
  if always.retry or named("retry", context) then
    task.spawn(beside, "retry", context, failure)
  end
end

function M.on_progress(context)
  if always.progress or context.names and named("progress", context) then
    task.spawn(beside, "progress", context, { done = context.done, total = context.total })
  end
end

-- Callbacks that a message names and nobody has.
function M.check(context)
  local message = context.message
  if not (message.on_complete or message.on_error or message.on_retry or message.on_progress) then
    return
  end
  context.names = loaded ~= nil
  for event, field in pairs(ON) do
    local name = message[field]
    if name and not (loaded and loaded.named[event][name]) then
      warning.add(context, "no such callback", ("%s: the rules have no callback '%s' for this event%s"):format(field, name,
        schema.suggest(name, schema.names(loaded and loaded.named[event] or {}))))
    end
  end
end

return M
