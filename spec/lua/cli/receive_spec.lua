-- `notifyhub receive`: the receiver that demos, first steps and the other specs send to.
local http = require "socket.http"
local json = require "dkjson"
local ltn12 = require "ltn12"
local socket = require "socket"

local command = require "command"
local receiver = require "receiver"

local function request(url, options)
  options = options or {}
  local chunks = {}
  local _, status, headers = http.request {
    url = url, method = options.method or (options.body and "POST" or "GET"),
    headers = options.body and { ["content-length"] = #options.body, ["content-type"] = options.type } or nil,
    source = options.body and ltn12.source.string(options.body) or nil,
    sink = ltn12.sink.table(chunks),
  }
  return status, table.concat(chunks), headers
end

-- A mail client that says exactly what it is told, and gives back the reply to each line.
local function dialogue(sink)
  local connection = assert(socket.connect(sink.smtp_host, sink.smtp_port))
  connection:settimeout(5)
  local function reply()
    local text = {}
    repeat
      local line = assert(connection:receive("*l"))
      text[#text + 1] = line
    until line:sub(4, 4) == " "
    return table.concat(text, "\n")
  end
  local greeting = reply()
  return setmetatable({ greeting = greeting, reply = reply, connection = connection }, {
    __call = function(_, line)
      assert(connection:send(line .. "\r\n"))
      return reply()
    end,
  })
end

local function begin_mail(sink)
  local say = dialogue(sink)
  say "EHLO spec"
  say "MAIL FROM:<a@example.org>"
  say "RCPT TO:<b@example.org>"
  return say
end

describe("notifyhub receive", function()
  after_each(receiver.stop_all)

  describe("by HTTP", function()
    it("tells method, path, query, headers and body of what arrived", function()
      local sink = receiver.start { http = true }
      request(sink.url .. "/hook/x?a=1&b=%20c", { body = '{"text":"hi"}', type = "application/json" })
      local arrival = assert(sink:wait(1))[1]
      assert.equal("http", arrival.protocol)
      assert.equal("POST", arrival.method)
      assert.equal("/hook/x", arrival.path)
      assert.equal("/hook/x?a=1&b=%20c", arrival.target)
      assert.same({ a = "1", b = " c" }, arrival.query)
      assert.equal("application/json", arrival.headers["content-type"])
      assert.same({ text = "hi" }, arrival.json)
      assert.equal(200, arrival.status)
      assert.near(os.time(), arrival.time, 5)
    end)

    it("keeps every byte of a body that is not UTF-8", function()
      local sink = receiver.start { http = true }
      local bytes = {}
      for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
      bytes = table.concat(bytes):rep(3) .. "x"
      request(sink.url, { body = bytes })
      assert.equal(bytes, assert(sink:wait(1))[1].body)
    end)

    local answers = {
      ["/open-apis/bot/v2/hook/token"] = { code = 0 },
      ["/api/chat.postMessage"] = { ok = true },
      ["/robot/send"] = { errcode = 0 },
      ["/anything"] = { ok = true },
    }
    for path, wanted in pairs(answers) do
      it("answers " .. path .. " as its platform does", function()
        local sink = receiver.start { http = true }
        local status, body = request(sink.url .. path, { body = "{}" })
        assert.equal(200, status)
        local answer = json.decode(body)
        for key, value in pairs(wanted) do assert.equal(value, answer[key]) end
      end)
    end

    it("answers a Slack webhook with ok, and chat.postMessage with timestamps that differ", function()
      local sink = receiver.start { http = true }
      local _, body = request(sink.url .. "/services/T/B/x", { body = "{}" })
      assert.equal("ok", body)
      local _, first = request(sink.url .. "/api/chat.postMessage", { body = "{}" })
      local _, second = request(sink.url .. "/api/chat.postMessage", { body = "{}" })
      assert.is_string(json.decode(first).ts)
      assert.not_equal(json.decode(first).ts, json.decode(second).ts)
    end)

    it("answers with the status, body and Retry-After that it was given", function()
      local sink = receiver.start { http = true, status = 429, body = "slow down", retry_after = 7 }
      local status, body, headers = request(sink.url, { body = "x" })
      assert.equal(429, status)
      assert.equal("slow down", body)
      assert.equal("7", headers["retry-after"])
    end)

    it("fails the first arrivals as often as asked, and counts them", function()
      local sink = receiver.start { http = true, fail = 2, retry_after = 1 }
      local seen = {}
      for i = 1, 4 do
        local status, _, headers = request(sink.url, { body = "x" })
        seen[i] = status .. (headers["retry-after"] or "")
      end
      assert.same({ "5031", "5031", "200", "200" }, seen)
      assert.same({ arrivals = 4, http = 4, mail = 0, failed = 2, status = 0 }, sink:stop())
    end)

    it("fails an even share of the arrivals", function()
      local sink = receiver.start { http = true, fail_rate = 0.25 }
      local failed = 0
      for _ = 1, 20 do failed = failed + (request(sink.url, { body = "x" }) == 503 and 1 or 0) end
      assert.equal(5, failed)
    end)

    it("waits before it answers, and tells of the arrival at once", function()
      local sink = receiver.start { http = true, delay = 0.5 }
      local before = socket.gettime()
      local status = request(sink.url, { body = "x" })
      local took = socket.gettime() - before
      assert.equal(200, status)
      assert.is_true(took >= 0.5 and took < 10, ("took %.2f s"):format(took))
      assert.is_true(socket.gettime() - sink:arrivals()[1].time >= 0.45)
    end)

    it("refuses a body over the limit", function()
      local sink = receiver.start { http = true, max_body = 1000 }
      assert.equal(413, (request(sink.url, { body = ("x"):rep(1001) })))
      assert.equal(200, (request(sink.url, { body = ("x"):rep(1000) })))
    end)

    it("tells its counts at /stats, which is not counted", function()
      local sink = receiver.start { http = true, fail = 1 }
      for _, path in ipairs { "/a", "/a", "/b" } do request(sink.url .. path, { body = "x" }) end
      local _, stats = request(sink.url .. "/stats")
      assert.same({ arrivals = 3, http = 3, mail = 0, failed = 1, by_path = { ["/a"] = 2, ["/b"] = 1 } },
        json.decode(stats))
    end)

    it("ends with 0 when the limit is reached, after the last answer is out", function()
      local sink = receiver.start { http = true, limit = 2 }
      request(sink.url, { body = "x" })
      local status = request(sink.url, { body = "y" })
      assert.equal(200, status)
      assert.equal(0, sink:status(5))
      assert.equal(2, sink:stop().arrivals)
    end)

    it("prints nothing but the count with --count", function()
      local sink = receiver.start { http = true, count = true }
      for _ = 1, 5 do request(sink.url, { body = "x" }) end
      assert.equal(5, sink:stop().arrivals)
      assert.same({}, sink:arrivals())
    end)
  end)

  describe("by SMTP", function()
    it("takes a mail: envelope, headers unfolded, and the raw text", function()
      local sink = receiver.start { smtp = true }
      local say = dialogue(sink)
      assert.matches("^220 ", say.greeting)
      local hello = say "EHLO spec"
      for _, extension in ipairs { "SIZE %d+", "8BITMIME", "PIPELINING" } do assert.matches(extension, hello) end
      assert.matches("^250 ", say "MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME")
      assert.matches("^250 ", say "RCPT TO:<b@example.org>")
      assert.matches("^250 ", say "rcpt to:<c@example.org>")
      assert.matches("^354 ", say "DATA")
      assert.matches("^250 ", say "Subject: one\r\n two\r\n\r\n..dot\r\n.")
      assert.matches("^221 ", say "QUIT")
      local mail = assert(sink:wait(1))[1]
      assert.equal("smtp", mail.protocol)
      assert.equal("a@example.org", mail.from)
      assert.same({ "b@example.org", "c@example.org" }, mail.recipients)
      assert.equal("one two", mail.headers.subject)
      assert.equal("Subject: one\r\n two\r\n\r\n.dot\r\n", mail.raw)
    end)

    it("takes pipelined commands and several mails in a connection", function()
      local sink = receiver.start { smtp = true }
      local say = dialogue(sink)
      say "EHLO spec"
      say.connection:send("MAIL FROM:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n")
      assert.matches("^250", say.reply())
      assert.matches("^250", say.reply())
      assert.matches("^354", say.reply())
      say.connection:send("one\r\n.\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n")
      for _ = 1, 3 do assert.matches("^250", say.reply()) end
      assert.matches("^354", say.reply())
      assert.matches("^250", say "two\r\n.")
      local mails = assert(sink:wait(2))
      assert.equal("one\r\n", mails[1].raw)
      assert.equal("two\r\n", mails[2].raw)
    end)

    it("keeps the order of commands, and says what it does not know", function()
      local sink = receiver.start { smtp = true }
      local say = dialogue(sink)
      assert.matches("^503 ", say "MAIL FROM:<a@x>")
      say "HELO spec"
      assert.matches("^503 ", say "RCPT TO:<a@x>")
      assert.matches("^503 ", say "DATA")
      assert.matches("^501 ", say "MAIL FROM:a@x")
      assert.matches("^555 ", say "MAIL FROM:<a@x> FOO=1")
      assert.matches("^500 ", say "STARTTLS")
      assert.matches("^250 ", say "NOOP")
      assert.matches("^250 ", say "MAIL FROM:<a@x>")
      assert.matches("^250 ", say "RSET")
      assert.matches("^503 ", say "RCPT TO:<a@x>")
    end)

    it("refuses a mail over the limit, by its SIZE and by its length", function()
      local sink = receiver.start { smtp = true, max_body = 1000 }
      local say = dialogue(sink)
      say "EHLO spec"
      assert.matches("^552 ", say "MAIL FROM:<a@x> SIZE=1001")
      say "MAIL FROM:<a@x>"
      say "RCPT TO:<b@x>"
      say "DATA"
      assert.matches("^552 ", say(("x"):rep(500) .. "\r\n" .. ("x"):rep(500) .. "\r\n."))
      assert.matches("^250 ", say "NOOP")
    end)

    it("refuses a line over 998 bytes, in a mail and as a command", function()
      local sink = receiver.start { smtp = true }
      local say = begin_mail(sink)
      say "DATA"
      assert.matches("^554 ", say(("x"):rep(20000) .. "\r\n."))
      assert.matches("^500 ", say(("x"):rep(20000)))
      assert.matches("^250 ", say "NOOP")
    end)

    it("does not take a bare line feed for the end of a mail", function()
      local sink = receiver.start { smtp = true }
      local say = begin_mail(sink)
      say "DATA"
      say.connection:send("one\n.\nQUIT\n.\r\n")
      assert.matches("^250 ", say "still one mail\r\n.")
      assert.equal("one\n.\nQUIT\n.\r\nstill one mail\r\n", assert(sink:wait(1))[1].raw)
    end)

    it("fails and delays as asked", function()
      local sink = receiver.start { smtp = true, fail = 1, delay = 0.3 }
      local say = begin_mail(sink)
      say "DATA"
      local before = socket.gettime()
      assert.matches("^451 ", say "one\r\n.")
      assert.is_true(socket.gettime() - before >= 0.3)
      say "MAIL FROM:<a@x>"
      say "RCPT TO:<b@x>"
      say "DATA"
      assert.matches("^250 ", say "two\r\n.")
      assert.equal(1, sink:stop().failed)
    end)
  end)

  it("shows a person what arrived, and lets it do nothing to the terminal", function()
    local sink = receiver.start { text = true }
    request(sink.url .. "/x%1b", { body = '{"a":[1]}' })
    local say = begin_mail(sink)
    say "DATA"
    say "Subject: =?utf-8?q?=1B[31mred?=\r\nFrom: =?utf-8?b?w6Q=?= <a@x>\r\n\r\nbody\r\n."
    local text = sink:stop().text
    assert.matches('POST +200 +9 B +/x%%1b\n  {\n    "a": %[\n      1\n', text)
    assert.matches("MAIL +250 .- a@example.org → b@example.org\n  From +ä <a@x>\n", text)
    assert.matches("  Subject  \\x1b%[31mred\n  body\n", text)
    assert.is_nil(text:find("\27"))
    assert.matches("received 2: 1 by HTTP, 1 by mail, 0 failed as asked", text)
  end)

  it("listens on the port and address it is told, and says when it cannot", function()
    local sink = receiver.start { http = true, address = "::1" }
    assert.equal("[::1]", sink.http_host)
    assert.is_nil(sink.smtp_port)
    local done = command.run { "receive", "--address", "::1", "--http", sink.http_port }
    assert.equal(1, done.status)
    assert.matches("cannot listen on ::1 port %d+: Address already in use", done.err)
    done = command.run { "receive", "--address", "nowhere" }
    assert.equal(1, done.status)
    assert.matches("%-%-address nowhere: ", done.err)
  end)

  it("refuses options that make no sense", function()
    for _, options in ipairs { { "--http", "70000" }, { "--fail", "1.5" }, { "--json", "--count" },
      { "--status", "99" }, { "--delay", "x" } } do
      local done = command.run { "receive", table.unpack(options) }
      assert.equal(2, done.status)
      assert.matches("^notifyhub receive: ", done.err)
    end
  end)
end)
