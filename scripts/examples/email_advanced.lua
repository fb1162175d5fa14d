-- Mail beyond a line of text: markdown and HTML, attachments, copies, headers, several recipients.
--
--   notifyhub receive --smtp 2525
--   NOTIFYHUB_SMTP=127.0.0.1:2525 notifyhub run scripts/examples/email_advanced.lua
--
-- A real account is `{ provider = "gmail", user = …, password = … }`; TLS is then required and
-- verified. The receiver is on this machine and has none, which has to be said: security = "none".
local notifyhub = require "notifyhub"

local host, port = (os.getenv "NOTIFYHUB_SMTP" or ""):match "^(.+):(%d+)$"
if not host then
  io.stderr:write [[
NOTIFYHUB_SMTP is not set. Start a receiver, and say where it is:
  notifyhub receive --smtp 2525
  NOTIFYHUB_SMTP=127.0.0.1:2525 notifyhub run scripts/examples/email_advanced.lua
]]
  os.exit(2)
end

local folder = arg[0]:match "^(.*)/" or "." -- where this example is

local hub = assert(notifyhub.new {
  platforms = {
    email = { host = host, port = tonumber(port), security = "none",
              from = "notify@example.com", from_name = "Notify · 通知" },
  },
})

local function must_arrive(what, receipt, problem)
  assert(receipt and receipt.status == "delivered", problem)
  print(("  %s: %s to %d"):format(what, receipt.status, #receipt.results))
end

print "1. A batch: a welcome, a newsletter in markdown, a reminder of low priority"
local batch = assert(hub:send_batch {
  { title = "Welcome, Zoë", body = "Good to have you here.", targets = { "zoe@example.com" } },
  { title = "News of May", format = "markdown", targets = { "readers@example.com" }, -- goes out as HTML and text
    body = "# What is new\n\n- **Faster** search\n- [The whole list](https://example.com/news)",
    platform = { email = { list_unsubscribe = { "https://example.com/unsubscribe?u=7" }, list_unsubscribe_post = true } } },
  { title = "Invoice 17 is due", body = "next Monday", priority = "low", targets = { "zoe@example.com" } },
})
for index, receipt in ipairs(assert(batch:wait(10))) do
  must_arrive("message " .. index, receipt, receipt.error)
end

print "2. Attachments: one that the worker reads from its file, one whose bytes are given"
local file = assert(io.open(folder .. "/files/figures.xlsx", "rb"))
local figures = file:read "*a"
file:close()
must_arrive("attachments", hub:send({
  title = "The monthly report", body = "Both files are attached.", targets = { "board@example.com" },
  attachments = {
    { name = "report.pdf", content_type = "application/pdf", path = folder .. "/files/report.pdf" },
    { name = "figures.xlsx", content = figures,
      content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" },
  },
}, 10))

print "3. Several recipients, a copy and a blind copy: one mail, and a result for each recipient"
local receipt, problem = hub:send({
  title = "Minutes", body = "of the meeting", targets = { "ann@example.com", "bob@example.com" },
  platform = { email = { cc = { "team@example.com" }, bcc = { "archive@example.com" }, reply_to = "ann@example.com" } },
}, 10)
must_arrive("copies", receipt, problem)
for _, result in ipairs(receipt.results) do
  print(("    %s: %s, SMTP %d"):format(result.target, result.ok and "ok" or result.error, result.status_code))
end

print "4. Sent now, waited for later"
local handle = assert(hub:send_async { title = "Async", body = "no hurry", targets = { "zoe@example.com" } })
print("  meanwhile it is " .. handle:status().state)
must_arrive("async", handle:wait(10))

print "5. A login notice in HTML, from a template"
local page = [[
<h1>New login</h1>
<p>Hello {{ name }}, your account was used from <b>{{ place }}</b> ({{ device }}).</p>
<p><a href="https://example.com/sessions">Was it not you?</a></p>]]
-- Variables go into HTML as text: what people wrote cannot become markup.
must_arrive("HTML", hub:send({
  title = "New login from {{ place }}", format = "html", priority = "high", targets = { "zoe@example.com" }, body = page,
  variables = { name = "Zoë", place = "Lyon", device = "Firefox <Linux> & more" },
}, 10))

print "6. Metadata stays with the message; a mail shows it where it is told to"
local metadata = { ticket = "OPS-311", customer = { name = "Acme", tier = "gold" } }
local ticket = assert(hub:send_async({
  title = "Ticket " .. metadata.ticket, body = "was answered", targets = { "zoe@example.com" }, metadata = metadata,
  platform = { email = { headers = { ["X-Ticket"] = metadata.ticket, ["X-Tier"] = metadata.customer.tier } } },
}))
must_arrive("metadata", ticket:wait(10))

hub:close(5)
