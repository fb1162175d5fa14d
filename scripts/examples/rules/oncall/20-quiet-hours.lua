-- At night nobody is woken by what can wait: it is told in the morning, in UTC.

local FROM, UNTIL = 22, 7 -- hours

-- Seconds until the quiet hours end; 0 outside of them.
local function quiet_for()
  local hour, minute, second = os.date("!%H %M %S", now()):match("(%d+) (%d+) (%d+)")
  hour = tonumber(hour) + tonumber(minute) / 60 + tonumber(second) / 3600
  if hour >= UNTIL and hour < FROM then
    return 0
  end
  return ((UNTIL - hour) % 24) * 3600
end

route {
  name = "quiet-hours",
  match = function(message)
    return message.priority ~= "urgent" and message.priority ~= "low" and quiet_for() > 0
  end,
  handle = function(message)
    sleep(quiet_for())
    send(message, fallback { "team-slack", "team-mail" })
  end,
}
