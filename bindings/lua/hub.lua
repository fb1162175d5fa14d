-- hub.lua — the methods of a hub, and the module's table.

local native, lib = ...
local events, waiting, handle, batch = lib.events, lib.waiting, lib.handle, lib.batch

local Hub = native.hub_methods

local function state_of(self)
  return native.hub_state(self) or events.misuse(self, "a hub")
end

local function check_table(value, what)
  if type(value) ~= "table" then error(what .. ": a table expected, got " .. type(value), 3) end
end

local function check_function(value, what)
  if type(value) ~= "function" then error(what .. ": a function expected, got " .. type(value), 3) end
end

-- ------------------------------------------------------------------- sending

local ROOM = 0.005 -- seconds between two looks for room in what is full

-- Sends; a task of hub:run yields where others block. `kind` is lib.handle or lib.batch.
local function accept(state, self, send, kind, what, options)
  local wait = options and options.wait or 0
  local later = options and options.acceptance == "later" or false
  if not waiting.yields(state) then return send(self, what, wait, later) end
  local due = native.now() + wait
  local sent, problem, code = send(self, what, 0, later or state.journal)
  while not sent and (code == "queue_full" or code == "journal") and native.now() < due do
    waiting.sleep(state, ROOM)
    sent, problem, code = send(self, what, 0, later or state.journal)
  end
  if not sent or later or not state.journal or code == "duplicate" then return sent, problem, code end
  local accepted
  accepted, problem, code = kind.accepted(state, sent)
  if accepted then return sent end
  if code == "duplicate" then return native.first(sent) or sent, problem, code end
  if code == "journal" and native.now() < due then
    waiting.sleep(state, ROOM)
    return accept(state, self, send, kind, what, { wait = due - native.now() })
  end
  return nil, problem, code
end

function Hub:send_async(message, options)
  local state = state_of(self)
  check_table(message, "message")
  events.check_options(options, handle.kind.late, 2)
  local sent, problem, code = accept(state, self, native.send, handle, message, options)
  if sent and options then events.attach(state, sent, handle.kind, options) end
  return sent, problem, code
end

function Hub:send_batch(messages, options)
  local state = state_of(self)
  check_table(messages, "messages")
  events.check_options(options, batch.kind.late, 2)
  local sent, problem, code = accept(state, self, native.send_batch, batch, messages, options)
  if sent and options then events.attach(state, sent, batch.kind, options) end
  return sent, problem, code
end

function Hub:send(message, seconds)
  local state = state_of(self)
  check_table(message, "message")
  events.check_seconds(seconds, 2)
  local sent, problem, code
  if waiting.yields(state) or not events.idle(state) then
    sent, problem, code = accept(state, self, native.send, handle, message)
  else
    local receipt
    local slice = math.min(seconds or events.SLICE, events.SLICE)
    receipt, sent, problem, code = native.send_alone(self, message, slice)
    if receipt then return receipt, handle.problem(receipt) end
    seconds = seconds and seconds - slice
  end
  if not sent then return nil, problem, code end
  return handle.wait(state, sent, seconds)
end

-- ------------------------------------------------------------------- driving

function Hub:poll(seconds)
  local state = state_of(self)
  events.check_seconds(seconds, 2)
  return events.poll(state, seconds or 0)
end

function Hub:run(fn, ...)
  local state = state_of(self)
  check_function(fn, "fn")
  if state.run then error("hub:run is running already; hub:spawn starts one more task", 2) end
  return waiting.run(state, fn, ...)
end

function Hub:spawn(fn, ...)
  local state = state_of(self)
  check_function(fn, "fn")
  if not state.run then error("hub:spawn works inside hub:run only", 2) end
  return waiting.spawn(state, fn, ...)
end

function Hub:sleep(seconds)
  local state = state_of(self)
  events.check_seconds(seconds, 2)
  waiting.sleep(state, seconds or 0)
end

function Hub:on_callback_error(fn)
  local state = state_of(self)
  if fn ~= nil then check_function(fn, "fn") end
  state.on_callback_error = fn
  return self
end

function Hub:on_breaker(fn)
  local state = state_of(self)
  check_function(fn, "fn")
  events.on_news(state, "breaker", fn)
  return self
end

function Hub:on_log(fn)
  local state = state_of(self)
  check_function(fn, "fn")
  events.on_news(state, "log", fn)
  return self
end

local function close(self, seconds)
  local state = state_of(self)
  state.closed = true
  local closed = native.close(self, seconds)
  events.drain(state)
  return closed
end

function Hub:close(seconds)
  state_of(self)
  events.check_seconds(seconds, 2)
  return close(self, seconds)
end

native["notifyhub.hub"].__close = function(self) close(self) end

-- ------------------------------------------------------------------- looking

-- How much of what was tried must have been delivered.
local HEALTHY, DEGRADED = 0.95, 0.5
local FULL = 0.9 -- of the queue
local TAKES = { ok = true, slow = true } -- states of a journal that takes messages

-- What the figures since the hub was opened say. Nothing tried yet is `unknown`, not healthy; a
-- message that its sender cancelled says nothing about health.
function Hub:health()
  local state = state_of(self)
  local figures = self:stats()
  local queue = figures.queue
  local queued = queue.low + queue.normal + queue.high + queue.urgent
  local tried = figures.delivered + figures.partial + figures.failed + figures.expired
  local rate = tried > 0 and figures.delivered / tried or nil
  local seen = native.health(self)
  local status = "unknown"
  if state.closed then
    status = "closed"
  elseif queued >= FULL * queue.capacity or seen.journal and not TAKES[seen.journal.state] then
    status = "degraded"
  elseif rate then
    status = rate >= HEALTHY and "healthy" or rate >= DEGRADED and "degraded" or "unhealthy"
  end
  return {
    platforms = seen.seen.platforms, targets = seen.seen.targets, left_out = seen.seen.left_out,
    breakers = seen.breakers, lanes = seen.lanes, journal = seen.journal,
    status = status, success_rate = rate, uptime = figures.uptime,
    accepted = figures.accepted, pending = figures.pending, queued = queued,
    in_flight = figures.workers.in_flight, workers = figures.workers.count,
    delivered = figures.delivered, partial = figures.partial, failed = figures.failed,
    cancelled = figures.cancelled, expired = figures.expired, retries = figures.retries,
  }
end

-- -------------------------------------------------------------------- module

local notifyhub = {}

local function copy_of(values)
  local copy = {}
  local name, value = next(values)
  while name ~= nil do
    copy[name] = value
    name, value = next(values, name)
  end
  return copy
end

-- `log.to` may be a function, which the core does not know. → the configuration without it, and the function.
local function without_function(config)
  local log = type(config) == "table" and rawget(config, "log")
  local to = type(log) == "table" and rawget(log, "to")
  if type(to) ~= "function" then return config end
  local copy = copy_of(config)
  copy.log = copy_of(log)
  copy.log.to = "program"
  return copy, to
end

function notifyhub.new(config)
  if type(config) ~= "table" and type(config) ~= "string" then
    error("config: a table or the path of a file expected, got " .. type(config), 2)
  end
  local state = events.state()
  local given, on_log = without_function(config)
  local hub, problem, code = native.open(state, given)
  if not hub then return nil, problem, code end
  state.hub = hub
  state.journal = hub:stats().journal ~= nil
  if on_log then hub:on_log(on_log) end
  return hub
end

return notifyhub
