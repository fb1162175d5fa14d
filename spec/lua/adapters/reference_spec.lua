-- The reference of the built-in platforms in docs/platforms.md, held against the adapters.
local api = require "spec.support.script_api"

local file = assert(io.open("docs/platforms.md", "rb"))
local document = file:read("a")
file:close()

-- The section of one platform.
local function section(name)
  return assert((document .. "\n## "):match("\n## " .. name .. "\n(.-)\n## "), "no section " .. name)
end

-- The rows of the table with this heading: name → { type, default }.
local function rows(text, heading)
  local found = {}
  local lines = (text .. "\n\n"):match("\n| " .. heading .. " |[^\n]*\n|[-|]+\n(.-)\n\n") or ""
  for line in (lines .. "\n"):gmatch("(.-)\n") do
    local name, kind, default = line:match("^| `([%w_]+)` | ([%w, ]+) | ([^|]*) |")
    found[assert(name, line)] = { kind, default }
  end
  return found
end

local function expected(options)
  local list = {}
  for name, rule in pairs(options) do
    local default = rule.default
    default = default == nil and "" or "`" .. (type(default) == "string" and '"' .. default .. '"' or tostring(default)) .. "`"
    list[name] = { rule.type .. (rule.secret and ", secret" or ""), default }
  end
  return list
end

describe("docs/platforms.md", function()
  for _, name in ipairs { "webhook", "feishu", "slack", "email", "console" } do
    it("tells every option of " .. name .. " and no other", function()
      local adapter = api.adapter(name)
      assert.same(expected(adapter.options), rows(section(name), "option"))
      local of_message = next(adapter.message_options) and rows(section(name), "of a message") or {}
      assert.same(expected(adapter.message_options), of_message)
    end)
  end

  it("tells where lark differs from feishu", function()
    local feishu, lark = api.adapter "feishu".options, api.adapter "lark".options
    local differs = {}
    for name, rule in pairs(lark) do
      differs[name] = rule.default ~= feishu[name].default and rule or nil
    end
    assert.same(expected(differs), rows(section "lark", "option"))
  end)

  for _, name in ipairs { "webhook", "feishu", "lark", "slack", "email", "console" } do
    it("has for " .. name .. " a shape of every scheme, and an example that is a target", function()
      local adapter, url = api.adapter(name), api.require "url"
      local shapes = table.concat(adapter.urls, " ")
      for _, scheme in ipairs(adapter.schemes) do
        assert.is_truthy(shapes:find("%f[%w]" .. scheme .. "://"), scheme)
      end
      local options, problem = adapter.parse(assert(url.parse(adapter.example)))
      assert(options, problem)
      if adapter.check then assert(adapter.check(api.account(adapter, options))) end
    end)
  end

  it("names every scheme", function()
    for _, name in ipairs { "webhook", "feishu", "lark", "slack", "email", "console" } do
      for _, scheme in ipairs(api.adapter(name).schemes) do
        assert.is_truthy(section(name):find(scheme .. "://", 1, true), scheme)
      end
    end
  end)
end)
