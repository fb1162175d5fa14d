-- route_match: a route's `match` → a test of a message, which can also say why it does not hold.
--
-- A compiled match is one of { all = conditions }, { any = matches }, { call = function }, with `raises` where it may run the
-- rules' own code or a pattern. A condition: { label, field, keys, value(message), holds(message), wants, strings } —
-- `strings` is the list of texts of which the value must be one, where that is all there is to it: route.lua's index.

local json = require "json"

local M = {}

-- Names that mean a field of the message; every other one is looked up in the metadata.
M.FIELDS = {
  id = true, title = true, body = true, format = true, priority = true, targets = true, template = true, variables = true,
  metadata = true, platform = true, dedupe_key = true, created_at = true, deliver_at = true, expires_at = true, timeout = true,
}

local ONE_OF = {
  priority = { low = true, normal = true, high = true, urgent = true },
  format = { text = true, markdown = true, html = true },
}
local DEFAULTS = { priority = "normal", format = "text" }

local MOST_DEPTH = 16 -- of tables in a match
local SHOWN = 60      -- bytes of a value in an explanation

------------------------------------------------------------ Lua patterns

-- What is wrong with a Lua pattern, or nil. Lua itself tells only when a text leads there.
local function pattern_problem(pattern)
  local at, open, closed = 1, 0, 0
  while at <= #pattern do
    local char = pattern:sub(at, at)
    local following = pattern:sub(at + 1, at + 1)
    if char == "%" then
      if following == "" then
        return "ends with '%'"
      elseif following == "b" then
        if #pattern < at + 3 then
          return "'%b' wants two characters"
        end
        at = at + 2
      elseif following == "f" and pattern:sub(at + 2, at + 2) ~= "[" then
        return "'%f' wants a set: %f[%w]"
      elseif following:find("%d") and (following == "0" or tonumber(following) > closed) then
        return ("'%%%s' repeats a capture that is not there"):format(following)
      end
      at = at + 2
    elseif char == "[" then
      local from = at + (following == "^" and 2 or 1)
      repeat -- the first "]" is one of the set
        local inner = pattern:sub(from, from)
        if inner == "" or inner == "%" and from == #pattern then
          return "a '[' is never closed"
        end
        from = from + (inner == "%" and 2 or 1)
      until pattern:sub(from, from) == "]"
      at = from + 1
    else
      open = open + (char == "(" and 1 or 0)
      if char == ")" then
        closed = closed + 1
        if closed > open then
          return "a ')' closes nothing"
        end
      end
      at = at + 1
    end
  end
  return closed < open and "a '(' is never closed" or open > 32 and "has more than 32 captures" or nil
end

-------------------------------------------------------- what a value means

-- An operator: { test, wants, strings, searches, negative, whole }. test is given a scalar or nil; of a `whole` one, lists
-- too. `searches`: it runs a pattern, which may raise when that takes too long. A `negative` one holds when nothing is there.

local function one_of(list)
  local numbers, strings, words = {}, {}, {}
  for _, each in ipairs(list) do
    (type(each) == "number" and numbers or strings)[each] = true
    words[#words + 1] = tostring(each)
  end
  local function test(value)
    return strings[value] or numbers[value] or type(value) == "string" and next(numbers) and numbers[tonumber(value)] or false
  end
  local only_strings = next(numbers) == nil
  local wants = #words == 1 and (type(list[1]) == "string" and ("%q"):format(words[1]) or words[1])
    or "one of " .. table.concat(words, ", ")
  return { test = test, wants = wants, strings = only_strings and list or nil }
end

local COMPARE = {
  [">"] = function(a, b) return a > b end, [">="] = function(a, b) return a >= b end,
  ["<"] = function(a, b) return a < b end, ["<="] = function(a, b) return a <= b end,
}

local function compare(sign, rest, fail)
  local limit, than = tonumber(rest), COMPARE[sign]
  if not limit then
    fail(("'%s%s' must compare with a number (a text that begins so is written \"=%s%s\")"):format(sign, rest, sign, rest))
  end
  return {
    test = function(value)
      value = tonumber(value)
      return value ~= nil and than(value, limit)
    end,
    wants = sign .. " " .. rest,
  }
end

local function pattern(rest, fail)
  local problem = rest == "" and "is empty" or pattern_problem(rest)
  if problem then
    fail(("the pattern '%s' %s"):format(rest, problem))
  end
  return {
    test = function(value)
      return (type(value) == "string" or type(value) == "number") and tostring(value):find(rest) ~= nil
    end,
    wants = "like ~" .. rest, searches = true,
  }
end

local operator

local function negation(rest, fail)
  if rest == "" then
    fail("'!' wants what must not be after it")
  end
  local inner = operator(rest, fail)
  return {
    test = function(value) return not inner.test(value) end, negative = true, wants = "anything but " .. inner.wants,
    searches = inner.searches,
  }
end

-- A text: "~pattern", "!not", ">= 5", "=literally", or the value itself.
function operator(text, fail)
  local sign, rest = text:match("^([<>]=?)%s*(.*)$")
  if sign then
    return compare(sign, rest, fail)
  end
  local mark = text:sub(1, 1)
  if mark == "~" then
    return pattern(text:sub(2), fail)
  elseif mark == "!" then
    return negation(text:sub(2), fail)
  end
  return one_of { mark == "=" and text:sub(2) or text }
end

local function presence(wanted)
  return {
    test = function(value) return (value ~= nil and value ~= false and value ~= json.null) == wanted end,
    wants = wanted and "present" or "absent or false", whole = true,
  }
end

-- A value that is a list matches where one of its elements does; a negation holds where it does for every element.
local function over_lists(operation)
  local test = operation.test
  local negative = operation.negative
  return function(value)
    if type(value) ~= "table" then
      return test(value)
    end
    for _, each in ipairs(value) do
      if test(each) ~= (negative or false) then
        return not negative
      end
    end
    return negative or false
  end
end

-- Several operators in one: one of the positive must hold, and all of the negations.
local function combine(list)
  local positive, negative, words, searches = {}, {}, {}, false
  for index, each in ipairs(list) do
    local into = each.negative and negative or positive
    into[#into + 1] = over_lists(each)
    words[index] = each.wants
    searches = searches or each.searches
  end
  local function test(value)
    for _, each in ipairs(negative) do
      if not each(value) then
        return false
      end
    end
    for _, each in ipairs(positive) do
      if each(value) then
        return true
      end
    end
    return #positive == 0
  end
  return { test = test, wants = table.concat(words, #positive == 0 and " and " or " or "), searches = searches,
           whole = true }
end

local function scalar(value, fail)
  local kind = type(value)
  if kind == "string" then
    return operator(value, fail)
  elseif kind == "number" then
    return one_of { value }
  end
  fail(("must be a text, a number, true, false or a list of texts and numbers, not a %s"):format(kind))
end

local function is_plain(value)
  return type(value) == "number" or type(value) == "string" and not value:find("^[~!<>=]")
end

local function list_of(list, fail)
  local plain, operations, count = true, {}, 0
  for _ in pairs(list) do
    count = count + 1
  end
  if count ~= #list then
    fail("a list must hold nothing but its elements")
  end
  for index, each in ipairs(list) do
    plain = plain and is_plain(each)
    operations[index] = scalar(each, function(message) fail(("[%d]: %s"):format(index, message)) end)
  end
  return plain and one_of(list) or combine(operations)
end

--------------------------------------------------------------- conditions

local function show(value)
  if value == nil or value == json.null then
    return "absent"
  elseif type(value) == "table" then
    local items = {}
    for index, each in ipairs(value) do
      items[index] = tostring(each)
    end
    value = #items > 0 and table.concat(items, ", ") or "a table"
    return #value > SHOWN and value:sub(1, SHOWN) .. "…" or value
  elseif type(value) == "string" then
    return '"' .. (#value > SHOWN and value:sub(1, SHOWN) .. "…" or value) .. '"'
  end
  return tostring(value)
end

-- A function that reads a value out of a message: keys inside of one of its fields.
local function reader(field, keys)
  local default, key = DEFAULTS[field], keys[1]
  if #keys == 0 then
    return function(message)
      local value = message[field]
      return value == nil and default or value
    end
  elseif #keys == 1 then
    return function(message)
      local holder = message[field]
      return type(holder) == "table" and holder[key] or nil
    end
  end
  return function(message)
    local value = message[field]
    for index = 1, #keys do
      if type(value) ~= "table" then
        return nil
      end
      value = value[keys[index]]
    end
    return value
  end
end

local function condition(into, label, field, keys, value, fail)
  local operation = type(value) == "boolean" and presence(value) or type(value) == "table" and list_of(value, fail)
    or scalar(value, fail)
  local value_of = reader(field, keys)
  local test = operation.whole and operation.test or over_lists(operation)
  into[#into + 1] = {
    label = label, field = field, keys = keys, wants = operation.wants, strings = operation.strings,
    searches = operation.searches, value = value_of,
    holds = function(message) return test(value_of(message)) end,
  }
end

local function check_field(field, value, fail)
  for _, each in ipairs(type(value) == "table" and value or { value }) do
    if type(each) == "string" and is_plain(each) and not ONE_OF[field][each] then
      local names = {}
      for name in pairs(ONE_OF[field]) do
        names[#names + 1] = name
      end
      table.sort(names)
      fail(("is the message's own and one of %s, never '%s' (the metadata's is written metadata = { %s = … })"):format(
        table.concat(names, ", "), each, field))
    end
  end
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

-- The conditions of a table { key = value }. `field` and `keys` lead there; at the top they are nil.
local function conditions(into, map, prefix, field, keys, fail)
  if #keys > MOST_DEPTH then
    fail(("more than %d tables inside one another"):format(MOST_DEPTH))
  end
  for _, key in ipairs(sorted_keys(map)) do
    local value = map[key]
    local label = prefix .. tostring(key)
    local function here(message)
      fail(label .. ": " .. message)
    end
    local inner_field, inner_keys = field, {}
    if field then
      inner_keys = table.move(keys, 1, #keys, 1, {})
      inner_keys[#inner_keys + 1] = key
    elseif M.FIELDS[key] then
      inner_field = key
    else
      inner_field, inner_keys = "metadata", { key }
    end
    if ONE_OF[inner_field] and #inner_keys == 0 then
      check_field(inner_field, value, here)
    end
    if type(value) == "table" and next(value) == nil then
      here("is an empty table, which nothing matches")
    elseif type(value) == "table" and value[1] == nil then
      conditions(into, value, label .. ".", inner_field, inner_keys, fail)
    else
      condition(into, label, inner_field, inner_keys, value, here)
    end
  end
  return into
end

-- match → a compiled match; nil stays nil: it always holds. fail(message) must raise.
function M.compile(match, fail, depth)
  depth = depth or 1
  if match == nil then
    return nil
  elseif type(match) == "function" then
    return { call = match, raises = true }
  elseif type(match) ~= "table" then
    fail(("match: must be a table or a function, not a %s"):format(type(match)))
  elseif next(match) == nil then
    fail("match: is empty; leave it out for a route that always matches")
  elseif depth > MOST_DEPTH then
    fail(("match: more than %d lists inside one another"):format(MOST_DEPTH))
  end
  local made = { raises = false }
  if match[1] ~= nil then
    made.any = {}
    for index, each in ipairs(match) do
      made.any[index] = M.compile(each, function(message) fail(("match[%d]: %s"):format(index, message)) end, depth + 1)
      made.raises = made.raises or made.any[index].raises
    end
    if #sorted_keys(match) ~= #match then
      fail("match: is a list of conditions, of which one must hold, and cannot have names beside them")
    end
    return made
  end
  made.all = conditions({}, match, "", nil, {}, function(message) fail("match." .. message) end)
  for _, each in ipairs(made.all) do
    made.raises = made.raises or each.searches
  end
  return made
end

------------------------------------------------------------------ matching

-- Whether a match holds; nil always does. Raises what a function raises.
function M.holds(match, message)
  if not match then
    return true
  end
  local all = match.all
  if all then
    for index = 1, #all do
      if not all[index].holds(message) then
        return false
      end
    end
    return true
  elseif match.call then
    return match.call(message) and true or false
  end
  for _, each in ipairs(match.any) do
    if M.holds(each, message) then
      return true
    end
  end
  return false
end

-- The match without one of its conditions, for messages of which that is known to hold.
function M.without(match, known)
  local all = {}
  for _, each in ipairs(match.all) do
    if each ~= known then
      all[#all + 1] = each
    end
  end
  return #all > 0 and { all = all, raises = match.raises } or nil
end

-- Why it does not hold, for a person; nil when it does.
function M.why_not(match, message)
  if match.call then
    return not match.call(message) and "its function said no" or nil
  elseif match.any then
    local reasons = {}
    for index, each in ipairs(match.any) do
      reasons[index] = M.why_not(each, message)
      if not reasons[index] then
        return nil
      end
    end
    return table.concat(reasons, "; ")
  end
  for _, each in ipairs(match.all) do
    if not each.holds(message) then
      return ("%s is %s, not %s"):format(each.label, show(each.value(message)), each.wants)
    end
  end
end

return M
