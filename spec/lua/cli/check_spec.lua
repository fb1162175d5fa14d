-- `notifyhub check`: all that is wrong with a configuration and its rules, at once.
local json = require "dkjson"

local command = require "command"
local rules = require "spec.support.rules"

local function check(folder, ...)
  return command.run({ "check", ... }, { directory = folder })
end

describe("notifyhub check", function()
  after_each(rules.finish)

  it("says what is there when nothing is wrong, and exits with 0", function()
    local done = check(rules.folder {
      ["notifyhub.lua"] = "return { rules = 'r', platforms = { hook = { platform = 'webhook', url = 'http://127.0.0.1:1/' } } }",
      ["r/a.lua"] = "route { to = 'hook', template = 'x' } route { match = { a = 1 } }",
      ["r/b.lua"] = "", ["r/a_test.lua"] = "", ["r/templates/x.txt"] = "text {{ title }}", ["r/lib/c.lua"] = "error 'not run'",
    })
    assert.equal("", done.err)
    assert.equal("no problems: 2 files, 2 routes, 1 templates, 1 files of tests\n", done.out)
    assert.equal(0, done.status)
  end)

  it("tells all problems at once, each with file and line, and exits with 2", function()
    local folder = rules.folder {
      ["r/1.lua"] = "\nroute {", ["r/2.lua"] = "\n\nerror 'raised'", ["r/3.lua"] = "route { too = 'x' }\nroute { to = 'nobody' }\nroute { match = 5 }",
      ["r/4.lua"] = "template('x', '{{ a b }}')\ntemplate('x', 'y')", ["r/5.lua"] = "while true do end",
      ["r/6.lua"] = "require 'none'", ["r/templates/t.html"] = "one\n{{ a b }}", ["r/7.lua"] = "\nroute { template = 'none' }",
    }
    rules.write(folder, "notifyhub.lua", "return { limits = { loading = 2 } }")
    local done = check(folder, "--rules", "r")
    assert.equal(2, done.status)
    for _, pattern in ipairs {
      "1%.lua:2: ", "2%.lua:3: raised", "3%.lua:1: route 1: unknown field 'too'", "3%.lua:3: route 1: match",
      "4%.lua:1", "4%.lua:2: template 'x': there is one already", "5%.lua:1: .*limits%.loading", "6%.lua:1: there is no script 'none'",
      "templates/t%.html:2: ", "7%.lua:2: route 1: template: there is no template 'none'",
    } do
      assert.matches(pattern, done.out)
    end
    local told = json.decode(check(folder, "--rules", "r", "--json").out)
    assert.is_true(#told.problems >= 10)
  end)

  it("knows the targets of routes, also of nested ones", function()
    local done = check(rules.folder {
      ["notifyhub.lua"] = "return { rules = 'r', targets = { team = 'none' }, platforms = { hook = { platform = 'webhook', url = 'http://127.0.0.1:1/' } } }",
      ["r/a.lua"] = "route { to = { 'hook', 'hok' }, routes = { { name = 'in', match = { a = 1 }, to = 'teem' } } }\n"
        .. "route { to = fallback { 'hook', 'hoook' } }\nroute { to = 'team' }",
    })
    assert.equal(2, done.status)
    assert.matches("a%.lua:1: route '1': to: there is no target, account or platform 'hok' %(did you mean 'hook'%?%)", done.out)
    assert.matches("route '1/in': to: .*'teem'", done.out)
    assert.matches("a%.lua:2: .*'hoook'", done.out)
    assert.matches("a%.lua:3: .*'none'", done.out)
  end)

  it("tells a mistake of the configuration with its file and line", function()
    local folder = rules.folder { ["notifyhub.lua"] = "return {\n  platforms = {\n    hook = { platform = 'webhook', ulr = 'x' },\n  },\n}" }
    local done = check(folder)
    assert.equal(2, done.status)
    assert.matches("notifyhub%.lua:3: platforms%.hook", done.out .. done.err)
    rules.write(folder, "notifyhub.lua", "return {")
    done = check(folder)
    assert.equal(2, done.status)
    assert.matches("notifyhub%.lua:1: ", done.out .. done.err)
  end)

  it("wants a folder that is there", function()
    local done = check(".", "--rules", "/nonexistent")
    assert.equal(2, done.status)
    assert.matches("%-%-rules /nonexistent: No such file", done.err)
    done = check(rules.folder { file = "" }, "--rules", "file")
    assert.equal(2, done.status)
    assert.matches("Not a directory", done.out .. done.err)
  end)

  it("prints JSON of the same kind with and without problems", function()
    local folder = rules.folder { ["a.lua"] = "route {}" }
    local done = check(folder, "--rules", ".", "--json")
    assert.equal(0, done.status)
    local told = json.decode(done.out)
    assert.same({}, told.problems)
    assert.same({ 1, 1, 0, 0 }, { told.files, told.routes, told.templates, told.tests })
  end)
end)
