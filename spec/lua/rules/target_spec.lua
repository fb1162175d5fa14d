-- Who a name stands for: the configuration's targets, and the rules' resolvers.
local rules = require "spec.support.rules"

local function resolving(body, extra, to)
  return rules.open({ ["a.lua"] = ([[ resolve(function(target) %s end) route { to = %s } ]]):format(body, to or '"x"') },
    extra)
end

describe("the targets of the configuration", function()
  after_each(rules.finish)

  it("stand for others, nested; one recipient is told once", function()
    local hub, sink = rules.open({ ["a.lua"] = [[ route { to = { "everyone", "team", "b" } } ]] }, {
      targets = { team = { "a", "b" }, everyone = { "team", "c", "a" } },
    })
    local receipt = hub:send({ title = "t" }, rules.LONG)
    assert.equal("delivered", receipt.status)
    assert.equal(3, #receipt.results)
    assert.same({ "/a", "/b", "/c" }, rules.paths(sink, 3))
    assert.equal(3, sink:stop().arrivals)
  end)

  it("that lead back to themselves are an error of that target only", function()
    local hub, sink = rules.open({ ["a.lua"] = [[ route { to = { "one", "c" } } ]] }, {
      targets = { one = { "two", "a" }, two = { "one", "b" } },
    })
    local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("partial", receipt.status)
    assert.equal("unknown_target", code)
    assert.matches("'one' leads back to itself", problem)
    assert.same({ "/a", "/b", "/c" }, rules.paths(sink, 3))
  end)
end)

describe("a resolver", function()
  after_each(rules.finish)

  it("turns names into names, accounts, addresses and tables, nested", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      local users = { ann = { "a", "bob" }, bob = { { platform = "b" } }, team = { "ann", "cid", "ann" }, cid = "c" }
      resolve(function(target) return users[target] end)
      route { to = "team" }
    ]] }
    local receipt = hub:send({ title = "t" }, rules.LONG)
    assert.equal("delivered", receipt.status, receipt.error)
    assert.same({ "/a", "/b", "/c" }, rules.paths(sink, 3))
    assert.equal(3, sink:stop().arrivals)
  end)

  it("is asked for the message's own targets, too, and the first that answers decides", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      resolve(function(target) if target == "me" then return "a" end end)
      resolve(function(target) if target == "me" or target == "you" then return "b" end end)
    ]] }
    hub:send({ title = "t", targets = { "me" } }, rules.LONG)
    assert.same({ "/a" }, rules.paths(sink, 1))
    hub:send({ title = "t", targets = { "you" } }, rules.LONG)
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
    assert.equal("unknown_target", select(3, hub:send({ title = "t", targets = { "they" } }, rules.LONG)))
  end)

  it("that leads back to itself is an error of that target", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      resolve(function(target) return ({ x = "y", y = { "z", "a" }, z = "x" })[target] end)
      route { to = { "x", "b" } }
    ]] }
    local _, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("unknown_target", code)
    assert.matches("'x' leads back to itself", problem)
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
  end)

  it("that raises fails the message, with file and line", function()
    local hub = resolving([[ error "no directory" ]], nil, '"team"')
    local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("script", code)
    assert.matches("a%.lua:1: no directory", problem)
  end)

  it("that answers with no target fails the message", function()
    for body, text in pairs {
      ["return 5"] = "'team' stands for is a number", ["return { 5 }"] = "number", ["return { platform = 5 }"] = "platform",
      ["return { value = {} }"] = "value", ["return {}"] = "nobody", ["return ''"] = "", ["return true"] = "boolean",
      ["return { { { {} } } }"] = "nobody", ["return { platform = 'b', type = 5, value = 'x' }"] = "type",
    } do
      local hub = resolving(body, nil, '"team"')
      local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
      assert.equal("failed", receipt.status, body)
      assert.matches(text, problem)
      assert.is_nil(problem:find("attempt to", 1, true), body .. problem)
      assert.is_nil(problem:find("telling", 1, true), body .. problem)
      assert.truthy(code, body)
    end
  end)

  it("may sleep and ask somebody else", function()
    local hub, sink, folder = rules.open({})
    rules.write(folder, "a.lua", ([[
      resolve(function(target)
        if target ~= "oncall" then return nil end
        sleep(0.05)
        return assert(http("%s/directory")).status == 200 and "a" or "b"
      end)
      route { to = "oncall" }
    ]]):format(sink.url))
    assert(hub:reload())
    local receipt = hub:send({ title = "t" }, rules.LONG)
    assert.equal("delivered", receipt.status, receipt.error)
    assert.same({ "/a", "/directory" }, rules.paths(sink, 2))
  end)

  it("that loops breaks its limit", function()
    local hub = rules.open({ ["a.lua"] = [[ resolve(function() while true do end end) route { to = "x" } ]] },
      { limits = { slice = 0.5 } })
    assert.equal("script_limit", select(3, hub:send({ title = "t" }, rules.LONG)))
  end)

  it("that makes ever new names is stopped", function()
    local hub = rules.open { ["a.lua"] = [[ resolve(function(target) return target .. "x" end) route { to = "x" } ]] }
    local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("unknown_target", code)
    assert.matches("more than 16 names lead to each other", problem)
  end)

  it("that multiplies names is stopped", function()
    local hub = rules.open { ["a.lua"] = [[
      resolve(function(target) if #target < 30 then return { target .. "x", target .. "y" } end end) route { to = "x" } ]] }
    local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("script_limit", code)
    assert.matches("more than 2000 others", problem)
  end)
end)
