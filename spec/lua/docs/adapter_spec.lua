-- The adapter that docs/platforms.md shows, run as it stands there: a target URL, an account, the request that arrives.

local notifyhub = require "notifyhub"

local command = require "spec.support.command"
local support = require "spec.lua.binding.support"

local source = os.getenv "NH_SOURCE_DIR" or "."

local function example()
  local file <close> = assert(io.open(source .. "/docs/platforms.md", "rb"))
  return assert(file:read "a":match "\n## An adapter\n.-```lua\n(.-)```")
end

describe("the adapter of docs/platforms.md", function()
  local directory, sink
  before_each(function()
    directory, sink = command.directory(), support.sink()
    os.execute("mkdir " .. directory .. "/adapters")
    -- Its server is the receiver, which speaks http; nothing else is changed.
    local here, count = example():gsub("https://chat%.example/hooks/", sink.url .. "/hooks/")
    assert.equal(3, count)
    here, count = here:gsub('url%.scheme == "https"', 'url.scheme == "http"')
    assert.equal(1, count)
    command.write(directory .. "/adapters/mychat.lua", here)
  end)
  after_each(function()
    support.finish()
    command.remove(directory)
  end)

  local function open(options)
    return notifyhub.new { script_path = directory, platforms = { mychat = options } }
  end

  it("sends to an account, with its colour, a channel and a message's thread", function()
    local hub <close> = assert(open { token = "a1b2c3", colour = "red" })
    local receipt = assert(hub:send({
      title = "Deploy", body = "**v1.2** is out", format = "markdown", platform = { mychat = { thread = "t-1" } },
      targets = { { platform = "mychat", type = "channel", value = "ops" } },
    }, 20))
    assert.equal("delivered", receipt.status, receipt.error)
    local got = assert(sink:wait(1))[1]
    assert.equal("/hooks/a1b2c3", got.path)
    assert.same({ title = "Deploy", text = "**v1.2** is out", colour = "red", channel = "ops", thread = "t-1" }, got.json)
  end)

  it("takes its target URLs", function()
    local hub <close> = assert(open(nil))
    local receipt = assert(hub:send({ title = "t", body = "b", targets = { "mychat://a1b2c3/ops", sink.url .. "/hooks/d4e5f6" } }, 20))
    assert.equal("delivered", receipt.status, receipt.error)
    assert.equal("mychat://…", receipt.results[1].target)
    local channels = {}
    for _, arrival in ipairs(assert(sink:wait(2))) do channels[arrival.path] = arrival.json.channel or "none" end
    assert.same({ ["/hooks/a1b2c3"] = "ops", ["/hooks/d4e5f6"] = "none" }, channels)
  end)

  it("checks its options", function()
    for _, case in ipairs {
      { {}, "platforms.mychat.token: is missing" }, { { token = "ab" }, "token: is too short" },
      { { token = "abc", colour = "pink" }, "colour: must be one of red, blue" },
      { { token = "abc", color = "red" }, "did you mean 'colour'" },
    } do
      local hub, problem = open(case[1])
      assert.is_nil(hub)
      assert.truthy(problem:find(case[2], 1, true), problem)
    end
  end)

  it("is told by the command, with its URLs", function()
    command.write(directory .. "/notifyhub.lua", 'return { script_path = "." }\n')
    local done = command.run({ "platforms", "mychat" }, { directory = directory })
    assert.equal(0, done.status)
    assert.matches("mychat://token%[/channel%]\n", done.out)
    assert.matches("token  string, required, secret\n", done.out)
  end)
end)
