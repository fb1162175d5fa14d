-- Choices: who is told of several, and what counts.
local rules = require "spec.support.rules"

local function routing(to, extra, options)
  return rules.open({ ["a.lua"] = ("route { to = %s }"):format(to) }, extra, options)
end

local function counts(sink, count)
  local found = {}
  for _, path in ipairs(rules.paths(sink, count)) do found[path] = (found[path] or 0) + 1 end
  return found
end

describe("fallback", function()
  after_each(rules.finish)

  it("tells the first that delivers; what failed before is superseded", function()
    local hub, sink = routing [[ fallback { "down", "a", "b" } ]]
    local receipt = assert(hub:send({ title = "t" }, rules.LONG))
    assert.equal("delivered", receipt.status)
    assert.is_nil(receipt.code)
    assert.equal(2, #receipt.results)
    assert.is_false(receipt.results[1].ok)
    assert.is_true(receipt.results[1].superseded)
    assert.equal("a", receipt.results[2].target)
    assert.is_nil(receipt.results[2].superseded)
    assert.same({ "/a" }, rules.paths(sink, 1))
    assert.equal(1, sink:stop().arrivals)
  end)

  it("fails when none delivers, and every failure counts", function()
    local hub = routing [[ fallback { "down", "nobody" } ]]
    local receipt, _, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("network", code)
    for _, result in ipairs(receipt.results) do assert.is_nil(result.superseded) end
  end)

  it("has lists, which deliver when all of them do, and choices in it", function()
    local hub, sink = routing [[ fallback { { "a", "down" }, all { "b", "down" }, any { "down", "c" }, "d" } ]]
    local receipt = assert(hub:send({ title = "t" }, rules.LONG))
    assert.equal("delivered", receipt.status)
    assert.same({ "/a", "/b", "/c" }, rules.paths(sink, 3))
    assert.equal(3, sink:stop().arrivals)
  end)

  it("that says somebody twice does not tell them twice", function()
    local hub, sink = routing [[ { "a", fallback { "a", "b" } } ]]
    assert.equal("delivered", assert(hub:send({ title = "t" }, rules.LONG)).status)
    assert.equal(1, counts(sink, 1)["/a"])
    assert.is_nil(counts(sink, 1)["/b"])
  end)
end)

describe("all and any", function()
  after_each(rules.finish)

  it("all is delivered when everybody is told", function()
    local hub, sink = routing [[ all { "a", "b", "down" } ]]
    local receipt = hub:send({ title = "t" }, rules.LONG)
    assert.equal("partial", receipt.status)
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
  end)

  it("any tells everybody, and is delivered when one is told", function()
    local hub, sink = routing [[ any { "a", "down", "b" } ]]
    local receipt = assert(hub:send({ title = "t" }, rules.LONG))
    assert.equal("delivered", receipt.status)
    assert.equal(3, #receipt.results)
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
    local failing = routing [[ any { "down", "nobody" } ]]
    assert.equal("failed", failing:send({ title = "t" }, rules.LONG).status)
  end)
end)

describe("taking turns", function()
  after_each(rules.finish)

  it("round_robin does so over all workers, evenly", function()
    local hub, sink = routing([[ round_robin { "a", "b", "c" } ]], { workers = { min = 2, max = 2 } })
    local messages = {}
    for index = 1, 60 do messages[index] = { title = "t" } end
    for _, receipt in ipairs(hub:send_batch(messages):wait(rules.LONG)) do assert.equal("delivered", receipt.status) end
    assert.same({ ["/a"] = 20, ["/b"] = 20, ["/c"] = 20 }, counts(sink, 60))
  end)

  it("goes on with the next when the one whose turn it is fails", function()
    local hub, sink = routing [[ round_robin { "a", "down" } ]]
    for _ = 1, 4 do assert.equal("delivered", assert(hub:send({ title = "t" }, rules.LONG)).status) end
    assert.equal(4, counts(sink, 4)["/a"])
  end)

  it("weighted does so as often as the weights say", function()
    local hub, sink = routing [[ weighted { a = 3, b = 1 } ]]
    for _ = 1, 8 do hub:send({ title = "t" }, rules.LONG) end
    assert.same({ ["/a"] = 6, ["/b"] = 2 }, counts(sink, 8))
  end)

  it("of lists are their own for each list", function()
    local hub, sink = routing [[ { round_robin { { "a", "b" }, "c" }, round_robin { { "c", "b" }, "a" } } ]]
    assert.equal("delivered", assert(hub:send({ title = "t" }, rules.LONG)).status)
    assert.same({ ["/a"] = 1, ["/b"] = 1, ["/c"] = 1 }, counts(sink, 3)) -- both begin with their first
  end)

  it("survives a reload: whose turn it was is not forgotten", function()
    local hub, sink = routing [[ round_robin { "a", "b" } ]]
    for _ = 1, 2 do
      hub:send({ title = "t" }, rules.LONG)
      assert(hub:reload())
    end
    assert.same({ ["/a"] = 1, ["/b"] = 1 }, counts(sink, 2))
  end)
end)

describe("healthiest", function()
  after_each(rules.finish)

  it("prefers the one that works, and tries the others when it fails", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { match = { way = "direct" } }
      route { to = healthiest { "down", "a" } }
    ]] }
    for _ = 1, 5 do hub:send({ title = "t", targets = { "down", "a" }, metadata = { way = "direct" } }, rules.LONG) end
    for _ = 1, 5 do
      local receipt = assert(hub:send({ title = "t" }, rules.LONG))
      assert.equal("delivered", receipt.status)
      assert.equal(1, #receipt.results) -- `down` was not even tried
    end
    assert.equal(10, counts(sink, 10)["/a"])
  end)

  it("takes the first of those of which nothing is known", function()
    local hub, sink = routing [[ healthiest { "b", "a" } ]]
    hub:send({ title = "t" }, rules.LONG)
    assert.same({ "/b" }, rules.paths(sink, 1))
  end)
end)

describe("a choice", function()
  after_each(rules.finish)

  it("is called in a handler, or is what a handler sends to", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      local either = fallback { "down", "a" }
      route { handle = function(message)
        local result = either(message, { template = "short" })
        assert(result.ok and #result.results == 2 and result.results[1].superseded)
        assert(send(message, fallback { "b" }).ok)
      end }
      template("short", "short")
    ]] }
    local receipt = assert(hub:send({ title = "t" }, rules.LONG))
    assert.equal("delivered", receipt.status)
    assert.equal("short", rules.told(sink, "/a")[1].body)
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
  end)

  it("is what a resolver may answer", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      resolve(function(target) if target == "oncall" then return fallback { "down", "b" } end end)
      route { to = { "a", "oncall" } }
    ]] }
    assert.equal("delivered", assert(hub:send({ title = "t" }, rules.LONG)).status)
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
  end)

  it("that is made wrongly is an error of the rules, with file and line", function()
    for source, text in pairs {
      ["fallback {}"] = "needs at least one target", ["any 'a'"] = "takes a table of targets, not a string",
      ["all { 5 }"] = "target 1 is a number", ["fallback { a = 'b' }"] = "at least one",
      ["fallback { 'a', b = 'c' }"] = "'b' is no place", ["weighted { 'a' }"] = "whole number",
      ["weighted { a = 0 }"] = "whole number", ["weighted {}"] = "at least one", ["weighted { a = 5000 }"] = "at most 1000",
      ["weighted { a = 1.5 }"] = "whole number",
    } do
      local ok, problem, code = require "notifyhub".new { rules = rules.folder { ["a.lua"] = "\nlocal x = " .. source } }
      assert.is_nil(ok, source)
      assert.equal("config", code)
      assert.matches("a%.lua:2: %l+: ", problem)
      assert.is_truthy(problem:find(text, 1, true), problem)
    end
  end)
end)
