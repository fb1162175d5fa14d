-- As fast as it goes: COUNT messages by one send_batch, so many of them under way at once.
--   target=URL count=N in_flight=N [workers=N] [rules=FOLDER] [journal=FILE] [chunk=N]
-- With `chunk`, batches of so many follow one another without waiting: what a journal takes in one go. Warms up first.
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments { count = 10000, in_flight = 50, workers = 1, chunk = 0 }
local each = math.max(given.in_flight // given.workers, 1)
local hub = assert(notifyhub.new {
  workers = { min = given.workers, max = given.workers, in_flight = each },
  transport = { connections = math.max(given.in_flight, 16) },
  lanes = { most = math.max(given.in_flight, 16) },
  queue = { capacity = math.max(given.count, 2 * given.in_flight, 1000), journal = given.journal },
  rules = given.rules, targets = { sink = given.target },
})

local message = support.message(given.rules and "sink" or given.target)
local warm = assert(hub:send_batch(support.repeated(message, math.max(2 * given.in_flight, 100))))
assert(warm:wait(120))
support.check(warm)

local chunk = given.chunk > 0 and given.chunk or given.count
local messages = support.repeated(message, chunk)
local batches = {}
local seconds, cpu = support.measure(hub, function()
  for index = 1, given.count // chunk do
    batches[index] = assert(hub:send_batch(messages))
  end
  for _, batch in ipairs(batches) do
    assert(batch:wait(300))
  end
end)
for _, batch in ipairs(batches) do support.check(batch) end
support.print(given.count // chunk * chunk, seconds, cpu)
assert(hub:close(10))
