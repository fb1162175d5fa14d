-- What a scenario sees of the benchmark: it compares, states goals, and gives points to plots. A scenario is a file of
-- spec/bench/scenarios: { name, title, run = function(bench) … end }.

local compare = require "spec.bench.driver.compare"
local process = require "spec.bench.driver.process"
local report = require "spec.bench.driver.report"

local Bench = { process = process, peers = require "spec.bench.driver.peers", median = compare.median }
Bench.__index = Bench

local HEAD = { "", "client", "msg/s", "CPU µs/msg", "MB", "× msg/s", "× CPU", "spread" }

--- settings: repetitions, scale (of counts), smoke, go, say = function(text).
function Bench.new(settings)
  return setmetatable({ settings = settings, sections = {}, goals = {}, plots = {}, failures = {} }, Bench)
end

function Bench:begin(scenario)
  self.section = { name = scenario.name, title = scenario.title, head = HEAD, rows = {}, notes = {} }
  self.sections[#self.sections + 1] = self.section
end

--- A number of messages, less of them in a short run.
function Bench:count(number, least)
  return math.max(math.floor(number * self.settings.scale), least or 20)
end

--- A count that a short run does not cut: with fewer it would be another question. A smoke run does.
function Bench:whole(number, least)
  return self.settings.smoke and self:count(number, least) or number
end

--- The first `smoke` of a list in a smoke run, the first `quick` in a quick one (all, when absent), else all.
function Bench:some(list, smoke, quick)
  local number = self.settings.smoke and smoke or self.settings.scale < 1 and quick or #list
  return table.move(list, 1, number, 1, {})
end

--- Seconds for what runs for a time; wrk takes whole ones.
function Bench:seconds(number)
  return math.max(math.floor(number * self.settings.scale + 0.5), 1)
end

function Bench:fail(what, why)
  self.failures[#self.failures + 1] = ("%s: %s"):format(what, why)
end

-- In a smoke run who is not installed is left out; in any other that is a failure.
function Bench:present(contestants)
  if not self.settings.smoke then return contestants end
  local there = {}
  for _, one in ipairs(contestants) do
    if not one.needs or process.exists(one.needs) then there[#there + 1] = one end
  end
  return there
end

--- Measures the contestants in turns and adds a row for each; `reference` is the name of the one that the others are set
--- against. `repetitions` when other than the run's.
function Bench:compare(case, contestants, reference, repetitions)
  local what = self.section.name .. (case ~= "" and ", " .. case or "")
  local results = compare.run(self:present(contestants), repetitions or self.settings.repetitions, function(done, total, name)
    self.settings.say(("%s: %s (%d of %d)"):format(what, name, done, total))
  end)
  for index, name in ipairs(results.names) do
    if results.failed[name] then
      self:fail(what .. ", " .. name, results.failed[name])
      self:row { index == 1 and case or "", name, "failed" }
    else
      local peaks = results:values(name, "peak")
      self:row { index == 1 and case or "", name, report.figure(results:median(name, "rate")),
                 report.figure(results:median(name, "cpu")), report.megabytes(math.max(table.unpack(peaks))),
                 report.figure(results:ratio(name, reference, "rate")), report.figure(results:ratio(name, reference, "cpu")),
                 report.percent(results:spread(name, "rate")) }
    end
  end
  return results
end

--- One run that is no comparison: fn's results, or nil and a failure.
function Bench:try(case, fn, ...)
  self.settings.say(self.section.name .. (case ~= "" and ", " .. case or ""))
  local ok, value, more = pcall(fn, ...)
  if ok then return value, more end
  self:fail(self.section.name .. ", " .. case, value)
end

--- Another head for this scenario's table.
function Bench:head(...)
  self.section.head = { ... }
end

function Bench:row(cells)
  for column = 1, #self.section.head do cells[column] = cells[column] or "" end
  self.section.rows[#self.section.rows + 1] = cells
end

--- A sentence under the table.
function Bench:note(text)
  self.section.notes[#self.section.notes + 1] = text
end

--- What must be seen: `value` at most (or, with `least`, at least) `limit`. nil as value: it could not be measured.
--- { what, value, most | least, unit, of }: `of` tells what the value is.
function Bench:goal(goal)
  local holds = goal.value and (not goal.most or goal.value <= goal.most) and (not goal.least or goal.value >= goal.least)
  local sign, limit = goal.most and "≤" or "≥", goal.most or goal.least
  local unit = goal.unit and " " .. goal.unit or ""
  self.goals[#self.goals + 1] = {
    goal.what, ("%s %s%s"):format(sign, report.figure(limit), unit),
    goal.value and report.figure(goal.value) .. unit or "not measured", holds and "met" or "NOT MET",
  }
end

Bench.GOALS = { "goal", "wanted", "measured", "" }

--- A point of a line of a plot: plot is { file, title, x, y, logx, logy } and the same table each time.
function Bench:point(plot, line, x, y)
  if not y then return end
  if not self.plots[plot] then
    self.plots[plot] = { lines = {} }
    self.plots[#self.plots + 1] = plot
    plot.lines, plot.section = {}, self.section.name
  end
  local points = self.plots[plot].lines[line]
  if not points then
    points = {}
    self.plots[plot].lines[line] = points
    plot.lines[#plot.lines + 1] = { name = line, points = points }
  end
  points[#points + 1] = { x, y }
end

return Bench
