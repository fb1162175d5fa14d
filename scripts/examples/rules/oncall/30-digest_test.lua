local function low(title, at)
  return { title = title, body = "text", priority = "low", at = at }
end

test("ten minutes of low priority are one mail", function()
  local sent = simulate { low("one", 0), low("two", 100), low("three", 599), low("four", 700) }
  assert(#sent == 2, #sent)
  assert(sent[1].target == "team-mail" and sent[1].at == 600)
  assert(sent[1].title == "3 messages in ten minutes", sent[1].title)
  assert(sent[1].body:find("one") and sent[1].body:find("three") and not sent[1].body:find("four"))
  assert(sent[2].at == 1300 and sent[2].title == "1 message in ten minutes")
  for _, receipt in ipairs(sent.receipts) do
    assert(receipt.status == "delivered")
  end
end)
