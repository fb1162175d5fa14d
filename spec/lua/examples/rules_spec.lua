-- scripts/examples/rules: its tools find it in order, and what `explain --json` shows of each of its messages is what the
-- receiver then gets: the bodies of HTTP requests byte for byte, mails decoded. Sleeps are shortened in a copy of the rules.

local json = require "dkjson"

local command = require "spec.support.command"
local receiver = require "spec.support.receiver"

local source = os.getenv "NH_SOURCE_DIR" or "."
local example = source .. "/scripts/examples/rules"

local PATHS = {
  ["oncall-slack"] = "/services/T000/B000/oncall", ["team-slack"] = "/services/T000/B000/team", ["oncall-sms"] = "/sms",
}

local function shell(line)
  local pipe = assert(io.popen(line))
  local text = pipe:read "a"
  pipe:close()
  return text
end

local messages = {}
for path in shell("ls " .. command.quote(example) .. "/messages/*.json"):gmatch "[^\n]+" do
  local text = assert(command.read(path))
  messages[#messages + 1] = { path = path, name = path:match "([^/]+)%.json$", text = text, value = json.decode(text) }
end

describe("scripts/examples/rules", function()
  local directory, sink
  before_each(function()
    directory, sink = command.directory(), receiver.start { http = true, smtp = true }
    os.execute(("cp -R %s/. %s"):format(command.quote(example), command.quote(directory)))
    local config, count = command.read(directory .. "/notifyhub.lua"):gsub("127%.0%.0%.1:8080", "127.0.0.1:" .. sink.http_port)
      :gsub("port = 2525", "port = " .. sink.smtp_port)
    assert.equal(1, count)
    command.write(directory .. "/notifyhub.lua", config)
  end)
  after_each(function()
    receiver.stop_all()
    command.remove(directory)
  end)

  local function run(arguments, options)
    options = options or {}
    options.directory = directory
    return command.run(arguments, options)
  end

  -- What takes five minutes or a night takes moments, in the copy.
  local function hurry()
    local count = 0
    for path in shell("ls " .. command.quote(directory) .. "/oncall/*.lua"):gmatch "[^\n]+" do
      local text, here = command.read(path):gsub("sleep%((.-)%)\n", "sleep((%1) / 1e6)\n")
      command.write(path, text)
      count = count + here
    end
    assert.equal(3, count)
    os.execute("rm " .. command.quote(directory) .. "/oncall/*_test.lua") -- they know how long it takes
  end

  -- What explain shows of a message, with the rules as they are.
  local function explained(message)
    local done = run { "explain", "--json", "--rules", example .. "/oncall", message.path }
    assert.equal("", done.err)
    assert.equal(0, done.status, done.out)
    return json.decode(done.out)
  end

  local function mail_of(arrival)
    local path = command.write(directory .. "/mail.eml", arrival.raw)
    return json.decode(shell(("python3 %s/spec/support/mail_view.py %s"):format(command.quote(source), command.quote(path))))
  end

  local function same_mail(request, arrival)
    local mail = mail_of(arrival)
    assert.same({}, mail.defects)
    assert.same(request.recipients, arrival.recipients)
    for _, header in ipairs(request.headers) do
      if header.name ~= "Date" then -- that of an attempt to come
        assert.equal(header.value, mail.headers[header.name], header.name)
      end
    end
    local texts = {}
    for _, part in ipairs(mail.parts) do
      texts[part.type] = part.text
    end
    local text = request.text -- a mail that is nothing but a text ends its last line
    assert.equal(mail.shape == "plain" and text:gsub("\n$", "") .. "\n" or text, texts["text/plain"])
    assert.equal(request.html, texts["text/html"])
  end

  local function same_request(shown, arrival)
    local request = shown.request
    assert.equal(PATHS[shown.target], arrival.path)
    assert.equal(request.method, arrival.method)
    assert.equal(request.body, arrival.body)
    for name, value in pairs(request.headers) do
      assert.equal(value, arrival.headers[name:lower()], name)
    end
  end

  -- The arrival that a request became; each is taken once.
  local function take(arrivals, shown)
    for index, arrival in ipairs(arrivals) do
      local mail = arrival.protocol == "smtp"
      if mail and shown.transport == "smtp" or not mail and arrival.path == PATHS[shown.target] then
        return table.remove(arrivals, index)
      end
    end
    error("nothing arrived for " .. shown.target)
  end

  it("is in order, and its tests pass", function()
    local done = run { "check" }
    assert.equal(0, done.status, done.out .. done.err)
    done = run { "test" }
    assert.equal(0, done.status, done.out .. done.err)
    assert.matches("11 passed, 0 failed", done.out)
  end)

  for _, message in ipairs(messages) do
    it("sends what explain shows: " .. message.name, function()
      local told = explained(message)
      hurry()
      local done = run({ "send", "--json", "--batch", "-" }, { stdin = json.encode(message.value) .. "\n" })
      assert.equal(0, done.status, done.out .. done.err)
      local receipt = json.decode(done.out:match "[^\n]+")
      assert.equal("delivered", receipt.status)
      assert.equal(told.route, receipt.route)

      local arrivals = {}
      for index, arrival in ipairs(assert(sink:wait(#told.requests, 20))) do
        arrivals[index] = arrival
      end
      assert.equal(#told.requests, #arrivals)
      for _, shown in ipairs(told.requests) do
        local arrival = take(arrivals, shown)
        if shown.transport == "smtp" then
          same_mail(shown.request, arrival)
        else
          same_request(shown, arrival)
        end
      end
    end)
  end

  it("leaves it at the one on call when somebody has it", function()
    local values = {}
    for _, message in ipairs(messages) do
      values[message.name] = json.encode(message.value)
    end
    -- The critical message sleeps until the acknowledgement has surely been taken.
    local path = directory .. "/oncall/10-escalation.lua"
    local text, count = command.read(path):gsub("sleep%(.-%)\n", "while not store.get('acknowledged:' .. message.id) do sleep(0.01) end\n")
    assert.equal(1, count)
    command.write(path, text)
    os.execute("rm " .. command.quote(directory) .. "/oncall/*_test.lua")
    local done = run({ "send", "--batch", "-" }, { stdin = values.critical .. "\n" .. values.acknowledge .. "\n" })
    assert.equal(0, done.status, done.out .. done.err)
    local arrivals = assert(sink:wait(1))
    assert.equal(1, #arrivals)
    assert.equal(PATHS["oncall-slack"], arrivals[1].path)
  end)

  it("is explained with its choices", function()
    local done = run { "explain", "--json", messages[1].path }
    local to = json.decode(done.out).routes[5].to
    assert.same({ choice = "fallback", targets = { "team-slack", "team-mail" } }, to)
  end)

  it("has messages of every kind", function()
    assert.is_true(#messages >= 5)
  end)
end)
