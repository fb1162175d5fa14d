-- Rules that keep more and more: before the state in which they run is full another one takes its place, and no message is
-- lost on the way.
--
--   notifyhub run spec/flow/worn.lua [SECONDS]

local notifyhub = require "notifyhub"

local torture = require "spec.support.torture"

local SECONDS = math.max(tonumber(arg[1]) or 0, 14) -- a state is not replaced before it is ten seconds old
local STATE, PIECE, STEP = 8 << 20, 12 << 10, 0.02
local check, say = torture.check, torture.say

local root = torture.directory()
torture.write(root .. "/leak.lua", ([[
local kept = {}
route { name = "leak", handle = function(message)
  kept[#kept + 1] = ("x"):rep(%d) .. message.id
  sleep(0.01)
  return true
end }
]]):format(PIECE))

local hub = assert(notifyhub.new { rules = root, workers = { min = 1, max = 1 }, limits = { state_memory = STATE } })
local sent, settled, most, replaced, before = 0, 0, 0, 0, 0
local failures = {}

local function note(receipt)
  settled = settled + 1
  if receipt.status ~= "delivered" then
    local what = ("%s: %s"):format(receipt.code, receipt.error)
    failures[what] = (failures[what] or 0) + 1
  end
end

local began = torture.now()
local due = began
while torture.now() - began < SECONDS or replaced == 0 and torture.now() - began < SECONDS + 60 do
  if torture.now() - due > 1 then
    due = torture.now()
  end
  while due <= torture.now() do
    due, sent = due + STEP, sent + 1
    assert(hub:send_async({ title = "t" }, { on_complete = note }))
  end
  hub:poll(STEP)
  local memory = hub:stats().workers.memory
  most = math.max(most, memory)
  if memory < before / 2 then
    replaced = replaced + 1
  end
  before = memory
end
local patience = torture.now() + 30
while settled < sent and torture.now() < patience do
  hub:poll(0.02)
end

say("%d messages that keep %d bytes each; %.1f MB at most, %.1f MB at the end; the state was replaced %d times", sent, PIECE,
  most / 1e6, hub:stats().workers.memory / 1e6, replaced)
check(settled == sent, "%d of %d messages settled", settled, sent)
check(replaced > 0, "the state was not replaced")
for what, count in pairs(failures) do
  check(false, "%d messages failed: %s", count, what)
end
hub:close(5)
torture.shell("rm -rf %s", root)
torture.done()
