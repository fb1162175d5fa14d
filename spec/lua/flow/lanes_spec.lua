-- Lanes and breakers through the module: a host that is slow, full or dead is its own affair.
local hostile = require "spec.support.hostile"
local rules = require "spec.support.rules"
local support = require "spec.lua.binding.support"

describe("a host", function()
  local sink
  before_each(function() sink = hostile.start() end)
  after_each(function()
    support.finish()
    sink:stop()
  end)

  local function message(id, target, extra)
    local made = { title = hostile.mark(id), body = "b", targets = { target } }
    for name, value in pairs(extra or {}) do made[name] = value end
    return made
  end

  local function entries(path)
    local list = {}
    for _, entry in ipairs(sink:read()) do
      if entry.path == path then list[#list + 1] = entry end
    end
    return list
  end

  -- Has the host fail five times: its breaker opens.
  local function break_it(hub)
    for index = 1, 5 do
      local one = message("a" .. index, sink:target "/fail/503/100/none/x", { retry = { attempts = 1 } })
      assert.equal("failed", assert(hub:send(one, 20)).status)
    end
    support.eventually(function() return hub:stats().breakers.open == 1 end)
  end

  it("that takes one at a time gets the urgent ones first, and the low ones all the same: 8:4:2:1", function()
    local hub = support.hub { lanes = { start = 1, most = 1 }, workers = { min = 1, max = 1 } }
    local target = sink:target "/slow/0.01"
    local messages = {}
    assert(hub:send_async(message("first", sink:target "/slow/6"))) -- has the slot until all others wait for it
    support.eventually(function() return #sink:read() == 1 end)
    for index = 1, 30 do
      for _, priority in ipairs { "low", "normal", "high", "urgent" } do
        messages[#messages + 1] = message(priority .. index, target, { priority = priority })
      end
    end
    local batch = assert(hub:send_batch(messages))
    support.eventually(function() return hub:stats().workers.asleep == 120 end)
    assert(batch:wait(60))
    local came = {} -- the ledger is written a moment later
    support.eventually(function()
      came = entries "/slow/0.01"
      return #came == 120
    end)
    local counts = { low = 0, normal = 0, high = 0, urgent = 0 }
    for index = 1, 30 do -- two rounds of fifteen
      local priority = came[index].id:match "%a+"
      counts[priority] = counts[priority] + 1
    end
    assert.same({ low = 2, normal = 4, high = 8, urgent = 16 }, counts)
  end)

  it("that does not answer takes no place of messages to others", function()
    local hub = support.hub { workers = { min = 1, max = 1, in_flight = 20 }, transport = { timeout = 30 } }
    local dead = {}
    for index = 1, 300 do dead[index] = message("d" .. index, sink:target("/ok", "mute"), { priority = "urgent" }) end
    local batch = assert(hub:send_batch(dead))
    support.eventually(function() return hub:stats().workers.asleep > 200 end)
    for index = 1, 10 do
      local receipt = assert(hub:send(message("h" .. index, sink:target "/ok", { priority = "low" }), 20))
      assert.equal("delivered", receipt.status)
    end
    assert.is_nil(batch[1]:result())
    batch:cancel()
  end)

  it("that fails again and again is left alone for a while, the next one is not; when it is well it is used again", function()
    local hub = support.hub { retry = { attempts = 1 }, workers = { min = 2, max = 2 } }
    break_it(hub)
    local messages = {}
    for index = 1, 400 do messages[index] = message("b" .. index, sink:target "/ok") end -- another path, the same host
    local batch = assert(hub:send_batch(messages))
    support.eventually(function() return hub:stats().lanes.waiting >= 256 end)
    for index = 1, 50 do -- more workers and messages make no more of it than these two, who asked
      assert.equal("delivered", assert(hub:send(message("c" .. index, sink:target("/ok", "http2")), 20)).status)
    end
    assert.is_true(hub:stats().breakers.refused <= 2, hub:stats().breakers.refused)
    support.eventually(function() return #entries "/ok" == 50 end)
    assert.same({ 400, 0, 400 }, { #batch, batch:progress() })
    -- Open for five seconds at most; then three probes go, one after another, and then all, but not at once.
    for _, receipt in ipairs(assert(batch:wait(20))) do
      assert.same({ "delivered", 1 }, { receipt.status, receipt.results[1].attempts })
    end
    assert.is_true(hub:stats().breakers.refused <= 3, hub:stats().breakers.refused)
    assert.same({ 0, 0, 0 }, (function(s) return { s.breakers.open, s.lanes.waiting, s.workers.asleep } end)(hub:stats()))
  end)

  it("that is left alone is waited for no longer than `breaker.wait`, and who is told so had no attempt", function()
    local hub = support.hub { retry = { attempts = 5, initial = 0.01 }, breaker = { wait = 1.5 } }
    break_it(hub)
    local began = hub:stats().uptime
    local batch = assert(hub:send_batch { message("a", sink:target "/ok"), message("b", sink:target "/ok", { timeout = 0.5 }) })
    local receipts = assert(batch:wait(20))
    local took = hub:stats().uptime - began
    assert.is_true(took >= 1.4 and took < 3.5, took) -- the breaker is open for 3.75 s at least
    assert.equal("timeout", receipts[2].code) -- its own time stands over that
    assert.same({ "unavailable", 0 }, { receipts[1].code, receipts[1].results[1].attempts })
    local waited, more = receipts[1].error:match "127%.0%.0%.1:%d+ has not answered for (%d+) s %(.-%); it is left alone for (%d+) s more"
    assert.is_true(tonumber(waited) >= 1 and tonumber(more) >= 1, receipts[1].error)
    assert.equal(0, #entries "/ok")
    assert.same({ 0, 0 }, { hub:stats().retries, hub:stats().lanes.waiting })
  end)

  it("that is left alone is not waited for where there is somebody else to tell", function()
    local hub = rules.open({ ["a.lua"] = 'route { match = { way = "fallback" }, to = fallback { "dead", "a" } }' }, {
      platforms = { dead = { platform = "webhook", url = sink:url "/ok" } },
    })
    break_it(hub)
    local began = hub:stats().uptime
    local receipt = assert(hub:send({ title = "t", metadata = { way = "fallback" } }, 20))
    assert.equal("delivered", receipt.status)
    assert.same({ "unavailable", 0, true }, { receipt.results[1].code, receipt.results[1].attempts, receipt.results[1].superseded })
    assert.is_true(hub:stats().uptime - began < 1)
  end)

  it("that refuses what messages say is not left alone: that is about them", function()
    local hub = support.hub { retry = { attempts = 1 } }
    for index = 1, 30 do
      local receipt = assert(hub:send(message("a" .. index, sink:target "/fail/400/1/none/x"), 20))
      assert.equal(400, receipt.results[1].status_code)
    end
    assert.equal("delivered", assert(hub:send(message("b", sink:target "/ok"), 20)).status)
  end)

  it("that ends kept connections at awkward moments gets every message once", function()
    local hub = support.hub { workers = { min = 1, max = 1 }, retry = { attempts = 10, initial = 0.02, max = 0.1 },
                              breaker = { enabled = false } }
    local accepted, messages = {}, {}
    for _, path in ipairs { "/end/after", "/end/reset" } do
      for index = 1, 200 do
        local id = path:sub(6) .. index
        accepted[id], messages[#messages + 1] = true, message(id, sink:target(path))
      end
    end
    for _, receipt in ipairs(assert(assert(hub:send_batch(messages)):wait(60))) do
      assert.equal("delivered", receipt.status, receipt.error)
    end
    support.eventually(function() return hostile.account(accepted, sink:read()).lost == 0 end)
    local account = hostile.account(accepted, sink:read())
    assert.same({ 400, 0 }, { account.delivered, account.unknown })
    -- An answer that the reset overtook was not read: that message has to come again.
    for _, entry in ipairs(entries "/end/after") do assert.equal(1, entry.attempt) end
  end)
end)
