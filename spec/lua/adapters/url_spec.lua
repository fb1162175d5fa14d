local api = require "spec.support.script_api"
local url = api.require "url"

local SECRET = "c4n4ry-5ecret"

describe("url.parse", function()
  it("takes a URL apart and decodes each part once", function()
    local parsed = assert(url.parse("jsons://us%40er:p%3Aa@Host.example:8443/a%2Fb//c%20d/?x=1&y=%26&x=2#end"))
    assert.same({ "a/b", "c d" }, parsed.path)
    assert.same({ x = "2", y = "&" }, parsed.query)
    assert.same({ { "x", "1" }, { "y", "&" }, { "x", "2" } }, parsed.parameters)
    assert.equal("us@er p:a Host.example 8443 end",
      table.concat({ parsed.user, parsed.password, parsed.host, parsed.port, parsed.fragment }, " "))
    assert.equal("/a%2Fb//c%20d/", parsed.raw_path)
  end)

  it("keeps a token in the host's place as it is written", function()
    assert.equal("xoxb-12-AbC", url.parse("slack://xoxb-12-AbC/#general").host)
    assert.equal("123456:AbC-def", url.parse("tgram://123456:AbC-def/1").host)
  end)

  it("reads #channel as a path outside of the web, and as a fragment on it", function()
    local parsed = assert(url.parse("slack://bot@A/B/C/#general/@joe?color=no"))
    assert.same({ "B", "C", "#general", "@joe" }, parsed.path)
    assert.equal("no", parsed.query.color)
    assert.is_nil(parsed.fragment)
    parsed = assert(url.parse("https://example.com/#general"))
    assert.equal("general", parsed.fragment)
    assert.same({}, parsed.path)
  end)

  it("keeps a plus sign, which e-mail addresses hold", function()
    assert.equal("a+b@c.example", url.parse("mailto://h?to=a+b@c.example").query.to)
  end)

  for _, host in ipairs { "::1", "2001:db8::8:800:200c:417a", "::ffff:192.0.2.1", "1:2:3:4:5:6:7:8", "::" } do
    it("takes the IPv6 address " .. host, function()
      local parsed = assert(url.parse("http://[" .. host .. "]:8080/x"))
      assert.equal(host, parsed.host)
      assert.equal("[" .. host .. "]:8080", url.host(parsed.host, parsed.port))
    end)
  end

  local bad = {
    ["no scheme"] = "example.com/x", ["one slash"] = "https:/example.com", ["no host"] = "https:///x",
    ["a space"] = "https://example.com/a b", ["a newline"] = "https://example.com/\r\nX: y",
    ["an encoded newline"] = "https://example.com/%0d%0aX", ["an encoded NUL"] = "json://h/%00",
    ["half an escape"] = "https://example.com/%4", ["a wrong escape"] = "https://example.com/%zz",
    ["invalid UTF-8"] = "https://example.com/\xff", ["encoded invalid UTF-8"] = "https://example.com/%ff",
    ["port 0"] = "https://example.com:0/", ["port 65536"] = "https://example.com:65536/",
    ["no port after the colon"] = "https://example.com:/", ["words for a port"] = "https://example.com:abc/",
    ["a long port"] = "https://example.com:0000000080/", ["an open bracket"] = "https://[::1/",
    ["a bad IPv6 address"] = "https://[::1::2]/", ["nine groups"] = "https://[1:2:3:4:5:6:7:8:9]/",
    ["an IPv6 zone"] = "https://[fe80::1%25eth0]/", ["a host of another alphabet"] = "https://exämple.com/",
    ["a host with a percent"] = "https://exa%6Dple.com%2F/", ["an empty label"] = "https://a..example/",
    ["a control character in the password"] = "json://u:%0a@h/",
  }
  for what, text in pairs(bad) do
    it("refuses " .. what, function()
      local parsed, message = url.parse(text)
      assert.is_nil(parsed)
      assert.matches("^url: ", message)
    end)
  end

  it("is bounded in length, segments and parameters", function()
    assert.is_nil(url.parse("https://h.example/" .. ("a"):rep(8192)))
    assert.is_nil(url.parse("slack://A" .. ("/b"):rep(101)))
    assert.is_nil(url.parse("json://h/?" .. ("a=1&"):rep(101)))
    assert.is_nil(url.parse(42))
  end)

  it("never prints what may be a secret", function()
    for _, text in ipairs {
      SECRET, "https://" .. SECRET .. ":99999999/", "https://u:" .. SECRET .. "%zz@h/", "json://h/" .. SECRET .. "%",
      "json://h/?" .. SECRET .. "=%ff", "https://h/#" .. SECRET .. "%1", "https://" .. SECRET .. "!/",
    } do
      local parsed, message = url.parse(text)
      assert.is_nil(parsed)
      assert.is_nil(message:find(SECRET, 1, true), message)
    end
  end)

  it("survives any bytes", function()
    math.randomseed(7)
    local alphabet = { "a", ":", "/", "@", "?", "#", "%", "[", "]", "&", "=", ".", "0", "\xC3", "\xA9", "\0", " ", "://", "%41" }
    for _ = 1, 20000 do
      local parts = { "json://" }
      for index = 2, math.random(2, 12) do
        parts[index] = alphabet[math.random(#alphabet)]
      end
      local text = table.concat(parts)
      local parsed, message = url.parse(text)
      assert(parsed or message)
      url.redact(text)
    end
  end)
end)

describe("url.encode and url.query", function()
  it("encode everything but the unreserved characters", function()
    assert.equal("a-b_c.d~%20%26%2F%C3%A9", url.encode("a-b_c.d~ &/é"))
    assert.equal("a=1&b=%3D%26", url.query { b = "=&", a = 1 })
    assert.equal("b=1&a=2&b=3", url.query { { "b", 1 }, { "a", 2 }, { "b", 3 } })
    assert.equal("", url.query {})
  end)
end)

describe("url.arguments", function()
  local known = { verify = { "verify", "boolean" }, rto = { "timeout", "number" }, to = { "to", "list" } }
  local function arguments(query, prefixes)
    return url.arguments(url.parse("json://h/?" .. query), known, prefixes)
  end

  it("turns parameters into options", function()
    assert.same({ verify = false, timeout = 2.5, to = { "a", "b" } }, arguments("verify=no&rto=2.5&to=a,%20b"))
  end)

  it("names a parameter that it does not know, and the one that was meant", function()
    local options, message = arguments("verfy=no")
    assert.is_nil(options)
    assert.equal("url: unknown query parameter 'verfy' (did you mean 'verify'?); known are rto, to, verify", message)
    assert.equal("url: unknown query parameter 'colour'; known are rto, to, verify", select(2, arguments("colour=red")))
  end)

  it("refuses what is unknown or wrong, without printing what may be a secret", function()
    for _, query in ipairs { SECRET, SECRET .. "=1", "verify=" .. SECRET .. "&x=" .. SECRET, "x=" .. SECRET,
      ("a"):rep(40) .. "=1", "verify=" .. SECRET, "rto=-1", "rto=1e9", "rto=nan", "+h=1" } do
      local options, message = arguments(query)
      assert.is_nil(options)
      assert.is_nil(message:find(SECRET, 1, true))
    end
    assert.same({}, arguments("+h=1", "+"))
  end)
end)

describe("url.redact", function()
  local cases = {
    ["https://u:S@hooks.example:8443/services/S?token=S#S"] = "https://hooks.example:8443/…",
    ["https://hooks.example"] = "https://hooks.example/",
    ["http://[::1]:80/S"] = "http://[::1]:80/…",
    ["slack://S/S/S/#c"] = "slack://…", ["feishu://S"] = "feishu://…", ["mailto://u:S@mail.example/S"] = "mailto://mail.example/…",
    ["could not reach https://h.example/S, sorry"] = "could not reach https://h.example/… sorry",
    ["two: <slack://S> and 'https://h.example/S'"] = "two: <slack://…> and 'https://h.example/…'",
    ["HTTPS://h.example/https://S"] = "https://h.example/…",
    ["://S"] = "://…", ["no address at all"] = "no address at all",
    ["https://S!S/x"] = "https://S/…",
  }
  for text, expected in pairs(cases) do
    it("writes " .. text, function()
      assert.equal(expected, url.redact(text))
    end)
  end

  it("is linear", function()
    local started = os.clock()
    url.redact(("a"):rep(1000000))
    url.redact(("a://"):rep(200000))
    url.redact(("a:// "):rep(200000))
    assert.is_true(os.clock() - started < 2)
  end)
end)
