-- SIGTERM and SIGHUP of the executable, with real signals.
local json = require "dkjson"

local command = require "command"
local receiver = require "receiver"

-- What each script begins with: a hub, and `count`, which tells how many messages were accepted when
-- the script is left, however that is.
local HEAD = [[
local notifyhub = require "notifyhub"
local url, rules = ...
local hub = assert(notifyhub.new {
  rules = rules, reload = rules and { watch = false }, targets = { sink = url },
})
local accepted = 0
local count <close> = setmetatable({}, { __close = function() print("accepted " .. accepted) end })
local function ready() print "ready" io.stdout:flush() end
]]

describe("the signals of", function()
  local directory, sink
  before_each(function() directory = command.directory() end)
  after_each(function()
    receiver.stop_all()
    command.remove(directory)
  end)

  local function run(text, signals, ...)
    return command.run({ "run", command.write(directory .. "/script.lua", HEAD .. text),
      (sink.url:gsub("^http", "json")), ... }, { signals = signals })
  end

  -- Every message that was accepted has come, once.
  local function check_ledger(done, arrivals)
    local accepted = tonumber(done.out:match "accepted (%d+)")
    local seen = {}
    for _, arrival in ipairs(assert(sink:wait(accepted))) do
      assert.is_nil(seen[arrival.json.title])
      seen[arrival.json.title] = true
    end
    assert.equal(accepted, sink:stop().arrivals)
    assert.is_true(accepted >= (arrivals or 1))
  end

  local ready = 'grep -q ready "$out"'

  describe("run:", function()
    it("SIGTERM under load delivers what was accepted, once, and ends with 0", function()
      sink = receiver.start { http = true, delay = 0.2 }
      local done = run([[
        ready()
        while true do
          local messages = {}
          for i = 1, 50 do messages[i] = { title = "m" .. accepted + i, body = "b", targets = { "sink" } } end
          assert(hub:send_batch(messages))
          accepted = accepted + 50
          repeat hub:poll(0.01) until hub:stats().pending < 200
        end]], { { "TERM", sink:has(100) } })
      assert.equal("", done.err)
      assert.equal(0, done.status)
      check_ledger(done, 100)
    end)

    it("SIGTERM ends a script that waits, in a coroutine of run too", function()
      sink = receiver.start { http = true, delay = 0.5 }
      local done = run([[
        hub:run(function()
          for i = 1, 20 do
            hub:spawn(function()
              local handle = assert(hub:send_async { title = "m" .. i, body = "b", targets = { "sink" } })
              accepted = accepted + 1
              if accepted == 20 then ready() end
              handle:wait()
              hub:sleep(1000)
            end)
          end
          hub:sleep(1000)
        end)]], { { "TERM", ready } })
      assert.equal("", done.err)
      assert.equal(0, done.status)
      check_ledger(done, 20)
    end)

    it("SIGTERM closes what the script has to close, and the hubs accept no more", function()
      sink = receiver.start { http = true }
      local done = run([[
        local ok, problem = pcall(function()
          local last <close> = setmetatable({}, { __close = function() print "closed" end })
          ready()
          while true do hub:poll(0.01) end
        end)
        print(ok, problem)
        local refused
        repeat
          local handle, _, code = hub:send_async { title = "m" .. accepted, body = "b", targets = { "sink" } }
          if handle then accepted = accepted + 1 else refused = code end
        until refused
        print(refused)
      ]], { { "TERM", ready } })
      assert.equal("", done.err)
      assert.equal(0, done.status)
      assert.matches("^ready\nclosed\nfalse\tterminated\nclosed\naccepted %d+\n$", done.out)
      assert.equal(tonumber(done.out:match "accepted (%d+)"), sink:stop().arrivals)
    end)

    it("SIGTERM ends a script that catches every error, once its hubs are drained", function()
      sink = receiver.start { http = true, delay = 0.5 }
      local done = run([[
        assert(hub:send_async { title = "m1", body = "b", targets = { "sink" } })
        ready()
        io.write "not flushed"
        while true do pcall(function() while true do hub:poll(0.01) end end) end]], { { "TERM", ready } })
      assert.equal("", done.err)
      assert.equal(0, done.status)
      assert.equal("ready\nnot flushed", done.out)
      assert.equal(1, sink:stop().arrivals)
    end)

    it("SIGTERM does not end as an error of the script what it made of a closed hub", function()
      sink = receiver.start { http = true, delay = 0.1 }
      local done = run([[
        local function send()
          accepted = accepted + 1
          local handle, problem = hub:send_async { title = "m" .. accepted, body = "b", targets = { "sink" } }
          if not handle then accepted = accepted - 1 error(problem) end
          handle:on_complete(send)
        end
        for _ = 1, 200 do send() end
        ready()
        while true do hub:poll(1) end]], { { "TERM", sink:has(400) } })
      assert.equal(0, done.status)
      check_ledger(done, 400)
    end)

    it("a second SIGTERM ends at once", function()
      sink = receiver.start { http = true, delay = 20 }
      local began = os.time()
      local done = run([[
        local handle = assert(hub:send_async { title = "m", body = "b", targets = { "sink" } })
        ready()
        handle:wait()]], { { "TERM", sink:has(1) }, { "TERM", "sleep 0.5" } })
      assert.equal(128 + 15, done.status)
      assert.is_true(os.time() - began < 15)
    end)

    it("the programs that the script starts get the usual signals", function()
      sink = receiver.start { http = true }
      local done = run [[
        for _, signal in ipairs { "HUP", "TERM" } do print(os.execute("kill -" .. signal .. " $$; sleep 5")) end]]
      assert.equal("nil\tsignal\t1\nnil\tsignal\t15\naccepted 0\n", done.out)
    end)

    it("a terminal that closes ends it, as SIGTERM does", function()
      sink = receiver.start { http = true, delay = 0.3 }
      command.write(directory .. "/script.lua", HEAD .. [[
        assert(hub:send_async { title = "m", body = "b", targets = { "sink" } })
        io.stderr:write "ready\n"
        while true do hub:poll(1) end]])
      local done = command.run({ "-c", [[
import os, pty, sys
child, terminal = pty.fork()
if child == 0: # its stdout goes elsewhere: what cannot be written is a failure, too
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
while b"ready" not in os.read(terminal, 1000):
    pass
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))]], command.executable(), "run", directory .. "/script.lua",
        (sink.url:gsub("^http", "json")) }, { program = "python3" })
      assert.equal("0\n", done.out)
      assert.equal(1, sink:stop().arrivals)
    end)

    local function rules(text)
      os.execute("mkdir -p " .. directory .. "/rules")
      return command.write(directory .. "/rules/a.lua", text)
    end

    local function route(name)
      return ('route { name = "%s", handle = function(message) return send(message, "sink") end }\n'):format(name)
    end

    -- Sends a message every tick and prints the route whenever it is another.
    local WATCHING = [[
      local last
      for i = 1, 2400 do
        local receipt = assert(hub:send({ title = "m" .. i, body = "b" }, 30))
        accepted = accepted + 1
        if receipt.route ~= last then
          last = receipt.route
          print("route " .. last, receipt.generation)
          io.stdout:flush()
        end
        if last == "third" then break end
        hub:poll(0.02)
      end]]

    it("SIGHUP reloads the rules of its hubs; when that fails those before go on", function()
      sink = receiver.start { http = true }
      rules(route "first")
      local second, broken, third = directory .. "/second", directory .. "/broken", directory .. "/third"
      command.write(second, route "second")
      command.write(broken, route "broken" .. "route {")
      command.write(third, route "third")
      local into = " " .. directory .. "/rules/a.lua"
      local done = run(WATCHING, {
        { "HUP", 'grep -q "route first" "$out"', "cp " .. second .. into },
        { "HUP", 'grep -q "route second" "$out"', "cp " .. broken .. into },
        { "HUP", 'grep -q "rules before go on" "$err"', "cp " .. third .. into },
      }, directory .. "/rules")
      assert.equal(0, done.status)
      assert.matches("^route first\t1\nroute second\t2\nroute third\t3\n", done.out)
      assert.matches("^notifyhub run: SIGHUP: the rules before go on: [^\n]*a%.lua:2: [^\n]+\n$", done.err)
      check_ledger(done, 3)
    end)

    it("SIGHUP tells that there are no rules, and leaves a nohup alone", function()
      sink = receiver.start { http = true }
      local text = "ready() hub:sleep(0.3) while not io.open(url_file) do hub:sleep(0.05) end"
      text = text:gsub("url_file", ("%q"):format(directory .. "/go"))
      local done = run(text, { { "HUP", ready }, { "CONT", 'grep -q "SIGHUP" "$err"', "touch " .. directory .. "/go" } })
      assert.equal(0, done.status)
      assert.matches("^notifyhub run: SIGHUP: the rules before go on: there are no rules", done.err)
      done = command.run({ "-c", ("trap '' HUP; exec %s run %s/script.lua %s"):format(command.quote(command.executable()),
        directory, sink.url) }, { program = "sh", signals = { { "HUP", ready } } })
      assert.equal(0, done.status)
      assert.equal("", done.err)
    end)
  end)

  describe("send --batch:", function()
    local function line(title, to)
      return json.encode { title = title, body = "b", targets = { to or sink.url:gsub("^http", "json") } } .. "\n"
    end

    local function count_of(text)
      return tonumber((text:match "^([%d,]+) message" or "none"):gsub(",", ""), 10)
    end

    it("SIGTERM ends the reading of a pipe; what was read is delivered once, and the status is 0", function()
      sink = receiver.start { http = true, delay = 0.2 }
      local file = command.write(directory .. "/line", line "x")
      local done = command.run({ "send", "--batch", "-" }, {
        input = ("while cat %s 2>/dev/null; do sleep 0.01; done"):format(file),
        signals = { { "TERM", sink:has(20) } },
      })
      assert.equal(0, done.status)
      local sent = count_of(done.out)
      assert.is_true(sent >= 20)
      assert.matches(": " .. sent .. " delivered, 0 not", done.out, 1, true)
      assert.matches("^notifyhub send: stdin: SIGTERM came, line " .. sent .. " was the last\n$", done.err)
      assert.equal(sent, sink:stop().arrivals)
    end)

    it("SIGTERM ends the reading of a file; the status is 1, since the rest was not sent", function()
      sink = receiver.start { http = true, delay = 0.3 }
      command.write(directory .. "/small.lua", "return { queue = { capacity = 10 } }")
      local file = command.write(directory .. "/in", line("x"):rep(2000))
      local done = command.run({ "send", "--batch", file, "--config", directory .. "/small.lua" },
        { signals = { { "TERM", sink:has(5) } } })
      assert.equal(1, done.status)
      local sent = count_of(done.out)
      assert.is_true(sent >= 5 and sent < 2000)
      assert.matches(": " .. sent .. " delivered, 0 not", done.out, 1, true)
      assert.matches("SIGTERM came, line %d+ was the last; those after it were not sent\n$", done.err)
      assert.equal(sent, sink:stop().arrivals)
    end)

    it("a second SIGTERM does not wait", function()
      sink = receiver.start { http = true, delay = 20 }
      local file = command.write(directory .. "/in", line("x"):rep(3))
      local began = os.time()
      local done = command.run({ "send", "--batch", file, "--json" },
        { signals = { { "TERM", sink:has(3) }, { "TERM", "sleep 0.5" } } })
      assert.equal(1, done.status)
      assert.is_true(os.time() - began < 15)
      local closed = 0
      for text in done.out:gmatch "[^\n]+" do closed = closed + (json.decode(text).code == "closed" and 1 or 0) end
      assert.equal(3, closed)
    end)

    it("SIGTERM cancels a message that is sent alone", function()
      sink = receiver.start { http = true, delay = 20 }
      local done = command.run({ "send", "--body", "b", "--target", sink.url, "--json" },
        { signals = { { "TERM", sink:has(1) } } })
      assert.equal(1, done.status)
      assert.equal("cancelled", json.decode(done.out).status)
    end)

    it("SIGHUP reloads the rules for the lines to come", function()
      sink = receiver.start { http = true }
      local function rules(name, to)
        return command.write(to, ('route { name = "%s", handle = function(message) return send(message, "%s") end }\n'):format(
          name, sink.url .. "/" .. name))
      end
      os.execute("mkdir " .. directory .. "/rules")
      rules("first", directory .. "/rules/a.lua")
      rules("second", directory .. "/second")
      command.write(directory .. "/c.lua", "return { rules = 'rules', reload = { watch = false }, log = { level = 'info', to = 'stderr' } }")
      local file = command.write(directory .. "/line", '{"title":"x"}\n')
      local done = command.run({ "send", "--batch", "-", "--config", directory .. "/c.lua" }, {
        input = ("cat %s; until [ -e %s/go ]; do sleep 0.05; done; cat %s"):format(file, directory, file),
        signals = {
          { "HUP", sink:has(1), ("mv %s/second %s/rules/a.lua"):format(directory, directory) },
          { "CONT", 'grep -q "rules loaded" "$err"', "touch " .. directory .. "/go" },
        },
      })
      assert.equal(0, done.status)
      local arrivals = assert(sink:wait(2))
      assert.equal("/first", arrivals[1].path)
      assert.equal("/second", arrivals[2].path)
    end)
  end)
end)
