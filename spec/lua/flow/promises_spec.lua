-- What a message may ask for is done: no field, option or schedule is taken and then ignored (fault 11), and no failure of one
-- platform is another one's (faults 12 to 15 are also told by the adapters' own specs).
local socket = require "socket"

local peer = require "spec.lua.flow.peer"
local rules = require "spec.support.rules"
local support = require "spec.lua.binding.support"

describe("what a message asks for (fault 11)", function()
  after_each(rules.finish)

  it("is done: variables, template, schedule, retries and rate, all in one message", function()
    local folder = rules.folder { ["a.lua"] = [[template("deploy", { title = "{{ service }} is {{ state }}", body = "by {{ who }}" })]] }
    local sink = support.sink { fail = 2 }
    local hub = support.hub {
      rules = folder, platforms = { own = { platform = "webhook", url = sink.url, rate = { tokens = 1, per = 0.2 } } },
    }
    local due = socket.gettime() + 0.4
    local receipt = assert(hub:send({
      template = "deploy", variables = { service = "pay", state = "up", who = "ann" }, targets = { "own" }, deliver_at = due,
      retry = { attempts = 3, backoff = "fixed", initial = 0.01 }, metadata = { ticket = "T-1" }, priority = "high",
    }, rules.LONG))
    assert.equal("delivered", receipt.status)
    assert.equal(3, receipt.results[1].attempts)
    assert.is_true(receipt.results[1].waited > 0.05) -- for the rate: an attempt each fifth of a second
    local arrivals = assert(sink:wait(3))
    local got = arrivals[3].json
    assert.same({ "pay is up", "by ann", "high", "T-1" }, { got.title, got.body, got.priority, got.metadata.ticket })
    assert.is_true(arrivals[1].time >= due - 0.01)
  end)

  it("and cannot be done is refused: unknown names, templates and fields", function()
    local hub = support.hub()
    for field, text in pairs { schedule_at = "schedule_at: unknown field", retry = "retry.max_retries: unknown field",
                               platform = "there is no platform of this name" } do
      local message = { title = "t", targets = { "console" }, [field] = 1 }
      if field == "retry" then message.retry = { max_retries = 3 } end
      if field == "platform" then message.platform = { slak = { x = 1 } } end
      local receipt, problem = hub:send(message, rules.LONG)
      assert.is_true(receipt == nil or receipt.status == "failed", field)
      assert.truthy(problem:find(text, 1, true), problem)
    end
    local receipt = hub:send({ template = "none", targets = { "console" } }, rules.LONG)
    assert.equal("invalid", receipt.code)
  end)
end)

describe("a webhook (fault 12)", function()
  after_each(function()
    peer.stop_all()
    support.finish()
  end)

  it("goes to the target's own address, not to the account's", function()
    local sink = support.sink()
    local hub = support.hub { platforms = { webhook = { url = sink.url .. "/account" } } }
    local receipt = hub:send({ title = "t", targets = { { platform = "webhook", value = sink.url .. "/own" } } }, rules.LONG)
    assert.equal("delivered", receipt.status)
    assert.equal("/own", assert(sink:wait(1))[1].path)
  end)

  it("trusts no certificate that nobody has signed, unless it is told to", function()
    local directory = require "spec.support.command".directory()
    local key, cert = peer.certificate(directory)
    local web = peer.web { "--cert", cert, "--key", key }
    local hub = support.hub()
    local target = ("jsons://127.0.0.1:%d/echo"):format(web.port)
    local receipt = hub:send({ title = "t", targets = { target } }, rules.LONG)
    assert.same({ "failed", "tls", 1 }, { receipt.status, receipt.code, receipt.results[1].attempts })
    assert.equal("delivered", hub:send({ title = "t", targets = { target .. "?verify=no" } }, rules.LONG).status)
    require "spec.support.command".remove(directory)
  end)
end)

describe("a mail that is cancelled in flight (fault 13)", function()
  after_each(support.finish)

  it("is not delivered: the server never sees its end", function()
    local server = assert(socket.bind("127.0.0.1", 0))
    server:settimeout(20)
    local _, port = server:getsockname()
    local hub = support.hub()
    local handle = assert(hub:send_async {
      title = "t", body = "b", targets = { ("mailto://127.0.0.1:%d/joe@example.com?mode=insecure&from=ops@example.com"):format(port) },
    })
    local client = assert(server:accept())
    client:settimeout(20)
    client:send "220 slow\r\n"
    local line = assert(client:receive "*l")
    while line ~= "DATA" do
      client:send "250 ok\r\n"
      line = assert(client:receive "*l")
    end
    assert.is_true(handle:cancel()) -- DATA was asked for and not granted
    assert.equal("cancelled", handle:wait(rules.LONG).status)
    client:send "354 go on\r\n"
    local rest = client:receive "*a" or ""
    assert.is_nil(rest:find("\r\n.\r\n", 1, true))
    client:close()
    server:close()
  end)
end)

describe("a platform that answers 200 and means no (fault 14)", function()
  after_each(support.finish)

  it("has failed, in its own words; one that is there beside it has not", function()
    local server = assert(socket.bind("127.0.0.1", 0))
    server:settimeout(20)
    local _, port = server:getsockname()
    local sink = support.sink()
    local hub = support.hub { platforms = { feishu = {
      token = "t-1", base_url = ("http://127.0.0.1:%d/hook/"):format(port),
    } } }
    local handle = assert(hub:send_async { title = "t", body = "b", targets = { "feishu", sink.target } })
    local client = assert(server:accept())
    client:settimeout(20)
    repeat local line = assert(client:receive "*l") until line == ""
    local body = '{"code":19024,"msg":"Key Words Not Found"}'
    client:send(("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
    local receipt = handle:wait(rules.LONG)
    client:close()
    server:close()
    assert.equal("partial", receipt.status)
    assert.same({ false, "rejected", 200 }, { receipt.results[1].ok, receipt.results[1].code, receipt.results[1].status_code })
    assert.truthy(receipt.results[1].error:find("Key Words Not Found", 1, true))
    assert.is_true(receipt.results[2].ok)
  end)
end)

describe("text for Slack (fault 15)", function()
  after_each(support.finish)

  it("cannot mention or link: & < > arrive as entities", function()
    local sink = support.sink()
    local hub = support.hub { platforms = { slack = { webhook_url = sink.url .. "/services/x" } } }
    hub:send({ title = "a <!channel> & b", body = "<https://evil.example|click>", targets = { "slack" }, retry = { attempts = 1 } },
      rules.LONG)
    local body = assert(sink:wait(1))[1].body
    assert.is_nil(body:find("<!channel>", 1, true), body)
    assert.is_nil(body:find("<https", 1, true), body)
    assert.truthy(body:find("&lt;!channel&gt; &amp; b", 1, true), body)
  end)
end)
