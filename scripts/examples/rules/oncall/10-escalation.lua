-- What is critical goes to whoever is on call. When nobody says within five minutes that they have it, the message gets
-- louder. Somebody says so by sending { metadata = { acknowledge = "the message's id" } }.

local ACKNOWLEDGE_WITHIN = 5 * 60

route {
  name = "acknowledged",
  match = { acknowledge = true }, -- whoever has that key in the metadata
  handle = function(message)
    store.set("acknowledged:" .. message.metadata.acknowledge, true, { ttl = 24 * 3600 })
    return true -- taken: nobody has to be told
  end,
}

route {
  name = "critical",
  match = { severity = { "critical", "page" } },
  handle = function(message)
    send(message, "oncall-slack", { template = "incident" })
    sleep(ACKNOWLEDGE_WITHIN)
    if store.get("acknowledged:" .. message.id) then
      return
    end
    message.title = "Nobody has it yet: " .. (message.title or message.id)
    send(message, all { "oncall-sms", "everyone" }, { template = "incident" })
  end,
}
