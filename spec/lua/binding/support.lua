-- What the specs of the module share: receivers, hubs that are closed after each spec, and programs
-- that run in a process of their own.
local notifyhub = require "notifyhub"
local receiver = require "spec.support.receiver"

local support = {}

-- The whole suite must pass with a collector that never rests.
if os.getenv "NH_GC_STRESS" then
  collectgarbage("setpause", 0)
  collectgarbage("setstepmul", 1000)
end

local hubs = {}

-- A hub that `finish` closes.
function support.hub(config)
  local hub = assert(notifyhub.new(config or {}))
  hubs[#hubs + 1] = hub
  return hub
end

-- A receiver; `sink.target` is a target that reaches it, support.path(sink, "x") another one.
function support.sink(options)
  options = options or {}
  options.http = true
  local sink = receiver.start(options)
  sink.target = support.path(sink, "sink")
  return sink
end

function support.path(sink, path)
  return ("json://%s:%d/%s"):format(sink.http_host, sink.http_port, path)
end

-- After each spec: nothing may be left behind.
function support.finish()
  for i = #hubs, 1, -1 do
    hubs[i]:close(0)
    hubs[i] = nil
  end
  receiver.stop_all()
end

-- A target that refuses the connection at once.
support.refused = "json://127.0.0.1:1/"

-- Waits until `test` answers, without letting any callback run.
function support.eventually(test)
  return assert(receiver.eventually(10, test), "it did not come about")
end

-- Waits for the end of a message without letting any callback run.
function support.settle(handle)
  return support.eventually(function() return handle:result() end)
end

-- Waits until a hub's figures have everything in them.
function support.idle(hub)
  support.eventually(function() return hub:stats().pending == 0 end)
end

-- Runs Lua text in a process of its own; returns what it printed and whether it ended well.
function support.program(text)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write(text)
  file:close()
  local lua = type(jit) == "table" and "luajit" or "lua" .. _VERSION:match "%d%.%d"
  local pipe = assert(io.popen(lua .. " " .. name .. " 2>&1; echo status $?"))
  local output = pipe:read "*a"
  pipe:close()
  os.remove(name)
  local printed, status = output:match "^(.*)status (%d+)\n$"
  return printed, status == "0"
end

-- Resident bytes of this process.
function support.resident()
  local file = assert(io.open "/proc/self/statm")
  local _, pages = file:read("*n", "*n")
  file:close()
  return pages * 4096
end

-- The ids that a receiver has got, each with how often.
function support.ids(sink)
  local ids, count = {}, 0
  for _, arrival in ipairs(sink:arrivals()) do
    local id = arrival.json.message_id
    ids[id] = (ids[id] or 0) + 1
    count = count + 1
  end
  return ids, count
end

return support
