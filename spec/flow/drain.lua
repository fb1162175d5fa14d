-- SIGTERM while messages flow: R16: the program ends within 30 s, with 0, and what it had accepted has arrived, once.
--
--   notifyhub run spec/flow/drain.lua [SECONDS]
--
-- Each platform twice, the second time with a journal, which has to be empty then. A batch whose call the signal finds under
-- way may arrive without having been counted. With SECONDS over 40 there is also a platform that never answers: then the
-- drain has its end, and says what is left.

local hostile = require "spec.support.hostile"
local torture = require "spec.support.torture"

local SECONDS = tonumber(arg[1]) or 0
local DRAIN = 30 -- seconds: signals.h
local PATHS = { "/ok", "/slow/0.2", "/slow/1", "/flaky/503/10" }
local check, say = torture.check, torture.say

-- The program that gets the signal: as fast as it can, or as its platforms can, until it is told to end. What it has accepted
-- are the ids up to the number that it prints.
local CHILD = [[
local notifyhub = require "notifyhub"
local url, journal, hole = ...
local hub = assert(notifyhub.new {
  targets = { sink = url, hole = hole }, retry = { attempts = 5 }, queue = { journal = journal ~= "" and journal or nil },
  transport = { timeout = 600, connect_timeout = 600 },
})
local accepted, batches = 0, {}
-- Told when all has ended: how many were accepted, and what became of those that were not delivered.
local told <close> = setmetatable({}, { __close = function()
  hub:close(100)
  print("accepted " .. accepted)
  if journal ~= "" then print("kept " .. hub:stats().journal.depth) end
  for _, batch in ipairs(batches) do
    for _, receipt in ipairs(batch:wait(0) or {}) do
      if receipt.status ~= "delivered" then print("failed", receipt.code, receipt.error) end
    end
  end
end })
if hole then assert(hub:send_async { title = "h", body = "b", targets = { "hole" } }) end
print "ready"
io.stdout:flush()
while true do
  local messages = {}
  for index = 1, 100 do
    messages[index] = { title = "~m" .. accepted + index .. "~", body = ("x"):rep(200), targets = { "sink" } }
  end
  batches[#batches + 1] = assert(hub:send_batch(messages))
  accepted = accepted + 100
  while hub:stats().pending > 2500 do hub:poll(0.01) end
end
]]

local function slurp(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a" or ""
end

-- One program that is told to end after `seconds`. → its status, how long the end took, what it printed.
local function run(sink, seconds, path, journal, hole)
  local out = sink.directory .. "/child"
  torture.write(out .. ".lua", CHILD)
  torture.shell("{ %q/bin/notifyhub run %s.lua %q %q %s >%s.out 2>%s.err & echo $! >%s.pid; wait $!; echo $? >%s.new; "
    .. "mv %s.new %s.status; } &",
    os.getenv "NH_BUILD_DIR" or "build", out, sink:target(path), journal and out .. ".db" or "",
    hole and ("%q"):format(hole) or "", out, out, out, out, out, out)
  local patience = torture.now() + 60 * torture.slow
  while not slurp(out .. ".out"):find "ready" and torture.now() < patience do os.execute "sleep 0.05" end
  os.execute(("sleep %.2f"):format(seconds))
  local pid = slurp(out .. ".pid"):match "%d+"
  local began = torture.now()
  torture.shell("kill -TERM %s", pid)
  while not io.open(out .. ".status") and torture.now() < began + DRAIN + 30 * torture.slow do os.execute "sleep 0.05" end
  local done = {
    status = tonumber(slurp(out .. ".status")), took = torture.now() - began, err = slurp(out .. ".err"),
    accepted = tonumber(slurp(out .. ".out"):match "accepted (%d+)"), failed = slurp(out .. ".out"):match "failed[^\n]*",
    kept = tonumber(slurp(out .. ".out"):match "kept (%d+)"),
  }
  if not done.status then
    torture.shell("kill -KILL %s", pid)
  end
  os.remove(out .. ".status")
  return done
end

-- What all runs of a kind came to.
local function new_sums(what)
  return { what = what, worst = 0, lost = 0, duplicates = 0, all = 0, times = 0, bad = 0 }
end
local sums = { new_sums "", new_sums ", with a journal" }

local began = torture.now()
repeat
  for turn = 0, 7 do
    local path, journal = PATHS[turn // 2 + 1], turn % 2 == 1
    local sum = sums[journal and 2 or 1]
    local sink = hostile.start()
    local done = run(sink, 0.3 + math.random(), path, journal)
    local accepted = {}
    for index = 1, done.accepted or 0 do accepted["m" .. index] = true end
    local account = hostile.account(accepted, sink:stop())
    local fine = check(done.status == 0, "%s: ended with %s: %s", path, tostring(done.status), done.err)
      and check(done.err == "", "%s: %s", path, done.err) and check(not done.failed, "%s: %s", path, done.failed)
      and check(not journal or done.kept == 0, "%s: %s are left in the journal", path, tostring(done.kept))
    sum.bad = sum.bad + (fine and 0 or 1)
    check(account.accepted > 0, "%s: nothing was accepted", path)
    check(account.lost == 0 and account.duplicates == 0, "%s: of %d messages %d are lost, %d came twice: %s", path,
      account.accepted, account.lost, account.duplicates, account.text)
    say("%-30s %6d accepted, %6d arrived; ended with %s after %.2f s", path .. sum.what, account.accepted, account.delivered,
      tostring(done.status), done.took)
    sum.times, sum.all, sum.worst = sum.times + 1, sum.all + account.accepted, math.max(sum.worst, done.took)
    sum.lost, sum.duplicates = sum.lost + account.lost, sum.duplicates + account.duplicates
  end
until torture.now() - began >= SECONDS

if SECONDS > 40 then
  local sink = hostile.start()
  local done = run(sink, 1, "/ok", false, sink:target("/ok", "mute"))
  check(done.status == 1 and done.err:find "1 messages? w", "with a hole: ended with %s: %s", tostring(done.status), done.err)
  check(done.took > DRAIN - 1 and done.took < DRAIN + 3, "with a hole: took %.1f s", done.took)
  say("with a platform that never answers it took %.1f s: %s", done.took, done.err:match "^[^\n]*")
  sink:stop()
end
for _, sum in ipairs(sums) do
  torture.row("R16", "programs that end with 0 at SIGTERM under load" .. sum.what, sum.bad == 0,
    ("%d of %d"):format(sum.times - sum.bad, sum.times), "all")
  torture.row_figure("R16", "the longest drain" .. sum.what, sum.worst, DRAIN, "s")
  torture.row("R16", "lost, duplicates" .. sum.what, sum.lost + sum.duplicates == 0,
    ("%d, %d of %d"):format(sum.lost, sum.duplicates, sum.all), "0")
end
torture.done()
