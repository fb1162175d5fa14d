-- Rates: of an account and of each recipient of it, kept by all workers together; and how a delivery is called.
local rules = require "spec.support.rules"
local support = require "spec.lua.binding.support"

-- An adapter for rooms of a chat: each message is a call of /NAME of the receiver. What it was called by comes along.
local CHAT = [[
  local json, result = require "json", require "result"
  return {
    transport = "http", recipients = { "channel" }, formats = { "text" }, %s
    options = { url = { type = "string", required = true }, limits = { type = "boolean" } },
    request = function(delivery)
      return { method = "POST", url = delivery.account.url .. "/" .. (delivery.recipient and delivery.recipient.value:sub(2) or ""),
        headers = { ["Content-Type"] = "application/json" },
        body = json.encode { id = delivery.id, message = delivery.message.id, attempt = delivery.attempt } }
    end,
    response = function(response, delivery)
      if response.status == 503 and delivery.account.limits then
        return result.fail("rate_limited", "slow down", { retry_after = 1 })
      end
      return result.http(response)
    end,
  }
]]

-- A hub with an account `chat` of such a platform.
local function open(sink, data, account, extra)
  local folder = rules.folder { ["adapters/chat.lua"] = CHAT:format(data or "") }
  account.url = sink.url
  local config = { script_path = folder, platforms = { chat = account }, workers = { min = 2, max = 2 } }
  for name, value in pairs(extra or {}) do config[name] = value end
  return support.hub(config)
end

local function send_to(hub, channels, extra)
  local messages = {}
  for index, channel in ipairs(channels) do
    messages[index] = { title = "t", targets = { { platform = "chat", value = channel } } }
    for name, value in pairs(extra or {}) do messages[index][name] = value end
  end
  return assert(hub:send_batch(messages))
end

local function each(count, value)
  local list = {}
  for index = 1, count do list[index] = value end
  return list
end

-- How long the arrivals of a path took, from the first to the last.
local function span(sink, path, count)
  local first, last
  support.eventually(function()
    local seen = 0
    for _, arrival in ipairs(sink:arrivals()) do
      if arrival.path == path then
        seen, first, last = seen + 1, first or arrival.time, arrival.time
      end
    end
    return seen == count
  end)
  return last - first
end

describe("a rate", function()
  after_each(rules.finish)

  it("of an account holds for all its recipients together, over all workers; the receipt tells who waited", function()
    local sink = support.sink()
    local hub = open(sink, nil, { rate = { tokens = 10, per = 1, burst = 1 } })
    local batch = send_to(hub, { "#a", "#b", "#c", "#d", "#e", "#f", "#g", "#h" })
    local longest = 0
    for _, receipt in ipairs(assert(batch:wait(rules.LONG))) do
      assert.equal("delivered", receipt.status)
      longest = math.max(longest, receipt.results[1].waited or 0)
    end
    -- The last has seven tenths to wait, or less where the machine was slow to get to it.
    assert.is_true(longest > 0.3 and longest < 0.701, longest)
    local arrivals = assert(sink:wait(8))
    assert.is_true(arrivals[8].time - arrivals[1].time > 0.4)
  end)

  it("of each target holds for that one; the others of the account do not wait", function()
    local sink = support.sink()
    local hub = open(sink, nil, { target_rate = { tokens = 10, per = 1, burst = 1 } })
    local busy = send_to(hub, each(8, "#busy"))
    local others = send_to(hub, { "#b", "#c", "#d", "#e" })
    for _, receipt in ipairs(assert(others:wait(rules.LONG))) do
      assert.is_nil(receipt.results[1].waited)
    end
    assert(busy:wait(rules.LONG))
    assert.is_true(span(sink, "/busy", 8) > 0.4)
  end)

  it("of a target takes nothing of the account's from the others while it waits", function()
    local sink = support.sink()
    local hub = open(sink, nil, { rate = { tokens = 20, per = 1, burst = 1 }, target_rate = { tokens = 1, per = 3600, burst = 1 } })
    send_to(hub, each(50, "#busy"))
    assert(sink:wait(1))
    local receipt = assert(send_to(hub, { "#quiet" }):wait(rules.LONG))[1]
    assert.is_true((receipt.results[1].waited or 0) < 1, receipt.results[1].waited)
  end)

  it("that the adapter publishes is the default, and `false` is none", function()
    local published = "rate = { tokens = 10, per = 1, burst = 1 }, target_rate = { tokens = 2, per = 1, burst = 2 },"
    local sink = support.sink()
    local batch = send_to(open(sink, published, {}), each(4, "#a"))
    assert(batch:wait(rules.LONG))
    assert.is_true(span(sink, "/a", 4) > 0.6)
    local hub = open(sink, published, { rate = false, target_rate = false })
    for _, receipt in ipairs(assert(send_to(hub, each(20, "#b")):wait(rules.LONG))) do
      assert.is_nil(receipt.results[1].waited)
    end
    local platforms = hub:platforms()
    for _, platform in ipairs(platforms) do
      if platform.name == "slack" then
        assert.same({ 1, 1 }, { platform.target_rate.tokens, platform.target_rate.per })
      end
    end
  end)

  it("that is wrong is told with its place", function()
    local hub, problem, code = require "notifyhub".new {
      platforms = { slack = { token = "xoxb-1", channel = "#a", target_rate = { tokens = 0 } } },
    }
    assert.is_nil(hub)
    assert.equal("config", code)
    assert.truthy(problem:find("platforms.slack.target_rate.tokens: must be between 1 and", 1, true), problem)
  end)

  it("is paused by a 429 for the whole account, and the wait is in the receipt and costs no attempt", function()
    local sink = support.sink { fail = 1 }
    local hub = open(sink, nil, { target_rate = { tokens = 1000, per = 1 }, limits = true }, { retry = { attempts = 1 } })
    local first = assert(hub:send_async { title = "t", targets = { { platform = "chat", value = "#a" } } })
    assert(sink:wait(1))
    local paused = support.eventually(function() return hub:metrics():find("notifyhub_limiter_pauses_total 2", 1, true) end)
    assert.truthy(paused) -- the account's and the target's
    local second = assert(hub:send({ title = "t", targets = { { platform = "chat", value = "#b" } } }, rules.LONG))
    assert.equal("delivered", second.status)
    assert.is_true(second.results[1].waited > 0.1, second.results[1].waited)
    local receipt = assert(first:wait(rules.LONG))
    assert.same({ "delivered", 1 }, { receipt.status, receipt.results[1].attempts })
    assert.is_true(receipt.results[1].waited > 0.1)
  end)
end)

describe("a delivery's name", function()
  after_each(rules.finish)

  it("is the same over all attempts, and each delivery of a message has its own", function()
    local sink = support.sink { fail = 3 }
    local hub = open(sink, nil, {}, { retry = { attempts = 5, initial = 0.01 } })
    local receipt = assert(hub:send({
      id = "m", title = "t", targets = { { platform = "chat", value = "#a" }, { platform = "chat", value = "#b" }, "chat" },
    }, rules.LONG))
    assert.equal("delivered", receipt.status)
    local names = {}
    for _, arrival in ipairs(assert(sink:wait(6))) do
      assert.equal("m", arrival.json.message)
      names[arrival.path] = names[arrival.path] or arrival.json.id
      assert.equal(names[arrival.path], arrival.json.id)
    end
    assert.same({ ["/a"] = "m", ["/b"] = "m.2", ["/"] = "m.3" }, names)
  end)

  it("is another one for each time that rules send the message", function()
    local sink = support.sink()
    local folder = rules.folder { ["a.lua"] = [[
      route { handle = function(message)
        send(message, { platform = "chat", value = "#a" })
        send(message, { platform = "chat", value = "#a" })
      end }
    ]] }
    local hub = open(sink, nil, {}, { rules = folder })
    assert.equal("delivered", hub:send({ id = "m", title = "t" }, rules.LONG).status)
    local arrivals = assert(sink:wait(2))
    assert.same({ "m", "m.2" }, { arrivals[1].json.id, arrivals[2].json.id })
  end)

  it("is what a signed webhook and a mail are called by", function()
    local sink = support.sink()
    local hub = support.hub { platforms = {
      one = { platform = "webhook", url = sink.url .. "/one", secret = "whsec_" .. ("QUFB"):rep(8) },
      two = { platform = "webhook", url = sink.url .. "/two", secret = "whsec_" .. ("QUFB"):rep(8) },
    } }
    assert.equal("delivered", hub:send({ id = "m", title = "t", targets = { "one", "two" } }, rules.LONG).status)
    for _, arrival in ipairs(assert(sink:wait(2))) do
      assert.equal(arrival.path == "/one" and "m" or "m.2", arrival.headers["webhook-id"])
    end
  end)
end)
