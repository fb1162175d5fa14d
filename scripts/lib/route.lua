-- route: which of the rules' routes a message takes.
--
--   compile(routes, options)     a list of route tables, in order → a matcher; raises { code = "config", message }
--   match(matcher, message)      → the plans of the routes that it takes, in order; or nil, problem, code
--   explain(matcher, message)    → of every route whether it matches, and why not
--
-- Routes are a tree as Alertmanager's: a route that matches hands the message to its children in order; the first child that
-- matches decides, and those after it are asked when it says `continue`; when none does, the route itself takes it. Routes
-- that ask for certain texts of a field are found by an index, so that fifty of them cost a few lookups; the order in which
-- the rest is asked stays what it is without one. Plans and most lists of them are made when compiling and shared by messages:
-- do not write to one.

local route_match = require "route_match"
local schema = require "schema"

local M = {}

local MOST_DEPTH = 16     -- of routes in routes
local MOST_ROUTES = 10000 -- of a generation
local MOST_MERGED = 50000 -- entries that an index may take to have every route in one list

------------------------------------------------------------------ compiling

local FIELDS = {
  name = "string", match = "any", to = "any", template = "string", continue = "boolean", handle = "function", retry = "table",
  timeout = "number", routes = "table", source = "string",
}

-- What a route gives to its children. `false` in a child takes back what it was given.
local INHERITED = { "to", "template", "handle", "retry", "timeout" }

local function title_of(route, index)
  return type(route) == "table" and type(route.name) == "string" and ("route '%s'"):format(route.name)
    or ("route %d"):format(index)
end

local function failing(place)
  return function(message)
    error({ code = "config", message = ("%s: %s"):format(place, message) }, 0)
  end
end

local function is_given_back(field, value)
  if value ~= false then
    return false
  end
  for _, each in ipairs(INHERITED) do
    if each == field then
      return true
    end
  end
  return false
end

local function check_fields(route, fail, options)
  for field, value in pairs(route) do
    local wanted = FIELDS[field]
    if not wanted then
      fail(("unknown field '%s'%s"):format(tostring(field), schema.suggest(field, schema.names(FIELDS))))
    elseif wanted ~= "any" and type(value) ~= wanted and not is_given_back(field, value) then
      fail(("%s: must be a %s, not a %s"):format(field, wanted, type(value)))
    end
  end
  local to, kind = route.to, type(route.to)
  if to == "" or kind == "number" or to == true or kind == "table" and next(to) == nil
    and not (options.is_choice and options.is_choice(to)) then
    fail("to: must be a target or a list of targets")
  elseif to and options.target_fault and options.target_fault(to) then
    fail("to: the target " .. options.target_fault(to))
  elseif route.name == "" then
    fail("name: is empty")
  elseif route.retry and options.check_retry then
    local ok, problem = pcall(options.check_retry, route.retry)
    if not ok then
      fail(problem.message)
    end
  end
  if route.timeout and not (route.timeout > 0 and route.timeout < math.huge) then
    fail("timeout: must be a number of seconds above 0")
  elseif route.template and options.templates and not options.templates[route.template] then
    fail(("template: there is no template '%s'%s"):format(route.template,
      schema.suggest(route.template, schema.names(options.templates))))
  end
end

-- What a node hands on. Who is told is one question: a child's own `to` takes the place of a handler that it would inherit.
local function settings_of(route, inherited)
  local settings = {}
  for _, field in ipairs(INHERITED) do
    local value = route[field]
    if value == nil then
      value = inherited[field]
    end
    settings[field] = value or nil
  end
  if route.to and route.handle == nil then
    settings.handle = nil
  end
  return settings
end

local compile_list

local function compile_route(state, route, index, inherited, parent_path, parent_place, depth)
  local title = title_of(route, index)
  local place = parent_place and parent_place .. ", " .. title or title
  local source = type(route) == "table" and type(route.source) == "string" and route.source
  local fail = failing(source and source .. ": " .. place or place)
  if type(route) ~= "table" then
    fail(("must be a table, not a %s"):format(type(route)))
  end
  check_fields(route, fail, state.options)
  state.count = state.count + 1
  if state.count > MOST_ROUTES then
    fail(("there are more than %d routes"):format(MOST_ROUTES))
  elseif depth > MOST_DEPTH then
    fail(("more than %d routes one inside the other"):format(MOST_DEPTH))
  end
  local name = route.name or ("route %d"):format(index)
  local path = parent_path and parent_path .. "/" .. name or name
  local known = state.paths[path]
  if known and route.name then
    fail(("there is another one of this name%s"):format(known.source and " at " .. known.source or ""))
  end
  local plan = settings_of(route, inherited)
  local node = {
    match = route_match.compile(route.match, fail), continue = route.continue or false, order = index, plan = plan,
    place = place, source = source or nil,
  }
  state.paths[path] = node
  plan.name, plan.path = name, path
  node.alone = { plan }
  state.raises = state.raises or node.match ~= nil and node.match.raises
  if route.routes then
    node.children = compile_list(state, route.routes, settings_of(route, inherited), path, place, depth + 1)
  end
  return node
end

---------------------------------------------------------------- the index

-- A condition's place in the message, as text.
local function slot_of(each)
  local words = { each.field }
  for index, key in ipairs(each.keys) do
    words[index + 1] = type(key) .. ":" .. tostring(key)
  end
  return table.concat(words, "\0")
end

-- The condition of a route that it is found by: of those that ask for texts, the one whose field most routes ask about.
local function indexed_condition(node, counts)
  local best, best_count
  for _, each in ipairs(node.match and node.match.all or {}) do
    local count = each.strings and counts[slot_of(each)]
    if count and (not best or count > best_count) then
      best, best_count = each, count
    end
  end
  return best
end

local function count_slots(nodes)
  local counts = {}
  for _, node in ipairs(nodes) do
    for _, each in ipairs(node.match and node.match.all or {}) do
      if each.strings then
        local slot = slot_of(each)
        counts[slot] = (counts[slot] or 0) + 1
      end
    end
  end
  return counts
end

-- Two ordered lists of nodes as one.
local function merge(a, b)
  local merged, at, from = {}, 1, 1
  while a[at] or b[from] do
    local next_a, next_b = a[at], b[from]
    if next_a and (not next_b or next_a.order < next_b.order) then
      merged[#merged + 1], at = next_a, at + 1
    else
      merged[#merged + 1], from = next_b, from + 1
    end
  end
  return merged
end

-- The plans by text, of those texts that settle it: the first route of theirs asks for nothing more, and decides.
local function plans_by_text(flat)
  local plans = {}
  for text, nodes in pairs(flat) do
    local first = nodes[1]
    if not (first.asks or first.children or first.continue) then
      plans[text] = first.alone
    end
  end
  return plans
end

-- Where there is one index, what it does not know is put into each of its lists, so that one list is all that is asked.
local function flatten(list)
  local index, values = list.indexes[1], 0
  for _ in pairs(index.values) do
    values = values + 1
  end
  if #list.indexes == 1 and values * #list.rest <= MOST_MERGED then
    list.flat = {}
    for text, nodes in pairs(index.values) do
      list.flat[text] = merge(nodes, list.rest)
    end
    list.decided, list.key = plans_by_text(list.flat), index.key
  end
end

-- Siblings → { nodes, rest, indexes = { { value, key, values = { text = nodes } } … }, flat, decided, key }, every list in order.
-- `key` is the metadata's, where that is what the only index asks for.
local function index_list(nodes)
  local list = { nodes = nodes, rest = {}, indexes = {} }
  local counts, by_slot = count_slots(nodes), {}
  for _, node in ipairs(nodes) do
    local condition = indexed_condition(node, counts)
    node.asks = node.match
    if not condition then
      list.rest[#list.rest + 1] = node
    else
      node.asks = route_match.without(node.match, condition)
      local slot = slot_of(condition)
      local index = by_slot[slot]
      if not index then
        local keys = condition.keys
        index = { value = condition.value, key = condition.field == "metadata" and #keys == 1 and keys[1], values = {} }
        by_slot[slot], list.indexes[#list.indexes + 1] = index, index
      end
      for _, text in ipairs(condition.strings) do
        local found = index.values[text] or {}
        index.values[text] = found
        if found[#found] ~= node then
          found[#found + 1] = node
        end
      end
    end
  end
  if #list.indexes > 0 then
    flatten(list)
  end
  return list
end

function compile_list(state, routes, inherited, parent_path, parent_place, depth)
  local nodes, count = {}, 0
  for _ in pairs(routes) do
    count = count + 1
  end
  if count ~= #routes then
    failing(parent_place or "routes")("routes must be a list of routes")
  end
  for index, route in ipairs(routes) do
    nodes[index] = compile_route(state, route, index, inherited, parent_path, parent_place, depth)
  end
  return index_list(nodes)
end

-- options.templates: a set of the names that there are; without it any name is taken. options.check_retry(policy) raises
-- { message } for one that is wrong, options.target_fault(target) tells what is wrong with one.
function M.compile(routes, options)
  local state = { options = options or {}, count = 0, raises = false, paths = {} }
  local list = compile_list(state, routes, {}, nil, nil, 1)
  return { list = list, raises = state.raises }
end

------------------------------------------------------------------- matching

-- An error of a route's own code, with the route's name: { code, message }.
local function own_error(node, problem)
  local code = "script"
  if type(problem) == "table" then
    code, problem = problem.code or code, problem.message or "an error without a text"
  end
  return { code = code, message = ("%s, match: %s"):format(node.place, tostring(problem)), route = true }
end

-- Whether what the index has not settled holds.
local function holds(node, message)
  local asks = node.asks
  if not asks or not asks.raises then
    return route_match.holds(asks, message)
  end
  local ok, held = pcall(route_match.holds, asks, message)
  if not ok then
    error(own_error(node, held), 0)
  end
  return held
end

local match_list

-- What a node that matched takes the message to: its children's plans or its own. Not to be written to.
local function taken_by(node, message)
  return node.children and match_list(node.children, message) or node.alone
end

-- Adds to a list of plans that is this message's own.
local function add(plans, more)
  plans = plans or {}
  return table.move(more, 1, #more, #plans + 1, plans)
end

-- Asks the nodes of one list in order.
local function match_one(nodes, message)
  local plans
  for index = 1, #nodes do
    local node = nodes[index]
    if holds(node, message) then
      local more = taken_by(node, message)
      if not node.continue then
        return plans and add(plans, more) or more
      end
      plans = add(plans, more)
    end
  end
  return plans
end

-- The lists that may hold a route for this message.
local function candidates(list, message)
  local found = { list.rest }
  for _, index in ipairs(list.indexes) do
    local value = index.value(message)
    if type(value) == "table" then
      for _, each in ipairs(value) do
        found[#found + 1] = index.values[each]
      end
    elseif value ~= nil then
      found[#found + 1] = index.values[value]
    end
  end
  return found
end

-- Those lists as one, in order, a node that is in several once.
local function merged(lists)
  local nodes, at = {}, {}
  for index = 1, #lists do
    at[index] = 1
  end
  while true do
    local first
    for index = 1, #lists do
      local node = lists[index][at[index]]
      if node and (not first or node.order < first.order) then
        first = node
      end
    end
    if not first then
      return nodes
    end
    nodes[#nodes + 1] = first
    for index = 1, #lists do
      if lists[index][at[index]] == first then
        at[index] = at[index] + 1
      end
    end
  end
end

function match_list(list, message)
  local indexes, flat = list.indexes, list.flat
  if #indexes == 0 then
    return match_one(list.rest, message)
  elseif flat then
    local value = indexes[1].value(message)
    if type(value) ~= "table" then
      return match_one(value ~= nil and flat[value] or list.rest, message)
    end
  end
  local lists = candidates(list, message)
  return match_one(#lists == 1 and lists[1] or merged(lists), message)
end

local NONE = {}

-- The plans { name, path, to, template, handle, retry, timeout } of a message, in order; none when no route matches. Runs the
-- rules' own functions and patterns: call it under their limits. An error of theirs is nil, problem, code.
function M.match(matcher, message)
  if not matcher.raises then
    local list, metadata = matcher.list, message.metadata
    return list.key and metadata and list.decided[metadata[list.key]] or match_list(list, message) or NONE
  end
  local ok, plans = pcall(match_list, matcher.list, message)
  if ok then
    return plans or NONE
  elseif type(plans) == "table" and plans.route then
    return nil, plans.message, plans.code
  end
  error(plans, 0)
end

---------------------------------------------------------------- explaining

local function explain_node(node, message, depth)
  local why = nil
  if node.match then
    local ok, told = pcall(route_match.why_not, node.match, message)
    why = told
    if not ok then
      why = "it failed: " .. own_error(node, told).message
    end
  end
  return { name = node.plan.name, path = node.plan.path, source = node.source, depth = depth, matched = why == nil, why = why,
           to = node.plan.to, template = node.plan.template, taken = false }
end

-- `open`: whether the message gets here at all; else why not. Returns whether a node of the list took the message.
local function explain_list(list, message, depth, closed, into)
  local decided
  local took = false
  for _, node in ipairs(list.nodes) do
    local entry = explain_node(node, message, depth)
    into[#into + 1] = entry
    local why = closed or decided and ("%s has decided"):format(decided)
    entry.asked = not why
    if why then
      entry.why = entry.why or why
    end
    local here = entry.asked and entry.matched
    local inner = node.children and explain_list(node.children, message, depth + 1,
      not here and (why or ("%s does not match"):format(node.place)) or nil, into)
    if here then
      took, entry.taken = true, not inner
      decided = not node.continue and node.place or nil
    end
  end
  return took
end

-- For every route, parents before children: { name, path, source, depth, asked, matched, taken, why, to, template }. `matched`
-- tells whether its own conditions hold, `asked` whether the message gets to it, `taken` whether it is among the plans.
function M.explain(matcher, message)
  local entries = {}
  explain_list(matcher.list, message, 1, nil, entries)
  return entries
end

return M
