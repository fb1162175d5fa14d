local support = require "spec.lua.lib.support"
local route = support.require "route"

-- The paths of the routes that a message takes.
local function taken(routes, message)
  local paths = {}
  for index, plan in ipairs(assert(route.match(route.compile(routes), message))) do
    paths[index] = plan.path
  end
  return table.concat(paths, " ")
end

local function matches(match, message)
  return taken({ { name = "it", match = match } }, message) == "it"
end

local function refused(routes, options)
  return support.refused(route.compile, routes, options)
end

describe("a route's match", function()
  local message = {
    id = "m-1", title = "Disk full on db-1", priority = "urgent", targets = { "a", "b" }, variables = { region = "eu" },
    metadata = {
      service = "payments", attempt = 3, size = "12", production = true, muted = false, tags = { "db", "prod" },
      deploy = { region = "eu", version = { major = 2 } }, priority = "page",
    },
  }

  local holds = {
    { "a text", { service = "payments" } },
    { "one of several", { service = { "orders", "payments" } } },
    { "a number", { attempt = 3 } },
    { "a number where a text says it", { size = 12 } },
    { "several conditions", { service = "payments", attempt = 3 } },
    { "a pattern", { service = "~^pay" } },
    { "a negation", { service = "!orders" } },
    { "a negation of what is absent", { team = "!orders" } },
    { "a pattern that must not be there", { service = "!~^ord" } },
    { "a comparison", { attempt = ">= 3", size = "<12.5" } },
    { "something that is there", { service = true, production = true } },
    { "something absent", { team = false } },
    { "something false", { muted = false } },
    { "an element of a list", { tags = "prod" } },
    { "no element of a list", { tags = "!stage" } },
    { "tables inside of tables", { deploy = { region = "eu", version = { major = { 1, 2 } } } } },
    { "a field of the message", { priority = "urgent", title = "~^Disk" } },
    { "a field's element", { targets = "b" } },
    { "a variable", { variables = { region = "eu" } } },
    { "metadata named as a field", { metadata = { priority = "page" } } },
    { "one of several tables", { { service = "orders" }, { attempt = 3 } } },
    { "a function", function(m) return m.metadata.attempt == 3 end },
    { "a function among tables", { { service = "orders" }, function() return true end } },
    { "none of several", { service = { "!orders", "!cart" } } },
    { "one and not the other", { tags = { "db", "!stage" } } },
    { "a literal text", { service = "=payments" } },
  }
  for _, case in ipairs(holds) do
    it("holds for " .. case[1], function()
      assert.is_true(matches(case[2], message))
    end)
  end

  local fails = {
    { "another text", { service = "orders" } },
    { "a number written as another text", { attempt = "3" } },
    { "a pattern that is not there", { service = "~^ord" } },
    { "a negation of what it is", { service = "!payments" } },
    { "a comparison", { attempt = "> 3" } },
    { "a comparison with no number", { service = "> 3" } },
    { "a comparison of what is absent", { team = "< 3" } },
    { "something present that should not be", { service = false } },
    { "something false that should be true", { muted = true } },
    { "something absent that should be there", { team = true } },
    { "an element that must not be there", { tags = "!db" } },
    { "one but also the other", { tags = { "db", "!prod" } } },
    { "one of the negations", { service = { "!orders", "!payments" } } },
    { "a path through what is no table", { service = { region = "eu" } } },
    { "one of several conditions", { service = "payments", attempt = 4 } },
    { "a function's no", function() return nil end },
  }
  for _, case in ipairs(fails) do
    it("fails for " .. case[1], function()
      assert.is_false(matches(case[2], message))
    end)
  end

  it("takes a message without metadata, and knows its priority", function()
    assert.is_false(matches({ service = "x" }, { title = "t" }))
    assert.is_true(matches({ priority = "normal", format = "text" }, { title = "t" }))
  end)

  it("is refused with the route, the key and what to do", function()
    local cases = {
      [{ severity = {} }] = "route 'it': match.severity: is an empty table",
      [{ severity = "~[a" }] = "match.severity: the pattern '[a' a '[' is never closed",
      [{ severity = { "x", "~(" } }] = "match.severity: [2]: the pattern '(' a '(' is never closed",
      [{ severity = "> high" }] = "match.severity: '>high' must compare with a number",
      [{ severity = "!" }] = "match.severity: '!' wants",
      [{ priority = "page" }] = "match.priority: is the message's own and one of high, low, normal, urgent, never 'page'",
      [{ severity = print }] = "match.severity: must be a text",
      [{ deploy = { region = print } }] = "match.deploy.region: must be a text",
      [{}] = "match: is empty",
      [{ { severity = "x" }, severity = "y" }] = "match: is a list of conditions",
      [7] = "match: must be a table or a function, not a number",
    }
    for match, expected in pairs(cases) do
      local message_of = refused { { name = "it", match = match, source = "rules/10.lua:3" } }
      assert.matches(expected, message_of, 1, true)
      assert.matches("rules/10.lua:3: ", message_of, 1, true)
    end
  end)

  it("never lets a pattern in that Lua refuses later", function()
    local random = 1
    local function pick(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return random // 65536 % n + 1
    end
    local pieces = { "%", "[", "]", "^", "$", "(", ")", "a", "b", "-", "*", "?", "%b", "%f", "1", ".", "%1", "%a", "()" }
    local good = 0
    for _ = 1, 20000 do
      local pattern, subject = "", ""
      for _ = 1, pick(8) do
        pattern = pattern .. pieces[pick(#pieces)]
      end
      for _ = 1, pick(6) do
        subject = subject .. ("ab(1]"):sub(pick(5)):sub(1, 1)
      end
      local compiled = pcall(route.compile, { { match = { x = "~" .. pattern } } })
      if compiled then
        good = good + 1
        assert(pcall(string.find, subject, pattern))
      end
    end
    assert.is_true(good > 2000)
  end)
end)

describe("routes", function()
  it("are tried in order, and the first that matches decides", function()
    local routes = {
      { name = "a", match = { s = "x" }, to = "one" }, { name = "b", match = { s = { "x", "y" } }, to = "two" },
      { name = "rest", to = "three" },
    }
    assert.equal("a", taken(routes, { metadata = { s = "x" } }))
    assert.equal("b", taken(routes, { metadata = { s = "y" } }))
    assert.equal("rest", taken(routes, {}))
    assert.equal("", taken({ routes[1] }, {}))
    assert.equal("", taken({}, {}))
  end)

  it("go on where one says so", function()
    local routes = {
      { name = "log", continue = true }, { name = "a", match = { s = "x" }, continue = true }, { name = "b", match = { s = "x" } },
      { name = "c" },
    }
    assert.equal("log a b", taken(routes, { metadata = { s = "x" } }))
    assert.equal("log c", taken(routes, {}))
  end)

  it("hand a message to their children, and take it when none of them does", function()
    local routes = {
      { name = "payments", match = { service = "payments" }, to = "team", routes = {
        { name = "page", match = { severity = "page" }, continue = true, to = "oncall" },
        { name = "audit", match = { severity = { "page", "high" } }, routes = { { match = { region = "eu" } } } },
      } },
      { name = "rest" },
    }
    local function message(severity, region)
      return { metadata = { service = "payments", severity = severity, region = region } }
    end
    assert.equal("payments", taken(routes, message "low"))
    assert.equal("payments/page payments/audit", taken(routes, message "page"))
    assert.equal("payments/audit/route 1", taken(routes, message("high", "eu")))
    assert.equal("rest", taken(routes, {}))
  end)

  it("inherit what they do not say themselves", function()
    local function handle() end
    local retry = { attempts = 9 }
    local matcher = route.compile { { name = "p", to = "team", template = "t", retry = retry, handle = handle, timeout = 5, routes = {
      { name = "same", match = { s = "same" } },
      { name = "own", match = { s = "own" }, to = { "x", "y" }, template = "u" },
      { name = "none", match = { s = "none" }, template = false, retry = false },
    } } }
    local function plan(s) return assert(route.match(matcher, { metadata = { s = s } }))[1] end
    assert.same({ name = "same", path = "p/same", to = "team", template = "t", retry = retry, handle = handle, timeout = 5 },
      plan "same")
    assert.same({ name = "own", path = "p/own", to = { "x", "y" }, template = "u", retry = retry, timeout = 5 }, plan "own")
    assert.same({ name = "none", path = "p/none", to = "team", handle = handle, timeout = 5 }, plan "none")
  end)

  it("fail their message when a function of theirs does, with its file and line", function()
    local matcher = route.compile { { name = "bad", match = assert(load("return nil .. 1", "@rules/20.lua")) }, { name = "rest" } }
    local plans, problem, code = route.match(matcher, {})
    assert.is_nil(plans)
    assert.equal("script", code)
    assert.matches("^route 'bad', match: rules/20.lua:1: attempt to concatenate", problem)
    local limited = route.compile { { match = function() error({ code = "script_limit", message = "too long" }) end } }
    assert.same({ nil, "route 1, match: too long", "script_limit" }, { route.match(limited, {}) })
  end)

  it("are refused with their name, place and the nearest known field", function()
    local cases = {
      { { name = "a", mach = {} }, "route 'a': unknown field 'mach' (did you mean 'match'?)" },
      { { to = 5 }, "route 1: to: must be a target" }, { { to = {} }, "route 1: to: must be a target" },
      { { template = 5 }, "template: must be a string, not a number" },
      { { continue = "yes" }, "continue: must be a boolean, not a string" },
      { { handle = "x" }, "handle: must be a function" }, { { timeout = -1 }, "timeout: must be a number of seconds" },
      { { name = "" }, "name: is empty" }, { "x", "route 1: must be a table, not a string" },
      { { name = "a", routes = { {}, { name = "b", to = "" } } }, "route 'a', route 'b': to: must be" },
      { { name = "a", routes = { x = {} } }, "route 'a': routes must be a list" },
      { { template = "incidnt" }, "there is no template 'incidnt' (did you mean 'incident'?)" },
    }
    for _, case in ipairs(cases) do
      assert.matches(case[2], refused({ case[1] }, { templates = { incident = true } }), 1, true)
    end
    assert.matches("route 'a': there is another one of this name at r.lua:1",
      refused { { name = "a", source = "r.lua:1" }, { name = "a" } }, 1, true)
    local deep = {}
    for _ = 1, 40 do
      deep = { routes = { deep } }
    end
    assert.matches("more than 16 routes", refused { deep }, 1, true)
  end)
end)

describe("explain", function()
  it("tells of every route whether it matched, and why not", function()
    local matcher = route.compile {
      { name = "page", match = { severity = { "critical", "page" } } },
      { name = "team", match = { service = "payments" }, routes = { { name = "big", match = { size = ">= 5" } }, { name = "any" } } },
      { name = "rest" },
    }
    local lines = {}
    for index, each in ipairs(route.explain(matcher, { metadata = { severity = "low", service = "payments" } })) do
      lines[index] = ("%d %s %s %s %s"):format(each.depth, each.path, each.matched, each.taken, each.why or "")
    end
    assert.same({
      '1 page false false severity is "low", not one of critical, page',
      "1 team true false ",
      "2 team/big false false size is absent, not >= 5",
      "2 team/any true true ",
      "1 rest true false route 'team' has decided",
    }, lines)
  end)

  it("goes on past a function that fails", function()
    local entries = route.explain(route.compile { { name = "a", match = function() error "no" end }, { name = "b" } }, {})
    assert.matches("^it failed: route 'a', match: .*no$", entries[1].why)
    assert.is_true(entries[2].taken)
  end)
end)

-- What the index must not change: the same tree asked one by one.
describe("the index of routes", function()
  local state = 20240611
  local function pick(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return state // 65536 % n + 1
  end
  local KEYS, VALUES = { "a", "b", "c" }, { "x", "y", "z", "w" }

  local function a_match()
    local match = {}
    for _ = 1, pick(2) do
      local kind = pick(8)
      local value = VALUES[pick(4)]
      match[KEYS[pick(3)]] = kind <= 4 and value or kind == 5 and { value, VALUES[pick(4)] } or kind == 6 and "!" .. value
        or kind == 7 and "~" .. value or kind == 8 and pick(2) == 1
    end
    return match
  end

  local function a_tree(depth)
    local list = {}
    for index = 1, pick(depth == 1 and 8 or 3) do
      list[index] = {
        match = pick(8) > 1 and a_match() or nil, continue = pick(3) == 1,
        routes = depth < 3 and pick(3) == 1 and a_tree(depth + 1) or nil,
      }
    end
    return list
  end

  local function a_message()
    local metadata = {}
    for _, key in ipairs(KEYS) do
      local kind = pick(10)
      metadata[key] = kind <= 7 and VALUES[pick(4)] or kind == 8 and { VALUES[pick(4)], VALUES[pick(4)] } or kind == 9 and 5 or nil
    end
    return { metadata = metadata }
  end

  local function scalar_holds(wanted, value)
    if wanted:sub(1, 1) == "~" then
      return (type(value) == "string" or type(value) == "number") and tostring(value):find(wanted:sub(2)) ~= nil
    end
    return value == wanted
  end

  local function value_holds(wanted, value)
    if type(wanted) == "boolean" then
      return (value ~= nil) == wanted
    elseif type(wanted) == "table" then
      return value_holds(wanted[1], value) or value_holds(wanted[2], value)
    elseif wanted:sub(1, 1) == "!" then
      return not value_holds(wanted:sub(2), value)
    end
    for _, each in ipairs(type(value) == "table" and value or { value }) do
      if scalar_holds(wanted, each) then
        return true
      end
    end
    return false
  end

  local function naive(list, message, prefix, paths)
    for index, each in ipairs(list) do
      local held = true
      for key, wanted in pairs(each.match or {}) do
        held = held and value_holds(wanted, message.metadata[key])
      end
      if held then
        local before, path = #paths, prefix .. "route " .. index
        naive(each.routes or {}, message, path .. "/", paths)
        if #paths == before then
          paths[#paths + 1] = path
        end
        if not each.continue then
          return paths
        end
      end
    end
    return paths
  end

  it("changes nothing, over 30,000 trees and messages, and explain agrees", function()
    local several = 0
    for _ = 1, 3000 do
      local tree = a_tree(1)
      local matcher = route.compile(tree)
      for _ = 1, 10 do
        local message = a_message()
        local paths, explained = {}, {}
        for index, plan in ipairs(assert(route.match(matcher, message))) do
          paths[index] = plan.path
        end
        local expected = table.concat(naive(tree, message, "", {}), " ")
        for _, each in ipairs(route.explain(matcher, message)) do
          explained[#explained + 1] = each.taken and each.path or nil
        end
        several = several + (#paths > 1 and 1 or 0)
        assert(table.concat(paths, " ") == expected, expected)
        assert(table.concat(explained, " ") == expected, expected)
      end
    end
    assert.is_true(several > 3000)
  end)
end)
