-- support: scripts/lib on a plain Lua 5.4. What the runtime gives in C is played as in spec/support/script_api.lua; the nearest
-- name is found by the fewest changed letters.

local api = require "spec.support.script_api"

local source = os.getenv "NH_SOURCE_DIR" or "."

local function distance(a, b)
  local row = {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal
    diagonal, row[0] = row[0], i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      diagonal, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
    end
  end
  return row[#b]
end

local function nearest(name, names)
  local best, least
  for _, each in ipairs(names) do
    local changes = distance(name, each)
    if changes <= 2 and (not best or changes < least) then
      best, least = each, changes
    end
  end
  return best
end

package.preload.json = function() return api.require "json" end
package.preload.task = function() return { nearest = nearest } end

local script = {}

function script.texts(...)
  local list = table.pack(...)
  for index = 1, list.n do
    local value = list[index]
    if type(value) == "number" then
      list[index] = math.type(value) == "float" and ("%.14g"):format(value) or tostring(value)
    elseif type(value) == "boolean" then
      list[index] = tostring(value)
    elseif type(value) ~= "string" then
      return
    end
  end
  return table.unpack(list, 1, list.n)
end

function script.is_line(s)
  return not s:find("[\r\n]")
end

function script.lacks(map, ...)
  for _, key in ipairs { ... } do
    if rawget(map, key) ~= nil then
      return false
    end
  end
  return getmetatable(map) == nil
end

package.preload.script = function() return script end

local M = {}

-- A module of scripts/lib.
function M.require(name)
  local path = package.path
  package.path = source .. "/scripts/lib/?.lua;" .. path
  local module = require(name)
  package.path = path
  return module
end

-- The message of what a call raises, which must be a configuration's error.
function M.refused(call, ...)
  local ok, problem = pcall(call, ...)
  assert(not ok, "it was taken")
  assert(type(problem) == "table" and problem.code == "config", tostring(problem))
  return problem.message
end

return M
