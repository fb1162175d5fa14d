-- luacheck: globals wrk done
-- wrk's request: as large as what the other clients send; and one line at the end: requests a second, requests, failed ones.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"title":"bench","body":"' .. ("x"):rep(273) .. '"}'

function done(summary)
  local errors = summary.errors
  io.write(("wrk %.0f %d %d\n"):format(summary.requests / summary.duration * 1e6, summary.requests,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
