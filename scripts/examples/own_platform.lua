-- A platform of one's own: adapters/dingtalk.lua, beside this file, is all that DingTalk takes.
--
--   notifyhub receive --http 8080
--   NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/own_platform.lua
--
-- `script_path` names folders whose adapters/NAME.lua are platforms like the built-in ones: checked
-- options, limits, conversion of formats, target URLs, results. docs/platforms.md has the rest.
local notifyhub = require "notifyhub"

local http = os.getenv "NOTIFYHUB_HTTP"
if not http then
  io.stderr:write [[
NOTIFYHUB_HTTP is not set. Start a receiver, and say where it is:
  notifyhub receive --http 8080
  NOTIFYHUB_HTTP=127.0.0.1:8080 notifyhub run scripts/examples/own_platform.lua
]]
  os.exit(2)
end

local folder = arg[0]:match "^(.*)/" or "." -- where this example is

local function open(account)
  return notifyhub.new { script_path = { folder }, platforms = { dingtalk = account } }
end

print "1. Options are checked by the names that the adapter declares"
local hub, problem, code = open { tokn = "example" }
assert(not hub and code == "config")
print("  " .. problem)

hub = assert(open {
  token = "example",
  secret = notifyhub.secret "SEC-of-the-robot",
  base_url = "http://" .. http .. "/robot/send", -- the receiver instead of DingTalk
})

print "2. It is a platform like any other"
for _, platform in ipairs(assert(hub:platforms())) do
  if platform.name == "dingtalk" then
    print(("  %s: %s (%s://)"):format(platform.name, platform.summary, platform.schemes[1]))
  end
end

local function must_arrive(what, receipt, trouble)
  assert(receipt and receipt.status == "delivered", trouble)
  print(("  %s: %s"):format(what, receipt.status))
end

print "3. Text, markdown, and people to be told"
must_arrive("text", hub:send({ title = "Build 42", body = "passed", targets = { "dingtalk" } }, 10))
must_arrive("markdown", hub:send({
  title = "Deploy", body = "**v1.2** is out", format = "markdown", targets = { "dingtalk" },
}, 10))
must_arrive("@13800138000", hub:send({
  title = "Your turn", body = "to be on call",
  targets = { { platform = "dingtalk", type = "phone", value = "13800138000" } },
}, 10))
must_arrive("@all", hub:send({
  title = "Fire drill", body = "in ten minutes", targets = { "dingtalk" }, platform = { dingtalk = { at_all = true } },
}, 10))

print "4. The adapter's limits hold before anything is sent"
local receipt
receipt, problem, code = hub:send({ body = ("x"):rep(20001), targets = { "dingtalk" } }, 10)
assert(receipt.status == "failed" and code == "too_large")
print("  " .. problem)

hub:close(5)
