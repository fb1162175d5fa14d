-- Many messages that wait in a journal, while their platform answers nothing: what they need in memory.
--
--   notifyhub run spec/flow/spilled.lua [SECONDS]     below 60: 200,000 messages; else 1,000,000

local notifyhub = require "notifyhub"

local receiver = require "spec.support.receiver"
local torture = require "spec.support.torture"

local say = torture.say
local COUNT = (tonumber(arg[1]) or 0) >= 60 and 1000000 or 200000
local BATCH, WINDOW, BODY = 1000, 10000, ("x"):rep(200)

local root = torture.directory()
local sink = receiver.start { http = true, delay = 3600 }
local hub = assert(notifyhub.new {
  queue = { journal = root .. "/journal.db", journal_bytes = 8 << 30, window = WINDOW }, workers = { max = 1, in_flight = 16 },
  platforms = { sink = { platform = "webhook", url = sink.url .. "/", timeout = 3600 } },
})

local function send(count)
  for _ = 1, count / BATCH do
    local messages = {}
    for place = 1, BATCH do messages[place] = { title = "t", body = BODY, targets = { "sink" } } end
    assert(hub:send_batch(messages))
  end
  collectgarbage()
  collectgarbage()
end

-- The window is full before it is measured: what it needs is not what the backlog needs.
send(2 * WINDOW)
local before = torture.resident()
local began = torture.now()
send(COUNT)
local took = torture.now() - began
local grown = (torture.resident() - before) / (1 << 20)
local stats = hub:stats()
say("%d messages wait, %.1f MB on the disk; %.0f accepted a second", stats.journal.depth, stats.journal.bytes / 1e6, COUNT / took)
torture.check(stats.journal.depth == COUNT + 2 * WINDOW, "%d wait", stats.journal.depth)
torture.row("R10", ("memory for %d more messages in the journal"):format(COUNT), torture.sanitized or grown < 64,
  ("%.1f MB"):format(grown), "below 64 MB")
say("%d handles are known", stats.journal.parked)
hub:close(0)
receiver.stop_all()
torture.shell("rm -rf %s", root)
torture.done()
