-- `notifyhub run`: a Lua script with the module at hand.
local command = require "command"
local receiver = require "receiver"

describe("notifyhub run", function()
  local directory
  before_each(function() directory = command.directory() end)
  after_each(function()
    receiver.stop_all()
    command.remove(directory)
  end)

  local function run(text, arguments, options)
    local words = { "run", command.write(directory .. "/script.lua", text) }
    for _, argument in ipairs(arguments or {}) do words[#words + 1] = argument end
    return command.run(words, options)
  end

  it("gives the script its arguments in arg and in ...", function()
    local done = run("print(#arg, arg[1], arg[2], arg[0]:match '[^/]+$', arg[-1], ...)", { "a", "--json" })
    assert.equal(0, done.status)
    assert.equal("2\ta\t--json\tscript.lua\trun\ta\t--json\n", done.out)
  end)

  it("has the module on the path, wherever it is run", function()
    local sink = receiver.start { http = true }
    local done = run([[
      local notifyhub = require "notifyhub"
      local hub = assert(notifyhub.new {})
      local handle = assert(hub:send_async { body = "hi", targets = { arg[1] } })
      local receipt = assert(handle:wait(10))
      print(receipt.status)
      hub:close(1)]], { sink.url }, { directory = "/" })
    assert.equal("", done.err)
    assert.equal("delivered\n", done.out)
    assert.equal(0, done.status)
    assert.equal("hi", assert(sink:wait(1))[1].json.body)
  end)

  it("may open as many files as the hard limit allows, for its connections", function()
    local script = command.write(directory .. "/script.lua", [[
      for line in io.lines "/proc/self/limits" do
        local soft, hard = line:match "^Max open files%s+(%d+)%s+(%d+)"
        if soft then print(soft, math.min(tonumber(hard), 65536)) end
      end]])
    local pipe = assert(io.popen(("ulimit -Sn 300; exec '%s' run '%s'"):format(receiver.executable(), script)))
    local soft, hard = pipe:read "n", pipe:read "n"
    pipe:close()
    assert.equal(hard, soft)
  end)

  it("gives the module, not a configuration of that name in the folder", function()
    command.write(directory .. "/notifyhub.lua", "return {}\n")
    local done = run("print(require 'notifyhub'.version)", nil, { directory = directory })
    assert.equal("", done.err)
    assert.matches("^%d+%.%d+%.%d+\n$", done.out)
  end)

  it("warns as lua does: when that is turned on, in pieces", function()
    local done = run([[warn("not yet") warn("@on") warn("a", "b", "@off") warn("@what") warn("c") warn("@off") warn("no more")]])
    assert.equal("Lua warning: ab@off\nLua warning: c\n", done.err)
    assert.equal(0, done.status)
  end)

  it("reads the script from stdin for -", function()
    local done = command.run({ "run", "-", "x" }, { stdin = "print(...)" })
    assert.equal("x\n", done.out)
  end)

  it("exits with what os.exit says", function()
    assert.equal(7, run("os.exit(7)").status)
    assert.equal(1, run("os.exit(false)").status)
  end)

  it("exits with 1 and a traceback when the script fails", function()
    local done = run("local function f() error 'boom' end\nf()")
    assert.equal(1, done.status)
    assert.matches("^notifyhub run: .-script.lua:1: boom\nstack traceback:\n.-script.lua:2:", done.err)
    assert.equal(1, run("error(setmetatable({}, { __tostring = function() return 'odd' end }))").status)
    assert.matches("error object is a table value", run("error {}").err)
  end)

  it("exits with 2 when the script cannot be read or compiled", function()
    local done = run("x = = 1")
    assert.equal(2, done.status)
    assert.matches("script.lua:1: unexpected symbol", done.err)
    done = command.run { "run", "/nowhere.lua" }
    assert.equal(2, done.status)
    assert.matches("/nowhere.lua", done.err)
    assert.equal(2, command.run({ "run" }).status)
  end)

  it("stops a script that never ends at SIGINT", function()
    -- The script sends the signal itself: the process is then known to listen. Not os.execute, during
    -- which SIGINT is ignored.
    local done = run("io.popen('kill -INT $PPID'):close()\nwhile true do local t = {} end", nil,
      { before = "timeout -k 5 60" })
    assert.equal(1, done.status)
    assert.matches("interrupted", done.err)
  end)
end)
