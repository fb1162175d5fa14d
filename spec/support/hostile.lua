-- Starts the hostile sink (spec/support/hostile/hostile.c, whose head tells the paths) for a program of spec/flow, and reads
-- its ledger.
--
--   local sink = hostile.start()
--   … send to sink:target "/ok", with the id in the text as hostile.mark(id) …
--   for _, entry in ipairs(sink:read()) do print(entry.time, entry.path, entry.id, entry.attempt, entry.status) end
--   local account = hostile.account(accepted, sink:stop())
--
-- Times are those of torture.now(). Runs in the Lua of `notifyhub run` and under busted's 5.4.

local M = {}
local Sink = {}
Sink.__index = Sink

local function slurp(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a" or ""
end

local function pause(seconds)
  os.execute(("sleep %.2f"):format(seconds))
end

--- Starts one on ports of the system's choice. It ends with this process at the latest.
function M.start()
  local pipe <close> = assert(io.popen "mktemp -d")
  local directory = pipe:read "l"
  local self = setmetatable({ directory = directory, offset = 0, entries = {}, rest = "" }, Sink)
  local program = (os.getenv "NH_BUILD_DIR" or "build") .. "/spec/hostile"
  self.stdin = assert(io.popen(("exec '%s' '%s/ledger' '%s' >'%s/out'"):format(program, directory, directory, directory), "w"))
  for _ = 1, 1000 do
    local line = slurp(directory .. "/out"):match "^listening ([^\n]*)\n"
    if line then
      self.ports = {}
      for name, port in line:gmatch "(%w+)=(%d+)" do self.ports[name] = tonumber(port) end
      return self
    end
    pause(0.02)
  end
  error("the sink did not start: " .. program)
end

--- What a text must hold for the sink to know a message.
function M.mark(id)
  return "~" .. id .. "~"
end

--- A target URL of the webhook platform; `port` is one of the sink's by name.
function Sink:target(path, port, scheme)
  return ("%s://127.0.0.1:%d%s"):format(scheme or "json", self.ports[port or "http"], path)
end

--- An http URL.
function Sink:url(path, port)
  return self:target(path, port, "http")
end

--- The entries of the ledger so far: all of them, in their order.
function Sink:read()
  local file <close> = assert(io.open(self.directory .. "/ledger", "rb"))
  file:seek("set", self.offset)
  local text = self.rest .. file:read "a"
  self.offset = file:seek()
  local from = 1
  for time, path, id, attempt, status, next_one in text:gmatch "([%d.]+)\t([^\t\n]*)\t([^\t\n]*)\t(%d+)\t(%d+)\n()" do
    local entry = {
      time = tonumber(time), path = path, id = id, attempt = tonumber(attempt), status = tonumber(status),
    }
    if path == "end" then -- a connection that was being fed
      entry = { time = entry.time, ended = id, bytes = entry.attempt }
    end
    self.entries[#self.entries + 1] = entry
    from = next_one
  end
  self.rest = text:sub(from)
  return self.entries
end

--- Ends it; returns all entries.
function Sink:stop()
  self.stdin:close()
  local entries = self:read()
  os.execute("rm -rf " .. self.directory)
  return entries
end

--- The account of a ledger against the ids that were accepted (a set): how many of them a request reached that was answered
--- with success, how many none did, how many more than one, and how many ids came that nobody accepted. The first of each
--- that is wrong are named.
function M.account(accepted, entries)
  local delivered = {}
  local account = { accepted = 0, delivered = 0, lost = 0, duplicates = 0, unknown = 0, examples = {} }
  local function note(kind, id)
    account[kind] = account[kind] + 1
    if #account.examples < 5 then
      account.examples[#account.examples + 1] = kind .. " " .. id
    end
  end
  for _, entry in ipairs(entries) do
    if entry.id and entry.status >= 200 and entry.status < 300 then
      delivered[entry.id] = (delivered[entry.id] or 0) + 1
    end
  end
  for id in pairs(accepted) do
    account.accepted = account.accepted + 1
    if not delivered[id] then
      note("lost", id)
    end
  end
  for id, count in pairs(delivered) do
    account.delivered = account.delivered + 1
    if not accepted[id] then
      note("unknown", id)
    elseif count > 1 then
      note("duplicates", id)
    end
  end
  account.text = table.concat(account.examples, ", ")
  return account
end

return M
