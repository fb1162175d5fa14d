-- Bad input: every kind has an error that names the place, and nothing is sent.
local notifyhub = require "notifyhub"

local command = require "spec.support.command"
local peer = require "spec.lua.flow.peer"
local support = require "spec.lua.binding.support"

local function has(text, part)
  assert.truthy(text and text:find(part, 1, true), ("%s\nis to hold\n%s"):format(text, part))
end

describe("a message", function()
  local sink, hub
  before_each(function()
    sink = support.sink()
    hub = support.hub()
  end)
  after_each(function()
    support.finish()
    peer.stop_all()
  end)

  -- Refused before it is queued: { what it is, message, part of the error, code }.
  local CASES = {
    { "without title and body", { targets = {} }, "needs a title, a body or a template" },
    { "with an unknown field", { title = "t", titel = "x" }, "titel: unknown field (did you mean 'title'?)" },
    { "with an unknown field of a target", { title = "t", targets = { { platfrom = "x" } } }, "did you mean 'platform'" },
    { "with an unknown field of retry", { title = "t", retry = { atempts = 1 } }, "retry.atempts: unknown field (did you mean 'attempts'?)" },
    { "with a number as title", { title = 1 }, "title: must be a string, not a number" },
    { "with a string as targets", { title = "t", targets = "x" }, "targets: must be a list, not a string" },
    { "with a number as target", { title = "t", targets = { 1 } }, "targets[1]: must be a string or a table" },
    { "with a list as platform", { title = "t", platform = { 1 } }, "platform: must be a table" },
    { "with an unknown priority", { title = "t", priority = "hihg" }, "priority: 'hihg' is not one of low, normal, high, urgent" },
    { "with an unknown format", { title = "t", format = "mark" }, "format: 'mark' is not one of" },
    { "with half an attempt", { title = "t", retry = { attempts = 1.5 } }, "retry.attempts: must be a whole number" },
    { "with no attempt", { title = "t", retry = { attempts = 0 } }, "retry.attempts: must be between 1 and 100" },
    { "with a negative timeout", { title = "t", timeout = -1 }, "timeout: must be between" },
    { "with a title that is not UTF-8", { title = "\xff\xfe" }, "title: is not UTF-8" },
    { "with a body that is not UTF-8", { body = "a\xc3" }, "body: is not UTF-8" },
    { "with metadata that is not UTF-8", { title = "t", metadata = { a = { "\xed\xa0\x80" } } }, "metadata: is not UTF-8" },
    { "with a line break in a target", { title = "t", targets = { "json://h/\r\nX: y" } }, "targets[1]: control character 0x0D" },
    { "with NUL in a target", { title = "t", targets = { "json://h/\0" } }, "targets[1]: control character 0x00" },
    { "with a line break in an address", { title = "t", targets = { { platform = "email", value = "a@b.c\nX: y" } } },
      "targets[1].value: control character 0x0A" },
    { "with a line break in its id", { title = "t", id = "a\nb" }, "id: control character" },
    { "with a line break in an attachment's name", { title = "t", attachments = { { name = "a\r\nb", content = "x" } } },
      "attachments[1].name: control character" },
    { "with an attachment of content and path", { title = "t", attachments = { { name = "a", content = "x", path = "/x" } } },
      "attachments[1]: needs only one of content or path" },
    { "with an attachment of nothing", { title = "t", attachments = { { name = "a" } } }, "attachments[1]: needs either content or path" },
    { "with a table inside itself that is too deep", (function()
      local deep = {}
      for _ = 1, 40 do deep = { deep } end
      return { title = "t", metadata = { deep = deep } }
    end)(), "" },
  }
  for _, case in ipairs(CASES) do
    it(case[1] .. " is refused before it is accepted", function()
      local message = case[2]
      message.targets = message.targets or { sink.target }
      local handle, problem, code = hub:send_async(message)
      assert.is_nil(handle)
      assert.equal("invalid", code)
      has(problem, case[3])
      assert.equal(0, hub:stats().accepted)
      local batch
      batch, problem = hub:send_batch { { title = "fine", targets = { sink.target } }, message }
      assert.is_nil(batch)
      has(problem, "messages[2]")
      hub:close(5)
      assert.equal(0, sink:stop().arrivals)
    end)
  end

  -- Accepted, and then not sent: the receipt says why.
  local function fails(message, code, part, config)
    local own = config and support.hub(config) or hub
    message.retry = message.retry or { attempts = 1 }
    local receipt, problem, told = own:send(message, 20)
    assert.equal("failed", receipt.status)
    assert.equal(code, told)
    has(problem, part)
    for _, each in ipairs(receipt.results) do
      assert.is_true(each.attempts <= 1)
    end
    return receipt
  end

  it("larger than the hub takes is refused", function()
    local small = support.hub { queue = { message_bytes = 1000 } }
    local handle, problem, code = small:send_async { title = "t", body = ("x"):rep(1000), targets = { sink.target } }
    assert.is_nil(handle)
    assert.equal("too_large", code)
    has(problem, "at most 1000")
    assert.equal(0, sink:stop().arrivals)
  end)

  it("of 10 MB over a platform's limit is not cut but refused", function()
    fails({ title = "t", body = ("x"):rep(10 << 20), targets = { "slack" } }, "too_large", "",
      { platforms = { slack = { webhook_url = sink.url .. "/services/T/B/C" } } })
    fails({ title = "t", body = ("x"):rep(10 << 20), targets = { "feishu" } }, "too_large", "",
      { platforms = { feishu = { webhook_url = sink.url .. "/hook/x" } } })
    assert.equal(0, sink:stop().arrivals)
  end)

  it("with an unknown option for a platform is not sent", function()
    fails({ title = "t", targets = { "slack" }, platform = { slack = { thraed_ts = "1" } } }, "invalid",
      "platform.slack.thraed_ts: unknown option (did you mean 'thread_ts'?)",
      { platforms = { slack = { webhook_url = sink.url .. "/services/T/B/C" } } })
    fails({ title = "t", targets = { sink.target }, platform = { webhook = { headers = "x" } } }, "invalid",
      "platform.webhook.headers: must be a table, not a string")
    assert.equal(0, sink:stop().arrivals)
  end)

  it("with an injection in a header's name or value is not sent", function()
    fails({ title = "t", targets = { sink.target }, platform = { webhook = { headers = { ["X-A"] = "b\r\nX-Evil: 1" } } } },
      "invalid", "")
    fails({ title = "t", targets = { sink.target }, platform = { webhook = { headers = { ["X-A: b\r\nX-Evil"] = "1" } } } },
      "invalid", "")
    fails({ title = "t", targets = { sink.target }, platform = { webhook = { headers = { ["X-A"] = "b\0c" } } } }, "invalid", "")
    assert.equal(0, sink:stop().arrivals)
  end)

  it("with an injection in a URL's escapes is not sent", function()
    fails({ title = "t", targets = { sink.target .. "?+X-A=b%0d%0aX-Evil:1" } }, "invalid", "query parameter")
    fails({ title = "t", targets = { "json://127.0.0.1%0d%0aX:1/" } }, "invalid", "host")
    fails({ title = "t", targets = { sink.target .. "/a%0d%0aX-Evil:%201" } }, "invalid", "path")
    fails({ title = "t", targets = { "slack://a/b/c/%ff" } }, "invalid", "path")
    assert.equal(0, sink:stop().arrivals)
  end)

  it("with an injection in title, address or header of a mail is not sent", function()
    local server = peer.mail()
    local config = { platforms = {
      email = { host = "127.0.0.1", port = server.port, security = "none", from = "ops@example.com" },
    } }
    local to = { "joe@example.com" }
    fails({ title = "Hi\r\nBcc: evil@example.com", body = "b", targets = to }, "invalid", "title: holds a control character", config)
    fails({ title = "t", targets = to, platform = { email = { cc = { "a@example.com\r\nX: y" } } } }, "invalid", "cc: ", config)
    fails({ title = "t", targets = to, platform = { email = { reply_to = "a@example.com\nX: y" } } }, "invalid", "reply_to: ", config)
    fails({ title = "t", targets = to, platform = { email = { subject = "a\rb" } } }, "invalid", "subject: ", config)
    fails({ title = "t", targets = to, platform = { email = { headers = { ["X-A"] = "a\r\nBcc: b" } } } }, "invalid", "X-A: ", config)
    fails({ title = "t", targets = to, platform = { email = { headers = { ["X-A:\r\nBcc"] = "a" } } } }, "invalid", "headers: ", config)
    fails({ title = "t", targets = { { platform = "email", value = "joe@example.com> SIZE=1" } } }, "invalid", "", config)
    assert.equal(0, server:count())
  end)

  it("with a file that is missing, or is no file, is not sent", function()
    local server = peer.mail()
    local config = { platforms = {
      email = { host = "127.0.0.1", port = server.port, security = "none", from = "ops@example.com" },
    } }
    for _, path in ipairs { "/nowhere/report.pdf", "/tmp" } do
      fails({ title = "t", targets = { "joe@example.com" }, attachments = { { path = path } } }, "invalid", path, config)
      fails({ title = "t", targets = { sink.target }, attachments = { { path = path } } }, "invalid", path)
    end
    assert.equal(0, server:count())
    assert.equal(0, sink:stop().arrivals)
  end)

  it("to a host that is not there, or does not listen, fails with `network`", function()
    fails({ title = "t", targets = { "json://no-such-host.invalid/x" } }, "network", "no-such-host.invalid")
    fails({ title = "t", targets = { support.refused } }, "network", "")
    fails({ title = "t", targets = { "mailto://u:p@127.0.0.1:1/joe@example.com?mode=insecure&from=a@example.com" } }, "network", "")
  end)

  it("to a server with a certificate that nobody signed fails with `tls`; with ca_file it arrives", function()
    local directory = command.directory()
    local key, cert = peer.certificate(directory)
    local web = peer.web { "--cert", cert, "--key", key }
    local mail = peer.mail { "--tls", "--cert", cert, "--key", key }
    local url = ("https://127.0.0.1:%d/echo"):format(web.port)
    fails({ title = "t", targets = { url } }, "tls", "")
    fails({ title = "t", targets = {
      ("mailto://u:p@127.0.0.1:%d/joe@example.com?mode=ssl&from=a@example.com"):format(mail.port),
    } }, "tls", "")
    assert.equal(0, mail:count())
    local trusting = support.hub { platforms = { webhook = { url = url, ca_file = cert } } }
    assert.equal("delivered", trusting:send({ title = "t", targets = { "webhook" } }, 10).status)
    command.remove(directory)
  end)
end)

describe("a configuration", function()
  local directory
  before_each(function() directory = command.directory() end)
  after_each(function()
    support.finish()
    command.remove(directory)
  end)

  local function refused(config, part)
    local hub, problem, code = notifyhub.new(config)
    assert.is_nil(hub)
    assert.equal("config", code)
    has(problem, part)
  end

  local function in_file(text, part)
    local path = command.write(directory .. "/notifyhub.lua", text)
    refused(path, path .. part)
  end

  it("with an unknown key is refused, with the nearest", function()
    refused({ platfroms = {} }, "platfroms: unknown option (did you mean 'platforms'?)")
    refused({ workers = { mx = 1 } }, "workers.mx: unknown option (did you mean 'max'?)")
    refused({ queue = { capacty = 1 } }, "queue.capacty: unknown option (did you mean 'capacity'?)")
    refused({ platforms = { slack = { webhok_url = "x" } } }, "platforms.slack.webhok_url: unknown option (did you mean 'webhook_url'?)")
    refused({ platforms = { slakc = {} } }, "platforms.slakc: there is no platform 'slakc' (did you mean 'slack'?)")
  end)

  it("with a value of the wrong type or size is refused", function()
    refused({ workers = { max = "4" } }, "workers.max: must be a whole number, not a string")
    refused({ workers = { max = 1.5 } }, "workers.max: must be a whole number")
    refused({ workers = { max = 65 } }, "workers.max: must be between 1 and 64")
    refused({ workers = { min = 4, max = 2 } }, "workers.min: 4 is more than workers.max, 2")
    refused({ retry = { jitter = 2 } }, "retry.jitter: must be between 0 and 1")
    refused({ transport = 1 }, "transport: must be a table, not a number")
    refused({ targets = { x = 1 } }, "targets.x: must be a target or a list of targets")
    refused({ targets = { x = { platform = "slack", vlaue = "#x" } } }, "targets.x.vlaue: unknown option (did you mean 'value'?)")
    refused({ platforms = { slack = {} } }, "platforms.slack")
    refused({ script_path = 1 }, "script_path")
    refused({ script_path = "/nowhere" }, "/nowhere")
  end)

  it("in a file is told with file and line", function()
    in_file("return {\n  workers = { max = 2 },\n  qeue = {},\n}\n", ":3: qeue: unknown option (did you mean 'queue'?)")
    in_file("return {\n  platforms = {\n    slack = {\n      webhok_url = 'x',\n    },\n  },\n}\n", ":4: platforms.slack.webhok_url")
    in_file("return {\n  queue = = 1,\n}\n", ":2: ")
    in_file("return {\n  queue = nothing.here,\n}\n", ":2: ")
    in_file("return 1\n", ": must return a table")
    in_file("while true do end\n", ":1: the script ran longer than 1 s without a pause")
    in_file("while true do pcall(function() while true do end end) end\n", ":1: the script ran longer than 1 s")
    in_file("return { rules = ('a'):rep(3000):match('a*a*a*a*b') }\n", ":1: the pattern took more than")
    in_file("return { rules = ('x'):rep(1 << 40) }\n", ":1: ")
    in_file("local t = {}\nfor i = 1, 1e9 do t[i] = { i } end\n", ":2: ")
    in_file("return { x = io.open }\n", ":1: ")
    in_file('return { platforms = { slack = { webhook_url = env "NH_NO_SUCH_VARIABLE" } } }\n',
      ":1: the environment variable NH_NO_SUCH_VARIABLE is not set")
    in_file('return { platforms = { slack = { webhook_url = file "nothing" } } }\n', ":1: ")
    command.write(directory .. "/empty", "\n")
    in_file('return {\n  platforms = { slack = { webhook_url = file "empty" } },\n}\n', ":2: " .. directory .. "/empty: is empty")
  end)

  it("in a file names an environment variable that is set to nothing, unless it has a default", function()
    local config = command.write(directory .. "/notifyhub.lua", 'return {\n  platforms = { slack = { token = env "NH_EMPTY" } },\n}\n')
    local done = command.run({ "platforms", "--config", config }, { before = "NH_EMPTY=" })
    assert.equal(2, done.status)
    has(done.err, config .. ":2: the environment variable NH_EMPTY is empty")
    command.write(config, 'return { platforms = { console = { stream = env("NH_EMPTY", "stderr") } } }\n')
    assert.equal(0, command.run({ "platforms", "--config", config }, { before = "NH_EMPTY=" }).status)
  end)

  it("in a file takes numbers from the environment", function()
    local config = command.write(directory .. "/notifyhub.lua", 'return { workers = { max = tonumber(env "NH_WORKERS") } }\n')
    local done = command.run({ "platforms", "--config", config }, { before = "NH_WORKERS=3" })
    assert.equal(0, done.status, done.err)
    done = command.run({ "platforms", "--config", config }, { before = "NH_WORKERS=0" })
    assert.equal(2, done.status)
    has(done.err, "workers.max")
    command.write(config, 'return { workers = { max = env "NH_WORKERS" } }\n') -- which is a text
    assert.equal(2, command.run({ "platforms", "--config", config }, { before = "NH_WORKERS=3" }).status)
  end)

  it("in a file takes secrets from the environment and from files", function()
    local sink = support.sink()
    command.write(directory .. "/token", "from-a-file\n")
    command.write(directory .. "/notifyhub.lua", ([[
      return { platforms = {
        one = { platform = "webhook", url = "%s/one", bearer = file "token" },
        two = { platform = "webhook", url = "%s/two", bearer = env("NH_NO_SUCH_VARIABLE", "other" .. "wise") },
      } }
    ]]):format(sink.url, sink.url))
    local hub = support.hub(directory .. "/notifyhub.lua")
    assert.equal("delivered", hub:send({ title = "t", targets = { "one", "two" } }, 10).status)
    local seen = {}
    for _, arrival in ipairs(assert(sink:wait(2))) do
      for name, value in pairs(arrival.headers) do
        if name:lower() == "authorization" then
          seen[arrival.path] = type(value) == "table" and value[1] or value
        end
      end
    end
    assert.same({ ["/one"] = "Bearer from-a-file", ["/two"] = "Bearer otherwise" }, seen)
  end)
end)
