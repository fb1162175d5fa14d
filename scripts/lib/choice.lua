-- choice: ways to choose among targets. A choice is a value that may stand wherever a target may:
--
--   fallback { "slack", "email" }             the first that delivers
--   all { "slack", "email" }                  everyone; delivered when all are
--   any { "slack", "email" }                  everyone; delivered when one is
--   round_robin { "sms-a", "sms-b" }          by turns, over all workers
--   weighted { ["sms-a"] = 3, ["sms-b"] = 1 } by turns, three to one
--   healthiest { "sms-a", "sms-b" }           the one that did best lately
--
-- The last three choose who is tried first; when that one fails the others follow in order, so that a choice never loses a
-- message that somebody could have taken. lib/telling carries choices out.

local crypto = require "crypto"
local script = require "script"

local M = {}

-- What a script holds is an empty table that it cannot change; what it stands for is here.
local made = setmetatable({}, { __mode = "k" })
local Choice = { __metatable = false }

function Choice.__newindex()
  error("a choice cannot be changed", 2)
end

local MOST = 100 -- targets of one choice
local KEY_LONGEST = 200 -- bytes; the store, where turns are counted, takes some more
local DEEPEST = 16 -- lists in lists
local LONGEST = 4096 -- bytes of a target that a script names

local function fail(kind, ...)
  error({ code = "config", message = kind .. ": " .. string.format(...) }, 0)
end

function M.is(value)
  return made[value] ~= nil
end

-- What a choice is: { kind, items, key, turns }.
function M.of(value)
  return made[value]
end

-- A copy of a target that a script made, which the script cannot change any more.
function M.copy(target)
  return script.plain(target, made)
end

-- What is wrong with a target that a script made, to be read after "the target"; nil when nothing is.
function M.fault(value, depth)
  depth = depth or 1
  if value == "" then
    return "is empty"
  elseif type(value) == "string" and #value > LONGEST then
    return ("has more than %d bytes"):format(LONGEST)
  elseif type(value) == "string" or M.is(value) then
    return nil
  elseif type(value) ~= "table" then
    return ("is a %s, not a text or a table"):format(type(value))
  elseif depth > DEEPEST then
    return "has too many lists one inside the other"
  end
  if value.platform or value.value then
    for _, name in ipairs { "platform", "type", "value" } do
      if value[name] ~= nil and type(value[name]) ~= "string" then
        return ("has a %s as its %s"):format(type(value[name]), name)
      end
    end
    return nil
  end
  for key, inner in pairs(value) do
    if math.type(key) ~= "integer" then
      return ("has a field '%s'; there are platform, type and value"):format(tostring(key))
    end
    local fault = M.fault(inner, depth + 1)
    if fault then
      return ("[%d] %s"):format(key, fault)
    end
  end
end

local function check(kind, items)
  if type(items) ~= "table" then
    fail(kind, "takes a table of targets, not a %s", type(items))
  elseif #items == 0 then
    fail(kind, "needs at least one target")
  elseif #items > MOST then
    fail(kind, "has %d targets, at most %d are allowed", #items, MOST)
  end
  for index, item in ipairs(items) do
    local fault = M.fault(item)
    if fault then
      fail(kind, "target %d %s", index, fault)
    end
  end
  for key in pairs(items) do
    if math.type(key) ~= "integer" or key < 1 or key > #items then
      fail(kind, "'%s' is no place in a list of targets", tostring(key))
    end
  end
end

-- What a target is called in a choice's key.
local function called(item)
  if type(item) == "string" then
    return item
  elseif M.is(item) or item.value or item.platform then
    return M.is(item) and made[item].key or item.value or item.platform
  end
  local parts = {}
  for index, inner in ipairs(item) do
    parts[index] = called(inner)
  end
  return "{" .. table.concat(parts, " ") .. "}"
end

-- What a choice is known by over all workers and generations: its kind and what it chooses among.
local function key_of(kind, items)
  local parts = { kind }
  for index, item in ipairs(items) do
    parts[index + 1] = called(item)
  end
  local key = table.concat(parts, " ")
  return #key > KEY_LONGEST and ("%s %s"):format(kind, crypto.hex(crypto.sha256(key))) or key
end

local function make(kind, items)
  items = type(items) == "table" and M.copy(items) or items
  check(kind, items)
  local handle = setmetatable({}, Choice)
  made[handle] = { kind = kind, items = items, key = key_of(kind, items) }
  return handle
end

local makers = {}

for _, kind in ipairs { "fallback", "all", "any", "round_robin", "healthiest" } do
  makers[kind] = function(items)
    return make(kind, items)
  end
end

-- A turn for each unit of weight, spread out: 3 to 1 is a a b a, not a a a b.
local function spread(names, weights)
  local total, turns, credit = 0, {}, {}
  for _, name in ipairs(names) do
    total = total + weights[name]
    credit[name] = 0
  end
  for turn = 1, total do
    local best
    for index, name in ipairs(names) do
      credit[name] = credit[name] + weights[name]
      if not best or credit[name] > credit[names[best]] then
        best = index
      end
    end
    credit[names[best]] = credit[names[best]] - total
    turns[turn] = best
  end
  return turns
end

function makers.weighted(weights)
  if type(weights) ~= "table" then
    fail("weighted", "takes a table of targets and weights, not a %s", type(weights))
  end
  local names, total = {}, 0
  for name, weight in pairs(weights) do
    if type(name) ~= "string" or math.type(weight) ~= "integer" or weight < 1 then
      fail("weighted", "every target needs a whole number from 1 on: { slack = 3, email = 1 }")
    end
    names[#names + 1] = name
    total = total + weight
  end
  if total > 1000 then
    fail("weighted", "the weights add up to %d, at most 1000 is allowed", total)
  end
  table.sort(names)
  local handle = make("weighted", names)
  made[handle].turns = spread(names, weights)
  return handle
end

-- What rules call: an error names their place.
M.makers = {}
for kind, maker in pairs(makers) do
  M.makers[kind] = function(items)
    local ok, handle = pcall(maker, items)
    if not ok then
      local problem = type(handle) == "table" and handle or { code = "config", message = ("%s: %s"):format(kind, handle) }
      error({ code = problem.code, message = script.where(1) .. problem.message }, 0)
    end
    return handle
  end
end

-- What a choice does when it is called in a handler: sends the message to it.
function M.on_call(send)
  Choice.__call = function(self, message, options)
    return send(message, self, options)
  end
end

-- The targets in the order in which they are tried, the first of which is number `first`.
local function from(items, first)
  local order = {}
  for index = 1, #items do
    order[index] = items[(first + index - 2) % #items + 1]
  end
  return order
end

-- The targets in the order in which they are to be tried. `turn(key)` counts up over all workers; `score(target)` is from 0
-- to 1. `self` is what M.of gives.
function M.order(self, turn, score)
  if self.kind == "fallback" then
    return self.items
  elseif self.kind == "round_robin" then
    return from(self.items, turn(self.key) % #self.items + 1)
  elseif self.kind == "weighted" then
    return from(self.items, self.turns[turn(self.key) % #self.turns + 1])
  end
  local scores, places = {}, {}
  for index, item in ipairs(self.items) do
    scores[index], places[index] = score(item), index
  end
  table.sort(places, function(a, b)
    if scores[a] ~= scores[b] then
      return scores[a] > scores[b]
    end
    return a < b
  end)
  local order = {}
  for index, place in ipairs(places) do
    order[index] = self.items[place]
  end
  return order
end

return M
