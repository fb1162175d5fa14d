-- template_filters: the functions that a template's expressions have beside Lua's own. All take nil and give nil for it, so
-- that a missing variable is still told as missing; a wrong argument is an error of the template's line.

local json = require "json"
local text = require "text"

local M = {}

-- A value as a person reads it; nil for what is nothing, and for what cannot be read (nil and what it is).
function M.show(value)
  local kind = math.type(value) or type(value)
  if kind == "string" then
    return value
  elseif kind == "float" then
    return ("%.14g"):format(value)
  elseif kind == "integer" or kind == "boolean" then
    return tostring(value)
  elseif value == nil or value == json.null then
    return nil
  elseif kind ~= "table" and kind ~= "userdata" then
    return nil, "a " .. kind
  end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring then
    return tostring(value)
  elseif kind == "userdata" then
    return nil, "a userdata"
  end
  local items = {}
  for index, item in ipairs(value) do
    if type(item) == "table" then
      return json.encode(value)
    end
    items[index] = M.show(item) or ""
  end
  return #items > 0 and table.concat(items, ", ") or json.encode(value)
end

local function shown(value, name)
  local s, problem = M.show(value)
  if problem then
    error(("%s: cannot show %s"):format(name, problem), 3)
  end
  return s
end

M.filters = {}
local filters = M.filters

function filters.upper(x)
  local s = shown(x, "upper")
  return s and s:upper()
end

function filters.lower(x)
  local s = shown(x, "lower")
  return s and s:lower()
end

function filters.trim(x)
  local s = shown(x, "trim")
  return s and s:match("^%s*(.-)%s*$")
end

function filters.default(x, otherwise)
  if x == nil or x == "" or x == json.null then
    return otherwise
  end
  return x
end

-- `x` is seconds since the epoch; a format that begins with "!" is UTC, others local time.
function filters.date(format, x)
  if x == nil then
    return nil
  end
  local seconds = tonumber(x)
  if type(format) ~= "string" or not seconds or seconds ~= seconds or math.abs(seconds) > 1e12 then
    error("date: takes a format and seconds since the epoch", 2)
  end
  local ok, made = pcall(os.date, format, math.floor(seconds))
  if not ok then
    error("date: " .. tostring(made), 2)
  end
  return made
end

function filters.join(list, separator)
  if list == nil then
    return nil
  elseif type(list) ~= "table" then
    error("join: takes a list and what stands between", 2)
  end
  local items = {}
  for index, item in ipairs(list) do
    items[index] = shown(item, "join") or ""
  end
  return table.concat(items, separator or ", ")
end

-- At most n characters, the last of them "…" where something was cut off.
function filters.truncate(x, n)
  local s = shown(x, "truncate")
  if math.type(n) ~= "integer" or n < 0 then
    error("truncate: takes a text and a number of characters", 2)
  end
  return s and text.truncate(s, n)
end

function filters.json(x)
  return x ~= nil and json.encode(x) or nil
end

return M
