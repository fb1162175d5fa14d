-- What rules may call beside sending: the store, http, json, the log, clocks, the environment, modules.
local notifyhub = require "notifyhub"

local rules = require "spec.support.rules"

-- A hub whose one route runs this and refuses the message with what it returns.
local function answering(body, extra, files)
  files = files or {}
  files["a.lua"] = "route { handle = function(message)\n" .. body .. "\nend }"
  local hub, sink, folder = rules.open(files, extra)
  return function(message)
    local _, problem = hub:send(message or { title = "t" }, rules.LONG)
    return problem and (problem:gsub("^the route '.-' refused it: ", ""))
  end, sink, hub, folder
end

describe("the store", function()
  after_each(rules.finish)

  it("is shared by all workers and survives a reload", function()
    local hub, _, folder = rules.open({ ["a.lua"] = [[
      route { match = { way = "count" }, handle = function() store.incr("count") return true end }
      route { handle = function() return false, tostring(store.get "count") end }
    ]] }, { workers = { min = 2, max = 2 } })
    local messages = {}
    for index = 1, 100 do messages[index] = { title = "t", metadata = { way = "count" } } end
    hub:send_batch(messages):wait(rules.LONG)
    rules.write(folder, "a.lua", [[ route { handle = function() return false, "new: " .. tostring(store.get "count") end } ]])
    assert(hub:reload())
    assert.matches("new: 100$", select(2, hub:send({ title = "t" }, rules.LONG)))
  end)

  it("keeps copies, has lists, adds once, compares and sets, and forgets in time", function()
    local ask = answering [[
      local value = { 1, { x = "y" } }
      store.set("t", value)
      value[1] = 2
      assert(store.get("t")[1] == 1 and store.get("t")[2].x == "y")
      assert(store.add("once", 1) and not store.add("once", 2) and store.get "once" == 1)
      store.push("l", "a") store.push("l", "b")
      assert(store.length "l" == 2 and store.pop "l" == "a" and table.concat(store.pop_all "l") == "b" and store.pop "l" == nil)
      assert(store.cas("c", nil, 1) and not store.cas("c", 5, 2) and store.cas("c", 1, 2) and store.get "c" == 2)
      assert(store.incr("n", 5) == 5 and store.incr("n", -7) == -2)
      store.set("brief", 1, { ttl = 0.05 })
      while store.get "brief" do sleep(0.01) end
      local ok, problem, code = store.push("t", 1)
      assert(ok == nil and type(problem) == "string" and code)
      assert(not pcall(store.set, "f", error) and not pcall(store.set, "f", { function() end }))
      assert(not pcall(store.set, {}, 1))
      return false, "all is well"
    ]]
    assert.equal("all is well", ask())
  end)

  it("is bounded, and a full one does not stop the rules", function()
    local ask = answering([[
      local ok, problem, code
      for index = 1, 200 do ok, problem, code = store.set("k" .. index, index) end
      return false, tostring(ok) .. " " .. tostring(code)
    ]], { limits = { store_entries = 50 } })
    assert.matches("nil %l+", ask())
  end)

  it("is read only itself", function()
    local ask = answering [[
      return false, tostring(pcall(function() store.get = 1 end)) .. tostring(pcall(rawset, store, "get", 1))
        .. tostring(pcall(function() json.encode = 1 end)) .. tostring(pcall(function() log.warn = 1 end))
    ]]
    assert.equal("falsefalsefalsefalse", ask())
  end)
end)

describe("http", function()
  after_each(rules.finish)

  it("gets, posts JSON, and takes a refusal as an answer", function()
    local ask, sink = answering [[
      local url = message.metadata.url
      local got = assert(http(url .. "/get"))
      assert(got.status == 200 and type(got.headers) == "table" and type(got.body) == "string")
      assert(http { url = url .. "/post", json = { a = { 1, "x" } }, headers = { ["x-own"] = "yes" } }.status == 200)
      assert(http { url = url .. "/put", method = "PUT", body = "bytes \0 \xff" })
      return false, "ok"
    ]]
    assert.equal("ok", ask { title = "t", metadata = { url = sink.url } })
    local arrivals = assert(sink:wait(3, rules.LONG))
    assert.same({ "GET", "POST", "PUT" }, { arrivals[1].method, arrivals[2].method, arrivals[3].method })
    assert.same({ a = { 1, "x" } }, arrivals[2].json)
    assert.equal("bytes \0 \xff", arrivals[3].body)
    local seen
    for name, value in pairs(arrivals[2].headers) do
      if name:lower() == "x-own" or type(value) == "table" and tostring(value[1]):lower() == "x-own" then seen = true end
    end
    assert.is_true(seen)
  end)

  it("tells what went wrong: nil, message, code; a status of 500 is an answer", function()
    local hub, sink, folder = rules.open({}, nil, { status = 500 })
    rules.write(folder, "a.lua", ([[ route { handle = function()
      local answer, problem, code = http { url = "http://127.0.0.1:1/", timeout = 5 }
      assert(answer == nil and type(problem) == "string" and code == "network", code)
      assert(http("%s/x").status == 500)
      answer, problem, code = http { url = "nonsense://x" }
      assert(answer == nil and problem and code, code)
      return true
    end } ]]):format(sink.url))
    assert(hub:reload())
    assert.equal("delivered", hub:send({ title = "t" }, rules.LONG).status)
  end)

  it("that is called wrongly says so, with file and line", function()
    for call, text in pairs {
      ["http(5)"] = "http: takes a URL or a table", ["http { ulr = 'x' }"] = "'ulr'.*'url'",
      ["http { url = 5 }"] = "url must be a string", ["http {}"] = "url", ["http { url = 'http://x', timeout = -1 }"] = "timeout",
      ["http { url = 'http://x', headers = { ['x\\r\\ny'] = '1' } }"] = "header",
    } do
      local ask = answering("return false, select(2, assert(" .. call .. "))")
      assert.matches(text, ask())
      rules.finish()
    end
  end)
end)

describe("json, now, os and the environment", function()
  after_each(rules.finish)

  it("json keeps types, and a text that is none is nil and a message", function()
    local ask = answering [[
      local value = json.decode '{"a":[1,2.5,"x",null,{}],"b":true}'
      assert(value.a[1] == 1 and math.type(value.a[1]) == "integer" and value.a[2] == 2.5 and value.b == true)
      for _, special in ipairs { '"', "\\", "\n", "\31", "\127", "é" } do
        for before = 0, 20 do
          local text = ("x"):rep(before) .. special .. ("y"):rep(20 - before) .. special
          local written = json.encode { text }
          assert(json.decode(written)[1] == text and not written:find "[\0-\31\127]")
        end
      end
      local object = json.object { "b", "a\"", "c" }
      assert(object(1, "x\n") == '{"b":1,"a\\"":"x\\n"}' and object(nil, nil, {}) == '{"c":{}}' and object() == "{}")
      assert(not pcall(json.object, { 1 }) and not pcall(object, function() end))
      assert(value.a[4] == json.null)
      assert(json.encode { 1, "x" } == '[1,"x"]' and json.encode(json.array {}) == "[]" and json.encode {} == "{}")
      local bad, problem = json.decode "{"
      assert(bad == nil and type(problem) == "string")
      return false, "ok"
    ]]
    assert.equal("ok", ask())
  end)

  it("now is the time, with a fraction, and os has clocks only", function()
    local ask = answering [[
      assert(math.abs(now() - os.time()) < 2 and os.date("!%Y", 0) == "1970" and os.clock() >= 0)
      local names = {}
      for _, name in ipairs { "execute", "exit", "getenv", "remove", "rename", "tmpname", "setlocale" } do
        if os[name] then names[#names + 1] = name end
      end
      return false, "left: " .. table.concat(names, " ")
    ]]
    assert.equal("left: ", ask())
  end)

  it("env reads what the configuration allows", function()
    local printed = rules.program({ ["a.lua"] = [[
      route { handle = function() return false, env "HOME" .. " " .. tostring(env "NH_NOT_SET") end }
    ]] }, { env = { "HOME", "NH_NOT_SET" } }, [[ print(select(2, hub:send({ title = "t" }, rules.LONG))) ]])
    assert.matches("refused it: " .. os.getenv "HOME" .. " nil", printed)
    local ok, problem = notifyhub.new { rules = rules.folder { ["a.lua"] = "\nlocal path = env 'PATH'" } }
    assert.is_nil(ok)
    assert.matches("a%.lua:2: .*env: 'PATH' is not one of the variables that the configuration allows", problem)
  end)

  it("log goes to the log, with its level", function()
    local printed = rules.program({ ["a.lua"] = [[
      route { handle = function()
        log.error "one" log.warn "two \n \"quoted\"" log.info "three" log.debug "four" log.warn(5)
        return true
      end }
    ]] }, { log = { to = "stderr", level = "info" } }, [[ hub:send({ title = "t" }, rules.LONG) ]])
    assert.matches("level=error [^\n]*one", printed)
    assert.matches("level=warn [^\n]*two [^\n]*quoted", printed)
    assert.matches("level=info [^\n]*three", printed)
    assert.matches("level=warn [^\n]*5", printed)
    assert.is_nil(printed:find("four", 1, true))
  end)
end)

describe("require", function()
  after_each(rules.finish)

  it("runs a module of the folder or of a folder in it once", function()
    local ask = answering([[
      local counter = require "lib.counter"
      assert(require "lib.counter" == counter and counter.loaded == 1)
      return false, require("words") .. " " .. tostring(require "lib.nothing")
    ]], nil, {
      ["lib/counter.lua"] = "loads = (loads or 0) + 1 return { loaded = loads }",
      ["lib/nothing.lua"] = "",
      ["words.lua"] = "return 'words'",
    })
    assert.equal("words true", ask())
  end)

  it("does not run the modules of folders by itself, and no file that is hidden or something else", function()
    local hub = rules.open {
      ["lib/broken.lua"] = "error 'ran'", [".hidden.lua"] = "error 'ran'", ["a.lua~"] = "error 'ran'", ["#a.lua#"] = "error 'ran'",
      ["notes.txt"] = "no Lua",
    }
    assert.equal(1, #hub:stats().generations)
  end)

  it("that goes round in a circle says so", function()
    local ok, problem = notifyhub.new { rules = rules.folder {
      ["a.lua"] = "require 'b'", ["b.lua"] = "\nrequire 'a'",
    } }
    assert.is_nil(ok)
    assert.matches("b%.lua:2: module 'a' requires itself", problem)
  end)

  it("finds nothing outside of the folder that the configuration does not allow", function()
    for _, name in ipairs { "dkjson", "cjson", "main", "lib.main", "debug", "io", "../a", "/etc/passwd", "a\0b", "" } do
      local ok, problem = notifyhub.new { rules = rules.folder { ["a.lua"] = ("\nrequire(%q)"):format(name) } }
      assert.is_nil(ok, name)
      assert.matches("a%.lua:2: ", problem)
    end
  end)

  it("finds cjson and Lua modules that the configuration allows", function()
    local ask = answering([[
      local cjson, serpent = require "cjson", require "dkjson"
      assert(cjson.encode { 1 } == "[1]" and require "cjson" == cjson)
      return false, serpent.encode { 1, 2 }
    ]], { allow = { "cjson", "dkjson" } })
    assert.equal("[1,2]", ask())
    local ok, problem = notifyhub.new { allow = { "no.such" }, rules = rules.folder { ["a.lua"] = "\nrequire 'no.such'" } }
    assert.is_nil(ok)
    assert.matches("a%.lua:2: the module 'no.such' is allowed, but no Lua file of that name is installed", problem)
  end)
end)
