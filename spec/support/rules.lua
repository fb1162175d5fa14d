-- Hubs with a folder of rules for a spec, and a receiver that they can tell.
--
--   local rules = require "spec.support.rules"
--   after_each(rules.finish)
--   local hub, sink, folder = rules.open { ["a.lua"] = [[ route { to = "a" } ]] }
--   local receipt = hub:send({ title = "t" }, rules.LONG)
--   assert.same({ "/a" }, rules.paths(sink, 1))
--
-- The configuration has the accounts a, b, c and d, which are paths of the receiver, and `down`, where nobody listens; a
-- delivery is tried once. rules.program runs such a hub in a process of its own, where the log can be read.
local command = require "spec.support.command"
local support = require "spec.lua.binding.support"

local rules = {}

rules.LONG = 60 -- seconds that nothing here takes, unless it hangs

local folders = {}

-- Writes a file below a folder; its own folder is made.
function rules.write(folder, name, text)
  local inner = name:match "^(.*)/"
  if inner then os.execute("mkdir -p " .. command.quote(folder .. "/" .. inner)) end
  return command.write(folder .. "/" .. name, text)
end

-- A new folder with these files { name = text }, until `finish`.
function rules.folder(files)
  local folder = command.directory()
  folders[#folders + 1] = folder
  for name, text in pairs(files or {}) do rules.write(folder, name, text) end
  return folder
end

-- A configuration for the receiver, and what `extra` has over it.
function rules.config(sink, extra)
  local config = {
    platforms = { down = { platform = "webhook", url = "http://127.0.0.1:1/" } }, retry = { attempts = 1 },
    limits = { slice = 2 }, -- a busy machine may take a thread's turn away for longer than the default
  }
  for _, name in ipairs { "a", "b", "c", "d" } do
    config.platforms[name] = { platform = "webhook", url = ("%s/%s"):format(sink.url, name) }
  end
  for name, value in pairs(extra or {}) do
    if name == "platforms" then
      for account, options in pairs(value) do config.platforms[account] = options end
    else
      config[name] = value
    end
  end
  return config
end

-- A hub with these rules. `options` are the receiver's.
function rules.open(files, extra, options)
  local sink = support.sink(options)
  local folder = rules.folder(files)
  local config = rules.config(sink, extra)
  config.rules = folder
  return support.hub(config), sink, folder
end

-- The paths that were called, at least `count` of them, sorted.
function rules.paths(sink, count)
  local paths = {}
  for index, arrival in ipairs(assert(sink:wait(count, rules.LONG))) do paths[index] = arrival.path end
  table.sort(paths)
  return paths
end

-- The JSON that one path was sent, in order.
function rules.told(sink, path, count)
  local list = {}
  support.eventually(function()
    list = {}
    for _, arrival in ipairs(sink:arrivals()) do
      if arrival.path == path then list[#list + 1] = arrival.json end
    end
    return #list >= (count or 1)
  end)
  return list
end

local function literal(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local fields = {}
  for key, inner in pairs(value) do fields[#fields + 1] = ("[%q] = %s"):format(key, literal(inner)) end
  return "{ " .. table.concat(fields, ", ") .. " }"
end

-- Runs Lua text in a process of its own, with `rules`, `hub`, `sink`, `folder` and `log()`, which is what the log has printed
-- so far; returns what it printed and the log. More than warnings has to be asked for: { log = { to = "stderr", level = "info" } }.
function rules.program(files, extra, text)
  local config = { log = { to = "stderr", level = "warn" } }
  for name, value in pairs(extra or {}) do config[name] = value end
  local place = rules.folder()
  rules.write(place, "program.lua", ([[
    local rules = require "spec.support.rules"
    local hub, sink, folder = rules.open(%s, %s)
    local function log() return require "spec.support.command".read(%q) end
    local ok, problem = pcall(function(rules, hub, sink, folder, log) %s
    end, rules, hub, sink, folder, log)
    rules.finish()
    assert(ok, problem)]]):format(literal(files), literal(config), place .. "/log", text))
  local _, _, status = os.execute(("lua5.4 %s/program.lua >%s/out 2>%s/log"):format(place, place, place))
  local printed = command.read(place .. "/out") .. command.read(place .. "/log")
  assert(status == 0, printed)
  return printed
end

rules.eventually = support.eventually

-- After each spec.
function rules.finish()
  support.finish()
  while folders[1] do command.remove(table.remove(folders)) end
end

return rules
