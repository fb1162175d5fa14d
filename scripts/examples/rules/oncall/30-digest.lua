-- What has a low priority is told together, every ten minutes: the first message of a digest waits for the others, which only
-- leave their text in the store.

local EVERY = 10 * 60

route {
  name = "digest",
  match = { priority = "low" },
  handle = function(message)
    store.push("digest", ("- %s: %s"):format(message.title or "", message.body or ""))
    if not store.add("digest is under way", true, { ttl = EVERY }) then
      return true -- somebody else's digest has it
    end
    sleep(EVERY)
    local lines = store.pop_all("digest")
    if #lines == 0 then
      return true
    end
    local title = ("%d %s in ten minutes"):format(#lines, #lines == 1 and "message" or "messages")
    send({ title = title, body = table.concat(lines, "\n") }, "team-mail")
  end,
}
