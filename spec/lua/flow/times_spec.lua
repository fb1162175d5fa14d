-- timeout, expires_at and deliver_at: each ends or holds a message wherever it is, and the receipt says which it was.
local socket = require "socket"

local support = require "spec.lua.binding.support"

local LONG = 60

-- Sends a message whose `lasts` tells the seconds to its expires_at: they begin here, however long the rest took.
local function send(hub, message)
  if message.lasts then
    message.expires_at, message.lasts = socket.gettime() + message.lasts, nil
  end
  return hub:send_async(message)
end

-- Where a message can be when its time is over: how to get it there, and how many arrivals there are then.
local STAGES = {
  ["in flight"] = function(sink, message)
    message.targets = { sink.target }
    return send(support.hub(), message), 1
  end,
  ["in the queue"] = function(sink, message)
    local hub = support.hub { workers = { min = 1, max = 1, in_flight = 1 } }
    assert(hub:send_async { title = "first", targets = { sink.target } })
    assert(sink:wait(1))
    message.targets = { sink.target }
    return send(hub, message), 1
  end,
  ["before its deliver_at"] = function(sink, message)
    message.deliver_at, message.targets = socket.gettime() + 3600, { sink.target }
    local handle = assert(send(support.hub(), message))
    assert.equal("scheduled", handle:status().state)
    return handle, 0
  end,
  ["waiting for a place in its host's lane"] = function(sink, message)
    local hub = support.hub { lanes = { start = 1, most = 1 } }
    assert(hub:send_async { title = "first", targets = { sink.target } })
    assert(sink:wait(1))
    message.targets = { sink.target }
    return send(hub, message), 1
  end,
  ["waiting for its account's rate"] = function(sink, message)
    local hub = support.hub { platforms = { own = { platform = "webhook", url = sink.url, rate = { tokens = 1, per = 3600 } } } }
    assert(hub:send_async { title = "first", targets = { "own" } })
    assert(sink:wait(1))
    message.targets = { "own" }
    return send(hub, message), 1
  end,
  ["between two attempts"] = function(_, message)
    message.targets = { support.refused }
    message.retry = { attempts = 5, backoff = "fixed", initial = 3600, max = 3600 }
    return send(support.hub(), message), 0
  end,
}

describe("a message's time", function()
  after_each(support.finish)

  for stage, bring in pairs(STAGES) do
    for _, field in ipairs { "timeout", "expires_at" } do
      it(("that is over while it is %s: %s"):format(stage, field), function()
        local sink = support.sink { delay = 30 }
        local message = { title = "t", timeout = field == "timeout" and 0.7 or nil,
                          lasts = field == "expires_at" and 0.7 or nil }
        local handle, arrivals = bring(sink, message)
        local receipt, problem, code = assert(handle):wait(LONG)
        assert.same({ field == "timeout" and "failed" or "expired", field == "timeout" and "timeout" or "expired" },
          { receipt.status, receipt.code })
        assert.same({ receipt.code, receipt.error }, { code, problem })
        for _, result in ipairs(receipt.results) do
          assert.same({ false, receipt.code }, { result.ok, result.code })
        end
        assert.is_false(handle:cancel())
        assert.equal(arrivals, #sink:arrivals())
      end)
    end
  end

  it("is the sooner of the two, and the receipt tells which", function()
    local hub = support.hub()
    local now = socket.gettime()
    local function ended(message)
      message.title, message.targets, message.deliver_at = "t", { "console" }, now + 3600
      return hub:send(message, LONG).code
    end
    assert.equal("timeout", ended { timeout = 0.2, expires_at = now + 3000 })
    assert.equal("expired", ended { timeout = 3000, expires_at = socket.gettime() + 0.3 })
  end)

  it("that is over before it was sent is refused at once", function()
    local sent, problem, code = support.hub():send_async { title = "t", targets = { "console" }, expires_at = os.time() - 10 }
    assert.is_nil(sent)
    assert.equal("expired", code)
    assert.truthy(problem:find("expires_at", 1, true), problem)
  end)

  it("to be delivered is kept: never sooner, in the order of the times, and cancelled ones not at all", function()
    local sink = support.sink()
    local hub = support.hub()
    local now = socket.gettime()
    local handles = {}
    for index, after in ipairs { 0.9, 0.3, 0.6 } do
      handles[index] = assert(hub:send_async { id = "m" .. index, title = "t", targets = { sink.target }, deliver_at = now + after })
    end
    assert.is_true(handles[3]:cancel())
    assert.equal("cancelled", handles[3]:wait(LONG).status)
    local first, second = assert(handles[2]:wait(LONG)), assert(handles[1]:wait(LONG))
    assert.is_true(first.settled_at >= now + 0.3 and second.settled_at >= now + 0.9)
    local arrivals = assert(sink:wait(2))
    assert.same({ "m2", "m1" }, { arrivals[1].json.message_id, arrivals[2].json.message_id })
    assert.equal(2, sink:stop().arrivals)
  end)
end)
