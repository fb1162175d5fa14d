-- template_direct: the short way of templates that only say and compare what a message has, which most do.
--
-- The title and the body of such an entry become one Lua function that reads the message as a person would have written it:
-- each name and each table on the way is looked up once, and all pieces are put together in one concatenation. It knows
-- nothing of defaults, of the rules' own names, of warnings or of errors: where one of them comes in it says so, and the text
-- is made again in the long way (template_code.lua). Nothing is changed by that: it runs no code but what was written here.

local filters = require "template_filters"
local parse = require "template_parse"
local scope = require "template_scope"
local script = require "script"

local M = {}

local MOST_NODES = 40   -- of a part: Lua joins no more at once
local MOST_LOCALS = 120 -- of a function: Lua has 200, and 255 registers with what is being joined

local NONE = {} -- what a value that is no table has; read only

local function add(list, ...)
  list[#list + 1] = string.format(...)
end

local function fresh(self)
  self.locals = self.locals + 1
  return "__" .. self.locals
end

-- Values that are not all simple, as script.texts gives simple ones; or nothing.
local function shown(...)
  local list = { ... }
  for index = 1, select("#", ...) do
    local ok, s = pcall(filters.show, list[index])
    if not ok or not s then
      return nil
    end
    list[index] = s
  end
  return table.unpack(list)
end

------------------------------------------------------------------ looking up

-- The local that holds what the message says of a root. Lookups stand in the head, before anything that depends on them.
local function root_place(self, root)
  if root == "message" then
    return "__m"
  elseif root == "variables" then
    return "__v"
  end
  local place = self.places[root]
  if not place then
    place = fresh(self)
    self.places[root] = place
    add(self.head, "local %s = __v[%q] if %s == nil then %s = __m[%q] end", place, root, place, place, root)
  end
  return place
end

-- The local that holds the table in which a path's last key is looked up.
local function holder_place(self, root, keys)
  local value, path, holder = root_place(self, root), root, nil
  for index = 1, #keys do
    holder = index == 1 and (root == "message" or root == "variables") and value -- always a table
      or self.holders[path]
    if not holder then
      holder = fresh(self)
      self.holders[path] = holder
      add(self.head, "local %s = %s if __type(%s) ~= \"table\" then %s = __none end", holder, value, holder, holder)
    end
    value, path = ("%s[%s]"):format(holder, keys[index]), path .. "\0" .. keys[index]
  end
  return holder
end

-- An expression that reads a path.
local function read(self, root, keys)
  if #keys == 0 then
    return root_place(self, root)
  end
  return ("%s[%s]"):format(holder_place(self, root, keys), keys[#keys])
end

--------------------------------------------------------------------- writing

-- What is put in: a list of nodes, with the places and the values of them.
local function puts()
  return { nodes = {}, places = {}, values = {} }
end

local function write_escape(self, node)
  local number = self.escapes[node.escaped]
  if not number then
    number = #self.escapes + 1
    self.escapes[number], self.escapes[node.escaped] = node.escaped, number
  end
  add(self.body, node.refuses and "%s, __problem = __e%d(%s) if __problem then return false end" or "%s = __e%d(%s)",
    node.place, number, node.place)
end

-- Makes texts of values, all at once, and escapes them.
local function write_puts(self, list)
  local first = list.places[1]
  if not first then
    return
  end
  local places, values = table.concat(list.places, ", "), table.concat(list.values, ", ")
  add(self.body, "local %s = __texts(%s)", places, values)
  add(self.body, "if not %s then %s = __shown(%s) if not %s then return false end end", first, places, values, first)
  for _, node in ipairs(list.nodes) do
    if node.escaped then
      write_escape(self, node)
    end
  end
end

-- Pieces that no statement parts → the expressions that are to be joined. What has to be put in is added to `list`.
local function write_pieces(self, marks, nodes, list)
  local pieces = {}
  for index, node in ipairs(nodes) do
    if node.kind == "text" then
      pieces[index] = ("%q"):format(node.text):gsub("\\\n", "\\n")
    else
      local mark, at = marks[node.mark], #list.nodes + 1
      node.place = fresh(self)
      list.nodes[at], list.places[at], list.values[at] = node, node.place, read(self, mark.root, mark.tokens)
      pieces[index] = node.place
    end
  end
  return table.concat(pieces, " .. ")
end

local function write_condition(self, code)
  self.compares = self.compares or code:find("[<>]") ~= nil
  add(self.body, "%s", parse.replace_paths(code, function(root, keys)
    if not self.asked[root] then
      self.asked[root], self.asked[#self.asked + 1] = true, ("%q"):format(root)
    end
    return read(self, root, keys)
  end))
end

-- Writes a part → the expression of its text. What stands in a block is joined there first, into a local that else is "".
local function write_part(self, part)
  local pieces, run, depth = {}, {}, 0
  local function flush()
    if not run[1] then
      return
    end
    local list = depth > 0 and puts() or self.puts
    local joined = write_pieces(self, part.marks, run, list)
    if depth > 0 then
      write_puts(self, list)
      local place = fresh(self)
      add(self.head, "local %s = \"\"", place)
      add(self.body, "%s = %s", place, joined)
      joined = place
    end
    pieces[#pieces + 1], run = joined, {}
  end
  for _, node in ipairs(part.nodes) do
    if node.kind == "do" then
      flush()
      local word = node.code:match("^%s*(%a+)")
      depth = depth + (word == "if" and 1 or word == "end" and -1 or 0)
      write_condition(self, node.code)
    else
      run[#run + 1] = node
    end
  end
  flush()
  return pieces[1] and table.concat(pieces, " .. ") or "\"\""
end

------------------------------------------------------------------- compiling

local function is_free(template, root)
  return rawget(template.defaults, root) == nil and not filters.filters[root] and not scope.LIBRARIES[root]
end

-- Whether a part runs nothing, and asks for no name that may mean something beside the message's own.
local function is_plain(template, part)
  if part.scoped or #part.nodes > MOST_NODES or getmetatable(template.defaults) ~= nil then
    return false
  end
  local free = true
  for _, node in ipairs(part.nodes) do
    if node.kind == "do" then
      parse.replace_paths(node.code, function(root)
        free = free and is_free(template, root)
      end)
    end
  end
  return free
end

-- The whole function's text; of what it is loaded with: the helpers, then the escapes.
local function assemble(self, title, body)
  local blocks = self.body
  self.body = {}
  write_puts(self, self.puts)
  local names = { "__type", "__none", "__texts", "__shown", "__lacks", "__theirs" }
  for index in ipairs(self.escapes) do
    names[#names + 1] = "__e" .. index
  end
  return table.concat({
    ("local %s = ..."):format(table.concat(names, ", ")), "return function(__m, __v)", "local __problem",
    self.asked[1] and ("if not __lacks(__theirs, %s) then return false end"):format(table.concat(self.asked, ", ")) or "",
    table.concat(self.head, "\n"), table.concat(self.body, "\n"), table.concat(blocks, "\n"),
    ("return true, %s, %s"):format(title, body), "end",
  }, "\n")
end

-- The parts of an entry, either of which may be missing → a function(message, variables) → true, title, body; or false, when
-- the long way is needed. Whether it may raise is the second: then, too, the long way knows what to say. nil when there is no
-- short way. `load` is template.compile's.
function M.compile(template, title, body, load)
  if title and not is_plain(template, title) or body and not is_plain(template, body) then
    return nil
  end
  local self = {
    head = {}, body = {}, places = {}, holders = {}, escapes = {}, asked = {}, puts = puts(), locals = 0, compares = false,
  }
  local joined_title, joined_body = title and write_part(self, title), body and write_part(self, body)
  if self.locals > MOST_LOCALS then
    return nil
  end
  local code = assemble(self, joined_title or "nil", joined_body or "nil")
  local chunk = load(code, "=template", {})
  if not chunk then
    return nil
  end
  return chunk(type, NONE, script.texts, shown, script.lacks, template.env, table.unpack(self.escapes)), self.compares
end

return M
