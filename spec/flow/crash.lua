-- A program that sends into a journal is killed at random moments and started again, until all is sent: nothing that was
-- accepted may be missing at the receiver, and little may come twice. Then a message that ends the process whenever its
-- script runs: after three times it is a dead letter, and others flow.
--
--   notifyhub run spec/flow/crash.lua [SECONDS]     below 60: 10 kills in 20,000 messages; else 50 in 100,000
--
-- The program is this file again, with the word `child`. It notes the number of each batch that was accepted in a file (the
-- ledger), after the call has returned; the kernel keeps that when the process ends.

local notifyhub = require "notifyhub"

local torture = require "spec.support.torture"

local BATCH, IN_FLIGHT, WORKERS = 20, 64, 2
local UNWRITTEN = 512 -- receipts of the last milliseconds, that the journal had not written

-- What is sent and to whom: the child's arguments, and the parent's.
local function config(journal, url)
  return {
    queue = { journal = journal, window = 2000 }, workers = { max = WORKERS, in_flight = IN_FLIGHT },
    platforms = { sink = { platform = "webhook", url = url } },
  }
end

--------------------------------------------------------------------- the child

if arg[1] == "child" then
  local root, url, from, last = arg[2], arg[3], tonumber(arg[4]), tonumber(arg[5])
  local began = torture.now()
  local hub = assert(notifyhub.new(config(root .. "/journal.db", url)))
  local ledger = assert(io.open(root .. "/ledger", "a"))
  if hub:stats().journal.depth > 0 then
    while hub:stats().delivered == 0 do hub:poll(0.005) end
    local first <close> = assert(io.open(root .. "/first", "a"))
    first:write(torture.now() - began, "\n")
  end
  for number = from, last do
    local messages = {}
    for place = 1, BATCH do
      messages[place] = { id = ("c%d.%d"):format(number, place), title = "t", targets = { "sink" } }
    end
    assert(hub:send_batch(messages))
    ledger:write(number, "\n")
    ledger:flush()
    hub:sleep(0.002) -- so that a run does not end before it is killed
  end
  while hub:stats().journal.depth > 0 do hub:poll(0.02) end
  os.exit(true, true)
end

-------------------------------------------------------------------- the parent

local receiver = require "spec.support.receiver"

local check, say = torture.check, torture.say
local long = (tonumber(arg[1]) or 0) >= 60
local KILLS, MESSAGES = long and 50 or 10, long and 100000 or 20000
local BATCHES = MESSAGES // BATCH
local program = receiver.executable()

local function lines(path)
  local list = {}
  local file <close> = io.open(path)
  for line in file and file:lines() or function() end do list[#list + 1] = line end
  return list
end

-- The batches that were accepted, and the first number that was not tried before. A number that was being accepted when the
-- process was killed may be in the journal: it is not sent again, and not asked for.
local function accepted(root)
  local set, count = {}, 0
  for _, line in ipairs(lines(root .. "/ledger")) do
    set[tonumber(line)], count = true, math.max(count, tonumber(line))
  end
  return set, count
end

-- How often each id has come to the receiver.
local function arrivals(sink)
  local ids = {}
  for line in io.lines(sink.directory .. "/out") do
    local id = line:match 'message_id\\":\\"(c%d+%.%d+)'
    if id then ids[id] = (ids[id] or 0) + 1 end
  end
  return ids
end

local function kills()
  local sink = receiver.start { http = true }
  local root = torture.directory()
  local killed, next_batch = 0, 1
  math.randomseed(os.time())
  torture.write(root .. "/ledger", "")
  repeat
    -- Each run but the last is killed when it has sent a random part of its share, and a random moment later.
    local share = killed < KILLS and math.random(1, math.max(1, (BATCHES - next_batch) // (KILLS - killed + 1)))
      or BATCHES
    local ended = os.execute(([[
      %s run spec/flow/crash.lua child %s %s/ %d %d 2>>%s/errors & pid=$!
      while kill -0 $pid 2>/dev/null && [ $(wc -l <%s/ledger) -lt %d ]; do sleep 0.01; done
      [ %d -lt %d ] && sleep %.3f && kill -KILL $pid 2>/dev/null
      wait $pid]]):format(program, root, sink.url, next_batch, BATCHES, root, root, next_batch - 1 + share, killed, KILLS,
      0.02 * math.random()))
    if not ended then killed = killed + 1 end
    local _, most = accepted(root)
    next_batch = math.max(next_batch, most + (ended and 1 or 2))
  until ended and next_batch > BATCHES
  local set = accepted(root)
  local ids = arrivals(sink)
  local batches, lost, twice = 0, 0, 0
  for number in pairs(set) do
    batches = batches + 1
    for place = 1, BATCH do
      if not ids[("c%d.%d"):format(number, place)] then lost = lost + 1 end
    end
  end
  for _, count in pairs(ids) do twice = twice + count - 1 end
  local slowest = 0
  for _, line in ipairs(lines(root .. "/first")) do slowest = math.max(slowest, tonumber(line)) end
  for _, line in ipairs(lines(root .. "/errors")) do
    if line ~= "Killed" then say("the program said: %s", line) end
  end
  check(killed > 0, "it was never killed")
  local what = ("accepted messages that are missing after %d kills"):format(killed)
  torture.row("R1", what, lost == 0, ("%d of %d"):format(lost, batches * BATCH), "0")
  torture.row("R1", "messages that came twice, a kill", twice <= killed * (WORKERS * IN_FLIGHT + UNWRITTEN),
    ("%.1f"):format(twice / math.max(1, killed)), ("at most %d in flight and %d unwritten"):format(WORKERS * IN_FLIGHT, UNWRITTEN))
  torture.row_figure("R1", "from the start to the first delivery", slowest, 2, "s")
  receiver.stop_all()
  torture.shell("rm -rf %s", root)
end

-- A message during whose script the process ends, each time: the script never ends by itself, and the process is aborted
-- while it runs.
local function poison()
  local root = torture.directory()
  local sink = receiver.start { http = true }
  torture.shell("mkdir %s/rules", root)
  torture.write(root .. "/rules/poison.lua", [[
    route { name = "poison", match = { poison = true }, handle = function() while true do end end }
  ]])
  torture.write(root .. "/poison.lua", ([[
    local hub = assert(require "notifyhub".new { rules = %q, limits = { slice = 60 }, workers = { max = 1 },
      queue = { journal = %q }, platforms = { sink = { platform = "webhook", url = %q } } })
    if arg[1] == "1" then assert(hub:send_async { id = "poison", title = "t", metadata = { poison = true } }) end
    assert(hub:send({ id = "well" .. arg[1], title = "t", targets = { "sink" } }, 600))
    while hub:stats().journal.depth > 0 do hub:poll(0.01) end
    for _, letter in ipairs(hub:dead_letters()) do print(letter.id, letter.code, letter.crashes) end
  ]]):format(root .. "/rules", root .. "/journal.db", sink.url .. "/"))
  local crashes, told = 0
  repeat
    -- The last one is not aborted, unless it hangs.
    local patience = crashes < 3 and 2 * torture.slow or 100
    local pipe <close> = assert(io.popen(("ulimit -c 0; timeout -s ABRT %d %s run %s/poison.lua %d 2>/dev/null"):format(
      patience, program, root, crashes + 1)))
    told = pipe:read "a"
    local ended = pipe:close()
    if not ended then crashes = crashes + 1 end
  until ended or crashes > 3
  torture.row("R15", "a message that ends the process is a dead letter after", crashes == 3, crashes .. " crashes", "3")
  check(told:match "^poison\tscript\t3\n$", "the dead letters are: %s", told)
  receiver.stop_all()
  torture.shell("rm -rf %s", root)
end

kills()
poison()
torture.done()
