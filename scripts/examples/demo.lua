-- What NotifyHub does, in a few seconds: `./dev demo` runs this against a receiver that it starts.
--
--   notifyhub receive --http 8080 --smtp 2525
--   NOTIFYHUB_HTTP=127.0.0.1:8080 NOTIFYHUB_SMTP=127.0.0.1:2525 notifyhub run scripts/examples/demo.lua
--
-- Ends with 0 only when everything went as it says.
local notifyhub = require "notifyhub"

local http = os.getenv "NOTIFYHUB_HTTP"
local smtp_host, smtp_port = (os.getenv "NOTIFYHUB_SMTP" or ""):match "^(.+):(%d+)$"
if not http or not smtp_host then
  io.stderr:write [[
NOTIFYHUB_HTTP or NOTIFYHUB_SMTP is not set. Start a receiver, and say where it is:
  notifyhub receive --http 8080 --smtp 2525
  NOTIFYHUB_HTTP=127.0.0.1:8080 NOTIFYHUB_SMTP=127.0.0.1:2525 notifyhub run scripts/examples/demo.lua
]]
  os.exit(2)
end

-- The platforms' own addresses are replaced by the receiver's; it answers as each of them would.
local hub = assert(notifyhub.new {
  platforms = {
    webhook = { url = "http://" .. http .. "/hooks/deploys" },
    feishu = { webhook_url = "http://" .. http .. "/open-apis/bot/v2/hook/demo" },
    slack = { webhook_url = "http://" .. http .. "/services/T000/B000/demo" },
    email = { host = smtp_host, port = tonumber(smtp_port), security = "none", from = "notify@example.com",
              to = { "team@example.com" } },
  },
})

local function say(...)
  print(string.format(...))
  io.stdout:flush() -- in order with what the receiver shows
end

say "One message, four platforms: each gets it in its own form"
local handle = assert(hub:send_async {
  title = "Deploy of shop", body = "**v1.4.2** is on *production*\n\n- 12 changes\n- 0 errors", format = "markdown",
  priority = "high", targets = { "webhook", "feishu", "slack", "email" },
})
say("  %s is %s", handle.id, handle:status().state)
local receipt = assert(handle:wait(10))
for _, result in ipairs(receipt.results) do
  say("  %-8s %s in %.1f ms", result.platform, result.ok and "ok" or result.error, result.latency * 1000)
end
say("  so it is %s", receipt.status)
assert(receipt.status == "delivered" and #receipt.results == 4)

say "A batch of six, with its progress"
local messages = {}
for index = 1, 6 do
  messages[index] = { title = ("Job %d of 6"):format(index), body = "is done",
                      targets = { index % 2 == 0 and "slack" or "feishu" } }
end
local batch = assert(hub:send_batch(messages))
batch:on_progress(function(done, total) say("  %d of %d", done, total) end)
assert(batch:wait(10))
assert(batch:status().delivered == 6)

say "A message for later, taken back"
local later = assert(hub:send_async { title = "Never to be seen", deliver_at = os.time() + 3600, targets = { "slack" } })
say("  it is %s", later:status().state)
assert(later:cancel(), "it had not been sent")
say("  it is %s, and nobody will ever see it", assert(later:wait(10)).status)
assert(later:status().state == "cancelled")

say "A target that nobody listens at"
local lost = assert(hub:send_async {
  title = "Into the void", targets = { "json://127.0.0.1:1/" }, retry = { attempts = 1 },
})
local failed, problem, code = lost:wait(10)
say("  %s: %s (%s)", failed.status, problem, code)
assert(failed.status == "failed" and code == "network")

say "A mistake in a message"
local refused
refused, problem, code = hub:send_async { titel = "Hello", targets = { "slack" } }
say("  %s (%s)", problem, code)
assert(not refused and code == "invalid")

say "A burst of 1,000"
-- GET with the title only, so that each is one short line at the receiver.
local target = "json://" .. http .. "/burst?method=GET"
for _, field in ipairs { "message_id", "body", "format", "priority", "targets", "timestamp", "metadata" } do
  target = target .. "&:" .. field .. "="
end
local burst = {}
for index = 1, 1000 do burst[index] = { title = tostring(index), targets = { target } } end
local begun = hub:stats().uptime
batch = assert(hub:send_batch(burst))
assert(batch:wait(15))
local seconds = hub:stats().uptime - begun
local status = batch:status()
say("  %d of %d delivered in %.2f s: %.0f messages a second, each with a receipt", status.delivered, status.total,
  seconds, status.delivered / seconds)
assert(status.delivered == 1000)

assert(hub:close(5) == 0, "nothing is left behind")
local figures = hub:stats()
say("In all: %d delivered, %d failed, %d cancelled", figures.delivered, figures.failed, figures.cancelled)
assert(figures.delivered == 1007 and figures.failed == 1 and figures.cancelled == 1)
