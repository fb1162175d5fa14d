-- handle.lua — the methods of a handle that wait or call back; the others are in handle.c.

local native, lib = ...
local events, waiting = lib.events, lib.waiting
local handle = {}
lib.handle = handle

local Handle = native.handle_methods

-- nil for a receipt that says delivered, else message and code of what went wrong.
function handle.problem(receipt)
  if receipt.status == "delivered" then return nil end
  if receipt.error then return receipt.error, receipt.code end
  local failed, first = 0, nil
  for _, result in ipairs(receipt.results or {}) do
    if not result.ok then
      failed = failed + 1
      first = first or result
    end
  end
  if not first then return receipt.status, receipt.code or "internal" end
  local text = ("%d of %d targets failed: %s: %s"):format(
    failed, #receipt.results, tostring(first.platform), tostring(first.error or first.code))
  return text, receipt.code or first.code
end

-- ----------------------------------------------------------- what is to be told

local function tell_complete(state, self, callbacks)
  return events.call_all(state, callbacks, native.receipt(self))
end

local function tell_error(state, self, callbacks)
  local receipt = native.receipt(self)
  local problem = handle.problem(receipt)
  if not problem then return 0 end
  return events.call_all(state, callbacks, native.message(self), problem, receipt)
end

local kind = {
  progress = native.progress,
  settled = native.settled,
  finish = function(state, watch)
    local told = 0
    if watch.on_complete then told = tell_complete(state, watch.subject, watch.on_complete) end
    if watch.on_error then told = told + tell_error(state, watch.subject, watch.on_error) end
    return told
  end,
  late = {
    on_complete = tell_complete,
    on_error = tell_error,
    on_progress = function(state, self, callbacks)
      return events.call_all(state, callbacks, native.progress(self))
    end,
    on_retry = function(state, self, callbacks)
      local retries = native.retries(self)
      return retries > 0 and events.call_all(state, callbacks, retries) or 0
    end,
  },
}

handle.kind = kind

-- -------------------------------------------------------------------- methods

local function state_of(self)
  return native.handle_state(self) or events.misuse(self, "a handle")
end

for name in pairs(kind.late) do
  Handle[name] = function(self, callback)
    local state = state_of(self)
    events.check_callback(callback, name, 2)
    events.add(state, self, kind, name, callback)
    return self
  end
end

-- Waits for a handle that has no watch and needs none: there is nobody else to tell of it.
local function await_alone(state, self, seconds)
  local due = seconds and native.now() + seconds
  native.wait_alone(state.hub, self, events.idle(state) and math.min(seconds or events.SLICE, events.SLICE) or 0)
  while not native.settled(self) do
    local left = due and due - native.now()
    if left and left <= 0 then
      events.watch(state, self, kind) -- who comes again finds this one, and the core no more of them
      return
    end
    events.pump(state, left)
  end
end

-- The receipt, with message and code when it is not delivered. The callbacks have run by then.
function handle.wait(state, self, seconds)
  local watch = state.watches[self]
  if not watch and not native.settled(self) and seconds ~= 0 then
    if waiting.yields(state) then
      watch = events.watch(state, self, kind)
    else
      await_alone(state, self, seconds)
      watch = native.settled(self) and state.watches[self] -- a callback may have set one
    end
  end
  if watch then
    waiting.await(state, watch.waiters, false, seconds, events.finished, state, watch)
  end
  local receipt = native.receipt(self)
  if not receipt then return nil, "the message has not settled", "timeout" end
  return receipt, handle.problem(receipt)
end

-- Whether the message is accepted: true; or nil, message, code. Waits while that is not known.
function handle.accepted(state, self, seconds)
  if native.accepting(self) and seconds ~= 0 then
    local watch = events.watch_accepted(state, self)
    waiting.await(state, watch.waiters, false, seconds, events.finished, state, watch)
  end
  return native.accepted(self)
end

function Handle:accepted(seconds)
  local state = state_of(self)
  events.check_seconds(seconds, 2)
  return handle.accepted(state, self, seconds)
end

function Handle:wait(seconds)
  local state = state_of(self)
  events.check_seconds(seconds, 2)
  return handle.wait(state, self, seconds)
end
