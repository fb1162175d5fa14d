-- Accepts COUNT messages of about 300 bytes by batches of BATCH and prints, for each tenth of them, CPU microseconds a message of this thread
-- (from the Lua table to the queue), and at the end how many were accepted a second and the bytes of resident memory that each takes.
--   notifyhub run accept.lua COUNT BATCH [later|timed|priorities|single]…
-- later: deliver_at, all at one time (else a worker that is busy with one message leaves them in the queue); timed: a deadline
-- each, in no order; mixed: all priorities; single: send_async, not send_batch. Nothing is sent but one message, which waits.
local notifyhub = require "notifyhub"

local count, size, how = tonumber(arg[1]), tonumber(arg[2]), {}
for index = 3, #arg do how[arg[index]] = true end

local hub <close> = assert(notifyhub.new {
  workers = { min = 1, max = 1 },
  queue = { capacity = count + 1, bytes = 1 << 40 },
})

local body, later = ("x"):rep(200), os.time() + 86400
local messages = {}
for index = 1, size do
  messages[index] = {
    title = "Disk almost full on host " .. index,
    body = body,
    targets = { "json://127.0.0.1:9/" },
    metadata = { service = "storage", severity = "warning" },
    deliver_at = later,
    timeout = how.timed and 90000 + (index * 7919) % 5000 or nil,
    priority = how.priorities and ({ "low", "normal", "high", "urgent" })[index % 4 + 1] or nil,
  }
end

local function read(path, pattern)
  local file <close> = assert(io.open(path))
  return tonumber(file:read("a"):match(pattern))
end

local function resident() return read("/proc/self/status", "VmRSS:%s*(%d+)") * 1024 end
local function now() return read("/proc/uptime", "^%S+") end

local function accept()
  if not how.single then return assert(hub:send_batch(messages)) end
  for index = 1, size do assert(hub:send_async(messages[index])) end
end

collectgarbage()
local before, started, cpu = resident(), now(), os.clock()
local tenth, from, costs = count // 10, cpu, {}
for done = size, count, size do
  accept()
  if done // tenth > #costs then
    local at = os.clock()
    costs[#costs + 1] = ("%.2f"):format((at - from) / (count / 10) * 1e6)
    from = at
  end
end
local seconds, used = now() - started, os.clock() - cpu
collectgarbage()
print(("CPU us/msg by tenths: %s; all %.2f; %.0f msg/s; %.0f resident bytes a message"):format(
  table.concat(costs, " "), used / count * 1e6, count / seconds, (resident() - before) / count))
os.exit(0)
