-- What the programs of spec/flow share: they run under `notifyhub run`, each for as many seconds as its first argument says,
-- print what they measured, and end with 1 when something did not hold.
--
-- What must hold always (nothing lost, nothing failed) is checked with `check`. A time holds on a machine that does nothing
-- else: `figure` checks it too, but forgives a loaded machine and a sanitizer (NH_SANITIZE, or NH_TOLERANT in the
-- environment), where it only prints.
--
-- A row of the scorecard (docs/operations.md) is a line that whoever measured it prints, by `scorecard` or otherwise:
--
--   scorecard R5 | a Retry-After is honoured within | 0.4 s | at most 1 s | pass
--
-- the row, what was measured, the figure, what it must be, and `pass`, `FAIL` or `forgiven` (over a time, where times are
-- forgiven). A row may have many lines. `./dev torture` runs each spec/flow/*.lua, and each program spec/*/torture with the
-- seconds as its argument (for what is not Lua), collects these lines from their output into one table, and fails when a
-- program ends with anything but 0.

local M = {}

local sanitizer = os.getenv "NH_SANITIZE"
M.sanitized = sanitizer ~= nil and sanitizer ~= ""
M.strict = not M.sanitized and not os.getenv "NH_TOLERANT"
-- How much longer what is bounded by the clock may take here.
M.slow = M.sanitized and 10 or M.strict and 1 or 3

local wrong = 0

function M.say(...)
  print(string.format(...))
  io.stdout:flush()
end

function M.check(holds, ...)
  if not holds then
    wrong = wrong + 1
    M.say("WRONG: " .. string.format(...))
  end
  return holds
end

-- A measurement that has to be at most `most`.
function M.figure(name, value, most, unit)
  M.say("%-48s %8.3f %s (at most %g)", name, value, unit, most)
  if M.strict then
    M.check(value <= most, "%s: %.3f %s, more than %g", name, value, unit, most)
  end
end

-- A row's line.
function M.scorecard(row, what, figure, need, verdict)
  M.say("scorecard %s | %s | %s | %s | %s", row, what, figure, need, verdict)
end

-- A figure that decides a row by itself: checked as `check` does.
function M.row(row, what, holds, figure, need)
  M.check(holds, "%s: %s is %s, has to be %s", row, what, figure, need)
  M.scorecard(row, what, figure, need, holds and "pass" or "FAIL")
end

-- One of time, which `figure` checks.
function M.row_figure(row, what, value, most, unit)
  M.figure(what, value, most, unit)
  M.scorecard(row, what, ("%.3g %s"):format(value, unit), ("at most %g %s"):format(most, unit),
    value <= most and "pass" or M.strict and "FAIL" or "forgiven")
end

-- Seconds of a clock that does not jump, to a hundredth.
function M.now()
  local file <close> = assert(io.open "/proc/uptime")
  return file:read "n"
end

-- Bytes of memory that the process has, but for those of this program's own Lua state.
function M.resident()
  collectgarbage()
  local file <close> = assert(io.open "/proc/self/statm")
  local _, pages = file:read("n", "n")
  return pages * 4096 - collectgarbage "count" * 1024
end

-- A function that tells for how many seconds the process' threads, but for this one, had work and no processor: a busy
-- machine's part in a delay. To be called when all threads run.
function M.kept_off()
  local stat <close> = assert(io.open "/proc/self/stat")
  local pid = stat:read "n"
  local pipe <close> = assert(io.popen(("ls /proc/%d/task"):format(pid)))
  local paths = {}
  for thread in pipe:lines() do
    if tonumber(thread) ~= pid then
      paths[#paths + 1] = ("/proc/self/task/%s/schedstat"):format(thread)
    end
  end
  return function()
    local sum = 0
    for _, path in ipairs(paths) do
      local file <close> = io.open(path)
      if file then
        local _, waited = file:read("n", "n")
        sum = sum + (waited or 0)
      end
    end
    return sum / 1e9
  end
end

-- The value below which a share of a list lies; sorts it.
function M.quantile(list, share)
  table.sort(list)
  return list[math.max(1, math.ceil(#list * share))] or 0
end

function M.directory()
  local pipe <close> = assert(io.popen "mktemp -d")
  return pipe:read "l"
end

function M.write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

function M.shell(...)
  assert(os.execute(string.format(...)))
end

-- Ends the program.
function M.done()
  M.say(wrong == 0 and "all of it holds" or "%d things are wrong", wrong)
  os.exit(wrong == 0, true)
end

return M
