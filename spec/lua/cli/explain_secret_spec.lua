-- `notifyhub explain` shows routes, and none of the secrets that stand in their targets.
local command = require "spec.support.command"

describe("notifyhub explain", function()
  local directory
  before_each(function() directory = command.directory() end)
  after_each(function() command.remove(directory) end)

  it("hides what is secret in a route's targets, nested or not", function()
    command.write(directory .. "/rules.lua", [[
      route { name = "one", match = { x = "1" }, to = "json://joe:canary@127.0.0.1:1/canary?token=canary" }
      route { name = "many", to = { "json://joe:canary@127.0.0.1:1/canary",
        fallback { "json://joe:canary@127.0.0.1:1/canary2", all { "json://canary:canary@127.0.0.1:1/canary" } } } }
    ]])
    command.write(directory .. "/message.json", '{"title": "t"}')
    for _, words in ipairs { { "explain", "--rules", ".", "message.json" }, { "explain", "--json", "--rules", ".", "message.json" } } do
      local done = command.run(words, { directory = directory })
      assert.equal("", done.err)
      assert.matches("many", done.out)
      assert.is_nil(done.out:find("canary", 1, true), done.out)
    end
  end)
end)
