-- What the executable tells about itself: help, version, platforms, and what it says to typing errors.
local json = require "dkjson"

local command = require "command"

local COMMANDS = { "send", "run", "platforms", "receive", "version", "help" }

describe("notifyhub", function()
  it("lists its commands and exit codes with help, --help and -h", function()
    for _, word in ipairs { "help", "--help", "-h" } do
      local done = command.run { word }
      assert.equal(0, done.status)
      assert.equal("", done.err)
      assert.matches("^Usage: notifyhub COMMAND", done.out)
      assert.matches("Exit status:\n  0  .-\n  1  .-\n  2  ", done.out)
      for _, name in ipairs(COMMANDS) do assert.matches("\n  " .. name .. " +%w", done.out) end
    end
  end)

  it("shows the same on stderr, and exits with 2, without a command", function()
    local done = command.run {}
    assert.equal(2, done.status)
    assert.equal("", done.out)
    assert.matches("^Usage: ", done.err)
  end)

  for _, name in ipairs(COMMANDS) do
    it("helps with " .. name .. ", exit codes included, within 79 columns", function()
      local done = command.run { name, "--help" }
      assert.equal(0, done.status)
      assert.matches("^Usage: notifyhub " .. name, done.out)
      assert.matches("\nOptions:\n", done.out)
      assert.matches("\nExit status:\n  0  ", done.out)
      for line in done.out:gmatch "[^\n]*" do assert.is_true(#line <= 79 + 2, line) end
      assert.equal(done.out, command.run({ "help", name }).out)
    end)
  end

  it("tells all of it with help all", function()
    local done = command.run { "help", "all" }
    for _, name in ipairs(COMMANDS) do assert.matches("\nUsage: notifyhub " .. name, done.out) end
  end)

  it("prints its version", function()
    for _, word in ipairs { "version", "--version", "-V" } do
      local done = command.run { word }
      assert.equal(0, done.status)
      assert.matches("^notifyhub %d+%.%d+%.%d+\n$", done.out)
    end
  end)

  it("suggests the nearest command, option and platform", function()
    local typos = {
      { { "sned" }, "unknown command \"sned\"; did you mean send?" },
      { { "help", "recieve" }, "did you mean receive?" },
      { { "send", "--tilte", "x" }, "unknown option %-%-tilte; did you mean %-%-title?" },
      { { "receive", "--fial=1" }, "did you mean %-%-fail?" },
      { { "platforms", "slak" }, "unknown platform \"slak\"; did you mean slack?" },
      { { "frobnicate" }, "unknown command \"frobnicate\"; notifyhub help lists them" },
      { { "send", "-x" }, "unknown option %-x; see notifyhub send %-%-help" },
      { { "--verbose" }, "unknown option %-%-verbose" },
      { { "send", "extra" }, "unexpected argument \"extra\"" },
      { { "send", "--title" }, "%-%-title needs a value: TEXT" },
      { { "send", "--json=yes" }, "%-%-json takes no value" },
      { { "send", "--wait", "soon" }, "%-%-wait takes a number, not \"soon\"" },
      { { "send", "--timeout", "-1" }, "%-%-timeout must be from 0.001 to 1000000000" },
    }
    for _, typo in ipairs(typos) do
      local done = command.run(typo[1])
      assert.equal(2, done.status)
      assert.equal("", done.out)
      assert.matches(typo[2], done.err)
    end
  end)

  it("says so when its output cannot be written", function()
    local done = command.run({ "help" }, { before = "sh -c '\"$@\" >/dev/full' sh" })
    assert.equal(1, done.status)
    assert.matches("the output could not be written", done.err)
  end)

  describe("platforms", function()
    it("lists the platforms with a summary", function()
      local done = command.run { "platforms" }
      assert.equal(0, done.status)
      for _, name in ipairs { "console", "email", "feishu", "lark", "slack", "webhook" } do
        assert.matches("%f[%w]" .. name .. " +%u", done.out)
      end
    end)

    it("tells the options of one platform, with types and defaults", function()
      local done = command.run { "platforms", "webhook" }
      assert.equal(0, done.status)
      assert.matches("^webhook  ", done.out)
      assert.matches("transport +http", done.out)
      assert.matches("\n  url  string, secret\n", done.out)
      assert.matches("\n  method  string, one of POST, .-, default POST\n", done.out)
    end)

    it("tells whom it reaches, its limits, its target URLs with an example, and a message's options", function()
      local done = command.run { "platforms", "slack" }
      assert.matches("\n  recipients +channel, user, group\n", done.out)
      assert.matches("\n  limits +body 35000, title 1000, unit characters\n", done.out)
      assert.matches("\nTarget URLs:\n  slack://%[name@%]A/B/C.-\n  https://hooks%.slack%.com/services/…\n"
        .. "  for example slack://%S+\n", done.out)
      assert.matches("\nOptions of a message, in platform%.slack:\n  attachments  table\n.-\n  thread_ts  string\n", done.out)
    end)

    it("puts options that are required first, then all by name", function()
      local directory = command.directory()
      os.execute("mkdir " .. directory .. "/adapters")
      command.write(directory .. "/adapters/mine.lua", [[return {
        transport = "console",
        options = { zeal = { type = "string", required = true }, alpha = { type = "string" }, beta = { type = "list" },
                    key = { type = "string", required = true }, count = { type = "integer", min = 1, max = 5 } },
        request = function() end, response = function() end,
      }]])
      command.write(directory .. "/notifyhub.lua", ('return { script_path = { "%s" } }'):format(directory))
      local done = command.run({ "platforms", "mine" }, { directory = directory })
      command.remove(directory)
      local names = {}
      for name in done.out:gmatch "\n  (%w+)  %l+" do names[#names + 1] = name end
      assert.equal("key zeal alpha beta count", table.concat(names, " "):match "key.*")
    end)

    it("prints the same at each call", function()
      for _, arguments in ipairs { { "platforms", "webhook" }, { "platforms", "--json" }, { "platforms", "email", "--json" } } do
        local first = command.run(arguments).out
        for _ = 1, 3 do assert.equal(first, command.run(arguments).out) end
      end
    end)

    it("prints JSON with --json", function()
      local all = json.decode(command.run({ "platforms", "--json" }).out)
      local one = json.decode(command.run({ "platforms", "slack", "--json" }).out)
      assert.equal("slack", one.name)
      assert.equal("table", one.message_options.blocks.type)
      assert.same({ "channel", "user", "group" }, one.recipients)
      assert.is_true(#all >= 6)
    end)

    it("shows a platform of the user's own", function()
      local directory = command.directory()
      os.execute("mkdir " .. directory .. "/adapters")
      command.write(directory .. "/adapters/mine.lua", [[return {
        summary = "Mine alone", transport = "console", schemes = { "mine" }, formats = { "text" },
        limits = { body = 100, unit = "characters" }, attachments = "none", recipients = {},
        options = {}, message_options = {},
        request = function(delivery) return { text = delivery.body } end,
        response = function() return { ok = true } end,
      }]])
      command.write(directory .. "/notifyhub.lua", ('return { script_path = { "%s" } }'):format(directory))
      local done = command.run({ "platforms" }, { directory = directory })
      command.remove(directory)
      assert.equal("", done.err)
      assert.matches("mine +Mine alone\n", done.out)
    end)
  end)
end)
