-- A million messages of 300 bytes that wait, and nothing that takes them.

local MEMORY = { file = "memory.svg", title = "Memory of a queue of messages of 300 bytes", x = "messages queued", y = "MB" }
local STEPS = 20

-- { { queued, bytes a message, accepted a second, CPU µs a message }, … }
local function read(text)
  local steps = {}
  for queued, bytes, rate, cpu in text:gmatch "([%d.]+) ([%d.]+) ([%d.]+) ([%d.]+)\n" do
    steps[#steps + 1] = { tonumber(queued), tonumber(bytes), tonumber(rate), tonumber(cpu) }
  end
  return steps
end

return {
  name = "queue", title = "A queue of 1,000,000 messages of 300 bytes",
  run = function(bench)
    bench:head("queued", "bytes/msg", "accepted/s", "CPU µs/msg")
    local report, process = require "spec.bench.driver.report", bench.process
    local stuck = ("json://%s/bench"):format(process.sink("--delay", 3600000).http)
    local arguments = { stuck = stuck, count = bench:count(1000000, STEPS * 1000), steps = STEPS }
    local bytes, rates, growth, last = {}, {}, {}, nil
    local repetitions = math.min(bench.settings.repetitions, 3)
    for repetition = 1, repetitions do
      local text = bench:try(("%d of %d"):format(repetition, repetitions), process.hub, "queued", arguments,
        { side = "client", seconds = 120 })
      if not text then return end
      last = read(text)
      local all = 0
      for _, step in ipairs(last) do all = all + 1 / step[3] end
      bytes[repetition], rates[repetition] = last[#last][2], #last / all
      growth[repetition] = last[#last][4] / last[1][4]
    end
    for index, step in ipairs(last) do
      bench:point(MEMORY, "NotifyHub", step[1], step[1] * step[2] / 2 ^ 20)
      if index == 1 or index % 5 == 0 then
        bench:row { report.thousands(step[1]), report.figure(step[2]), report.figure(step[3]), report.figure(step[4]) }
      end
    end
    bench:goal { what = "1,000,000 queued: bytes a message of 300", value = bench.median(bytes), most = 600 }
    bench:goal { what = "accepted from Lua a second, until there are 1,000,000", value = bench.median(rates), least = 250000 }
    bench:goal { what = "cost of the millionth: × the first's", value = bench.median(growth), most = 1.2 }
  end,
}
