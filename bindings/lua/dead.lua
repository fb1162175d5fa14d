-- dead.lua — a hub's dead letters: the methods that look at them, send them again or forget them.

local native, lib = ...
local events = lib.events

local Hub = native.hub_methods

local LIMIT = 100 -- letters of a list, unless more are asked for

local function check_hub(self)
  return native.hub_state(self) or events.misuse(self, "a hub")
end

local function check_count(value, what)
  if type(value) ~= "number" or value < 0 or value ~= math.floor(value) then
    error(what .. ": a whole number that is not negative expected, got " .. tostring(value), 3)
  end
  return value
end

-- Letters with numbers above `after`, the oldest first; or nil, message, code.
function Hub:dead_letters(options)
  check_hub(self)
  if options ~= nil and type(options) ~= "table" then
    error("options: a table expected, got " .. type(options), 2)
  end
  options = options or {}
  for name in pairs(options) do
    if name ~= "after" and name ~= "limit" then error("options: unknown option '" .. tostring(name) .. "'", 2) end
  end
  return native.dead_letters(self, check_count(options.after or 0, "after"), check_count(options.limit or LIMIT, "limit"))
end

function Hub:dead_letter(number)
  check_hub(self)
  return native.dead_letter(self, check_count(number, "number"))
end

-- A number, or "all".
local function which(number)
  if number == "all" then return 0 end
  if check_count(number, "number") == 0 then error("number: the first is 1", 3) end
  return number
end

function Hub:retry_dead(number)
  check_hub(self)
  return native.retry_dead(self, which(number))
end

function Hub:discard_dead(number)
  check_hub(self)
  return native.discard_dead(self, which(number))
end
