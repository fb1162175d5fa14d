-- Sends COUNT messages of about 300 bytes to URL with IN_FLIGHT of them under way, and prints: messages a second, CPU microseconds
-- a message (all threads, from the Lua table to the settled receipt).
--   notifyhub run burst.lua URL COUNT IN_FLIGHT
local notifyhub = require "notifyhub"

local url, count, in_flight = arg[1], tonumber(arg[2]), tonumber(arg[3])
local hub <close> = assert(notifyhub.new { workers = { min = 1, max = 1, in_flight = in_flight } })
local body = ("x"):rep(200)
local messages = {}
for index = 1, count do
  messages[index] = { title = "bench", body = body, targets = { url } }
end
assert(hub:send_batch { messages[1] }):wait(10)

local function now()
  local file <close> = assert(io.open "/proc/uptime")
  return tonumber(file:read "n")
end

local started, cpu = now(), os.clock()
local batch = assert(hub:send_batch(messages))
assert(batch:wait(120))
local seconds, used = now() - started, os.clock() - cpu
assert(batch:status().failed == 0, "some were not delivered")
print(("%.0f %.1f"):format(count / seconds, used / count * 1e6))
