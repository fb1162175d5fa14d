-- A recognisable secret in every place that a secret can be, down every way that a message can fail, and then a look for it
-- in everything that anybody gets to see: receipts, errors, the log in both formats, what `explain` and the other commands
-- print, health, metrics, figures.
local command = require "spec.support.command"
local hostile = require "spec.support.hostile"

local CANARY = "Qanary7dZkX9"
-- As it may look on the way.
local SHAPES = {
  CANARY, CANARY:lower(), CANARY:reverse(),
  (CANARY:gsub(".", function(byte) return ("%%%02X"):format(byte:byte()) end)),
  (CANARY:gsub(".", function(byte) return ("%%%02x"):format(byte:byte()) end)),
  "UWFuYXJ5N2Raa1g5", -- base64, alone and after "user:"
  "dXNlcjpRYW5hcnk3ZFprWDk",
}

-- The program: a hub with every kind of account, and a message to each of the targets. It prints all that a program can ask.
local PROGRAM = [[
local notifyhub = require "notifyhub"
local json = require "dkjson"
local config = dofile(arg[1])
local hub = assert(notifyhub.new(config.hub))
local function show(...) print(json.encode({ ... }, { exception = function(_, value) return json.quotestring(tostring(value)) end })) end
local handles = {}
for index, target in ipairs(config.targets) do
  local handle, problem, code = hub:send_async { title = "t", body = "b", targets = { target }, platform = config.options }
  handles[index] = handle or { wait = function() return nil, problem, code end }
end
for _, handle in ipairs(handles) do show(handle:wait(60)) end
show(hub:stats(), hub:health(), tostring(hub), hub:metrics())
show(hub:platforms())
for _, wrong in ipairs(config.wrong) do
  local ok, other, problem = pcall(notifyhub.new, wrong)
  show(ok, ok and problem or other)
end
hub:close(5)
]]

describe("a secret", function()
  local directory, sink
  setup(function()
    directory = command.directory()
    sink = hostile.start()
    command.write(directory .. "/secret", CANARY)
    -- What rules see and say, too: a callback that logs, and one that fails with what it has seen in its error.
    os.execute("mkdir -p " .. directory .. "/seeing")
    command.write(directory .. "/seeing/a.lua", [[
      on("complete", function(receipt) log.warn("seen " .. json.encode(receipt)) end)
      on("error", function(receipt) error("failed: " .. json.encode(receipt)) end)
    ]])
  end)
  teardown(function()
    sink:stop()
    command.remove(directory)
  end)

  -- Where a request can go so that something is wrong, or nothing.
  local function ways()
    local list = {}
    for _, path in ipairs { "/ok", "/fail/400/9/none/x", "/fail/401/9/none/x", "/fail/404/9/none/x", "/fail/500/9/none/x",
                            "/half/reset", "/reset", "/garbage", "/endless/body", "/endless/header", "/headers", "/end/second",
                            ("/redirect/127.0.0.1:1%%2f%s"):format(CANARY) } do
      list[#list + 1] = { "127.0.0.1:" .. sink.ports.http, path }
    end
    list[#list + 1] = { "127.0.0.1:1", "/refused" }
    list[#list + 1] = { "no-such-host.invalid", "/unknown" }
    list[#list + 1] = { "127.0.0.1:" .. sink.ports.mute, "/stalls" }
    list[#list + 1] = { "127.0.0.1:" .. sink.ports.full, "/full" }
    list[#list + 1] = { "127.0.0.1:" .. sink.ports.self, "/plain-to-tls" }
    return list
  end

  -- The same place with the secret in each part of a URL.
  local function targets()
    local list = {}
    for _, way in ipairs(ways()) do
      local host, path = way[1], way[2]
      for _, url in ipairs {
        "json://" .. host .. path .. "/" .. CANARY,
        "json://user:" .. CANARY .. "@" .. host .. path,
        "json://" .. CANARY .. ":x@" .. host .. path,
        "https://" .. host .. path .. "?token=" .. CANARY,
        "json://" .. host .. path .. "?+X-Key=" .. CANARY,
        "json://" .. host .. path .. "?-key=" .. CANARY,
      } do
        list[#list + 1] = url
      end
    end
    for _, url in ipairs {
      "nosuch://" .. CANARY, "json://host:notaport/" .. CANARY, "slack://" .. CANARY, "https:/h/" .. CANARY,
      "json://127.0.0.1:1/?nosuch=" .. CANARY, "mailto://u:" .. CANARY .. "@127.0.0.1:1/nobody",
      "mailto://u:" .. CANARY .. "@127.0.0.1:1/joe@example.com?mode=insecure&from=a@example.com",
      "json://127.0.0.1%0d%0a" .. CANARY .. "/", "feishu://" .. CANARY .. "/x", "lark://" .. CANARY,
      "json://[::1/" .. CANARY, "json://127.0.0.1:1/%zz" .. CANARY,
    } do
      list[#list + 1] = url
    end
    return list
  end

  -- Accounts that hold it, each with a name that is a target.
  local function accounts()
    local list = {}
    for index, way in ipairs(ways()) do
      local url = ("http://%s%s"):format(way[1], way[2])
      for name, account in pairs {
        bearer = { url = url, bearer = CANARY }, basic = { url = url, user = "user", password = CANARY },
        key = { url = url, api_key = CANARY }, header = { url = url, headers = { ["X-Key"] = CANARY } },
        query = { url = url, query = { key = CANARY } }, path = { url = url .. "/" .. CANARY },
        signed = { url = url, signature = { secret = CANARY } }, asked = { url = url, api_key = CANARY, api_key_in = "query" },
      } do
        account.platform = "webhook"
        list[name .. index] = account
      end
      list["slack" .. index] = { platform = "slack", webhook_url = url .. "/" .. CANARY }
      list["feishu" .. index] = { platform = "feishu", webhook_url = url .. "/" .. CANARY, secret = CANARY }
      if not way[1]:find "invalid" then
        list["mail" .. index] = { platform = "email", host = "127.0.0.1", port = tonumber(way[1]:match ":(%d+)$"), user = "u",
                                  password = CANARY, from = "a@example.com", to = { "joe@example.com" }, security = "none" }
      end
    end
    return list
  end

  local function literal(value)
    if type(value) ~= "table" then return ("%q"):format(value) end
    local parts = {}
    for key, each in pairs(value) do parts[#parts + 1] = ("[%q]=%s"):format(key, literal(each)) end
    return "{" .. table.concat(parts, ",") .. "}"
  end

  local function check(text)
    for _, shape in ipairs(SHAPES) do
      local at = text:find(shape, 1, true)
      assert.is_nil(at, at and ("…%s…"):format(text:sub(math.max(1, at - 300), at + 100)))
    end
  end

  -- The accounts that the hub does not take as they are (an option that is another adapter's) would hide all the others.
  local function hub_config(format)
    local platforms, names = {}, {}
    for name, account in pairs(accounts()) do
      account.signature = nil
      platforms[name], names[#names + 1] = account, name
    end
    return {
      rules = directory .. "/seeing", platforms = platforms, log = { level = "debug", format = format, to = "stderr" },
      retry = { attempts = 2, initial = 0.05 },
      -- A few at once, so that their time is their platform's and not that of the others.
      workers = { in_flight = 32 }, transport = { connect_timeout = 2, timeout = 2 }, breaker = { enabled = false }, lanes = { enabled = false },
    }, names
  end

  -- Configurations that are wrong beside a secret, or in it.
  local WRONG = {
    { platforms = { webhook = { bearer = CANARY, method = CANARY } } }, { platforms = { webhook = { bearr = CANARY } } },
    { platforms = { webhook = { url = "ftp://" .. CANARY } } }, { platforms = { webhook = { url = { CANARY } } } },
    { platforms = { slack = { webhook_url = "nonsense " .. CANARY } } }, { platforms = { feishu = { secret = CANARY, x = 1 } } },
    { platforms = { email = { password = { CANARY } } } },
    { targets = { a = { "b" }, b = { "a", "json://u:" .. CANARY .. "@h/" } } },
  }

  for _, format in ipairs { "logfmt", "json" } do
    it("is in nothing that a program, or the log as " .. format .. ", tells, however a message ends", function()
      local config, names = hub_config(format)
      local all = targets()
      table.sort(names)
      for _, name in ipairs(names) do all[#all + 1] = name end
      for _, wrong in ipairs(WRONG) do wrong.log = config.log end
      command.write(directory .. "/config.lua", "return " .. literal {
        hub = config, targets = all, wrong = WRONG, options = { webhook = { headers = { ["X-More"] = CANARY } } },
      })
      command.write(directory .. "/program.lua", PROGRAM)
      local done = command.run({ "run", directory .. "/program.lua", directory .. "/config.lua" })
      assert.equal(0, done.status, done.err)
      local _, lines = done.out:gsub("\n", "")
      assert.equal(#all + 2 + #WRONG, lines) -- each was told of
      assert.truthy(done.err:find(format == "json" and '"level":"warn"' or "level=warn", 1, true), done.err)
      check(done.out)
      check(done.err)
      local used = 0 -- what is not shown was used all the same
      for _, entry in ipairs(sink:read()) do
        used = used + (entry.path and entry.path:find(CANARY, 1, true) and 1 or 0)
      end
      assert.is_true(used > 100)
    end)
  end

  it("is in nothing that the commands print", function()
    local file = ([[
      local secret, named = file "secret", env "NH_SPEC_SECRET"
      return {
        platforms = {
          a = { platform = "webhook", url = "http://127.0.0.1:1/x", bearer = secret },
          b = { platform = "webhook", url = "http://127.0.0.1:1/x", user = "user", password = named },
          c = { platform = "webhook", url = "http://127.0.0.1:1/x", headers = { ["X-Key"] = secret }, query = { k = named } },
          d = { platform = "slack", webhook_url = secret },
          e = { platform = "webhook", url = "http://127.0.0.1:1/x", fields = { room = secret } },
        },
        targets = { t = "json://user:%s@127.0.0.1:1/%s" }, log = { level = "debug", to = "stderr" }, retry = { attempts = 1 },
      }
    ]]):format(CANARY, CANARY):gsub('webhook_url = secret', 'token = secret')
    local config = command.write(directory .. "/notifyhub.lua", file)
    command.write(directory .. "/message.json", ([[{"title":"t","targets":["a","b","c","d","e","t","json://127.0.0.1:1/%s",
      "nosuch://%s"],"platform":{"slack":{"channel":"#x"}}}]]):format(CANARY, CANARY))
    os.execute("mkdir -p " .. directory .. "/rules")
    command.write(directory .. "/rules/a.lua", ('route { name = "r", to = { "a", "t", "json://u:%s@127.0.0.1:1/" } }'):format(CANARY))
    local run = { before = "env NH_SPEC_SECRET=" .. CANARY, directory = directory }
    for _, words in ipairs {
      { "explain", "--config", config, "message.json" }, { "explain", "--json", "--config", config, "message.json" },
      { "explain", "--json", "--config", config, "--rules", "rules", "message.json" },
      { "check", "--config", config }, { "check", "--json", "--config", config, "--rules", "rules" },
      { "platforms", "--config", config }, { "test", "--config", config, "--rules", "rules" },
      { "replay", "--rules", "rules", "--config", config, "message.json" },
      { "send", "--config", config, "--title", "t", "--target", "a", "--target", "b", "--target", "c", "--target", "d",
        "--target", "e", "--target", "t", "--target", "nosuch://" .. CANARY },
      { "send", "--json", "--config", config, "--title", "t", "--target", "json://127.0.0.1:1/?nosuch=" .. CANARY },
    } do
      local done = command.run(words, run)
      assert.truthy(#done.out + #done.err > 0, table.concat(words, " "))
      check(done.out)
      check(done.err)
    end
  end)
end)
