-- Feishu beyond plain text: cards, priorities, mentions, and messages made from a template.
--
--   notifyhub receive --http 8080
--   NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/feishu_advanced.lua
--
-- With the address of a real bot in `webhook_url` and its key in `secret` the same messages appear
-- in its group. Feishu answers 200 to messages that it refuses; the receipt has what it meant.
local notifyhub = require "notifyhub"

local http = os.getenv "NOTIFYHUB_HTTP"
if not http then
  io.stderr:write [[
NOTIFYHUB_HTTP is not set. Start a receiver, and say where it is:
  notifyhub receive --http 8080
  NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/feishu_advanced.lua
]]
  os.exit(2)
end

local hub = assert(notifyhub.new {
  platforms = {
    feishu = {
      webhook_url = "http://" .. http .. "/open-apis/bot/v2/hook/example",
      secret = notifyhub.secret "the bot's signing key", -- never printed, not even in errors
      keywords = { "ops" },                              -- put before a message that has none
    },
  },
})

local function must_arrive(what, receipt, problem)
  assert(receipt and receipt.status == "delivered", problem)
  print(("  %s: %s"):format(what, receipt.status))
end

print "1. A batch: an urgent alert, a report in markdown, a reminder"
local batch = assert(hub:send_batch {
  { title = "Database down", body = "**db-1** does not answer since 10:42", format = "markdown",
    priority = "urgent", targets = { "feishu" } }, -- the card's header is red
  { title = "Weekly report", body = "- **1,204** orders\n- [dashboard](https://example.com/dashboard)",
    format = "markdown", targets = { "feishu" } }, -- blue
  { title = "Reminder", body = "The ops meeting begins at 15:00.", priority = "low",
    targets = { "feishu" } }, -- not markdown: a plain text
})
for index, receipt in ipairs(assert(batch:wait(10))) do
  must_arrive("message " .. index, receipt, receipt.error)
end

print "2. A card of one's own, sent as it is"
must_arrive("card", hub:send({
  title = "Approval", -- for other platforms; Feishu shows the card
  targets = { "feishu" },
  platform = { feishu = { card = {
    config = { wide_screen_mode = true },
    header = { template = "blue", title = { tag = "plain_text", content = "Release 2.1 waits for approval" } },
    elements = {
      { tag = "div", text = { tag = "lark_md", content = "**Who:** Lin\n**Risk:** low" } },
      { tag = "action", actions = {
        { tag = "button", type = "primary", url = "https://example.com/releases/2.1",
          text = { tag = "plain_text", content = "Open" } },
      } },
    },
  } } },
}, 10))

print "3. Sent now, waited for later"
local handle = assert(hub:send_async { title = "Build 42", body = "has begun", targets = { "feishu" } })
print("  meanwhile it is " .. handle:status().state)
must_arrive("async", handle:wait(10))

print "4. A deployment notice from a template and its variables"
-- {{ name }} in title and body stands for a variable; one that is not given is an error, not a gap.
local deployment = {
  title = "Deployment of {{ service }}", format = "markdown", targets = { "feishu" },
  body = "**{{ service }}** {{ build.version }} is on {{ build.environment }}\n\n- by {{ author }}\n- took {{ seconds }} s",
}
deployment.variables = {
  service = "shop", build = { version = "v1.4.2", environment = "production" }, author = "Wei", seconds = 48,
}
must_arrive("template", hub:send(deployment, 10))
deployment.variables = { service = "shop" }
local _, problem = hub:send(deployment, 10)
print("  without the others: " .. assert(problem, "it must not be sent"))

print "5. Nested metadata: kept with the message, and told to platforms that carry data"
must_arrive("metadata", hub:send({
  title = "Checkout is slow", body = "p99 is 2.4 s", priority = "high", targets = { "feishu", "json://" .. http .. "/audit" },
  metadata = { service = { name = "checkout", region = "eu-1" }, figures = { p50 = 0.2, p99 = 2.4 },
               tags = { "latency", "ops" } },
}, 10))

print "6. @all"
must_arrive("everyone", hub:send({
  title = "Fire drill", body = "in ten minutes", targets = { "feishu" },
  platform = { feishu = { mentions = { "all" } } },
}, 10))

hub:close(5)
