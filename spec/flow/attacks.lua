-- Rules that do what they must not, in a hub with one worker, while other messages pass through the same worker: each attack
-- must be over within one and a half of its budget, and no other message may fail or wait for longer than one.
--
--   notifyhub run spec/flow/attacks.lua [SECONDS]
--
-- With SECONDS each attack is tried in each place, without only in one besides a handler.

local notifyhub = require "notifyhub"

local receiver = require "spec.support.receiver"
local torture = require "spec.support.torture"

local SECONDS = tonumber(arg[1]) or 0
local BUDGET = 0.1 -- seconds: limits.slice
local APART = 0.1 -- seconds between two attacks
local STREAM = 0.004 -- seconds between two of the other messages
local check, say = torture.check, torture.say

-- What each of them does, and the codes that it may end with. "script": an error as any other.
local LIMIT, EITHER = { script_limit = true }, { script_limit = true, script_memory = true }
local ATTACKS = {
  { "endless loop", "while true do end", LIMIT },
  { "pcall loop", "while true do pcall(function() while true do end end) end", LIMIT },
  { "pcall that comes back", "pcall(function() while true do end end)", LIMIT },
  { "__gc", "setmetatable({}, { __gc = function() while true do end end })", { script = true } },
  { "__close", "local x <close> = setmetatable({}, { __close = function() while true do end end })", LIMIT },
  { "__close after an error", [[
    local x <close> = setmetatable({}, { __close = function() while true do end end })
    while true do end]], LIMIT },
  { "pattern bomb", "local s = ('a'):rep(400):find('a-a-a-a-a-a-b')", LIMIT },
  { "pattern bombs", "while true do pcall(string.find, ('a'):rep(400), 'a-a-a-a-a-a-b') end", LIMIT },
  { "a string of a gigabyte", "local s = ('x'):rep(1 << 30)", EITHER },
  { "strings without end", "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end", EITHER },
  { "deep recursion", "local function f() return 1 + f() end f()", EITHER },
  { "recursion that pcall hides", "local function f() while true do pcall(f) end end f()", EITHER },
  { "tables without end", "local t = {} while true do t = { t, t } end", EITHER },
  { "tables without end, hidden", "while true do pcall(function() local t = {} while true do t = { t } end end) end", EITHER },
  { "a coroutine that loops", "coroutine.wrap(function() while true do end end)()", LIMIT },
  { "coroutines without end", "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end", EITHER },
  { "coroutines in coroutines", "local function f() coroutine.wrap(f)() end f()", { script_limit = true, script_memory = true,
    script = true } },
  { "a coroutine that yields for ever", "for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end",
    LIMIT },
  { "sort with an endless order", "table.sort({ 3, 1, 2 }, function() while true do end end)", LIMIT },
  { "a huge range", "table.move({}, 1, 1 << 40, 2)", EITHER },
}
-- Where it is called from, and whether the message fails by it.
local PLACES = {
  { "handler", true }, { "handler after a send", true }, { "match", true }, { "template", true }, { "resolver", true },
  { "callback", false },
}

local root = torture.directory()
local lines = { "attacks = {}" }
for _, each in ipairs(ATTACKS) do
  lines[#lines + 1] = ("attacks[%q] = function() %s end"):format(each[1], each[2])
end
torture.write(root .. "/10-attacks.lua", table.concat(lines, "\n"))
torture.write(root .. "/20-routes.lua", [[
local function at(place)
  return function(message) return message.metadata.place == place end
end
function attack(name)
  attacks[name]()
  return "it came to an end"
end
route { name = "match", match = function(message)
  if message.metadata.place == "match" then attack(message.metadata.attack) end
  return false
end }
route { name = "handler", match = at "handler", handle = function(message)
  attack(message.metadata.attack)
  return true
end }
route { name = "later", match = at "handler after a send", handle = function(message)
  send(message, "sink")
  attack(message.metadata.attack)
  return true
end }
template("attack", { title = "{{ attack(metadata.attack) }}", body = "-" })
route { name = "template", match = at "template", to = "sink", template = "attack" }
resolve(function(text)
  local name = text:match "^attack:(.*)"
  if name then attack(name) end
end)
on("complete", "attack", function(_, message) attack(message.metadata.attack) end)
template("stream", { title = "{{ title }}", body = "{{ body }} {{ metadata.nth }}" })
route { name = "stream", match = { place = "stream" }, to = "sink", template = "stream",
        routes = { { name = "nested", match = function(message) return message.metadata.nth % 2 == 0 end } } }
on("complete", function(receipt, message)
  if message.metadata.place == "stream" then store.incr("completed", 1) end
end)
]])

local sink = receiver.start { http = true, count = true }
local hub = assert(notifyhub.new {
  rules = root, workers = { min = 1, max = 1 }, targets = { sink = sink.url:gsub("^http", "json") .. "/" },
  limits = { slice = BUDGET * (torture.sanitized and 3 or 1) },
})
if torture.sanitized then
  BUDGET = 3 * BUDGET
end

------------------------------------------------------------------ the stream

local latencies, attacking -- of the stream's messages that were sent since

local streamed, settled = 0, 0
local kept_off = torture.kept_off()

-- Seconds that a message took, without those in which its worker had no processor.
local function took(receipt, before)
  return math.max(0, receipt.settled_at - receipt.created_at - (kept_off() - before))
end

local function note(receipt, before)
  settled = settled + 1
  latencies[#latencies + 1] = took(receipt, before)
  check(receipt.status == "delivered", "a message beside '%s' failed: %s: %s", tostring(attacking), receipt.code, receipt.error)
end

-- Sends the stream until `over()`; a tick is short, and a machine that is late catches up.
local function stream(over)
  local due = torture.now()
  repeat
    if torture.now() - due > 0.1 then
      due = torture.now() -- whoever was stopped starts anew
    end
    while due <= torture.now() do
      due, streamed = due + STREAM, streamed + 1
      local before = kept_off()
      assert(hub:send_async({ title = "stream", body = ("x"):rep(200), metadata = { place = "stream", nth = streamed } },
        { on_complete = function(receipt) note(receipt, before) end }))
    end
    hub:poll(STREAM)
  until over()
end

local function for_seconds(seconds)
  local until_then = torture.now() + seconds
  stream(function() return torture.now() >= until_then end)
end

latencies = {}
for_seconds(0.2)
latencies = {}
for_seconds(1)
local calm, calmest = torture.quantile(latencies, 0.99), torture.quantile(latencies, 0.5)
local memory = hub:stats().workers.memory

----------------------------------------------------------------- the attacks

local longest, count = {}, 0 -- by place: { seconds, attack }
local function run(attack, place)
  local name, fails = attack[1], place[2]
  attacking = place[1] .. ", " .. name
  local message = {
    title = "attack", body = "b", targets = { place[1] == "resolver" and "attack:" .. name or "sink" },
    metadata = { place = place[1], attack = name }, on_complete = place[1] == "callback" and "attack" or nil,
  }
  local before = kept_off()
  local handle = assert(hub:send_async(message))
  stream(function() return handle:result() end)
  local receipt = handle:result()
  count = count + 1
  if fails then
    check(receipt.status ~= "delivered" and attack[3][receipt.code], "%s: %s, %s: %s", attacking, receipt.status, receipt.code,
      receipt.error)
    local seconds = took(receipt, before)
    if seconds > (longest[place[1]] or { 0 })[1] then
      longest[place[1]] = { seconds, name }
    end
  else
    check(receipt.status == "delivered", "%s: %s: %s", attacking, receipt.code, receipt.error)
  end
  for_seconds(APART)
end

latencies = {}
local began = torture.now()
repeat
  for nth, place in ipairs(PLACES) do
    for index, attack in ipairs(ATTACKS) do
      if SECONDS > 0 or nth == 1 or index % #PLACES + 1 == nth then
        run(attack, place)
      end
    end
  end
until torture.now() - began >= SECONDS
local patience = torture.now() + 30
while settled < streamed and torture.now() < patience do
  hub:poll(0.01)
end

say("%d attacks, %d other messages", count, streamed)
check(settled == streamed, "%d of %d messages settled", settled, streamed)
say("others: median %.1f ms without attacks, %.1f ms with; p99 %.1f ms, %.1f ms", calmest * 1e3,
  torture.quantile(latencies, 0.5) * 1e3, calm * 1e3, torture.quantile(latencies, 0.99) * 1e3)
torture.row_figure("R8", "the 99th percentile of the others is later by", torture.quantile(latencies, 0.99) - calm, BUDGET, "s")
say("the longest wait of all was %.1f ms", torture.quantile(latencies, 1) * 1e3)
for place, each in pairs(longest) do
  torture.row_figure("R8", ("the longest attack in a %s (%s)"):format(place, each[2]), each[1], 1.5 * BUDGET + calm, "s")
end
-- What an attack made is garbage; the stream makes the collector come round.
local left
patience = torture.now() + 60
stream(function()
  left = hub:stats().workers.memory
  return left < memory + 4e6 or torture.now() > patience
end)
say("Lua: %.2f MB before, %.2f MB after", memory / 1e6, left / 1e6)
check(left < memory + 4e6, "the state holds %.2f MB, before the attacks it was %.2f MB", left / 1e6, memory / 1e6)
hub:close(5)
local arrived = sink:stop().arrivals
check(arrived >= streamed, "%d of %d messages of the stream arrived", arrived, streamed)
torture.shell("rm -rf %s", root)
torture.done()
