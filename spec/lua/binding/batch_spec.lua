local socket = require "socket"
local support = require "spec.lua.binding.support"

describe("a batch", function()
  local hub, sink

  before_each(function() hub = support.hub() end)
  after_each(support.finish)

  local function messages(count, fields)
    local list = {}
    for i = 1, count do
      list[i] = { title = "t" .. i, targets = { sink.target } }
      for name, value in pairs(fields or {}) do list[i][name] = value end
    end
    return list
  end

  local function failing()
    return { title = "t", targets = { support.refused }, retry = { attempts = 1 } }
  end

  it("is accepted as a whole or not at all", function()
    sink = support.sink()
    local list = messages(10)
    list[7].titel = "typo"
    local batch, problem, code = hub:send_batch(list)
    assert.is_nil(batch)
    assert.equal("invalid", code)
    assert.truthy(problem:find("7", 1, true), problem)
    list[7].titel = nil
    list[4].metadata = { f = print }
    batch, problem, code = hub:send_batch(list)
    assert.is_nil(batch)
    assert.equal("messages[4].metadata.f: functions cannot be sent", problem)
    assert.equal("invalid", code)
    batch, problem, code = hub:send_batch {}
    assert.is_nil(batch)
    assert.equal("string", type(problem))
    assert.equal("invalid", code)
    assert.equal(0, hub:stats().accepted)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("has its handles by number, the same ones as long as they are held", function()
    sink = support.sink()
    local batch = assert(hub:send_batch(messages(5)))
    assert.equal(5, #batch)
    assert.equal("string", type(batch.id))
    assert.truthy(tostring(batch):find(batch.id, 1, true))
    assert.equal(batch[2], batch[2])
    assert.not_equal(batch[1], batch[2])
    assert.is_nil(batch[0])
    assert.is_nil(batch[6])
    assert.is_nil(batch[1.5])
    local receipts = batch:wait(10)
    for i = 1, 5 do assert.equal(receipts[i].id, batch[i].id) end
  end)

  it("gives the receipts in the order of its messages", function()
    sink = support.sink()
    local list = messages(20)
    for i = 1, 20 do list[i].id = "m" .. i end
    local receipts = assert(hub:send_batch(list)):wait(10)
    assert.equal(20, #receipts)
    for i = 1, 20 do
      assert.equal("m" .. i, receipts[i].id)
      assert.equal("delivered", receipts[i].status)
    end
  end)

  it("tells how many are missing when a wait is too short (fault 5)", function()
    sink = support.sink { delay = 0.5 }
    local batch = assert(hub:send_batch(messages(3)))
    local receipts, problem, code = batch:wait(0.05)
    assert.is_nil(receipts)
    assert.equal("3 of 3 messages have not settled", problem)
    assert.equal("timeout", code)
    assert.is_nil((batch:wait(0)))
    assert.equal("running", batch:status().state)
    assert.equal(3, #batch:wait(10))
  end)

  it("gives each receipt once and in its place, however it is waited for", function()
    sink = support.sink()
    local list = messages(1500)
    list[700].deliver_at = socket.gettime() + 2 -- the others come before
    local batch = assert(hub:send_batch(list))
    local inner = {}
    batch:on_progress(function(done, total)
      if #inner < 3 and done < total then inner[#inner + 1] = { batch:wait(0.001) } end
    end)
    local receipts
    local waits = 0
    repeat
      receipts = batch:wait(0.05)
      waits = waits + 1
    until receipts
    assert.truthy(waits > 1)
    assert.truthy(#inner > 0)
    assert.equal(1500, #receipts)
    for index, receipt in ipairs(receipts) do
      assert.equal(batch[index].id, receipt.id)
      assert.equal("delivered", receipt.status)
    end
    local again = batch:wait(10)
    assert.same(receipts, again)
    assert.are_not.equal(receipts, again)
    assert.are_not.equal(receipts[1], again[1])
    for _, answer in ipairs(inner) do
      assert.is_nil(answer[1])
      assert.equal("timeout", answer[3])
    end
  end)

  it("counts what failed (fault 1)", function()
    sink = support.sink()
    local list = messages(3)
    list[4], list[5] = failing(), failing()
    local batch = assert(hub:send_batch(list))
    local receipts = batch:wait(10)
    assert.equal("failed", receipts[4].status)
    local status = batch:status()
    assert.same({ id = batch.id, state = "partial", total = 5, settled = 5, failed = 2, delivered = 3 }, status)
    batch = assert(hub:send_batch { failing(), failing() })
    batch:wait(10)
    assert.equal("failed", batch:status().state)
    assert.equal(2, batch:status().failed)
  end)

  it("gives results as they settle, and the loop ends (fault 5)", function()
    sink = support.sink()
    local wanted, order = { 2, 4, 3, 1 }, {}
    local batch = assert(hub:send_batch(messages(4, { deliver_at = os.time() + 3600 })))
    batch[wanted[1]]:cancel()
    for index, receipt in batch:results() do
      order[#order + 1] = index
      assert.equal(batch[index].id, receipt.id)
      if #order < 4 then batch[wanted[#order + 1]]:cancel() end
    end
    assert.same(wanted, order)
  end)

  it("gives every reader every result, also afterwards (fault 5)", function()
    sink = support.sink { delay = 0.05 }
    local batch = assert(hub:send_batch(messages(10)))
    local first = {}
    for index in batch:results() do
      first[#first + 1] = index
      if #first == 3 then
        local inner = 0
        for _ in batch:results() do inner = inner + 1 end
        assert.equal(10, inner)
      end
    end
    local second = {}
    for index in batch:results() do second[#second + 1] = index end
    assert.equal(10, #first)
    assert.same(first, second)
  end)

  it("drops no value, whatever its readers do (fault 5)", function()
    sink = support.sink()
    local batch = assert(hub:send_batch(messages(200)))
    local counts = { 0, 0, 0 }
    hub:run(function()
      for reader = 1, 3 do
        hub:spawn(function()
          local seen = {}
          for index, receipt in batch:results() do
            assert.is_nil(seen[index])
            seen[index] = receipt.id
            counts[reader] = counts[reader] + 1
            if reader == 2 then hub:sleep(0) end
          end
        end)
      end
    end)
    assert.same({ 200, 200, 200 }, counts)
  end)

  it("tells its progress up to the end, and its completion once", function()
    sink = support.sink { delay = 0.02 }
    local figures, completions = {}, {}
    local batch = assert(hub:send_batch(messages(10), {
      on_progress = function(done, total) figures[#figures + 1] = { done, total } end,
    }))
    local same = batch:on_complete(function(receipts) completions[#completions + 1] = #receipts end)
    assert.equal(batch, same)
    batch:wait(10)
    assert.same({ 10, 10 }, figures[#figures])
    for i = 2, #figures do assert.truthy(figures[i][1] > figures[i - 1][1]) end
    assert.same({ 10 }, completions)
    local settled, total = batch:progress()
    assert.equal(10, settled)
    assert.equal(10, total)
  end)

  it("has run its callbacks when the loop over its results ends", function()
    sink = support.sink()
    local told
    local batch = assert(hub:send_batch(messages(5))):on_complete(function() told = true end)
    for _ in batch:results() do end -- luacheck: ignore 542
    assert.is_true(told)
  end)

  it("calls callbacks that are set after the end at once (fault 4)", function()
    sink = support.sink()
    local batch = assert(hub:send_batch(messages(3)))
    support.eventually(function() return batch:status().state ~= "running" end)
    local told = {}
    batch:on_complete(function(receipts) told.complete = #receipts end)
    batch:on_progress(function(done, total) told.progress = done .. "/" .. total end)
    assert.same({ complete = 3, progress = "3/3" }, told)
  end)

  it("cancels what has not settled: nothing of it arrives (fault 3)", function()
    sink = support.sink()
    local due = socket.gettime() + 3
    local list = messages(10, { deliver_at = due })
    list[1].deliver_at = nil
    local batch = assert(hub:send_batch(list))
    assert.equal("delivered", batch[1]:wait(10).status)
    assert.equal(9, batch:cancel())
    assert.equal(0, batch:cancel())
    local receipts = batch:wait(10)
    for i = 2, 10 do assert.equal("cancelled", receipts[i].status) end
    assert.equal("delivered", assert(hub:send_batch(messages(1, { deliver_at = due + 0.2 })))[1]:wait(20).status)
    assert.equal(2, sink:stop().arrivals)
  end)

  it("never shares an id with another (fault 9)", function()
    sink = support.sink()
    local seen = {}
    for _ = 1, 100 do
      local batch = assert(hub:send_batch(messages(1, { deliver_at = os.time() + 3600 })))
      assert.is_nil(seen[batch.id])
      seen[batch.id] = true
    end
  end)
end)
