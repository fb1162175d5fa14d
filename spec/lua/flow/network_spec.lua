-- The ways there: through a proxy, with a certificate of one's own, over HTTP/2, to IPv6 and to names of several addresses.

local socket = require "socket"

local command = require "spec.support.command"
local peer = require "spec.lua.flow.peer"
local receiver = require "spec.support.receiver"
local support = require "spec.lua.binding.support"

local directory
before_each(function() directory = command.directory() end)
after_each(function()
  support.finish()
  peer.stop_all()
  command.remove(directory)
end)

-- One message to an account of the webhook → its receipt.
local function call(options)
  return assert(support.hub { platforms = { webhook = options } }:send({
    title = "t", body = "b", targets = { "webhook" }, retry = { attempts = 1 },
  }, 30))
end

local function arrives(options)
  local receipt = call(options)
  assert.equal("delivered", receipt.status, receipt.error)
  return receipt
end

local function fails(code, part, options)
  local receipt = call(options)
  assert.equal("failed", receipt.status)
  assert.equal(code, receipt.code, receipt.error)
  assert.truthy(receipt.error:find(part, 1, true), receipt.error)
end

local function shell(...)
  assert(os.execute((...):format(select(2, ...)) .. " 2>/dev/null"))
end

describe("a configured proxy", function()
  local function log(proxy)
    return command.read(proxy.directory .. "/log") or ""
  end

  it("is used for http, with the whole URL in the request", function()
    local proxy, sink = peer.proxy(), support.sink()
    arrives { url = sink.url .. "/by-proxy", proxy = ("http://127.0.0.1:%d"):format(proxy.port) }
    assert.equal("/by-proxy", assert(sink:wait(1))[1].path)
    assert.equal(("POST %s/by-proxy HTTP/1.1\n"):format(sink.url), log(proxy))
  end)

  it("is used for https as a tunnel, in which the server's certificate is verified", function()
    local key, cert = peer.certificate(directory)
    local web, proxy = peer.web { "--cert", cert, "--key", key }, peer.proxy()
    local options = {
      url = ("https://127.0.0.1:%d/echo"):format(web.port), proxy = ("http://127.0.0.1:%d"):format(proxy.port), ca_file = cert,
    }
    arrives(options)
    assert.equal(("CONNECT 127.0.0.1:%d HTTP/1.1\n"):format(web.port), log(proxy))
    options.ca_file = nil
    fails("tls", "", options)
  end)

  it("gets the user and password of its URL, which are not shown", function()
    local proxy, sink = peer.proxy { "--login", "joe:canary-91af" }, support.sink()
    arrives { url = sink.url .. "/x", proxy = ("http://joe:canary-91af@127.0.0.1:%d"):format(proxy.port) }
    fails("auth", "407", { url = sink.url .. "/x", proxy = ("http://joe:wrong@127.0.0.1:%d"):format(proxy.port) })
    assert.equal(1, sink:stop().arrivals)
  end)

  it("that is not there is a failure, and nobody goes around it", function()
    local sink = support.sink()
    fails("network", "", { url = sink.url .. "/x", proxy = "http://joe:canary-91af@127.0.0.1:1" })
    local text = call { url = sink.url .. "/x", proxy = "http://joe:canary-91af@127.0.0.1:1" }.error
    assert.is_nil(text:find("canary", 1, true), text)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("of the environment is not used", function()
    local proxy, sink = peer.proxy(), support.sink()
    local done = command.run({ "send", "--body", "x", "--target", sink.url .. "/direct" },
      { before = ("http_proxy=http://127.0.0.1:%d all_proxy=http://127.0.0.1:%d"):format(proxy.port, proxy.port) })
    assert.equal(0, done.status)
    assert.equal("", log(proxy))
  end)
end)

describe("a client certificate", function()
  it("is shown to a server that asks, and without it there is no connection", function()
    local key, cert = peer.certificate(directory)
    local own_key, own_cert = directory .. "/client.key", directory .. "/client.pem"
    shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s -out %s -days 2 -subj /CN=joe",
      own_key, own_cert)
    local web = peer.web { "--cert", cert, "--key", key, "--client-ca", own_cert }
    local url = ("https://127.0.0.1:%d/echo"):format(web.port)
    arrives { url = url, ca_file = cert, client_cert = own_cert, client_key = own_key }
    -- With TLS 1.3 a client learns of the refusal when it reads the answer: the code is one of these.
    local refused = call { url = url, ca_file = cert }
    assert.equal("failed", refused.status)
    assert.truthy(refused.code == "tls" or refused.code == "network", refused.code)
    fails("invalid", "/nowhere.pem", { url = url, ca_file = cert, client_cert = "/nowhere.pem", client_key = own_key })
  end)
end)

describe("HTTP/2", function()
  -- A server that speaks nothing else.
  local function start_nghttpd(key, cert)
    local probe = assert(socket.bind("127.0.0.1", 0))
    local _, port = probe:getsockname()
    probe:close()
    os.execute(("nghttpd --address=127.0.0.1 --echo-upload %s %s %s >%s/log 2>&1 </dev/null & echo $! >%s/pid"):format(
      port, key, cert, directory, directory))
    assert(receiver.eventually(20, function()
      local client = socket.connect("127.0.0.1", tonumber(port))
      return client and client:close()
    end), command.read(directory .. "/log"))
    return ("https://127.0.0.1:%d/"):format(port)
  end

  after_each(function()
    local pid = tonumber(command.read(directory .. "/pid") or "")
    if pid then os.execute("kill " .. pid) end
  end)

  it("is spoken where the account asks for it and the server offers it", function()
    local key, cert = peer.certificate(directory)
    local url = start_nghttpd(key, cert)
    arrives { url = url, ca_file = cert, http2 = true }
    assert.equal("failed", call({ url = url, ca_file = cert }).status)
    -- Several messages at once over it.
    local hub = support.hub { platforms = { webhook = { url = url, ca_file = cert, http2 = true } } }
    local messages = {}
    for index = 1, 50 do messages[index] = { title = "t" .. index, targets = { "webhook" } } end
    for _, receipt in ipairs(assert(hub:send_batch(messages)):wait(30)) do
      assert.equal("delivered", receipt.status, receipt.error)
    end
  end)

  it("gives way to HTTP/1.1 where the server does not offer it", function()
    local key, cert = peer.certificate(directory)
    local web = peer.web { "--cert", cert, "--key", key }
    arrives { url = ("https://127.0.0.1:%d/echo"):format(web.port), ca_file = cert, http2 = true }
  end)
end)

describe("IPv6", function()
  local function has_it()
    local server = socket.tcp6 and socket.tcp6()
    local bound = server and server:bind("::1", 0)
    if server then server:close() end
    return bound
  end
  if not has_it() then
    return pending "is not there on this machine"
  end

  it("is reached by an address in brackets, over HTTP and SMTP", function()
    local web, mail = peer.web { "--host", "::1" }, peer.mail { "--host", "::1" }
    local receipt = assert(support.hub():send({ title = "t", retry = { attempts = 1 }, targets = {
      ("json://[::1]:%d/echo"):format(web.port), ("http://[::1]:%d/echo"):format(web.port),
      ("mailto://[::1]:%d/joe@example.com?mode=insecure&from=me@example.com"):format(mail.port),
    } }, 20))
    assert.equal("delivered", receipt.status, receipt.error)
    assert.equal(("json://[::1]:%d/…"):format(web.port), receipt.results[1].target)
    assert.same({ "joe@example.com" }, mail:wait(1)[1].envelope.to)
  end)

  it("is one of the addresses of localhost: the one that answers is used, whichever comes first", function()
    for _, host in ipairs { "127.0.0.1", "::1" } do
      local web, mail = peer.web { "--host", host }, peer.mail { "--host", host }
      local receipt = assert(support.hub():send({ title = "t", retry = { attempts = 1 }, targets = {
        ("json://localhost:%d/echo"):format(web.port),
        ("mailto://localhost:%d/joe@example.com?mode=insecure&from=me@example.com"):format(mail.port),
      } }, 20))
      assert.equal("delivered", receipt.status, receipt.error)
      assert.equal(1, #mail:wait(1))
    end
  end)
end)

describe("another alphabet", function()
  it("in an e-mail address is refused in plain words; in the name it is fine", function()
    local mail = peer.mail()
    local hub = support.hub { platforms = {
      email = { host = "127.0.0.1", port = mail.port, security = "none", from = "ops@example.com" },
    } }
    for _, address in ipairs { "jörg@example.com", "joe@bücher.example" } do
      local receipt = assert(hub:send({ title = "t", targets = { address } }, 20))
      assert.equal("invalid", receipt.code)
      assert.truthy(receipt.error:find("in another alphabet", 1, true), receipt.error)
    end
    local receipt = assert(hub:send({ title = "t", targets = {
      { platform = "email", value = "Jörg Müller <joe@xn--bcher-kva.example>" },
    } }, 20))
    assert.equal("delivered", receipt.status, receipt.error)
    local got = mail:wait(1)[1]
    assert.same({ "joe@xn--bcher-kva.example" }, got.envelope.to)
    assert.equal("Jörg Müller <joe@xn--bcher-kva.example>", got.view.headers.To)
  end)

  it("in a web address's host is written as xn--", function()
    local receipt = assert(support.hub():send({ title = "t", targets = { "https://bücher.example/x" } }, 20))
    assert.equal("invalid", receipt.code)
    assert.truthy(receipt.error:find("xn--", 1, true), receipt.error)
  end)
end)
