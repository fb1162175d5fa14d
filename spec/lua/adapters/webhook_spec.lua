local api = require "spec.support.script_api"
local hmac, mime = require "openssl.hmac", require "mime"
local json = api.require "json"
local webhook = api.adapter "webhook"

local URL = "https://hooks.example/in?room=1"

local function request(fields)
  fields.account = fields.account or { url = URL }
  return api.request(webhook, fields)
end

local function check(options)
  return webhook.check(api.account(webhook, options))
end

-- A request for what a target URL says.
local function request_for(text, fields)
  local account, recipients = api.parse(webhook, text)
  assert(account, recipients)
  fields = fields or { title = "T", body = "B" }
  fields.account, fields.recipients = account, recipients
  assert(check(account))
  return request(fields)
end

describe("webhook", function()
  describe("addresses", function()
    it("are the target's own (fault 12)", function()
      assert.equal("https://other.example/x?y=1#", request_for("https://other.example/x?y=1").url .. "#")
      local to = { { type = "webhook", value = "https://b.example/own" } }
      assert.equal("https://b.example/own", request { account = {}, recipients = to }.url)
      assert.equal("https://b.example/own", request { account = { url = "https://b.example/other" }, recipients = to }.url)
    end)

    it("verify certificates unless told otherwise (fault 12)", function()
      assert.is_true(request {}.verify)
      assert.is_true(request_for("jsons://h.example/x").verify)
      assert.is_false(request_for("jsons://h.example/x?verify=no").verify)
    end)

    it("are called as they are written", function()
      assert.equal("http://[::1]:8080/a//b%2Fc/?q=%C3%A9+x", request_for("http://[::1]:8080/a//b%2Fc/?q=%C3%A9+x#frag").url)
      assert.equal("https://h.example/%C3%A9", request_for("https://h.example/é").url)
    end)

    it("give user and password to the authentication and to nothing else", function()
      local built = request_for("https://us%40er:p%3Aw@h.example/x")
      assert.same({ "https://h.example/x", "us@er", "p:w" }, { built.url, built.user, built.password })
    end)

    it("of an unknown or missing place are refused", function()
      local _, _, code = request { account = {} }
      assert.equal("unknown_target", code)
      _, _, code = request { account = {}, recipients = { { type = "webhook", value = "file:///etc/passwd" } } }
      assert.equal("invalid", code)
      _, _, code = request { account = {}, recipients = { { type = "webhook", value = "https://h/\r\nX: y" } } }
      assert.equal("invalid", code)
    end)

    it("of another server do not get the account's credentials", function()
      for name, value in pairs { bearer = "S", user = "u", api_key = "S", headers = { Authorization = "S" }, client_cert = "f" } do
        local built, message, code = request {
          account = { url = "https://own.example/x", [name] = value },
          recipients = { { type = "webhook", value = "https://own.example.evil.example/x" } },
        }
        assert.is_nil(built)
        assert.equal("invalid", code)
        assert.is_nil(message:find("S", 1, true))
        assert(request {
          account = { url = "https://own.example/x", [name] = value },
          recipients = { { type = "webhook", value = "https://OWN.example:443/y" } },
        })
      end
    end)
  end)

  describe("target URLs", function()
    it("have Apprise's shapes", function()
      local schemes = {
        json = { "http", "json" }, jsons = { "https", "json" }, form = { "http", "form" }, forms = { "https", "form" },
        xml = { "http", "xml" }, xmls = { "https", "xml" }, webhook = { "https", "json" },
      }
      for scheme, expected in pairs(schemes) do
        local account = assert(api.parse(webhook, scheme .. "://u:p@h.example:81/a/b"))
        assert.equal(expected[1] .. "://h.example:81/a/b", account.url)
        assert.equal(expected[2], account.payload)
        assert.same({ "u", "p" }, { account.user, account.password })
      end
    end)

    it("take +key= as a header, -key= as a parameter and :key= as a field", function()
      local built = request_for("jsons://h.example/x?method=put&+X-Tag=a%20b&-v=1&-a=%26&:env=prod&:title=subject&:priority=&rto=3&cto=2")
      assert.equal("PUT", built.method)
      assert.equal("https://h.example/x?a=%26&v=1", built.url)
      assert.equal("a b", built.headers["X-Tag"])
      local body = json.decode(built.body)
      assert.same({ "prod", "T", nil, nil }, { body.env, body.subject, body.title, body.priority })
      assert.same({ 3, 2 }, { built.timeout, built.connect_timeout })
    end)

    for what, text in pairs {
      ["an unknown parameter"] = "json://h.example/?metod=PUT", ["no host"] = "json:///x",
      ["a host that is none"] = "json://h_ü.example!/x", ["a wrong switch"] = "json://h.example/?verify=perhaps",
    } do
      it("with " .. what .. " are refused", function()
        local account, message = api.parse(webhook, text)
        assert.is_nil(account)
        assert.is_string(message)
      end)
    end

    it("cannot smuggle a header", function()
      assert.is_nil(api.parse(webhook, "json://h.example/?+X=a%0d%0aY:%20b"))
      local account = api.parse(webhook, "json://h.example/?+X%3A%20y=a")
      local ok, message = check(account)
      assert.is_nil(ok)
      assert.matches("^headers:", message)
    end)
  end)

  local HOSTILE = {
    title = "</title>&\"'", body = "line\r\nX: y\n]]>\1 é 飞", format = "markdown",
    message = { id = "m\"1", priority = "high", created_at = 1700000000.25, metadata = { service = "a&b", n = 3, deep = { x = { 1, 2 } } },
                targets = { "slack://…", "ops@example.com", "https://h.example/…" } },
  }

  local function hostile(account, attachments)
    local fields = { account = account, attachments = attachments }
    for key, value in pairs(HOSTILE) do
      fields[key] = value
    end
    return request(fields)
  end

  local FILES = { { name = "a\"b.txt", content_type = "text/plain", content = "\0\1\2file" } }

  describe("JSON", function()
    it("holds the whole message", function()
      local built = hostile({ url = URL })
      assert.same({ "POST", URL }, { built.method, built.url })
      assert.same({ ["Content-Type"] = "application/json; charset=utf-8" }, built.headers)
      assert.same({
        message_id = "m\"1", title = HOSTILE.title, body = HOSTILE.body, format = "markdown", priority = "high",
        targets = HOSTILE.message.targets,
        timestamp = "2023-11-14T22:13:20.250Z", metadata = HOSTILE.message.metadata,
      }, json.decode(built.body))
    end)

    it("tells each message's own time, whatever was told before", function()
      for _, case in ipairs {
        { 1700000000.25, "2023-11-14T22:13:20.250Z" }, { 1700000000.5, "2023-11-14T22:13:20.500Z" },
        { 1700000001.5, "2023-11-14T22:13:21.500Z" }, { 1700000001.5, "2023-11-14T22:13:21.500Z" },
        { 1700000000.5, "2023-11-14T22:13:20.500Z" }, { 1700000000, "2023-11-14T22:13:20.000Z" },
      } do
        local built = request { title = "T", message = { id = "m", created_at = case[1] } }
        assert.equal(case[2], json.decode(built.body).timestamp)
      end
    end)

    it("writes empty lists and tables as what they are", function()
      local body = request { title = "T" }.body
      assert.matches('"targets":%[%]', body)
      assert.matches('"metadata":{}', body)
    end)

    it("carries attachments as base64", function()
      local body = json.decode(hostile({ url = URL }, FILES).body)
      assert.same({ { name = "a\"b.txt", content_type = "text/plain", content = "AAECZmlsZQ==" } }, body.attachments)
    end)
  end)

  describe("a form", function()
    it("flattens what is nested", function()
      local built = hostile({ url = URL, payload = "form" })
      assert.equal("application/x-www-form-urlencoded", built.headers["Content-Type"])
      local pairs_of = {}
      for name, value in built.body:gmatch("([^=&]+)=([^&]*)") do
        local decode = function(s) return (s:gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end)) end
        pairs_of[#pairs_of + 1] = decode(name) .. " = " .. decode(value)
      end
      assert.same({
        "message_id = m\"1", "title = </title>&\"'", "body = " .. HOSTILE.body, "format = markdown", "priority = high",
        "targets = slack://…", "targets = ops@example.com", "targets = https://h.example/…", "timestamp = 2023-11-14T22:13:20.250Z",
        "metadata[deep][x] = 1", "metadata[deep][x] = 2", "metadata[n] = 3", "metadata[service] = a&b",
      }, pairs_of)
    end)

    it("with attachments is multipart", function()
      local built = hostile({ url = URL, payload = "form" }, FILES)
      assert.is_nil(built.body)
      assert.is_nil(built.headers["Content-Type"])
      assert.same({ name = "title", content = HOSTILE.title }, built.multipart[2])
      assert.same({ name = "attachments", filename = "a\"b.txt", content_type = "text/plain", content = "\0\1\2file" },
        built.multipart[#built.multipart])
    end)

    it("that is signed carries no attachments", function()
      local built, message, code = hostile({ url = URL, payload = "form", signature = { secret = "k" } }, FILES)
      assert.is_nil(built)
      assert.equal("invalid", code)
      assert.matches("^attachments:", message)
    end)

    it("is the query of a GET", function()
      local built = request { title = "a&b", account = { url = URL, method = "GET" } }
      assert.is_nil(built.body)
      assert.matches("^https://hooks%.example/in%?room=1&message_id=m%-1&title=a%%26b&body=&format=text&", built.url)
      local _, _, code = request { title = "T", account = { url = URL, method = "GET" }, attachments = FILES }
      assert.equal("invalid", code)
    end)
  end)

  describe("XML", function()
    it("is well-formed whatever the message holds", function()
      local built = hostile({ url = URL, payload = "xml", fields = { ["x-env"] = "prod" } }, FILES)
      assert.equal("application/xml; charset=utf-8", built.headers["Content-Type"])
      assert.matches("<title>&lt;/title&gt;&amp;&quot;&#39;</title>", built.body)
      assert.matches('<entry name="deep"><entry name="x"><item>1</item><item>2</item></entry></entry>', built.body)
      assert.matches("<targets><target>slack://…</target><target>ops@example.com</target>", built.body)
      assert.matches('<attachment name="a&quot;b.txt" content_type="text/plain" encoding="base64">AAECZmlsZQ==</attachment>', built.body)
      assert.matches("<x%-env>prod</x%-env></notification>", (built.body:gsub("<attachments>.*</attachments>", "")))
      local name = os.tmpname()
      local file = assert(io.open(name, "wb"))
      file:write(built.body)
      file:close()
      assert(os.execute("python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' " .. name))
      os.remove(name)
    end)

    it("has only names that XML knows", function()
      assert.is_nil(check { payload = "xml", fields = { ["a b"] = "1" } })
      assert.is_nil(check { payload = "xml", fields = { title = "<x>" } })
      assert(check { payload = "xml", fields = { title = "subject", ["a.b"] = "<x>", body = "" } })
    end)
  end)

  describe("authentication", function()
    it("is basic, bearer, an API key or a header", function()
      local built = request { account = { url = URL, user = "u", password = "p" } }
      assert.same({ "u", "p" }, { built.user, built.password })
      assert.equal("t0k", request { account = { url = URL, bearer = "t0k" } }.bearer)
      assert.equal("k", request { account = { url = URL, api_key = "k" } }.headers["X-API-Key"])
      assert.equal("k", request { account = { url = URL, api_key = "k", api_key_name = "Key" } }.headers.Key)
      assert.equal(URL .. "&key=k%26", request { account = { url = URL, api_key = "k&", api_key_name = "key", api_key_in = "query" } }.url)
      assert.equal("Token x", request { account = { url = URL, headers = { Authorization = "Token x" } } }.headers.Authorization)
    end)

    it("passes certificates, proxy and timeouts on", function()
      local built = request { account = { url = URL, client_cert = "c.pem", client_key = "k.pem", ca_file = "ca.pem",
                                          proxy = "http://p.example:3128", timeout = 9, connect_timeout = 2 } }
      assert.same({ "c.pem", "k.pem", "ca.pem", "http://p.example:3128", 9, 2 }, { built.client_cert, built.client_key,
        built.ca_file, built.proxy, built.timeout, built.connect_timeout })
    end)

    it("is never given twice", function()
      assert.is_nil(check { bearer = "a", user = "b" })
    end)
  end)

  it("lets a message add headers, whose names are checked", function()
    local built = request { options = { headers = { ["X-Run"] = "7", ["content-type"] = "application/vnd.x+json" } } }
    assert.equal("7", built.headers["X-Run"])
    assert.is_nil(built.headers["content-type"])
    assert.equal("application/json; charset=utf-8", built.headers["Content-Type"])
    local _, _, code = request { options = { headers = { ["X: y\r\nZ"] = "7" } } }
    assert.equal("invalid", code)
  end)

  describe("signing by Standard Webhooks", function()
    local SECRET, SECOND = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_bm90aWZ5aHViLXNlY29uZC1rZXktMDEyMw=="
    local ID, TIMESTAMP = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330

    -- A verifier of its own: it is held against the published vector before it judges the adapter.
    local function signature(secret, id, timestamp, body)
      local key = mime.unb64(secret:sub(7))
      return "v1," .. (mime.b64(hmac.new(key, "sha256"):final(id .. "." .. timestamp .. "." .. body)))
    end

    -- Nothing of ours in the payload, so that the body is known to the byte.
    local ONLY_TEST = { message_id = "", title = "", body = "", format = "", priority = "", targets = "", timestamp = "",
                        metadata = "", test = 2432232314 }

    it("agrees with the published test vector", function()
      assert.equal("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        signature(SECRET, ID, TIMESTAMP, '{"test": 2432232314}'))
    end)

    it("agrees with signatures made by openssl", function()
      -- printf '%s' 'msg_….1614265330.{"test":2432232314}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:… -binary | base64
      local built = request { id = ID, now = TIMESTAMP + 0.9, account = { url = URL, secret = SECRET .. " " .. SECOND, fields = ONLY_TEST } }
      assert.equal('{"test":2432232314}', built.body)
      assert.equal(ID, built.headers["webhook-id"])
      assert.equal("1614265330", built.headers["webhook-timestamp"])
      assert.equal("v1,Vif40peJBP7Iyl0XGmu61n4MwdrcHov5CFREBpE0svs= v1,tIjCZRsbzcCbzF3zzVJvAwrrrL6XaNUbrX0rldThXVQ=",
        built.headers["webhook-signature"])
    end)

    for _, payload in ipairs { "json", "form", "xml" } do
      it("covers the bytes that are sent as " .. payload, function()
        local built = hostile({ url = URL, secret = SECRET, payload = payload })
        local headers = built.headers
        assert.equal(signature(SECRET, headers["webhook-id"], headers["webhook-timestamp"], built.body),
          headers["webhook-signature"])
      end)
    end

    it("keeps the id over attempts and moves the timestamp", function()
      local first = request { title = "T", account = { url = URL, secret = SECRET }, attempt = 1, now = 1700000000 }
      local second = request { title = "T", account = { url = URL, secret = SECRET }, attempt = 2, now = 1700000060 }
      assert.equal(first.headers["webhook-id"], second.headers["webhook-id"])
      assert.equal("1700000060", second.headers["webhook-timestamp"])
      assert.equal(first.body, second.body)
    end)

    it("refuses secrets that are none, without printing them", function()
      for _, secret in ipairs { "", "abc", "whsec_", "whsec_!!!!", SECRET .. " abc" } do
        local ok, message = check { url = URL, secret = secret }
        assert.is_nil(ok)
        assert.matches("^secret:", message)
        assert.is_nil(message:find("MfKQ", 1, true))
      end
      assert.is_nil(check { url = URL, secret = SECRET, method = "GET" })
    end)

    it("has a plain HMAC beside it", function()
      local built = request { account = { url = URL, fields = ONLY_TEST,
                                          signature = { header = "X-Hub-Signature-256", secret = "key1", prefix = "sha256=" } } }
      assert.equal("sha256=04e062707e97f5138de9bd1cf1c9f245b472fd0f4e306548ef2438f0a1299e6b", built.headers["X-Hub-Signature-256"])
      built = request { account = { url = URL, fields = ONLY_TEST, signature = { secret = "key1", algorithm = "sha1" } } }
      assert.equal("49c65dc3f74879b5f0dad342633a0ec5dcb4245e", built.headers["X-Signature"])
      for _, signed in ipairs { {}, { secret = "" }, { secret = "k", algorithm = "md5" }, { secret = "k", heder = "X" }, { secret = 1 } } do
        assert.is_nil(check { url = URL, signature = signed })
      end
    end)
  end)

  it("refuses accounts that cannot work", function()
    for name, value in pairs { url = "ftp://x.example/", headers = { ["a b"] = "1" }, query = { 1 }, fields = { a = {} } } do
      local ok, message = check { [name] = value }
      assert.is_nil(ok)
      assert.matches("^" .. name .. ":", message)
    end
    assert(check {})
  end)

  it("judges by the status", function()
    local function judge(status) return webhook.response({ status = status, headers = {}, body = "" }, nil) end
    assert.is_true(judge(204).ok)
    assert.equal("auth", judge(401).code)
    assert.equal("rejected", judge(302).code)
    assert.equal("unavailable", judge(503).code)
  end)
end)
