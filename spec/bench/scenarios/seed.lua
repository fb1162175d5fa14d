-- The three ways of sending that the original's benchmark knew, each by a hub with the default configuration.

return {
  name = "seed", title = "One at a time, batches of 100, 50 concurrent senders; default configuration",
  run = function(bench)
    local peers, http = bench.peers, bench.process.sink().http
    local function measure(case, style, in_flight, count)
      return bench:compare(case, {
        peers.wrk(http, in_flight, 1), peers.curl(http, count, in_flight),
        peers.hub("NotifyHub", "plain", { target = ("json://%s/bench"):format(http), style = style, count = count }),
      }, "libcurl loop")
    end
    local one = measure("send, wait, send", "one", 1, bench:whole(10000, 200))
    measure("batches of 100", "batches", 100, bench:count(40000, 200))
    measure("50 coroutines", "tasks", 50, bench:count(40000, 200))
    bench:goal { what = "one at a time, send and wait: msg/s × bare libcurl with 1 in flight",
                 value = one:ratio("NotifyHub", "libcurl loop", "rate"), least = 0.75 }
  end,
}
