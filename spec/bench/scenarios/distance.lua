-- A platform 50 ms away, and a newcomer's send_batch: the default configuration, nothing sent before, no core of its own.

local AWAY = 50 -- ms

return {
  name = "distance", title = "50 ms away, default configuration, from nothing",
  run = function(bench)
    local peers, http = bench.peers, bench.process.sink("--delay", AWAY).http
    local function measure(count, repetitions)
      local case = ("%s messages"):format(count)
      local results = bench:compare(case, {
        peers.raw(http, count, 1000, "anywhere"), peers.curl(http, count, 1000, "anywhere"),
        peers.hub("NotifyHub", "plain", { target = ("json://%s/bench"):format(http), count = count, cold = 1 }, "anywhere"),
      }, "raw sockets", repetitions)
      return results
    end
    -- A short run's count would be another question: how soon a lane has opened.
    local results = measure(bench:whole(10000))
    bench:goal { what = "10,000 messages at 50 ms, default configuration", value = results:median("NotifyHub", "seconds"), most = 1.2,
                 unit = "s" }
    local quotient = results:ratio("NotifyHub", "raw sockets", "rate")
    bench:goal { what = "the same: × raw sockets with 1,000 connections", value = quotient and 1 / quotient, most = 2 }
    measure(bench:count(100000), math.min(bench.settings.repetitions, 3))
  end,
}
