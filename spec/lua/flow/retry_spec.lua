-- How often an attempt is made again and when: who says so, how pauses grow, and what the platform itself asks for.
local socket = require "socket"

local hostile = require "spec.support.hostile"
local rules = require "spec.support.rules"
local support = require "spec.lua.binding.support"

-- Rules that send everything to `down`, and tell /d what the pauses were.
local WAITS = [[
  on("retry", function(what) store.push("waits", ("%.4f"):format(what.wait)) end)
  on("error", function() send({ title = table.concat(store.pop_all "waits", " ") }, "d") end)
]]

-- The pauses between the attempts of one message to where nobody listens.
local function waits(retry)
  local hub, sink = rules.open({ ["a.lua"] = "route { to = 'down' }" .. WAITS }, { breaker = { enabled = false } })
  local receipt = hub:send({ title = "t", retry = retry }, rules.LONG)
  assert.equal("network", receipt.code)
  assert.equal(retry.attempts, receipt.results[1].attempts)
  local list = {}
  for wait in rules.told(sink, "/d")[1].title:gmatch "%S+" do
    list[#list + 1] = tonumber(wait)
  end
  return list
end

describe("the pauses between attempts", function()
  after_each(rules.finish)

  it("double with `exponential`, up to the most, and are all from nothing to the whole unless jitter is said", function()
    assert.same({ 0.01, 0.02, 0.04, 0.05, 0.05 }, waits { attempts = 6, initial = 0.01, max = 0.05, jitter = 0 })
    local whole, low, high = { 0.04, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08 }, false, false
    for index, wait in ipairs(waits { attempts = 10, initial = 0.04, max = 0.08 }) do
      assert.is_true(wait >= 0 and wait <= whole[index], wait)
      low, high = low or wait < 0.5 * whole[index], high or wait > 0.5 * whole[index]
    end
    assert.is_true(low and high) -- nine of nine on one side: once in 256 runs, and then it is no full jitter
  end)

  it("grow by the same each time with `linear`", function()
    assert.same({ 0.01, 0.02, 0.03, 0.04 }, waits { attempts = 5, backoff = "linear", initial = 0.01 })
    assert.same({ 0.01, 0.03, 0.05, 0.06 }, waits { attempts = 5, backoff = "linear", initial = 0.01, multiplier = 3, max = 0.06 })
  end)

  it("stay the same with `fixed`", function()
    assert.same({ 0.02, 0.02, 0.02 }, waits { attempts = 4, backoff = "fixed", initial = 0.02, multiplier = 9 })
  end)

  it("may have a share of chance with any of them", function()
    for _, wait in ipairs(waits { attempts = 6, backoff = "fixed", initial = 0.02, jitter = 0.5 }) do
      assert.is_true(wait >= 0.01 and wait <= 0.02, wait)
    end
  end)
end)

describe("a retry policy", function()
  after_each(rules.finish)

  it("of a message stands over its route's, that over its account's, that over the configuration's, key by key", function()
    local hub = rules.open({ ["a.lua"] = [[
      route { match = { way = "route" }, to = "flaky", retry = { attempts = 4, backoff = "fixed" } }
      route { to = "flaky" }
    ]] }, {
      platforms = { flaky = { platform = "webhook", url = "http://127.0.0.1:1/", retry = { attempts = 3, initial = 0.01 } },
                    plain = { platform = "webhook", url = "http://127.0.0.1:1/" } },
      retry = { attempts = 2, initial = 0.02, jitter = 0 }, breaker = { enabled = false },
    })
    local function attempts(message)
      message.title = "t"
      return hub:send(message, rules.LONG).results[1].attempts
    end
    assert.equal(3, attempts {})
    assert.equal(4, attempts { metadata = { way = "route" } })
    assert.equal(5, attempts { metadata = { way = "route" }, retry = { attempts = 5 } })
    assert.equal(1, attempts { retry = { attempts = 1 } })
  end)

  it("of an account does not hold for another one", function()
    local hub = support.hub {
      platforms = { flaky = { platform = "webhook", url = "http://127.0.0.1:1/", retry = { attempts = 4, initial = 0.01 } },
                    plain = { platform = "webhook", url = "http://127.0.0.1:1/" } },
      retry = { attempts = 2, initial = 0.02 }, breaker = { enabled = false },
    }
    local results = hub:send({ title = "t", targets = { "flaky", "plain" } }, rules.LONG).results
    assert.same({ 4, 2 }, { results[1].attempts, results[2].attempts })
  end)

  it("that is wrong is refused with the field's name, wherever it stands", function()
    local function refused(text, answer, problem, code)
      assert.is_nil(answer)
      assert.truthy(problem:find(text, 1, true), problem)
      return code
    end
    local notifyhub = require "notifyhub"
    local wrong = { backoff = "quadratic" }
    assert.equal("config", refused("retry.backoff: must be one of exponential, linear, fixed", notifyhub.new { retry = wrong }))
    assert.equal("config", refused("platforms.slack.retry.backoff: must be one of", notifyhub.new {
      platforms = { slack = { token = "xoxb-1", channel = "#a", retry = wrong } },
    }))
    assert.equal("config", refused("retry.backoff: must be one of", notifyhub.new {
      rules = rules.folder { ["a.lua"] = [[route { to = "console", retry = { backoff = "quadratic" } }]] },
    }))
    assert.equal("invalid", refused("retry.backoff: 'quadratic' is not one of exponential, linear, fixed",
      support.hub():send_async { title = "t", targets = { "console" }, retry = wrong }))
  end)
end)

-- A server that answers each connection with the next of a list of answers, and notes when each came.
local function answering(answers)
  local server = assert(socket.bind("127.0.0.1", 0))
  server:settimeout(20)
  local _, port = server:getsockname()
  local times = {}
  return ("json://127.0.0.1:%d/x"):format(port), function()
    for index, answer in ipairs(answers) do
      local peer = assert(server:accept())
      peer:settimeout(20)
      local length = 0
      repeat
        local line = assert(peer:receive "*l")
        length = tonumber(line:match "^[Cc]ontent%-[Ll]ength: (%d+)") or length
      until line == ""
      peer:receive(length)
      times[index] = socket.gettime()
      assert(peer:send(answer))
      peer:close()
    end
    server:close()
    return times
  end
end

local function answer(status, headers, body)
  return ("HTTP/1.1 %d X\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(status, headers, #body, body)
end

describe("what a platform asks for", function()
  after_each(rules.finish)

  local OK = answer(200, "", "ok")
  local function date(seconds)
    return os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(socket.gettime()) + seconds)
  end

  local CASES = {
    ["in a Retry-After of seconds"] = function() return 503, "Retry-After: 2\r\n", "" end,
    ["in a Retry-After that is a date"] = function() return 503, ("Date: %s\r\nRetry-After: %s\r\n"):format(date(0), date(2)), "" end,
    ["in Discord's JSON"] = function() return 503, "", '{"message": "slow", "retry_after": 2.0, "global": false}' end,
    ["in Telegram's JSON"] = function() return 503, "", '{"ok": false, "error_code": 503, "parameters": {"retry_after": 2}}' end,
    ["with a 429, which costs no attempt"] = function() return 429, "Retry-After: 2\r\n", "" end,
    ["with a 429 in JSON"] = function() return 429, "", '{"retry_after": 2}' end,
  }
  for name, case in pairs(CASES) do
    it(name .. " is waited for, and no more than a second longer", function()
      local target, serve = answering { answer(case()), OK }
      local hub = support.hub { retry = { attempts = 2, initial = 0.01, max = 0.01 } }
      local handle = assert(hub:send_async { title = "t", targets = { target } })
      local times = serve()
      local receipt = assert(handle:wait(rules.LONG))
      assert.equal("delivered", receipt.status)
      local gap = times[2] - times[1]
      assert.is_true(gap >= 1.9 and gap < 4, gap) -- 4: the machine may be busy
      assert.equal(case() == 429 and 1 or 2, receipt.results[1].attempts)
    end)
  end

  it("is at least a second, and what makes no sense is not heard", function()
    for wrong, least in pairs { ["0"] = 1, ["-3"] = 0, ["soon"] = 0, ["0x7fffffffffffffff"] = 0 } do
      local target, serve = answering { answer(503, ("Retry-After: %s\r\n"):format(wrong), ""), OK }
      local hub = support.hub { retry = { attempts = 2, initial = 0.01, max = 0.01 } }
      local handle = assert(hub:send_async { title = "t", targets = { target } })
      local times = serve()
      assert.equal("delivered", assert(handle:wait(rules.LONG)).status)
      assert.is_true(times[2] - times[1] >= least, wrong)
    end
  end)
end)

describe("a message that waits for its next attempt", function()
  after_each(rules.finish)

  it("holds no socket, and takes the place of no other message", function()
    local sink = support.sink { fail = 1 }
    local hub = support.hub { workers = { min = 1, max = 1, in_flight = 1 } }
    local waiting = assert(hub:send_async {
      title = "t", targets = { sink.target }, retry = { backoff = "fixed", initial = 3600, max = 3600 },
    })
    assert(sink:wait(1))
    support.eventually(function() return hub:stats().workers.asleep == 1 end)
    assert.equal(0, hub:stats().workers.in_flight)
    for _ = 1, 5 do
      assert.equal("delivered", hub:send({ title = "t", targets = { sink.target } }, rules.LONG).status)
    end
    assert.equal("running", waiting:status().state)
    assert.is_true(waiting:cancel())
    assert.equal("cancelled", waiting:wait(rules.LONG).status)
  end)
end)

describe("what may succeed later", function()
  after_each(rules.finish)

  -- Each failure of a kind, and whether it is made again.
  local STATUS = { [400] = false, [401] = false, [404] = false, [408] = true, [413] = false, [421] = true, [423] = true,
                   [425] = true, [500] = true, [501] = false, [502] = true, [503] = true, [504] = true, [505] = false }
  for status, again in pairs(STATUS) do
    it(("HTTP %d is %smade again"):format(status, again and "" or "not "), function()
      local sink = support.sink { status = status }
      local hub = support.hub { retry = { attempts = 2, initial = 0.01 } }
      local receipt = hub:send({ title = "t", targets = { sink.target } }, rules.LONG)
      assert.equal(again and 2 or 1, receipt.results[1].attempts)
      assert.equal(again and true or nil, receipt.results[1].retryable)
      assert.equal(again, require "notifyhub".codes[receipt.code])
    end)
  end
end)

describe("a retry after a connection that did not hold", function()
  local sink
  before_each(function() sink = hostile.start() end)
  after_each(function()
    support.finish()
    sink:stop()
  end)

  it("goes over a fresh one, however many are kept to the same server", function()
    local hub = support.hub { workers = { max = 1 } }
    local target = sink:target "/end/second" -- each connection ends at its second request
    local batch, warm = {}, 8
    for index = 1, warm do
      batch[index] = { title = hostile.mark("w" .. index), targets = { target }, retry = { attempts = 1 } }
    end
    assert(assert(hub:send_batch(batch)):wait(rules.LONG))
    local receipt = assert(hub:send({
      title = hostile.mark "last", targets = { target }, retry = { attempts = 2, initial = 0.01 },
    }, rules.LONG))
    assert.equal("delivered", receipt.status, receipt.error)
    assert.equal(2, receipt.results[1].attempts)
  end)
end)
