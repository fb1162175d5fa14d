local api = require "spec.support.script_api"
local result = api.require "result"

local function http(status, headers, body)
  return result.http { status = status, headers = headers or {}, body = body or "" }
end

describe("result.http", function()
  it("takes 2xx, and only 2xx, for success", function()
    for _, status in ipairs { 200, 201, 202, 204 } do
      assert.same({ ok = true, status_code = status }, http(status))
    end
    for _, status in ipairs { 0, 100, 199, 300, 301, 304, 400, 500, 599, 600 } do
      assert.is_false(http(status).ok)
    end
  end)

  local codes = {
    [301] = "rejected", [400] = "rejected", [401] = "auth", [403] = "auth", [404] = "unknown_target", [407] = "auth",
    [408] = "timeout", [409] = "rejected", [410] = "unknown_target", [413] = "too_large", [422] = "rejected",
    [429] = "rate_limited", [500] = "unavailable", [501] = "rejected", [502] = "unavailable", [503] = "unavailable",
    [504] = "unavailable", [700] = "network",
  }
  for status, code in pairs(codes) do
    it(("takes %d for %s"):format(status, code), function()
      local failed = http(status)
      assert.equal(code, failed.code)
      assert.equal(status, failed.status_code)
    end)
  end

  it("names a redirect's host and no more of it", function()
    assert.equal("HTTP 302 to https://login.example/…, which is not followed",
      http(302, { location = "https://login.example/?token=S" }).error)
    assert.equal("HTTP 302 to another path, which is not followed", http(302, { location = "/S" }).error)
  end)

  it("tells the server's own words in one short safe line", function()
    local json = { ["content-type"] = "application/json" }
    assert.equal("HTTP 400: no such room", http(400, json, '{"error":{"message":"no such room"}}').error)
    assert.equal("HTTP 500: at https://x.example/…", http(500, json, '{"message":"at https://x.example/t0ken"}').error)
    assert.equal("HTTP 500: a \\x1b[31m b", http(500, { ["content-type"] = "text/plain" }, "a \27[31m\n\nb\n").error)
    assert.equal("HTTP 500", http(500, { ["content-type"] = "text/html" }, "<h1>secret</h1>").error)
    assert.equal("HTTP 500", http(500, json, "{broken").error)
    assert.is_true(#http(500, json, '{"message":"' .. ("é"):rep(5000) .. '"}').error < 500)
  end)
end)

describe("result.known", function()
  it("knows the codes that the documents tell of, and no other", function()
    local file <close> = assert(io.open((os.getenv "NH_SOURCE_DIR" or ".") .. "/docs/operations.md"))
    local table_of_codes = assert(file:read "a":match "\n## Error codes\n(.-)\n## ")
    local count = 0
    for code in table_of_codes:gmatch "\n| `([%w_]+)` |" do
      count = count + 1
      assert.equal(code, result.known({ ok = false, code = code }).code)
    end
    assert.is_true(count > 20)
    assert.equal("rejected", result.known({ ok = false, code = "no_such_code" }).code)
    local fine = { ok = true, code = "whatever" }
    assert.equal(fine, result.known(fine))
  end)
end)

describe("result.retry_after", function()
  local date = "Sun, 06 Nov 1994 08:49:37 GMT"
  local cases = {
    { "30", 30 }, { "0", 1 }, { "1.5", 1.5 }, { "3601", 3600 }, { "9223372036854775808", 3600 }, { 12, 12 },
    { "Sun, 06 Nov 1994 08:50:37 GMT", 60 }, { "Sunday, 06-Nov-94 08:50:37 GMT", 60 }, { "Sun Nov  6 08:50:37 1994", 60 },
    { "Sun, 06 Nov 1994 08:00:00 GMT", 1 }, { "Fri, 31 Dec 2060 23:59:59 GMT", 3600 },
    { "-5" }, { "" }, { "soon" }, { "1e9" }, { "0x10" }, { "Sun, 99 Nov 1994 08:50:37 GMT" }, { "Sun, 06 Foo 1994 08:50:37 GMT" },
  }
  for _, case in ipairs(cases) do
    it(("reads %q"):format(case[1]), function()
      assert.equal(case[2], result.retry_after(case[1], date))
    end)
  end

  it("is told for a failure", function()
    assert.equal(7, http(429, { ["retry-after"] = "7" }).retry_after)
    assert.equal(60, http(503, { ["retry-after"] = "Sun, 06 Nov 1994 08:50:37 GMT", date = date }).retry_after)
    assert.is_nil(http(302, { ["retry-after"] = "7" }).retry_after)
  end)

  it("counts days as the calendar does", function()
    for _, each in ipairs {
      { "Thu, 01 Jan 1970 00:00:00 GMT", 0 }, { "Tue, 29 Feb 2000 12:00:00 GMT", 951825600 },
      { "Wed, 31 Dec 2025 23:59:59 GMT", 1767225599 }, { "Mon, 01 Mar 2100 00:00:00 GMT", 4107542400 },
    } do
      assert.equal(each[2], result.http_date(each[1]))
    end
  end)
end)

describe("result.json", function()
  it("gives the object whatever the status", function()
    assert.same({ code = 1 }, result.json { status = 400, headers = {}, body = '{"code":1}' })
  end)

  it("takes a 200 that is not JSON for a failure", function()
    local decoded, failed = result.json { status = 200, headers = {}, body = "<html>" }
    assert.is_nil(decoded)
    assert.same({ false, "rejected", 200 }, { failed.ok, failed.code, failed.status_code })
    decoded, failed = result.json { status = 503, headers = {}, body = "" }
    assert.is_nil(decoded)
    assert.equal("unavailable", failed.code)
  end)
end)
