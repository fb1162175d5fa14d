-- The configuration of the on-call example: who can be told, and where the rules are.
--
--   notifyhub receive --http 8080 --smtp 2525                         in one terminal
--   cd scripts/examples/rules && notifyhub send --title "Disk full" --metadata severity=critical
--
-- With the addresses of a real team in place of the receiver's this is a configuration to start from.
local receiver = "http://" .. env("NOTIFYHUB_HTTP", "127.0.0.1:8080")

return {
  rules = "oncall",
  platforms = {
    ["team-slack"] = { platform = "slack", webhook_url = receiver .. "/team" },
    ["oncall-slack"] = { platform = "slack", webhook_url = receiver .. "/oncall" },
    ["oncall-sms"] = { platform = "webhook", url = receiver .. "/sms" },
    ["team-mail"] = {
      platform = "email", host = "127.0.0.1", port = 2525, security = "none", from = "hub@example.com",
      to = { "team@example.com" },
    },
  },
  targets = {
    everyone = { "team-slack", "team-mail" },
  },
}
