local socket = require "socket"
local support = require "spec.lua.binding.support"

-- Lua 5.1 cannot yield across pcall and iterators; LuaJIT can.
local full = _VERSION ~= "Lua 5.1" or type(jit) == "table"

describe("hub:run", function()
  local hub, sink

  before_each(function() hub = support.hub() end)
  after_each(support.finish)

  local function send(fields)
    local message = { title = "t", targets = { sink.target } }
    for name, value in pairs(fields or {}) do message[name] = value end
    return assert(hub:send_async(message))
  end

  it("passes arguments in and results out, nil included", function()
    local function pack(...) return { n = select("#", ...), ... } end
    local got = pack(hub:run(function(...) return select("#", ...), ... end, 1, nil, 3, nil))
    assert.same({ n = 5, 4, 1, nil, 3, nil }, got)
  end)

  it("lets other tasks go on while one waits", function()
    sink = support.sink { delay = 0.3 }
    local delivered, waiting, most = 0, 0, 0
    hub:run(function()
      for _ = 1, 20 do
        hub:spawn(function()
          for _ = 1, 2 do
            waiting = waiting + 1
            most = math.max(most, waiting)
            if hub:send({ title = "t", targets = { sink.target } }, 10).status == "delivered" then
              delivered = delivered + 1
            end
            waiting = waiting - 1
          end
        end)
      end
    end)
    assert.equal(40, delivered)
    assert.equal(20, most)
  end)

  it("returns when all tasks have ended", function()
    local ended = 0
    hub:run(function()
      for i = 1, 5 do
        hub:spawn(function()
          hub:sleep(i / 50)
          ended = ended + 1
        end)
      end
    end)
    assert.equal(5, ended)
  end)

  it("keeps the times of its waits", function()
    sink = support.sink { delay = 1.5 }
    local code, long, short
    hub:run(function()
      local handle = send()
      hub:spawn(function()
        code = select(3, handle:wait(0.1))
        short = socket.gettime()
      end)
      hub:spawn(function()
        handle:wait(10)
        long = socket.gettime()
      end)
      local before = socket.gettime()
      hub:sleep(0.2)
      local slept = socket.gettime() - before
      assert.truthy(slept >= 0.19 and slept < 1.2)
    end)
    assert.equal("timeout", code)
    assert.truthy(long - short > 0.7)
  end)

  it("wakes sleepers in the order of their times", function()
    local order = {}
    hub:run(function()
      for _, tenths in ipairs { 5, 1, 4, 2, 3, 0 } do
        hub:spawn(function()
          hub:sleep(tenths / 20)
          order[#order + 1] = tenths
        end)
      end
    end)
    assert.same({ 0, 1, 2, 3, 4, 5 }, order)
  end)

  it("keeps hundreds of waits with limits apart", function()
    sink = support.sink { delay = 0.5 } -- a busy machine takes a while to begin 300 waits
    local timeouts, delivered = 0, 0
    hub:run(function()
      for i = 1, 300 do
        hub:spawn(function()
          local handle = send()
          if not handle:wait(i % 3 == 0 and 0.01 or 60) then
            timeouts = timeouts + 1
            handle:wait(60)
          end
          if handle:result().status == "delivered" then delivered = delivered + 1 end
        end)
      end
    end)
    assert.equal(300, delivered)
    assert.truthy(timeouts >= 90)
  end)

  it("gives a task's results to whoever waits for it, several and later", function()
    local a, b, c, late, code = hub:run(function()
      local task = hub:spawn(function(x)
        hub:sleep(0.05)
        return x, nil, "z"
      end, "x")
      local other = hub:spawn(function() return (task:wait()) end)
      local _, _, timeout = task:wait(0.001)
      local x, y, z = task:wait()
      return x, y, z, other:wait(), timeout
    end)
    assert.same({ "x", "z", "x", "timeout" }, { a, c, late, code })
    assert.is_nil(b)
  end)

  it("raises a task's error after all have ended, with its traceback", function()
    local ended = false
    local ok, problem = pcall(function()
      hub:run(function()
        hub:spawn(function()
          hub:sleep(0.01)
          error "boom"
        end)
        hub:spawn(function()
          hub:sleep(0.1)
          ended = true
        end)
      end)
    end)
    assert.is_false(ok)
    assert.truthy(problem:find("run_spec.lua:%d+: boom"))
    assert.truthy(problem:find("stack traceback", 1, true))
    assert.is_true(ended)
    assert.equal(1, hub:run(function() return 1 end))
  end)

  it("tells a task's error to those who wait for it", function()
    local result, problem, code
    pcall(hub.run, hub, function()
      result, problem, code = hub:spawn(function() error "boom" end):wait()
    end)
    assert.is_nil(result)
    assert.truthy(problem:find("boom", 1, true))
    assert.equal("script", code)
  end)

  it("keeps error values that are no strings, and reports a second error", function()
    local reported = {}
    hub:on_callback_error(function(problem) reported[#reported + 1] = problem end)
    local value = { "an object" }
    local ok, problem = pcall(hub.run, hub, function()
      hub:spawn(function() error(value) end)
      hub:spawn(function() error "second" end)
    end)
    assert.is_false(ok)
    assert.equal(value, problem)
    assert.equal(1, #reported)
    assert.truthy(reported[1]:find("second", 1, true))
  end)

  it("runs callbacks meanwhile; one that waits does not confuse the tasks", function()
    sink = support.sink()
    local told, inner = 0, nil
    hub:run(function()
      for _ = 1, 5 do send():on_complete(function() told = told + 1 end) end
      send { deliver_at = socket.gettime() + 0.1 }:on_complete(function() inner = send():wait(10).status end)
      local handle = send()
      support.settle(handle)
      handle:on_complete(function()
        local receipt = send():wait(10)
        told = told + receipt.results[1].attempts
      end)
      send { deliver_at = socket.gettime() + 0.3 }:wait(10)
    end)
    assert.equal(6, told)
    assert.equal("delivered", inner)
  end)

  it("lets a task yield by itself, and a coroutine of its own wait", function()
    sink = support.sink()
    local order, statuses = {}, {}
    hub:run(function()
      for i = 1, 2 do
        hub:spawn(function()
          for _ = 1, 2 do
            order[#order + 1] = i
            coroutine.yield()
          end
        end)
      end
      local generator = coroutine.wrap(function()
        for _ = 1, 3 do coroutine.yield(send():wait(10).status) end
      end)
      for status in generator do statuses[#statuses + 1] = status end
    end)
    assert.same({ 1, 2, 1, 2 }, order)
    assert.same({ "delivered", "delivered", "delivered" }, statuses)
  end)

  if not full then
    it("survives a task that waits inside pcall, where it cannot", function()
      sink = support.sink { delay = 0.1 }
      local ok, problem, status
      hub:run(function()
        local handle = send()
        ok, problem = pcall(handle.wait, handle, 10)
        status = handle:wait(10).status
        pcall(handle.wait, send(), 10)
      end)
      assert.is_false(ok)
      assert.truthy(problem:find("yield", 1, true))
      assert.equal("delivered", status)
    end)
  else
    it("lets a task wait inside pcall", function()
      sink = support.sink { delay = 0.05 }
      local status
      hub:run(function()
        local ok, receipt = pcall(function() return send():wait(10) end)
        status = ok and receipt.status
      end)
      assert.equal("delivered", status)
    end)
  end

  it("reads the results of batches in several tasks", function()
    sink = support.sink { delay = 0.02 }
    local counts = {}
    hub:run(function()
      for t = 1, 3 do
        counts[t] = 0
        hub:spawn(function()
          local list = {}
          for i = 1, 20 do list[i] = { title = "t", targets = { sink.target } } end
          local batch = assert(hub:send_batch(list))
          for _, receipt in batch:results() do
            if receipt.status == "delivered" then counts[t] = counts[t] + 1 end
          end
          assert.equal(20, #batch:wait(10))
        end)
      end
    end)
    assert.same({ 20, 20, 20 }, counts)
  end)

  it("raises misuse", function()
    local function raises(text, call)
      local ok, problem = pcall(call)
      assert.is_false(ok)
      assert.truthy(problem:find(text, 1, true), problem)
    end
    raises("inside hub:run only", function() hub:spawn(print) end)
    raises("running already", function() hub:run(function() hub:run(print) end) end)
    raises("every task waits for another one", function()
      hub:run(function()
        local task
        task = hub:spawn(function() return task:wait() end)
        task:wait()
      end)
    end)
    local kept
    hub:run(function() kept = hub:spawn(function() return 7 end) end)
    assert.equal(7, kept:wait())
    assert.equal(1, hub:run(function() return 1 end))
  end)

  it("works inside a coroutine of the host, and in a callback", function()
    sink = support.sink()
    local status = coroutine.wrap(function()
      return hub:run(function() return send():wait(10).status end)
    end)()
    assert.equal("delivered", status)
    send { deliver_at = socket.gettime() + 0.05 }:on_complete(function()
      status = hub:run(function()
        local task = hub:spawn(function() return send():wait(10).status end)
        return "inner " .. task:wait()
      end)
    end):wait(10)
    assert.equal("inner delivered", status)
  end)
end)

describe("hub:sleep outside of run", function()
  after_each(support.finish)

  it("blocks, and runs callbacks", function()
    local hub, sink = support.hub(), support.sink()
    local told
    assert(hub:send_async { title = "t", targets = { sink.target } }):on_complete(function() told = true end)
    local before = socket.gettime()
    hub:sleep(0.5)
    assert.truthy(socket.gettime() - before >= 0.49)
    while not told and socket.gettime() - before < 60 do hub:sleep(0.1) end
    assert.is_true(told)
  end)
end)
