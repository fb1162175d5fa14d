-- Who is meant by a target, through the module and against a real receiver.
local json = require "dkjson"
local notifyhub = require "notifyhub"

local command = require "spec.support.command"
local support = require "spec.lua.binding.support"

local CANARY = "canary-7f3a91"

-- One message to these targets → its receipt, told with why when it is not delivered.
local function send(hub, targets, message)
  message = message or {}
  message.title, message.targets = message.title or "t", targets
  message.retry = message.retry or { attempts = 1 }
  return assert(hub:send(message, 10))
end

-- The paths that were called, all of them.
local function paths(sink)
  sink:stop()
  local list = {}
  for index, arrival in ipairs(sink:arrivals()) do
    list[index] = arrival.path
  end
  table.sort(list)
  return list
end

describe("a target that is written wrongly", function()
  after_each(support.finish)

  -- { target, part of the error }
  local CASES = {
    { "mailto://u:p@mail.example/joe@x.example?frm=a@x.example", "unknown query parameter 'frm' (did you mean 'from'?)" },
    { "mailto://mail.example/joe@x.example", "names no sender: write mailto://…?from=me@example.com" },
    { "mailto://u:p@mail.example:25/joe", "recipient 1 lacks its @: write mailto://server/joe@example.com" },
    { "mail.example:8080/hook", "'mail.example:8080/…'; a server's address begins with its scheme, as in https://host/path" },
    { "localhost:8080", "a server's address begins with its scheme" },
    { "https:/mail.example/hook", "a URL has :// after its scheme" },
    { "joe.mail.example", "a mail address has an @" },
    { "slakc", "did you mean 'slack'" },
  }
  for _, case in ipairs(CASES) do
    it("is told how it is written: " .. case[1], function()
      local receipt = send(support.hub(), { case[1] })
      assert.equal("failed", receipt.status)
      assert.equal(0, receipt.results[1].attempts)
      assert.truthy(receipt.error:find(case[2], 1, true), receipt.error)
    end)
  end
end)

describe("a target", function()
  local sink
  before_each(function() sink = support.sink() end)
  after_each(support.finish)

  it("is a URL, with a result for each", function()
    local hub = support.hub()
    local receipt = send(hub, { support.path(sink, "a"), sink.url .. "/b" })
    assert.equal("delivered", receipt.status)
    assert.is_nil(receipt.code)
    assert.equal(2, #receipt.results)
    for _, each in ipairs(receipt.results) do
      assert.is_true(each.ok)
      assert.equal("webhook", each.platform)
      assert.equal(200, each.status_code)
      assert.equal(1, each.attempts)
    end
    assert.same({ "/a", "/b" }, paths(sink))
  end)

  it("is an account, whose name need not be its platform's", function()
    local hub = support.hub { platforms = {
      webhook = { url = sink.url .. "/one" }, audit = { platform = "webhook", url = sink.url .. "/two" },
    } }
    assert.equal("delivered", send(hub, { "webhook", "audit" }).status)
    assert.same({ "/one", "/two" }, paths(sink))
  end)

  it("is a name of the configuration, which may stand for others; one recipient is told once", function()
    local hub = support.hub { targets = {
      one = support.path(sink, "1"), two = support.path(sink, "2"),
      both = { "one", "two" }, all = { "both", "one", { "two", support.path(sink, "3") } },
    } }
    local receipt = send(hub, { "all", "both", support.path(sink, "1") })
    assert.equal("delivered", receipt.status)
    assert.equal(3, #receipt.results)
    assert.same({ "/1", "/2", "/3" }, paths(sink))
  end)

  it("that leads back to itself fails, and nobody else with it", function()
    local hub = support.hub { targets = { a = { "b" }, b = { "a", "sink" }, sink = sink.target } }
    local receipt = send(hub, { "a" })
    assert.equal("partial", receipt.status)
    assert.equal("unknown_target", receipt.code)
    assert.truthy(receipt.error:find("leads back to itself", 1, true), receipt.error)
    assert.same({ "/sink" }, paths(sink))
  end)

  it("is a bare #channel or @user of the one platform that has such", function()
    local hub = support.hub { platforms = { slack = { webhook_url = sink.url .. "/services/T/B/C" } } }
    local receipt = send(hub, { "#ops", "@jane" })
    assert.equal("delivered", receipt.status)
    assert.equal("#ops", receipt.results[1].target)
    local told = {}
    for _, arrival in ipairs(assert(sink:wait(2))) do
      told[#told + 1] = arrival.json.channel
    end
    table.sort(told)
    assert.same({ "#ops", "@jane" }, told)
  end)

  it("of a kind that no account, or more than one, can reach is told, with the ways out", function()
    local hub = support.hub { platforms = {
      one = { platform = "slack", webhook_url = sink.url .. "/1" }, two = { platform = "slack", webhook_url = sink.url },
    } }
    local receipt = send(hub, { "joe@example.com", "#ops" })
    assert.equal("failed", receipt.status)
    assert.equal("unknown_platform", receipt.results[1].code)
    assert.truthy(receipt.results[1].error:find("email", 1, true))
    assert.equal("unknown_target", receipt.results[2].code)
    assert.truthy(receipt.results[2].error:find("one, two", 1, true), receipt.results[2].error)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("is a table of platform, type and value", function()
    local hub = support.hub { platforms = { slack = { webhook_url = sink.url .. "/services/T/B/C" } } }
    local receipt = send(hub, {
      { platform = "slack", type = "channel", value = "#dev" },
      { platform = "webhook", type = "webhook", value = sink.url .. "/hook" },
      { platform = "slack", type = "email", value = "joe@example.com" },
    })
    assert.equal("partial", receipt.status)
    assert.is_true(receipt.results[1].ok)
    assert.is_true(receipt.results[2].ok)
    assert.equal("unknown_target", receipt.results[3].code)
    assert.same({ "/hook", "/services/T/B/C" }, paths(sink))
  end)

  it("with an unknown scheme, platform or name is told, with what was meant", function()
    local hub = support.hub { targets = { operations = sink.target } }
    local receipt = send(hub, {
      "jsom://127.0.0.1/x", { platform = "slakc", value = "#x" }, "opperations", "console://stdlog",
    })
    local results = receipt.results
    assert.equal("failed", receipt.status)
    assert.equal("unknown_platform", results[1].code)
    assert.truthy(results[1].error:find("did you mean 'json'", 1, true), results[1].error)
    assert.equal("unknown_platform", results[2].code)
    assert.truthy(results[2].error:find("did you mean 'slack'", 1, true), results[2].error)
    assert.equal("unknown_target", results[3].code)
    assert.truthy(results[3].error:find("did you mean 'operations'", 1, true), results[3].error)
    assert.equal("invalid", results[4].code)
    assert.equal(0, results[4].attempts)
    assert.equal(0, results[4].latency)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("may be missing: nobody is told, and the receipt says so", function()
    local hub = support.hub { targets = { nobody = {} } }
    for _, targets in ipairs { false, notifyhub.array(), { "nobody" } } do
      local receipt = send(hub, targets or nil)
      assert.equal("failed", receipt.status)
      assert.equal("no_route", receipt.code)
    end
  end)

  it("as a URL gets none of the credentials of the configured account", function()
    local hub = support.hub { platforms = {
      webhook = { url = sink.url .. "/own", bearer = CANARY, headers = { ["X-Own"] = CANARY } },
    } }
    assert.equal("delivered", send(hub, { support.path(sink, "other"), sink.url .. "/bare", "webhook" }).status)
    local own = 0
    for _, arrival in ipairs(assert(sink:wait(3))) do
      if arrival.path == "/own" then
        own = own + 1
        assert.truthy(json.encode(arrival):find(CANARY, 1, true))
      else
        assert.is_nil(json.encode(arrival):find(CANARY, 1, true))
      end
    end
    assert.equal(1, own)
  end)
end)

describe("a secret", function()
  after_each(support.finish)

  -- Everything a program could show of these targets' receipt.
  local function shown(hub, targets)
    local receipt, problem, code = hub:send({ title = "t", targets = targets, retry = { attempts = 1 } }, 10)
    return json.encode { receipt, problem, code }, receipt
  end

  it("in a URL's path, query or credentials appears in no receipt, delivered or not", function()
    local sink = support.sink()
    local dead = support.sink { status = 403 }
    local hub = support.hub()
    for _, place in ipairs { sink, dead, { http_host = "127.0.0.1", http_port = 1 } } do
      local host = ("%s:%d"):format(place.http_host, place.http_port)
      local text, receipt = shown(hub, {
        "json://" .. host .. "/" .. CANARY, "json://user:" .. CANARY .. "@" .. host .. "/x",
        "http://" .. host .. "/x?token=" .. CANARY, "json://" .. host .. "/y?+X-Key=" .. CANARY,
        { platform = "webhook", value = "http://" .. host .. "/" .. CANARY },
      })
      assert.equal(5, #receipt.results)
      assert.is_nil(text:find(CANARY, 1, true), text)
      assert.truthy(text:find(host, 1, true), text) -- what is left still tells who is meant
    end
  end)

  it("of one target is told to no other", function()
    local sink = support.sink()
    local hub = support.hub()
    local host = ("%s:%d"):format(sink.http_host, sink.http_port)
    local secret = "://" .. host .. "/" .. CANARY
    assert(hub:send({ title = "t", targets = { "json" .. secret } }, 10))
    assert(hub:send({ title = "t", targets = { "json://" .. host .. "/x", { platform = "webhook", value = "http" .. secret } } }, 10))
    for _, arrival in ipairs(assert(sink:wait(3))) do
      assert.is_nil(json.encode(arrival.json):find(CANARY, 1, true), json.encode(arrival.json))
      assert.truthy(json.encode(arrival.json.targets):find(host, 1, true))
    end
  end)

  it("in a URL that is wrong appears in no error", function()
    local hub = support.hub()
    local text = shown(hub, {
      "nosuch://" .. CANARY .. "/" .. CANARY, "json://host:notaport/" .. CANARY, "slack://" .. CANARY,
      "json://127.0.0.1:1/?nosuch=" .. CANARY, "mailto://u:" .. CANARY .. "@127.0.0.1:1/not-an-address",
      "https://hooks.slack.com/services/" .. CANARY, "hooks.slack.com/services/" .. CANARY, "https:/h/" .. CANARY,
      "json://127.0.0.1:1/?" .. CANARY,
    })
    assert.is_nil(text:find(CANARY, 1, true), text)
  end)

  it("of an account that the server sends back is cut out of the error", function()
    local sink = support.sink { status = 400, body = '{"message":"bad token ' .. CANARY .. ' and ' .. CANARY .. '"}' }
    for _, secret in ipairs { CANARY, notifyhub.secret(CANARY) } do
      local hub = support.hub { platforms = { webhook = { url = sink.url .. "/x", bearer = secret } } }
      local text = shown(hub, { "webhook" })
      assert.is_nil(text:find(CANARY, 1, true), text)
      assert.truthy(text:find("<secret>", 1, true), text)
    end
    assert.truthy(json.encode(assert(sink:wait(1))[1].headers):find(CANARY, 1, true)) -- it was really used
  end)

  it("of the configuration is cut out of errors whichever option it stands in", function()
    local sink = support.sink { status = 400, body = '{"message":"no room ' .. CANARY .. '"}' }
    local directory = command.directory()
    command.write(directory .. "/room", CANARY)
    command.write(directory .. "/notifyhub.lua", ([[return { platforms = {
      webhook = { url = "%s/x", fields = { room = file "room" } },
    } }]]):format(sink.url))
    for _, config in ipairs {
      directory .. "/notifyhub.lua",
      { platforms = { webhook = { url = sink.url .. "/x", fields = { room = notifyhub.secret(CANARY) } } } },
    } do
      local text = shown(support.hub(config), { "webhook" })
      assert.is_nil(text:find(CANARY, 1, true), text)
      assert.truthy(text:find("no room <secret>", 1, true), text)
    end
    command.remove(directory)
    -- What the configuration says openly is no secret.
    local open = support.hub { platforms = { webhook = { url = sink.url .. "/x", fields = { room = CANARY } } } }
    assert.truthy(shown(open, { "webhook" }):find("no room " .. CANARY, 1, true))
  end)

  it("appears neither on the standard error nor in the output of the command", function()
    for _, options in ipairs { { "--json" }, {} } do
      local done = command.run { "send", "--title", "t", "--target", "json://127.0.0.1:1/" .. CANARY, "--timeout", "1",
        table.unpack(options) }
      assert.equal(1, done.status)
      assert.is_nil((done.out .. done.err):find(CANARY, 1, true), done.out .. done.err)
    end
  end)

  it("of an account that is configured wrongly is not shown in the error", function()
    local hub, problem = notifyhub.new { platforms = { webhook = { bearer = CANARY, method = CANARY .. "x" } } }
    assert.is_nil(hub)
    assert.is_nil(problem:find(CANARY, 1, true), problem)
  end)
end)
