-- The address guard through the module: an adapter whose requests are guarded, against real servers on this host.
local command = require "spec.support.command"
local hostile = require "spec.support.hostile"
local peer = require "spec.lua.flow.peer"
local support = require "spec.lua.binding.support"

-- Sends what its account says, guarded unless the account says otherwise.
local HOOK = [[
local result = require "result"
return {
  summary = "a hook for others' messages",
  transport = "http",
  schemes = { "hook" },
  formats = { "text" },
  options = {
    url = { type = "string", help = "where to" },
    open = { type = "boolean", default = false, help = "without the guard" },
    allow = { type = "table", help = "what the guard lets through" },
  },
  request = function(delivery)
    local account = delivery.account
    local request = { url = account.url, body = delivery.body }
    if not account.open then
      request.guard, request.guard_allow = true, account.allow
    end
    return request
  end,
  response = function(response) return result.http(response) end,
}
]]

local POST = [[
return {
  summary = "mail for others",
  transport = "smtp",
  schemes = { "post" },
  formats = { "text" },
  options = { host = { type = "string", help = "server" }, port = { type = "number", help = "its port" },
              allow = { type = "table", help = "what the guard lets through" } },
  request = function(delivery)
    local account = delivery.account
    return { host = account.host, port = math.tointeger(account.port), security = "none", from = "a@example.com",
             recipients = { "b@example.com" }, text = delivery.body, guard = true, guard_allow = account.allow }
  end,
  response = function(response) return { ok = response.status == 250, code = "rejected", error = response.text } end,
}
]]

describe("a guarded request", function()
  local directory, sink
  before_each(function()
    directory = command.directory()
    os.execute("mkdir " .. directory .. "/adapters")
    command.write(directory .. "/adapters/hook.lua", HOOK)
    command.write(directory .. "/adapters/post.lua", POST)
    sink = support.sink()
  end)
  after_each(function()
    support.finish()
    peer.stop_all()
    command.remove(directory)
  end)

  local function send(platforms, target)
    local hub = support.hub { script_path = directory, platforms = platforms }
    return assert(hub:send({ body = "x", targets = { target }, retry = { attempts = 3 } }, 20))
  end

  local function url(host)
    return ("http://%s:%d/guarded"):format(host, sink.http_port)
  end

  it("does not reach this host, however it is spelled", function()
    for _, host in ipairs { "127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]" } do
      local receipt = send({ hook = { url = url(host) } }, "hook")
      local result = receipt.results[1]
      assert.equal("failed", receipt.status, host)
      assert.equal("invalid", result.code)
      assert.equal(1, result.attempts) -- it would not be allowed the next time
      assert.is_nil(result.retryable)
      assert.truthy(result.error:find("the guard refuses a loopback address", 1, true), result.error)
      assert.truthy(result.error:find("guard_allow", 1, true))
    end
    assert.equal(0, sink:stop().arrivals)
  end)

  it("does not tell the address of a name", function()
    local error = send({ hook = { url = url "localhost" } }, "hook").results[1].error
    assert.is_nil(error:find("127.0.0.1", 1, true))
    assert.is_nil(error:find("::1", 1, true))
  end)

  it("reaches what the list allows", function()
    local allow = { ("127.0.0.1:%d"):format(sink.http_port) }
    assert.equal("delivered", send({ hook = { url = url "127.0.0.1", allow = allow } }, "hook").status)
    assert.equal(1, sink:stop().arrivals)
  end)

  it("does not go over a connection that another message opened", function()
    local hub = support.hub { script_path = directory, workers = { min = 1, max = 1 }, platforms = {
      mine = { platform = "hook", url = url "127.0.0.1", open = true }, theirs = { platform = "hook", url = url "127.0.0.1" },
    } }
    for _ = 1, 3 do
      assert.equal("delivered", assert(hub:send({ body = "x", targets = { "mine" } }, 20)).status)
      assert.equal("failed", assert(hub:send({ body = "x", targets = { "theirs" } }, 20)).status)
    end
    assert.equal(3, sink:stop().arrivals)
  end)

  it("is not sent when the list is wrong", function()
    local result = send({ hook = { url = url "127.0.0.1", allow = { "127.0.0.0/8", "*.example.com" } } }, "hook").results[1]
    assert.equal("invalid", result.code)
    assert.truthy(result.error:find("guard_allow[2]", 1, true), result.error)
    assert.equal(0, sink:stop().arrivals)
  end)

  it("holds for mail, too", function()
    local server = peer.mail()
    local result = send({ post = { host = "localhost", port = server.port } }, "post").results[1]
    assert.equal("invalid", result.code)
    assert.truthy(result.error:find("the guard refuses a loopback address", 1, true), result.error)
    assert.equal(0, server:count())
    assert.equal("delivered",
      send({ post = { host = "127.0.0.1", port = server.port, allow = { "127.0.0.0/8" } } }, "post").status)
    server:wait(1)
  end)
end)

describe("the guard of a hub", function()
  local sink
  before_each(function() sink = hostile.start() end)
  after_each(function()
    support.finish()
    sink:stop()
  end)

  -- Other ways to write this host, and addresses that lead to it or to the like of it.
  local SPELLED = {
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "[::1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "localhost", "LOCALHOST", "169.254.169.254",
    "[fd00:ec2::254]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fc00::1]", "224.0.0.1", "0",
  }

  for what, config in pairs { ["a hub with guard = private"] = { guard = "private" }, ["an untrusted message"] = {} } do
    it("refuses every spelling of an address that is not public: " .. what, function()
      config.retry = { attempts = 1 }
      config.transport = { timeout = 2, connect_timeout = 2 }
      local hub = support.hub(config)
      local handles = {}
      for _, host in ipairs(SPELLED) do
        handles[#handles + 1] = assert(hub:send_async {
          title = "t", targets = { ("json://%s:%d/ok"):format(host, sink.ports.http) }, untrusted = not config.guard or nil,
        })
      end
      for index, handle in ipairs(handles) do
        local receipt = assert(handle:wait(30))
        assert.equal("failed", receipt.status, SPELLED[index])
        assert.equal("invalid", receipt.code, SPELLED[index] .. ": " .. receipt.error)
      end
      assert.equal(0, #sink:read())
    end)
  end

  it("is not led on by a redirect", function()
    local allowed = ("127.0.0.1:%d"):format(sink.ports.http2)
    local hub = support.hub { guard = "private", guard_allow = { allowed }, retry = { attempts = 1 } }
    local receipt = assert(hub:send({
      title = "t", targets = { sink:target(("/redirect/127.0.0.1:%d"):format(sink.ports.http), "http2") },
    }, 20))
    assert.equal("rejected", receipt.code)
    support.eventually(function() return #sink:read() > 0 end)
    assert.equal(1, #sink:read()) -- the one that was allowed; nobody went where it pointed
  end)

  -- The name is the same and looks well; its resolver decides where it leads (spec/support/flip.c).
  it("looks at the address that is connected to, after the name was resolved", function()
    local program = [[
      local notifyhub = require "notifyhub"
      local allowed, port = ...
      local hub = notifyhub.new { guard = "private", guard_allow = { allowed }, retry = { attempts = 1 },
                                  workers = { min = 1, max = 1 }, transport = { timeout = 5 } }
      local receipt = hub:send({ title = "t", targets = { ("json://flip.example:%s/ok"):format(port) } }, 20)
      print(receipt.status, receipt.error)]]
    local directory = command.directory()
    local path = command.write(directory .. "/flip.lua", program)
    local library = (os.getenv "NH_BUILD_DIR" or "build") .. "/spec/libflip.so"
    local function run(answers)
      return command.run({ "run", path, ("127.0.0.1:%d"):format(sink.ports.http), sink.ports.http }, {
        -- AddressSanitizer wants to be the first library; that the resolver is before it harms nothing.
        before = ('env LD_PRELOAD=%s NH_FLIP=%s ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0"'):format(library, answers),
      })
    end
    local done = run "127.0.0.2"
    assert.matches("^failed\t[^\n]*guard refuses a loopback address", done.out, 1, done.out .. done.err)
    assert.equal(0, #sink:read())
    done = run "127.0.0.1"
    assert.matches("^delivered\tnil\n", done.out, 1, done.out .. done.err)
    done = run "127.0.0.1,127.0.0.2" -- both at once: the first that answers is used, and that one is allowed
    assert.matches("^delivered\tnil\n", done.out, 1, done.out .. done.err)
    command.remove(directory)
  end)
end)
