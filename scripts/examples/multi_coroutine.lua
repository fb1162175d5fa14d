-- Many senders at once: coroutines where other languages take threads.
--
--   notifyhub receive --http 8080
--   NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/multi_coroutine.lua
--
-- Inside hub:run every wait of a task lets the other tasks go on, so fifty concurrent senders are
-- fifty coroutines of this one thread; the transfers themselves happen in the hub's workers.
local notifyhub = require "notifyhub"

local http = os.getenv "NOTIFYHUB_HTTP"
if not http then
  io.stderr:write [[
NOTIFYHUB_HTTP is not set. Start a receiver, and say where it is:
  notifyhub receive --http 8080
  NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/multi_coroutine.lua
]]
  os.exit(2)
end

local hub = assert(notifyhub.new { workers = { min = 2, max = 4 }, queue = { capacity = 1000 } })

local function message(title, priority)
  return { title = title, body = "sent by a coroutine", priority = priority,
           targets = { "json://" .. http .. "/multi" } }
end

local tasks = 0 -- how many of ours are running

-- Runs fn(1) … fn(count) as tasks, and waits for all of them.
local function concurrently(count, fn)
  local started = {}
  for index = 1, count do
    started[index] = hub:spawn(function()
      tasks = tasks + 1
      fn(index)
      tasks = tasks - 1
    end)
  end
  hub:sleep(0) -- they begin
  print(("  %d tasks on %d workers"):format(tasks, hub:stats().workers.count))
  for _, task in ipairs(started) do task:wait() end
end

-- Runs one part of the example and prints how long it took. `uptime` is the hub's own clock.
local function part(title, fn)
  local begun = hub:stats().uptime
  print(title)
  fn()
  print(("  took %.0f ms\n"):format((hub:stats().uptime - begun) * 1000))
end

hub:run(function()
  part("1. Ten senders, each with callbacks, each waiting for its receipt", function()
    local completed = 0
    concurrently(10, function(index)
      local handle = assert(hub:send_async(message("single " .. index)))
      handle:on_complete(function() completed = completed + 1 end)
      handle:on_error(function(failed, problem) print("  " .. failed.title .. ": " .. problem) end)
      assert(assert(handle:wait(30)).status == "delivered")
    end)
    print(("  %d on_complete callbacks ran"):format(completed))
    assert(completed == 10)
  end)

  part("2. Three batches of twenty, each with a reader of its progress", function()
    concurrently(3, function(number)
      local messages = {}
      for index = 1, 20 do messages[index] = message(("batch %d, %d"):format(number, index)) end
      local batch = assert(hub:send_batch(messages))
      local reports, last = 0, 0
      batch:on_progress(function(done) reports, last = reports + 1, done end)
      assert(batch:wait(30))
      local status = batch:status()
      print(("  batch %s: %d of %d delivered, %d progress reports, the last of %d"):format(
        batch.id, status.delivered, status.total, reports, last))
      assert(status.delivered == 20 and last == 20)
    end)
  end)

  part("3. A mixture: five urgent ones, two batches of eight, and one that comes later", function()
    concurrently(8, function(index)
      if index <= 5 then
        assert(hub:send(message("urgent " .. index, "urgent"), 30))
      elseif index <= 7 then
        local messages = {}
        for place = 1, 8 do messages[place] = message(("mixed %d, %d"):format(index, place)) end
        for _, receipt in ipairs(assert(assert(hub:send_batch(messages)):wait(30))) do
          assert(receipt.status == "delivered", receipt.error)
        end
      else
        hub:sleep(1) -- only this task: the others are long done by then
        local receipt = assert(hub:send(message("a second later", "low"), 30))
        print("  the late one was " .. receipt.status)
      end
    end)
  end)

  part("4. Fifty messages through fifteen slots", function()
    local begun, taken, delivered = hub:stats().uptime, 0, 0
    -- A slot takes the next message until none is left. No lock is needed: tasks change over only
    -- where one of them waits.
    concurrently(15, function()
      while taken < 50 do
        taken = taken + 1
        local receipt = assert(hub:send(message("stress " .. taken), 30))
        if receipt.status == "delivered" then delivered = delivered + 1 end
      end
    end)
    print(("  %d of 50 delivered, %.0f messages a second"):format(
      delivered, delivered / (hub:stats().uptime - begun)))
    assert(delivered == 50)
  end)
end)

assert(hub:close(5) == 0, "messages were left behind")
print(("%d messages delivered"):format(hub:stats().delivered))
