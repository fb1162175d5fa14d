-- A hub with a journal, as a program in Lua sees it: what outlives it, what is told when, and what comes once.

local json = require "dkjson"
local notifyhub = require "notifyhub"
local command = require "spec.support.command"
local rules = require "spec.support.rules"
local support = require "spec.lua.binding.support"

local LONG = rules.LONG

describe("a hub with a journal", function()
  local directory, sink

  before_each(function()
    directory = command.directory()
    sink = support.sink()
  end)

  after_each(function()
    rules.finish()
    support.finish()
    command.remove(directory)
  end)

  local function config(extra)
    local all = { queue = { journal = directory .. "/journal.db" }, retry = { attempts = 1 } }
    for name, value in pairs(extra or {}) do all[name] = value end
    return all
  end

  local function open(extra)
    return support.hub(config(extra))
  end

  local function message(extra)
    local all = { title = "t", targets = { sink.target } }
    for name, value in pairs(extra or {}) do all[name] = value end
    return all
  end

  local function idle(hub)
    support.eventually(function() return hub:stats().journal.depth == 0 end)
  end

  it("tells in health() how its journal is doing, and when it is full", function()
    local hub = open { queue = { journal = directory .. "/journal.db", journal_bytes = 1048576 } }
    local journal = hub:health().journal
    assert.same({ "ok", 0, 0, 0, 1048576 }, { journal.state, journal.rows, journal.oldest, journal.dead, journal.most })
    assert.is_nil(journal.last_error)
    local handles, body = {}, ("x"):rep(5000)
    local code, _
    local later = os.time() + 3600
    repeat
      handles[#handles + 1], _, code = hub:send_async(message { body = body, deliver_at = later })
    until code or #handles == 1000
    assert.equal("journal", code)
    local health = hub:health()
    journal = health.journal
    assert.same({ "full", #handles, "degraded" }, { journal.state, journal.rows, health.status })
    assert.is_true(journal.bytes > 524288 and journal.bytes <= journal.most, journal.bytes)
    assert.is_true(journal.commit_seconds > 0 and journal.commit_seconds < 60)
    support.eventually(function() return hub:health().journal.oldest > 0 end)
    for _, handle in ipairs(handles) do handle:cancel() end
    support.eventually(function()
      journal = hub:health().journal
      return journal.state ~= "full" and journal.rows == 0
    end)
    assert.truthy(hub:send_async(message { body = body, deliver_at = later }))
    assert.is_nil(support.hub({}):health().journal)
  end)

  it("keeps what a close did not let end, and sends it when it is opened again", function()
    local hub = open()
    local handle = assert(hub:send_async(message { deliver_at = os.time() + 3, id = "kept" }))
    assert.equal("scheduled", handle:status().state)
    assert.equal(1, hub:close(0))
    local receipt = handle:result()
    assert.equal("closed", receipt.code)
    assert.matches("kept in the journal", receipt.error)
    assert.equal(1, hub:stats().journal.depth)
    hub = open()
    assert(sink:wait(1, LONG))
    idle(hub)
    assert.same({ kept = 1 }, (support.ids(sink)))
  end)

  it("finds its file beside the configuration", function()
    local file = command.write(directory .. "/hub.lua", [[return { queue = { journal = "here.db" } }]])
    support.hub(file)
    assert.is_string(command.read(directory .. "/here.db"))
  end)

  it("cannot be opened twice", function()
    open()
    local hub, problem, code = notifyhub.new(config())
    assert.is_nil(hub)
    assert.equal("journal", code)
    assert.matches("has this journal open", problem)
  end)

  it("has a message on the disk when send_async returns, or later", function()
    local hub = open()
    assert(hub:send_async(message()))
    assert.is_true(hub:stats().journal.commits >= 1)
    local handle = assert(hub:send_async(message(), { acceptance = "later" }))
    assert.is_true(handle:accepted(LONG))
    assert.equal("delivered", handle:wait(LONG).status)
    local batch = assert(hub:send_batch({ message(), message() }, { acceptance = "later" }))
    assert.is_true(batch:accepted(LONG))
    assert.equal(2, #batch:wait(LONG))
  end)

  it("lets the other tasks of a run go on while one waits to be accepted", function()
    local hub, most, waiting = open(), 0, 0
    hub:run(function()
      for _ = 1, 50 do
        hub:spawn(function()
          waiting = waiting + 1
          most = math.max(most, waiting)
          local handle = assert(hub:send_async(message()))
          waiting = waiting - 1
          assert.equal("delivered", handle:wait(LONG).status)
        end)
      end
    end)
    assert.equal(50, most)
    assert.is_true(hub:stats().journal.commits < 150)
  end)

  it("misuse of the options raises", function()
    local hub = open()
    assert.has_error(function() hub:send_async(message(), { acceptance = "sooner" }) end)
    assert.has_error(function() hub:send_async(message(), { wait = -1 }) end)
    assert.has_error(function() hub:send_async(message(), { patience = 1 }) end)
    assert.has_error(function() hub:dead_letters { from = 1 } end)
    assert.has_error(function() hub:retry_dead "some" end)
  end)

  it("waits for room when it is asked to", function()
    local hub = support.hub { queue = { capacity = 1 }, workers = { max = 1, in_flight = 1 } }
    local slow = support.sink { delay = 0.3 }
    assert(hub:send_async(message { targets = { slow.target } }))
    support.eventually(function() return hub:stats().workers.in_flight == 1 end)
    assert(hub:send_async(message()))
    local handle, _, code = hub:send_async(message())
    assert.is_nil(handle)
    assert.equal("queue_full", code)
    assert(hub:send_async(message(), { wait = LONG }))
    hub:run(function()
      local ticks = 0
      hub:spawn(function()
        for _ = 1, 3 do
          hub:sleep(0.001)
          ticks = ticks + 1
        end
      end)
      for _ = 1, 3 do assert(hub:send_async(message(), { wait = LONG })) end
      assert.is_true(ticks >= 0)
    end)
    assert(sink:wait(5, LONG))
  end)

  it("sends messages with one dedupe_key once, also after it was opened again", function()
    local hub = open()
    local first = assert(hub:send_async(message { dedupe_key = "deploy" }))
    local second, problem, code = hub:send_async(message { dedupe_key = "deploy" })
    assert.equal(first, second)
    assert.equal(first.id, second.id)
    assert.equal("duplicate", code)
    assert.is_string(problem)
    hub:run(function()
      local third, _, again = hub:send_async(message { dedupe_key = "deploy" })
      assert.equal(first, third)
      assert.equal("duplicate", again)
    end)
    local batch = assert(hub:send_batch { message(), message { dedupe_key = "deploy" } })
    local receipts = batch:wait(LONG)
    assert.equal("delivered", receipts[1].status)
    assert.equal("duplicate", receipts[2].code)
    assert.matches(first.id, receipts[2].error, 1, true)
    assert.equal("delivered", first:wait(LONG).status)
    hub:close()
    hub = open()
    local late, _, again = hub:send_async(message { dedupe_key = "deploy" })
    assert.equal("duplicate", again)
    assert.equal("duplicate", late:wait(LONG).code)
    assert.equal(2, hub:send(message { dedupe_key = "other" }, LONG) and 2)
    assert(sink:wait(3, LONG)) -- it tells a little later than it answers
    local _, count = support.ids(sink)
    assert.equal(3, count)
  end)

  it("keeps what failed for good as a dead letter, to be retried or discarded", function()
    local hub = open()
    assert.equal("failed", hub:send({ title = "x", id = "lost", targets = { support.refused } }, LONG).status)
    support.eventually(function() return hub:stats().journal.dead == 1 end)
    local letters = assert(hub:dead_letters())
    assert.equal("lost", letters[1].id)
    assert.equal("network", letters[1].code)
    assert.equal(1, letters[1].attempts)
    assert.is_string(letters[1].reason)
    local number = letters[1].number
    assert.equal("x", hub:dead_letter(number).message.title)
    assert.equal(1, hub:retry_dead(number))
    support.eventually(function() return hub:stats().failed == 2 and hub:stats().journal.dead == 1 end)
    assert.same({}, hub:dead_letters { after = number + 1 })
    local _, _, code = hub:discard_dead(number)
    assert.equal("invalid", code) -- it died again under a new number
    assert.equal(1, hub:discard_dead "all")
    assert.same({}, hub:dead_letters())
  end)

  it("hands a dead letter out without what is secret in it, and retries it as it was", function()
    local CANARY = "Qanary7dZkX9"
    local failing = support.sink { fail = 1 }
    local hub = open()
    local receipt = assert(hub:send({
      title = "x", body = "see https://example.com/runbook", metadata = { service = "payments" },
      targets = {
        failing.target .. CANARY, { platform = "webhook", value = "http://127.0.0.1:1/" .. CANARY }, "slack://" .. CANARY,
        "hooks.example.com/" .. CANARY, "https:/h/" .. CANARY, "joe@example.com",
      },
      platform = { webhook = { headers = { ["X-Key"] = CANARY } } },
    }, LONG))
    assert.not_equal("delivered", receipt.status)
    support.eventually(function() return hub:stats().journal.dead == 1 end)
    local listed = assert(hub:dead_letters())
    local letter = assert(hub:dead_letter(listed[1].number))
    assert.is_nil(json.encode({ listed, letter }):find(CANARY, 1, true))
    assert.same({
      "json://…", { platform = "webhook", value = "http://…" }, "slack://…", "hooks.example.com/…", "https:…", "joe@example.com",
    }, letter.message.targets)
    assert.equal("<secret>", letter.message.platform.webhook.headers["X-Key"])
    assert.equal("see https://example.com/runbook", letter.message.body) -- what it says is as it came
    assert.same({ service = "payments" }, letter.message.metadata)
    assert.equal(1, hub:retry_dead "all")
    local arrivals = assert(failing:wait(2, LONG))
    assert.matches(CANARY, arrivals[2].path, 1, true)
    assert.equal(CANARY, arrivals[2].headers["x-key"] or arrivals[2].headers["X-Key"])
  end)

  it("has no dead letters without a journal, and says so", function()
    local hub = support.hub()
    local letters, problem, code = hub:dead_letters()
    assert.is_nil(letters)
    assert.equal("config", code)
    assert.matches("queue.journal", problem)
  end)

  it("goes on with the attempts of the run before", function()
    local failing = support.sink { fail = 1000, status = 503 }
    local hub = open { retry = { attempts = 3, initial = 60, max = 60, jitter = 0 } }
    local handle = assert(hub:send_async { title = "t", targets = { failing.target } })
    support.eventually(function() return handle:status().retries == 1 end)
    hub:close(0)
    hub = open { retry = { attempts = 3, initial = 0.01, max = 0.01 } }
    support.eventually(function() return hub:stats().journal.dead == 1 end)
    assert.equal(3, hub:dead_letters()[1].attempts)
    assert.equal(3, #failing:arrivals())
  end)
end)

describe("notifyhub queue", function()
  local directory, journal

  before_each(function()
    directory = command.directory()
    journal = directory .. "/journal.db"
    local hub = support.hub { queue = { journal = journal }, retry = { attempts = 1 } }
    hub:send({ title = "x", id = "lost", targets = { "json://127.0.0.1:1/token-in-path" } }, LONG)
    support.eventually(function() return hub:stats().journal.dead == 1 end)
    hub:close()
  end)

  after_each(function()
    support.finish()
    command.remove(directory)
  end)

  local function queue(...)
    return command.run({ "queue", ... })
  end

  it("lists, shows, retries and discards", function()
    local done = queue("list", "--journal", journal)
    assert.equal(0, done.status)
    assert.matches("^1  .*  lost  network after 1 attempts: ", done.out)
    done = queue("show", "1", "--journal", journal)
    assert.matches("message .*json://…", done.out)
    assert.is_nil(done.out:find("token-in-path", 1, true), done.out)
    assert.is_nil(queue("show", "1", "--json", "--journal", journal).out:find("token-in-path", 1, true))
    assert.matches('"dead":1', queue("stats", "--json", "--journal", journal).out)
    assert.matches("^1 wait", queue("retry", "all", "--journal", journal).out)
    assert.matches('"depth":1', queue("stats", "--json", "--journal", journal).out)
    assert.equal("", queue("list", "--journal", journal).out)
    assert.matches("^0 discarded", queue("discard", "all", "--journal", journal).out)
  end)

  it("finds the journal of a configuration", function()
    local file = command.write(directory .. "/hub.lua", [[return { queue = { journal = "journal.db" } }]])
    assert.matches("lost", queue("list", "--config", file).out)
  end)

  it("says what is wrong", function()
    local done = queue("list", "--journal", directory .. "/none.db")
    assert.equal(1, done.status)
    assert.matches("none.db: No such file", done.err)
    assert.is_nil(command.read(directory .. "/none.db"))
    assert.equal(2, queue("show", "77", "--journal", journal).status)
    assert.equal(2, queue("shw", "--journal", journal).status)
    assert.equal(2, queue("retry", "--journal", journal).status)
    local hub = support.hub { queue = { journal = journal } }
    done = queue("list", "--journal", journal)
    assert.equal(1, done.status)
    assert.matches("has this journal open", done.err)
    hub:close()
  end)
end)
