-- What a newcomer writes: a hub with the default configuration, and one of
--   style=batch      one send_batch of all
--   style=batches    send_batch of a hundred, wait, again
--   style=one        send and wait, one at a time
--   style=tasks      fifty coroutines that send and wait
--   target=URL count=N style=NAME [cold=1: nothing is sent before]
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments { count = 10000, style = "batch", cold = 0 }
local hub = assert(notifyhub.new {})
local message = support.message(given.target)
local BATCH, TASKS = 100, 50

local function send_batch(count)
  local batch = assert(hub:send_batch(support.repeated(message, count)))
  assert(batch:wait(300))
  support.check(batch)
end

local function send_each(count)
  for _ = 1, count do
    local receipt, problem = hub:send(message, 30)
    if problem or not receipt then error(problem, 0) end
  end
end

local styles = {
  batch = send_batch,
  one = send_each,
  batches = function(count)
    for _ = 1, math.max(count // BATCH, 1) do send_batch(BATCH) end
    return math.max(count // BATCH, 1) * BATCH
  end,
  tasks = function(count)
    local each = math.max(count // TASKS, 1)
    hub:run(function()
      for _ = 1, TASKS do hub:spawn(send_each, each) end
    end)
    return each * TASKS
  end,
}

local style = assert(styles[given.style], "style: batch, batches, one or tasks")
if given.cold == 0 then style(200) end
local sent
local seconds, cpu = support.measure(hub, function() sent = style(given.count) or given.count end)
support.print(sent, seconds, cpu, ("seconds=%.4f"):format(seconds))
assert(hub:close(10))
