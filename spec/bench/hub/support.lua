-- What the benchmark's programs on the side of NotifyHub share. They run by `notifyhub run` with the source tree in LUA_PATH,
-- take arguments as name=value, and print "RATE CPU name=value …": messages a second, CPU microseconds a message, of all threads.

local M = {}

--- The arguments as a table; numbers are numbers.
function M.arguments(defaults)
  local values = {}
  for name, value in pairs(defaults) do values[name] = value end
  for _, word in ipairs(arg) do
    local name, value = word:match "^([%a_]+)=(.*)$"
    if not name then error("not name=value: " .. word, 0) end
    values[name] = tonumber(value) or value
  end
  return values
end

--- A message of about 300 bytes. All in a list may be the same table: a hub copies what it accepts.
function M.message(target)
  return {
    title = "Disk full on db-7", body = ("x"):rep(200), targets = { target },
    metadata = { service = "payments", severity = "critical", region = "eu", load = 7, tier = 0 },
  }
end

function M.repeated(message, count)
  local messages = {}
  for index = 1, count do messages[index] = message end
  return messages
end

--- Runs `work` and tells how long it took: seconds of the clock, of the processor. The hub's own clock is used, since Lua has
--- none that is fine enough.
function M.measure(hub, work)
  collectgarbage()
  local started, cpu = hub:stats().uptime, os.clock()
  work()
  return hub:stats().uptime - started, os.clock() - cpu
end

--- Ends with an error unless every one of them was delivered.
function M.check(batch)
  local status = batch:status()
  if status.failed > 0 or status.settled ~= status.total then
    for _, receipt in batch:results() do
      if receipt.status ~= "delivered" then
        error(("%d of %d were not delivered; the first: %s"):format(status.failed, status.total, receipt.error), 0)
      end
    end
  end
end

function M.print(count, seconds, cpu, more)
  print(("%.0f %.2f %s"):format(count / seconds, cpu / count * 1e6, more or ""))
end

--- A field of /proc/self/status, in bytes: VmRSS, VmHWM.
function M.memory(field)
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match("^" .. field .. ":%s*(%d+)")
    if kilobytes then return tonumber(kilobytes) * 1024 end
  end
end

return M
