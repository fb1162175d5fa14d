local critical = {
  id = "m1", title = "Disk full", body = "/var is at 99 %", metadata = { severity = "critical", service = "db" },
}

test("nobody acknowledges: it gets louder after five minutes", function()
  local sent = simulate(critical)
  assert(#sent == 4, #sent)
  assert(sent[1].target == "oncall-slack" and sent[1].at == 0)
  assert(sent[1].title == "[critical] Disk full", sent[1].title)
  for index = 2, 4 do
    assert(sent[index].at == 300)
    assert(sent[index].title == "[critical] Nobody has it yet: Disk full", sent[index].title)
  end
  assert(sent.receipt.status == "delivered" and sent.receipt.route == "critical")
end)

test("acknowledged in time: that was all", function()
  local sent = simulate { critical, { at = 120, title = "I have it", metadata = { acknowledge = "m1" } } }
  assert(#sent == 1 and sent[1].target == "oncall-slack")
  assert(sent.receipts[1].status == "delivered" and sent.receipts[2].status == "delivered")
end)

test("acknowledged too late: it got louder", function()
  local sent = simulate { critical, { at = 301, title = "I have it", metadata = { acknowledge = "m1" } } }
  assert(#sent == 4, #sent)
end)
