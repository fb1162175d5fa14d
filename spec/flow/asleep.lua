-- Messages that sleep in handlers, all at once: how much memory they take, and how late they wake.
--
--   notifyhub run spec/flow/asleep.lua [SECONDS] [MESSAGES]

local notifyhub = require "notifyhub"

local torture = require "spec.support.torture"

local COUNT = tonumber(arg[2]) or 20000
local SECONDS = math.max(tonumber(arg[1]) or 4, 2) * torture.slow -- until they wake
local MOST = 200e6 -- bytes of memory for 20,000 of them
local check, say = torture.check, torture.say

local root = torture.directory()
torture.write(root .. "/sleepers.lua", [[
-- Lateness is counted by tenths of a second.
route {
  name = "sleep", match = { what = "sleep" },
  handle = function(message)
    sleep(math.max(0, message.metadata.due - now()))
    local late = now() - message.metadata.due
    store.incr("tenth " .. math.floor(late * 10), 1)
    if late < 0 then store.incr("early", 1) end
    return true
  end,
}
route {
  name = "count", match = { what = "count" },
  handle = function(message)
    return false, json.encode { value = store.get(message.metadata.key) or 0 }
  end,
}
]])

local hub = assert(notifyhub.new {
  rules = root, workers = { min = 1, max = 2 }, queue = { capacity = COUNT + 10 },
})

local function count_of(key)
  local receipt = assert(hub:send({ title = "count", metadata = { what = "count", key = key } }, 60))
  return tonumber(receipt.error:match '"value":(%-?%d+)')
end

count_of "nothing" -- everything is loaded
collectgarbage()
local before = torture.resident()

local function wall()
  local receipt = assert(hub:send({ title = "count", metadata = { what = "count", key = "x" } }, 60))
  return receipt.settled_at
end

local due = wall() + SECONDS
local messages = {}
for index = 1, COUNT do
  messages[index] = {
    title = "Disk full", body = ("x"):rep(300), metadata = { what = "sleep", due = due, service = "db" }, priority = "high",
  }
end
local batch = assert(hub:send_batch(messages))
messages = nil -- luacheck: ignore 311
collectgarbage()

local patience = torture.now() + SECONDS
local asleep = 0
while asleep < COUNT and torture.now() < patience do
  hub:sleep(0.02)
  asleep = hub:stats().workers.asleep
end
local figures = hub:stats()
local held = torture.resident() - before
say("%d asleep after %.2f s, in %d workers", asleep, SECONDS - (due - wall()), figures.workers.count)
say("memory: %.1f MB resident more than before, %.0f bytes a message; Lua states %.1f MB, %.0f bytes a message", held / 1e6,
  held / COUNT, figures.workers.memory / 1e6, figures.workers.memory / COUNT)
check(asleep == COUNT, "only %d of %d were asleep at once", asleep, COUNT)
if not torture.sanitized then
  check(held < MOST * math.max(1, COUNT / 20000), "%d messages asleep take %.1f MB", COUNT, held / 1e6)
end

local receipts = assert(batch:wait(SECONDS + 60 * torture.slow))
local problems = {}
local last = 0
for _, receipt in ipairs(receipts) do
  last = math.max(last, receipt.settled_at - due)
  if receipt.status ~= "delivered" then
    local what = ("%s: %s"):format(receipt.code, receipt.error)
    problems[what] = (problems[what] or 0) + 1
  end
end
for what, count in pairs(problems) do
  check(false, "%d messages: %s", count, what)
end
local woken, latest = 0, 0
for tenth = 0, 600 do
  local count = count_of("tenth " .. tenth)
  woken = woken + count
  if count > 0 then
    latest = (tenth + 1) / 10
    say("  %5d woke within %.1f s", count, latest)
  end
  if woken >= COUNT then
    break
  end
end
check(woken == COUNT, "%d of %d woke", woken, COUNT)
check(count_of "early" == 0, "%d woke before their time", count_of "early")
torture.figure("the last one woke after", latest, 1, "s")
torture.figure("the last one settled after", last, 1, "s")
hub:close(5)
torture.shell("rm -rf %s", root)
torture.done()
