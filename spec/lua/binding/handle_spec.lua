local socket = require "socket"
local support = require "spec.lua.binding.support"

describe("a handle", function()
  local hub, sink

  before_each(function() hub = support.hub() end)
  after_each(support.finish)

  local function send(fields)
    local message = { title = "t", targets = { sink and sink.target or support.refused } }
    for name, value in pairs(fields or {}) do message[name] = value end
    return assert(hub:send_async(message))
  end

  local function failing()
    return send { targets = { support.refused }, retry = { attempts = 1 } }
  end

  it("tells its message's id and what state it is in", function()
    sink = support.sink { delay = 1 }
    local handle = send { id = "deploy-1" }
    assert.equal("deploy-1", handle.id)
    assert.truthy(tostring(handle):find("deploy-1", 1, true))
    local status = handle:status()
    assert.equal("deploy-1", status.id)
    assert.truthy(status.state == "queued" or status.state == "running")
    assert.equal(0, status.retries)
    assert.is_nil(handle:result())
    local receipt = handle:wait(10)
    assert.equal("deploy-1", receipt.id)
    status = handle:status()
    assert.equal("delivered", status.state)
    assert.equal(1, status.done)
    assert.equal(1, status.total)
    assert.is_nil(handle.no_such_field)
  end)

  it("waits for a message that is scheduled", function()
    sink = support.sink()
    local handle = send { deliver_at = socket.gettime() + 0.3 }
    assert.equal("scheduled", handle:status().state)
    assert.equal("delivered", handle:wait(10).status)
  end)

  it("gives a whole receipt", function()
    sink = support.sink()
    local receipt, problem, code = send():wait(10)
    assert.is_nil(problem)
    assert.is_nil(code)
    assert.equal("delivered", receipt.status)
    assert.equal(1, #receipt.results)
    local result = receipt.results[1]
    assert.is_true(result.ok)
    assert.equal("webhook", result.platform)
    assert.equal(200, result.status_code)
    assert.equal(1, result.attempts)
    assert.truthy(result.latency >= 0)
    assert.truthy(receipt.settled_at >= receipt.created_at)
  end)

  it("has an error when every target fails, and calls on_error (fault 1)", function()
    local told = {}
    local handle = send { targets = { support.refused, "json://127.0.0.1:1/b" }, retry = { attempts = 1 } }
    handle:on_error(function(message, problem, receipt)
      told[#told + 1] = { message = message, problem = problem, receipt = receipt }
    end)
    local receipt, problem, code = handle:wait(10)
    assert.equal("failed", receipt.status)
    assert.equal("string", type(problem))
    assert.equal("network", code)
    assert.equal(2, #receipt.results)
    assert.equal(1, #told)
    assert.equal("t", told[1].message.title)
    assert.equal(problem, told[1].problem)
    assert.equal("failed", told[1].receipt.status)
    assert.equal("failed", handle:status().state)

    receipt, problem, code = hub:send({ title = "t", targets = { support.refused }, retry = { attempts = 1 } }, 10)
    assert.equal("failed", receipt.status)
    assert.equal("string", type(problem))
    assert.equal("network", code)
  end)

  it("need not be seen by who sends and waits, for as long as they want", function()
    sink = support.sink { delay = 0.8 }
    local message = { title = "t", targets = { sink.target } }
    for _, seconds in ipairs { 0, 0.1, 0.6 } do
      local began = socket.gettime()
      local receipt, problem, code = hub:send(message, seconds)
      assert.is_nil(receipt)
      assert.equal("the message has not settled", problem)
      assert.equal("timeout", code)
      assert.truthy(socket.gettime() - began >= seconds)
    end
    for _ = 1, 2 do -- the ends of those before are none of these
      local began = socket.gettime()
      local receipt, problem = hub:send(message)
      assert.is_nil(problem)
      assert.equal("delivered", receipt.status)
      assert.truthy(socket.gettime() - began >= 0.7)
    end
    assert.equal("delivered", hub:send(message, 10).status)
    assert.equal(0, hub:stats().pending)
    local receipt, problem, code = hub:send({ titel = "t" }, 10)
    assert.is_nil(receipt)
    assert.equal("titel: unknown field (did you mean 'title'?)", problem)
    assert.equal("invalid", code)
  end)

  it("is told of while another message is sent and waited for", function()
    local told = 0
    failing():on_error(function() told = told + 1 end)
    assert.equal("failed", hub:send({
      title = "t", targets = { support.refused }, retry = { attempts = 1 }, deliver_at = socket.gettime() + 0.3,
    }, 10).status)
    assert.equal(1, told)
  end)

  it("tells when some targets failed, and calls on_error (fault 1)", function()
    sink = support.sink()
    local handle = send { targets = { sink.target, support.refused }, retry = { attempts = 1 } }
    local told
    handle:on_error(function(_, problem) told = problem end)
    local receipt, problem, code = handle:wait(10)
    assert.equal("partial", receipt.status)
    assert.equal("string", type(problem))
    assert.equal("network", code)
    assert.equal(problem, told)
  end)

  it("does not call on_error when all is well", function()
    sink = support.sink()
    local handle = send():on_error(function() error "called" end)
    local problems = {}
    hub:on_callback_error(function(problem) problems[#problems + 1] = problem end)
    assert.equal("delivered", handle:wait(10).status)
    handle:on_error(function() error "called" end)
    assert.same({}, problems)
  end)

  it("shows everybody the same result, as often as they ask (fault 2)", function()
    sink = support.sink()
    local handle = send()
    local first = handle:wait(10)
    assert.same(first, handle:result())
    assert.same(first, handle:wait(10))
    assert.same(first, handle:wait())
    assert.same(first, handle:result())
  end)

  it("lets many tasks wait for one message, and all see it (fault 2)", function()
    sink = support.sink { delay = 0.1 }
    local seen = hub:run(function()
      local handle, count = send(), 0
      for _ = 1, 20 do
        hub:spawn(function()
          if handle:wait(10).status == "delivered" then count = count + 1 end
        end)
      end
      handle:wait(10)
      hub:sleep(0)
      hub:sleep(0)
      return count
    end)
    assert.equal(20, seen)
  end)

  it("tells a wait that was too short, and goes on", function()
    sink = support.sink { delay = 4 }
    local handle = send()
    local before = socket.gettime()
    local receipt, problem, code = handle:wait(0.1)
    local took = socket.gettime() - before
    assert.is_nil(receipt)
    assert.equal("string", type(problem))
    assert.equal("timeout", code)
    assert.truthy(took >= 0.09 and took < 4)
    assert.is_nil((handle:wait(0)))
    assert.equal("delivered", handle:wait(10).status)
  end)

  it("is really stopped by cancel while it is queued or scheduled: it never arrives (fault 3)", function()
    sink = support.sink()
    local due = socket.gettime() + 2
    local handle = send { deliver_at = due }
    assert.is_true(handle:cancel())
    assert.is_false(handle:cancel())
    local receipt, _, code = handle:wait(10)
    assert.equal("cancelled", receipt.status)
    assert.equal("cancelled", code)
    assert.equal("cancelled", handle:status().state)
    assert.equal("delivered", send { deliver_at = due + 0.2 }:wait(20).status)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("is really stopped by cancel in flight, and stays cancelled (fault 3)", function()
    sink = support.sink { delay = 20 }
    local handle = send()
    sink:wait(1, 10)
    local before = socket.gettime()
    assert.is_true(handle:cancel())
    assert.equal("cancelled", handle:wait(10).status)
    assert.truthy(socket.gettime() - before < 10)
    assert.equal("cancelled", handle:result().status)
  end)

  it("cannot be cancelled after its end (fault 3)", function()
    sink = support.sink()
    local handle = send()
    handle:wait(10)
    assert.is_false(handle:cancel())
    assert.equal("delivered", handle:result().status)
  end)

  it("calls callbacks of one kind in the order in which they were set", function()
    sink = support.sink()
    local order = {}
    local handle = send { deliver_at = socket.gettime() + 0.1 }
    for i = 1, 5 do handle:on_complete(function() order[#order + 1] = i end) end
    handle:wait(10)
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end)

  it("calls a callback that is set after the end at once (fault 4)", function()
    sink = support.sink()
    local handle = send()
    support.settle(handle)
    local told = {}
    local same = handle
      :on_complete(function(receipt) told.complete = receipt.status end)
      :on_error(function() told.error = true end)
      :on_progress(function(done, total) told.progress = done .. "/" .. total end)
      :on_retry(function() told.retry = true end)
    assert.equal(handle, same)
    assert.same({ complete = "delivered", progress = "1/1" }, told)

    handle = failing()
    support.settle(handle)
    handle:on_error(function(message, problem, receipt)
      told.error = { message.title, type(problem), receipt.status }
    end)
    assert.same({ "t", "string", "failed" }, told.error)
  end)

  it("keeps the order of late callbacks with those that have not run yet (fault 4)", function()
    sink = support.sink()
    local order = {}
    local handle = send { deliver_at = socket.gettime() + 0.1 }
    handle:on_complete(function() order[#order + 1] = "early" end)
    support.settle(handle)
    handle:on_complete(function() order[#order + 1] = "late" end)
    hub:poll(10)
    assert.same({ "early", "late" }, order)
  end)

  it("applies the callbacks given with the message (fault 4)", function()
    local told = {}
    local handle = assert(hub:send_async({ title = "t", targets = { support.refused }, retry = { attempts = 1 } }, {
      on_complete = function(receipt) told.complete = receipt.status end,
      on_error = function(_, problem) told.error = problem end,
      on_progress = function(done, total) told.progress = done .. "/" .. total end,
    }))
    local _, problem = handle:wait(10)
    assert.same({ complete = "failed", error = problem, progress = "1/1" }, told)
  end)

  it("tells its progress, target by target (fault 4)", function()
    sink = support.sink { delay = 0.05 }
    local targets, figures = {}, {}
    for i = 1, 5 do targets[i] = support.path(sink, "p" .. i) end
    local handle = send { targets = targets }
    handle:on_progress(function(done, total) figures[#figures + 1] = { done, total } end)
    handle:wait(10)
    assert.truthy(#figures >= 1)
    assert.same({ 5, 5 }, figures[#figures])
    for i = 2, #figures do assert.truthy(figures[i][1] >= figures[i - 1][1]) end
  end)

  it("tells its retries", function()
    sink = support.sink { fail = 2 }
    local told = {}
    local handle = send { retry = { attempts = 5, initial = 0.05, max = 0.1 } }
    handle:on_retry(function(retries) told[#told + 1] = retries end)
    local receipt = handle:wait(10)
    assert.equal("delivered", receipt.status)
    assert.equal(3, receipt.results[1].attempts)
    assert.equal(2, told[#told])
    assert.equal(2, handle:status().retries)
  end)

  it("reports an error in a callback, and harms nothing else (fault 7)", function()
    sink = support.sink()
    local problems, told = {}, {}
    assert.equal(hub, hub:on_callback_error(function(problem) problems[#problems + 1] = problem end))
    local handle = send { deliver_at = socket.gettime() + 0.1 }
    handle:on_complete(function() told[1] = true end)
    handle:on_complete(function() error "boom" end)
    handle:on_complete(function() error { "a table" } end)
    handle:on_complete(function() error() end)
    handle:on_complete(function() error(setmetatable({}, { __tostring = function() error "again" end })) end)
    handle:on_complete(function() coroutine.yield() end)
    handle:on_complete(function() told[2] = true end)
    assert.equal("delivered", handle:wait(10).status)
    assert.same({ true, true }, told)
    assert.equal(5, #problems)
    assert.truthy(problems[1]:find("boom", 1, true))
    assert.truthy(problems[1]:find("stack traceback", 1, true))
    assert.equal("delivered", send():wait(10).status)
  end)

  it("writes an error in a callback to the standard error when nobody else wants it (fault 7)", function()
    local printed, well = support.program(([[
      local hub = assert(require "notifyhub".new {})
      local handle = assert(hub:send_async { title = "t", targets = { %q }, retry = { attempts = 1 } })
      handle:on_complete(function() error "boom" end)
      handle:wait(10)
      hub:on_callback_error(function() error "worse" end)
      handle:on_complete(function() error "again" end)
      hub:close(1)
    ]]):format(support.refused))
    assert.is_true(well)
    for _, text in ipairs { "notifyhub: error in a callback", "boom", "again", "worse", "stack traceback" } do
      assert.truthy(printed:find(text, 1, true), printed)
    end
  end)

  it("lets a callback wait, and send", function()
    sink = support.sink()
    local inner
    local handle = send { deliver_at = socket.gettime() + 0.1 }
    handle:on_complete(function() inner = send():wait(10) end)
    handle:wait(10)
    assert.equal("delivered", inner.status)
  end)

  it("lets callbacks wait inside callbacks, without bound and without loss", function()
    sink = support.sink()
    local left, told, deepest, depth = 200, 0, 0, 0
    local function chain()
      told = told + 1
      if left == 0 then return end
      left = left - 1
      depth = depth + 1
      deepest = math.max(deepest, depth)
      send():on_complete(chain):wait(10)
      depth = depth - 1
    end
    for _ = 1, 30 do send { deliver_at = socket.gettime() + 0.1 }:on_complete(chain) end
    while told < 230 do assert.truthy(hub:poll(10) > 0) end
    assert.equal(230, told)
    assert.truthy(deepest > 1)
  end)

  it("runs the callbacks of others while it waits", function()
    sink = support.sink()
    local told = 0
    for _ = 1, 10 do send():on_complete(function() told = told + 1 end) end
    send { deliver_at = socket.gettime() + 1 }:wait(10)
    assert.equal(10, told)
  end)

  it("runs no callback outside of poll, wait, run and close", function()
    sink = support.sink()
    local told = 0
    local handle = send { deliver_at = socket.gettime() + 0.05 }:on_complete(function() told = told + 1 end)
    support.settle(handle)
    handle:status()
    handle:result()
    hub:stats()
    send()
    assert.equal(0, told)
    hub:poll(10)
    assert.equal(1, told)
  end)

  it("never shares an id with another, in one second or elsewhere (fault 9)", function()
    local seen = {}
    local message = { title = "t", targets = { support.refused }, deliver_at = os.time() + 3600 }
    for _ = 1, 10000 do
      local handle = assert(hub:send_async(message))
      assert.is_nil(seen[handle.id])
      seen[handle.id] = true
    end
  end)

  it("sends to all targets at the same time (fault 8)", function()
    sink = support.sink { delay = 2 }
    local targets = {}
    for i = 1, 10 do targets[i] = support.path(sink, "c" .. i) end
    local before = socket.gettime()
    assert.equal("delivered", send { targets = targets }:wait(30).status)
    assert.truthy(socket.gettime() - before < 19) -- 20 s one after the other
  end)

  it("is refused at once when the queue is full, and accepted again later (fault 6)", function()
    sink = support.sink()
    local small = support.hub { queue = { capacity = 10 } }
    local message = { title = "t", targets = { sink.target }, deliver_at = os.time() + 3600 }
    local held = {}
    for i = 1, 10 do held[i] = assert(small:send_async(message)) end
    local before = socket.gettime()
    local sent, problem, code = small:send_async(message)
    assert.truthy(socket.gettime() - before < 5)
    assert.is_nil(sent)
    assert.equal("string", type(problem))
    assert.equal("queue_full", code)
    held[1]:cancel()
    held[1]:wait(10)
    assert.equal("delivered", small:send({ title = "t", targets = { sink.target } }, 10).status)
  end)
end)
