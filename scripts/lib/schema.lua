-- schema: checks a table against named fields, fills in defaults, and says what is wrong with it and what was meant.
--
-- A field: { type = "string" | "number" | "integer" | "boolean" | "list" | "table", required, default, one_of, min, max,
-- secret, help }. A list holds strings. Problems are raised as { code, message }, the message beginning with the field's path.

local task = require "task"

local M = {}

function M.fail(code, ...)
  error({ code = code, message = string.format(...) }, 0)
end

-- The known names of a schema, sorted.
function M.names(fields)
  local names = {}
  for name in pairs(fields) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- " (did you mean 'x'?)", or "".
function M.suggest(name, names)
  local near = type(name) == "string" and task.nearest(name, names)
  return near and (" (did you mean '%s'?)"):format(near) or ""
end

local function is_list(value)
  if type(value) ~= "table" then
    return false
  end
  for key, inner in pairs(value) do
    if math.type(key) ~= "integer" or type(inner) ~= "string" then
      return false
    end
  end
  return true
end

local TYPES = {
  string = function(value) return type(value) == "string" end,
  number = function(value) return type(value) == "number" and value == value end,
  integer = function(value) return math.type(value) == "integer" end,
  boolean = function(value) return type(value) == "boolean" end,
  table = function(value) return type(value) == "table" end,
  list = is_list,
}

local ARTICLES = { integer = "a whole number", list = "a list of strings" }

local function check_value(value, field, path, code)
  if not TYPES[field.type](value) then
    M.fail(code, "%s: must be %s, not a %s", path, ARTICLES[field.type] or "a " .. field.type, type(value))
  end
  if field.min and value < field.min or field.max and value > field.max then
    M.fail(code, "%s: must be between %s and %s", path, field.min or "-inf", field.max or "inf")
  end
  if field.one_of then
    for _, allowed in ipairs(field.one_of) do
      if value == allowed then
        return
      end
    end
    M.fail(code, "%s: must be one of %s", path, table.concat(field.one_of, ", "))
  end
end

-- Returns a copy of `values` with defaults. `code` is the error's (default "config").
function M.check(values, fields, path, code)
  code = code or "config"
  if type(values) ~= "table" then
    M.fail(code, "%s: must be a table, not a %s", path, type(values))
  end
  local prefix = path == "" and "" or path .. "."
  local checked = {}
  for name, value in pairs(values) do
    local field = fields[name]
    if not field then
      M.fail(code, "%s%s: unknown option%s", prefix, tostring(name), M.suggest(name, M.names(fields)))
    end
    check_value(value, field, prefix .. name, code)
    checked[name] = value
  end
  for name, field in pairs(fields) do
    if checked[name] == nil then
      if field.required then
        M.fail(code, "%s%s: is missing", prefix, name)
      end
      checked[name] = field.default
    end
  end
  return checked
end

return M
