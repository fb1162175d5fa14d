-- Latency while messages come at a fixed rate: from when one was due to be sent until it settled, whatever the sender was
-- doing then. Prints quantiles in milliseconds, and the rate that came out.
--   target=URL rate=N seconds=N
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments { rate = 1000, seconds = 1 }
local hub = assert(notifyhub.new { queue = { capacity = 10000000, bytes = 1 << 32 } })
local message = support.message(given.target)
assert(assert(hub:send_batch(support.repeated(message, 1000))):wait(60))

-- Receipts tell times of the day, the hub's figures the monotonic clock.
local before = hub:stats().uptime
local offset = assert(hub:send(message, 10)).created_at - before
local handles, due = {}, {}
local count = math.max(given.rate * given.seconds // 1, 1)
local seconds, cpu = support.measure(hub, function()
  local start = hub:stats().uptime
  local next_one = 0
  while next_one < count do
    local now = hub:stats().uptime
    while next_one < count and start + next_one / given.rate <= now do
      next_one = next_one + 1
      due[next_one] = start + (next_one - 1) / given.rate
      handles[next_one] = assert(hub:send_async(message))
    end
    hub:sleep(0.0005)
  end
  for _, handle in ipairs(handles) do assert(handle:wait(60)) end
end)

local latencies = {}
for index, handle in ipairs(handles) do
  local receipt = handle:result()
  if receipt.status ~= "delivered" then error(receipt.error, 0) end
  latencies[index] = (receipt.settled_at - offset - due[index]) * 1000
end
table.sort(latencies)
local function quantile(part) return latencies[math.max(math.ceil(#latencies * part), 1)] end
support.print(count, seconds, cpu, ("p50=%.3f p90=%.3f p99=%.3f p999=%.3f most=%.3f"):format(quantile(0.5), quantile(0.9),
  quantile(0.99), quantile(0.999), latencies[#latencies]))
assert(hub:close(10))
