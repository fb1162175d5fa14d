-- The configuration of the on-call example: who can be told, and where the rules are.
--
--   notifyhub receive --http 8080 --smtp 2525                 in one terminal
--   cd scripts/examples/rules                                 in another
--   notifyhub check
--   notifyhub test
--   notifyhub explain messages/critical.json                  what would become of it, five minutes in no time
--   notifyhub send --title Deployed --priority urgent         one message for the team
--
-- A critical message is under way until its handler has ended, and so is the command that sends it, five minutes here:
--
--   notifyhub send --title "Disk full" --body "99 %" --metadata severity=critical --metadata service=db
--
-- Whoever has it says so in the same hub, since that is where the store is; here, by a second line of the same batch:
--
--   { tr -d '\n' <messages/critical.json; echo; sleep 10; tr -d '\n' <messages/acknowledge.json; echo; } |
--     notifyhub send --batch -
--
-- With the addresses of a real team in place of the receiver's this is a configuration to start from.
local receiver = "http://127.0.0.1:8080"

return {
  rules = "oncall",
  platforms = {
    ["team-slack"] = { platform = "slack", webhook_url = receiver .. "/services/T000/B000/team" },
    ["oncall-slack"] = { platform = "slack", webhook_url = receiver .. "/services/T000/B000/oncall" },
    ["oncall-sms"] = { -- a gateway that wants a text and nothing else
      platform = "webhook", url = receiver .. "/sms",
      fields = {
        title = "text", message_id = "", body = "", format = "", priority = "", targets = "", timestamp = "", metadata = "",
      },
    },
    ["team-mail"] = {
      platform = "email", host = "127.0.0.1", port = 2525, security = "none", from = "hub@example.com",
      to = { "team@example.com" },
    },
  },
  targets = {
    everyone = { "team-slack", "team-mail" },
  },
}
