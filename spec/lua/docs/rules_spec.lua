-- What docs/scripting.md shows of rules is loaded and tried. Each block of Lua stands under one of these comments:
--
--   <!-- config -->           the configuration of all the others
--   <!-- rules                a folder of rules; what stands in the comment is its test
--   test(…) …
--   -->
--   <!-- rules-test           a test; what stands in the comment are the rules
--   …
--   -->
--
-- `notifyhub check` finds nothing wrong and `notifyhub test` passes, with at least one test each. A template that is named and
-- not made stands for one that says nothing new.

local command = require "spec.support.command"

local source = os.getenv "NH_SOURCE_DIR" or "."

local page = assert(command.read(source .. "/docs/scripting.md"))

-- { kind, shown, hidden, line } of every block of Lua, in order; `kind` is nil where no comment stands above it.
local function blocks()
  local list, hidden, kind, shown, line = {}, nil, nil, nil, 0
  for text in (page .. "\n"):gmatch "(.-)\n" do
    line = line + 1
    local begun = text:match "^<!%-%- ([%w-]+)"
    if shown then
      if text == "```" then
        list[#list + 1] = { kind = kind, shown = table.concat(shown, "\n"), hidden = table.concat(hidden or {}, "\n"), line = line }
        kind, hidden, shown = nil, nil, nil
      else
        shown[#shown + 1] = text
      end
    elseif begun then
      kind, hidden = begun, {}
    elseif text == "```lua" then
      shown = {}
    elseif kind and text ~= "-->" and not text:find "^```" then
      hidden[#hidden + 1] = text
    elseif text:find "^```" then
      kind, hidden = nil, nil
    end
  end
  return list
end

-- Templates that a block names and does not make.
local function stand_ins(rules)
  local made = {}
  for name in rules:gmatch 'template = "(%w+)"' do
    if not rules:find(('template("%s"'):format(name), 1, true) then
      made[name] = ("template(%q, { title = '{{ title }}' })\n"):format(name)
    end
  end
  local texts = {}
  for _, text in pairs(made) do
    texts[#texts + 1] = text
  end
  return table.concat(texts)
end

describe("docs/scripting.md", function()
  local config
  local directory
  before_each(function()
    directory = command.directory()
    os.execute("mkdir " .. command.quote(directory .. "/rules"))
  end)
  after_each(function()
    command.remove(directory)
  end)

  local count = 0
  for _, block in ipairs(blocks()) do
    if block.kind == "config" then
      config = block.shown
    else
      count = count + 1
      it(("shows rules that do what their tests say: line %d"):format(block.line), function()
        assert(block.kind == "rules" or block.kind == "rules-test", "no comment tells what the block is")
        local rules, test = block.shown, block.hidden
        if block.kind == "rules-test" then
          rules, test = test, rules
        end
        command.write(directory .. "/notifyhub.lua", assert(config))
        command.write(directory .. "/rules/page.lua", stand_ins(rules .. test) .. rules)
        command.write(directory .. "/rules/page_test.lua", test)
        local environment = "env SLACK_WEBHOOK=https://hooks.slack.com/services/T0/B0/x SLACK_PAYMENTS=https://hooks.slack.com/services/T0/B1/y"
        local checked = command.run({ "check" }, { directory = directory, before = environment })
        assert.equal("", checked.err)
        assert.equal(0, checked.status, checked.out)
        local tested = command.run({ "test" }, { directory = directory, before = environment })
        assert.equal(0, tested.status, tested.out .. tested.err)
        assert.matches("\n?[1-9]%d* passed, 0 failed\n$", tested.out)
      end)
    end
  end

  it("shows some", function()
    assert.is_true(count > 10)
  end)
end)

describe("scripts/rules.d.lua", function()
  local stub = assert(command.read(source .. "/scripts/rules.d.lua"))
  local directory
  before_each(function() directory = command.directory() end)
  after_each(function() command.remove(directory) end)

  -- The names that an expression makes of a rules file's surroundings; the file fails with them.
  local function names(listing)
    command.write(directory .. "/names.lua", ([[
      local names = {}
      %s
      table.sort(names)
      error("names: " .. table.concat(names, " "))
    ]]):format(listing))
    return assert(command.run({ "check", "--rules", directory }).out:match "names: ([^\n]*)")
  end

  local function joined(set)
    local list = {}
    for name in pairs(set) do
      list[#list + 1] = name
    end
    table.sort(list)
    return table.concat(list, " ")
  end

  it("tells of everything that rules see beside Lua, and of nothing else", function()
    local told = {}
    for name in stub:gmatch "\nfunction ([%w_]+)%(" do
      told[name] = true
    end
    for name in stub:gmatch "\n(%w+) = {}" do
      told[name] = true
    end
    told.test, told.simulate = nil, nil -- of tests
    local lua = {}
    for name in pairs(_G) do
      lua[name] = true
    end
    local seen = {}
    for name in names("for name in pairs(_G) do names[#names + 1] = name end"):gmatch "%S+" do
      seen[name] = not lua[name] or nil
    end
    assert.equal(joined(seen), joined(told))
  end)

  for _, library in ipairs { "store", "json", "log" } do
    it("tells of everything in " .. library, function()
      local told = {}
      for name in stub:gmatch("\nfunction " .. library .. "%.([%w_]+)%(") do
        told[name] = true
      end
      local seen = names("for name, value in pairs(" .. library
        .. ") do if type(value) == 'function' then names[#names + 1] = name end end")
      assert.equal(joined(told), seen)
    end)
  end
end)
