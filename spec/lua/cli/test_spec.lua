-- `notifyhub test`: the rules' own tests, with nothing sent and a clock that jumps.
local json = require "dkjson"

local command = require "command"
local rules = require "spec.support.rules"

local RULES = [[
route { name = "page", match = { severity = "page" }, handle = function(message)
  if not send(message, "oncall").ok then
    sleep(300)
    send(message, "boss")
  end
end }
route { name = "night", match = function() return os.date("!%H") == "03" end, to = "boss" }
route { to = fallback { "oncall", "boss" } }
]]

local CONFIG = [[return { rules = "r", platforms = {
  oncall = { platform = "webhook", url = "http://127.0.0.1:1/oncall" }, boss = { platform = "webhook", url = "http://127.0.0.1:1/boss" },
}, retry = { attempts = 1 } }]]

local function folder_with(tests)
  return rules.folder { ["notifyhub.lua"] = CONFIG, ["r/a.lua"] = RULES, ["r/a_test.lua"] = tests }
end

local function test(folder, ...)
  return command.run({ "test", ... }, { directory = folder })
end

describe("notifyhub test", function()
  after_each(rules.finish)

  it("runs them: sends are captured, sleeps take no time", function()
    local done = test(folder_with [[
      test("a page", function()
        local sent = simulate { title = "Disk", metadata = { severity = "page" } }
        assert(#sent == 1 and sent[1].target == "oncall" and sent[1].title == "Disk" and sent[1].at == 0)
        assert(sent[1].request.url and sent.receipt.status == "delivered" and sent.receipt.route == "page")
      end)
      test("nobody answers", function()
        local sent = simulate({ title = "Disk", metadata = { severity = "page" } }, { replies = { oncall = "unavailable" } })
        assert(#sent == 2 and sent[2].target == "boss" and sent[2].at == 300)
      end)
      test("at night", function()
        assert(simulate({ title = "t" }, { now = "2026-02-01T03:30" })[1].target == "boss")
        assert(simulate({ title = "t" }, { now = "2026-02-01T04:30" })[1].target == "oncall")
      end)
      test("a function replies", function()
        local asked = 0
        local sent = simulate({ title = "t" }, { now = "2026-02-01T12:00", replies = function(one)
          asked = asked + 1
          return one.target == "boss" or "rejected"
        end })
        assert(asked == 2 and sent.receipt.status == "delivered" and sent.receipt.results[1].superseded)
      end)
    ]])
    assert.equal("", done.err)
    assert.equal(0, done.status)
    assert.matches("^ok      a_test: a page\n", done.out)
    assert.matches("\n4 passed, 0 failed\n$", done.out)
  end)

  it("tells which fail, where and why, goes on with the others, and exits with 1", function()
    local folder = folder_with [[
      test("good", function() end)
      test("bad", function()
        assert(#simulate { title = "t" } == 5, "not five")
      end)
      test("loops", function() while true do end end)
      test("last", function() end)
    ]]
    rules.write(folder, "notifyhub.lua", (CONFIG:gsub("retry =", "limits = { loading = 2 }, retry =")))
    local done = test(folder)
    assert.equal(1, done.status)
    assert.matches("FAILED  a_test: bad\n +.*a_test%.lua:3: not five\n", done.out)
    assert.matches("FAILED  a_test: loops\n +.*a_test%.lua:5: ", done.out)
    assert.matches("ok      a_test: last\n", done.out)
    assert.matches("\n2 passed, 2 failed\n$", done.out)
    local told = json.decode(test(folder, "--json").out)
    assert.same({ 2, 2, 4 }, { told.passed, told.failed, #told.tests })
    assert.same({ file = "a_test", name = "good", ok = true }, told.tests[1])
  end)

  it("takes a file without test() as one test; one that is broken fails", function()
    local folder = folder_with "assert(#simulate { title = 't' } == 1)"
    assert.equal("ok      a_test: a_test\n1 passed, 0 failed\n", test(folder).out)
    rules.write(folder, "r/a_test.lua", "\nerror 'broken'")
    local done = test(folder)
    assert.equal(1, done.status)
    assert.matches("a_test%.lua:2: broken", done.out)
    rules.write(folder, "r/a_test.lua", "\ntest(")
    done = test(folder)
    assert.equal(2, done.status)
    assert.matches("a_test%.lua:2: ", done.err)
    rules.write(folder, "r/a_test.lua", "test('x', 5)")
    assert.equal(1, test(folder).status)
  end)

  it("says so when the rules are wrong, there are none, or there are no tests", function()
    local folder = rules.folder { ["a.lua"] = "\nroute {" }
    local done = test(folder, ".")
    assert.equal(2, done.status)
    assert.matches("a%.lua:2: ", done.err)
    done = test(rules.folder(), ".")
    assert.equal("0 passed, 0 failed\n", done.out)
    assert.equal(0, done.status)
    done = test(rules.folder())
    assert.equal(2, done.status)
    assert.matches("there are no rules: give a folder", done.err)
  end)

  it("does not let one test see another's store, nor simulate what is wrong", function()
    local done = test(folder_with [[
      test("one", function() store.set("x", 1) end)
      test("two", function() assert(store.get "x" == nil) end)
      test("options", function()
        local ok, problem = pcall(simulate, { title = "t" }, { reply = {} })
        assert(not ok and tostring(type(problem) == "table" and problem.message or problem):find("no option 'reply'"), problem)
        assert(not pcall(simulate, 5) and not pcall(simulate, { title = "t" }, { now = "yesterday" }))
      end)
      test("a message that no hub would take", function()
        assert(not pcall(simulate, { titel = "x" }))
        assert(not pcall(simulate, { title = 5 }))
        assert(not pcall(simulate, {}))
      end)
    ]])
    assert.equal(0, done.status, done.out)
  end)

  it("ends handlers that sleep for ever, and routes whose time is over", function()
    local folder = folder_with [[
      test("for ever", function() simulate { title = "t", metadata = { way = "forever" } } end)
      test("too long", function()
        local sent = simulate { title = "t", metadata = { way = "long" } }
        assert(#sent == 1 and sent.receipt.status == "partial" and sent.receipt.code == "timeout", sent.receipt.code)
      end)
    ]]
    rules.write(folder, "r/a.lua", [[
      route { match = { way = "forever" }, handle = function() while true do sleep(86400) end end }
      route { match = { way = "long" }, timeout = 60, handle = function(message) send(message, "boss") sleep(300) send(message, "boss") end }
    ]])
    local done = test(folder)
    assert.equal(1, done.status)
    assert.matches("FAILED  a_test: for ever\n.*more than a year", done.out)
    assert.matches("ok      a_test: too long", done.out)
  end)

  it("runs the example's", function()
    local source = os.getenv "NH_SOURCE_DIR" or "."
    local done = test(source .. "/scripts/examples/rules")
    assert.equal(0, done.status, done.out .. done.err)
    assert.matches(" passed, 0 failed\n$", done.out)
  end)
end)
