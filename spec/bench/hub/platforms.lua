-- Each message goes to ten accounts of five platforms, all of which are the same sink. Counts deliveries.
--   http=HOST:PORT count=DELIVERIES
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments { count = 10000 }
local base = "http://" .. given.http
local targets = { "slack", "slack-2", "feishu", "feishu-2", "lark", "lark-2", "hook", "signed",
                  "form://" .. given.http .. "/form", "xml://" .. given.http .. "/xml" }
local function account(platform, options)
  options.platform, options.rate, options.target_rate = platform, false, false
  return options
end
local hub = assert(notifyhub.new {
  workers = { min = 1, max = 1, in_flight = 50 },
  platforms = {
    slack = account("slack", { token = "xoxb-1", api_url = base .. "/slack/", channel = "#a" }),
    ["slack-2"] = account("slack", { token = "xoxb-2", api_url = base .. "/slack2/", channel = "#b" }),
    feishu = account("feishu", { webhook_url = base .. "/feishu" }),
    ["feishu-2"] = account("feishu", { webhook_url = base .. "/feishu2", secret = "s" }),
    lark = account("lark", { webhook_url = base .. "/lark" }),
    ["lark-2"] = account("lark", { webhook_url = base .. "/lark2", secret = "s" }),
    hook = account("webhook", { url = base .. "/hook" }),
    signed = account("webhook", { url = base .. "/signed", secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0" }),
  },
})

local message = support.message()
message.targets = targets
local function send(count)
  local batch = assert(hub:send_batch(support.repeated(message, math.max(count // #targets, 1))))
  assert(batch:wait(120))
  support.check(batch)
  return #batch * #targets
end
send(500)
local sent
local seconds, cpu = support.measure(hub, function() sent = send(given.count) end)
support.print(sent, seconds, cpu)
assert(hub:close(10))
