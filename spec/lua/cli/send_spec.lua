-- `notifyhub send`: one message from a shell.
local json = require "dkjson"

local command = require "command"
local receiver = require "receiver"

local function send(...)
  return command.run { "send", ... }
end

describe("notifyhub send", function()
  local sink
  after_each(receiver.stop_all)

  describe("to a receiver", function()
    before_each(function() sink = receiver.start { http = true } end)

    it("delivers, prints a line for each delivery, and exits with 0", function()
      local done = send("--title", "Deploy", "--body", "v1.2 is out", "--target", sink.url .. "/one",
        "--target", sink.url .. "/two")
      assert.equal("", done.err)
      assert.equal(0, done.status)
      assert.matches("^delivered  webhook   .-%d%.%d%d s\ndelivered  webhook   .-%d%.%d%d s\n$", done.out)
      local arrivals = assert(sink:wait(2))
      assert.equal("v1.2 is out", arrivals[1].json.body)
      assert.equal("Deploy", arrivals[2].json.title)
      assert.equal(2, sink:stop().arrivals)
    end)

    it("passes id, format, priority and metadata on", function()
      local done = send("--body", "*hi*", "--format", "markdown", "--priority", "urgent", "--id", "my-id",
        "--metadata", "service=payments", "--metadata", "note=a=b", "--metadata", "service=billing",
        "--target", sink.url)
      assert.equal(0, done.status)
      local message = assert(sink:wait(1))[1].json
      assert.equal("my-id", message.message_id)
      assert.equal("markdown", message.format)
      assert.equal("urgent", message.priority)
      assert.same({ service = "billing", note = "a=b" }, message.metadata)
    end)

    it("waits for --deliver-at, in seconds, as a date or from now on", function()
      local at = os.time() + 2
      for _, when in ipairs { tostring(at), os.date("!%Y-%m-%dT%H:%M:%SZ", at), "+1.5s" } do
        local earliest = when:sub(1, 1) == "+" and os.time() + 1 or at
        local done = send("--json", "--body", when, "--deliver-at", when, "--target", sink.url)
        assert.equal(0, done.status)
        assert.is_true(json.decode(done.out).settled_at >= earliest)
      end
      assert.equal(3, #assert(sink:wait(3)))
    end)

    it("reads an offset, a fraction and several units of a moment", function()
      -- All of them lie in the past or will come after the end of the wait, so nothing is sent.
      local cases = {
        ["2001-09-09T03:46:40+02:00"] = 1000000000, ["2001-09-08 20:16:40.5-05:30"] = 1000000000.5,
        ["2000-02-29t00:00:00z"] = 951782400, ["1e9"] = false, ["1000000000.25"] = 1000000000.25,
      }
      for text, seconds in pairs(cases) do
        local done = send("--body", "x", "--expires-at", text, "--target", sink.url)
        assert.equal(2, done.status)
        if seconds then
          local past = assert(tonumber(done.err:match "^notifyhub send: expires_at: lies ([%d.]+) s in the past\n$"), done.err)
          assert.is_true(math.abs(os.time() - past - seconds) < 60, text)
        end
      end
      local later = send("--json", "--body", "x", "--deliver-at", "+1w2d3h4m5.5s", "--wait", "0", "--target", sink.url)
      assert.equal(1, later.status)
      assert.equal(0, sink:stop().arrivals)
    end)

    it("does not send what has expired before it was due", function()
      -- Not before it is accepted, which takes a sanitizer a while.
      local expires = (os.getenv "NH_SANITIZE" or "") ~= "" and "+12s" or "+3s"
      local done = send("--json", "--body", "x", "--deliver-at", "+1h", "--expires-at", expires, "--target", sink.url)
      assert.equal(1, done.status)
      assert.equal("expired", json.decode(done.out).status)
      assert.equal(0, sink:stop().arrivals)
    end)

    it("prints the receipt as one line of JSON with --json", function()
      local done = send("--json", "--id", "r1", "--body", "hi", "--target", sink.url)
      assert.equal(0, done.status)
      assert.matches("^[^\n]+\n$", done.out)
      local receipt = json.decode(done.out)
      assert.equal("r1", receipt.id)
      assert.equal("delivered", receipt.status)
      assert.equal(1, #receipt.results)
      assert.is_true(receipt.results[1].ok)
      assert.equal("webhook", receipt.results[1].platform)
      assert.equal(200, receipt.results[1].status_code)
    end)

    it("reads the body from stdin for --body -", function()
      local done = command.run({ "send", "--body", "-", "--target", sink.url },
        { stdin = "line one\nzwölf\n" })
      assert.equal(0, done.status)
      assert.equal("line one\nzwölf", assert(sink:wait(1))[1].json.body)
    end)

    it("sends an attachment's bytes", function()
      local directory = command.directory()
      command.write(directory .. "/report.txt", "the report")
      local done = send("--body", "see", "--attach", directory .. "/report.txt", "--target", sink.url)
      command.remove(directory)
      assert.equal(0, done.status)
      local message = assert(sink:wait(1))[1].json
      assert.equal("report.txt", message.attachments[1].name)
    end)
  end)

  it("uses notifyhub.lua of the directory, or the file that --config names", function()
    sink = receiver.start { http = true }
    local directory = command.directory()
    local config = ('return { platforms = { webhook = { url = "%s/%%s" } } }'):format(sink.url)
    command.write(directory .. "/notifyhub.lua", config:format("default"))
    command.write(directory .. "/other.lua", config:format("other"))
    local plain = command.run({ "send", "--body", "x", "--target", "webhook" }, { directory = directory })
    local named = command.run({ "send", "--body", "x", "--target", "webhook", "--config", "other.lua" },
      { directory = directory })
    command.remove(directory)
    assert.same({ 0, 0 }, { plain.status, named.status })
    local arrivals = assert(sink:wait(2))
    assert.equal("/default", arrivals[1].path)
    assert.equal("/other", arrivals[2].path)
  end)

  describe("exits with 1", function()
    it("when the platform refuses, and says why", function()
      sink = receiver.start { http = true, status = 404 }
      local done = send("--body", "x", "--target", sink.url)
      assert.equal(1, done.status)
      assert.matches("^failed     webhook .- s  unknown_target: .+\n$", done.out)
    end)

    it("when one of two targets fails", function()
      sink = receiver.start { http = true }
      local done = send("--json", "--body", "x", "--target", sink.url, "--target", "http://127.0.0.1:1/x",
        "--timeout", (os.getenv "NH_SANITIZE" or "") ~= "" and "8" or "2")
      assert.equal(1, done.status)
      assert.equal("partial", json.decode(done.out).status)
    end)

    it("when nothing says who is to be told", function()
      local done = send("--body", "x")
      assert.equal(1, done.status)
      assert.matches("^failed     no_route: ", done.out)
    end)

    it("when --timeout is over", function()
      sink = receiver.start { http = true, delay = 20 }
      local done = send("--json", "--body", "x", "--target", sink.url, "--timeout", "0.3")
      assert.equal(1, done.status)
      assert.not_equal("delivered", json.decode(done.out).status)
    end)

    it("when --wait is over, and still prints a receipt", function()
      sink = receiver.start { http = true, delay = 20 }
      local done = send("--json", "--body", "x", "--target", sink.url, "--wait", "0.3")
      assert.equal(1, done.status)
      assert.matches("1 of 1 not settled in time", done.err)
      assert.equal("failed", json.decode(done.out).status)
    end)

    it("when SIGINT cancels it", function()
      sink = receiver.start { http = true, delay = 20 }
      local done = command.run({ "send", "--json", "--body", "x", "--target", sink.url }, { interrupt = sink:has(1) })
      assert.equal(1, done.status)
      assert.equal("cancelled", json.decode(done.out).status)
    end)
  end)

  describe("exits with 2, sends nothing and says why", function()
    local mistakes = {
      { "no title and no body", {}, "needs a title, a body or a template" },
      { "a format that does not exist", { "--body", "x", "--format", "rtf" }, "rtf" },
      { "a priority that does not exist", { "--body", "x", "--priority", "asap" }, "asap" },
      { "a variable without a value", { "--body", "x", "--var", "name" }, "%-%-var takes NAME=VALUE, not \"name\"" },
      { "a date without an offset", { "--body", "x", "--deliver-at", "2030-01-31T08:00:00" },
        "%-%-deliver%-at takes %+10m .-, not \"2030%-01%-31T08:00:00\"" },
      { "a day that does not exist", { "--body", "x", "--deliver-at", "2030-02-29T08:00:00Z" }, "%-%-deliver%-at takes" },
      { "a delay without a unit", { "--body", "x", "--expires-at", "+10" }, "%-%-expires%-at takes" },
      { "units out of order", { "--body", "x", "--expires-at", "+1m1h" }, "%-%-expires%-at takes" },
      { "an expiry that lies in the past", { "--body", "x", "--expires-at", "1" }, "expires_at: lies .- in the past" },
      { "an attachment that is not there", { "--body", "x", "--attach", "/nowhere" },
        "%-%-attach /nowhere: No such file" },
      { "an attachment that is a directory", { "--body", "x", "--attach", "/" }, "%-%-attach /: Is a directory" },
      { "a configuration that is not there", { "--body", "x", "--config", "/nowhere.lua" }, "/nowhere.lua" },
      { "a batch that is not there", { "--batch", "/nowhere" }, "%-%-batch /nowhere: No such file" },
      { "an id for a batch", { "--batch", "-", "--id", "x" }, "%-%-id belongs to one message" },
      { "stdin asked for twice", { "--batch", "-", "--body", "-" }, "cannot both read stdin" },
      { "a control character in the id", { "--body", "x", "--id", "a\nb" }, "id: " },
      { "a body that is not UTF-8", { "--body", "\255" }, "body: is not UTF%-8" },
    }
    for _, mistake in ipairs(mistakes) do
      local name, arguments, message = table.unpack(mistake)
      it("for " .. name, function()
        sink = receiver.start { http = true }
        table.insert(arguments, 1, "send")
        arguments[#arguments + 1] = "--target"
        arguments[#arguments + 1] = sink.url
        local done = command.run(arguments)
        assert.equal(2, done.status)
        assert.equal("", done.out)
        assert.matches("^notifyhub send: [^\n]*" .. message .. "[^\n]*\n$", done.err)
        assert.equal(0, sink:stop().arrivals)
      end)
    end

    it("for an unknown key of the configuration, with the nearest one", function()
      local directory = command.directory()
      command.write(directory .. "/notifyhub.lua", "return { platfroms = {} }")
      local done = command.run({ "send", "--body", "x" }, { directory = directory })
      command.remove(directory)
      assert.equal(2, done.status)
      assert.matches("platfroms", done.err)
      assert.matches("platforms", done.err)
    end)

    it("for a NUL on stdin", function()
      local done = command.run({ "send", "--body", "-" }, { stdin = "a\0b" })
      assert.equal(2, done.status)
      assert.matches("NUL", done.err)
    end)
  end)
end)
