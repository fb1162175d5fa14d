-- batch.lua — the methods of a batch that wait or call back; the others are in batch.c.

local native, lib = ...
local events, waiting, handle = lib.events, lib.waiting, lib.handle
local batch = {}
lib.batch = batch

local Batch = native.batch_methods

local function tell_complete(state, self, callbacks)
  return events.call_all(state, callbacks, native.batch_receipts(self))
end

local kind = {
  progress = native.batch_progress,
  settled = native.batch_settled,
  finish = function(state, watch)
    return watch.on_complete and tell_complete(state, watch.subject, watch.on_complete) or 0
  end,
  late = {
    on_complete = tell_complete,
    on_progress = function(state, self, callbacks)
      return events.call_all(state, callbacks, native.batch_progress(self))
    end,
  },
}

batch.kind = kind

local function state_of(self)
  return native.batch_state(self) or events.misuse(self, "a batch")
end

for name in pairs(kind.late) do
  Batch[name] = function(self, callback)
    local state = state_of(self)
    events.check_callback(callback, name, 2)
    events.add(state, self, kind, name, callback)
    return self
  end
end

-- All of it is accepted or nothing, so the first message knows; that may be a duplicate, too.
function batch.accepted(state, self, seconds)
  local ok, problem, code = handle.accepted(state, self[1], seconds)
  if ok or code == "duplicate" then return true end
  return nil, problem, code
end

function Batch:accepted(seconds)
  local state = state_of(self)
  events.check_seconds(seconds, 2)
  return batch.accepted(state, self, seconds)
end

-- Seconds between two looks for receipts while they come, and how many make it worth another.
local SHORT, MANY = 0.01, 32

-- Waits, and meanwhile makes tables of the receipts that have come: there is time for it now, and none of the workers'
-- when the last one is there. Returns those receipts, and how many they are.
local function await_gathering(state, self, watch, seconds)
  local receipts, taken = watch.receipts, watch.taken or 0
  watch.receipts, watch.taken = nil, nil -- a callback may wait for the same
  local due = seconds and native.now() + seconds
  local pause = SHORT
  while not events.finished(state, watch) do
    local left = due and due - native.now()
    if left and left <= 0 then
      events.poll(state, 0)
      break
    end
    events.pump(state, left and math.min(left, pause) or pause)
    local before = taken
    local whole
    receipts, taken, whole = native.batch_gather(self, receipts, taken)
    if not whole then
      pause = 0
    elseif taken - before >= MANY then
      pause = SHORT
    else
      pause = math.min(2 * math.max(pause, SHORT), events.SLICE)
    end
  end
  return receipts, taken
end

-- The receipts of a settled batch, of which some may be there.
local function all_receipts(self, receipts, taken)
  if not receipts then return native.batch_receipts(self) end
  local total = #self
  while taken < total do receipts, taken = native.batch_gather(self, receipts, taken) end
  return receipts
end

function Batch:wait(seconds)
  local state = state_of(self)
  events.check_seconds(seconds, 2)
  local watch = state.watches[self]
  if not watch and not native.batch_settled(self) and seconds ~= 0 then
    watch = events.watch(state, self, kind)
  end
  local receipts, taken
  if watch and waiting.yields(state) then
    waiting.await(state, watch.waiters, false, seconds, events.finished, state, watch)
  elseif watch then
    receipts, taken = await_gathering(state, self, watch, seconds)
  end
  if native.batch_settled(self) then return all_receipts(self, receipts, taken) end
  if watch then watch.receipts, watch.taken = receipts, taken end -- for who waits again
  local settled, total = native.batch_progress(self)
  return nil, ("%d of %d messages have not settled"):format(total - settled, total), "timeout"
end

-- An iterator of index, receipt in the order in which the messages settle. It waits for each, and
-- ends after the last; each iterator sees all.
function Batch:results()
  local state = state_of(self)
  local nth, total = 0, #self
  return function()
    nth = nth + 1
    if nth > total then -- the callbacks have run when the loop ends
      local watch = state.watches[self]
      if watch then
        waiting.await_in_iterator(state, watch.waiters, false, events.finished, state, watch)
      end
      return nil
    end
    local index, receipt = native.batch_next(self, nth)
    if index then return index, receipt end
    local watch = events.watch(state, self, kind, true)
    return waiting.await_in_iterator(state, watch.waiters, true, native.batch_next, self, nth)
  end
end
