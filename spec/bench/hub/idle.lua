-- The memory of a hub that does nothing: two workers, rules loaded.   rules=FOLDER target=URL
local notifyhub = require "notifyhub"
local support = require "spec.bench.hub.support"

local given = support.arguments {}
local hub = assert(notifyhub.new {
  workers = { min = 2, max = 2 }, rules = given.rules, targets = { sink = given.target },
})
collectgarbage()
hub:sleep(0.5)
print(support.memory "VmRSS")
assert(hub:close(10))
