-- What rules cannot do, tried from a handler and while the folder loads. The corpus of attacks is spec/unit/script/attacks.lua;
-- here is what a user would notice.
local notifyhub = require "notifyhub"

local command = require "spec.support.command"
local rules = require "spec.support.rules"

-- Runs an expression in a handler → what it became, as text; or the message's error and code.
local function try(expression, extra)
  local hub = rules.open({ ["a.lua"] = ([[
    route { handle = function(message)
      local ok, value = pcall(function() return %s end)
      return false, (ok and "value " or "error ") .. tostring(value)
    end }]]):format(expression) }, extra)
  local _, problem, code = hub:send({ title = "t" }, rules.LONG)
  return (problem:gsub("^the route '.-' refused it: ", "")), code
end

describe("rules", function()
  after_each(rules.finish)

  it("do not see the process, files or the debug library", function()
    for _, name in ipairs { "io", "debug", "package", "dofile", "loadfile", "collectgarbage", "print", "warn", "os.execute", "os.exit",
                            "os.remove", "os.getenv", "string.dump", "_G.io", "_G.debug" } do
      assert.equal("value nil", try(name))
    end
  end)

  it("cannot change a library or the string metatable, for themselves or for others", function()
    for _, attempt in ipairs {
      "(function() string.format = nil end)()", "rawset(string, 'format', 1)", "(function() ('').upper = 1 end)()",
      "(function() getmetatable('').__index = {} end)()", "setmetatable(string, {})", "table.insert(string, 1)",
      "(function() os.time = nil end)()", "(function() math.floor = nil end)()", "(function() store.get = nil end)()",
    } do
      assert.matches("^error ", try(attempt))
    end
    assert.equal("value false", try "getmetatable('')")
    assert.equal("value 01", try "string.format('%02d', 1)")
  end)

  it("cannot load byte code", function()
    assert.matches("value nil", try [[(load("\27Lua"))]])
    assert.equal("value 3", try [[load("return 1 + 2")()]])
    assert.matches("^error .*io", try [[load("return io.open('/etc/passwd')")()]])
  end)

  it("are stopped when they ask for too much, and no pcall keeps them", function()
    for _, attempt in ipairs {
      "(function() while true do pcall(string.rep, 'x', 1 << 20) end end)()",
      "(function() while true do end end)()",
      "(function() local t = setmetatable({}, { __close = function() while true do end end }) local x <close> = t end)()",
      "(function() local s = ('a'):rep(2000) while true do pcall(s.find, s, 'a-a-a-a-a-b') end end)()",
      "coroutine.wrap(function() while true do end end)()",
    } do
      local _, code = try(attempt, { limits = { slice = 0.5 } })
      assert.is_true(code == "script_limit" or code == "script_memory", attempt .. tostring(code))
      rules.finish()
    end
    for attempt, reason in pairs {
      ["('x'):rep(1 << 30)"] = "limits%.string_bytes", ["('%99d'):rep(1 << 18):format(1)"] = ".", ["select('#', table.unpack({}, 1, 1 << 24))"] = ".",
      ["table.concat({ ('x'):rep(1 << 19), ('x'):rep(1 << 19), ('x'):rep(1 << 19) })"] = "limits%.string_bytes",
    } do
      local problem, code = try(attempt)
      assert.is_true(code == "script_memory" or problem:find "^error " ~= nil, problem)
      assert.matches(reason, problem)
      rules.finish()
    end
  end)

  it("cannot keep a worker busy with one pattern", function()
    assert.matches("^error .*pattern", try "('a'):rep(2000):find('a-a-a-a-a-b')")
  end)

  it("are still limited after a send that ended at once, whose words ran within limits of their own", function()
    local hub = rules.open({ ["a.lua"] = [[
      template("broken", { title = "t", body = "{% for _ = 1, 2 do %}{% error('no words') %}{% end %}" })
      route { handle = function(message)
        local told = send(message, "sink", { template = "broken" })
        assert(not told.ok and told.attempts == 0)
        local kept = {}
        for index = 1, 200000 do kept[index] = ("x"):rep(1000) .. index end
      end }]] }, { limits = { slice = 5 } })
    local _, _, code = hub:send({ title = "t" }, rules.LONG)
    assert.equal("script_memory", code)
  end)

  it("have no finalizers that run outside of their limits", function()
    local hub = rules.open({ ["a.lua"] = [[
      route { handle = function()
        for _ = 1, 100 do pcall(setmetatable, {}, { __gc = function() while true do end end }) end
        return true
      end }
    ]] }, { limits = { slice = 0.5 } })
    for _ = 1, 20 do
      local receipt = hub:send({ title = "t" }, rules.LONG)
      assert.is_true(receipt.status == "delivered" or receipt.code == "script_limit" or receipt.code == "script")
    end
  end)

  it("cannot attach a file that the message has not brought", function()
    local folder = rules.folder { secret = "canary of the file", brought = "brought by the sender" }
    local hub, sink = rules.open { ["a.lua"] = [[
      local function attach(message, path)
        if message.metadata.how == "place" then
          message.attachments = { { name = "x", path = path } }
          return send(message, "a")
        elseif message.metadata.how == "copy" then
          return send({ title = "t", attachments = { { name = "x", path = path } } }, "a")
        end
        return send(message, "a")
      end
      route { handle = function(message)
        local result = attach(message, message.metadata.path)
        return result.ok or false, result.error
      end }
    ]] }
    for _, how in ipairs { "place", "copy" } do
      local _, problem, code = hub:send({ title = "t", metadata = { how = how, path = folder .. "/secret" } }, rules.LONG)
      assert.truthy(code)
      assert.matches("attachments%[1%]%.path: rules cannot attach", problem)
    end
    for _, how in ipairs { "as it is", "copy" } do
      local receipt = hub:send({ title = "t", metadata = { how = how, path = folder .. "/brought" },
        attachments = { { name = "x", path = folder .. "/brought" } } }, rules.LONG)
      assert.equal("delivered", receipt.status, receipt.error)
    end
    for _, arrival in ipairs(sink:arrivals()) do
      assert.is_nil(arrival.body:find("Y2FuYXJ5", 1, true)) -- "canary" in base64
    end
    assert.equal(2, sink:stop().arrivals)
  end)

  it("share their globals over messages of one worker and generation; reload forgets them", function()
    local hub = rules.open({ ["a.lua"] = [[
      route { handle = function() count = (count or 0) + 1 return false, "count " .. count end } ]] },
      { workers = { min = 1, max = 1 }, reload = { watch = false } })
    assert.matches("count 1$", select(2, hub:send({ title = "t" }, rules.LONG)))
    assert.matches("count 2$", select(2, hub:send({ title = "t" }, rules.LONG)))
    assert(hub:reload())
    assert.matches("count 1$", select(2, hub:send({ title = "t" }, rules.LONG)))
  end)

  it("do not see the tables of another message, nor change what its sender has", function()
    local hub = rules.open { ["a.lua"] = [[
      route { handle = function(message)
        local seen = message.metadata.list[1]
        message.metadata.list[1] = "changed"
        message.id = "changed"
        return false, seen
      end } ]] }
    local message = { id = "m", title = "t", metadata = { list = { "own" } } }
    for _ = 1, 2 do
      local receipt, problem = hub:send(message, rules.LONG)
      assert.matches("own$", problem)
      assert.equal("m", receipt.id)
    end
    assert.equal("own", message.metadata.list[1])
  end)

  it("cannot read a secret of the configuration", function()
    local canary = "canary-of-the-token"
    local hub = rules.open({ ["a.lua"] = [[
      route { handle = function(message)
        local result = send(message, "hook")
        local seen = {}
        local function look(value, name)
          if type(value) == "table" then for key, inner in pairs(value) do look(key) look(inner) end
          else seen[#seen + 1] = tostring(value) end
        end
        look(result) look(message) look(_G and {} or {})
        return false, table.concat(seen, " ")
      end } ]] }, { platforms = { hook = { platform = "webhook", url = "http://127.0.0.1:1/" .. canary, headers = { authorization = "Bearer " .. canary } } } })
    local receipt, problem = hub:send({ title = "t" }, rules.LONG)
    assert.is_nil(problem:find(canary, 1, true), problem)
    for _, result in ipairs(receipt.results) do assert.is_nil(tostring(result.error):find(canary, 1, true), result.error) end
  end)
end)

-- What a script hands over is read where no limit holds: it must be a copy that calls nobody.
describe("what rules hand over", function()
  after_each(rules.finish)

  local ENDLESS = "setmetatable({}, { __index = function() while true do end end, __len = function() while true do end end })"

  -- Sends through rules of one file; the message must end, however it does.
  local function ends(text)
    local hub = rules.open({ ["a.lua"] = text }, { targets = { sink = "a" }, workers = { min = 1, max = 1 } })
    local message = { title = "t", metadata = { a = 1 } }
    hub:send(message, rules.LONG)
    local receipt, problem = hub:send(message, rules.LONG) -- the worker has outlived the callbacks of the first
    return assert(receipt or problem), receipt and receipt.status
  end

  for name, text in pairs {
    ["a message with a metatable, from a function that matches"] = [[
      route { to = "sink", match = function(m) setmetatable(m, { __index = function() while true do end end }) return true end }]],
    ["a message with a metatable, that has callbacks"] = [[
      on("complete", function() end)
      route { to = "sink", match = function(m) setmetatable(m, { __index = function() while true do end end }) return true end }]],
    ["a metatable deep inside, from a handler"] = [[
      route { handle = function(m) m.metadata.deep = ENDLESS send(m, "sink") end }]],
    ["a target with a metatable, that is a list"] = [[
      route { handle = function(m) send(m, setmetatable({ "sink" }, { __index = function() while true do end end })) end }]],
    ["a metatable set after the message was sent"] = [[
      local kept
      on("complete", function(_, m) kept = m end)
      route { to = "sink", match = function(m)
        if kept then setmetatable(kept, { __index = function() while true do end end }) end
        return true
      end }]],
    ["a choice that is changed"] = [[
      local choice = fallback { "sink" }
      route { handle = function(m)
        pcall(function() choice.items = ENDLESS end)
        pcall(rawset, choice, "items", ENDLESS)
        send(m, choice)
      end }]],
    ["what a resolver answers"] = [[
      resolve(function(name) if name == "x" then return setmetatable({ "sink" }, { __index = function() while true do end end }) end end)
      route { to = "x" }]],
  } do
    it("cannot call a script later: " .. name, function()
      local _, status = ends((text:gsub("ENDLESS", ENDLESS)))
      assert.equal("delivered", status)
    end)
  end

  it("cannot be a function", function()
    local answer = ends 'route { handle = function(m) m.metadata.f = print or pcall send(m, "sink") end }'
    assert.matches("a function cannot be part of a message", type(answer) == "table" and answer.error or answer)
  end)

  it("does not change what adapters and receipts are made from", function()
    local hub, sink = rules.open { ["a.lua"] = 'route { to = "a", match = function(m) m.title, m.id = "changed", "x" return true end }' }
    local receipt = assert(hub:send({ id = "m1", title = "t" }, rules.LONG))
    assert.equal("m1", receipt.id)
    assert.equal("t", rules.told(sink, "/a")[1].title)
  end)
end)

describe("a folder of rules that is hostile while it loads", function()
  after_each(rules.finish)

  it("opens no hub, takes no longer than its limit, and reads nothing", function()
    for _, text in ipairs {
      "while true do end", "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", "io.open('/etc/passwd')",
      "os.exit(0)", "error(setmetatable({}, { __tostring = function() while true do end end }))",
      "local function f() return f() end f()", "local function f() return 1 + f() end f()", "for i = 1, 1e9 do route {} end",
      "for i = 1, 1e9 do on('complete', function() end) end", "template('x', ('{{ x }}'):rep(1e5))", "coroutine.yield()",
      "require(('x'):rep(1e6))", "send({ title = 't' }, 'a')", "_G.route = nil route {}",
      "setmetatable(_G, { __index = function() while true do end end }) local x = nothing",
    } do
      local hub, problem, code = notifyhub.new { rules = rules.folder { ["a.lua"] = text }, limits = { loading = 1 } }
      assert.is_nil(hub, text)
      assert.equal("config", code, text)
      assert.equal("string", type(problem))
    end
  end)

  it("that is a link out of the folder is read as what it leads to, one in a circle ends", function()
    local folder = rules.folder { ["a.lua"] = "route { name = 'a', handle = function() return true end }" }
    os.execute(("ln -s . %s/loop && ln -s /nonexistent %s/.#lock.lua && ln -s /nonexistent %s/b.lua"):format(command.quote(folder),
      command.quote(folder), command.quote(folder)))
    local hub = assert(notifyhub.new { rules = folder })
    assert.equal("a", hub:send({ title = "t" }, rules.LONG).route)
    hub:close(0)
  end)
end)
