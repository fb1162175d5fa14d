-- luacheck: globals wrk done
-- wrk's request: the size of what burst.lua sends; and one line at the end: requests a second.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"title":"bench","body":"' .. ("x"):rep(280) .. '"}'

function done(summary)
  io.write(("rate %.0f\n"):format(summary.requests / summary.duration * 1e6))
end
