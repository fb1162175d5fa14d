-- What health() and stats() say of platforms, targets and hosts is what happens there.
local support = require "spec.lua.binding.support"

local LONG = 60

-- The view of the only target or host in a table.
local function only(views)
  local name, view = next(views)
  assert.truthy(name)
  assert.is_nil((next(views, name)))
  return view, name
end

describe("health", function()
  after_each(support.finish)

  it("is unknown before anything was sent, and tells of nobody", function()
    local hub = support.hub { platforms = { slack = { token = "xoxb-1", channel = "#a" } } }
    local health = hub:health()
    assert.equal("unknown", health.status)
    for _, kind in ipairs { "platforms", "targets", "lanes", "breakers" } do
      assert.is_nil((next(health[kind])), kind)
    end
  end)

  it("tells how long answers take, how many succeed, and the last error without its secrets", function()
    local sink = support.sink { delay = 0.05 }
    local hub = support.hub { retry = { attempts = 1 } }
    for _ = 1, 3 do
      assert.equal("delivered", hub:send({ title = "t", targets = { sink.target } }, LONG).status)
    end
    local view = only(hub:health().targets)
    assert.same({ "healthy", 3, 0, 1 }, { view.state, view.delivered, view.failed, view.success_rate })
    assert.is_true(view.p50 >= 0.045 and view.p50 <= view.p90 and view.p90 <= view.p99)
    sink:stop()
    local failed = support.hub { retry = { attempts = 1 } }
    failed:send({ title = "t", targets = { "json://user:hunter22@127.0.0.1:1/token-1234" } }, LONG)
    local bad, name = only(failed:health().targets)
    assert.same({ "network", 1, "degraded" }, { bad.last_error_code, bad.consecutive_failures, bad.state })
    for _, secret in ipairs { "hunter22", "token%-1234" } do
      assert.is_nil((bad.last_error .. name):find(secret), bad.last_error .. name)
    end
  end)

  it("tells of each platform, target and host how many it gets at once, has, and lets wait", function()
    local sink = support.sink { delay = 20 }
    local hub = support.hub { lanes = { start = 2, most = 2 }, breaker = { enabled = false } }
    local ended = assert(hub:send_async { title = "t", targets = { sink.target }, timeout = 0.1 })
    assert.equal("timeout", (select(3, ended:wait(LONG))))
    local handles = {}
    for index = 1, 5 do
      handles[index] = assert(hub:send_async { title = "t", targets = { sink.target } })
    end
    support.eventually(function()
      local lane = only(hub:health().lanes)
      return lane.in_flight == 2 and lane.waiting == 3 and lane.oldest > 0.05
    end)
    local lane, host = only(hub:health().lanes)
    assert.equal(("webhook 127.0.0.1:%d"):format(sink.http_port), host)
    assert.equal(2, lane.limit)
    local figures = hub:stats()
    assert.same({ 1, 2, 3 }, { figures.lanes.count, figures.lanes.in_flight, figures.lanes.waiting })
    assert.equal(3, figures.workers.asleep) -- who waits for a place takes nobody else's
    for _, handle in ipairs(handles) do
      handle:cancel()
    end
    support.eventually(function()
      lane = only(hub:health().lanes)
      return lane.in_flight == 0 and lane.waiting == 0
    end)
  end)

  it("never has more under way to all hosts together than the total", function()
    local slow, quick = support.sink { delay = 0.1 }, support.sink()
    local hub = support.hub { lanes = { total = 2 }, workers = { min = 2, max = 2 } }
    local messages = {}
    for index = 1, 20 do
      messages[index] = { title = "t", targets = { index > 10 and quick.target or slow.target } }
    end
    local batch, most = assert(hub:send_batch(messages)), 0
    repeat
      local lanes = hub:stats().lanes
      most = math.max(most, lanes.in_flight)
    until select(1, batch:progress()) == 20
    assert.equal(2, most)
    for _, receipt in ipairs(assert(batch:wait(LONG))) do
      assert.equal("delivered", receipt.status)
    end
  end)

  it("shows the lane of the last attempt with its account and its target", function()
    local sink = support.sink()
    local hub = support.hub { platforms = { audit = { platform = "webhook", url = sink.url .. "/x" } } }
    assert.equal("delivered", hub:send({ title = "t", targets = { "audit" } }, LONG).status)
    local health = hub:health()
    local lane = only(health.lanes)
    for _, view in ipairs { health.platforms.audit, (only(health.targets)) } do
      assert.same({ lane.limit, 0, 0, 0 }, { view.limit, view.in_flight, view.waiting, view.oldest })
    end
  end)

  it("tells which hosts are left alone; stats counts them", function()
    local hub = support.hub { retry = { attempts = 5, initial = 0.01 }, breaker = { wait = 0 } }
    hub:send({ title = "t", targets = { support.refused } }, LONG)
    local breaker, host = only(hub:health().breakers)
    assert.equal("127.0.0.1:1", host)
    assert.equal("open", breaker.state)
    assert.is_true(breaker.retry_in > 0 and breaker.retry_in <= 5)
    local began = hub:stats().uptime
    local receipt = hub:send({ title = "t", targets = { support.refused } }, LONG)
    assert.equal("unavailable", receipt.code)
    assert.truthy(receipt.error:find("is left alone", 1, true), receipt.error)
    assert.is_true(hub:stats().uptime - began < 3) -- at once
    local figures = hub:stats().breakers
    assert.same({ 1, 0, 1, 1 }, { figures.open, figures.half_open, figures.opened, figures.refused })
  end)
end)

describe("figures", function()
  after_each(support.finish)

  it("can be asked for ten times a second by many, while messages flow, and are never torn", function()
    local sink = support.sink()
    local hub = support.hub()
    local batch = assert(hub:send_batch((function()
      local messages = {}
      for index = 1, 500 do messages[index] = { title = "t", targets = { sink.target } } end
      return messages
    end)()))
    local settled = 0
    repeat
      local figures = hub:stats()
      assert.equal(500, figures.accepted)
      local now = figures.delivered + figures.failed
      assert.is_true(now >= settled and now <= 500)
      settled = now
      assert.truthy(hub:metrics():find("notifyhub_messages_accepted_total 500\n", 1, true))
      assert.is_true(hub:health().accepted == 500)
    until select(1, batch:progress()) == 500
    support.idle(hub)
    assert.equal(500, hub:stats().delivered)
  end)
end)
