-- What scripts of the rules may count on when the process ends in the middle: their durable values, and running again.

local command = require "spec.support.command"
local rules = require "spec.support.rules"
local support = require "spec.lua.binding.support"

local LONG = rules.LONG

describe("scripts and a journal", function()
  local directory

  before_each(function() directory = command.directory() end)

  after_each(function()
    rules.finish()
    support.finish()
    command.remove(directory)
  end)

  local function queue()
    return { journal = directory .. "/journal.db" }
  end

  it("keep durable values over a restart", function()
    local files = { ["a.lua"] = [[
      route { name = "count", handle = function(message)
        local count = store.incr("count", 1, { durable = true })
        store.set("brief", count)
        store.set("table", { count = count, list = { 1, 2 } }, { durable = true })
        store.set("gone", true, { durable = true })
        store.delete("gone")
        message.title = ("%d %s %s"):format(count, tostring(store.get("brief")), tostring(store.get("gone")))
        send(message, "a")
      end } ]] }
    local sink = support.sink()
    local folder = rules.folder(files)
    for run = 1, 2 do
      local hub = support.hub(rules.config(sink, { rules = folder, queue = queue() }))
      local receipt = hub:send({ title = "t" }, LONG)
      assert.equal("delivered", receipt.status, receipt.error)
      hub:close()
      local arrivals = assert(sink:wait(run, LONG))
      assert.equal(("%d %d nil"):format(run, run), arrivals[run].json.title)
    end
  end)

  it("cannot keep durable values without a journal, and are told", function()
    local sink = support.sink()
    local folder = rules.folder { ["a.lua"] = [[
      route { name = "set", handle = function() store.set("k", 1, { durable = true }) end } ]] }
    local hub = support.hub(rules.config(sink, { rules = folder }))
    local receipt = hub:send({ title = "t" }, LONG)
    assert.equal("script", receipt.code)
    assert.matches("queue.journal", receipt.error)
  end)

  -- The pattern of docs/scripting.md: what must not happen twice stands behind a durable `add`.
  it("run a message whose handler had not ended again from its start, and once what is guarded", function()
    local sink = support.sink()
    local folder = rules.folder { ["a.lua"] = [[
      route { name = "page", handle = function(message)
        if store.add("paged " .. message.id, true, { durable = true, ttl = 3600 }) then
          send(message, "a")
        end
        sleep(message.metadata.pause)
        send(message, "b")
      end } ]] }
    local config = ([[{ rules = %q, queue = { journal = %q }, platforms = {
      a = { platform = "webhook", url = %q }, b = { platform = "webhook", url = %q } } }]]):format(
      folder, queue().journal, sink.url .. "/a", sink.url .. "/b")
    local printed = support.program(([[
      local hub = assert(require "notifyhub".new(%s))
      assert(hub:send_async { title = "t", id = "m", metadata = { pause = 1 } })
      while hub:stats().workers.asleep == 0 do hub:poll(0.01) end
      hub:sleep(0.3) -- a durable value is written soon, not at once
      io.stdout:write(io.open "/proc/self/stat":read "*n", "\n")
      io.stdout:flush()
      os.execute("kill -9 " .. io.open "/proc/self/stat":read "*n")
    ]]):format(config))
    assert.matches("^%d+\n", printed)
    assert.same({ "/a" }, rules.paths(sink, 1))
    local hub = support.hub(rules.config(sink, { rules = folder, queue = queue() }))
    assert(sink:wait(2, LONG))
    support.eventually(function() return hub:stats().journal.depth == 0 end)
    local paths = {}
    for index, arrival in ipairs(sink:arrivals()) do paths[index] = arrival.path end
    assert.same({ "/a", "/b" }, paths)
  end)
end)
