-- `notifyhub explain`: what would become of a message, without sending anything.
local json = require "dkjson"

local command = require "command"
local receiver = require "receiver"
local rules = require "spec.support.rules"

local CANARY = "canary-of-the-token"

local function config(url)
  return ([[return { rules = "r", platforms = {
    a = { platform = "webhook", url = "%s/a" }, b = { platform = "webhook", url = "%s/b/%s", headers = { authorization = "Bearer %s" } },
    chat = { platform = "slack", webhook_url = "%s/services/%s" },
  } }]]):format(url, url, CANARY, CANARY, url, CANARY)
end

local RULES = [[
template("incident", { title = "[{{ metadata.severity }}] {{ title }}", body = "{{ body }} {{ missing }}" })
route { name = "page", match = { severity = "page" }, template = "incident", handle = function(message)
  send(message, "b", { template = "incident" })
  sleep(300)
  send(message, fallback { "chat", "a" })
end }
route { name = "low", match = { priority = "low" }, to = "a" }
route { name = "broken", match = { broken = true }, handle = function() error "broken" end }
route { name = "nobody", match = { nobody = true }, to = "nobody" }
route { name = "rest", to = "a", template = "incident" }
]]

local function folder_for(url)
  return rules.folder { ["notifyhub.lua"] = config(url or "http://127.0.0.1:1"), ["r/a.lua"] = RULES }
end

local function explain(folder, message, ...)
  return command.run({ "explain", "-", ... }, { directory = folder, stdin = type(message) == "table" and json.encode(message) or message })
end

describe("notifyhub explain", function()
  after_each(rules.finish)

  it("tells which routes match and why the others do not, who would be told, and in what words", function()
    local done = explain(folder_for(), { title = "Disk", body = "full", metadata = { severity = "high" } })
    assert.equal("", done.err)
    assert.equal(0, done.status)
    for _, pattern in ipairs {
      "no   page .-a%.lua:2%): .*severity", "no   low .*priority", "takes it   rest", "route  rest", "would send to a %(webhook, http",
      "title  %[high%] Disk", "POST http://127%.0%.0%.1:1/", "warning .*missing",
    } do
      assert.matches(pattern, done.out)
    end
  end)

  it("runs handlers with a clock that jumps", function()
    local told = json.decode(explain(folder_for(), { title = "Disk", body = "full", metadata = { severity = "page" } }, "--json").out)
    assert.equal("page", told.route)
    assert.equal("delivered", told.status)
    assert.equal(2, #told.requests)
    assert.same({ "b", 0 }, { told.requests[1].target, told.requests[1].at })
    assert.same({ "chat", 300 }, { told.requests[2].target, told.requests[2].at })
    assert.equal("[page] Disk", told.requests[1].title)
    assert.is_true(told.routes[1].taken)
    assert.equal("page", told.routes[1].name)
    assert.matches("would send to chat %(slack, http, after 300 s%)",
      explain(folder_for(), { title = "Disk", body = "full", metadata = { severity = "page" } }).out)
  end)

  it("hides what is secret, in text and in JSON", function()
    for _, option in ipairs { "--json", "--rules=r" } do
      local done = explain(folder_for(), { title = "t", body = "b", metadata = { severity = "page" } }, option)
      assert.matches("127%.0%.0%.1:1", done.out)
      assert.is_nil((done.out .. done.err):find(CANARY, 1, true), done.out)
      done = explain(folder_for(), { title = "t", targets = { "json://user:" .. CANARY .. "@127.0.0.1:1/" .. CANARY }, priority = "normal" }, option)
      assert.is_nil((done.out .. done.err):find(CANARY, 1, true), done.out)
    end
    local folder = folder_for()
    rules.write(folder, "r/a.lua", "-- the message's own targets")
    local done = explain(folder, { title = "t", targets = { "slack://TAAAAAAAA/BBBBBBBBB/" .. CANARY } }, "--json")
    assert.is_nil((done.out .. done.err):find(CANARY, 1, true), done.out)
  end)

  it("shows the body that then arrives, and sends nothing itself", function()
    local sink = receiver.start { http = true }
    local folder = folder_for(sink.url)
    local message = { id = "m", title = "Disk", body = "full", priority = "low", metadata = { load = 1 } }
    local told = json.decode(explain(folder, message, "--json").out)
    assert.equal(0, #sink:arrivals())
    local sent = command.run({ "send", "--batch", "-" }, { directory = folder, stdin = json.encode(message) .. "\n" })
    assert.equal(0, sent.status, sent.err)
    local arrived = assert(sink:wait(1))[1].json
    local shown = json.decode(told.requests[1].request.body)
    arrived.timestamp, shown.timestamp = nil, nil
    assert.same(arrived, shown)
  end)

  it("exits with 1 when something would not be delivered, and says what", function()
    local done = explain(folder_for(), { title = "t", metadata = { broken = true } })
    assert.equal(1, done.status)
    assert.matches("a%.lua:8: broken", done.out)
    done = explain(folder_for(), { title = "t", metadata = { nobody = true } })
    assert.equal(1, done.status)
    assert.matches("would fail nobody: there is no target, account or platform 'nobody'", done.out)
  end)

  it("exits with 2 for a message, a configuration or rules that are wrong", function()
    local folder = folder_for()
    for message, pattern in pairs {
      ["{"] = "notifyhub explain: ", ['{"titel":"x"}'] = "titel: unknown field %(did you mean 'title'%?%)", ['{"title":5}'] = "title: must be a string",
      ["[]"] = ".", ['"text"'] = ".", ["{}"] = "title",
    } do
      local done = explain(folder, message)
      assert.equal(2, done.status, message .. done.out)
      assert.matches(pattern, done.err)
      assert.equal("", done.out)
    end
    assert.equal(2, command.run({ "explain", "/nonexistent.json" }).status)
    rules.write(folder, "r/a.lua", "\nroute {")
    local done = explain(folder, { title = "t" })
    assert.equal(2, done.status)
    assert.matches("a%.lua:2: ", done.err)
  end)

  it("needs no rules: the message's own targets", function()
    local done = explain(rules.folder(), { title = "t", targets = { "json://127.0.0.1:1/x" } })
    assert.equal(0, done.status, done.err)
    assert.matches("would send to json://127%.0%.0%.1:1", done.out)
  end)
end)
