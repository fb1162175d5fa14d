-- The two ways of HTTP: which one a request goes shows in the figures and nowhere else.

local receiver = require "spec.support.receiver"
local support = require "spec.lua.binding.support"

after_each(support.finish)

local function deliver(way, account)
  local sink = support.sink()
  account.url = sink.url .. "/in"
  local hub = support.hub { transport = { http = way }, platforms = { webhook = account } }
  for index = 1, 3 do
    local receipt = assert(hub:send({ title = "t", body = "b" .. index, targets = { "webhook" } }, 30))
    assert.equal("delivered", receipt.status)
  end
  assert.equal(3, #assert(sink:wait(3, 10)))
  return hub
end

describe("transport.http", function()
  it("is direct by default, over one connection", function()
    local hub = deliver(nil, {})
    assert.same({ direct = 3, multi = 0, opened = 1 }, hub:stats().http)
    local text = hub:metrics()
    assert.truthy(text:find('notifyhub_http_requests_total{path="direct"} 3\n', 1, true))
    assert.truthy(text:find('notifyhub_http_requests_total{path="multi"} 0\n', 1, true))
    assert.truthy(text:find("notifyhub_http_opened_total 1\n", 1, true))
  end)

  it("may be libcurl's multi interface", function()
    assert.same({ direct = 0, multi = 3, opened = 0 }, deliver("multi", {}):stats().http)
  end)

  it("leaves a request to libcurl that has to go there", function()
    assert.same({ direct = 0, multi = 3, opened = 0 },
      deliver("direct", { headers = { Host = "example.org" } }):stats().http)
  end)

  it("is nothing else", function()
    local hub, problem, code = require "notifyhub".new { transport = { http = "wget" } }
    assert.is_nil(hub)
    assert.equal("config", code)
    assert.truthy(problem:find("transport.http", 1, true))
  end)

  it("is counted once for each attempt", function()
    local sink = receiver.start { http = true, fail = 1 }
    local hub = support.hub { transport = { http = "direct" }, retry = { initial = 0.01 },
                              platforms = { webhook = { url = sink.url .. "/in" } } }
    assert(hub:send({ title = "t", targets = { "webhook" } }, 30))
    assert.equal(2, hub:stats().http.direct)
  end)
end)
