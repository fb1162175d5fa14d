-- What becomes of a message: callbacks, progress, results as they come in, and waiting.
--
--   notifyhub receive --http 8080
--   NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/async_callbacks.lua
--
-- send_async returns at once. Callbacks run in this thread, inside wait, poll, sleep, results and
-- close, one after the other; nothing of yours ever runs beside them.
local notifyhub = require "notifyhub"

local http = os.getenv "NOTIFYHUB_HTTP"
if not http then
  io.stderr:write [[
NOTIFYHUB_HTTP is not set. Start a receiver, and say where it is:
  notifyhub receive --http 8080
  NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/async_callbacks.lua
]]
  os.exit(2)
end

local hub = assert(notifyhub.new {})
local target = "json://" .. http .. "/async"
local nobody = "json://127.0.0.1:1/" -- where nothing listens: every connection is refused

print "1. One message, callbacks, and a wait"
local completed = 0
local handle = assert(hub:send_async { title = "Backup", body = "is done", targets = { target } })
handle:on_complete(function(receipt)
  completed = completed + 1
  print(("  on_complete: %s after %.0f ms"):format(receipt.status,
    (receipt.settled_at - receipt.created_at) * 1000))
end):on_error(function(_, problem)
  print("  on_error: " .. problem)
end)
local receipt = assert(handle:wait(10))
assert(receipt.status == "delivered" and completed == 1)

-- A callback that comes late is not lost, and any number may wait: all see the same receipt.
handle:on_complete(function() completed = completed + 1 end)
assert(completed == 2 and handle:wait().id == receipt.id)
print("  a second wait and a late callback saw it too: " .. handle:status().state)

print "2. A batch of three: progress, results as they settle, and the list"
local messages = {}
for index = 1, 3 do
  messages[index] = { title = "Report " .. index, body = "of three", targets = { target } }
end
local batch = assert(hub:send_batch(messages))
batch:on_progress(function(done, total) print(("  progress: %d of %d"):format(done, total)) end)
for index, each in batch:results() do -- ends by itself after the last
  print(("  result: message %d was %s"):format(index, each.status))
end
for index, each in ipairs(assert(batch:wait(10))) do -- in the order of the messages
  local result = each.results[1]
  print(("  listed: %d. %s, HTTP %d, attempt %d"):format(index, each.id, result.status_code, result.attempts))
  assert(each.status == "delivered")
end

print "3. All callbacks at once, for one that arrives and one that cannot"
local calls = { complete = 0, error = 0, progress = 0 }
local callbacks = {
  on_progress = function(done, total)
    calls.progress = calls.progress + 1
    print(("  on_progress: %d of %d deliveries"):format(done, total))
  end,
  on_complete = function(each) -- whatever came of it
    calls.complete = calls.complete + 1
    for _, result in ipairs(each.results) do
      print(("  on_complete: %s %s: %s"):format(result.platform, result.target,
        result.ok and "ok" or result.code .. ", " .. result.error))
    end
  end,
  on_error = function(message, problem, each) -- only when a target does not have it
    calls.error = calls.error + 1
    print(("  on_error: %s is %s: %s"):format(message.title, each.status, problem))
  end,
}
local good = assert(hub:send_async({ title = "Good", targets = { target } }, callbacks))
local bad = assert(hub:send_async({ title = "Bad", targets = { target, nobody }, retry = { attempts = 1 } }, callbacks))
assert(good:wait(10).status == "delivered")
local partial, problem, code = bad:wait(10)
assert(partial.status == "partial", "one of the two targets has it")
print(("  wait says: %s (%s)"):format(problem, code))

hub:close(5) -- callbacks that are left run here at the latest
assert(calls.complete == 2 and calls.error == 1 and calls.progress >= 2)
print "every callback ran as often as it should"
