-- All the rest: Slack, and when Slack does not take it, mail.

route { name = "team", to = fallback { "team-slack", "team-mail" } }

on("error", function(receipt, message)
  log.warn(("%s was not delivered: %s"):format(message.id, receipt.error))
end)
