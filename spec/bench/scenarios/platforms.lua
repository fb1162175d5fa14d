-- One message, ten accounts of five platforms: what an adapter's words and the many lanes cost. A "message" is a delivery here.

return {
  name = "platforms", title = "Ten accounts of five platforms at once (deliveries)",
  run = function(bench)
    local peers, http = bench.peers, bench.process.sink().http
    local count = bench:count(20000)
    bench:compare("", {
      peers.saturate("one platform", http, count, 50), peers.hub("ten accounts", "platforms", { http = http, count = count }),
    }, "one platform")
  end,
}
