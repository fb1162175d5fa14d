-- What a message in flight costs: sends COUNT messages of about 300 bytes to URL, whose answers take long, and prints bytes a
-- message, split by who holds it: the scripts (Lua's own count), the rest (all that the process grew by, less that).
--   notifyhub receive --http 8080 --delay 5 --count &
--   notifyhub run in_flight.lua json://127.0.0.1:8080/ COUNT [CONNECTIONS]
-- With CONNECTIONS = 1 all but one message wait for a connection, so that no socket's buffers are counted.
local notifyhub = require "notifyhub"

local url, count, connections = arg[1], tonumber(arg[2]), tonumber(arg[3] or 1)
local hub <close> = assert(notifyhub.new {
  workers = { min = 1, max = 1, in_flight = count + 10 }, transport = { connections = connections, timeout = 600 },
  lanes = { enabled = false }, -- else all but a few wait for a place in the lane, before the transport has them
})

local function resident()
  local file <close> = assert(io.open "/proc/self/statm")
  local _, pages = file:read("n", "n")
  return pages * 4096
end

local function wait_for(condition)
  while not condition() do hub:sleep(0.02) end
end

local function in_flight()
  return hub:stats().workers.in_flight
end

local body = ("x"):rep(270)
local message = { title = "bench", body = body, targets = { url } } -- one table: the sender's memory is not in question
local function send(number)
  local messages = {}
  for index = 1, number do messages[index] = message end
  local batch = assert(hub:send_batch(messages))
  wait_for(function() return in_flight() == number end)
  return batch
end

-- Code, caches and the allocator's first pages are paid before: they are not a message's.
local warm = send(100)
warm:cancel()
warm:wait()
collectgarbage()
hub:sleep(0.2)

local before, scripts = resident(), hub:stats().workers.memory
local batch = send(count)
collectgarbage()
hub:sleep(0.2)
local total = (resident() - before) / count
local lua = (hub:stats().workers.memory - scripts) / count
print(("%d in flight: %.0f bytes a message: %.0f scripts, %.0f the rest"):format(count, total, lua, total - lua))
batch:cancel()
batch:wait()
