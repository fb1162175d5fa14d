-- What docs/configuration.md and docs/operations.md list is what there is: no key, figure or code more or less.

local notifyhub = require "notifyhub"

local support = require "spec.lua.binding.support"

local source = os.getenv "NH_SOURCE_DIR" or "."

local function read(path)
  local file <close> = assert(io.open(source .. "/" .. path, "rb"))
  return file:read "a"
end

-- The rows of all tables whose first cell is one name or several in backquotes: { names, cells }.
local function rows(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    local first = line:match "^| (`.-) |"
    if first then
      local cells, names = {}, {}
      for cell in line:sub(2):gmatch "%s*(.-)%s*|" do
        cells[#cells + 1] = cell
      end
      for name in first:gmatch "`([^`]+)`" do
        names[#names + 1] = name
      end
      list[#list + 1] = { names = names, cells = cells }
    end
  end
  return list
end

local function section(text, heading)
  local from = assert(text:find("\n## " .. heading .. "\n", 1, true), heading)
  return text:sub(from, (text:find("\n## ", from + 1, true) or 0) - 1)
end

local function sorted(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- The fields that scripts/lib/config.lua checks a configuration against.
local function schema()
  local path = package.path
  package.path = source .. "/scripts/lib/?.lua;" .. path
  package.preload.task = function() return {} end
  local config = require "config"
  package.path, package.preload.task = path, nil
  for _, name in ipairs { "config", "platform", "schema", "task" } do
    package.loaded[name] = nil
  end
  local found, index = {}, 1
  repeat
    local name, value = debug.getupvalue(config.prepare, index)
    found[name or ""], index = value, index + 1
  until not name
  return found.ROOT, found.GROUPS
end

-- The names in backquotes of a cell, in order.
local function named(cell)
  local names = {}
  for name in cell:gmatch "`([^`]+)`" do
    names[#names + 1] = name
  end
  return names
end

-- A default as tostring would write it.
local function plain(cell)
  return named(cell)[1] or cell
end

describe("docs/configuration.md", function()
  local text = read "docs/configuration.md"

  it("lists every key with its type, range and default, and no other", function()
    local root, groups = schema()
    local listed = {}
    for _, row in ipairs(rows(section(text, "The keys"))) do
      local name = row.names[1]
      local group, key = name:match "^(%w+)%.([%w_]+)$"
      listed[name] = true
      if group then
        local field = assert(groups[group] and groups[group][key], name .. " is no key")
        assert.equal(field.type, row.cells[2], name)
        local min, max = row.cells[3]:match "^([%d.]+) to ([%d.]+)$"
        assert.equal(field.min, tonumber(min), name)
        assert.equal(field.max, tonumber(max), name)
        for index, word in ipairs(field.one_of or {}) do
          assert.equal(word, named(row.cells[3])[index], name)
        end
        if field.default ~= nil then
          assert.equal(tostring(field.default), plain(row.cells[4]), name)
        end
      end
    end
    local real = {}
    for name in pairs(root) do
      real[name] = name ~= "config_file" or nil
    end
    for group, fields in pairs(groups) do
      for key in pairs(fields) do
        real[group .. "." .. key] = true
      end
    end
    assert.same(sorted(real), sorted(listed))
  end)
end)

describe("docs/operations.md", function()
  local text = read "docs/operations.md"

  it("lists every error code", function()
    local listed = {}
    for _, row in ipairs(rows(section(text, "Error codes"))) do
      listed[row.names[1]] = true
      if row.cells[2] == "yes" then
        assert.is_true(notifyhub.codes[row.names[1]], row.names[1])
      end
    end
    assert.same(sorted(notifyhub.codes), sorted(listed))
  end)

  it("lists every figure", function()
    local listed, real = {}, {}
    for _, row in ipairs(rows(section(text, "Figures"))) do
      for _, name in ipairs(row.names) do
        listed[name] = true
      end
    end
    local journal = os.tmpname()
    local hub = assert(notifyhub.new { queue = { journal = journal .. ".db" } })
    for name, value in pairs(hub:stats()) do
      if type(value) == "table" then
        for inner in pairs(value[1] or value) do
          real[name .. (value[1] and "[]." or ".") .. inner] = true
        end
      else
        real[name] = true
      end
    end
    hub:close(0)
    os.execute("rm -f " .. journal .. "*")
    assert.same(sorted(real), sorted(listed))
  end)

  it("lists everything that is told of a platform", function()
    local listed, real = {}, {}
    for _, row in ipairs(rows(section(text, "Health"))) do
      for _, name in ipairs(row.names) do
        listed[name] = true
      end
    end
    local sink = support.sink()
    local hub = support.hub()
    for _, target in ipairs { sink.target, support.refused } do
      assert(hub:send({ title = "t", targets = { target }, retry = { attempts = 1 } }, 20))
    end
    for _, view in pairs(hub:health().platforms) do
      for name in pairs(view) do
        real[name] = true
      end
    end
    support.finish()
    assert.same(sorted(real), sorted(listed))
  end)
end)
