-- How long rules may take before there is a message: the tools allow what a reload does (limits.loading), and no more.
local command = require "spec.support.command"

describe("rules that take their time", function()
  local directory
  before_each(function()
    directory = command.directory()
    os.execute("mkdir " .. command.quote(directory .. "/rules"))
  end)
  after_each(function() command.remove(directory) end)

  -- A script that works for so many seconds: more than a slice of a message, 0.1 s, or less.
  local function busy(seconds)
    return ("local began = os.clock()\nwhile os.clock() - began < %g do end\n"):format(seconds)
  end

  local function run(arguments)
    return command.run(arguments, { directory = directory })
  end

  it("load and are tested", function()
    command.write(directory .. "/rules/a.lua", busy(0.3))
    command.write(directory .. "/rules/a_test.lua", ("test('slow', function() %s end)"):format(busy(0.3)))
    local done = run { "check", "--rules", "rules" }
    assert.equal(0, done.status, done.out .. done.err)
    done = run { "test", "rules" }
    assert.equal(0, done.status, done.out .. done.err)
  end)

  it("are stopped by the configuration's limit", function()
    command.write(directory .. "/notifyhub.lua", "return { rules = 'rules', limits = { loading = 0.2 } }\n")
    command.write(directory .. "/rules/a.lua", busy(60))
    local done = run { "check" }
    assert.equal(2, done.status)
    assert.matches("rules/a%.lua:2: .-%(limits%.", done.out)
  end)

  it("are given to what explain runs, too, which is no message of a hub", function()
    command.write(directory .. "/notifyhub.lua", "return { rules = 'rules', limits = { loading = 0.2 } }\n")
    command.write(directory .. "/rules/a.lua", ("route { handle = function() %s end }"):format(busy(60)))
    command.write(directory .. "/message.json", '{"title": "t"}')
    local done = run { "explain", "message.json" }
    assert.equal(1, done.status)
    assert.matches("limits%.loading", done.out)
  end)
end)
