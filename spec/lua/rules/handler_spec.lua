-- Handlers are straight-line code: they send, look at what came of it, sleep, and send again.
local rules = require "spec.support.rules"

-- A hub whose one route has this handler.
local function handling(body, extra, options)
  return rules.open({ ["a.lua"] = "route { name = \"h\", handle = function(message)\n" .. body .. "\nend }" }, extra, options)
end

describe("a handler", function()
  after_each(rules.finish)

  it("sends, and sees what came of it", function()
    local hub, sink = handling [[
      local good, bad = send(message, "a"), send(message, "down")
      assert(good.ok and good.code == nil and good.status_code == 200 and good.target == "a" and #good.results == 1)
      assert(not bad.ok and bad.code == "network" and bad.error and bad.results[1].platform == "webhook")
      local both = send(message, { "b", "down" })
      assert(not both.ok and both.code == "network" and #both.results == 2 and both.results[1].ok)
      send { title = "seen" , targets = { "c" } }
    ]]
    local receipt, _, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("partial", receipt.status)
    assert.equal("network", code)
    assert.equal("h", receipt.route)
    assert.equal(5, #receipt.results)
    assert.same({ "/a", "/b", "/c" }, rules.paths(sink, 3))
  end)

  it("tells each send anew: the same recipient twice", function()
    local hub, sink = handling [[ send(message, "a") send(message, "a") send(message, { "a", "a" }) ]]
    assert.equal("delivered", hub:send({ title = "t" }, rules.LONG).status)
    assert.same({ "/a", "/a", "/a" }, rules.paths(sink, 3))
    assert.equal(3, sink:stop().arrivals)
  end)

  it("escalates when a send fails and after a sleep", function()
    local hub, sink = handling [[
      local began = now()
      if not send(message, "down").ok then
        sleep(0.3)
        assert(now() - began >= 0.29)
        message.title = "again: " .. message.title
        send(message, "b")
      end
    ]]
    local receipt = hub:send({ title = "t" }, rules.LONG)
    assert.equal("partial", receipt.status) -- the first failed, and nothing says that it does not count
    assert.equal("again: t", rules.told(sink, "/b")[1].title)
    assert.is_true(receipt.settled_at - receipt.created_at >= 0.29)
  end)

  it("sleeps beside others: a hundred sleep at once, and wake", function()
    local hub, sink = handling [[
      sleep(message.metadata.seconds)
      send(message, "a")
    ]]
    local handles = {}
    local function send(seconds)
      for index = 1, 100 do handles[index] = assert(hub:send_async { title = "t", metadata = { seconds = seconds } }) end
    end
    send(0.2)
    for _, handle in ipairs(handles) do assert.equal("delivered", handle:wait(rules.LONG).status) end
    assert.equal(100, #assert(sink:wait(100, rules.LONG)))
    send(10000)
    rules.eventually(function() return hub:stats().workers.asleep == 100 end)
    for _, handle in ipairs(handles) do handle:cancel() end
    rules.eventually(function() return hub:stats().workers.asleep == 0 end)
  end)

  it("may take the message without telling anybody, and may refuse it", function()
    local hub = handling [[
      if message.title == "take" then return true
      elseif message.title == "refuse" then return false
      elseif message.title == "why" then return false, "because" end
    ]]
    local receipt = hub:send({ title = "take" }, rules.LONG)
    assert.equal("delivered", receipt.status)
    assert.same({}, receipt.results)
    local _, problem, code = hub:send({ title = "refuse" }, rules.LONG)
    assert.equal("rejected", code)
    assert.equal("the route 'h' refused it", problem)
    assert.equal("the route 'h' refused it: because", select(2, hub:send({ title = "why" }, rules.LONG)))
    _, problem, code = hub:send({ title = "nothing", targets = { "a" } }, rules.LONG)
    assert.equal("no_route", code)
    assert.matches("handler of route 'h' sent nothing", problem)
  end)

  it("that raises fails its message, with file and line and what it did before", function()
    local hub, sink = handling [[
      if message.title == "after" then send(message, "a") end
      error("broken")
    ]]
    local receipt, problem, code = hub:send({ title = "before" }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("script", code)
    assert.matches("/a%.lua:3: broken", problem)
    receipt, problem, code = hub:send({ title = "after" }, rules.LONG)
    assert.equal("partial", receipt.status)
    assert.equal("script", code)
    assert.matches("/a%.lua:3: broken", problem)
    assert.is_true(receipt.results[1].ok)
    assert.same({ "/a" }, rules.paths(sink, 1))
  end)

  it("may raise anything", function()
    local hub = handling [[
      error(({ table = { 1 }, none = nil, object = setmetatable({}, { __tostring = function() return "an object" end }),
        bad = setmetatable({}, { __tostring = error }) })[message.title])
    ]]
    for title, text in pairs { table = "table", none = "nil", object = "an object", bad = "." } do
      local receipt, problem, code = hub:send({ title = title }, rules.LONG)
      assert.equal("failed", receipt.status)
      assert.equal("script", code)
      assert.matches(text, problem)
    end
  end)

  it("may send so often, and a pcall does not help", function()
    local hub, sink = handling([[ while true do pcall(send, message, "a") end ]], { limits = { sends = 3 } })
    local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("partial", receipt.status)
    assert.equal("script_limit", code)
    assert.matches("limits", problem)
    assert.equal(3, #receipt.results)
    assert.equal("script_limit", select(3, hub:send({ title = "t" }, rules.LONG)))
    assert.equal(6, sink:stop().arrivals)
  end)

  it("that loops breaks its limit; messages beside it do not notice", function()
    local hub, sink = handling([[
      if message.title == "loop" then while true do end end
      sleep(0.1) send(message, "a")
    ]], { limits = { slice = 0.5 }, workers = { min = 1, max = 1 } })
    local beside = assert(hub:send_async { title = "fine" })
    local receipt, problem, code = hub:send({ title = "loop" }, rules.LONG)
    assert.equal("failed", receipt.status)
    assert.equal("script_limit", code)
    assert.matches("a%.lua:2", problem)
    assert.equal("delivered", beside:wait(rules.LONG).status)
    assert.same({ "/a" }, rules.paths(sink, 1))
  end)

  it("that hoards memory breaks its limit", function()
    local hub = handling([[ local t = {} while true do t[#t + 1] = { #t } end ]], { limits = { message_memory = 1 << 20, slice = 10 } })
    local _, problem, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("script_memory", code, problem)
    assert.matches("a%.lua:2", problem)
  end)

  it("makes messages of its own, with an id of the first one's", function()
    local hub, sink = handling [[
      send({ title = "made", metadata = { from = message.id } }, "b")
      send({ title = "two" }, "c")
      local copy = {}
      for name, value in pairs(message) do copy[name] = value end
      copy.body = "changed"
      send(message, "a")
    ]]
    local receipt = hub:send({ id = "m", title = "t", body = "text", priority = "high" }, rules.LONG)
    assert.equal("delivered", receipt.status)
    local made = rules.told(sink, "/b")[1]
    assert.equal("m-1", made.message_id)
    assert.equal("high", made.priority)
    assert.equal("m", made.metadata.from)
    assert.equal("m-2", rules.told(sink, "/c")[1].message_id)
    assert.equal("text", rules.told(sink, "/a")[1].body)
  end)

  it("sends a copy of the message with changes", function()
    local hub, sink = handling [[
      local copy = {}
      for name, value in pairs(message) do copy[name] = value end
      copy.body = "changed"
      local result = send(copy, "a")
      assert(result.ok, result.error)
      send(message, "b")
    ]]
    local receipt = hub:send({
      id = "m", title = "t", body = "text", metadata = { x = 1 }, variables = { y = 2 }, retry = { attempts = 2 },
      timeout = 100, expires_at = os.time() + 1000,
    }, rules.LONG)
    assert.equal("delivered", receipt.status, receipt.error)
    assert.equal("changed", rules.told(sink, "/a")[1].body)
    assert.equal("text", rules.told(sink, "/b")[1].body)
  end)

  it("that calls something wrongly is told what and where", function()
    local cases = {
      { [[ send("text", "a") ]], "a%.lua:2: send: the message must be a table, not a string" },
      { [[ send(message) ]], "a%.lua:2: send: names no target" },
      { [[ send({ titel = "x" }, "a") ]], "a%.lua:2: .*titel.*title" },
      { [[ send({ metadata = {} }, "a") ]], "a%.lua:2: message: needs a title" },
      { [[ send(message, "a", { tempalte = "x" }) ]], "a%.lua:2: .*tempalte.*template" },
      { [[ send(message, "a", { retry = { atempts = 2 } }) ]], "a%.lua:2: send.retry.atempts" },
      { [[ send({ title = "x", retry = { attempts = "many" } }, "a") ]], "a%.lua:2: message.retry.attempts: .* whole number" },
      { [[ message.title = {} send(message, "a") ]], "a%.lua:2: message.title: must be a string, not a table" },
      { [[ message.retry = { attempts = {} } send(message, "a") ]], "a%.lua:2: message.retry.attempts" },
      { [[ send(message, 5) ]], "a%.lua:2: send: the target is a number" },
      { [[ send(message, { "a", { valeu = "x" } }) ]], "a%.lua:2: send: the target %[2%] has a field 'valeu'" },
      { [[ sleep(-1) ]], "a%.lua:2: .*sleep" },
      { [[ sleep("x") ]], "a%.lua:2: .*sleep" },
      { [[ route { to = "a" } ]], "a%.lua:2: route can only be called while the rules load" },
      { [[ on("complete", print) ]], "a%.lua:2: on can only be called while the rules load" },
      { [[ coroutine.yield() ]], "yield" },
      { [[ coroutine.wrap(function() sleep(1) end)() ]], "a%.lua:2: .*coroutine" },
    }
    for _, case in ipairs(cases) do
      local hub = handling(case[1])
      local receipt, problem, code = hub:send({ title = "t" }, rules.LONG)
      assert.equal("failed", receipt.status, case[1])
      assert.is_true(code == "script" or code == "invalid", tostring(code) .. case[1])
      assert.matches(case[2], problem)
    end
  end)

  it("sees unknown names of targets and templates in the result", function()
    local hub = handling [[
      local result = send(message, "nobody")
      assert(not result.ok and result.code == "unknown_target", result.code)
      result = send(message, "a", { template = "missing" })
      assert(not result.ok and result.code == "invalid" and result.error:find("missing"), result.error)
      return true
    ]]
    local receipt, problem = hub:send({ title = "t" }, rules.LONG)
    assert.equal("unknown_target", receipt.code, problem)
  end)

  it("is cancelled in its sleep, and by the message's timeout", function()
    local hub, sink = handling [[ send(message, "a") sleep(1000) send(message, "b") ]]
    local handle = assert(hub:send_async { title = "t" })
    rules.paths(sink, 1)
    rules.eventually(function() return hub:stats().workers.asleep == 1 end)
    assert.is_true(handle:cancel())
    local receipt = handle:wait(rules.LONG)
    assert.equal("cancelled", receipt.code)
    assert.is_true(receipt.results[1].ok)
    local _, _, code = hub:send({ title = "t", timeout = 0.5 }, rules.LONG)
    assert.equal("timeout", code)
    rules.eventually(function() return hub:stats().workers.asleep == 0 end)
    for _, arrival in ipairs(sink:arrivals()) do assert.equal("/a", arrival.path) end
  end)
end)
