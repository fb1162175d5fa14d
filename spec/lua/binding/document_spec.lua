local notifyhub = require "notifyhub"
local support = require "spec.lua.binding.support"

describe("a message on its way from Lua", function()
  local hub

  setup(function() hub = support.hub() end)
  teardown(support.finish)

  -- The message as the core took it: what on_error gets of one that is cancelled before it is due.
  local function accepted(message)
    message.deliver_at = os.time() + 3600
    message.targets = { support.refused }
    local handle = assert(hub:send_async(message))
    local seen
    handle:on_error(function(told) seen = told end)
    handle:cancel()
    handle:wait(10)
    return seen
  end

  local function carried(value)
    return accepted({ title = "t", metadata = { x = value } }).metadata.x
  end

  local function refusal(value)
    local sent, problem, code = hub:send_async { title = "t", metadata = { x = value } }
    assert.is_nil(sent)
    assert.equal("invalid", code)
    return problem
  end

  it("keeps strings, booleans, numbers, lists and maps", function()
    local value = {
      text = "grüße 你好 🎉", yes = true, no = false, int = 42, negative = -7, half = 0.5,
      list = { 1, "two", { three = 3 } }, map = { a = { b = { c = "deep" } } },
    }
    assert.same(value, carried(value))
  end)

  it("keeps integers integers and floats floats", function()
    local big = carried(9007199254740991)
    assert.equal(9007199254740991, big)
    assert.equal(-1.5, carried(-1.5))
    if math.type then
      assert.equal("integer", math.type(carried(3)))
      assert.equal("float", math.type(carried(3.0)))
      assert.equal(math.maxinteger, carried(math.maxinteger))
      assert.equal(math.mininteger, carried(math.mininteger))
    end
  end)

  it("keeps null, inside lists as well", function()
    assert.equal(notifyhub.null, carried(notifyhub.null))
    assert.same({ 1, notifyhub.null, 3 }, carried { 1, notifyhub.null, 3 })
  end)

  it("keeps a marked empty table a list, and through a second journey", function()
    local list = carried(notifyhub.array())
    assert.same({}, list)
    assert.equal(getmetatable(notifyhub.array {}), getmetatable(list))
    assert.equal(getmetatable(list), getmetatable(carried(list)))
    assert.is_nil(getmetatable(carried {}))
  end)

  it("never tells a secret", function()
    local secret = notifyhub.secret "hunter2"
    assert.equal("<secret>", tostring(secret))
    assert.equal("<secret>", carried(secret))
    assert.equal("<secret>", tostring("Bearer " .. secret))
    assert.equal("<secret>", carried("a" .. secret .. 1))
    assert.has_error(function() return secret .. {} end)
  end)

  it("keeps texts apart, whatever came before", function()
    for _ = 1, 3 do
      local texts = {}
      for length = 0, 100 do
        for last = 1, 9 do texts[#texts + 1] = ("x"):rep(length) .. last end
        texts[#texts + 1] = length .. ("y"):rep(length)
        texts[#texts + 1] = ("z"):rep(length) .. length .. ("z"):rep(length)
      end
      local back = carried(texts)
      collectgarbage()
      assert.same(texts, back)
      assert.same(texts, carried(texts))
    end
  end)

  it("names the place of what cannot be sent", function()
    assert.equal("message.metadata.x: functions cannot be sent", refusal(print))
    assert.equal("message.metadata.x.y[2].z: functions cannot be sent",
      refusal { y = { 1, { z = print } } })
    assert.equal('message.metadata.x["a b"]: coroutines cannot be sent',
      refusal { ["a b"] = coroutine.create(function() end) })
    assert.equal("message.metadata.x: userdata cannot be sent", refusal(io.stdout))
    assert.equal("message.metadata.x: a number must be finite", refusal(1 / 0))
    assert.equal("message.metadata.x: a number must be finite", refusal(0 / 0))
  end)

  it("refuses tables that are neither list nor map", function()
    local at = "message.metadata.x: "
    assert.equal(at .. "a table cannot have both names and positions as keys", refusal { 1, a = 2 })
    assert.equal(at .. "a list cannot have holes", refusal { 1, nil, 3 })
    assert.equal(at .. "a number that is not 1, 2, 3 … cannot be a key", refusal { [0] = 1 })
    assert.equal(at .. "a number that is not 1, 2, 3 … cannot be a key", refusal { [1.5] = 1 })
    assert.equal(at .. "keys must be strings, or 1 to n", refusal { [true] = 1 })
  end)

  it("refuses a table that holds itself, and one nested too deep", function()
    local loop = {}
    loop.loop = loop
    assert.truthy(refusal(loop):find("nested too deep", 1, true))
    local deep = "bottom"
    for _ = 1, 28 do deep = { deep } end
    assert.same(deep, carried(deep))
    for _ = 1, 5 do deep = { deep } end
    assert.truthy(refusal(deep):find("nested too deep", 1, true))
  end)

  it("reads tables raw: a metatable plays no part", function()
    local value = setmetatable({ a = 1 }, {
      __index = function() error "asked" end, __pairs = function() error "asked" end,
      __len = function() error "asked" end,
    })
    assert.same({ a = 1 }, carried(value))
  end)

  it("is not disturbed by keys that look like numbers", function()
    assert.same({ ["1"] = "a", ["02"] = "b" }, carried { ["1"] = "a", ["02"] = "b" })
  end)

  it("can be sent after one that was refused half-way", function()
    for _ = 1, 10 do
      refusal { a = { b = { 1, 2, print } } }
      assert.same({ fine = true }, carried { fine = true })
    end
  end)

  it("is refused, with the field's name, when the core does not take it", function()
    for field, message in pairs {
      titel = { titel = "x" },
      title = { title = 7 },
      body = { body = "\255\254" },
      priority = { title = "x", priority = "soon" },
    } do
      local sent, problem, code = hub:send_async(message)
      assert.is_nil(sent)
      assert.equal("invalid", code)
      assert.truthy(problem:find(field, 1, true), problem)
    end
    local sent, problem, code = hub:send_async {}
    assert.is_nil(sent)
    assert.equal("invalid", code)
    assert.equal("string", type(problem))
  end)
end)
