-- A disk that is full for a while, under a journal that messages are sent into: R4: senders are refused, at once, what was
-- accepted is delivered meanwhile, and when there is room again all goes on by itself, with nothing lost.
--
--   notifyhub run spec/flow/fulldisk.lua [SECONDS]     below 60: full for 3 seconds; else for 60
--
-- The program is this file again, with the word `child`, in a mount namespace of its own: its disk is a small tmpfs that ends
-- with the last process in there, however that ends. That needs root, or a system where everybody may have a namespace.

local notifyhub = require "notifyhub"

local hostile = require "spec.support.hostile"
local receiver = require "spec.support.receiver"
local torture = require "spec.support.torture"

local check, say = torture.check, torture.say
local DISK = 32 -- MiB

------------------------------------------------------------------- the parent

if arg[1] ~= "child" then
  local full = (tonumber(arg[1]) or 0) >= 60 and 60 or 3
  local root = torture.directory()
  local mounted, why
  for _, options in ipairs { "--mount", "--mount --map-root-user" } do
    local within = ("unshare %s sh -c 'mount -t tmpfs -o size=%dm none %s && exec \"$@\"' sh"):format(options, DISK, root)
    local probe <close> = assert(io.popen(within .. " true 2>&1"))
    why = probe:read "a"
    if probe:close() then
      mounted = within
      break
    end
  end
  local held = true
  for _, kind in ipairs(mounted and { "slow", "fast" } or {}) do
    local held_too = os.execute(("%s %s run spec/flow/fulldisk.lua child %s %s %d"):format(mounted, receiver.executable(), root,
      kind, full))
    held = held and held_too
  end
  if not mounted then
    say("skipped: no small disk can be mounted here, R4 was not measured: %s", why)
  end
  torture.shell("rmdir %s", root)
  os.exit(held, true)
end

--------------------------------------------------------------------- the child

-- Slow: a platform that takes 160 messages a second, and enough of them for all the time. Fast: many messages that fall due
-- while the disk is full and are delivered as fast as can be; what their deliveries have to write waits in memory.
local root, FAST, FULL = arg[2], arg[3] == "fast", tonumber(arg[4])
local PAUSE = 0.01 -- between two messages
local IN_FLIGHT, TAKES = 16, 0.1
local BACKLOG = FAST and 20000 or FULL * IN_FLIGHT // TAKES
local BEFORE, AFTER = 1, 2 -- seconds of sending with room
local BODY = ("x"):rep(200)

local sink = hostile.start()
local hub <close> = assert(notifyhub.new {
  queue = { journal = root .. "/journal.db" }, workers = { max = 1, in_flight = IN_FLIGHT },
  lanes = { enabled = false }, breaker = { enabled = false },
  targets = { sink = sink:target(FAST and "/ok" or ("/slow/%g"):format(TAKES)) },
})
local accepted, number = {}, 0

local function message(due)
  number = number + 1
  local id = "m" .. number
  return { id = id, title = hostile.mark(id), body = BODY, targets = { "sink" }, deliver_at = due }
end

local function fill_queue()
  local due = FAST and os.time() + 3 or nil
  for _ = 1, BACKLOG, 100 do
    local messages = {}
    for place = 1, 100 do messages[place] = message(due) end
    assert(hub:send_batch(messages))
    for _, each in ipairs(messages) do accepted[each.id] = true end
  end
end

-- Sends at its pace. → when the first was accepted, and of those that were refused how many, how many for another reason than
-- the journal, the last reason, and the longest time that a refusal took.
local function send_for(seconds)
  local seen = { accepted = 0, refused = 0, strange = 0, slowest = 0 }
  local began = torture.now()
  repeat
    local each, asked = message(), torture.now()
    local handle, problem, code = hub:send_async(each)
    local answered = torture.now()
    if handle then
      accepted[each.id] = true
      seen.accepted, seen.first = seen.accepted + 1, seen.first or answered
    else
      seen.refused, seen.why = seen.refused + 1, problem
      seen.strange = seen.strange + (code == "journal" and 0 or 1)
      seen.slowest = math.max(seen.slowest, answered - asked)
    end
    hub:poll(PAUSE)
  until torture.now() - began >= seconds
  return seen
end

-- How many deliveries a time saw, and the longest time without one.
local function deliveries(from, to)
  local count, last, gap = 0, from, 0
  for _, entry in ipairs(sink:read()) do
    if entry.time and entry.time >= from and entry.time <= to then
      count, gap, last = count + 1, math.max(gap, entry.time - last), entry.time
    end
  end
  return count, math.max(gap, to - last)
end

fill_queue()
local before = send_for(BEFORE)
check(before.refused == 0, "with room, %d were refused: %s", before.refused, before.why)

local filled = torture.now()
check(not os.execute(("cat /dev/zero >%s/filler 2>/dev/null"):format(root)), "the disk cannot be filled")
local during = send_for(FULL)
local trouble = hub:stats().journal.state
local freed = torture.now()
torture.shell("rm %s/filler", root)
local count, gap = deliveries(filled, freed)
say("full for %.1f s: %d accepted, %d refused: %s", freed - filled, during.accepted, during.refused, during.why)
check(during.refused > 0, "the disk was never full: nothing was refused")
check(trouble == "trouble", "a full disk is told as %s", trouble)

local after = send_for(AFTER)
check(after.first, "nothing is accepted with room again: %s", after.why)
local patience = torture.now() + 120 * torture.slow
while hub:stats().journal.depth > 0 and torture.now() < patience do hub:poll(0.05) end
local figures = hub:stats()
check(figures.journal.depth == 0, "%d still wait in the journal", figures.journal.depth)
hub:close(10)
local account = hostile.account(accepted, sink:stop())
check(account.unknown == 0, "%d were refused and came: %s", account.unknown, account.text)

local kind = FAST and ", while many end" or ""
torture.row("R4", "refusals of a full disk that say so" .. kind, during.refused > 0 and during.strange + after.strange == 0,
  ("%d of %d"):format(during.refused - during.strange, during.refused), "all")
torture.row_figure("R4", "a refusal takes at most" .. kind, during.slowest, 0.1, "s")
torture.row("R4", "deliveries while the disk is full" .. kind, count > 0, ("%d in %.0f s"):format(count, freed - filled),
  "they go on")
if not FAST then -- that has its pauses: before they are due, and after they have all come
  torture.row_figure("R4", "the longest time without one", gap, 1, "s")
end
torture.row_figure("R4", "from room to the first that is accepted" .. kind, (after.first or math.huge) - freed, 1, "s")
torture.row("R4", "lost, duplicates" .. kind, account.lost == 0, ("%d, %d of %d"):format(account.lost, account.duplicates,
  account.accepted), "0 lost")
torture.done()
