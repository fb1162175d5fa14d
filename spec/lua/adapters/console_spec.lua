local api = require "spec.support.script_api"
local console = api.adapter "console"

local function request(fields)
  return console.request(api.delivery(console, fields))
end

describe("console", function()
  it("prints title and body", function()
    assert.same({ text = "T\nB\n", stream = "stdout" }, request { title = "T", body = "B" })
    assert.equal("[urgent] T\nB\n", request { title = "T", body = "B", message = { priority = "urgent" } }.text)
    assert.equal("[low] B\n", request { body = "B", message = { priority = "low" } }.text)
    assert.equal("stderr", request { title = "T", account = { stream = "stderr" } }.stream)
  end)

  it("does not let a message drive the terminal", function()
    assert.equal("a b\n\\x1b]0;x\\x07\tc\n", request { title = "a\nb", body = "\27]0;x\7\tc" }.text)
  end)

  it("is named console://, with or without a stream", function()
    assert.same({}, (api.parse(console, "console://")))
    assert.same({ stream = "stderr" }, (api.parse(console, "console://stderr")))
    for _, text in ipairs { "console://stdout/x", "console://?x=1", "console://a@stdout" } do
      assert.is_nil((api.parse(console, text)))
    end
  end)

  it("always succeeds", function()
    assert.same({ ok = true }, console.response({ ok = true }))
  end)
end)
