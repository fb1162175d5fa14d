-- The shortest program that sends: what opening a hub takes until an answer is there.   target=URL [send=0: it does nothing]
local send, target = arg[2] ~= "send=0", arg[1]:match "^target=(.*)$"
if send then
  local hub = assert(require "notifyhub".new {})
  assert(hub:send({ title = "bench", targets = { target } }, 10))
end
os.exit(true, false)
