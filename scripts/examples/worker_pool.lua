-- How many workers, how long a queue: what the settings do, measured.
--
--   notifyhub receive --http 8080
--   NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/worker_pool.lua
--
-- A worker is a thread that holds thousands of transfers at a time, so a few are enough: about one
-- a core. The queue is bounded: what does not fit is refused at once with `queue_full`, never
-- dropped and never waited for. A batch is taken as a whole or not at all.
local notifyhub = require "notifyhub"

local http = os.getenv "NOTIFYHUB_HTTP"
if not http then
  io.stderr:write [[
NOTIFYHUB_HTTP is not set. Start a receiver, and say where it is:
  notifyhub receive --http 8080
  NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/worker_pool.lua
]]
  os.exit(2)
end

local function messages(count)
  local list = {}
  for index = 1, count do
    list[index] = { title = "pool " .. index, body = "of " .. count, targets = { "json://" .. http .. "/pool" } }
  end
  return list
end

local function pool(workers, capacity)
  return assert(notifyhub.new { workers = { min = workers, max = workers }, queue = { capacity = capacity } })
end

-- Calls fn and returns the seconds that it took, by the hub's clock.
local function timed(hub, fn)
  local begun = hub:stats().uptime
  fn()
  return hub:stats().uptime - begun
end

local function deliver(hub, list)
  for _, receipt in ipairs(assert(assert(hub:send_batch(list)):wait(30))) do
    assert(receipt.status == "delivered", receipt.error)
  end
end

print "1. Fifty messages, one after the other, and through the pool"
local hub = pool(2, 1000)
local direct = timed(hub, function()
  for _, message in ipairs(messages(50)) do
    assert(assert(hub:send(message, 30)).status == "delivered")
  end
end)
local pooled = timed(hub, function() deliver(hub, messages(50)) end)
print(("  one after the other: %6.1f ms"):format(direct * 1000))
print(("  through the pool:    %6.1f ms, %.1f times as fast"):format(pooled * 1000, direct / pooled))
hub:close(5)

print "2. Pools of several sizes, each with as much as its queue holds"
for _, size in ipairs { { 2, 50 }, { 8, 200 }, { 16, 500 } } do
  local workers, capacity = size[1], size[2]
  hub = pool(workers, capacity)
  local seconds = timed(hub, function() deliver(hub, messages(capacity)) end)
  print(("  %2d workers, %3d places: %6.1f ms, %6.0f messages a second"):format(
    workers, capacity, seconds * 1000, capacity / seconds))

  local batch, problem, code = hub:send_batch(messages(capacity + 1))
  assert(not batch and code == "queue_full", problem)
  print(("     %d at once: %s"):format(capacity + 1, problem))
  hub:close(5)
end

print "3. Two hundred messages in batches of fifty"
hub = pool(2, 200)
local seconds = timed(hub, function()
  local batches = {}
  for number = 1, 4 do batches[number] = assert(hub:send_batch(messages(50))) end
  for number, batch in ipairs(batches) do
    assert(batch:wait(30))
    local status = batch:status()
    print(("  batch %d: %d of %d delivered"):format(number, status.delivered, status.total))
    assert(status.delivered == 50)
  end
end)
print(("  %.1f ms in all"):format(seconds * 1000))

print "4. What a hub holds, before and after its end"
local function held(when)
  local figures = hub:stats()
  print(("  %s: %d workers, %d messages pending, %d in flight, %d bytes queued"):format(
    when, figures.workers.count, figures.pending, figures.workers.in_flight, figures.queue.bytes))
  return figures
end
local last = assert(hub:send_batch(messages(50)))
held "before close"
assert(hub:close(10) == 0, "close lets accepted messages end") -- nothing had to be given up
local figures = held "after close"
assert(figures.workers.count == 0 and figures.pending == 0 and figures.queue.bytes == 0)
assert(last:status().delivered == 50)
local handle, problem, code = hub:send_async(messages(1)[1])
assert(not handle and code == "closed")
print("  one more message: " .. problem)
