-- Fifty in flight, on one core: NotifyHub without and with rules beside everybody else.

local IN_FLIGHT, RULES = 50, "spec/bench/rules"

return {
  name = "peers", title = "50 in flight, one core for the client",
  run = function(bench)
    local peers, http = bench.peers, bench.process.sink().http
    local count, slow = bench:count(40000, 100), bench:count(500, 50)
    local bare, ruled = "NotifyHub", "NotifyHub, 50 routes + template + callback"
    local contestants = {
      peers.raw(http, count, IN_FLIGHT), peers.wrk(http, IN_FLIGHT, bench:seconds(2)), peers.curl(http, count, IN_FLIGHT),
      peers.saturate(bare, http, count, IN_FLIGHT), peers.saturate(ruled, http, count, IN_FLIGHT, { rules = RULES }),
      peers.apprise(http, slow, 1), peers.apprise(http, slow, 50),
    }
    if bench.settings.go then table.insert(contestants, 4, peers.go(http, count, IN_FLIGHT)) end
    local results = bench:compare("", contestants, "wrk")
    bench:goal { what = "CPU a message, 50 in flight, with rules: × wrk", value = results:ratio(ruled, "wrk", "cpu"), most = 1.8 }
    bench:goal { what = "CPU a message, 50 in flight, with rules: × bare libcurl", value = results:ratio(ruled, "libcurl loop", "cpu"),
                 most = 1 }
    local more = {}
    local without, with = results:values(bare, "cpu"), results:values(ruled, "cpu")
    for index = 1, math.min(#without, #with) do more[index] = with[index] - without[index] end
    bench:goal { what = "50 routes + template + callback on top of none", value = #more > 0 and bench.median(more) or nil, most = 6,
                 unit = "µs" }
  end,
}
