-- One platform takes connections and never answers, nine are healthy: what do the nine notice? First the capacity is found,
-- then 80 % of it is offered to ten platforms, evenly, in turns with all of them healthy and with the tenth as a black hole.
-- R7: the nine keep 95 % of their throughput, and their 99th percentile stays within one and a half of what it was.
--
--   notifyhub run spec/flow/blackhole.lua [SECONDS] [MESSAGES A SECOND]
--
-- SECONDS are all turns together, besides the search for the capacity.

local notifyhub = require "notifyhub"

local hostile = require "spec.support.hostile"
local torture = require "spec.support.torture"

local SECONDS = tonumber(arg[1]) or 12
local GIVEN = tonumber(arg[2])
local HOSTS, STEP = 10, 0.02
local LATENCY = 0.02 -- seconds: a healthy platform's
local TIMEOUT = 3    -- seconds for a transfer: short, so that breakers and retries have their part in each turn
local check, say = torture.check, torture.say

local sink = hostile.start()

local function open(dead)
  local targets = {}
  for index = 1, HOSTS do
    local port = index == 1 and "http" or "http" .. index
    local hole = dead and index == HOSTS
    targets["p" .. index] = sink:target(("/slow/%g/%d"):format(LATENCY, index), hole and "mute" or port)
  end
  return assert(notifyhub.new { targets = targets, transport = { timeout = TIMEOUT }, queue = { capacity = 1000000 } })
end

local nth = 0

-- A batch of `count` messages to the targets `first` to `last`, in turns; what is accepted is noted in `accepted`.
local function send(hub, count, first, last, accepted)
  local messages = {}
  for index = 1, count do
    nth = nth + 1
    local id = "m" .. nth
    accepted[id] = true
    messages[index] = {
      id = id, title = hostile.mark(id), body = ("x"):rep(200), targets = { "p" .. first + nth % (last - first + 1) },
    }
  end
  return assert(hub:send_batch(messages))
end

-- Messages a second that ten healthy platforms take when there is always more.
local function capacity(seconds)
  local hub, accepted = open(false), {}
  local function burst(until_then)
    local batches, settled = {}, 0
    while torture.now() < until_then do
      while #batches < 2 do
        batches[#batches + 1] = send(hub, 1000, 1, HOSTS, accepted)
      end
      if batches[1]:wait(0.5) then
        settled = settled + #table.remove(batches, 1)
      end
    end
    for _, batch in ipairs(batches) do batch:wait() end
    return settled
  end
  burst(torture.now() + seconds / 2) -- connections are open, lanes are wide
  local began = torture.now()
  local settled = burst(began + seconds)
  local rate = settled / (torture.now() - began)
  hub:close(5)
  return rate
end

-- Offers `rate` messages a second for `seconds`; what the nine healthy platforms (and, when `dead`, nobody else) made of it.
local function turn(dead, rate, seconds)
  local hub, accepted = open(dead), {}
  local healthy, other, latencies = {}, {}, {}
  local sent, settled, failed, last = 0, 0, {}, 0
  local function collect(wait)
    while healthy[1] and healthy[1]:wait(wait) do
      for _, receipt in ipairs(table.remove(healthy, 1):wait(0)) do
        settled = settled + 1
        last = torture.now()
        latencies[#latencies + 1] = receipt.settled_at - receipt.created_at
        if receipt.status ~= "delivered" then
          failed[#failed + 1] = ("%s: %s"):format(receipt.code, receipt.error)
        end
      end
    end
  end
  local began = torture.now()
  local share = rate * STEP / HOSTS
  local due_healthy, due_other = 0, 0
  for step = 1, math.floor(seconds / STEP) do
    due_healthy, due_other = due_healthy + share * (HOSTS - 1), due_other + share
    if due_healthy >= 1 then
      healthy[#healthy + 1] = send(hub, due_healthy // 1 | 0, 1, HOSTS - 1, accepted)
      sent, due_healthy = sent + due_healthy // 1, due_healthy % 1
    end
    if due_other >= 1 then
      other[#other + 1] = send(hub, due_other // 1 | 0, HOSTS, HOSTS, {})
      due_other = due_other % 1
    end
    repeat
      hub:poll(0.001)
      collect(0)
    until torture.now() >= began + step * STEP
  end
  local stats = hub:stats()
  collect(30)
  for _, batch in ipairs(other) do batch:cancel() end
  hub:close(5)
  local figures = {
    throughput = settled / (last - began), median = torture.quantile(latencies, 0.5), p99 = torture.quantile(latencies, 0.99),
    failed = failed, sent = sent, settled = settled, accepted = accepted,
  }
  say("%-10s %6.0f/s of %6.0f/s; median %5.1f ms, p99 %6.1f ms, longest %6.1f ms; at the end %d in flight, %d asleep",
    dead and "one dead" or "all well", figures.throughput, sent / seconds, figures.median * 1e3, figures.p99 * 1e3,
    latencies[#latencies] * 1e3, stats.workers.in_flight, stats.workers.asleep)
  return figures
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

local most = capacity(torture.sanitized and 2 or 3)
local rate = GIVEN or 0.8 * most
say("capacity %.0f messages a second; offered: %.0f", most, rate)
local turns = SECONDS >= 60 and 6 or 2
local each = math.max(SECONDS / turns / 2, 2)
local throughputs, p99s, account = {}, {}, { accepted = 0, lost = 0, duplicates = 0 }
local all = {}
for _ = 1, turns do
  local well = turn(false, rate, each)
  local dead = turn(true, rate, each)
  throughputs[#throughputs + 1] = dead.throughput / well.throughput
  p99s[#p99s + 1] = dead.p99 / well.p99
  for _, figures in ipairs { well, dead } do
    check(#figures.failed == 0, "%d healthy messages failed: %s", #figures.failed, figures.failed[1])
    check(figures.settled == figures.sent, "%d of %d settled", figures.settled, figures.sent)
    for id in pairs(figures.accepted) do all[id] = true end
  end
end
for _, entry in ipairs(sink:stop()) do
  if entry.id and all[entry.id] == true then
    all[entry.id] = "came"
  elseif entry.id and all[entry.id] then
    account.duplicates = account.duplicates + 1
  end
end
for _, what in pairs(all) do
  account.accepted = account.accepted + 1
  account.lost = account.lost + (what == true and 1 or 0)
end
check(account.lost == 0 and account.duplicates == 0, "of %d healthy messages %d are lost, %d came twice", account.accepted,
  account.lost, account.duplicates)
torture.row_figure("R7", "throughput lost by the nine", 1 - median(throughputs), 0.05, "")
torture.row_figure("R7", "their p99, of what it was", median(p99s), 1.5, "times")
torture.done()
