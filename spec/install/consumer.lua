-- A script of a stranger, for any Lua from 5.1 on: sends one message to the console and prints the outcome.
local notifyhub = require "notifyhub"

local hub = assert(notifyhub.new {})
local handle = assert(hub:send_async { title = "installed", targets = { "console://stderr" } })
local receipt = assert(handle:wait(10))
hub:close(5)
print(receipt.status)
