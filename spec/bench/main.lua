-- ./dev bench: measures NotifyHub beside others, tells which goals are met. See docs/performance.md.

local Bench = require "spec.bench.driver.bench"
local document = require "spec.bench.driver.document"
local plot = require "spec.bench.driver.plot"
local process = require "spec.bench.driver.process"
local report = require "spec.bench.driver.report"

local SCENARIOS = { "peers", "saturation", "seed", "cores", "distance", "offered", "platforms", "journal", "smtp", "start", "queue",
                    "flow" }
local DOCUMENT, PLOTS = "docs/performance.md", "docs/plots"

local USAGE = [[
usage: ./dev bench [OPTION]... [SCENARIO]...

Measures NotifyHub against other clients, in interleaved repetitions, against a sink on this machine, and prints tables and
which goals are met. Takes about ten minutes; do nothing else on the machine. With two cores or more the sink has the first
to itself and most clients the second.

  --quick            fewer and shorter repetitions: two minutes
  --reps N           repetitions of each comparison (5; 3 with --quick)
  --write            puts the tables into docs/performance.md and the plots into docs/plots
  --check            exit code 1 when a goal is not met
  --go               a program in Go is compared, too (./dev installs Go for it)
  --smoke            as few as can be, once: whether the programs run, no figures that mean something
  --list             prints the scenarios
  --help             this text

Exit code: 0; 1 when something could not be measured; 2 for a mistake in the command line.
]]

local function complain(text)
  io.stderr:write("bench: ", text, "\n")
  os.exit(2)
end

local function read_options(words)
  local options = { repetitions = 5, scale = 1, only = {} }
  local known = {}
  for _, name in ipairs(SCENARIOS) do known[name] = true end
  local index = 1
  local flags = {
    ["--quick"] = function() options.repetitions, options.scale = 3, 0.15 end,
    ["--smoke"] = function() options.repetitions, options.scale, options.smoke = 1, 0.002, true end,
    ["--write"] = function() options.write = true end,
    ["--check"] = function() options.check = true end,
    ["--go"] = function() options.go = true end,
    ["--reps"] = function()
      index = index + 1
      options.given = math.tointeger(tonumber(words[index]))
      if not options.given or options.given < 1 then complain "--reps: a number of repetitions, 1 or more" end
    end,
    ["--list"] = function()
      print(table.concat(SCENARIOS, "\n"))
      os.exit(0)
    end,
    ["--help"] = function()
      io.write(USAGE)
      os.exit(0)
    end,
  }
  while index <= #words do
    local word = words[index]
    if flags[word] then
      flags[word]()
    elseif known[word] then
      options.only[word], options.some = true, true
    else
      complain(("no option or scenario '%s' (./dev bench --help)"):format(word))
    end
    index = index + 1
  end
  options.repetitions = options.given or options.repetitions
  return options
end

-------------------------------------------------------------------- output

-- On a terminal the line of progress is written over; elsewhere each is a line.
local function progress()
  local terminal = os.execute "test -t 2"
  local function say(text)
    io.stderr:write(terminal and "\r\27[K" or "", text, terminal and "" or "\n")
    io.stderr:flush()
  end
  local function clear()
    if terminal then io.stderr:write "\r\27[K" end
  end
  return say, clear
end

local function first_line(command, pattern)
  return process.read(command):match(pattern) or "?"
end

-- Where it was measured: a figure without it is none.
local function circumstances(options)
  local load = first_line("cat /proc/loadavg", "^%S+")
  return ("%s, %s, %d core%s, Linux %s, libcurl %s, %s; medians of %d repetitions; load when it began: %s"):format(
    os.date "!%Y-%m-%d", first_line("grep -m1 '^model name' /proc/cpuinfo", ":%s*(.*)"), process.cores,
    process.cores == 1 and "" or "s", first_line("uname -r", "%S+"), first_line("curl-config --version", "([%d.]+)"),
    first_line("lua5.4 -v", "Lua [%d.]+"), options.repetitions, load)
end

local function print_section(section)
  print(("\n%s: %s"):format(section.name, section.title))
  if #section.rows > 0 then print(report.text(section.head, section.rows)) end
  for _, note in ipairs(section.notes) do print(note) end
  io.stdout:flush()
end

local function write_document(bench, where)
  local texts, images = { circumstances = where .. "." }, {}
  os.execute("mkdir -p " .. PLOTS)
  for _, one in ipairs(bench.plots) do
    if not plot.draw(PLOTS, one) then bench:fail("plot " .. one.file, "gnuplot failed") end
    images[one.section] = ("%s![%s](plots/%s)\n\n"):format(images[one.section] or "", one.title, one.file)
  end
  for _, section in ipairs(bench.sections) do
    local parts = { #section.rows > 0 and report.markdown(section.head, section.rows) or nil }
    for _, note in ipairs(section.notes) do parts[#parts + 1] = note end
    parts[#parts + 1] = images[section.name] and images[section.name]:gsub("%s+$", "") or nil
    texts[section.name] = "\n" .. table.concat(parts, "\n\n") .. "\n"
  end
  texts.goals = "\n" .. report.markdown(Bench.GOALS, bench.goals) .. "\n"
  document.write(DOCUMENT, texts)
end

-- Whether all are met.
local function tell_goals(goals)
  if #goals == 0 then return true end
  local met = 0
  for _, goal in ipairs(goals) do met = met + (goal[4] == "met" and 1 or 0) end
  print(("\n%s\n\n%d of %d goals met"):format(report.text(Bench.GOALS, goals), met, #goals))
  return met == #goals
end

---------------------------------------------------------------------- main

local function measure(bench, options, clear)
  for _, name in ipairs(SCENARIOS) do
    if not options.some or options.only[name] then
      local scenario = require("spec.bench.scenarios." .. name)
      bench:begin(scenario)
      scenario.run(bench)
      clear()
      print_section(bench.section)
    end
  end
end

local function main(words)
  local options = read_options(words)
  if options.write and (options.some or options.smoke) then complain "--write is for all scenarios, measured whole" end
  local say, clear = progress()
  local bench = Bench.new { repetitions = options.repetitions, scale = options.scale, smoke = options.smoke, go = options.go,
                            say = say }
  local where = circumstances(options)
  print(where)
  local ok, problem = xpcall(measure, debug.traceback, bench, options, clear)
  process.stop()
  process.forget()
  clear()
  if not ok then error(problem, 0) end
  if options.write then write_document(bench, where) end
  local met = options.smoke or tell_goals(bench.goals)
  for _, failure in ipairs(bench.failures) do io.stderr:write("bench: ", failure, "\n") end
  return #bench.failures == 0 and (met or not options.check)
end

os.exit(main(arg), true)
