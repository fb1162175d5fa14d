-- What a hub tells beside receipts: its log's lines and its breakers' changes, to callbacks of the program.
local notifyhub = require "notifyhub"
local support = require "spec.lua.binding.support"
local receiver = require "spec.support.receiver"

local LONG = 60

-- Polls until `test` answers.
local function poll(hub, test)
  local due = LONG
  while not test() do
    assert(due > 0, "it did not come about")
    hub:poll(0.1)
    due = due - 0.1
  end
end

describe("hub:on_breaker", function()
  after_each(support.finish)

  it("hears of a host that is left alone, tried again and well again", function()
    local sink = support.sink()
    local port = sink.http_port
    sink:stop()
    local target = ("json://127.0.0.1:%d/x"):format(port)
    local hub = support.hub { retry = { attempts = 5, initial = 0.01 }, breaker = { wait = 8 } }
    local changes = {}
    assert.equal(hub, hub:on_breaker(function(change) changes[#changes + 1] = change end))
    assert.equal("failed", hub:send({ title = "t", targets = { target } }, LONG).status)
    poll(hub, function() return changes[1] end)
    local change = changes[1]
    assert.same({ "breaker", ("127.0.0.1:%d"):format(port), "closed", "open" }, { change.kind, change.host, change.from, change.to })
    assert.is_true(change.seconds > 3 and change.seconds <= 5, change.seconds)
    receiver.start { http = port } -- support.finish stops it, too
    assert.equal("delivered", hub:send({ title = "t", targets = { target }, retry = { attempts = 9 } }, LONG).status)
    for _ = 1, 2 do -- three probes close it
      assert.equal("delivered", hub:send({ title = "t", targets = { target }, retry = { attempts = 9 } }, LONG).status)
    end
    poll(hub, function() return #changes >= 3 end)
    assert.same({ "open half-open", "half-open closed" }, {
      changes[2].from .. " " .. changes[2].to, changes[3].from .. " " .. changes[3].to,
    })
    assert.equal(3, #changes)
  end)

  it("is told what happened before it was set, and may send", function()
    local sink = support.sink()
    local hub = support.hub { retry = { attempts = 5, initial = 0.01 }, breaker = { wait = 1 } }
    hub:send({ title = "t", targets = { support.refused } }, LONG)
    local told
    hub:on_breaker(function(change)
      told = hub:send({ title = change.host .. " is " .. change.to, targets = { sink.target } }, LONG)
    end)
    poll(hub, function() return told end)
    assert.equal("127.0.0.1:1 is open", assert(sink:wait(1))[1].json.title)
  end)

  it("raises for what is no function", function()
    assert.has_error(function() support.hub():on_breaker "x" end, "fn: a function expected, got string")
    assert.has_error(function() support.hub():on_log() end, "fn: a function expected, got nil")
  end)
end)

describe("a log", function()
  after_each(support.finish)

  it("is silent unless it is asked for", function()
    local printed = support.program(([[
      local notifyhub = require "notifyhub"
      local hub = notifyhub.new {}
      hub:send({ title = "t", targets = { %q }, retry = { attempts = 1 } }, 60)
      hub:close(10)
    ]]):format(support.refused))
    assert.equal("", printed)
  end)

  it("has one line for each delivery that failed, on the standard error", function()
    local printed = support.program(([[
      local notifyhub = require "notifyhub"
      local hub = notifyhub.new { log = { to = "stderr" } }
      hub:send({ id = "m-1", title = "t", targets = { %q, "nobody" }, retry = { attempts = 1 } }, 60)
      hub:send({ id = "m-2", title = "t" }, 60)
      hub:close(10)
    ]]):format(support.refused))
    local lines = {}
    for line in printed:gmatch "[^\n]+" do
      lines[#lines + 1] = line:gsub("time=%S+ ", "")
    end
    assert.equal(3, #lines, printed)
    assert.truthy(lines[1]:find('level=warn event="delivery failed" id=m-1 platform=webhook target=json://127.0.0.1:1/', 1, true), printed)
    assert.truthy(lines[1]:find("code=network status=0 attempts=1 error=", 1, true), printed)
    assert.truthy(lines[2]:find('event="delivery failed" id=m-1 platform="" target=nobody code=unknown_target', 1, true), printed)
    assert.equal('level=warn event="message failed" id=m-2 code=no_route error="the message names no target"', lines[3])
  end)

  it("goes to a function, with its level, as JSON where that is asked for", function()
    local lines = {}
    local hub = support.hub { log = { to = function(line, level) lines[#lines + 1] = { line, level } end, format = "json", level = "info" } }
    local cancelled = assert(hub:send_async { id = "m-1", title = "t", targets = { "console" }, deliver_at = os.time() + 3600 })
    assert.is_true(cancelled:cancel())
    hub:send({ id = "m-2", title = "t", targets = { support.refused }, retry = { attempts = 1 } }, LONG)
    poll(hub, function() return #lines >= 2 end)
    assert.equal("info", lines[1][2])
    assert.matches('^{"time":"[^"]+","level":"info","event":"message failed","id":"m%-1","code":"cancelled",', lines[1][1])
    assert.equal("warn", lines[2][2])
    assert.matches('"event":"delivery failed","id":"m%-2","platform":"webhook",', lines[2][1])
  end)

  it("goes to callbacks that are set later, and a level below is not told", function()
    local hub = support.hub { log = { to = "program", level = "error" } }
    local count = 0
    hub:on_log(function() count = count + 1 end)
    hub:send({ title = "t", targets = { support.refused }, retry = { attempts = 1 } }, LONG)
    hub:poll(0.2)
    assert.equal(0, count)
  end)

  it("holds no secret of a target or an account", function()
    local lines = {}
    local hub = support.hub {
      log = { to = function(line) lines[#lines + 1] = line end, level = "debug" },
      platforms = { own = { platform = "webhook", url = "http://127.0.0.1:1/secret-path", bearer = "secret-bearer" } },
      retry = { attempts = 6, initial = 0.01 }, breaker = { wait = 1 },
    }
    hub:send({ title = "t", targets = { "own", "json://joe:secret-word@127.0.0.1:1/secret-token?+X=secret-header" } }, LONG)
    poll(hub, function() return #lines >= 3 end) -- two deliveries and the breaker
    assert.is_nil(table.concat(lines, "\n"):find("secret", 1, true), table.concat(lines, "\n"))
  end)

  it("of another kind than these is refused", function()
    local hub, problem = notifyhub.new { log = { to = "nowhere" } }
    assert.is_nil(hub)
    assert.truthy(problem:find("log.to: must be one of none, stderr, program", 1, true), problem)
  end)
end)
