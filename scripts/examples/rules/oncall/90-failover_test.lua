local message = { title = "Deployed", body = "v1.2" }

test("Slack is enough", function()
  local sent = simulate(message, { now = "2026-01-31T12:00" })
  assert(#sent == 1 and sent[1].target == "team-slack")
end)

test("without Slack it is a mail, and that is delivered", function()
  local sent = simulate(message, { now = "2026-01-31T12:00", replies = { ["team-slack"] = "unavailable" } })
  assert(sent[#sent].target == "team-mail")
  assert(sent.receipt.status == "delivered")
  assert(sent.receipt.results[1].superseded)
end)

test("without both the sender is told", function()
  local sent = simulate(message, { now = "2026-01-31T12:00", replies = { slack = "rejected", email = "rejected" } })
  assert(#sent == 2 and sent.receipt.status == "failed" and sent.receipt.code == "rejected")
end)
