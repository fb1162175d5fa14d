-- Mails one after the other over one connection.   smtp=HOST:PORT count=N
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments { count = 1000 }
local host, port = given.smtp:match "^(.*):(%d+)$"
local hub = assert(notifyhub.new {
  workers = { min = 1, max = 1, in_flight = 1 },
  platforms = { email = { host = host, port = tonumber(port), security = "none", from = "bench@example.com", rate = false } },
})

local message = { title = "bench", body = ("x"):rep(70 * 4), targets = { "sink@example.com" } }
local function send(count)
  local batch = assert(hub:send_batch(support.repeated(message, count)))
  assert(batch:wait(120))
  support.check(batch)
end
send(50)
local seconds, cpu = support.measure(hub, function() send(given.count) end)
support.print(given.count, seconds, cpu)
assert(hub:close(10))
