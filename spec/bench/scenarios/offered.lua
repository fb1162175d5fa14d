-- Latency while messages come at a fixed rate; default configuration. A rate that does not come out is the last.

local LATENCY = { file = "latency.svg", title = "Latency, from due to settled", x = "messages offered a second", y = "ms", logy = true }
local RATES = { 1000, 2000, 5000, 10000, 15000, 20000, 30000, 40000, 60000, 80000 }

return {
  name = "offered", title = "Latency over offered load, default configuration",
  run = function(bench)
    bench:head("offered/s", "came out/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "CPU µs/msg")
    local report = require "spec.bench.driver.report"
    local target = ("json://%s/bench"):format(bench.process.sink().http)
    for _, rate in ipairs(bench:some(RATES, 1)) do
      local seconds = bench.settings.smoke and 0.1 or bench:seconds(2)
      local offered = bench.peers.hub("NotifyHub", "offered", { target = target, rate = rate, seconds = ("%g"):format(seconds) })
      local found = bench:try(("%d a second"):format(rate), offered.run)
      if not found then return end
      bench:row { report.figure(rate), report.figure(found.rate), report.figure(found.p50), report.figure(found.p90),
                  report.figure(found.p99), report.figure(found.p999), report.figure(found.cpu) }
      for _, quantile in ipairs { "p50", "p90", "p99" } do bench:point(LATENCY, quantile, rate, found[quantile]) end
      if found.rate < rate * 0.9 then return end
    end
  end,
}
