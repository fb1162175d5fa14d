-- template_code: one title or body → one Lua function.
--
-- A text is parsed, what it includes is put in place, every expression's place is found, and code is written in which a line
-- of a person's is followed from the template to the error. The function gets the rendering, the message's variables, the
-- message, a table for the pieces and the globals; it returns its text, or has put it into the table.

local escape = require "template_escape"
local filters = require "template_filters"
local parse = require "template_parse"
local scope = require "template_scope"

local M = {}

local MOST_DEPTH = 16    -- of includes
local MOST_NODES = 20000 -- of a part with all that it includes
local MOST_JOINED = 40   -- pieces that are put together in one expression; more go through a table
local EXCERPT = 80       -- bytes of an expression in an error

local function excerpt(node)
  local code = node.code:match("^%s*(.-)%s*$"):gsub("%s+", " ")
  code = #code > EXCERPT and code:sub(1, EXCERPT) .. "…" or code
  return node.kind == "put" and "{{ " .. code .. " }}" or "{% " .. code .. " %}"
end

-- Puts the nodes of included templates in place of their tags. Each node is given its origin.
local function expand(context, nodes, origin, depth, into)
  for _, node in ipairs(nodes) do
    node.origin = origin
    if #into >= MOST_NODES then
      scope.fail(origin, node.line or 1, ("with what it includes it has more than %d pieces"):format(MOST_NODES))
    elseif node.kind ~= "include" then
      into[#into + 1] = node
    else
      local inner, inner_origin = context.included(node, origin, depth)
      expand(context, inner, inner_origin, depth + 1, into)
      context.open[node.name] = nil
    end
  end
  return into
end

function M.definition_of(value)
  return type(value) == "string" and { body = value } or value
end

-- Finds what an include tag names, for one platform and format.
local function includer(name, platform, format, options)
  local context = { open = { [name] = true } }
  function context.included(node, origin, depth)
    local wanted = node.name
    local definition = options.find and M.definition_of(options.find(wanted))
    if not definition then
      scope.fail(origin, node.line, ("there is no template '%s' to include"):format(wanted))
    elseif context.open[wanted] then
      scope.fail(origin, node.line, ("'%s' includes itself"):format(wanted))
    elseif depth >= MOST_DEPTH then
      scope.fail(origin, node.line, ("more than %d templates are included one inside the other"):format(MOST_DEPTH))
    end
    local variant = platform and type(definition[platform]) == "table" and definition[platform].body
      and definition[platform] or definition
    local written = variant.format or definition.format or format
    if type(variant.body) ~= "string" then
      scope.fail(origin, node.line, ("the template '%s' has no body to include"):format(wanted))
    elseif written ~= format then
      scope.fail(origin, node.line, ("the template '%s' is written in %s, this one in %s"):format(wanted, written, format))
    end
    context.open[wanted] = true
    local file = variant.origin
    local inner = {
      template = wanted, part = variant ~= definition and platform .. ".body" or "body", rule = origin.rule,
      file = file and file.file, first = file and file.body or 1,
    }
    return parse.parse(variant.body, function(line, message) scope.fail(inner, line, message) end), inner
  end
  return context
end

local function quoted(s)
  return (("%q"):format(s):gsub("\\\n", "\\n"))
end

-- Keys as Lua writes them ('"name"', "1") → values.
local function constants(keys)
  local values = {}
  for index, key in ipairs(keys) do
    values[index] = tonumber(key) or key:match("^[\"'](.*)[\"']$") or key
  end
  return values
end

local function default_of(defaults, path, root, keys)
  local value = defaults[path]
  if value == nil then
    value = defaults[root]
    for _, key in ipairs(keys) do
      value = type(value) == "table" and value[key] or nil
    end
  end
  return value
end

-- The code of one part grows here, and with it what its lines are in the template.
local function writer()
  local out, line, nodes = {}, 1, {}
  local self = { lines = nodes }
  -- `node` is whose code this is, when it is a person's: its lines are followed.
  function self.write(code, node)
    out[#out + 1] = code
    local first = line
    line = line + select(2, code:gsub("\n", ""))
    for each = first, node and line or first - 1 do
      nodes[each] = { origin = node.origin, line = node.line + each - first }
    end
  end
  function self.code()
    return table.concat(out)
  end
  return self
end

-- The place of an error in generated code: its line in the template, for Lua's own "at line N" too.
function M.translate(lines, message)
  local number, rest = tostring(message):match("^template:(%d+): (.*)$")
  local found = lines[tonumber(number)]
  local opened = (rest or ""):match("%(to close '[^']+' at line (%d+)%)")
  rest = (rest or tostring(message)):gsub("at line (%d+)", function(each)
    return lines[tonumber(each)] and "at line " .. lines[tonumber(each)].line
  end)
  return found or lines[tonumber(opened)], rest
end

-- Code that reads a path into the local `name`.
local function path_code(name, root, keys)
  local code
  if root == "message" or root == "variables" then
    code = ("local %s = %s "):format(name, root == "message" and "__m" or "__v")
  else
    local key = quoted(root)
    code = ("local %s = __v[%s] if %s == nil then %s = __m[%s] end "):format(name, key, name, name, key)
  end
  for _, key in ipairs(keys) do
    code = code .. ("if __type(%s) == \"table\" then %s = %s[%s] else %s = nil end "):format(name, name, name, key, name)
  end
  return code
end

local function check_expression(node, options)
  local made, message = options.load("return (" .. node.code .. "\n)", "=template", {})
  if not made then
    local line, rest = tostring(message):match("^template:(%d+): (.*)$")
    scope.fail(node.origin, node.line + (tonumber(line) or 1) - 1, ("%s in %s"):format(rest or message, excerpt(node)))
  end
end

local FOLLOWS = { ["else"] = true, ["elseif"] = true, ["end"] = true, ["until"] = true }

local function write_statement(self, node, index)
  local word = node.code:match("^%s*(%a*)")
  if node.code:find("^%s*return%s*;?%s*$") then
    self.write("do return end\n")
  else
    self.write(FOLLOWS[word] and " " or ("__s.at = %d "):format(index))
    self.write(parse.safe(node.code, true), node)
    self.write("\n")
  end
end

-- Writes code that leaves an expression's escaped text in the local `name`.
local function write_put(self, part, node, index, name)
  local mark = part.marks[index]
  if mark.root then
    self.write(path_code(name, mark.root, mark.tokens))
  else
    self.write(("__s.at = %d local %s = ("):format(index, name))
    self.write(parse.safe(node.code), node)
    self.write("\n) ")
  end
  self.write(("if __type(%s) ~= \"string\" then %s = __show(__s, %d, %s) end "):format(name, name, index, name))
  local escaped = node.escaped
  if escaped then
    local number = part.escapes[escaped]
    if not number then
      number = #part.escapes + 1
      part.escapes[number], part.escapes[escaped] = escaped, number
    end
    self.write((node.refuses and "%s = __checked(__s, %d, __e%d, %s)\n" or "%s = __e%d(%s)\n")
      :format(table.unpack(node.refuses and { name, index, number, name } or { name, number, name })))
  else
    self.write("\n")
  end
end

local REFUSING = { url = true, css = true }

-- Finds the place of every expression.
local function settle_places(nodes, format, places)
  local tracker = escape.tracker[format]()
  for _, node in ipairs(nodes) do
    if node.kind == "text" then
      tracker.text(node.text)
    elseif node.kind == "do" then
      tracker.statement()
    else
      if not node.raw then
        local where, problem = tracker.place()
        if not where then
          scope.fail(node.origin, node.line, ("%s: %s"):format(excerpt(node), problem))
        end
        node.escaped, node.refuses = places[where], REFUSING[where]
      end
      tracker.put()
    end
  end
end

-- Blocks open and close inside of one part: what is left over would end the code around it.
local function check_blocks(nodes)
  local stack = {}
  for _, node in ipairs(nodes) do
    local extra = node.kind == "do" and parse.blocks(node, stack)
    if extra then
      scope.fail(node.origin, node.line, ("there is nothing open that '%s' could close"):format(extra))
    end
  end
  local open = stack[#stack]
  if open then
    scope.fail(open.node.origin, open.node.line, ("%s is never closed: {%% end %%} is missing"):format(excerpt(open.node)))
  end
end

-- Notes what each tag reads. A name that a statement may set is not looked up in the message.
local function settle_names(part, nodes, template)
  local set, known = {}, {}
  for _, node in ipairs(nodes) do
    if node.kind == "do" then
      parse.declared(node.code, set)
      part.statements = true
    end
  end
  for _, names in ipairs { set, filters.filters, scope.LIBRARIES } do
    for name in pairs(names) do
      known[name] = true
    end
  end
  for _, node in ipairs(nodes) do
    if node.kind ~= "text" then
      local mark = { origin = node.origin, line = node.line, what = excerpt(node) }
      part.marks[#part.marks + 1] = mark
      node.mark = #part.marks
      local root, tokens = parse.path(node.kind == "put" and node.code or "")
      if root and not known[root] then
        mark.root, mark.tokens, mark.keys = root, tokens, constants(tokens)
        mark.path = node.code:match("^%s*(.-)%s*$")
        mark.default = default_of(template.defaults, mark.path, root, mark.keys)
      elseif node.kind ~= "do" or not parse.is_condition(node.code) then
        part.scoped = true
      end
      parse.each_name(node.code, known, function(path)
        template.names[#template.names + 1] = {
          name = path, line = mark.line, part = mark.origin.part, place = scope.place(mark.origin, mark.line),
        }
      end)
    end
  end
end

-- How the pieces of a part come together: "joined" at once; "grown" from statement to statement, where none repeats; or
-- "collected" one by one in a table, which minds how large they get.
local function way_of(part, nodes)
  if #nodes > MOST_JOINED or part.scoped and part.statements then
    return "collected"
  end
  return part.statements and "grown" or "joined"
end

-- The function's text.
local function generate(part, nodes)
  local self = writer()
  local way, pieces = way_of(part, nodes), {}
  local collected = way == "collected"
  local function flush()
    if #pieces > 0 then
      self.write("__r = __r .. " .. table.concat(pieces, " .. ") .. "\n")
      pieces = {}
    end
  end
  part.collects = collected
  self.write("return function(__s, __v, __m, __o, _ENV)\n")
  self.write(way == "grown" and "local __r = \"\"\n" or "")
  for index, node in ipairs(nodes) do
    if node.kind == "do" then
      flush()
      write_statement(self, node, node.mark)
    elseif node.kind == "put" then
      local name = collected and "__x" or "__" .. index
      self.write(collected and "do " or "")
      write_put(self, part, node, node.mark, name)
      self.write(collected and "__put(__s, __o, __x) end\n" or "")
      pieces[#pieces + 1] = not collected and name or nil
    elseif collected then
      self.write(("__put(__s, __o, %s)\n"):format(quoted(node.text)))
    else
      pieces[#pieces + 1] = quoted(node.text)
    end
  end
  if way == "joined" then
    self.write("return " .. (#pieces > 0 and table.concat(pieces, " .. ") or "\"\"") .. "\n")
  elseif way == "grown" then
    flush()
    self.write("return __r\n")
  end
  self.write("end")
  local names = { table.unpack(scope.HELPERS) }
  for index in ipairs(part.escapes) do
    names[#names + 1] = "__e" .. index
  end
  -- On the first line, so that lines stay what they were.
  return ("local %s = ... "):format(table.concat(names, ", ")) .. self.code(), self.lines
end

-- What a part's code is called with: the helpers, then its escapes.
local function with(escapes)
  local list = { scope.helpers() }
  return table.unpack(table.move(escapes, 1, #escapes, #list + 1, list))
end

-- A text → { run, marks, nodes, lines, scoped, collects }. One that is not `scoped` runs no code but what was made for it, and
-- looks names up where it compares. The nodes are for template_direct only, and may be dropped.
function M.compile(template, origin, source, format, platform, sink, options)
  local part = { marks = {}, escapes = {}, scoped = false, statements = false }
  local nodes = expand(includer(template.name, platform, format, options),
    parse.parse(source, function(line, message) scope.fail(origin, line, message) end), origin, 1, {})
  check_blocks(nodes)
  settle_names(part, nodes, template)
  settle_places(nodes, format, sink and escape.own_places(format, sink) or escape.places[format])
  for _, node in ipairs(nodes) do
    if node.kind == "put" and not part.marks[node.mark].root then
      check_expression(node, options)
    end
  end
  local code, lines = generate(part, nodes)
  local chunk, message = options.load(code, "=template", {})
  if not chunk then
    local found, rest = M.translate(lines, message)
    scope.fail(found and found.origin or origin, found and found.line or 1, rest)
  end
  part.run = chunk(with(part.escapes))
  part.lines, part.nodes, part.escapes = lines, nodes, nil
  return part
end

return M
