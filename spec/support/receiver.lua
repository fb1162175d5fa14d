-- Starts `notifyhub receive` for a spec, reads what arrived, and stops it.
--
--   local receiver = require "receiver"
--   local sink = receiver.start { fail = 2, retry_after = 1 }
--   … send to sink.url ("http://127.0.0.1:PORT") or sink.smtp_host, sink.smtp_port …
--   local arrivals = assert(sink:wait(3, 5))     -- three arrivals within five seconds
--   assert.equal("/services/T", arrivals[1].path)
--   assert.equal(3, sink:stop().arrivals)
--
-- Options are those of the command, with "_" for "-"; http and smtp are ports or booleans (both are
-- open when neither is given). An arrival is the decoded line of `receive --json`, with body and raw
-- as bytes and `json` the decoded body when it is JSON. With `count = true` only stop() tells; with
-- `text = true` the output is for people, and stop() gives it as `text`.
-- Runs under Lua 5.1 to 5.4 and LuaJIT; needs a POSIX shell and dkjson, which busted brings.
local json = require "dkjson"

local M = {}
local Sink = {}
Sink.__index = Sink

local running = {}

local FLAGS = { count = true, text = true }

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function slurp(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

local function shell(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("*a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

local function pause(seconds)
  os.execute(("sleep %.3f"):format(seconds))
end

-- Calls `test` until it returns something, for at most `seconds`.
local function eventually(seconds, test)
  local step, waited = 0.01, 0
  while true do
    local found = test()
    if found then return found end
    if waited >= seconds then return nil end
    pause(step)
    waited = waited + step
    step = math.min(step * 1.5, 0.1)
  end
end
M.eventually = eventually

--- The executable under test: in the build directory that NH_BUILD_DIR names.
function M.executable()
  return (os.getenv("NH_BUILD_DIR") or "build") .. "/bin/notifyhub"
end

local function unbase64(text)
  local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local bytes, bits, count = {}, 0, 0
  for digit in text:gmatch("[%w+/]") do
    bits = bits * 64 + digits:find(digit, 1, true) - 1
    count = count + 6
    if count >= 8 then
      count = count - 8
      local byte = math.floor(bits / 2 ^ count)
      bytes[#bytes + 1] = string.char(byte)
      bits = bits - byte * 2 ^ count
    end
  end
  return table.concat(bytes)
end

local function decode(line)
  local arrival = assert(json.decode(line))
  local field = arrival.protocol == "http" and "body" or "raw"
  if arrival.base64 then arrival[field] = unbase64(arrival[field]) end
  if arrival.body and arrival.body:find("^%s*[%[{]") then arrival.json = json.decode(arrival.body) end
  return arrival
end

local function arguments(options)
  local list = {}
  if not options.count and not options.text then list[1] = "--json" end
  for name, value in pairs(options) do
    local option = "--" .. name:gsub("_", "-")
    if name == "http" or name == "smtp" then
      if value then list[#list + 1] = option .. " " .. (value == true and 0 or value) end
    elseif FLAGS[name] then
      if value and name ~= "text" then list[#list + 1] = option end
    else
      list[#list + 1] = option .. " " .. quote(value)
    end
  end
  return table.concat(list, " ")
end

--- Starts a receiver and waits until it listens. Raises with its error output when it does not.
function M.start(options)
  local directory = shell("mktemp -d")
  local self = setmetatable({ directory = directory, seen = {}, offset = 0 }, Sink)
  -- The subshell waits for the receiver, so that its exit status is known and nothing is left over.
  os.execute(("{ %s receive %s >%s/out 2>%s/err & echo $! >%s/pid; wait $!; echo $? >%s/status.new; "
    .. "mv %s/status.new %s/status; } </dev/null >/dev/null 2>&1 &"):format(
    quote(M.executable()), arguments(options or {}), directory, directory, directory, directory,
    directory, directory))
  running[self] = true
  self.wants_text = options and options.text

  local first = eventually(60, function()
    if slurp(directory .. "/status") then return "" end
    return (slurp(directory .. "/out") or ""):match("^(listening[^\n]*)\n")
  end)
  if not first or first == "" then
    local problem = slurp(directory .. "/err") or ""
    self:stop()
    error("the receiver did not start: " .. problem, 2)
  end
  self.pid = tonumber(slurp(directory .. "/pid"))
  self.offset = #first + 1
  self.http_host, self.http_port = first:match("http=(%S+):(%d+)")
  self.smtp_host, self.smtp_port = first:match("smtp=(%S+):(%d+)")
  self.http_port, self.smtp_port = tonumber(self.http_port), tonumber(self.smtp_port)
  if self.http_port then self.url = ("http://%s:%d"):format(self.http_host, self.http_port) end
  return self
end

--- All that has arrived so far, in order. The list is the receiver's own: do not change it.
function Sink:arrivals()
  local file = self.directory and io.open(self.directory .. "/out", "rb")
  if not file then return self.seen end
  file:seek("set", self.offset)
  local text = file:read("*a") or ""
  file:close()
  local used = 0
  for line, stop in text:gmatch("([^\n]*)\n()") do
    if line:sub(1, 1) == "{" then self.seen[#self.seen + 1] = decode(line) end
    used = stop - 1
  end
  self.offset = self.offset + used
  return self.seen
end

--- Waits until at least `count` have arrived, for at most `seconds` (30), and returns them all;
--- nil and what was there instead when the time is over.
function Sink:wait(count, seconds)
  local arrived = eventually(seconds or 30, function()
    local arrivals = self:arrivals()
    return #arrivals >= count and arrivals
  end)
  if arrived then return arrived end
  return nil, ("%d of %d arrived"):format(#self.seen, count)
end

--- A shell condition that holds once `count` have arrived.
function Sink:has(count)
  return ("[ $(grep -c '^{' %s/out) -ge %d ]"):format(self.directory, count)
end

--- Waits until the receiver has ended by itself (`limit`) and returns its exit status.
function Sink:status(seconds)
  return eventually(seconds or 30, function()
    return tonumber(slurp(self.directory .. "/status") or "")
  end)
end

--- Stops the receiver and returns what it counted: arrivals, http, mail, failed, status. Afterwards
--- arrivals() returns what had arrived. May be called again. Counts are 0 when it never listened.
function Sink:stop()
  if self.counted then return self.counted end
  running[self] = nil
  local pid = self.pid or tonumber(slurp(self.directory .. "/pid") or "")
  if pid and not slurp(self.directory .. "/status") then os.execute("kill -TERM " .. pid) end
  local status = self:status(60)
  self:arrivals()
  local summary = (slurp(self.directory .. "/err") or "") .. (slurp(self.directory .. "/out") or "")
  local number = "([%d,]+)"
  local all, http, mail, failed = summary:match(
    "received " .. number .. ": " .. number .. " by HTTP, " .. number .. " by mail, " .. number)
  local function count(text)
    return tonumber(((text or "0"):gsub(",", "")))
  end
  self.counted = { arrivals = count(all), http = count(http), mail = count(mail), failed = count(failed),
                   status = status, text = self.wants_text and slurp(self.directory .. "/out") or nil }
  os.execute("rm -rf " .. quote(self.directory))
  self.directory = nil
  return self.counted
end

--- Stops every receiver that is still running: for after_each or teardown.
function M.stop_all()
  local sink = next(running) -- not pairs: LuaJIT's skips entries when the table changes meanwhile
  while sink do
    running[sink] = nil
    sink:stop()
    sink = next(running)
  end
end

-- A spec that raised has not stopped its receivers: the end of the Lua state does.
local guard = newproxy and newproxy(true) or setmetatable({}, {}) -- luacheck: ignore 113
getmetatable(guard).__gc = M.stop_all
if not newproxy then setmetatable(guard, getmetatable(guard)) end -- luacheck: ignore 113
M.guard = guard

return M
