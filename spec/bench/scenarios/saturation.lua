-- How much goes through, and what a message costs, by how many are under way at once; on one core.

local RULES = "spec/bench/rules"
local THROUGHPUT = { file = "throughput.svg", title = "Throughput on one core", x = "in flight", y = "messages a second",
                     logx = true }
local COST = { file = "cost.svg", title = "Processor time of a message", x = "in flight", y = "µs", logx = true }

-- in flight → messages of a run
local LEVELS = { { 1, 10000 }, { 50, 40000 }, { 256, 40000 }, { 1000, 40000 }, { 10000, 40000 } }

return {
  name = "saturation", title = "Saturation, one core for the client",
  run = function(bench)
    local peers, http = bench.peers, bench.process.sink().http
    local at = {}
    for _, level in ipairs(bench:some(LEVELS, 2, 4)) do
      local in_flight = level[1]
      local count = math.max(bench:count(level[2]), bench.settings.smoke and 0 or in_flight)
      local ruled = "NotifyHub with rules"
      local results = bench:compare(("%d in flight"):format(in_flight), {
        peers.raw(http, count, in_flight), peers.wrk(http, in_flight, in_flight > 1000 and 5 or 1), peers.curl(http, count, in_flight),
        peers.saturate("NotifyHub", http, count, in_flight),
        peers.saturate(ruled, http, count, in_flight, { rules = RULES }),
      }, "wrk")
      for _, name in ipairs(results.names) do
        bench:point(THROUGHPUT, name, in_flight, results:median(name, "rate"))
        bench:point(COST, name, in_flight, results:median(name, "cpu"))
      end
      at[in_flight] = results:median(ruled, "cpu")
    end
    bench:goal { what = "CPU a message, 1,000 in flight: × its own at 50", value = at[1000] and at[50] and at[1000] / at[50],
                 most = 1.3 }
  end,
}
