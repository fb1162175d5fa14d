-- Interleaved repetitions: every contestant once, then every contestant again, each time another one first, so that a machine
-- whose speed drifts does not decide. What is said of two of them is the median of their quotients within a repetition.

local M = {}

function M.median(values)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local middle = (#sorted + 1) // 2
  return #sorted % 2 == 1 and sorted[middle] or (sorted[middle] + sorted[middle + 1]) / 2
end

local Results = {}
Results.__index = Results

--- The values of one field of a contestant, a repetition each.
function Results:values(name, field)
  local values = {}
  for repetition, sample in ipairs(self.samples[name] or {}) do values[repetition] = sample[field] end
  return values
end

--- nil when the contestant failed, or was not there.
function Results:median(name, field)
  local values = self:values(name, field)
  return #values > 0 and M.median(values) or nil
end

--- The median of one's over the other's field, pair by pair; nil when one of them failed.
function Results:ratio(name, other, field)
  local mine, theirs, quotients = self:values(name, field), self:values(other, field), {}
  for repetition = 1, math.min(#mine, #theirs) do
    quotients[repetition] = mine[repetition] / theirs[repetition]
  end
  return #quotients > 0 and M.median(quotients) or nil
end

--- (most - least) / median.
function Results:spread(name, field)
  local values = self:values(name, field)
  if #values < 2 then return nil end
  return (math.max(table.unpack(values)) - math.min(table.unpack(values))) / M.median(values)
end

--- Runs each of the contestants so many times. A contestant that fails once is out: results.failed[name] tells why.
--- `tell(done, total, name)` is called before each run.
function M.run(contestants, repetitions, tell)
  local results = setmetatable({ names = {}, samples = {}, failed = {} }, Results)
  for index, one in ipairs(contestants) do
    results.names[index] = one.name
    results.samples[one.name] = {}
  end
  local total = repetitions * #contestants
  for repetition = 1, repetitions do
    for turn = 0, #contestants - 1 do
      local one = contestants[(repetition - 1 + turn) % #contestants + 1]
      tell((repetition - 1) * #contestants + turn + 1, total, one.name)
      if not results.failed[one.name] then
        local ok, sample = pcall(one.run)
        if ok then
          results.samples[one.name][repetition] = sample
        else
          results.failed[one.name], results.samples[one.name] = tostring(sample), {}
        end
      end
    end
  end
  return results
end

return M
