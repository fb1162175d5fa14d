-- Starts the Python servers of spec/support for a spec, and stops them.
--
--   local mail = peer.mail { "--reject", "^bob@" }     -- aiosmtpd on mail.port
--   local mails = mail:wait(2)                         -- { { envelope =, view =, raw = }, … } within ten seconds
--   local web = peer.web { "--cert", cert, "--key", key }
local json = require "dkjson"

local command = require "spec.support.command"
local receiver = require "spec.support.receiver"

local M = {}
local Peer = {}
Peer.__index = Peer

local running = {}
local folder = (os.getenv "NH_SOURCE_DIR" or ".") .. "/spec/support/"

local function output(line)
  local pipe <close> = assert(io.popen(line))
  return pipe:read "a"
end

local function start(program, arguments)
  local directory = command.directory()
  local words = {}
  for index, argument in ipairs(arguments or {}) do
    words[index] = command.quote(argument)
  end
  os.execute(("/usr/bin/python3 %s %s >%s/port 2>%s/err </dev/null & echo $! >%s/pid"):format(
    command.quote(folder .. program), table.concat(words, " "):gsub("DIRECTORY", directory), directory, directory,
    directory))
  local self = setmetatable({ directory = directory }, Peer)
  running[#running + 1] = self
  self.port = receiver.eventually(10, function() return tonumber(command.read(directory .. "/port") or "") end)
  assert(self.port, "the server did not start: " .. (command.read(directory .. "/err") or ""))
  return self
end

--- An SMTP server.
function M.mail(arguments)
  return start("smtp_peer.py", { "--dir", "DIRECTORY", table.unpack(arguments or {}) })
end

--- An HTTP server, or an HTTPS one.
function M.web(arguments)
  return start("http_peer.py", arguments)
end

--- A forward proxy; `self.directory .. "/log"` has a line for each request.
function M.proxy(arguments)
  return start("proxy_peer.py", { "--log", "DIRECTORY/log", table.unpack(arguments or {}) })
end

--- A key and a certificate for 127.0.0.1 that nobody has signed, in a folder.
function M.certificate(directory)
  local key, cert = directory .. "/key.pem", directory .. "/cert.pem"
  assert(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s -out %s "
    .. "-days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null"):format(key, cert)))
  return key, cert
end

--- How many mails have come.
function Peer:count()
  local count = 0
  while command.read(("%s/%04d.json"):format(self.directory, count + 1)) do
    count = count + 1
  end
  return count
end

--- How many connections have come.
function Peer:connections()
  return tonumber(command.read(self.directory .. "/connections"))
end

--- Waits until `count` mails have come and returns all: the envelope, the raw mail, and what a mail program sees.
function Peer:wait(count)
  assert(receiver.eventually(10, function() return self:count() >= count end), "too few mails came")
  local mails = {}
  for index = 1, self:count() do
    local path = ("%s/%04d"):format(self.directory, index)
    mails[index] = {
      envelope = json.decode(command.read(path .. ".json")),
      raw = command.read(path .. ".eml"),
      view = json.decode(output(("/usr/bin/python3 %smail_view.py %s.eml"):format(folder, path))),
    }
  end
  return mails
end

function M.stop_all()
  for index = #running, 1, -1 do
    local pid = tonumber(command.read(running[index].directory .. "/pid") or "")
    if pid then
      os.execute("kill " .. pid)
    end
    command.remove(running[index].directory)
    running[index] = nil
  end
end

return M
