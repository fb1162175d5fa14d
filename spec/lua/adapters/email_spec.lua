local api = require "spec.support.script_api"
local email = api.adapter "email"

local ACCOUNT = { host = "mail.example", user = "bot@sender.example", password = "pw" }
local JOE, ANN, EVE = { type = "email", value = "joe@one.example" }, { type = "email", value = "ann@two.example" },
  { type = "email", value = "eve@evil.example" }

local function with(changes)
  local copy = {}
  for key, value in pairs(ACCOUNT) do
    copy[key] = value
  end
  for key, value in pairs(changes) do
    copy[key] = value
  end
  return copy
end

local function delivery(fields)
  fields.account = fields.account or ACCOUNT
  fields.recipients = fields.recipients or { JOE }
  return api.delivery(email, fields)
end

local function request(fields)
  return email.request(delivery(fields))
end

local function header(built, name)
  local found
  for _, each in ipairs(built.headers) do
    if each[1] == name then
      assert.is_nil(found, name .. " is there twice")
      found = each[2]
    end
  end
  return found
end

local function check(options)
  return email.check(api.account(email, options))
end

describe("email", function()
  it("is a mail with a whole header", function()
    local built = request { title = "Grüße, 世界", body = "B", now = 1700000000.9 }
    assert.same({
      { "From", "bot@sender.example" }, { "To", "joe@one.example" },
      { "Subject", "Grüße, 世界" }, { "Date", "Tue, 14 Nov 2023 22:13:20 +0000" },
      { "Message-ID", "<01J9Z3NDEKTSV4RRFFQ69G5FAV@sender.example>" },
    }, built.headers)
    assert.same({ "mail.example", 587, "starttls", "plain", "bot@sender.example", "pw" },
      { built.host, built.port, built.security, built.auth, built.user, built.password })
    assert.equal("bot@sender.example", built.from)
    assert.same({ "joe@one.example" }, built.recipients)
    assert.equal("B", built.text)
    assert.is_nil(built.html)
    assert.is_true(built.verify)
  end)

  it("keeps its Message-ID over attempts, whatever the id holds", function()
    local first, second = request { id = "a b>\r\n#1", attempt = 1 }, request { id = "a b>\r\n#1", attempt = 2 }
    assert.equal("<a-b----1@sender.example>", header(first, "Message-ID"))
    assert.equal(header(first, "Message-ID"), header(second, "Message-ID"))
  end)

  describe("server", function()
    it("does not mix up 465 and 587 (fault 13)", function()
      local cases = {
        { {}, 587, "starttls" }, { { port = 465 }, 465, "tls" }, { { port = 587 }, 587, "starttls" }, { { port = 25 }, 25, "starttls" },
        { { security = "tls" }, 465, "tls" }, { { port = 25, security = "none" }, 25, "none" },
        { { port = 587, security = "tls" }, 587, "tls" }, { { port = 465, security = "starttls" }, 465, "starttls" },
        { { port = 2525 }, 2525, "starttls" },
      }
      for _, case in ipairs(cases) do
        local built = request { account = with(case[1]) }
        assert.same({ case[2], case[3] }, { built.port, built.security })
      end
    end)

    local providers = {
      gmail = { "smtp.gmail.com", 587 }, outlook = { "smtp-mail.outlook.com", 587 }, sendgrid = { "smtp.sendgrid.net", 587 },
      qq = { "smtp.qq.com", 587 }, yahoo = { "smtp.mail.yahoo.com", 587 }, zoho = { "smtp.zoho.com", 587 },
      mxhichina = { "smtp.mxhichina.com", 587 }, exmail = { "smtp.exmail.qq.com", 587 }, ["163"] = { "smtp.163.com", 25 },
      ["126"] = { "smtp.126.com", 25 }, yeah = { "smtp.yeah.net", 25 }, sina = { "smtp.sina.com", 25 }, sohu = { "smtp.sohu.com", 25 },
      protonmail = { "127.0.0.1", 1025 }, office365 = { "smtp.office365.com", 587 },
    }
    for name, server in pairs(providers) do
      it("is " .. server[1] .. " for " .. name, function()
        local built = request { account = { provider = name, user = "a@b.example", password = "p" } }
        assert.same({ server[1], server[2], "starttls" }, { built.host, built.port, built.security })
      end)
    end

    it("is known by the user's or the sender's domain", function()
      for address, host in pairs { ["a@gmail.com"] = "smtp.gmail.com", ["a@Hotmail.com"] = "smtp-mail.outlook.com",
                                   ["a@foxmail.com"] = "smtp.qq.com", ["a@163.com"] = "smtp.163.com" } do
        assert.equal(host, request { account = { user = address, password = "p" } }.host)
        assert.equal(host, request { account = { from = "A <" .. address .. ">" } }.host)
      end
      assert.equal("mine.example", request { account = { user = "a@gmail.com", password = "p", host = "mine.example" } }.host)
      assert.is_nil(check { user = "a@unknown.example", password = "p" })
    end)

    it("of SendGrid has its one user", function()
      local built = request { account = { provider = "sendgrid", from = "a@b.example", password = "key" } }
      assert.same({ "apikey", "key", "plain" }, { built.user, built.password, built.auth })
    end)

    it("is logged in to as it is told, or not at all", function()
      for _, auth in ipairs { "plain", "login", "cram-md5", "xoauth2", "none" } do
        assert.equal(auth, request { account = with { auth = auth } }.auth)
      end
      assert.equal("none", request { account = { host = "h.example", from = "a@b.example" } }.auth)
      assert.is_nil(check { host = "h.example", from = "a@b.example", auth = "login" })
    end)
  end)

  describe("recipients", function()
    it("get one mail together, once each, with cc and bcc in the envelope (fault 13)", function()
      local built = request {
        title = "T", recipients = { JOE, ANN, { type = "email", value = "JOE@one.example" } },
        account = with { cc = { "Boss, Big <boss@three.example>" }, bcc = { "audit@four.example", "joe@one.example" } },
        options = { cc = { "üser <u@five.example>" }, bcc = { "hidden@six.example" } },
      }
      assert.same({ "joe@one.example", "ann@two.example", "boss@three.example", "u@five.example", "audit@four.example",
                    "hidden@six.example" }, built.recipients)
      assert.equal("joe@one.example, ann@two.example, JOE@one.example", header(built, "To"))
      assert.equal('"Boss, Big" <boss@three.example>, üser <u@five.example>', header(built, "Cc"))
      for _, each in ipairs(built.headers) do
        assert.is_nil(each[2]:find("audit", 1, true) or each[2]:find("hidden", 1, true))
      end
    end)

    it("are one request unless the account wants individual mails", function()
      assert.is_true(email.group(api.account(email, ACCOUNT)))
      assert.is_false(email.group(api.account(email, with { individual = true })))
    end)

    it("of individual mails share no cc or bcc", function()
      assert.is_nil(check(with { individual = true, cc = { "a@b.example" } }))
      local _, message, code = request { account = with { individual = true }, options = { bcc = { "a@b.example" } } }
      assert.equal("invalid", code)
      assert.matches("^bcc:", message)
    end)

    it("default to the account's", function()
      local built = request { recipients = {}, account = with { to = { "Ops <ops@x.example>", "b@x.example" } } }
      assert.same({ "ops@x.example", "b@x.example" }, built.recipients)
      assert.equal("Ops <ops@x.example>, b@x.example", header(built, "To"))
      local _, _, code = request { recipients = {} }
      assert.equal("unknown_target", code)
      assert.equal("undisclosed-recipients:;", header(request { recipients = {}, options = { bcc = { "a@b.example" } } }, "To"))
    end)

    local bad = {
      "", "joe", "joe@", "@x.example", "a@b@c.example", "a b@x.example", "a@x..example", ".a@x.example", "a.@x.example",
      "a..b@x.example", "a@x.example\r\nRCPT TO:<b@x.example>", "a@x.example>,<b@x.example", "jöe@x.example", "a@[::1]", "a\0@x.example",
      ("a"):rep(65) .. "@x.example", "a@" .. ("b."):rep(130) .. "example", "\"a b\"@x.example", "<a@x.example", "Joe\n <a@x.example>",
    }
    for _, value in ipairs(bad) do
      it(("refuse %q (fault 13)"):format(value), function()
        local built, message, code = request { recipients = { { type = "email", value = value } } }
        assert.is_nil(built)
        assert.equal("invalid", code)
        assert.matches("^recipient:", message)
        _, _, code = request { options = { cc = { value } } }
        assert.equal("invalid", code)
        assert.is_nil(check(with { reply_to = value }))
      end)
    end
    for _, value in ipairs { "a@x.example", "a+b_c.d-e/f=g@sub.x-y.example", "o'hara@x.example", "a@localhost" } do
      it("take " .. value, function()
        assert.same({ value }, request { recipients = { { type = "email", value = value } } }.recipients)
      end)
    end

    it("outside of the allowed and inside of the blocked domains are left out, and told", function()
      local account = with { allowed_domains = { "one.example", "TWO.example" }, blocked_domains = { "bad.two.example" } }
      local sub = { type = "email", value = "x@sub.two.example" }
      local bad_sub = { type = "email", value = "x@very.bad.two.example" }
      local fields = { title = "T", account = account, recipients = { JOE, EVE, sub, bad_sub, { type = "email", value = "x@notone.example" } } }
      local built = request(fields)
      assert.same({ "joe@one.example", "x@sub.two.example" }, built.recipients)
      assert.equal("joe@one.example, x@sub.two.example", header(built, "To"))
      local results = email.response({ status = 250, text = "2.0.0 Ok: queued as AB12", replies = {
        { address = "joe@one.example", code = 250, text = "ok" }, { address = "x@sub.two.example", code = 250, text = "ok" },
      } }, delivery(fields))
      local codes = {}
      for index, each in ipairs(results) do
        codes[index] = each.ok or each.code
      end
      assert.same({ true, "rejected", true, "rejected", "rejected" }, codes)
      local _, message, code = request { account = account, recipients = { EVE } }
      assert.same({ "rejected", "the domain evil.example is not allowed" }, { code, message })
      _, _, code = request { account = account, options = { cc = { "eve@evil.example" } } }
      assert.equal("rejected", code)
    end)
  end)

  describe("header", function()
    it("names the sender, the place for answers and the place for bounces", function()
      local built = request { account = with { from = "Old <noreply@x.example>", from_name = 'Ops "Team", 1', reply_to = "Help <help@x.example>",
                                               return_path = "bounce@x.example", hello = "me.example", dsn = { "failure", "delay" } } }
      assert.equal('"Ops \\"Team\\", 1" <noreply@x.example>', header(built, "From"))
      assert.equal("Help <help@x.example>", header(built, "Reply-To"))
      assert.equal("bounce@x.example", built.from)
      assert.same({ "me.example", { "failure", "delay" } }, { built.hello, built.dsn })
      assert.equal("other@x.example", header(request { options = { reply_to = "other@x.example" } }, "Reply-To"))
    end)

    it("tells the priority", function()
      local cases = { urgent = { "1", "high", "urgent" }, high = { "2", "high" }, normal = {}, low = { "5", "low", "non-urgent" } }
      for priority, expected in pairs(cases) do
        local built = request { title = "T", message = { priority = priority } }
        assert.same(expected, { header(built, "X-Priority"), header(built, "Importance"), header(built, "Priority") })
      end
    end)

    it("offers to unsubscribe, with one click where that is possible", function()
      local list = { "https://x.example/u?i=1", "mailto:leave@x.example?subject=out" }
      local built = request { account = with { list_unsubscribe = list, list_unsubscribe_post = true } }
      assert.equal("<https://x.example/u?i=1>, <mailto:leave@x.example?subject=out>", header(built, "List-Unsubscribe"))
      assert.equal("List-Unsubscribe=One-Click", header(built, "List-Unsubscribe-Post"))
      built = request { account = with { list_unsubscribe = list, list_unsubscribe_post = true }, options = { list_unsubscribe_post = false } }
      assert.is_nil(header(built, "List-Unsubscribe-Post"))
      for _, bad in ipairs { { "http://x.example" }, { "https://x.example/>,<y" }, { "x.example" }, { "https://x.example/\r\nX: y" } } do
        assert.is_nil(check(with { list_unsubscribe = bad }))
        local _, _, code = request { options = { list_unsubscribe = bad } }
        assert.equal("invalid", code)
      end
      assert.is_nil(check(with { list_unsubscribe = { "mailto:a@x.example" }, list_unsubscribe_post = true }))
      assert.is_nil(check(with { list_unsubscribe_post = true }))
    end)

    it("takes more lines from account and message", function()
      local built = request { account = with { headers = { ["X-App"] = "ä" } }, options = { headers = { ["In-Reply-To"] = "<1@x.example>" } } }
      assert.same({ "ä", "<1@x.example>" }, { header(built, "X-App"), header(built, "In-Reply-To") })
    end)

    for _, name in ipairs { "Bcc", "bcc", "FROM", "Subject", "Content-Type", "Message-ID", "X: y\r\nBcc", "", "X Y", "Ünicode" } do
      it(("refuses a line named %q (fault 13)"):format(name), function()
        local built, message, code = request { options = { headers = { [name] = "x" } } }
        assert.is_nil(built)
        assert.equal("invalid", code)
        assert.matches("^headers:", message)
        assert.is_nil(check(with { headers = { [name] = "x" } }))
      end)
    end

    it("cannot be broken out of by title, subject, names and values (fault 13)", function()
      for _, evil in ipairs { "x\r\nBcc: eve@evil.example", "x\nY: z", "x\rY", "x\0y", "\27[0m", "x\127" } do
        for field, fields in pairs {
          title = { title = evil }, subject = { options = { subject = evil } }, reply_to = { options = { reply_to = evil } },
          ["X-A"] = { options = { headers = { ["X-A"] = evil } } }, From = { account = with { from_name = evil } },
          cc = { options = { cc = { evil .. " <a@x.example>" } } },
        } do
          local built, message, code = request(fields)
          assert.is_nil(built)
          assert.equal("invalid", code)
          assert.equal(field, message:match("^[%w_-]+"))
        end
      end
    end)

    it("has a subject even when the message has no title", function()
      assert.equal("first line", header(request { body = "\n first line\nsecond" }, "Subject"))
      assert.equal("Hello you", header(request { body = "<h1>Hello <i>you</i></h1><p>x", format = "html" }, "Subject"))
      assert.equal("a b", header(request { body = "a\tb" }, "Subject"))
      assert.equal(("飞"):rep(77) .. "…", header(request { body = ("飞"):rep(500) }, "Subject"))
    end)
  end)

  describe("contents", function()
    it("are text for text", function()
      local built = request { body = "a <b>\r\n.\r\nc" }
      assert.same({ "a <b>\r\n.\r\nc", nil }, { built.text, built.html })
    end)

    it("are HTML made from markdown beside the markdown", function()
      local built = request { body = "**B** 100 %s & <x@y.example>", format = "markdown" }
      assert.equal("**B** 100 %s & <x@y.example>", built.text)
      assert.matches("<p><strong>B</strong> 100 %%s &amp; <a href=\"mailto:x@y.example\">", built.html)
      assert.matches('^<!DOCTYPE html>\n<html><head><meta charset="utf%-8"></head><body>\n', built.html)
    end)

    it("are HTML as it is beside what a person would read", function()
      local built = request { body = "<p>Hi <b>you</b></p><p><a href=\"https://x.example\">go</a></p>", format = "html" }
      assert.equal("<p>Hi <b>you</b></p><p><a href=\"https://x.example\">go</a></p>", built.html)
      assert.equal("Hi you\n\ngo (https://x.example)", built.text)
      assert.equal("own", request { body = "<p>x", format = "html", options = { text = "own" } }.text)
    end)

    it("hold every attachment, inline ones too (fault 13)", function()
      local files = { { name = "r.pdf", content_type = "application/pdf", path = "/tmp/r.pdf" },
                      { name = "l.png", content_type = "image/png", content = "\137PNG", inline_id = "logo" } }
      local built = request { body = "<img src=\"cid:logo\">", format = "html", attachments = files }
      assert.same(files, built.attachments)
    end)
  end)

  describe("target URLs", function()
    local function parse(text)
      local account, recipients = api.parse(email, text)
      if not account then
        return nil, recipients
      end
      assert(email.check(api.account(email, account)))
      local to = {}
      for index, each in ipairs(recipients) do
        assert.equal("email", each.type)
        to[index] = each.value
      end
      local built = assert(email.request(api.delivery(email, { title = "T", account = account, recipients = recipients })))
      return { built.host, built.port, built.security, built.auth, built.user, built.password, built.from }, to, built
    end

    it("of a known provider need no more than user and password", function()
      local server, to = parse "mailto://joe:app%20pw@gmail.com"
      assert.same({ "smtp.gmail.com", 587, "starttls", "plain", "joe@gmail.com", "app pw", "joe@gmail.com" }, server)
      assert.same({ "joe@gmail.com" }, to)
      assert.same({ "smtp.gmail.com", 465, "tls", "plain", "joe@gmail.com", "p", "joe@gmail.com" }, (parse "mailtos://joe:p@gmail.com?mode=ssl"))
    end)

    it("name server, sender and recipients", function()
      local server, to, built = parse("mailtos://u:p@example.com:2525/ann%40x.example/bob@y.example"
        .. "?smtp=mail.example.com&from=noreply@example.com&name=The%20Bot&to=c@z.example,d@z.example&cc=e@z.example&bcc=f@z.example&reply=g@z.example")
      assert.same({ "mail.example.com", 2525, "starttls", "plain", "u", "p", "noreply@example.com" }, server)
      assert.same({ "ann@x.example", "bob@y.example", "c@z.example", "d@z.example" }, to)
      assert.same({ "The Bot <noreply@example.com>", "e@z.example", "g@z.example" }, { header(built, "From"), header(built, "Cc"), header(built, "Reply-To") })
      assert.same({ "ann@x.example", "bob@y.example", "c@z.example", "d@z.example", "e@z.example", "f@z.example" }, built.recipients)
    end)

    it("encrypt unless they say otherwise (fault 13)", function()
      local cases = {
        { "mailto://u:p@h.example/a@x.example", 25, "starttls" }, { "mailtos://u:p@h.example/a@x.example", 587, "starttls" },
        { "mailtos://u:p@h.example:465/a@x.example", 465, "tls" }, { "mailto://u:p@h.example/a@x.example?mode=ssl", 465, "tls" },
        { "mailto://u:p@h.example:2525/a@x.example?mode=insecure", 2525, "none" },
      }
      for _, case in ipairs(cases) do
        local server = parse(case[1])
        assert.same({ case[2], case[3] }, { server[2], server[3] })
      end
    end)

    for what, text in pairs {
      ["no host"] = "mailto:///a@x.example", ["a host that is none"] = "mailto://u:p@h..example/a@x.example",
      ["an unknown mode"] = "mailto://h.example/a@x.example?mode=perhaps", ["an unknown parameter"] = "mailto://h.example/a@x.example?form=a@x.example",
      ["a smuggled header"] = "mailto://u:p@h.example/a@x.example?name=x%0d%0aBcc:%20b@x.example", ["nobody"] = "mailto://h.example",
    } do
      it("with " .. what .. " are refused", function()
        local account, message = api.parse(email, text)
        assert.is_nil(account)
        assert.is_string(message)
      end)
    end
  end)

  it("checks the account", function()
    local bad = {
      host = with { host = "no host" }, port = with { port = 70000 }, from = with { from = "nobody" },
      return_path = with { return_path = "x" }, to = with { to = { "x" } }, cc = with { cc = { "x" } },
      dsn = with { dsn = { "sometimes" } }, user = { host = "h.example", from = "a@b.example", password = "p" },
    }
    for field, options in pairs(bad) do
      local ok, message = check(options)
      assert.is_nil(ok)
      assert.equal(field, message:match("^[%w_]+"))
    end
    assert.is_nil(check(with { dsn = { "never", "delay" } }))
    assert.is_nil(check {})
    assert(check(ACCOUNT))
    assert(check { host = "h.example", from = "a@b.example" })
  end)

  describe("answers", function()
    local function judge(fields, response)
      return email.response(response, delivery(fields))
    end

    it("tell the server's id of the mail, or else ours", function()
      local replies = { { address = "joe@one.example", code = 250, text = "ok" } }
      assert.same({ ok = true, status_code = 250, provider_id = "4B2C1" },
        judge({}, { status = 250, text = "250 2.0.0 Ok: queued as 4B2C1", replies = replies }))
      assert.equal("<01J9Z3NDEKTSV4RRFFQ69G5FAV@sender.example>", judge({}, { status = 250, text = "OK", replies = replies }).provider_id)
    end)

    it("are each recipient's own", function()
      local results = judge({ recipients = { JOE, ANN, EVE } }, { status = 250, text = "ok", replies = {
        { address = "joe@one.example", code = 250, text = "2.1.5 ok" }, { address = "ann@two.example", code = 550, text = "5.1.1 no such user" },
        { address = "eve@evil.example", code = 450, text = "4.2.0 try later" },
      } })
      assert.is_true(results[1].ok)
      assert.same({ "unknown_target", "SMTP 550: 5.1.1 no such user", 550 }, { results[2].code, results[2].error, results[2].status_code })
      assert.same({ "unavailable", 450 }, { results[3].code, results[3].status_code })
    end)

    it("say of nobody that he has a mail that was refused at the end", function()
      local results = judge({ recipients = { JOE, ANN } }, { status = 554, text = "5.7.1 spam", replies = {
        { address = "joe@one.example", code = 250, text = "ok" }, { address = "ann@two.example", code = 250, text = "ok" } } })
      assert.same({ "rejected", "rejected" }, { results[1].code, results[2].code })
    end)

    it("are found again when one address stands twice", function()
      local twice = { type = "email", value = "Joe@one.example" }
      local results = judge({ recipients = { JOE, twice, ANN } }, { status = 250, text = "ok", replies = {
        { address = "joe@one.example", code = 550, text = "5.1.1 no" }, { address = "ann@two.example", code = 250, text = "ok" } } })
      assert.same({ false, false, true }, { results[1].ok, results[2].ok, results[3].ok })
    end)

    it("about a copy are told as a warning", function()
      local got = judge({ options = { cc = { "boss@three.example" } } }, { status = 250, text = "ok", replies = {
        { address = "joe@one.example", code = 250, text = "ok" }, { address = "boss@three.example", code = 550, text = "5.1.1 gone" } } })
      assert.is_true(got.ok)
      assert.equal("copy to boss@three.example: SMTP 550: 5.1.1 gone", got.warning)
    end)

    it("about the account's own recipients are one result", function()
      local account = with { to = { "joe@one.example", "ann@two.example" } }
      local got = judge({ recipients = {}, account = account }, { status = 250, text = "ok", replies = {
        { address = "joe@one.example", code = 250, text = "ok" }, { address = "ann@two.example", code = 550, text = "no" } } })
      assert.same({ false, 550 }, { got.ok, got.status_code })
    end)

    local codes = {
      { 421, "4.3.2 closing", "unavailable" }, { 450, "busy", "unavailable" }, { 451, "4.7.28 rate", "rate_limited" },
      { 535, "5.7.8 bad credentials", "auth" }, { 530, "login first", "auth" }, { 550, "no such user", "unknown_target" },
      { 550, "5.7.1 blocked", "rejected" }, { 552, "5.2.2 mailbox full", "rejected" }, { 552, "5.3.4 too big", "too_large" },
      { 552, "too big", "too_large" }, { 553, "bad mailbox", "unknown_target" }, { 554, "no", "rejected" }, { 0, "", "rejected" },
    }
    for _, case in ipairs(codes) do
      it(("%d %s are `%s`"):format(table.unpack(case)), function()
        local failed = judge({}, { status = case[1], text = case[2], replies = {} })
        assert.same({ false, case[3] }, { failed.ok, failed.code })
      end)
    end

    it("print nothing strange", function()
      local failed = judge({}, { status = 550, text = "550 see https://x.example/t0ken \27[31m\r\nnow" .. ("x"):rep(900), replies = {} })
      assert.matches("^SMTP 550: see https://x.example/… \\x1b%[31m", failed.error)
      assert.is_true(#failed.error < 300)
    end)
  end)
end)
