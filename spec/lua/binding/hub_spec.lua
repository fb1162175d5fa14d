local notifyhub = require "notifyhub"
local socket = require "socket"
local support = require "spec.lua.binding.support"

describe("the module", function()
  it("tells its version, its error codes and null", function()
    assert.truthy(notifyhub.version:match "^%d+%.%d+%.%d+$")
    assert.is_true(notifyhub.codes.queue_full)
    assert.is_false(notifyhub.codes.invalid)
    assert.equal("userdata", type(notifyhub.null))
  end)
end)

describe("opening a hub", function()
  after_each(support.finish)

  it("takes a table", function()
    assert.truthy(tostring(support.hub {}):match "^notifyhub%.hub: ")
  end)

  it("takes the path of a file", function()
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    file:write 'return { queue = { capacity = 77 } }\n'
    file:close()
    local hub, problem = notifyhub.new(name)
    os.remove(name)
    assert(hub, problem)
    assert.equal(77, hub:stats().queue.capacity)
    hub:close(0)
  end)

  it("tells what is wrong with a configuration", function()
    local hub, problem, code = notifyhub.new { qeue = {} }
    assert.is_nil(hub)
    assert.equal("config", code)
    assert.truthy(problem:find("queue", 1, true), problem)

    hub, problem, code = notifyhub.new { platforms = { x = print } }
    assert.is_nil(hub)
    assert.equal("config", code)
    assert.equal("config.platforms.x: functions cannot be sent", problem)

    hub, problem, code = notifyhub.new "/nowhere/notifyhub.lua"
    assert.is_nil(hub)
    assert.equal("config", code)
    assert.truthy(problem:find("/nowhere/notifyhub.lua", 1, true), problem)
  end)

  it("raises for what is no configuration, at the caller's line", function()
    for _, wrong in ipairs { 1, true, print } do
      local ok, problem = pcall(function() notifyhub.new(wrong) end)
      assert.is_false(ok)
      assert.truthy(problem:find("hub_spec.lua", 1, true), problem)
    end
    assert.is_false(pcall(notifyhub.new))
  end)
end)

describe("a hub", function()
  local hub

  before_each(function() hub = support.hub() end)
  after_each(support.finish)

  local function raises(text, call)
    local ok, problem = pcall(call)
    assert.is_false(ok)
    assert.truthy(problem:find(text, 1, true), problem)
    assert.truthy(problem:find("hub_spec.lua", 1, true), problem)
  end

  it("raises misuse at the caller's line", function()
    local handle = assert(hub:send_async { title = "t", targets = { support.refused } })
    raises("a table expected, got string", function() hub:send_async "hello" end)
    raises("a table expected, got nil", function() hub:send_batch() end)
    raises("a hub expected, got table", function() hub.send_async { title = "t" } end)
    raises("a handle expected, got nil", function() handle.wait() end)
    raises("seconds", function() handle:wait "soon" end)
    raises("seconds", function() handle:wait(-1) end)
    raises("seconds", function() hub:poll(0 / 0) end)
    raises("seconds", function() hub:close "now" end)
    raises("a function expected", function() handle:on_complete(7) end)
    raises("a function expected", function() hub:run() end)
    raises("unknown option 'on_end'", function()
      hub:send_async({ title = "t" }, { on_end = print })
    end)
    raises("a function expected", function() hub:send_async({ title = "t" }, { on_error = 1 }) end)
  end)

  it("keeps names of callbacks for rules", function()
    local handle = assert(hub:send_async { title = "t", targets = { support.refused } })
    raises("a callback of the rules is named in the message", function() handle:on_complete "audit" end)
    raises("a callback of the rules is named in the message", function()
      hub:send_async({ title = "t" }, { on_complete = "audit" })
    end)
  end)

  it("has no rules to load anew", function()
    local ok, problem, code = hub:reload()
    assert.is_nil(ok)
    assert.equal("there are no rules to load again: the configuration names no folder (rules)", problem)
    assert.equal("config", code)
  end)

  it("lists its platforms", function()
    local names = {}
    for _, platform in ipairs(hub:platforms()) do names[platform.name] = platform end
    for _, name in ipairs { "webhook", "slack", "feishu", "email", "console" } do
      assert.truthy(names[name], name)
    end
    assert.equal("string", type(names.slack.summary))
  end)

  it("counts what it did", function()
    local sink = support.sink()
    for _ = 1, 3 do assert.equal("delivered", hub:send({ title = "t", targets = { sink.target } }, 10).status) end
    hub:send({ title = "t", targets = { support.refused }, retry = { attempts = 1 } }, 10)
    support.idle(hub)
    local stats = hub:stats()
    assert.equal(4, stats.accepted)
    assert.equal(3, stats.delivered)
    assert.equal(1, stats.failed)
    assert.equal(0, stats.pending)
  end)

  it("is not called healthy before anything was tried, and never over 100 % (fault 10)", function()
    local sink = support.sink()
    local health = hub:health()
    assert.equal("unknown", health.status)
    assert.is_nil(health.success_rate)

    hub:send({ title = "t", targets = { sink.target } }, 10)
    support.idle(hub)
    health = hub:health()
    assert.equal("healthy", health.status)
    assert.equal(1, health.success_rate)

    hub:send({ title = "t", targets = { support.refused }, retry = { attempts = 1 } }, 10)
    support.idle(hub)
    health = hub:health()
    assert.equal("degraded", health.status)
    assert.equal(0.5, health.success_rate)

    assert(hub:send_async { title = "t", targets = { sink.target }, deliver_at = os.time() + 999 }):cancel()
    support.idle(hub)
    assert.equal(0.5, hub:health().success_rate)

    hub:close(1)
    assert.equal("closed", hub:health().status)
  end)

  it("can be driven by a host's loop through its descriptor", function()
    local sink = support.sink { delay = 0.1 }
    local fd = assert(hub:fd())
    assert.equal(fd, hub:fd())
    local source = { getfd = function() return fd end, dirty = function() return false end }
    local function readable(seconds)
      return #socket.select({ source }, nil, seconds) == 1
    end

    assert.is_false(readable(0))
    local told = 0
    assert(hub:send_async({ title = "t", targets = { sink.target } }, {
      on_complete = function(receipt)
        assert.equal("delivered", receipt.status)
        told = told + 1
      end,
    }))
    local deadline = socket.gettime() + 10
    while told == 0 and socket.gettime() < deadline do
      assert.is_true(readable(10))
      hub:poll(0)
    end
    assert.equal(1, told)
    assert.is_false(readable(0))
  end)

  it("polls until a callback has run or the time is over", function()
    local sink = support.sink { delay = 0.1 }
    local before = socket.gettime()
    assert.equal(0, hub:poll())
    assert.equal(0, hub:poll(0.05))
    assert.truthy(socket.gettime() - before >= 0.045)
    local told = 0
    assert(hub:send_async { title = "t", targets = { sink.target } }):on_complete(function() told = told + 1 end)
    assert.equal(1, hub:poll(10))
    assert.equal(1, told)
  end)

  it("has as many workers as it is told (fault 6)", function()
    local three = support.hub { workers = { min = 3, max = 3 } }
    assert.equal(3, three:stats().workers.count)
    assert.equal(3, three:health().workers)
  end)

  it("sends what is urgent before what is not (fault 8)", function()
    local sink = support.sink { delay = 0.02 }
    local one = support.hub { workers = { min = 1, max = 1, in_flight = 1 } }
    local messages = {}
    for i = 1, 30 do messages[i] = { id = "low" .. i, title = "t", targets = { sink.target }, priority = "low" } end
    for i = 1, 5 do messages[30 + i] = { id = "urgent" .. i, title = "t", targets = { sink.target }, priority = "urgent" } end
    assert(one:send_batch(messages)):wait(30)
    local sums = { low = 0, urgent = 0 }
    for place, arrival in ipairs(assert(sink:wait(35, 10))) do
      local priority = arrival.json.message_id:match "^%a+"
      sums[priority] = sums[priority] + place
    end
    assert.truthy(sums.urgent / 5 < sums.low / 30 - 8)
  end)

  it("runs callbacks of the options never inside send_async", function()
    local sink = support.sink()
    local told = 0
    for _ = 1, 50 do
      local before = told
      assert(hub:send_async({ title = "t", targets = { sink.target } }, { on_complete = function() told = told + 1 end }))
      assert.equal(before, told)
    end
    while told < 50 do assert.truthy(hub:poll(10) > 0) end
  end)
end)

describe("closing a hub", function()
  after_each(support.finish)

  it("delivers what was accepted, and runs its callbacks", function()
    local sink, hub = support.sink { delay = 0.1 }, support.hub()
    local told = {}
    for i = 1, 20 do
      assert(hub:send_async { title = "t", targets = { sink.target } })
        :on_complete(function(receipt) told[i] = receipt.status end)
    end
    assert.equal(0, hub:close(20))
    for i = 1, 20 do assert.equal("delivered", told[i]) end
    assert.equal(20, sink:stop().arrivals)
  end)

  it("settles every handle that is left, with closed (fault 7)", function()
    local sink, hub = support.sink { delay = 30 }, support.hub()
    local handles = {}
    for i = 1, 20 do handles[i] = assert(hub:send_async { title = "t", targets = { sink.target } }) end
    handles[21] = assert(hub:send_async { title = "t", targets = { sink.target }, deliver_at = os.time() + 3600 })
    assert.equal(21, hub:close(0.2))
    for i = 1, 21 do
      local receipt, problem, code = handles[i]:wait(0)
      assert.truthy(receipt)
      assert.not_equal("delivered", receipt.status)
      assert.equal("closed", code)
      assert.equal("string", type(problem))
    end
  end)

  it("may be done again, and sending afterwards is an error, not a crash (fault 7)", function()
    local hub = support.hub()
    assert.equal(0, hub:close(1))
    assert.equal(0, hub:close(1))
    local sent, problem, code = hub:send_async { title = "t", targets = { support.refused } }
    assert.is_nil(sent)
    assert.equal("string", type(problem))
    assert.equal("closed", code)
    sent, problem, code = hub:send_batch { { title = "t", targets = { support.refused } } }
    assert.is_nil(sent)
    assert.equal("string", type(problem))
    assert.equal("closed", code)
  end)

  it("happens at the end of a `local hub <close>`", function()
    if _VERSION ~= "Lua 5.4" then return end
    local sink = support.sink()
    local handle, told
    assert(load([[
      local notifyhub, target, keep = ...
      local hub <close> = assert(notifyhub.new {})
      keep(assert(hub:send_async { title = "t", targets = { target } }))
    ]]))(notifyhub, sink.target, function(sent)
      handle = sent:on_complete(function() told = true end)
    end)
    assert.equal("delivered", handle:result().status)
    assert.is_true(told)
  end)

  it("happens at the end of the Lua state: messages go out, the process ends well", function()
    local sink = support.sink()
    local printed, well = support.program(([[
      local hub = assert(require "notifyhub".new {})
      for i = 1, 10 do
        assert(hub:send_async { title = "t", targets = { %q } }):on_complete(function() print "told" end)
      end
    ]]):format(sink.target))
    assert.equal("", printed)
    assert.is_true(well)
    assert.equal(10, sink:stop().arrivals)
  end)

  it("is survived by a finalizer that still uses the hub and its handles", function()
    local printed, well = support.program(([[
      local notifyhub = require "notifyhub"
      local hub, handle, batch
      local function finalizer()
        print(pcall(function() return hub:stats() end))
        print(pcall(function() return handle.id end))
        print(pcall(function() return batch:status() end))
        print(pcall(function() return hub:send_async {} end))
      end
      if newproxy then
        local proxy = newproxy(true)
        getmetatable(proxy).__gc = finalizer
        _G.proxy = proxy
      else
        _G.proxy = setmetatable({}, { __gc = finalizer })
      end
      hub = assert(notifyhub.new {})
      handle = assert(hub:send_async { title = "t", targets = { %q }, retry = { attempts = 1 } })
      batch = assert(hub:send_batch { { title = "t", targets = { %q }, retry = { attempts = 1 } } })
    ]]):format(support.refused, support.refused))
    assert.is_true(well, printed)
    assert.truthy(printed:find("has been collected", 1, true), printed)
  end)

  it("does not happen as long as somebody holds one of its handles", function()
    local sink = support.sink()
    local function send()
      local hub = assert(notifyhub.new {})
      return assert(hub:send_async { title = "t", targets = { sink.target } })
    end
    local handle = send()
    collectgarbage()
    collectgarbage()
    assert.equal("delivered", handle:wait(10).status)
  end)
end)
