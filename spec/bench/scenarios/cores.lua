-- Two workers, wherever the system puts them, beside the sink: what a machine of two cores gives.

return {
  name = "cores", title = "256 in flight, two threads, the cores shared with the sink",
  run = function(bench)
    local peers, http = bench.peers, bench.process.sink().http
    local count = bench:count(60000)
    local wrk = peers.wrk(http, 256, bench:seconds(2), 2, "anywhere")
    local results = bench:compare("", {
      wrk, peers.saturate("NotifyHub, 2 workers", http, count, 256, { workers = 2 }, "anywhere"),
      peers.saturate("NotifyHub with rules, 2 workers", http, count, 256, { workers = 2, rules = "spec/bench/rules" }, "anywhere"),
    }, wrk.name)
    bench:goal { what = "throughput, 256 in flight, two cores shared with the sink: × wrk with two threads",
                 value = results:ratio("NotifyHub, 2 workers", wrk.name, "rate"), least = 0.6 }
  end,
}
