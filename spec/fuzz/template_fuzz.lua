-- A template of the rules, as text, markdown and HTML: it is refused as a mistake with its place, or gives a text, or says why
-- not; within its limits, and whatever the message holds.

local script = require "script"
local template = require "template"

local SINKS = { slack = { title = "slack", text = "slack", markdown = "slack" }, telegram = { markdown = "telegram" } }
local PLATFORMS = { email = true, slack = true, telegram = true }
local MOST = 1 << 16

local MESSAGE = {
  id = "m-1", title = "Disk\r\nfull", body = "db-1", priority = "high", metadata = { severity = "page", tags = { "a", "b" } },
  variables = { service = "<b>&\"'*_`@everyone", items = { { name = "a" }, { name = "b" } }, n = 3, link = "https://example.com" },
}

local environment = script.environment()

local function told(problem, what)
  assert(type(problem) == "string" and problem ~= "", what .. " gives no reason")
end

local function compile(definition)
  local included = { other = "[{{ title }}]", loop = "{% include \"loop\" %}" }
  return template.compile("fuzzed", definition, {
    load = script.compile, env = environment, sinks = SINKS, platforms = PLATFORMS, file = "rules/a.lua:1", most = MOST,
    find = function(name) return included[name] end,
  })
end

-- Returns whether it came to an end.
local function render(made, platform)
  local direct, title, body = template.direct(made, MESSAGE, platform)
  local ok, text, problem, code = script.guard(template.render, made, MESSAGE, platform)
  assert(not direct or ok and text and text.title == title and text.body == body and not problem, "the short way says another")
  if not ok then
    told(text, "a limit")
    assert(problem == "script_limit" or problem == "script_memory", "not even a limit: " .. text)
    return false
  elseif not text then
    told(problem, "render")
    assert(code == "script" or code == "script_limit" or code == "script_memory" or code == "config", tostring(code))
    return code == "script"
  end
  for _, part in ipairs { text.title or "", text.body or "" } do
    assert(type(part) == "string" and #part <= MOST, "a part is too long")
  end
  assert(not (text.title or ""):find("[\r\n]"), "a title has two lines")
  return true
end

return function(source)
  for _, format in ipairs { "text", "markdown", "html" } do
    local ok, made = pcall(compile, { title = source, body = source, format = format, slack = { body = source } })
    if ok then
      for _, name in ipairs(template.names(made)) do
        assert(type(name.name) == "string" and name.line >= 1, "a name without a place")
      end
      for _, platform in ipairs { "email", "slack", "telegram" } do
        if not render(made, platform) then -- nor would it elsewhere, and each time takes its time
          return
        end
      end
    else
      assert(type(made) == "table" and made.code == "config", tostring(made))
      told(made.message, "compile")
    end
  end
end
