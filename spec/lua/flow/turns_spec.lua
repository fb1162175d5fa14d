-- Turns are counted over all workers by what is chosen among, however long that is to write.

local command = require "spec.support.command"
local support = require "spec.lua.binding.support"

describe("round_robin", function()
  local folder
  before_each(function() folder = command.directory() end)
  after_each(function()
    support.finish()
    command.remove(folder)
  end)

  for _, length in ipairs { 1, 300 } do
    it(("goes round among targets of %d bytes and more"):format(length), function()
      local sink = support.sink()
      local long = ("x"):rep(length)
      command.write(folder .. "/rules.lua", ("route { to = round_robin { %q, %q } }"):format(
        support.path(sink, long .. "a"), support.path(sink, long .. "b")))
      local hub = support.hub { rules = folder }
      for _ = 1, 4 do
        assert.equal("delivered", hub:send({ title = "t" }, 20).status)
      end
      local last = {}
      for index, arrival in ipairs(assert(sink:wait(4))) do
        last[index] = arrival.path:sub(-1)
      end
      assert.equal("abab", table.concat(last))
    end)
  end
end)
