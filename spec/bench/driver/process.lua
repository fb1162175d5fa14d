-- Programs that the benchmark starts: sinks, which stay until the end, and clients, which are measured from outside.

local M = {}

local running = {} -- ids of sinks
local binaries = (os.getenv "NH_BUILD_DIR" or "build")

function M.binary(name) return binaries .. "/spec/bench/" .. name end
M.notifyhub = binaries .. "/bin/notifyhub"

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function command_line(words)
  local quoted = {}
  for index, word in ipairs(words) do quoted[index] = quote(word) end
  return table.concat(quoted, " ")
end

function M.read(command)
  local pipe <close> = assert(io.popen(command .. " 2>/dev/null"))
  return (pipe:read "a":gsub("%s+$", ""))
end

function M.exists(program)
  return os.execute(("command -v %s >/dev/null 2>&1"):format(quote(program))) == true
end

--------------------------------------------------------------- processors

-- The processors that this process may use; the sink gets the first and the client the second, where there are two.
local function allowed()
  local list = {}
  for line in io.lines "/proc/self/status" do
    local text = line:match "^Cpus_allowed_list:%s*(.*)"
    for from, to in (text or ""):gmatch "(%d+)%-?(%d*)" do
      for core = tonumber(from), tonumber(to) or tonumber(from) do list[#list + 1] = core end
    end
  end
  return list
end

local cores = allowed()
M.cores = #cores
local SINK, CLIENT = cores[1], cores[2]

-- Put before a program: "sink", "client", or nil for wherever the system puts it.
local function pinned(side)
  local core = #cores > 1 and (side == "sink" and SINK or side == "client" and CLIENT) or nil
  return core and { "taskset", "-c", core } or {}
end

local function joined(...)
  local all = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #all + 1, all) end
  return all
end

-------------------------------------------------------------------- sinks

local sinks = {}

--- The sink with these options ("--delay", 50 …), started when it is first asked for. A table: http, smtp (HOST:PORT).
function M.sink(...)
  local options = { ... }
  local name = table.concat(options, " ")
  if sinks[name] then return sinks[name] end
  local words = joined(pinned "sink", { M.binary "sink", "--http", 0, "--smtp", 0 }, options)
  local pipe = assert(io.popen("echo $$; exec " .. command_line(words)))
  local id, line = pipe:read "l", pipe:read "l"
  local http, smtp = (line or ""):match "http=(%S+) smtp=(%S+)"
  if not http then error("the sink did not start", 0) end
  running[#running + 1] = { id = id, pipe = pipe }
  sinks[name] = { http = http, smtp = smtp }
  return sinks[name]
end

function M.stop()
  for _, sink in ipairs(running) do
    os.execute("kill " .. sink.id)
    sink.pipe:close()
  end
  running, sinks = {}, {}
end

------------------------------------------------------------------ clients

local scratch = os.tmpname()

local environment = "" -- "NAME=value " for every client

function M.environment(name, value)
  environment = ("%s%s=%s "):format(environment, name, quote(value))
end

--- Runs a program with the options: side = "client" | nil, seconds = at most (60), any_status: exit code 1 is no failure.
--- Returns what it printed, and what it took: { seconds, cpu, peak (bytes) }. An error with its first words when it fails.
function M.run(words, options)
  options = options or {}
  local most = options.seconds or 60
  local line = environment .. command_line(joined({ "timeout", "-k", 5, most }, pinned(options.side), { M.binary "measure", scratch }, words))
  local errors = scratch .. ".err"
  local pipe = assert(io.popen(line .. " 2>" .. quote(errors)))
  local text = pipe:read "a"
  local ok, _, code = pipe:close()
  if not ok and not (options.any_status and code == 1) then
    local file <close> = assert(io.open(errors))
    local said = file:read "a":match "^%s*([^\n]*)" or ""
    error(("%s: %s"):format(words[1]:match "[^/]*$", code == 124 and ("took more than %d s"):format(most)
      or said ~= "" and said or "exit code " .. tostring(code)), 0)
  end
  local file <close> = assert(io.open(scratch))
  local seconds, cpu, peak = file:read("n", "n", "n")
  return text, { seconds = seconds, cpu = cpu, peak = peak * 1024 }
end

--- A program of spec/bench/hub with its arguments, a table of name → value.
function M.hub(program, arguments, options)
  local words = { M.notifyhub, "run", ("spec/bench/hub/%s.lua"):format(program) }
  local names = {}
  for name in pairs(arguments) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = arguments[name]
    words[#words + 1] = ("%s=%s"):format(name, math.type(value) == "float" and ("%.0f"):format(value) or value)
  end
  return M.run(words, options)
end

function M.forget()
  os.remove(scratch)
  os.remove(scratch .. ".err")
end

return M
