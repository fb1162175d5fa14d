-- The examples are run as a reader would run them, against a receiver; what arrives is checked.
local command = require "command"
local receiver = require "receiver"

local source = os.getenv "NH_SOURCE_DIR" or assert(os.getenv "PWD")
local build = os.getenv "NH_BUILD_DIR" or source .. "/build"
local sanitize = os.getenv "NH_SANITIZE" or ""
local quote = command.quote

local LUA_EXAMPLES = {
  "multi_coroutine", "async_callbacks", "feishu_advanced", "email_advanced", "worker_pool", "own_platform", "demo",
}

local function example(name)
  return source .. "/scripts/examples/" .. name
end

-- Runs a shell command; returns { status, out, err }.
local function shell(line)
  local scratch = command.directory()
  os.execute(("{ %s; } >%s/out 2>%s/err </dev/null; echo $? >%s/status"):format(line, scratch, scratch, scratch))
  local done = { status = tonumber(command.read(scratch .. "/status")), out = command.read(scratch .. "/out"),
                 err = command.read(scratch .. "/err") }
  command.remove(scratch)
  return done
end

local function addresses(sink)
  return ("NOTIFYHUB_HTTP=%s:%d NOTIFYHUB_SMTP=%s:%d"):format(sink.http_host, sink.http_port, sink.smtp_host,
    sink.smtp_port)
end

-- Runs an example with `notifyhub run` in a directory that is not its own; fails when it fails.
local function run(sink, name)
  local done = command.run({ "run", example(name .. ".lua") }, { before = "env " .. addresses(sink), directory = "/" })
  assert.equal("", done.err)
  assert.equal(0, done.status, done.out)
  return done.out
end

-- Exactly `count` arrivals: waits for them, and sees that no more come after the example's end.
local function arrivals(sink, count)
  assert(sink:wait(count))
  assert.equal(count, sink:stop().arrivals)
  return sink:arrivals()
end

-- How many arrivals had each value of `key(arrival)`.
local function tally(list, key)
  local counts = {}
  for _, arrival in ipairs(list) do
    local value = key(arrival)
    if value ~= nil then counts[value] = (counts[value] or 0) + 1 end
  end
  return counts
end

local function titles(list)
  return tally(list, function(arrival) return arrival.json.title end)
end

local function all_once(counts)
  for name, count in pairs(counts) do assert.equal(1, count, name) end
end

local function by_subject(list)
  local mails = {}
  for _, arrival in ipairs(list) do
    if arrival.protocol == "smtp" then mails[arrival.headers.subject] = arrival end
  end
  return mails
end

describe("an example", function()
  after_each(receiver.stop_all)

  it("says how to start a receiver, and ends with 2, when it is told of none", function()
    for _, name in ipairs(LUA_EXAMPLES) do
      local done = command.run({ "run", example(name .. ".lua") }, { before = "env -u NOTIFYHUB_HTTP -u NOTIFYHUB_SMTP" })
      assert.equal(2, done.status, name)
      assert.matches("is not set%. Start a receiver.*notifyhub receive %-%-", done.err)
      assert.matches("notifyhub run scripts/examples/" .. name .. "%.lua", done.err)
      assert.equal("", done.out)
    end
  end)

  it("runs under lua5.4 and luajit, with LUA_CPATH naming the module's folder", function()
    local interpreters = { ["lua5.4"] = "/lua" }
    if sanitize == "" and shell("command -v luajit").status == 0 then interpreters.luajit = "/lua/5.1" end
    for lua, modules in pairs(interpreters) do
      local sink = receiver.start {}
      for _, name in ipairs(LUA_EXAMPLES) do
        local done = shell(("%s LUA_CPATH=%s %s %s"):format(addresses(sink), quote(build .. modules .. "/?.so;;"), lua,
          quote(example(name .. ".lua"))))
        assert.equal("", done.err, lua .. " " .. name)
        assert.equal(0, done.status, lua .. " " .. name)
      end
      sink:stop()
    end
  end)
end)

describe("the example", function()
  local sink
  before_each(function() sink = receiver.start {} end)
  after_each(receiver.stop_all)

  it("multi_coroutine sends all of its messages once", function()
    local out = run(sink, "multi_coroutine")
    local total = 10 + 3 * 20 + (5 + 2 * 8 + 1) + 50
    assert.matches("\n" .. total .. " messages delivered\n$", out)
    assert.matches("15 tasks on %d workers", out)
    assert.matches("50 of 50 delivered, %d+ messages a second", out)
    local list = arrivals(sink, total)
    all_once(titles(list))
    local priorities = tally(list, function(arrival) return arrival.json.priority end)
    assert.same({ urgent = 5, low = 1, normal = total - 6 }, priorities)
    assert.equal("a second later", list[total - 50].json.title)
  end)

  it("async_callbacks sees every event of its messages", function()
    local out = run(sink, "async_callbacks")
    assert.matches("progress: 3 of 3", out)
    assert.matches("on_error: Bad is partial: ", out)
    assert.matches("wait says: .-%(network%)", out)
    all_once(titles(arrivals(sink, 6)))
  end)

  it("feishu_advanced sends cards, mentions and a text that are signed and have the keyword", function()
    run(sink, "feishu_advanced")
    local colours, bodies = {}, {}
    for _, arrival in ipairs(arrivals(sink, 9)) do
      if arrival.path == "/audit" then
        assert.equal(2.4, arrival.json.metadata.figures.p99)
        assert.same({ "latency", "ops" }, arrival.json.metadata.tags)
      else
        assert.equal("/open-apis/bot/v2/hook/example", arrival.path)
        assert.is_string(arrival.json.sign)
        assert.matches("ops", arrival.body)
        local card = arrival.json.card
        if card and card.header then colours[#colours + 1] = card.header.template end
        bodies[#bodies + 1] = arrival.body
      end
    end
    table.sort(colours)
    assert.same({ "blue", "blue", "blue", "red" }, colours)
    local all = table.concat(bodies)
    assert.matches("lark_md", all)
    assert.matches("wide_screen_mode", all)
    assert.matches("%*%*shop%*%* v1%.4%.2 is on production", all)
    assert.matches('<at user_id=\\"all\\">', all)
  end)

  it("email_advanced sends alternatives, attachments, copies and headers", function()
    run(sink, "email_advanced")
    local mails = by_subject(arrivals(sink, 8))

    local welcome = assert(mails["Welcome, =?UTF-8?Q?Zo=C3=AB?="], "no welcome")
    assert.same({ "zoe@example.com" }, welcome.recipients)
    local news = mails["News of May"]
    assert.matches("text/plain", news.raw)
    assert.matches("<strong>Faster</strong>", news.raw)
    assert.equal("List-Unsubscribe=One-Click", news.headers["list-unsubscribe-post"])
    assert.equal("5", mails["Invoice 17 is due"].headers["x-priority"])

    local report = mails["The monthly report"].raw
    for _, name in ipairs { "report.pdf", "figures.xlsx" } do
      assert.is_truthy(report:find('filename="' .. name .. '"', 1, true), name)
      local encoded = shell("base64 -w0 " .. quote(example("files/" .. name))).out
      assert.is_truthy(report:gsub("%s", ""):find(encoded, 1, true), name .. " did not arrive whole")
    end

    local minutes = mails["Minutes"]
    table.sort(minutes.recipients)
    assert.same({ "ann@example.com", "archive@example.com", "bob@example.com", "team@example.com" }, minutes.recipients)
    assert.equal("team@example.com", minutes.headers.cc)
    assert.is_nil(minutes.headers.bcc)
    assert.is_nil(minutes.raw:find("archive@", 1, true))

    local login = mails["New login from Lyon"].raw:gsub("=\r?\n", "")
    assert.matches("from <b>Lyon</b> %(Firefox &lt;Linux&gt; &amp; more%)", login)
    assert.equal("OPS-311", mails["Ticket OPS-311"].headers["x-ticket"])
    assert.equal("gold", mails["Ticket OPS-311"].headers["x-tier"])
  end)

  it("worker_pool delivers what fits and is refused what does not", function()
    local out = run(sink, "worker_pool")
    assert.matches("51 at once: .-queue", out)
    assert.matches("after close: 0 workers, 0 messages pending", out)
    local list = arrivals(sink, 100 + 50 + 200 + 500 + 200 + 50)
    all_once(tally(list, function(arrival) return arrival.json.message_id end))
  end)

  it("own_platform signs as DingTalk wants it and mentions people", function()
    local out = run(sink, "own_platform")
    assert.matches("platforms%.dingtalk%.tokn: .-token", out)
    local list = arrivals(sink, 4)
    for _, arrival in ipairs(list) do
      assert.equal("/robot/send", arrival.path)
      assert.equal("example", arrival.query.access_token)
      local key = "SEC-of-the-robot"
      local signed = shell(("printf '%%s\\n%%s' %s %s | openssl dgst -sha256 -hmac %s -binary | base64"):format(
        arrival.query.timestamp, key, key))
      assert.equal(signed.out:gsub("%s", ""), arrival.query.sign)
      assert.is_true(math.abs(arrival.query.timestamp / 1000 - os.time()) < 300)
    end
    assert.equal("Build 42\npassed", list[1].json.text.content)
    assert.equal("### Deploy\n\n**v1.2** is out", list[2].json.markdown.text)
    assert.same({ "13800138000" }, list[3].json.at.atMobiles)
    assert.matches("@13800138000$", list[3].json.text.content)
    assert.is_true(list[4].json.at.isAtAll)
  end)

  it("demo shows four platforms and a burst, and never sends what it took back", function()
    local out = run(sink, "demo")
    assert.matches("1000 of 1000 delivered in .-messages a second", out)
    local list = arrivals(sink, 4 + 6 + 1000)
    local paths = tally(list, function(arrival) return arrival.path or arrival.protocol end)
    assert.same({ ["/hooks/deploys"] = 1, ["/open-apis/bot/v2/hook/demo"] = 4, ["/services/T000/B000/demo"] = 4,
                  ["/burst"] = 1000, smtp = 1 }, paths)
    all_once(tally(list, function(arrival) return arrival.query and arrival.query.title end))
    for _, arrival in ipairs(list) do
      assert.is_nil((arrival.body or arrival.raw):find("Never to be seen", 1, true))
    end
  end)

  it("embed.c compiles without a warning, sends, and prints the receipt", function()
    local directory = command.directory()
    local program = directory .. "/embed"
    local flags = sanitize ~= "" and "-fsanitize=" .. sanitize or ""
    local compiled = shell(("cc -std=c11 -Wall -Wextra -Werror %s -I %s/runtime %s -o %s -L %s/lib -lnotifyhub -Wl,-rpath,%s/lib"):format(
      flags, quote(source), quote(example("embed.c")), program, quote(build), quote(build)))
    assert.equal("", compiled.err)
    assert.equal(0, compiled.status)

    local sent = shell(program .. " " .. quote(("json://%s:%d/c"):format(sink.http_host, sink.http_port)))
    assert.equal("", sent.err)
    assert.equal(0, sent.status)
    assert.matches('"status":"delivered"', sent.out)
    local lost = shell(program .. " json://127.0.0.1:1/")
    assert.equal(1, lost.status)
    assert.matches('"code":"network"', lost.out)
    local unknown = shell(program .. " nonsense://x")
    assert.equal(1, unknown.status)
    local unused = shell(program)
    assert.equal(2, unused.status)
    assert.matches("usage: embed URL", unused.err)
    command.remove(directory)

    local list = arrivals(sink, 1)
    assert.equal("/c", list[1].path)
    assert.equal("Hello from C", list[1].json.title)
  end)
end)
