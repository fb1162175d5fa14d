-- How a message goes out: to all at once, again when that may help, and not after it was cancelled.
local notifyhub = require "notifyhub"
local socket = require "socket"

local command = require "spec.support.command"
local support = require "spec.lua.binding.support"

local function targets(sink, count)
  local list = {}
  for index = 1, count do
    list[index] = support.path(sink, tostring(index))
  end
  return list
end

describe("a message with several targets", function()
  after_each(support.finish)

  it("goes out to all of them at once (fault 8)", function()
    local sink = support.sink { delay = 2 }
    local hub = support.hub()
    local receipt = assert(hub:send({ title = "t", targets = targets(sink, 5) }, 20))
    assert.equal("delivered", receipt.status)
    local arrivals = assert(sink:wait(5))
    assert.is_true(arrivals[5].time - arrivals[1].time < 2) -- the last came before the first was answered
    assert.equal(5, sink:stop().arrivals)
  end)

  it("is an error when all of them fail (fault 1)", function()
    local sink = support.sink { status = 400 }
    local hub = support.hub()
    local told
    local handle = assert(hub:send_async({ title = "t", targets = targets(sink, 3) }, {
      on_error = function(_, problem, receipt) told = { problem, receipt } end,
    }))
    local receipt, problem, code = handle:wait(10)
    assert.equal("failed", receipt.status)
    assert.equal("rejected", code)
    assert.equal(receipt.error, problem)
    assert.truthy(problem:find("400", 1, true), problem)
    assert.equal(problem, told[1])
    assert.same(receipt, told[2])
    support.idle(hub)
    assert.equal(1, hub:stats().failed)
  end)

  it("is partial when some fail, and every result says which (fault 1)", function()
    local sink = support.sink()
    local hub = support.hub()
    local receipt, problem, code = hub:send({
      title = "t", targets = { sink.target, support.refused }, retry = { attempts = 1 },
    }, 10)
    assert.equal("partial", receipt.status)
    assert.equal("network", code)
    assert.equal("string", type(problem))
    assert.is_true(receipt.results[1].ok)
    assert.is_false(receipt.results[2].ok)
    assert.is_true(receipt.results[2].retryable)
    support.idle(hub)
    assert.equal(1, hub:stats().partial)
  end)
end)

describe("a delivery that failed", function()
  after_each(support.finish)

  local FAST = { attempts = 5, initial = 0.01 }

  it("is made again as often as the message says, and on_retry is told", function()
    local sink = support.sink { fail = 3 }
    local hub = support.hub()
    local retries
    local handle = assert(hub:send_async({ title = "t", targets = { sink.target }, retry = FAST }, {
      on_retry = function(count) retries = count end,
    }))
    local receipt = assert(handle:wait(10))
    assert.equal("delivered", receipt.status)
    assert.equal(4, receipt.results[1].attempts)
    assert.equal(3, retries)
    assert.equal(3, handle:status().retries)
    assert.equal(3, hub:stats().retries)
    local arrivals = assert(sink:wait(4))
    assert.equal(4, #arrivals)
    for _, arrival in ipairs(arrivals) do
      assert.equal(receipt.id, arrival.json.message_id)
    end
  end)

  it("is made again as often as the configuration says, where the message says nothing", function()
    local sink = support.sink { fail = 100 }
    local hub = support.hub { retry = { attempts = 2, initial = 0.01 }, breaker = { enabled = false } }
    local receipt = hub:send({ title = "t", targets = { sink.target } }, 10)
    assert.equal(2, receipt.results[1].attempts)
    assert.equal("unavailable", receipt.code)
    receipt = hub:send({ title = "t", targets = { sink.target }, retry = { attempts = 4 } }, 10)
    assert.equal(4, receipt.results[1].attempts) -- initial is still the configuration's
    assert.equal(6, sink:stop().arrivals)
    assert.truthy(hub:metrics():find('notifyhub_retries_total{platform="webhook"} 4\n', 1, true), hub:metrics())
  end)

  it("waits longer each time, up to the most", function()
    local sink = support.sink { fail = 100 }
    local hub = support.hub()
    local receipt = hub:send({
      title = "t", targets = { sink.target },
      retry = { attempts = 4, initial = 0.1, multiplier = 2, max = 0.2, jitter = 0 },
    }, 10)
    assert.is_true(receipt.results[1].latency >= 0.5 and receipt.results[1].latency < 1.5, receipt.results[1].latency)
  end)

  it("waits as long as Retry-After asks", function()
    local sink = support.sink { fail = 1, retry_after = 1 }
    local hub = support.hub()
    local receipt = assert(hub:send({ title = "t", targets = { sink.target }, retry = FAST }, 10))
    assert.equal("delivered", receipt.status)
    assert.is_true(receipt.results[1].latency >= 1, receipt.results[1].latency)
  end)

  it("is made again when nobody answers there", function()
    local hub = support.hub()
    local receipt = hub:send({ title = "t", targets = { support.refused }, retry = { attempts = 3, initial = 0.01 } }, 10)
    assert.equal("network", receipt.code)
    assert.equal(3, receipt.results[1].attempts)
  end)

  for status, code in pairs { [400] = "rejected", [401] = "auth", [404] = "unknown_target", [413] = "too_large" } do
    it(("is not made again after %d"):format(status), function()
      local sink = support.sink { status = status }
      local hub = support.hub()
      local receipt = hub:send({ title = "t", targets = { sink.target }, retry = FAST }, 10)
      assert.equal(code, receipt.code)
      assert.equal(1, receipt.results[1].attempts)
      assert.equal(status, receipt.results[1].status_code)
      assert.equal(1, sink:stop().arrivals)
    end)
  end

  it("is made again for the target that failed, not for the others", function()
    local sink, weak = support.sink(), support.sink { fail = 1 }
    local hub = support.hub()
    assert.equal("delivered", hub:send({ title = "t", targets = { sink.target, weak.target }, retry = FAST }, 10).status)
    assert.equal(1, sink:stop().arrivals)
    assert.equal(2, weak:stop().arrivals)
  end)
end)

describe("a message that is cancelled", function()
  after_each(support.finish)

  local function is_cancelled(handle)
    local receipt, _, code = handle:wait(5)
    assert.equal("cancelled", receipt.status)
    assert.equal("cancelled", code)
    assert.is_false(handle:cancel())
  end

  it("in the queue is never sent (fault 3)", function()
    local sink = support.sink { delay = 0.3 }
    local hub = support.hub { workers = { max = 1, in_flight = 1 } }
    local first = assert(hub:send_async { title = "t", targets = { sink.target } })
    local waiting = {}
    for index = 1, 10 do
      waiting[index] = assert(hub:send_async { title = "t", targets = { sink.target } })
    end
    for _, handle in ipairs(waiting) do
      assert.is_true(handle:cancel())
    end
    for _, handle in ipairs(waiting) do
      is_cancelled(handle)
    end
    assert.equal("delivered", first:wait(5).status)
    hub:close(5)
    assert.equal(10, hub:stats().cancelled)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("before its time never goes out (fault 3)", function()
    local sink = support.sink()
    local hub = support.hub()
    local due = socket.gettime() + 2
    local handle = assert(hub:send_async { title = "t", targets = { sink.target }, deliver_at = due })
    assert.equal("scheduled", handle:status().state)
    assert.is_true(handle:cancel())
    is_cancelled(handle)
    local later = hub:send({ title = "t", targets = { sink.target }, deliver_at = due + 0.2 }, 20)
    assert.equal("delivered", later.status)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("between two attempts is not sent again (fault 3)", function()
    local sink = support.sink { fail = 100 }
    local hub = support.hub()
    local handle = assert(hub:send_async {
      title = "t", targets = { sink.target }, retry = { attempts = 50, initial = 0.5, jitter = 0 },
    })
    assert(sink:wait(1))
    assert.is_true(handle:cancel())
    is_cancelled(handle)
    socket.sleep(0.8)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("in flight ends at once, its connection with it (fault 3)", function()
    -- A server that accepts and reads, but has not answered: what it gets after the cancellation is the end.
    local server = assert(socket.bind("127.0.0.1", 0))
    server:settimeout(20)
    local _, port = server:getsockname()
    local hub = support.hub()
    local handle = assert(hub:send_async { title = "t", targets = { ("json://127.0.0.1:%d/x"):format(port) } })
    local peer = assert(server:accept())
    peer:settimeout(20) -- less than the transfer itself may take
    assert.equal("POST /x HTTP/1.1", peer:receive "*l")
    assert.is_true(handle:cancel())
    is_cancelled(handle)
    local _, problem = peer:receive "*a"
    assert.is_true(problem == nil or problem == "closed", problem)
    peer:close()
    server:settimeout(0.3)
    assert.is_nil((server:accept())) -- nor does it come back
    server:close()
  end)
end)

describe("a message's times", function()
  after_each(support.finish)

  it("deliver_at is waited for", function()
    local sink = support.sink()
    local hub = support.hub()
    local due = socket.gettime() + 0.5
    assert.equal("delivered", hub:send({ title = "t", targets = { sink.target }, deliver_at = due }, 10).status)
    assert.is_true(socket.gettime() >= due - 0.01)
  end)

  it("timeout ends it wherever it is, with what it waited for unsent", function()
    local sink = support.sink { delay = 20 }
    local hub = support.hub()
    local receipt, _, code = assert(hub:send({ title = "t", targets = { sink.target }, timeout = 1 }, 15))
    assert.equal("failed", receipt.status)
    assert.equal("timeout", code)
    assert.equal(1, receipt.results[1].attempts)
    assert.is_true(receipt.results[1].latency >= 0.2, receipt.results[1].latency)
  end)

  it("expires_at ends it before deliver_at", function()
    local sink = support.sink()
    local hub = support.hub()
    local now = socket.gettime()
    local receipt = hub:send({ title = "t", targets = { sink.target }, deliver_at = now + 60, expires_at = now + 0.3 }, 10)
    assert.is_true(receipt.status == "expired" or receipt.code == "timeout", receipt.status)
    local sent, _, code = hub:send_async { title = "t", targets = { sink.target }, expires_at = now - 10 }
    assert.is_nil(sent)
    assert.equal("expired", code)
    assert.equal(0, sink:stop().arrivals)
  end)
end)

describe("variables", function()
  after_each(support.finish)

  it("are put into title and body, from tables too", function()
    local sink = support.sink()
    local hub = support.hub()
    assert.equal("delivered", hub:send({
      title = "{{ service }} is {{state}}", body = "{{ host.name }}: {{ load }} %, {{ up }}", targets = { sink.target },
      variables = { service = "pay", state = "down %1", host = { name = "db-1" }, load = 97, up = false },
    }, 10).status)
    local got = assert(sink:wait(1))[1].json
    assert.equal("pay is down %1", got.title)
    assert.equal("db-1: 97 %, false", got.body)
  end)

  it("are not looked for when there are none", function()
    local sink = support.sink()
    assert.equal("delivered", support.hub():send({ title = "{{ as it is }}", targets = { sink.target } }, 10).status)
    assert.equal("{{ as it is }}", assert(sink:wait(1))[1].json.title)
  end)

  it("that are missing are an error, and nothing is sent", function()
    local sink = support.sink()
    local hub = support.hub()
    for field, text in pairs { title = "{{ nobody }}", body = "{{ host.nobody }}" } do
      local receipt, problem, code = hub:send({
        title = "t", [field] = text, targets = { sink.target }, variables = { host = { name = "x" } },
      }, 10)
      assert.equal("failed", receipt.status)
      assert.equal("invalid", code)
      assert.truthy(problem:find(field .. ": there is no variable", 1, true), problem)
      assert.truthy(problem:find("nobody", 1, true), problem)
    end
    assert.equal(0, sink:stop().arrivals)
  end)
end)

describe("a user's own adapter", function()
  local directory, sink
  before_each(function()
    directory = command.directory()
    os.execute("mkdir " .. directory .. "/adapters")
    sink = support.sink()
  end)
  after_each(function()
    support.finish()
    command.remove(directory)
  end)

  local function adapter(name, text)
    command.write(("%s/adapters/%s.lua"):format(directory, name), text)
  end

  -- An adapter that posts what it was given, with more of its own in the table.
  local function plain(more)
    return ([[
      local json, result = require "json", require "result"
      return {
        summary = "The spec's own", transport = "http", schemes = { "own" },
        options = { url = { type = "string", required = true } },
        request = function(delivery)
          return { url = delivery.account.url, headers = { ["Content-Type"] = "application/json" },
            body = json.encode { mine = true, title = delivery.title, body = delivery.body, format = delivery.format } }
        end,
        response = function(response) return result.http(response) end,
        %s
      }]]):format(more or "")
  end

  local function open(name, config)
    return notifyhub.new { script_path = directory, platforms = { [name] = config or { url = sink.url .. "/own" } } }
  end

  local function deliver(name, message)
    local hub <close> = assert(open(name))
    message.targets = { name }
    local receipt = hub:send(message, 10)
    return receipt, receipt.status == "delivered" and assert(sink:wait(1))[1].json
  end

  it("is a platform like any other", function()
    adapter("own", plain())
    local receipt, got = deliver("own", { title = "t", body = "b" })
    assert.equal("own", receipt.results[1].platform)
    assert.same({ mine = true, title = "t", body = "b", format = "text" }, got)
  end)

  it("may send one request with many bodies", function()
    adapter("own", [[
      local result = require "result"
      local request
      return {
        transport = "http", options = { url = { type = "string", required = true } },
        request = function(delivery)
          request = request or { url = delivery.account.url, headers = { ["X-First"] = delivery.title } }
          return request, '{"title":"' .. delivery.title .. '"}'
        end,
        response = result.http,
      }]])
    local hub <close> = assert(open "own")
    for index = 1, 3 do
      local receipt = assert(hub:send({ title = "t" .. index, targets = { "own" } }, 10))
      assert.same({ "delivered", 200 }, { receipt.status, receipt.results[1].status_code })
    end
    for index, got in ipairs(assert(sink:wait(3))) do
      assert.same({ "t" .. index, "t1" }, { got.json.title, got.headers["x-first"] })
    end
  end)

  it("may send one table over two transports: each makes of it what it can", function()
    adapter("own", [[
      local request
      return {
        transport = "http", options = { url = { type = "string", required = true } },
        request = function(delivery)
          request = request or { url = delivery.account.url }
          return request, delivery.body
        end,
        response = require("result").http,
      }]])
    adapter("other", [[
      local copy = {}
      for name, value in pairs(require "adapters.own") do copy[name] = value end
      copy.transport = "console"
      return copy]])
    local account = { url = sink.url .. "/own" }
    local hub <close> = assert(notifyhub.new { script_path = directory, platforms = { own = account, other = account } })
    for _, case in ipairs { { "own", "delivered" }, { "other", "failed" }, { "own", "delivered" } } do
      local receipt = hub:send({ body = "b", targets = { case[1] } }, 10)
      assert.equal(case[2], receipt.status)
      if case[2] == "failed" then
        assert.same({ "invalid", "url: unknown field" }, { receipt.results[1].code, receipt.results[1].error })
      end
    end
    assert.equal(2, #assert(sink:wait(2)))
  end)

  it("is told when a request that comes with its body is none", function()
    adapter("own", [[return {
        transport = "http", options = { url = { type = "string" } },
        request = function() return { "https://example.com" }, "body" end, response = function() end,
      }]])
    local receipt = deliver("own", { title = "t", body = "b" })
    assert.equal("script", receipt.code)
    assert.truthy(receipt.error:find("request: must be a table of names", 1, true), receipt.error)
  end)

  it("replaces a built-in one of the same name", function()
    adapter("slack", plain())
    local _, got = deliver("slack", { title = "t", body = "b" })
    assert.is_true(got.mine)
  end)

  it("that cannot be compiled is told with file and line when the hub opens", function()
    adapter("own", "return {\n  summary = = 1,\n}\n")
    local hub, problem = open "own"
    assert.is_nil(hub)
    assert.truthy(problem:find("adapters/own.lua:2:", 1, true), problem)
  end)

  it("that lacks a function or has an unknown field is told when the hub opens", function()
    adapter("own", 'return { transport = "http", request = function() end }')
    local hub, problem, code = open("own", {})
    assert.is_nil(hub)
    assert.equal("config", code)
    assert.truthy(problem:find("adapters.own.response: must be a function", 1, true), problem)
    adapter("own", plain 'formts = { "text" },')
    hub, problem = open "own"
    assert.is_nil(hub)
    assert.truthy(problem:find("did you mean 'formats'", 1, true), problem)
  end)

  it("with an error inside is a result with the code `script`, and harms no other target", function()
    adapter("own", [[
return {
  transport = "http",
  request = function(delivery)
    return nil + delivery.body
  end,
  response = function() end,
}]])
    local hub <close> = assert(open("own", {}))
    local receipt = hub:send({ title = "t", body = "b", targets = { "own", sink.target } }, 10)
    assert.equal("partial", receipt.status)
    assert.equal("script", receipt.results[1].code)
    assert.truthy(receipt.results[1].error:find("own.lua:4:", 1, true), receipt.results[1].error)
    assert.is_true(receipt.results[2].ok)
    assert.equal(1, receipt.results[1].attempts)
  end)

  for what, answer in pairs {
    ["a function as id"] = "{ ok = true, provider_id = print, status_code = {}, warning = print }",
    ["bytes that are no text"] = '{ ok = true, provider_id = "\\xff", warning = "\\xfe" }',
    ["an odd time to wait"] = '{ ok = false, code = "unavailable", retry_after = delivery.attempt == 1 and 0/0 or "soon" }',
    ["an odd error"] = '{ ok = false, code = {}, error = {} }',
    ["nothing"] = "nil",
    ["less than results for all"] = "{ {} }",
    ["results that are none"] = "{ true }",
    ["what raises when it is read"] = 'setmetatable({}, { __index = function() error "no" end })',
  } do
    it(("that answers %s harms nobody's receipt"):format(what), function()
      adapter("own", ([[
        return {
          transport = "http", options = { url = { type = "string" } },
          request = function(delivery) return { url = delivery.account.url, body = "x" } end,
          response = function(_, delivery) return %s end,
        }]]):format(answer))
      local hub <close> = assert(open("own"))
      local receipt = hub:send({
        title = "t", targets = { "own", support.path(sink, "other") }, retry = { attempts = 3, initial = 0.01 },
      }, 10)
      assert.equal(2, #receipt.results)
      assert.is_true(receipt.results[2].ok)
      for _, each in ipairs(receipt.results) do
        assert.equal("boolean", type(each.ok))
        assert.truthy(each.ok or type(each.code) == "string" and type(each.error) == "string")
        assert.truthy(utf8.len(each.provider_id or "") and utf8.len(each.warning or ""))
      end
      assert.equal(what == "an odd time to wait" and 3 or 1, receipt.results[1].attempts)
    end)
  end

  it("that has a code of its own fails with `rejected`, and its code is told in the text", function()
    local cases = {
      ['{ ok = false, code = "quota_exceeded", error = "come back tomorrow" }'] = "quota_exceeded: come back tomorrow",
      ['{ ok = false, code = "quota_exceeded" }'] = "quota_exceeded", ["{ ok = false, code = 4711 }"] = "4711",
      ['{ ok = false, code = {}, error = "as it is" }'] = "as it is",
    }
    for answer, text in pairs(cases) do
      adapter("own", ([[return {
        transport = "http", options = { url = { type = "string" } },
        request = function(delivery) return { url = delivery.account.url } end,
        response = function() return %s end,
      }]]):format(answer))
      local hub <close> = assert(open("own"))
      local receipt = hub:send({ title = "t", targets = { "own" } }, 10)
      assert.equal("rejected", receipt.code)
      assert.equal(text, receipt.error)
      assert.equal("rejected", receipt.results[1].code)
    end
    adapter("own", 'return { transport = "http", request = function() return nil, "no", "mine" end, response = function() end }')
    local hub <close> = assert(open("own", {}))
    local receipt = hub:send({ title = "t", targets = { "own" } }, 10)
    assert.equal("rejected", receipt.code)
    assert.equal("mine: no", receipt.error)
  end)

  it("that requires a module that is not there is told with its file and line", function()
    adapter("own", 'local json = require "json"\nlocal result = require "reslt"\nreturn { json, result }\n')
    local hub, problem = open "own"
    assert.is_nil(hub)
    assert.truthy(problem:find("adapters/own.lua:2: there is no module 'reslt'", 1, true), problem)
  end)

  it("that builds no request, or one that cannot be sent, is a result", function()
    for _, request in ipairs { "nil", "true", "{ url = print }", '{ url = "ftp://127.0.0.1/" }', "{}", '{ url = "http://h", nosuch = 1 }' } do
      adapter("own", ('return { transport = "http", request = function() return %s end, response = function() end }'):format(request))
      local hub <close> = assert(open("own", {}))
      local receipt = hub:send({ title = "t", targets = { "own" } }, 10)
      assert.equal("failed", receipt.status)
      assert.truthy(receipt.code == "invalid" or receipt.code == "script", receipt.code)
      assert.equal("string", type(receipt.results[1].error))
    end
  end)

  it("that knows only text gets markdown as it is and HTML without its tags", function()
    adapter("own", plain())
    local _, got = deliver("own", { title = "t", body = "**bold**", format = "markdown" })
    assert.equal("text", got.format)
    assert.equal("**bold**", got.body)
    support.finish()
    sink = support.sink()
    _, got = deliver("own", { title = "t", body = "<p>a <b>bold</b> &amp; b</p>", format = "html" })
    assert.equal("text", got.format)
    assert.equal("a bold & b", got.body)
  end)

  it("that knows only HTML gets text escaped and markdown converted", function()
    adapter("own", plain 'formats = { "html" },')
    local _, got = deliver("own", { title = "t", body = "a < b\nc" })
    assert.equal("html", got.format)
    assert.equal("a &lt; b<br>\nc", got.body)
    support.finish()
    sink = support.sink()
    _, got = deliver("own", { title = "t", body = "**bold**", format = "markdown" })
    assert.equal("html", got.format)
    assert.truthy(got.body:find("<strong>bold</strong>", 1, true), got.body)
  end)

  it("that takes no attachments is told without them, with a warning", function()
    adapter("own", plain())
    local receipt = deliver("own", { title = "t", attachments = { { name = "a.txt", content = "a" } } })
    assert.equal("delivered", receipt.status)
    assert.truthy(receipt.results[1].warning:find("1 attachment(s) left out", 1, true))
  end)

  it("has its limits kept, in characters or bytes; nothing is cut", function()
    adapter("own", plain 'limits = { title = 3, body = 5, unit = "characters" },')
    assert.equal("delivered", deliver("own", { title = "äöü", body = "äöüäö" }).status)
    local receipt = deliver("own", { title = "t", body = "äöüäöü" })
    assert.equal("too_large", receipt.code)
    assert.truthy(receipt.error:find("body: 6 characters, own takes at most 5", 1, true), receipt.error)
    assert.equal(1, sink:stop().arrivals)
  end)
end)
