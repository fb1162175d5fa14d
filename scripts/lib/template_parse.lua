-- template_parse: a template's text → nodes, and what has to be known of the Lua inside of its tags. Nothing is run here.
--
-- Nodes: { kind = "text", text }, { kind = "put", code, line, raw } for {{ }} and {{{ }}}, { kind = "do", code, line } for
-- {% %}, { kind = "include", name, line }. Lines count from 1 at the text's beginning. Cost: linear in the text's length.

local M = {}

------------------------------------------------------------- Lua's tokens

local KEYWORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true until while")
  :gmatch("%a+") do
  KEYWORDS[word] = true
end

-- Where a quoted or long string, or a long comment, that begins at `at` ends; nil when it never does.
local function string_end(s, at)
  local level = s:match("^%[(=*)%[", at)
  if level then
    local _, stop = s:find("]" .. level .. "]", at, true)
    return stop
  end
  local quote, from = s:sub(at, at), at + 1
  while true do
    local mark = s:find("[\\\n" .. quote .. "]", from)
    local char = mark and s:sub(mark, mark)
    if char == quote then
      return mark
    elseif char ~= "\\" then
      return nil
    end
    from = mark + 2
  end
end

-- The token at or after `at`: kind ("name" "keyword" "number" "string" "comment" "mark" "broken"), first, last; nil at the end.
local function token(s, at)
  at = s:find("%S", at)
  if not at then
    return nil
  end
  local _, stop = s:find("^[%a_][%w_]*", at)
  if stop then
    return KEYWORDS[s:sub(at, stop)] and "keyword" or "name", at, stop
  elseif s:find("^%.?%d", at) then
    _, stop = s:find("^[%w_.]+", at)
    if s:find("^[eEpP][+-]%d", stop) then
      _, stop = s:find("^%w+", stop + 2)
    end
    return "number", at, stop
  elseif s:find("^%-%-", at) then
    stop = s:find("^%[=*%[", at + 2) and string_end(s, at + 2) or (s:find("\n", at, true) or #s + 1) - 1
    return "comment", at, stop
  elseif s:find("^[\"']", at) or s:find("^%[=*%[", at) then
    stop = string_end(s, at)
    return stop and "string" or "broken", at, stop or #s
  end
  _, stop = s:find("^[=~<>]=", at)
  return "mark", at, stop or at
end

-- All tokens of a piece of Lua but comments: { kind, text, first, last }.
local function tokens(code)
  local list, at = {}, 1
  while true do
    local kind, first, last = token(code, at)
    if not kind then
      return list
    elseif kind ~= "comment" then
      list[#list + 1] = { kind = kind, text = code:sub(first, last), first = first, last = last }
    end
    at = last + 1
  end
end

local function text_at(list, index)
  return list[index] and list[index].text
end

-- A path that begins with the name at `index`: its keys, each as Lua writes it, and the index of its last token.
local function path_at(list, index)
  local keys = {}
  while true do
    local mark, key = text_at(list, index + 1), list[index + 2]
    if mark == "." and key and (key.kind == "name" or key.kind == "keyword") then
      keys[#keys + 1] = '"' .. key.text .. '"'
      index = index + 2
    elseif mark == "[" and key and (key.kind == "string" or key.kind == "number") and text_at(list, index + 3) == "]" then
      keys[#keys + 1] = key.text
      index = index + 3
    else
      return keys, index
    end
  end
end

-- A code that is one name or a path of constant keys (metadata.a["b-c"][1]): its root and its keys; else nil.
function M.path(code)
  local list = tokens(code)
  if list[1] and list[1].kind == "name" then
    local keys, last = path_at(list, 1)
    if last == #list then
      return list[1].text, keys
    end
  end
end

-- Whether a token begins a call of what stands before it.
local function calls(each)
  return each ~= nil and (each.kind == "string" or each.text == "(" or each.text == "{" or each.text == ":")
end

-- What statements may be rewritten: those that only hold expressions, and no place to assign to.
local HEADS = { ["if"] = "then", ["elseif"] = "then", ["while"] = "do", ["for"] = "do" }

local function only_expressions(list)
  local stop = list[1] and HEADS[list[1].text]
  for index, each in ipairs(list) do
    if each.text == "function" or stop and each.text == stop and index < #list then
      return false
    end
  end
  return stop == nil or text_at(list, #list) == stop
end

local COMPARES = { ["and"] = true, ["or"] = true, ["=="] = true, ["~="] = true, ["<"] = true, ["<="] = true, [">"] = true,
                   [">="] = true }
local CONSTANTS = { ["nil"] = true, ["true"] = true, ["false"] = true }

-- The index after an operand (a path, a number, a plain string, a constant, each perhaps after `not`); nil when there is none.
local function operand_at(list, index)
  while text_at(list, index) == "not" do
    index = index + 1
  end
  local each = list[index]
  if not each then
    return nil
  elseif each.kind == "name" then
    local _, last = path_at(list, index)
    return last + 1
  elseif each.kind == "number" and tonumber(each.text) or CONSTANTS[each.text]
    or each.kind == "string" and each.text:find("^[\"'][^\"'\\%c]*[\"']$") then
    return index + 1
  end
end

-- Whether a statement is an `if` that only compares paths and constants, or an `else` or `end`: it calls nothing, sets nothing
-- and does not repeat.
function M.is_condition(code)
  local list = tokens(code)
  local head = text_at(list, 1)
  if head == "else" or head == "end" then
    return #list == 1
  elseif head ~= "if" and head ~= "elseif" then
    return false
  end
  local index = operand_at(list, 2)
  while index and COMPARES[text_at(list, index)] do
    index = operand_at(list, index + 1)
  end
  return index == #list and text_at(list, index) == "then"
end

-- The code with each path as write(root, keys, called) has it, keys as Lua writes them; nil leaves one as it is. Lines stay what
-- they were.
function M.replace_paths(code, write)
  local list, out, from, index = tokens(code), {}, 1, 1
  while list[index] do
    local each, before = list[index], text_at(list, index - 1)
    if each.kind == "name" and before ~= "." and before ~= ":" then
      local keys, last = path_at(list, index)
      local written = write(each.text, keys, calls(list[last + 1]))
      if written then
        local lines = select(2, code:sub(each.first, list[last].last):gsub("\n", ""))
        out[#out + 1] = code:sub(from, each.first - 1) .. written .. ("\n"):rep(lines)
        from = list[last].last + 1
      end
      index = last
    end
    index = index + 1
  end
  out[#out + 1] = code:sub(from)
  return table.concat(out)
end

local function safe_path(root, keys, called)
  return #keys > 0 and not called and ("__at(%s, %s)"):format(root, table.concat(keys, ", ")) or nil
end

-- The code with paths made safe: a.b.c becomes __at(a, "b", "c"), which is nil where a or a.b is.
function M.safe(code, is_statement)
  local list = tokens(code)
  if not only_expressions(list) or is_statement and not (list[1] and HEADS[list[1].text]) then
    return code
  end
  return M.replace_paths(code, safe_path)
end

-- The names that a statement may make local or assign to, added to a set.
function M.declared(code, set)
  local list, index = tokens(code), 1
  local declaring = false -- between `local`, `for` or `function` and what ends its names
  while list[index] do
    local each, following = list[index], text_at(list, index + 1)
    if each.text == "local" or each.text == "for" or each.text == "function" then
      declaring = true
    elseif declaring and (each.text == "=" or each.text == "in" or each.text == ")") then
      declaring = false
    elseif each.kind == "name" and text_at(list, index - 1) ~= "."
      and (declaring or following == "=" or following == ",") then
      set[each.text] = true
    end
    index = index + 1
  end
end

local OPENS = { ["if"] = true, ["for"] = true, ["while"] = true, ["function"] = true, ["repeat"] = true, ["do"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }

-- Follows blocks through the statements of a text: `stack` holds those that are open, as { word, node }. Returns the word that
-- closes nothing, or nil.
function M.blocks(node, stack)
  for _, each in ipairs(tokens(node.code)) do
    local top = stack[#stack]
    if each.text == "do" and top and top.wants_do then
      top.wants_do = nil
    elseif OPENS[each.text] and each.kind == "keyword" then
      local wants_do = each.text == "for" or each.text == "while"
      stack[#stack + 1] = { word = each.text, node = node, wants_do = wants_do }
    elseif CLOSES[each.text] and each.kind == "keyword" then
      if not top then
        return each.text
      end
      stack[#stack] = nil
    end
  end
end

-- Calls found(path) for every path of global-looking names in a code that is neither called nor in `known`.
function M.each_name(code, known, found)
  local list, index = tokens(code), 1
  while list[index] do
    local each, before = list[index], text_at(list, index - 1)
    if each.kind == "name" and before ~= "." and before ~= ":" and before ~= "goto" then
      local keys, last = path_at(list, index)
      local path = code:sub(each.first, list[last].last)
      if not known[each.text] and not calls(list[last + 1]) and not (#keys == 0 and text_at(list, index + 1) == "=") then
        found(path)
      end
      index = last
    end
    index = index + 1
  end
end

-- The first name that is kept for the code around the template's own; nil when there is none.
function M.reserved(code)
  for _, each in ipairs(tokens(code)) do
    if each.kind == "name" and each.text:find("^__") then
      return each.text
    end
  end
end

-------------------------------------------------------------------- tags

local TAGS = {
  ["{{{"] = { kind = "put", raw = true, stop = "^(%-?)}}}()" },
  ["{{"] = { kind = "put", stop = "^(%-?)}}()" },
  ["{%"] = { kind = "do", stop = "^(%-?)%%}()" },
}

-- Where a tag's code, which begins at `at`, ends: its last byte, whether "-" stood there, and where the text goes on.
local function tag_end(source, at, tag)
  local depth = 0
  while true do
    local kind, first, last = token(source, at)
    if not kind or kind == "broken" then
      return nil
    end
    local trim, after = source:match(tag.stop, first)
    if after and (depth == 0 or tag.kind == "do") then
      return first - 1, trim == "-", after
    end
    if kind == "comment" and not source:find("^%-%-%[=*%[", first) then -- ends with its tag or its line
      local from = first + 2
      last = first + 1
      while from <= #source and source:sub(from, from) ~= "\n" and not source:match(tag.stop, from) do
        last, from = from, from + 1
      end
    elseif kind == "mark" then
      local char = source:sub(first, first)
      depth = depth + (char == "{" and 1 or char == "}" and -1 or 0)
    end
    at = last + 1
  end
end

local function include_of(code)
  local quote, name = code:match("^%s*include%s*([\"'])([^\"']+)%1%s*$")
  return quote and name
end

-- Splits a source; whitespace is not yet trimmed: a node says whether "-" wants it to be, before and after it.
local function split(source, fail)
  local nodes, from, line = {}, 1, 1
  local function text(stop)
    local piece = source:sub(from, stop)
    nodes[#nodes + 1] = { kind = "text", whole = piece, first = 1, last = #piece }
    line = line + select(2, piece:gsub("\n", ""))
  end
  while true do
    local open = source:find("{[{%%#]", from)
    text((open or #source + 1) - 1)
    if not open then
      return nodes
    end
    local opener = source:match("^{{{", open) or source:sub(open, open + 1)
    local dash = source:match("^%-?", open + #opener)
    local node = { line = line, trim_before = dash == "-" }
    local begin, after = open + #opener + #dash, nil
    if opener == "{#" then
      local stop = source:find("#}", begin, true)
      if stop then
        node.kind, node.trim_after, after = "note", source:sub(stop - 1, stop - 1) == "-", stop + 2
      end
    else
      local tag = TAGS[opener]
      local stop, dashed, next_text = tag_end(source, begin, tag)
      node.trim_after, after = dashed, next_text
      if stop then
        node.code = source:sub(begin, stop)
        node.kind, node.raw = tag.kind, tag.raw
        node.name = tag.kind == "do" and include_of(node.code)
        if node.name then
          node.kind = "include"
        elseif tag.kind == "do" and node.code:find("^%s*include[%s\"']+[^=%s]") then
          fail(line, "include takes one name in quotes: {% include \"footer\" %}")
        elseif tag.kind == "put" and not node.code:find("%S") then
          fail(line, ("there is nothing between %s and its end"):format(opener))
        end
        local name = M.reserved(node.code)
        if name then
          fail(line, ("the name '%s' is not free: those that begin with __ are the runtime's"):format(name))
        end
      end
    end
    if not after then
      fail(line, ("%s is never closed"):format(opener))
    end
    line = line + select(2, source:sub(open, after - 1):gsub("\n", ""))
    nodes[#nodes + 1] = node
    from = after
  end
end

local SILENT = { ["do"] = true, note = true }

-- A line that holds nothing but {% %} and {# #} leaves nothing, not even its end. Nodes alternate: text, tag, text, …
local function drop_silent_lines(nodes)
  local index = 2
  while nodes[index] do
    local last = index
    while nodes[last + 2] and SILENT[nodes[last].kind] and nodes[last + 1].whole:find("^[ \t]*$") do
      last = last + 2
    end
    local left, right = nodes[index - 1], nodes[last + 1]
    local alone = SILENT[nodes[last].kind] and (left.whole:find("\n[ \t]*$") or index == 2 and left.whole:find("^[ \t]*$"))
    local stop = alone and (select(2, right.whole:find("^[ \t]*\r?\n")) or not nodes[last + 2]
      and right.whole:find("^[ \t]*$") and #right.whole)
    if stop then
      left.last = #left.whole:match("^(.-)[ \t]*$")
      right.first = stop + 1
      for inner = index + 1, last - 1, 2 do
        nodes[inner].last = 0
      end
    end
    index = last + 2
  end
end

local function trim(nodes)
  for index = 2, #nodes, 2 do
    local left, right = nodes[index - 1], nodes[index + 1]
    if nodes[index].trim_before then
      left.last = math.min(left.last, #left.whole:match("^(.-)%s*$"))
    end
    if nodes[index].trim_after then
      right.first = math.max(right.first, (right.whole:find("%S") or #right.whole + 1))
    end
  end
end

-- A template's text → its nodes. fail(line, message) is called for what cannot be read, and must raise.
function M.parse(source, fail)
  local nodes, kept = split(source, fail), {}
  drop_silent_lines(nodes)
  trim(nodes)
  for _, node in ipairs(nodes) do
    if node.kind == "text" then
      local text = node.whole:sub(node.first, node.last)
      if text ~= "" then
        kept[#kept + 1] = { kind = "text", text = text }
      end
    elseif node.kind ~= "note" then
      kept[#kept + 1] = { kind = node.kind, code = node.code, line = node.line, raw = node.raw, name = node.name }
    end
  end
  return kept
end

return M
