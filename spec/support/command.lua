-- Runs the `notifyhub` executable for a spec.
--
--   local command = require "command"
--   local done = command.run({ "send", "--body", "hi" }, { stdin = "", directory = "/tmp/x" })
--   assert.equal(0, done.status); print(done.out, done.err)
--
-- `program` is another one, `before` is put in front of it (`timeout -s INT 1`), `input` is a shell command whose
-- output is the program's stdin, `interrupt` a shell condition: once it holds, SIGINT is sent ($out and
-- $err are the files with what the program has printed so far, $pid its process). `signals` is a list of
-- { name, condition }, each sent when its condition holds and those before it were sent; a third element
-- is a shell command that runs before it. Works on POSIX under Lua 5.1 to 5.4.
local M = {}

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end
M.quote = quote

--- A new empty directory, for the test to remove with M.remove.
function M.directory()
  local pipe = assert(io.popen("mktemp -d"))
  local path = pipe:read("*l")
  pipe:close()
  return path
end

function M.remove(path)
  os.execute("rm -rf " .. quote(path))
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

function M.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

--- The executable's whole path, so that it can be run in any directory.
function M.executable()
  local build = os.getenv("NH_BUILD_DIR") or "build"
  if build:sub(1, 1) ~= "/" then build = assert(os.getenv("PWD")) .. "/" .. build end
  return build .. "/bin/notifyhub"
end

function M.run(arguments, options)
  options = options or {}
  local scratch = M.directory()
  local words = {}
  for index, argument in ipairs(arguments) do words[index] = quote(argument) end
  local line = ("%s %s %s"):format(options.before or "", quote(options.program or M.executable()),
    table.concat(words, " "))
  if options.input then
    line = ("{ %s; } | %s"):format(options.input, line)
  elseif options.stdin then
    line = ("%s < %s"):format(line, quote(M.write(scratch .. "/in", options.stdin)))
  else
    line = line .. " < /dev/null"
  end
  local signals = options.signals or options.interrupt and { { "INT", options.interrupt } }
  if signals then
    line = line .. " & pid=$!; "
    for _, signal in ipairs(signals) do
      line = ("%s tries=0; until %s || [ $((tries += 1)) -ge 1200 ]; do sleep 0.05; done; %s kill -%s $pid; "):format(line,
        signal[2], signal[3] and signal[3] .. ";" or "", signal[1])
    end
    line = line .. "wait $pid"
  end
  os.execute(("cd %s && out=%s/out err=%s/err && { %s; } >%s/out 2>%s/err; echo $? >%s/status"):format(
    quote(options.directory or "."), scratch, scratch, line, scratch, scratch, scratch))
  local done = { status = tonumber(M.read(scratch .. "/status")), out = M.read(scratch .. "/out"),
                 err = M.read(scratch .. "/err") }
  M.remove(scratch)
  return done
end

return M
