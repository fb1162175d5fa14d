local support = require "spec.lua.binding.support"

local sanitized = (os.getenv "NH_SANITIZE" or "") ~= ""
local slow = os.getenv "NH_GC_STRESS" or sanitized

describe("under load", function()
  after_each(support.finish)

  local function exactly_once(sink, handles)
    sink:wait(#handles, 60)
    local ids, count = support.ids(sink)
    assert.equal(#handles, count)
    for _, handle in ipairs(handles) do assert.equal(1, ids[handle.id]) end
  end

  it("1000 messages through 50 tasks arrive exactly once each", function()
    local hub, sink = support.hub(), support.sink()
    local handles = {}
    hub:run(function()
      for _ = 1, 50 do
        hub:spawn(function()
          for _ = 1, 20 do
            local handle = assert(hub:send_async { title = "t", body = "b", targets = { sink.target } })
            handles[#handles + 1] = handle
            assert.equal("delivered", handle:wait(60).status)
          end
        end)
      end
    end)
    assert.equal(1000, #handles)
    exactly_once(sink, handles)
  end)

  it("a batch of 100 arrives exactly once each", function()
    local hub, sink = support.hub(), support.sink()
    local messages, handles = {}, {}
    for i = 1, 100 do messages[i] = { title = "t" .. i, targets = { sink.target } } end
    local batch = assert(hub:send_batch(messages))
    assert.equal(100, #batch:wait(60))
    for i = 1, #batch do handles[i] = batch[i] end
    exactly_once(sink, handles)
  end)

  it("callbacks of 1000 messages each run once", function()
    local hub, sink = support.hub(), support.sink { count = true }
    local told, again = 0, 0
    for _ = 1, 1000 do
      local seen
      assert(hub:send_async({ title = "t", targets = { sink.target } }, {
        on_complete = function()
          if seen then again = again + 1 end
          seen = true
          told = told + 1
        end,
      }))
    end
    while told < 1000 do assert.truthy(hub:poll(30) > 0) end
    assert.equal(0, hub:poll(0.05))
    assert.equal(1000, told)
    assert.equal(0, again)
  end)
end)

describe("memory", function()
  after_each(support.finish)

  local function collected()
    collectgarbage()
    collectgarbage()
    return collectgarbage "count"
  end

  -- Messages that are cancelled at once: it is about handles, not about transfers.
  local function drop(hub, count, callback)
    local message = { title = "t", body = "b", targets = { support.refused }, deliver_at = os.time() + 3600 }
    for _ = 1, count do
      local handle = assert(hub:send_async(message))
      if callback then handle:on_complete(callback) end
      handle:cancel()
    end
    support.idle(hub)
    repeat until hub:poll(0) == 0
  end

  local handles = slow and 2000 or 100000

  it("is where it was after 100000 handles that nobody waited for", function()
    local hub = support.hub()
    drop(hub, handles)
    local lua = collected()
    local resident = support.resident()
    drop(hub, handles)
    drop(hub, handles)
    assert.truthy(collected() <= lua * 1.05)
    if not slow then
      local now = support.resident()
      assert.truthy(now <= resident * 1.05 + 2 ^ 20, ("%d → %d bytes"):format(resident, now))
    end
  end)

  it("is where it was after 20000 handles with callbacks, and nothing refers to them", function()
    local hub = support.hub()
    local told = 0
    local function callback() told = told + 1 end
    drop(hub, handles / 5, callback)
    local lua = collected()
    drop(hub, handles / 5, callback)
    assert.equal(handles / 5 * 2, told)
    assert.truthy(collected() <= lua * 1.05)
  end)

  it("lets go of a callback once it has run", function()
    local hub = support.hub()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local held = {}
      weak[held] = true
      local handle = assert(hub:send_async { title = "t", targets = { support.refused }, deliver_at = os.time() + 999 })
      handle:on_complete(function() return held end)
      handle:cancel()
      handle:wait(10)
    end
    collected()
    assert.is_nil(next(weak))
  end)

  it("lets go of hubs that were closed, and of their files", function()
    -- By a file: io.popen holds both ends of its pipe for a moment, in which a quick shell counts one more.
    local function files()
      local name = os.tmpname()
      os.execute("ls /proc/$PPID/fd | wc -l >" .. name)
      local file = assert(io.open(name))
      local count = file:read "*n"
      file:close()
      os.remove(name)
      return count
    end
    local function once()
      local hub = support.hub()
      hub:fd()
      assert(hub:send_async { title = "t", targets = { support.refused }, retry = { attempts = 1 } }):wait(10)
      support.finish()
    end
    once()
    collected()
    local before = files()
    for _ = 1, slow and 5 or 20 do once() end
    collected()
    assert.truthy(files() <= before)
  end)
end)
