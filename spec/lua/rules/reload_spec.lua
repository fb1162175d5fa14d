-- Rules change while messages flow: a good change is taken by all workers, a mistake costs nothing.
local notifyhub = require "notifyhub"

local command = require "spec.support.command"
local rules = require "spec.support.rules"

-- Rules that tell `path`, and what else they are to have.
local function telling(path, more)
  return ("route { name = %q, to = %q }\n%s"):format(path, path, more or "")
end

-- Saves as most editors do: a new file takes the name.
local function replace(folder, name, text)
  rules.write(folder, ".new", text)
  assert(os.rename(folder .. "/.new", folder .. "/" .. name))
end

local function newest(hub)
  return hub:stats().generations[1].number
end

local function route_of(hub, message)
  return assert(hub:send(message or { title = "t" }, rules.LONG)).route
end

-- Waits until messages take this route.
local function until_route(hub, route)
  rules.eventually(function() return route_of(hub) == route end)
end

local QUIET = { reload = { watch = false } }

describe("hub:reload", function()
  after_each(rules.finish)

  it("takes what is in the folder now: the next message follows it", function()
    local hub, sink, folder = rules.open({ ["a.lua"] = telling "a" }, QUIET)
    assert.equal("a", route_of(hub))
    rules.write(folder, "a.lua", telling "b")
    assert.is_true(hub:reload())
    local receipt = hub:send({ title = "t" }, rules.LONG)
    assert.equal("b", receipt.route)
    assert.equal(2, receipt.generation)
    assert.equal(2, newest(hub))
    assert.same({ "/a", "/b" }, rules.paths(sink, 2))
  end)

  it("that finds a mistake keeps what runs, and says file, line and reason", function()
    local hub, _, folder = rules.open({ ["a.lua"] = telling "a" }, { reload = { watch = false }, limits = { loading = 2 } })
    local cases = {
      ["\nroute {"] = "a%.lua:2: .*expected", ["\n\nerror 'at load'"] = "a%.lua:3: at load", ["\nwhile true do end"] = "a%.lua:2: .*limits%.loading",
      ["\nroute { too = 'a' }"] = "a%.lua:2: route 1: unknown field 'too'.*'to'", ["\nlocal x = nil + 1"] = "a%.lua:2: attempt to perform",
      ["\nroute(5)"] = "a%.lua:2: route: takes a table", ["\ntemplate('x', '{{ a b }}')"] = "a%.lua:2", ["\non('compelte', error)"] = "a%.lua:2: .*'complete'",
      ["\nlocal t = {} while true do t[#t + 1] = {} end"] = "a%.lua:2: .*memory", ["\nsend({}, 'a')"] = "a%.lua:2: ",
      ["\nsleep(1)"] = "a%.lua:2: ", ["\nroute { to = { 5 } }"] = "a%.lua:2: route 1: to: ", ["\nhttp 'http://127.0.0.1:1/'"] = "a%.lua:2: ",
      ["\nroute { to = 'a', retry = { atempts = 1 } }"] = "a%.lua:2: route 1: retry%.atempts",
      ["\nroute { name = 'x' } route { name = 'x' }"] = "a%.lua:2: .*another one",
      ["\27Lua"] = "a%.lua",
    }
    for text, pattern in pairs(cases) do
      rules.write(folder, "a.lua", text)
      local ok, problem, code = hub:reload()
      assert.is_nil(ok, text)
      assert.equal("config", code, text .. problem)
      assert.matches(pattern, problem)
      assert.equal("a", route_of(hub))
    end
    assert.equal(1, newest(hub))
  end)

  it("without rules says so", function()
    local hub = assert(notifyhub.new {})
    local ok, problem, code = hub:reload()
    assert.is_nil(ok)
    assert.equal("config", code)
    assert.matches("no rules", problem)
    hub:close(0)
  end)

  it("runs the folder's own tests: when one fails nothing changes", function()
    local hub, sink, folder = rules.open({ ["a.lua"] = telling "a", ["a_test.lua"] = [[
      test("somebody is told", function() assert(#simulate { title = "t" } == 1, "nobody is") end)
    ]] }, QUIET)
    rules.write(folder, "a.lua", "route { name = 'none', handle = function() return true end }")
    local ok, problem, code = hub:reload()
    assert.is_nil(ok)
    assert.equal("config", code)
    assert.matches("somebody is told: .*a_test%.lua:1: nobody is", problem)
    assert.equal("a", route_of(hub))
    rules.write(folder, "a.lua", telling "b")
    assert.is_true(hub:reload())
    assert.equal("b", route_of(hub))
    assert.equal(2, #rules.paths(sink, 2)) -- the tests told nobody
  end)

  it("keeps messages apart: state of the old rules is not that of the new ones", function()
    local hub, _, folder = rules.open({ ["a.lua"] = "x = (x or 0) + 1 route { name = 'x' .. x, to = 'a' }" }, QUIET)
    assert.is_true(hub:reload())
    rules.write(folder, "a.lua", "route { name = 'x' .. tostring(x), to = 'a' }")
    assert.is_true(hub:reload())
    assert.equal("xnil", route_of(hub))
  end)

  it("is one after the other, however many ask at once", function()
    local hub = rules.open({ ["a.lua"] = telling "a" }, QUIET)
    for _ = 1, 20 do assert.is_true(hub:reload()) end
    assert.equal(21, newest(hub))
    rules.eventually(function()
      route_of(hub)
      return #hub:stats().generations == 1
    end)
  end)
end)

describe("a message that is under way", function()
  after_each(rules.finish)

  it("ends in the generation that took it, which goes when its last message has ended", function()
    local hub, sink, folder = rules.open({ ["a.lua"] = [[
      route { name = "old", handle = function(message)
        while not store.get "wake" do sleep(0.02) end
        send(message, "a")
      end }
      on("complete", function(receipt) send({ title = "old callback" }, "c") end)
    ]] }, QUIET)
    local handle = assert(hub:send_async { title = "t" })
    rules.eventually(function() return hub:stats().workers.asleep == 1 end)
    rules.write(folder, "a.lua", "route { name = 'new', handle = function() store.set('wake', true) return true end }")
    assert.is_true(hub:reload())
    local generations = hub:stats().generations
    assert.equal(2, #generations)
    assert.same({ 2, 1, 1 }, { generations[1].number, generations[2].number, generations[2].messages })
    assert.equal("new", route_of(hub))
    local receipt = handle:wait(rules.LONG)
    assert.equal("old", receipt.route)
    assert.equal(1, receipt.generation)
    assert.equal("old callback", rules.told(sink, "/c")[1].title)
    rules.eventually(function()
      route_of(hub)
      return #hub:stats().generations == 1
    end)
    assert.equal(2, hub:stats().generations[1].number)
  end)

  it("is ended when its generation's time to drain is over, with what it has reached", function()
    local hub, sink, folder = rules.open({ ["a.lua"] = [[
      route { name = "old", handle = function(message) send(message, "a") sleep(100000) end }
    ]] }, { reload = { watch = false, drain = 0.2 } })
    local handle = assert(hub:send_async { title = "t" })
    rules.eventually(function() return hub:stats().workers.asleep == 1 end)
    rules.write(folder, "a.lua", telling "b")
    assert.is_true(hub:reload())
    local receipt, problem, code = handle:wait(rules.LONG)
    assert.equal("partial", receipt.status)
    assert.equal("script", code)
    assert.matches("reload%.drain", problem)
    assert.equal("old", receipt.route)
    assert.same({ "/a" }, rules.paths(sink, 1))
    rules.eventually(function() return #hub:stats().generations == 1 end)
  end)
end)

describe("a change in the folder", function()
  after_each(rules.finish)

  it("is seen: a file that is written, replaced, added or deleted, a template, a module in a folder", function()
    local hub, _, folder = rules.open { ["m.lua"] = telling "a" }
    assert.equal("a", route_of(hub))
    rules.write(folder, "m.lua", telling "b")
    until_route(hub, "b")
    replace(folder, "m.lua", telling "c")
    until_route(hub, "c")
    rules.write(folder, "a.lua", telling "d")
    until_route(hub, "d")
    assert(os.remove(folder .. "/a.lua"))
    until_route(hub, "c")
    rules.write(folder, "lib/name.lua", "return 'from lib'")
    rules.write(folder, "m.lua", "route { name = require 'lib.name', to = 'a' }")
    until_route(hub, "from lib")
    rules.write(folder, "lib/name.lua", "return 'changed'")
    until_route(hub, "changed")
    rules.write(folder, "templates/x.txt", "one")
    rules.write(folder, "m.lua", "route { name = 'template', template = 'x', to = 'a' }")
    until_route(hub, "template")
    rules.write(folder, "templates/x.txt", "two")
    rules.eventually(function() return newest(hub) > 7 end)
  end)

  it("of the whole folder is seen, too: another one takes its place", function()
    local hub, _, folder = rules.open { ["a.lua"] = telling "a" }
    local other = rules.folder { ["a.lua"] = telling "b" }
    command.remove(folder .. ".old")
    assert(os.rename(folder, folder .. ".old"))
    assert(os.rename(other, folder))
    until_route(hub, "b")
    command.remove(folder .. ".old")
    rules.write(folder, "a.lua", telling "c")
    until_route(hub, "c")
  end)

  it("that is a mistake is one line in the log with file and line; what runs goes on", function()
    local printed = rules.program({ ["a.lua"] = telling "a" }, { log = { to = "stderr", level = "info" } }, [[
      rules.write(folder, "a.lua", "\n\nroute {")
      rules.write(folder, "b.lua", "-- nothing")
      rules.eventually(function() return log():find("not loaded", 1, true) end)
      assert(hub:send({ title = "t" }, rules.LONG).route == "a")
      rules.write(folder, "a.lua", "route { name = 'good', to = 'b' }")
      rules.eventually(function() return hub:send({ title = "t" }, rules.LONG).route == "good" end)
    ]])
    local lines = {}
    for line in printed:gmatch "[^\n]+" do
      if line:find("rules not loaded", 1, true) then lines[#lines + 1] = line end
    end
    assert.is_true(#lines >= 1 and #lines <= 2, printed)
    assert.matches("level=error .*generation=1 .*a%.lua:3: ", lines[1])
    assert.matches("level=info [^\n]*rules loaded[^\n]*generation=2", printed)
  end)

  it("is not looked for when reload.watch is false", function()
    local hub, _, folder = rules.open({ ["a.lua"] = telling "a" }, QUIET)
    rules.write(folder, "a.lua", telling "b")
    hub:sleep(0.5)
    assert.equal("a", route_of(hub))
  end)
end)

describe("a folder of rules", function()
  after_each(rules.finish)

  it("that is missing, or is a file, is an error that names it", function()
    local ok, problem, code = notifyhub.new { rules = "/nonexistent/rules" }
    assert.is_nil(ok)
    assert.equal("config", code)
    assert.matches("^rules: /nonexistent/rules: No such file", problem)
    local file = rules.write(rules.folder(), "x", "")
    ok, problem = notifyhub.new { rules = file }
    assert.is_nil(ok)
    assert.matches("rules: .*/x: Not a directory", problem)
    ok, problem = notifyhub.new { rules = 5 }
    assert.is_nil(ok)
    assert.matches("rules: must be a string", problem)
  end)

  it("that is empty is one without rules: the message's own targets are told", function()
    local hub, sink = rules.open {}
    local receipt = hub:send({ title = "t", targets = { "a" } }, rules.LONG)
    assert.equal("delivered", receipt.status)
    assert.equal(1, receipt.generation)
    assert.same({ "/a" }, rules.paths(sink, 1))
    assert.equal("no_route", select(3, hub:send({ title = "t" }, rules.LONG)))
  end)

  it("with a mistake does not open, and the error names file and line", function()
    for text, pattern in pairs {
      ["\nroute {"] = "b%.lua:2: ", ["\nerror('no')"] = "b%.lua:2: no", ["\nroute { to = 5 }"] = "b%.lua:2: route 2: to",
      ["\nresolve 'x'"] = "b%.lua:2: resolve: takes a function",
    } do
      local ok, problem, code = notifyhub.new { rules = rules.folder { ["a.lua"] = telling "a", ["b.lua"] = text } }
      assert.is_nil(ok)
      assert.equal("config", code)
      assert.matches(pattern, problem)
    end
  end)

  it("is run in the order of names, in one environment", function()
    local hub = rules.open { ["10.lua"] = "order = '10'", ["9.lua"] = "order = order .. ' 9' route { name = order, to = 'a' }",
      ["100.lua"] = "order = order .. ' 100'", ["B.lua"] = "route { name = 'last', to = 'b' }" }
    assert.equal("10 100 9", route_of(hub))
  end)

  it("beside its configuration is found there", function()
    local folder = rules.folder { ["hub.lua"] = "return { rules = 'r' }", ["r/a.lua"] = "route { name = 'r', handle = function() return true end }" }
    local hub = assert(notifyhub.new(folder .. "/hub.lua"))
    assert.equal("r", hub:send({ title = "t" }, rules.LONG).route)
    hub:close(0)
  end)
end)
