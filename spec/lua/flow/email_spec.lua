-- Mail as it arrives at a real SMTP server (aiosmtpd), raw.
local command = require "spec.support.command"
local peer = require "spec.lua.flow.peer"
local receiver = require "spec.support.receiver"
local support = require "spec.lua.binding.support"

local function unbase64(text)
  local path = os.tmpname()
  local pipe <close> = assert(io.popen("base64 -d >" .. path, "w"))
  pipe:write(text)
  pipe:close()
  local bytes = command.read(path)
  os.remove(path)
  return bytes
end

-- A hub whose account `email` writes to this server.
local function open(server, options)
  local account = { host = "127.0.0.1", port = server.port, security = "none", from = "ops@example.com" }
  for name, value in pairs(options or {}) do
    account[name] = value
  end
  return support.hub { platforms = { email = account } }
end

local function send(hub, message)
  message.retry = message.retry or { attempts = 1 }
  return assert(hub:send(message, 10))
end

local function sorted(list)
  table.sort(list)
  return list
end

describe("a mail", function()
  local server
  after_each(function()
    support.finish()
    peer.stop_all()
  end)

  -- Sends and returns the one mail that came.
  local function mailed(message, options)
    server = peer.mail()
    local receipt = send(open(server, options), message)
    assert.equal("delivered", receipt.status, receipt.error)
    local mails = server:wait(1)
    assert.equal(1, #mails)
    assert.same({}, mails[1].view.defects)
    assert.is_true(mails[1].view.longest <= 80, mails[1].view.longest) -- 80: libcurl's boundary line
    return mails[1], receipt
  end

  it("is not sent without the login that was asked for", function()
    local sink = receiver.start { smtp = true } -- has no AUTH at all
    local receipt = send(open({ port = sink.smtp_port }, { user = "u", password = "p" }),
      { body = "x", targets = { "joe@example.com" } })
    assert.equal("failed", receipt.status)
    assert.equal("auth", receipt.results[1].code)
    assert.matches("offers no authentication", receipt.results[1].error)
    assert.equal(0, #sink:arrivals())
    receiver.stop_all()
  end)

  it("goes to a bare address by the configured account", function()
    local mail, receipt = mailed { title = "Deploy", body = "v1.2 is out", targets = { "joe@example.com" } }
    assert.equal("ops@example.com", mail.envelope.from)
    assert.same({ "joe@example.com" }, mail.envelope.to)
    assert.equal("Deploy", mail.view.headers.Subject)
    assert.equal("joe@example.com", mail.view.headers.To)
    assert.equal("v1.2 is out", (mail.view.parts[1].text:gsub("%s+$", "")))
    assert.equal("joe@example.com", receipt.results[1].target)
    assert.equal(250, receipt.results[1].status_code)
  end)

  it("goes to a mailto URL, and its credentials are not the configured account's", function()
    server = peer.mail { "--auth", "jane:secret" }
    local hub = support.hub { platforms = {
      email = { host = "127.0.0.1", port = server.port, security = "none", from = "other@example.com",
                user = "other", password = "wrong" },
    } }
    local receipt = send(hub, { title = "t", targets = {
      ("mailto://jane:secret@127.0.0.1:%d/joe@example.com?mode=insecure&from=jane@example.com"):format(server.port),
    } })
    assert.equal("delivered", receipt.status, receipt.error)
    local mail = server:wait(1)[1]
    assert.equal("jane", mail.envelope.user)
    assert.equal("jane@example.com", mail.envelope.from)
    receipt = send(hub, { title = "t", targets = { "joe@example.com" } })
    assert.equal("auth", receipt.code)
    assert.is_nil(receipt.error:find("wrong", 1, true), receipt.error)
    assert.equal(1, server:count())
  end)

  it("has copies, blind copies that nobody sees, and where answers go", function()
    local mail = mailed({
      title = "t", body = "b", targets = { "joe@example.com" },
      platform = { email = { cc = { "Ann Lee <ann@example.com>" }, bcc = { "spy@example.com" }, reply_to = "help@example.com" } },
    }, { cc = { "boss@example.com" }, bcc = { "archive@example.com" } })
    assert.same({ "ann@example.com", "archive@example.com", "boss@example.com", "joe@example.com", "spy@example.com" },
      sorted(mail.envelope.to))
    assert.equal("boss@example.com, Ann Lee <ann@example.com>", mail.view.headers.Cc)
    assert.equal("help@example.com", mail.view.headers["Reply-To"])
    assert.is_nil(mail.raw:find("spy@", 1, true))
    assert.is_nil(mail.raw:find("archive@", 1, true))
  end)

  it("has attachments, from content and from a file, byte for byte", function()
    local bytes = {}
    for index = 0, 255 do
      bytes[index + 1] = string.char(index)
    end
    bytes = table.concat(bytes):rep(40)
    local directory = command.directory()
    local path = command.write(directory .. "/report.bin", bytes)
    local mail = mailed { title = "t", body = "see there", targets = { "joe@example.com" }, attachments = {
      { name = "zürich.bin", content = bytes, content_type = "application/x-own" }, { path = path },
      { name = "other name.txt", path = path, content_type = "text/plain" },
    } }
    command.remove(directory)
    local parts = mail.view.parts
    assert.equal(4, #parts)
    assert.equal("see there", (parts[1].text:gsub("%s+$", "")))
    assert.equal("zürich.bin", parts[2].filename)
    assert.equal("application/x-own", parts[2].type)
    assert.equal("attachment", parts[2].disposition)
    assert.equal(bytes, unbase64(parts[2].bytes))
    assert.equal("report.bin", parts[3].filename)
    assert.equal(bytes, unbase64(parts[3].bytes))
    assert.equal("other name.txt", parts[4].filename)
  end)

  it("shows an inline image beside its HTML, and the text as the alternative", function()
    local mail = mailed {
      title = "t", format = "html", body = '<p>Look: <img src="cid:logo"></p>', targets = { "joe@example.com" },
      attachments = { { name = "logo.png", content = "\137PNG\r\n\26\n", content_type = "image/png", inline_id = "logo" } },
    }
    local image
    for _, part in ipairs(mail.view.parts) do
      image = part.type == "image/png" and part or image
    end
    assert.equal("<logo>", image.content_id)
    assert.equal("inline", image.disposition)
    assert.equal("\137PNG\r\n\26\n", unbase64(image.bytes))
    assert.truthy(mail.view.shape:find("related(", 1, true), mail.view.shape)
    assert.truthy(mail.view.shape:find("alternative(plain", 1, true), mail.view.shape)
  end)

  it("in markdown is HTML with the text beside it", function()
    local mail = mailed { title = "t", body = "It is **out**", format = "markdown", targets = { "joe@example.com" } }
    assert.truthy(mail.view.shape:find("alternative(plain,html)", 1, true), mail.view.shape)
    assert.equal("It is **out**", (mail.view.parts[1].text:gsub("%s+$", "")))
    assert.truthy(mail.view.parts[2].text:find("<strong>out</strong>", 1, true))
  end)

  it("has its subject as encoded words, however long, and its name", function()
    local title = ("Grüße aus Zürich 你好 "):rep(12) .. "Ende"
    local mail = mailed({ title = title, body = "b", targets = { "joe@example.com" } }, { from_name = "Bücher, GmbH" })
    assert.is_true(mail.view.ascii)
    assert.equal(title, mail.view.headers.Subject)
    assert.truthy(mail.raw:find("Subject: =?UTF-8?", 1, true))
    assert.truthy(mail.view.headers.From:find("Bücher, GmbH", 1, true), mail.view.headers.From)
    assert.truthy(mail.view.headers.From:find("<ops@example.com>", 1, true))
  end)

  it("tells its priority", function()
    local mail = mailed { title = "t", body = "b", priority = "urgent", targets = { "joe@example.com" } }
    assert.equal("1", mail.view.headers["X-Priority"])
    assert.equal("high", mail.view.headers.Importance)
  end)

  it("with dots and long lines in its body arrives as it was written", function()
    local body = ".\n..two\n" .. ("x"):rep(3000) .. "\nFrom here\nlast"
    local mail = mailed { title = "t", body = body, targets = { "joe@example.com" } }
    assert.equal(body, (mail.view.parts[1].text:gsub("%s+$", "")))
    assert.is_false(mail.view.bare)
  end)
end)

describe("the recipients of a mail", function()
  after_each(function()
    support.finish()
    peer.stop_all()
  end)

  it("have each a result of their own: one refused, the others told in one mail", function()
    local server = peer.mail { "--reject", "^bob@" }
    local receipt = send(open(server), { title = "t", targets = { "joe@example.com", "bob@example.com", "ann@example.com" } })
    assert.equal("partial", receipt.status)
    assert.is_true(receipt.results[1].ok)
    assert.is_false(receipt.results[2].ok)
    assert.equal("bob@example.com", receipt.results[2].target)
    assert.equal("unknown_target", receipt.results[2].code)
    assert.equal(550, receipt.results[2].status_code)
    assert.truthy(receipt.results[2].error:find("no such user", 1, true), receipt.results[2].error)
    assert.is_true(receipt.results[3].ok)
    local mails = server:wait(1)
    assert.equal(1, #mails)
    assert.same({ "joe@example.com", "ann@example.com" }, mails[1].envelope.to)
  end)

  it("that are put off are told so; the mail is not sent again to those who have it", function()
    local server = peer.mail { "--defer", "^bob@" }
    local receipt = send(open(server), {
      title = "t", targets = { "joe@example.com", "bob@example.com" }, retry = { attempts = 3, initial = 0.01 },
    })
    assert.equal("partial", receipt.status)
    assert.equal("unavailable", receipt.results[2].code)
    assert.is_true(receipt.results[2].retryable)
    assert.equal(1, server:count())
  end)

  it("that are all refused, one mail after the other, keep nobody else from having theirs", function()
    local mail = peer.mail { "--reject", "^nobody" }
    local hub = support.hub()
    local function target(name)
      return ("mailto://127.0.0.1:%d/%s@example.com?mode=insecure&from=ops@example.com"):format(mail.port, name)
    end
    for index = 1, 8 do
      local receipt = hub:send({ title = "t", targets = { target("nobody" .. index) } }, 20)
      assert.same({ "unknown_target", 550 }, { receipt.code, receipt.results[1].status_code })
    end
    assert.equal("delivered", hub:send({ title = "t", targets = { target "ann" } }, 20).status)
    assert.is_nil((next(hub:health().breakers)))
  end)

  it("that all are put off are tried again", function()
    local server = peer.mail { "--defer", "." }
    local receipt = send(open(server), { title = "t", targets = { "joe@example.com" }, retry = { attempts = 3, initial = 0.01 } })
    assert.equal("unavailable", receipt.code)
    assert.equal(3, receipt.results[1].attempts)
    assert.equal(0, server:count())
  end)

  it("get a mail of their own with `individual`", function()
    local server = peer.mail()
    local receipt = send(open(server, { individual = true }), { title = "t", targets = { "joe@example.com", "ann@example.com" } })
    assert.equal("delivered", receipt.status)
    local mails = server:wait(2)
    local to = { mails[1].view.headers.To, mails[2].view.headers.To }
    assert.same({ "ann@example.com", "joe@example.com" }, sorted(to))
  end)
end)

describe("the connection to a mail server", function()
  after_each(function()
    support.finish()
    peer.stop_all()
  end)

  it("is used again for mail after mail (fault 13)", function()
    local server = peer.mail()
    local account = { host = "127.0.0.1", port = server.port, security = "none", from = "ops@example.com" }
    local hub = support.hub { workers = { max = 1 }, platforms = { email = account } }
    for index = 1, 50 do
      assert.equal("delivered", send(hub, { title = "mail " .. index, targets = { "joe@example.com" } }).status)
    end
    assert.equal(50, server:count())
    assert.equal(1, server:connections())
  end)
end)
