-- A queue that grows to COUNT messages while the only worker waits for an answer that does not come; then, when `target` is
-- a sink that answers, what it costs to send from a queue as long as that.
--   stuck=URL count=N steps=N
-- Prints a line for each step: messages queued, bytes a message so far, messages accepted a second and CPU microseconds for
-- each in this step.
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments { count = 1000000, steps = 20 }
local CHUNK = 1000
local hub = assert(notifyhub.new {
  workers = { min = 1, max = 1, in_flight = 1 }, queue = { capacity = given.count + 10 * CHUNK, bytes = 1 << 36 },
})
local message = { title = "bench", body = ("x"):rep(260), targets = { given.stuck } } -- 300 bytes when packed
local messages = support.repeated(message, CHUNK)
local held = { assert(hub:send_async(message)) }
while hub:stats().workers.in_flight == 0 do hub:sleep(0.001) end

for _ = 1, 5 do held[#held + 1] = assert(hub:send_batch(messages)) end -- code and the allocator's first pages are paid
collectgarbage()
local before = support.memory "VmRSS"
local queued = 0
for _ = 1, given.steps do
  local step = math.max(given.count // given.steps // CHUNK, 1) * CHUNK
  local seconds, cpu = support.measure(hub, function()
    for _ = 1, step // CHUNK do
      held[#held + 1] = assert(hub:send_batch(messages))
    end
  end)
  queued = queued + step
  local bytes = (support.memory "VmRSS" - before) / queued
  print(("%d %.0f %.0f %.3f"):format(queued, bytes, step / seconds, cpu / step * 1e6))
end
io.stdout:flush()
os.exit(true, false) -- without waiting for what never ends
