-- docs/messages.md is what the code takes: its fields are those of runtime/core/message.c, its ranges are kept, its
-- examples are accepted, and a receipt holds nothing that the page does not tell.

local notifyhub = require "notifyhub"

local command = require "spec.support.command"
local support = require "spec.lua.binding.support"

local source = os.getenv "NH_SOURCE_DIR" or "."

local function read(path)
  local file <close> = assert(io.open(source .. "/" .. path, "rb"))
  return file:read "a"
end

local page = read "docs/messages.md"

-- The rows of the tables whose heading begins with `head`: { names = { … }, cells = { … } }.
local function rows(head)
  local list = {}
  for body in page:gmatch("\n| " .. head .. " |[^\n]*\n|[-|]+\n(.-)\n\n") do
    for line in (body .. "\n"):gmatch "(.-)\n" do
      local row = { names = {}, cells = {} }
      for cell in line:sub(2):gmatch "%s*(.-)%s*|" do
        row.cells[#row.cells + 1] = cell
      end
      for name in row.cells[1]:gmatch "`([^`]+)`" do
        row.names[#row.names + 1] = name
      end
      list[#list + 1] = row
    end
  end
  return list
end

-- The names of the field tables of message.c, as the page writes them.
local function fields()
  local code = read "runtime/core/message.c"
  local set = {}
  for prefix, owner in pairs { [""] = "message_fields", ["targets[]."] = "check_target", ["attachments[]."] = "check_attachment",
                               ["retry."] = "check_retry" } do
    local from = prefix == "" and code:find("field " .. owner .. "[]", 1, true)
      or code:find("field fields[]", assert(code:find("static nh_err " .. owner .. "(", 1, true)), true)
    local body = code:sub(from, assert(code:find("};", from, true)))
    for name in body:gmatch 'FIELD%("([%w_]+)",%s*check_' do
      set[prefix .. name] = true
    end
  end
  return set
end

local function names_of(list)
  local set = {}
  for _, row in ipairs(list) do
    for _, name in ipairs(row.names) do
      set[name] = true
    end
  end
  return set
end

-- A message in which one field has a value.
local function message_with(name, value)
  local message = { title = "t" }
  local outer, inner = name:match "^(%w+)%.([%w_]+)$"
  if outer then
    message[outer] = { [inner] = value }
  else
    message[name] = value
  end
  return message
end

describe("docs/messages.md", function()
  local hub
  before_each(function() hub = support.hub() end)
  after_each(support.finish)

  it("lists every field of a message, a target, an attachment and a retry, and no other", function()
    assert.same(fields(), names_of(rows "field"))
  end)

  for _, row in ipairs(rows "field") do
    local name, kind, range, example = row.names[1], row.cells[2], row.cells[3], row.cells[5]

    it("has an example of " .. name .. " that is accepted", function()
      local made = assert(load("return { " .. example:match "^`(.+)`$" .. " }"))()
      local top = name:match "^%w+_?%w*"
      assert.is_not_nil(made[top], example)
      made.title = made.title or "t"
      local handle = assert(hub:send_async(made))
      handle:cancel()
    end)

    local low, high = range:match "^([%d.e+]+) to ([%d.e+]+)$"
    if low and (kind == "number" or kind == "integer") then
      it("tells the range of " .. name, function()
        local expected = ("%s: must be between %s and %s"):format(name, low, high)
        for _, value in ipairs { tonumber(low) - 1, tonumber(high) * 2 + 1 } do
          local handle, problem = hub:send_async(message_with(name, value))
          assert.is_nil(handle)
          assert.equal(expected, problem)
        end
        if name ~= "expires_at" then
          for _, value in ipairs { tonumber(low), tonumber(high) } do
            assert(hub:send_async(message_with(name, value))):cancel()
          end
        end
      end)
    end

    local longest = tonumber(range:match "^1 to (%d+) bytes$" or "")
    if longest and not name:find("[", 1, true) then
      it("tells the longest " .. name, function()
        assert(hub:send_async(message_with(name, ("x"):rep(longest)))):cancel()
        local handle, problem = hub:send_async(message_with(name, ("x"):rep(longest + 1)))
        assert.is_nil(handle)
        assert.truthy(problem:find("1 to " .. longest .. " bytes", 1, true), problem)
      end)
    end

    local most = tonumber(range:match "^0 to (%d+)$" or "")
    if most and kind == "list" then
      it("tells how many " .. name .. " there may be", function()
        local list = {}
        for index = 1, most + 1 do
          list[index] = name == "targets" and "x" or { name = "a", content = "a" }
        end
        local handle, problem = hub:send_async { title = "t", [name] = list }
        assert.is_nil(handle)
        assert.truthy(problem:find("at most " .. most .. " are allowed", 1, true), problem)
      end)
    end
  end

  it("tells everything that a receipt and a result hold", function()
    local told = { receipt = names_of(rows "receipt"), result = names_of(rows "result") }
    local sink = support.sink()
    local seen = { receipt = {}, result = {} }
    local folder = command.directory()
    command.write(folder .. "/rules.lua", ([[
      route { name = "several", match = { several = true }, continue = true }
      route { name = "with a gap", to = fallback { %q, %q }, template = "gap" }
      template("gap", { title = "{{ title }}{{ variables.absent }}" })
    ]]):format(support.refused, support.path(sink, "second")))
    finally(function() command.remove(folder) end)
    local ruled = support.hub { rules = folder }
    for index, targets in ipairs { { sink.target }, { sink.target, support.refused, "nobody" }, { sink.target } } do
      local receipt = (index == 3 and ruled or hub):send({
        title = "t", targets = targets, retry = { attempts = 1 }, metadata = { several = index == 3 },
      }, 20)
      for name in pairs(receipt) do seen.receipt[name] = true end
      for _, each in ipairs(receipt.results) do
        for name in pairs(each) do seen.result[name] = true end
      end
    end
    for kind, names in pairs(seen) do
      for name in pairs(names) do
        assert.is_true(told[kind][name], kind .. "." .. name .. " is not told")
      end
    end
    for name in pairs(told.receipt) do
      assert.is_true(seen.receipt[name], "a receipt has no " .. name)
    end
    for _, name in ipairs { "superseded", "route" } do
      assert.is_true(seen.result[name], "a result has no " .. name)
    end
  end)

  it("says of every code what to do", function()
    local codes = {}
    for code in pairs(notifyhub.codes) do
      codes[code] = true
    end
    assert.same(codes, names_of(rows "codes"))
  end)
end)
