-- Routes decide who is told; what they decided is in the receipt.
local rules = require "spec.support.rules"

describe("a route", function()
  after_each(rules.finish)

  it("is taken by its metadata, priority, fields or function, the first that matches", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { name = "metadata", match = { service = "db", severity = { "page", "high" } }, to = "a" }
      route { name = "priority", match = { priority = "urgent" }, to = "b" }
      route { name = "field", match = { title = "~^Disk" }, to = "c" }
      route { name = "function", match = function(message) return message.metadata.load > 5 end, to = "d" }
    ]] }
    local cases = {
      { { title = "t", metadata = { service = "db", severity = "high" }, priority = "urgent" }, "metadata", "/a" },
      { { title = "Disk", metadata = { service = "db" }, priority = "urgent" }, "priority", "/b" },
      { { title = "Disk full" }, "field", "/c" },
      { { title = "t", metadata = { load = 7 } }, "function", "/d" },
    }
    for index, case in ipairs(cases) do
      local receipt = hub:send(case[1], rules.LONG)
      assert.equal("delivered", receipt.status)
      assert.equal(case[2], receipt.route)
      assert.equal(1, receipt.generation)
      assert.equal(case[3], assert(sink:wait(index, rules.LONG))[index].path)
    end
    assert.equal(4, sink:stop().arrivals)
  end)

  it("tells the message's own targets when it names none", function()
    local hub, sink = rules.open { ["a.lua"] = [[ route { name = "own" } ]] }
    local receipt = hub:send({ title = "t", targets = { "b", "c" } }, rules.LONG)
    assert.equal("own", receipt.route)
    assert.same({ "/b", "/c" }, rules.paths(sink, 2))
    local _, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("no_route", code)
    assert.matches("no target", problem)
  end)

  it("stands over the message's own targets", function()
    local hub, sink = rules.open { ["a.lua"] = [[ route { to = "a" } ]] }
    assert.equal("route 1", hub:send({ title = "t", targets = { "b" } }, rules.LONG).route)
    assert.same({ "/a" }, rules.paths(sink, 1))
  end)

  it("that does not match leaves the message to its own targets, and without them it has no route", function()
    local hub, sink = rules.open { ["a.lua"] = [[ route { match = { service = "db" }, to = "a" } ]] }
    local receipt = hub:send({ title = "t", targets = { "b" } }, rules.LONG)
    assert.is_nil(receipt.route)
    assert.equal(1, receipt.generation)
    assert.same({ "/b" }, rules.paths(sink, 1))
    local failed, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("failed", failed.status)
    assert.equal("no_route", code)
    assert.matches("no route matches", problem)
    assert.same({}, failed.results)
  end)

  it("that says continue lets others decide, too: each result names its route, one recipient is told once", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { name = "first", match = { tag = "x" }, to = { "a", "b" }, continue = true }
      route { name = "other", match = { tag = "y" }, to = "d" }
      route { name = "second", to = { "b", "c" } }
      route { name = "third", to = "d" }
    ]] }
    local receipt = hub:send({ title = "t", metadata = { tag = "x" } }, rules.LONG)
    assert.equal("delivered", receipt.status)
    assert.equal("first, second", receipt.route)
    local by_target = {}
    for _, result in ipairs(receipt.results) do by_target[result.target] = result.route end
    assert.equal("first", by_target.a)
    assert.equal("second", by_target.c)
    assert.same({ "/a", "/b", "/c" }, rules.paths(sink, 3))
    assert.equal(3, sink:stop().arrivals)
  end)

  it("fails alone when several decide", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { name = "bad", continue = true, handle = function() error "no" end }
      route { name = "good", to = "a" }
    ]] }
    local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("partial", receipt.status)
    assert.equal("script", code)
    assert.matches("a.lua:1: no", problem)
    assert.same({ "/a" }, rules.paths(sink, 1))
  end)

  it("has children that inherit its settings and may take one back", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      template("loud", { title = "LOUD {{ title }}" })
      route {
        name = "db", match = { service = "db" }, to = "a", template = "loud",
        routes = {
          { name = "page", match = { severity = "page" }, to = "b", continue = true },
          { name = "quiet", match = { severity = { "page", "low" } }, template = false },
          { name = "code", match = { severity = "code" }, handle = function(message) send(message, "c") end },
        },
      }
    ]] }
    local function send(severity)
      return hub:send({ title = "t", metadata = { service = "db", severity = severity } }, rules.LONG).route
    end
    assert.equal("db", send "other")
    assert.equal("LOUD t", rules.told(sink, "/a")[1].title)
    assert.equal("db/page, db/quiet", send "page")
    assert.equal("LOUD t", rules.told(sink, "/b")[1].title)
    assert.equal("t", rules.told(sink, "/a", 2)[2].title)
    assert.equal("db/quiet", send "low")
    assert.equal("db/code", send "code")
    assert.equal("t", rules.told(sink, "/c")[1].title) -- what a handler sends is the handler's to dress
    assert.equal(5, sink:stop().arrivals)
  end)

  it("has a retry of its own, under the message's", function()
    local hub, sink = rules.open({ ["a.lua"] = [[ route { to = "a", retry = { attempts = 3, initial = 0.01 } } ]] }, nil, { fail = 100 })
    assert.equal(3, hub:send({ title = "t" }, rules.LONG).results[1].attempts)
    assert.equal(2, hub:send({ title = "t", retry = { attempts = 2 } }, rules.LONG).results[1].attempts)
    assert.equal(5, sink:stop().arrivals)
  end)

  it("has a timeout of its own, which ends what it tells and what its handler does", function()
    local hub = rules.open({ ["a.lua"] = [[
      route { name = "late", match = { way = "to" }, timeout = 0.2, to = "a" }
      route { name = "asleep", match = { way = "handle" }, timeout = 0.2, handle = function() sleep(1000) end }
    ]] }, nil, { delay = 3 })
    for way, name in pairs { to = "late", handle = "asleep" } do
      local receipt, _, code = hub:send({ title = "t", metadata = { way = way } }, rules.LONG)
      assert.equal("timeout", code)
      assert.equal("failed", receipt.status)
      assert.equal(name, receipt.route)
    end
  end)

  it("whose timeout is shorter leaves the message's own, and another route, their time", function()
    local hub = rules.open { ["a.lua"] = [[
      route { match = { way = "own" }, timeout = 0.001, handle = function(message) sleep(0.1) send(message, "a") end }
      route { name = "short", timeout = 0.001, continue = true, to = "b" }
      route { name = "long", handle = function(message) sleep(0.1) send(message, "a") end }
    ]] }
    assert.equal("delivered", hub:send({ title = "t", timeout = 100, metadata = { way = "own" } }, rules.LONG).status)
    assert.equal("delivered", hub:send({ title = "t" }, rules.LONG).status)
    local _, _, code = hub:send({ title = "t", metadata = { way = "own" } }, rules.LONG)
    assert.equal("timeout", code)
  end)

  it("sees the message's expiry as before: the sooner of both ends it", function()
    local hub = rules.open { ["a.lua"] = [[ route { timeout = 1000, handle = function() sleep(1000) end } ]] }
    local receipt = hub:send({ title = "t", expires_at = os.time() + 1.5 }, rules.LONG)
    assert.equal("expired", receipt.status)
  end)

  it("whose own code raises fails its message only, with file, line and the route's name", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { name = "odd", match = function(message)
        return message.metadata.n > 1
      end, to = "a" }
    ]] }
    local _, problem, code = hub:send({ title = "t" }, rules.LONG) -- without metadata: the table is there all the same
    assert.equal("script", code)
    assert.matches("route 'odd', match: .*a%.lua:2: attempt to compare", problem)
    assert.equal("delivered", hub:send({ title = "t", metadata = { n = 2 } }, rules.LONG).status)
    assert.same({ "/a" }, rules.paths(sink, 1))
  end)

  it("sees metadata of every type", function()
    local hub = rules.open { ["a.lua"] = [[
      route { name = "whole", match = { n = 3 }, to = "a" }
      route { name = "list", match = { tags = "db" }, to = "a" }
      route { name = "nested", match = { deploy = { region = "eu" } }, to = "a" }
      route { name = "yes", match = { on = true }, to = "a" }
      route { name = "null", match = function(message) return message.metadata.is and message.metadata.nothing == nil end, to = "a" }
      route { name = "float", match = { f = "> 0.4" }, to = "a" }
      route { name = "rest", to = "a" }
    ]] }
    local null = require "notifyhub".null
    local cases = {
      whole = { n = 3.0 }, list = { tags = { "x", "db" } }, nested = { deploy = { region = "eu" } }, yes = { on = true },
      null = { is = 1, nothing = null }, float = { f = 0.5 }, rest = { n = { {} }, tags = {}, deploy = "eu", on = false, f = "x" },
    }
    for name, metadata in pairs(cases) do
      local receipt = hub:send({ title = "t", metadata = metadata }, rules.LONG)
      assert.equal(name, receipt.route)
      assert.equal("delivered", receipt.status)
    end
  end)
end)
