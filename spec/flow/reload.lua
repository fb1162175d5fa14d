-- Rules that change while messages flow: ten times a second another folder takes the place of the one before, in turns good,
-- better, with a syntax error, with an error while it loads, and with a loop that never ends. Each has two files and a
-- template that were written together, and every message that arrives must carry the marks of all three of one folder.
--
--   notifyhub run spec/flow/reload.lua [SECONDS] [MESSAGES A SECOND]

local notifyhub = require "notifyhub"

local receiver = require "spec.support.receiver"
local torture = require "spec.support.torture"

local SECONDS, RATE = tonumber(arg[1]) or 6, tonumber(arg[2]) or torture.sanitized and 300 or 2500
local CHANGES = torture.sanitized and 3 or 10 -- a second
local LOADING = 0.05 * torture.slow -- seconds: what an endless loop costs
local check, say = torture.check, torture.say

---------------------------------------------------------------- the folders

-- What part `which` of folder `number` says: as good as a checksum, since nothing else says it.
local function mark(number, which)
  return ("%08x"):format((number * 2654435761 + which * 40503) & 0xffffffff)
end

local ENDINGS = {
  'route { name = "all", to = "sink", template = "told" }',
  'route { name = "one", match = function(message) return message.metadata.nth % 2 == 0 end,\n'
    .. '  handle = function(message) return send(message, "sink", { template = "told" }) end }\n'
    .. 'route { name = "all", to = "sink", template = "told" }',
  "route { name = ",
  'error "this folder is broken"',
  "while true do end",
}

local root = torture.directory()

local function make_folder(number)
  local folder = ("%s/v%d"):format(root, number)
  torture.shell("mkdir -p %s/templates", folder)
  torture.write(folder .. "/10-first.lua", ("number, first = %d, %q\n"):format(number, mark(number, 1)))
  torture.write(folder .. "/20-second.lua", ([[
local second_number, second_mark = %d, %q
function second() return second_number .. " " .. second_mark end
on("complete", function() store.incr("completed", 1) end)
route { name = "count", match = { what = "count" }, handle = function() return false, tostring(store.get "completed") end }
%s
]]):format(number, mark(number, 2), ENDINGS[number % #ENDINGS + 1]))
  torture.write(folder .. "/templates/told.txt", ("Subject: {{ number }}\n<{{ nth }}|{{ number }} {{ first }}|{{ second() }}"
    .. "|%d %s>\n"):format(number, mark(number, 3)))
  return folder
end

local function is_good(number)
  return number % #ENDINGS < 2
end

-- Puts a folder in place, as a whole.
local function exchange(number)
  torture.shell("ln -s v%d %s/next && mv -T %s/next %s/rules && rm -rf %s/v%d", number, root, root, root, root, number - 20)
end

--------------------------------------------------------------------- running

local sink = receiver.start { http = true }
local number = 5 -- a good one
make_folder(number)
exchange(number)
local hub = assert(notifyhub.new {
  rules = root .. "/rules", targets = { sink = sink.url:gsub("^http", "json") .. "/told" },
  limits = { loading = LOADING }, queue = { capacity = 1000000 },
})

local statuses, generations, batches = {}, {}, {}
local sent, settled, loaded, refused, wrongly = 0, 0, 0, 0, {}
local by_id = {}

-- Notes what has settled and lets it go.
local function collect(seconds)
  while batches[1] and batches[1]:wait(seconds) do
    for _, receipt in ipairs(table.remove(batches, 1):wait(0)) do
      settled = settled + 1
      local what = receipt.status == "delivered" and "delivered" or ("%s: %s"):format(receipt.code, receipt.error)
      statuses[what] = (statuses[what] or 0) + 1
      by_id[tonumber(receipt.id:sub(2))] = receipt.generation
    end
  end
end

local nth = 0
local function burst(count)
  local messages = {}
  for index = 1, count do
    nth = nth + 1
    messages[index] = {
      id = "n" .. nth, title = "t", body = ("x"):rep(200), variables = { nth = nth }, metadata = { nth = nth },
    }
  end
  local batch, problem = hub:send_batch(messages)
  if check(batch, "a batch was refused: %s", problem) then
    batches[#batches + 1], sent = batch, sent + count
  end
end

for id = 1, (SECONDS + 2) * RATE do by_id[id] = 0 end -- grown before anything is measured: it is this program's own
say("%d s, %d messages a second offered, %d changes a second", SECONDS, RATE, CHANGES)
local began = torture.now()
local early, peak_generations, longest = nil, 0, 0
for step = 1, SECONDS * CHANGES do
  burst(RATE // CHANGES)
  number = number + 1
  make_folder(number)
  exchange(number)
  if step % 4 ~= 0 then -- each fourth is left to inotify
    local asked = torture.now()
    local ok, problem = hub:reload()
    longest = math.max(longest, torture.now() - asked)
    if ok then
      loaded = loaded + 1
      check(is_good(number), "folder %d was taken and has an error", number)
    else
      refused = refused + 1
      -- A good folder may be refused for its time only: the machine was busy.
      if is_good(number) and not problem:find("limits.loading", 1, true) and not problem:find("longer than", 1, true) then
        wrongly[#wrongly + 1] = problem
      end
    end
  end
  peak_generations = math.max(peak_generations, #hub:stats().generations)
  -- A machine that cannot keep up gets no backlog: what flows is told, not what was wished for.
  while torture.now() < began + step / CHANGES or sent - settled > RATE do
    hub:poll(0.01)
    collect(0)
  end
  collect(0)
  if not early and torture.now() - began >= math.min(10, SECONDS / 3) then
    early = torture.resident()
  end
end
local flowed = torture.now() - began
local late = torture.resident()
collect(60)
local took = torture.now() - began

------------------------------------------------------------------- the account

say("%d messages in %.1f s: %.0f a second; all settled %.2f s later", sent, flowed, sent / flowed, took - flowed)
say("%d reloads taken, %d refused; the longest call %.2f s; %d generations at most at once", loaded, refused, longest,
  peak_generations)
for what, count in pairs(statuses) do
  check(what == "delivered", "%d messages: %s", count, what)
end
check(settled == sent, "%d of %d messages settled", settled, sent)
check(loaded > 0 and refused > 0, "%d reloads taken, %d refused", loaded, refused)
for index = 1, math.min(3, #wrongly) do
  check(false, "a good folder was refused: %s", wrongly[index])
end
local grown = (late - early) / early * 100
say("resident: %.1f MB early, %.1f MB late", early / 1e6, late / 1e6)
torture.row_figure("R9", "memory grown while rules change", grown, 10, "percent")

-- Callbacks run after a message has settled: they are over when no generation has messages.
local function busy()
  local count = 0
  for _, generation in ipairs(hub:stats().generations) do
    count = count + generation.messages
  end
  return count
end
local patience = torture.now() + 30
while busy() > 0 and torture.now() < patience do
  hub:sleep(0.02)
end
-- A worker that sleeps closes what it need not keep when it next wakes: the messages of this count wake all.
local counted
repeat
  local receipt = assert(hub:send({ title = "count", metadata = { what = "count", nth = 0 } }, 30))
  counted = tonumber(receipt.error:match "(%d+)$")
until #hub:stats().generations <= 2 or torture.now() > patience
check(counted == sent, "%s callbacks ran for %d messages", tostring(counted), sent)
check(#hub:stats().generations <= 2, "%d generations are left over", #hub:stats().generations)
hub:close(10)

local arrived, seen, mixed, of_generation = 0, {}, 0, {}
for line in io.lines(sink.directory .. "/out") do
  local id, one, first, two, second, three, third = line:match("<(%d+)|(%d+) (%x+)|(%d+) (%x+)|(%d+) (%x+)>")
  if id then
    arrived = arrived + 1
    check(not seen[id], "message %s arrived twice", id)
    seen[id] = true
    local from = tonumber(one)
    if one ~= two or one ~= three or first ~= mark(from, 1) or second ~= mark(from, 2) or third ~= mark(from, 3) then
      mixed = mixed + 1
      check(mixed > 3, "mixed: %s", line)
    end
    check(is_good(from), "a message was routed by the broken folder %d", from)
    -- A generation is one folder's; a folder may be loaded twice.
    local generation = by_id[tonumber(id)]
    check(generation and (of_generation[generation] or from) == from, "generation %s is folder %s and %d", tostring(generation),
      tostring(of_generation[generation]), from)
    of_generation[generation or 0] = from
  end
end
for _ in pairs(of_generation) do
  generations[#generations + 1] = true
end
say("%d arrived, %d mixed, from %d generations", arrived, mixed, #generations)
check(arrived == sent, "%d of %d messages arrived", arrived, sent)
check(mixed == 0, "%d messages are of more than one folder", mixed)
local undelivered = sent - (statuses.delivered or 0)
torture.row("R9", ("messages failed or misrouted, at %d changes a second"):format(CHANGES), undelivered + mixed == 0
  and arrived == sent, ("%d of %d"):format(undelivered + mixed, sent), "0")
sink:stop()
torture.shell("rm -rf %s", root)
torture.done()
