-- template_scope: what a template's code calls while it renders, and how places in templates are told to people.
--
-- A rendering belongs to one message: { message, template, part, marks, at, size, most, warnings, warned }. The names of an
-- expression are looked up here; those of plain paths by code that was made for them, which comes here only for what is no
-- string or not there.

local filters = require "template_filters"

local M = {}

local MOST_WARNINGS = 20 -- of one rendering
local EMPTY = {}

---------------------------------------------------------------------- places

-- Raises what is wrong with a template.
function M.config_error(place, message)
  error({ code = "config", message = ("%s: %s"):format(place, message) }, 0)
end

-- An origin: { template, part, file, first }. Where one of its lines is, for a person.
function M.place(origin, line)
  if origin.file then
    return ("%s:%d"):format(origin.file, origin.first + line - 1)
  end
  return ("template '%s', %s line %d"):format(origin.template, origin.part, line)
end

function M.fail(origin, line, message)
  local where = M.place(origin, line)
  M.config_error(origin.rule and not origin.file and origin.rule .. ": " .. where or where, message)
end

-- The same for an error of a message, which names the template first.
function M.told(mark)
  local where = M.place(mark.origin, mark.line)
  return mark.origin.file and ("template '%s', %s"):format(mark.origin.template, where) or where
end

-------------------------------------------------------------- while rendering

local function warn(rendering, mark, message)
  rendering.warned = rendering.warned or {}
  rendering.warnings = rendering.warnings or {}
  if not rendering.warned[mark] and #rendering.warnings < MOST_WARNINGS then
    rendering.warned[mark] = true
    rendering.warnings[#rendering.warnings + 1] = ("%s: %s"):format(M.told(mark), message)
  end
end

-- Names that mean code wherever they stand: a message's variable of the same name does not hide them.
M.LIBRARIES = { string = true, table = true, math = true, utf8 = true, os = true, json = true, coroutine = true }

-- What a name means in an expression, first to last: the template's functions, the rules' functions, the message's variables
-- and fields, the template's defaults, the rules' other globals.
local function lookup(rendering, name)
  if name == "message" then
    return rendering.message
  elseif name == "variables" then
    return rendering.message.variables or EMPTY
  elseif filters.filters[name] then
    return filters.filters[name]
  end
  local env = rendering.template.env
  local global = env[name]
  if global ~= nil and (type(global) == "function" or M.LIBRARIES[name]) then
    return global
  end
  local value = (rendering.message.variables or EMPTY)[name]
  if value == nil then
    value = rendering.message[name]
  end
  if value == nil then
    value = rendering.template.defaults[name]
  end
  return value == nil and global or value
end

-- The globals of a rendering's code.
function M.scope(rendering)
  return setmetatable({}, { __index = function(_, name) return lookup(rendering, name) end, __metatable = false })
end

-- Called by the generated code, under the names that begin with __.

local function at(value, ...)
  for index = 1, select("#", ...) do
    if type(value) ~= "table" then
      return nil
    end
    value = value[(select(index, ...))]
  end
  return value
end

local FIELD_DEFAULTS = { priority = "normal", format = "text" }

-- What a path that the message does not have is instead.
local function otherwise(rendering, mark)
  if mark.default ~= nil or not mark.root then
    return mark.default
  end
  local value = rendering.template.env[mark.root]
  for _, key in ipairs(mark.keys) do
    value = type(value) == "table" and value[key] or nil
  end
  if value == nil and #mark.keys == 0 then
    return FIELD_DEFAULTS[mark.root]
  end
  return value
end

-- The text of a value that is no string.
local function show(rendering, index, value)
  local mark = rendering.marks[index]
  rendering.at = index
  local s, problem = filters.show(value)
  if s == nil and not problem then
    s, problem = filters.show(otherwise(rendering, mark))
  end
  if problem == "a function" and mark.root then
    error(("'%s' is a function: call it"):format(mark.path), 0)
  elseif problem then
    error(("its value is %s, which no text can show"):format(problem), 0)
  elseif not s then
    warn(rendering, mark, mark.root and ("there is no '%s'"):format(mark.path) or mark.what .. " has no value")
  end
  return s or ""
end

-- For places that refuse some values.
local function checked(rendering, index, escaped, value)
  local s, problem = escaped(value)
  if problem then
    local mark = rendering.marks[index]
    warn(rendering, mark, ("the value of %s %s, and was left out"):format(mark.what, problem))
  end
  return s
end

M.TOO_LARGE = {}

local function put(rendering, out, piece)
  local size = rendering.size + #piece
  if size > rendering.most then
    error(M.TOO_LARGE, 0)
  end
  rendering.size = size
  out[#out + 1] = piece
end

-- As the generated code has them: their names, and the functions in the same order.
M.HELPERS = { "__type", "__at", "__show", "__checked", "__put" }

function M.helpers()
  return type, at, show, checked, put
end

return M
