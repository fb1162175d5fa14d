-- What rules cost: CPU microseconds a message (all threads, from the Lua table to the settled receipt) through a hub without
-- rules, and through one that asks 50 routes, renders a template and calls one callback. In pairs, one hub after the other,
-- so that a machine whose speed drifts does not decide.
--
--   notifyhub run spec/bench/rules.lua HOST:PORT [MESSAGES] [PAIRS]
--
-- HOST:PORT is a receiver's (`notifyhub receive --http 0 --count`).

local notifyhub = require "notifyhub"

local url, count, pairs_of = ("json://%s/bench"):format(arg[1]), tonumber(arg[2]) or 20000, tonumber(arg[3]) or 7
local IN_FLIGHT = 50

local pipe <close> = assert(io.popen "mktemp -d")
local folder = pipe:read "l"

local function write(name, text)
  local file <close> = assert(io.open(folder .. "/" .. name, "wb"))
  file:write(text)
end

-- Fifty routes; the one that takes the message is the last. With NH_BENCH_RULES=mixed most of the others cannot be found by
-- the message's value, so that each of them is asked.
local PLAIN = {
  'match = { service = "service-%d", severity = { "critical", "page" } }', 'match = { service = "service-%d" }',
  'match = { service = "service-%d", region = "eu" }',
}
local MIXED = {
  PLAIN[1], 'match = { region = "region-%d" }', 'match = { load = ">= %d00" }', 'match = { title = "~^Host %d " }',
  'match = function(message) return message.metadata.tier == %d end',
}
local KINDS = os.getenv "NH_BENCH_RULES" == "mixed" and MIXED or PLAIN
local routes = {}
for index = 1, 49 do
  routes[index] = ('route { name = "r%d", %s, to = "sink" }'):format(index, KINDS[index % #KINDS + 1]:format(index))
end
routes[#routes + 1] = 'route { name = "last", match = { service = "payments" }, to = "sink", template = "incident" }'
routes[#routes + 1] = 'local told = 0\non("complete", function(receipt, message) told = told + #receipt.results end)'
write("routes.lua", table.concat(routes, "\n"))
write("templates.lua", [==[
template("incident", {
  title = "[{{ metadata.severity }}] {{ title }}",
  body = [[
{{ metadata.service }} in {{ metadata.region }}: {{ body }}
{% if metadata.load > 1 then %}load {{ metadata.load }}{% end %}
]],
})
]==])

local function open(rules)
  return assert(notifyhub.new {
    workers = { min = 1, max = 1, in_flight = IN_FLIGHT }, targets = { sink = url }, rules = rules,
  })
end

local hubs = { open(nil), open(folder) }
os.execute("rm -rf " .. folder)

local messages = {}
for index = 1, count do
  messages[index] = {
    title = "Disk full on db-" .. index % 10, body = ("x"):rep(200), targets = { "sink" },
    metadata = { service = "payments", severity = "critical", region = "eu", load = 7, tier = 0 },
  }
end

local function measure(hub)
  collectgarbage()
  collectgarbage "stop"
  local began = os.clock()
  local batch = assert(hub:send_batch(messages))
  assert(batch:wait(120))
  local used = os.clock() - began
  assert(batch:status().failed == 0, "some were not delivered")
  collectgarbage "restart"
  return used / count * 1e6
end

for _, hub in ipairs(hubs) do
  measure(hub)
end
local without, with, more = {}, {}, {}
for index = 1, pairs_of do
  if index % 2 == 0 then
    with[index], without[index] = measure(hubs[2]), measure(hubs[1])
  else
    without[index], with[index] = measure(hubs[1]), measure(hubs[2])
  end
  more[index] = with[index] - without[index]
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

local base, ruled = median(without), median(with)
print(("%d pairs of %d messages: %.1f us without rules, %.1f us with (%.2f times); the median pair differs by %.2f us (%.2f to %.2f)")
  :format(pairs_of, count, base, ruled, ruled / base, median(more), more[1], more[#more]))
