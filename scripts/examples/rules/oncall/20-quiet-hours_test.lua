local message = { title = "A certificate ends in ten days" }

test("at night it waits for the morning", function()
  local sent = simulate(message, { now = "2026-01-31T23:30" })
  assert(#sent == 1 and sent[1].target == "team-slack")
  assert(math.abs(sent[1].at - 7.5 * 3600) < 1, sent[1].at)
end)

test("in the small hours as well", function()
  local sent = simulate(message, { now = "2026-02-01T06:59" })
  assert(math.abs(sent[1].at - 60) < 1, sent[1].at)
end)

test("by day it goes out at once", function()
  local sent = simulate(message, { now = "2026-01-31T12:00" })
  assert(sent[1].at == 0 and sent.receipt.route ~= "quiet-hours")
end)

test("what is urgent does not wait", function()
  local sent = simulate({ title = "Down", priority = "urgent" }, { now = "2026-01-31T23:30" })
  assert(sent[1].at == 0)
end)
