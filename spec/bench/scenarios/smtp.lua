-- Mails one after the other over one connection.

return {
  name = "smtp", title = "SMTP on one connection, one mail at a time",
  run = function(bench)
    local peers, smtp = bench.peers, bench.process.sink().smtp
    local count = bench:count(4000)
    local results = bench:compare("", {
      peers.curl_smtp(smtp, count), peers.hub("NotifyHub", "mail", { smtp = smtp, count = count }),
    }, "libcurl loop")
    bench:goal { what = "SMTP on a reused connection: msg/s × bare libcurl", value = results:ratio("NotifyHub", "libcurl loop", "rate"),
                 least = 0.85 }
  end,
}
