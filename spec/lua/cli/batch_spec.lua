-- `notifyhub send --batch`: many messages from a file or a pipe.
local json = require "dkjson"

local command = require "command"
local receiver = require "receiver"

local function lines(count, make)
  local list = {}
  for i = 1, count do list[i] = json.encode(make(i)) end
  return table.concat(list, "\n") .. "\n"
end

local function receipts(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = json.decode(line) end
  return list
end

describe("notifyhub send --batch", function()
  local directory, sink
  before_each(function()
    directory = command.directory()
    sink = receiver.start { http = true }
  end)
  after_each(function()
    receiver.stop_all()
    command.remove(directory)
  end)

  local function batch(text, ...)
    return command.run { "send", "--batch", command.write(directory .. "/batch.jsonl", text), ... }
  end

  it("sends each line once and prints a summary", function()
    local done = batch(lines(500, function(i) return { body = "m" .. i, targets = { sink.url } } end))
    assert.equal("", done.err)
    assert.equal(0, done.status)
    assert.matches("^500 messages: 500 delivered, 0 not, in %d+%.%d s\n$", done.out)
    local seen = {}
    for _, arrival in ipairs(assert(sink:wait(500))) do
      assert.is_nil(seen[arrival.json.body])
      seen[arrival.json.body] = true
    end
    assert.equal(500, sink:stop().arrivals)
  end)

  it("prints a receipt a message with --json, and the summary on stderr", function()
    local done = batch(lines(50, function(i) return { id = "id-" .. i, body = "x", targets = { sink.url } } end),
      "--json")
    assert.equal(0, done.status)
    local ids, count = {}, 0
    for _, receipt in ipairs(receipts(done.out)) do
      assert.equal("delivered", receipt.status)
      ids[receipt.id] = true
      count = count + 1
    end
    assert.equal(50, count)
    for i = 1, 50 do assert.is_true(ids["id-" .. i]) end
    assert.matches("^50 messages: ", done.err)
  end)

  it("gives the other options to lines that do not say it themselves", function()
    local done = batch('{"body":"own","title":"mine"}\n{"title":"x","targets":["' .. sink.url .. '/own"]}\n',
      "--body", "default", "--target", sink.url .. "/default", "--priority", "high")
    assert.equal(0, done.status)
    local by_path = {}
    for _, arrival in ipairs(assert(sink:wait(2))) do by_path[arrival.path] = arrival.json end
    assert.equal("own", by_path["/default"].body)
    assert.equal("default", by_path["/own"].body)
    assert.equal("high", by_path["/own"].priority)
  end)

  it("shows what failed with its line, and exits with 1", function()
    local done = batch(lines(3, function(i)
      return { body = "x", targets = { i == 2 and "http://127.0.0.1:1/x" or sink.url }, timeout = 2 }
    end))
    assert.equal(1, done.status)
    assert.matches("^failed     line 2  webhook .-\n3 messages: 2 delivered, 1 not, ", done.out)
  end)

  it("sends nothing when a line of a file is not JSON, and names file and line", function()
    local text = lines(3, function() return { body = "x", targets = { sink.url } } end)
    local done = batch(text .. '\n{"body":\n')
    assert.equal(2, done.status)
    assert.matches("^notifyhub send: %S+/batch.jsonl:5: column %d+: [^\n]+\n$", done.err)
    assert.equal("", done.out)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("sends nothing when a line of a file is not an object", function()
    local done = batch('{"body":"x","targets":["' .. sink.url .. '"]}\n["x"]\n')
    assert.equal(2, done.status)
    assert.matches("batch.jsonl:2: a line must be a JSON object", done.err)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("stops at a bad line of a pipe and tells how many went out", function()
    local text = lines(3, function() return { body = "x", targets = { sink.url } } end)
    local file = command.write(directory .. "/in", text .. "nonsense\n" .. text)
    local done = command.run({ "send", "--batch", "-" }, { input = "cat " .. file })
    assert.equal(2, done.status)
    assert.matches("stdin:4: ", done.err)
    assert.matches("^3 messages: 3 delivered", done.out)
    assert.equal(3, sink:stop().arrivals)
  end)

  it("stops at a message that the hub refuses, and names field and line", function()
    local good = lines(1, function() return { body = "x", targets = { sink.url } } end)
    local done = batch(good .. '{"bdy":"x"}\n' .. good)
    assert.equal(2, done.status)
    assert.matches("batch.jsonl:2: bdy: unknown field", done.err)
    assert.matches("^1 message: 1 delivered", done.out)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("sends what a slow pipe brings as it comes", function()
    local line = lines(1, function() return { body = "x", targets = { sink.url } } end)
    local file = command.write(directory .. "/in", line)
    local done = command.run({ "send", "--batch", "-", "--json" },
      { input = ("cat %s; n=0; until %s; do [ $((n += 1)) -lt 600 ] || exit; sleep 0.05; done; cat %s"):format(
        file, sink:has(1), file) })
    assert.equal(0, done.status)
    assert.equal(2, #receipts(done.out)) -- the second line was not written before the first had arrived
    assert(sink:wait(2))
  end)

  it("keeps within a queue that is smaller than the batch", function()
    command.write(directory .. "/small.lua", "return { queue = { capacity = 10 } }")
    local done = batch(lines(300, function() return { body = "x", targets = { sink.url } } end),
      "--config", directory .. "/small.lua")
    assert.equal("", done.err)
    assert.equal(0, done.status)
    assert.equal(300, sink:stop().arrivals)
  end)

  it("sends nothing for no lines", function()
    local done = batch("\n \n")
    assert.equal(0, done.status)
    assert.matches("^0 messages: ", done.out)
  end)

  it("cancels what is under way at SIGINT, and reports every message", function()
    local slow = receiver.start { http = true, delay = 20 }
    local file = command.write(directory .. "/in", lines(20, function(i)
      return { body = "x", targets = { i <= 5 and sink.url or slow.url } }
    end))
    local done = command.run({ "send", "--batch", file, "--json" },
      { interrupt = slow:has(15) .. ' && [ $(grep -c delivered "$out") -ge 5 ]' })
    assert.equal(1, done.status)
    local count = {}
    for _, receipt in ipairs(receipts(done.out)) do count[receipt.status] = (count[receipt.status] or 0) + 1 end
    assert.same({ delivered = 5, cancelled = 15 }, count)
  end)

  it("shows no progress line where stderr is no terminal", function()
    local done = batch(lines(50, function() return { body = "x", targets = { sink.url } } end))
    assert.is_nil(done.err:find("\r"))
    assert.is_nil((done.out .. done.err):find("\27"))
  end)
end)
