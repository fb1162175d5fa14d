-- `notifyhub replay`: what other rules would have made of messages that there were.
local json = require "dkjson"

local command = require "command"
local receiver = require "receiver"
local rules = require "spec.support.rules"

local CONFIG = [[return { rules = "old", platforms = {
  a = { platform = "webhook", url = "http://127.0.0.1:1/a" }, b = { platform = "webhook", url = "http://127.0.0.1:1/b" } } }]]

local function folder_with(old, new, messages)
  local lines = {}
  for index, each in ipairs(messages) do lines[index] = type(each) == "string" and each or json.encode(each) end
  return rules.folder { ["notifyhub.lua"] = CONFIG, ["old/a.lua"] = old, ["new/a.lua"] = new, messages = table.concat(lines, "\n") .. "\n" }
end

local function replay(folder, ...)
  return command.run({ "replay", "messages", "--rules", "new", ... }, { directory = folder })
end

local MESSAGES = {
  { id = "m1", title = "one", metadata = { severity = "page" } }, { id = "m2", title = "two" }, { id = "m3", title = "three", targets = { "b" } },
}

describe("notifyhub replay", function()
  after_each(rules.finish)

  it("tells which messages would go another way, and exits with 1", function()
    local done = replay(folder_with([[route { name = "all", to = "a" }]],
      [[route { name = "page", match = { severity = "page" }, to = "b" } route { name = "all", to = "a" }]], MESSAGES))
    assert.equal("", done.err)
    assert.equal("messages:1: m1\n  - all to a: one\n  + page to b: one\n3 messages, 1 would be told differently\n", done.out)
    assert.equal(1, done.status)
  end)

  it("tells which would be told in other words, or not at all", function()
    local done = replay(folder_with([[template("x", { title = "old {{ title }}" }) route { name = "r", to = "a", template = "x" }]],
      [[template("x", { title = "new {{ title }}" }) route { name = "r", match = function(m) return m.id ~= "m2" end, to = "a", template = "x" }]],
      { MESSAGES[1], MESSAGES[2] }))
    assert.equal("messages:1: m1\n  - r to a: old one\n  + r to a: new one\nmessages:2: m2\n  - r to a: old two\n"
      .. "  + no route, failed: no_route\n2 messages, 2 would be told differently\n", done.out)
  end)

  it("says that nothing would change, and exits with 0", function()
    local same = [[route { name = "r", handle = function(message) send(message, "a") sleep(5) send(message, "b") end }]]
    local done = replay(folder_with(same, same, MESSAGES))
    assert.equal("3 messages, 0 would be told differently\n", done.out)
    assert.equal(0, done.status)
  end)

  it("compares with --old instead of the configuration's rules, and reads stdin", function()
    local folder = folder_with([[route { to = "a" }]], [[route { to = "b" }]], MESSAGES)
    local done = command.run({ "replay", "-", "--old", "new", "--rules", "new" }, { directory = folder, stdin = json.encode(MESSAGES[1]) .. "\n" })
    assert.equal("1 messages, 0 would be told differently\n", done.out)
    done = command.run({ "replay", "-", "--rules", "new" }, { directory = folder, stdin = json.encode(MESSAGES[1]) .. "\n" })
    assert.equal(1, done.status)
  end)

  it("takes messages without an id, and many of them, and sends none", function()
    local sink = receiver.start { http = true }
    local many = {}
    for index = 1, 450 do many[index] = { title = "n" .. index, metadata = { load = index } } end
    local folder = folder_with([[route { name = "r", to = "a" }]],
      [[route { name = "big", match = { load = "> 448" }, to = "b" } route { name = "r", to = "a" }]], many)
    rules.write(folder, "notifyhub.lua", (CONFIG:gsub("http://127%.0%.0%.1:1", sink.url)))
    local done = replay(folder)
    assert.equal("", done.err)
    assert.matches("messages:449: ", done.out)
    assert.matches("messages:450: ", done.out)
    assert.matches("\n450 messages, 2 would be told differently\n$", done.out)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("names the line of a message that is wrong, and exits with 2", function()
    for line, pattern in pairs {
      ["{"] = "messages:3: ", ['{"titel":"x"}'] = "messages:3: titel: unknown field", ['{"title":5}'] = "messages:3: title: must be a string",
    } do
      local done = replay(folder_with([[route { to = "a" }]], [[route { to = "a" }]], { MESSAGES[1], MESSAGES[2], line }))
      assert.equal(2, done.status, done.out)
      assert.matches(pattern, done.err)
    end
    local done = replay(folder_with("", "\nroute {", MESSAGES))
    assert.equal(2, done.status)
    assert.matches("new/a%.lua:2: ", done.err)
    assert.equal(2, command.run({ "replay", "/nonexistent", "--rules", rules.folder() }).status)
    assert.matches("%-%-rules FOLDER is missing", command.run({ "replay", "x" }).err)
  end)
end)

describe("notifyhub send --rules", function()
  after_each(rules.finish)

  it("follows them, in place of the configuration's", function()
    local sink = receiver.start { http = true }
    local folder = rules.folder {
      ["notifyhub.lua"] = ([[return { rules = "old", platforms = { a = { platform = "webhook", url = "%s/a" } } }]]):format(sink.url),
      ["old/a.lua"] = "route { name = 'old', to = 'nobody' }", ["new/a.lua"] = "route { name = 'new', to = 'a' }",
    }
    local done = command.run({ "send", "--title", "t", "--rules", "new", "--json" }, { directory = folder })
    assert.equal(0, done.status, done.err)
    assert.equal("new", json.decode(done.out).route)
    assert.equal("/a", assert(sink:wait(1))[1].path)
    assert.equal(1, command.run({ "send", "--title", "t" }, { directory = folder }).status)
  end)

  it("says what is wrong with them, and exits with 2", function()
    local done = command.run({ "send", "--title", "t", "--rules", rules.folder { ["a.lua"] = "\nroute {" } })
    assert.equal(2, done.status)
    assert.matches("a%.lua:2: ", done.err)
  end)
end)
