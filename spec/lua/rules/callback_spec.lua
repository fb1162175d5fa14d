-- Callbacks of the rules: they run in the worker, after the receipt, and harm nothing.
local cjson = require "cjson"
local rules = require "spec.support.rules"

describe("a callback", function()
  after_each(rules.finish)

  it("hears of the end of every message, and an error's of those that are not delivered", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { match = { way = "ok" }, to = "a" }
      route { match = { way = "bad" }, to = "down" }
      on("complete", function(receipt, message) send({ title = "complete " .. receipt.status .. " " .. message.id }, "b") end)
      on("error", function(receipt, message) send({ title = "error " .. receipt.code .. " " .. message.id }, "c") end)
    ]] }
    hub:send({ id = "m1", title = "t", metadata = { way = "ok" } }, rules.LONG)
    hub:send({ id = "m2", title = "t", metadata = { way = "bad" } }, rules.LONG)
    local ends = rules.told(sink, "/b", 2)
    assert.same({ "complete delivered m1", "complete failed m2" }, { ends[1].title, ends[2].title })
    assert.equal("error network m2", rules.told(sink, "/c")[1].title)
    assert.equal(0, hub:close(rules.LONG))
    assert.equal(4, sink:stop().arrivals)
  end)

  it("has the receipt that the sender has", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { name = "one", match = { way = "one" }, to = "a" }
      route { name = "two", match = { way = "two" }, to = { "a", "b" } }
      on("complete", function(receipt) send({ title = receipt.id, body = json.encode(receipt) }, "c") end)
    ]] }
    for _, way in ipairs { "one", "two" } do
      local receipt = assert(hub:send({ id = way, title = "t", metadata = { way = way }, on_complete = "nobody" }, rules.LONG))
      local told = rules.told(sink, "/c", way == "one" and 1 or 2)
      assert.same(receipt, cjson.decode(told[#told].body))
      assert.same({ "delivered", way, 1, way == "one" and 1 or 2 },
        { receipt.status, receipt.route, #receipt.warnings, #receipt.results })
    end
  end)

  it("that a message names runs beside the others, and only for it", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { match = { way = "bad" }, to = "down" }
      on("complete", "mine", function(receipt, message) send({ title = "mine " .. message.id }, "b") end)
      on("error", "mine", function(receipt, message) send({ title = "error " .. message.id }, "c") end)
      on("complete", function(receipt, message) send({ title = "all " .. message.id }, "d") end)
    ]] }
    hub:send({ id = "m1", title = "t", targets = { "a" } }, rules.LONG)
    hub:send({ id = "m2", title = "t", targets = { "a" }, on_complete = "mine" }, rules.LONG)
    hub:send({ id = "m3", title = "t", metadata = { way = "bad" }, on_error = "mine" }, rules.LONG)
    assert.equal(3, #rules.told(sink, "/d", 3))
    hub:close(rules.LONG)
    assert.equal("mine m2", rules.told(sink, "/b")[1].title)
    assert.equal("error m3", rules.told(sink, "/c")[1].title)
    assert.equal(7, sink:stop().arrivals)
  end)

  it("hears of retries and of progress while the message goes on", function()
    local hub, sink = rules.open({ ["a.lua"] = [[
      on("retry", function(what, message)
        store.push("retries", ("%s %s %d %s"):format(message.id, what.target, what.attempt, what.code))
      end)
      on("progress", "each", function(what) store.push("progress", what.done .. "/" .. what.total) end)
      on("complete", function()
        send({ title = table.concat(store.pop_all "retries", ", "), body = table.concat(store.pop_all "progress", ", ") }, "d")
      end)
    ]] }, nil, { fail = 1 })
    hub:send({ id = "m", title = "t", targets = { "a", "b" }, retry = { attempts = 3, initial = 0.2, jitter = 0 }, on_progress = "each" },
      rules.LONG)
    local told = rules.told(sink, "/d")[1]
    assert.matches("^m [ab] 1 unavailable$", told.title)
    assert.equal("1/2, 2/2", told.body)
  end)

  it("does not hold up the receipt; close waits for it", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { to = "a" }
      on("complete", function(receipt, message)
        while not store.get "go" do sleep(0.02) end
        send({ title = "late" }, "b")
      end)
      route { name = "go", handle = function() return true end }
    ]] }
    -- nobody says "go" yet: that the receipt is there shows that it was not waited for
    assert.equal("delivered", hub:send({ title = "t" }, rules.LONG).status)
    assert.same({ "/a" }, rules.paths(sink, 1))
    hub:close(0.2)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("is waited for by close until its deadline", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { to = "a" }
      on("complete", function() sleep(0.5) send({ title = "late" }, "b") end)
    ]] }
    assert.equal("delivered", hub:send({ title = "t" }, rules.LONG).status)
    assert.equal(0, hub:close(rules.LONG))
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
  end)

  it("may sleep, send and use http; what it sends does not change the receipt", function()
    local hub, sink, folder = rules.open({})
    rules.write(folder, "a.lua", ([[
      route { to = "a" }
      on("complete", function(receipt, message)
        sleep(0.01)
        local answer = assert(http { url = "%s/ack", json = { id = message.id, status = receipt.status } })
        send({ title = "status " .. answer.status }, "b")
        send({ title = "to nobody" }, "down")
      end)
    ]]):format(sink.url))
    assert(hub:reload())
    local handle = assert(hub:send_async { id = "m", title = "t" })
    local receipt = handle:wait(rules.LONG)
    assert.equal("delivered", receipt.status)
    assert.equal("status 200", rules.told(sink, "/b")[1].title)
    assert.same({ id = "m", status = "delivered" }, rules.told(sink, "/ack")[1])
    hub:close(rules.LONG)
    assert.equal(1, #handle:result().results)
  end)

  it("that raises, loops or hoards is logged with file and line, and the next one runs", function()
    local printed = rules.program({ ["a.lua"] = [[
      on("complete", function() error "first" end)
      on("complete", function() while true do end end)
      on("complete", function() local t = {} while true do t[#t + 1] = {} end end)
      on("complete", function() sleep(0.01) error({}) end)
      on("complete", function() send({ title = "still" }, "b") end)
      route { to = "a" }
    ]] }, { limits = { slice = 0.5 } }, [[
      local receipt = hub:send({ id = "m", title = "t" }, rules.LONG)
      assert(receipt.status == "delivered" and #receipt.results == 1)
      rules.told(sink, "/b")
      hub:close(rules.LONG)
      assert(hub:health().status ~= "unhealthy")
    ]])
    assert.matches("level=error [^\n]*callback failed[^\n]*on complete of m: [^\n]*a%.lua:1: first", printed)
    assert.matches("callback failed[^\n]*a%.lua:2", printed)
    assert.matches("callback failed[^\n]*a%.lua:3", printed)
    local count = select(2, printed:gsub("callback failed", ""))
    assert.equal(4, count, printed)
  end)

  it("that is not there is a warning in the receipt and in the log", function()
    local printed = rules.program({ ["a.lua"] = [[ on("complete", "mine", function() end) ]] }, nil, [[
      local receipt = hub:send({ id = "m", title = "t", targets = { "a" }, on_complete = "mien" }, rules.LONG)
      assert(receipt.status == "delivered")
      print(receipt.warnings[1])
    ]])
    assert.matches("on_complete: the rules have no callback 'mien' for this event %(did you mean 'mine'%?%)\n", printed)
    assert.matches("level=warn [^\n]*no such callback[^\n]*m: on_complete:[^\n]*'mien'", printed)
    local hub = require("notifyhub").new {}
    assert.matches("no callback 'x'", hub:send({ title = "t", targets = { "json://127.0.0.1:1/" }, retry = { attempts = 1 }, on_error = "x" },
      rules.LONG).warnings[1])
    hub:close(0)
  end)

  it("hears of cancelled messages and of those whose time is over", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      route { name = "asleep", handle = function() sleep(1000) end }
      on("error", function(receipt, message) send({ title = message.id .. " " .. receipt.status .. " " .. receipt.code }, "b") end)
    ]] }
    local handle = assert(hub:send_async { id = "m1", title = "t" })
    rules.eventually(function() return hub:stats().workers.asleep == 1 end)
    handle:cancel()
    assert.equal("m1 cancelled cancelled", rules.told(sink, "/b")[1].title)
    hub:send({ id = "m2", title = "t", timeout = 1 }, rules.LONG)
    assert.equal("m2 failed timeout", rules.told(sink, "/b", 2)[2].title)
  end)

  it("is not called for what it sends itself", function()
    local hub, sink = rules.open { ["a.lua"] = [[
      on("complete", function(receipt, message) send({ title = "again" }, "b") end)
    ]] }
    hub:send({ title = "t", targets = { "a" } }, rules.LONG)
    rules.told(sink, "/b")
    hub:close(rules.LONG)
    assert.equal(2, sink:stop().arrivals)
  end)

  it("may send so often as a handler", function()
    local hub, sink = rules.open({ ["a.lua"] = [[
      on("complete", function() while true do pcall(send, { title = "x" }, "b") end end)
    ]] }, { limits = { sends = 3 } })
    hub:send({ title = "t", targets = { "a" } }, rules.LONG)
    hub:close(rules.LONG)
    assert.equal(4, sink:stop().arrivals)
  end)

  it("is a name or a function that the host gives: names for rules, functions for itself", function()
    local hub = rules.open { ["a.lua"] = [[ on("complete", "mine", function() end) ]] }
    local ok, problem = pcall(hub.send_async, hub, { title = "t" }, { on_complete = "mine" })
    assert.is_false(ok)
    assert.matches("named in the message", problem)
    local sent, wrong, code = hub:send_async { title = "t", targets = { "a" }, on_complete = 5 }
    assert.is_nil(sent)
    assert.equal("invalid", code)
    assert.matches("on_complete", wrong)
  end)
end)
