-- letter: what is said for a message, and how: { context, message, shown = the message as adapters may see it, template, retry,
-- configured, on_retry, on_progress }. Several may go out for one message: one a route that matched, one a `send`.

local callback = require "callback"
local rules = require "rules"
local schema = require "schema"
local script = require "script"
local target = require "target"
local template = require "template"
local warning = require "warning"

local M = {}

local configured
local loaded -- the rules; nil when there are none

function M.setup(prepared, rules_loaded)
  configured, loaded = prepared, rules_loaded
end

-- The message as adapters may see it: its targets without what is secret in them.
local function shown(message, in_place)
  local targets = {}
  for index, each in ipairs(message.targets or {}) do
    targets[index] = target.shown(each)
  end
  local copy = message
  if not in_place then
    copy = {}
    for name, value in pairs(message) do
      copy[name] = value
    end
  end
  copy.targets = targets
  copy.priority = message.priority or "normal"
  return copy
end

-- The words of a template for a platform; made once a letter and platform.
local function renderer(context, name, named)
  local made = {}
  return function(message, adapter)
    local rendered = made[adapter.name]
    if not rendered then
      local ok, words, warnings, code = script.guard(template.render, named, template.is_pure(named) and message
        or script.plain(message), adapter.name)
      if not ok then
        local problem = rules.problem(words, warnings)
        return nil, ("template '%s': %s"):format(name, problem.message), problem.code
      elseif not words then
        return nil, warnings, code or "script"
      end
      for _, text in ipairs(warnings or {}) do
        warning.add(context, "template", text)
      end
      rendered = words
      rendered.title = rendered.title or message.title or ""
      if not rendered.body then -- the template has a title only
        rendered.body, rendered.format = message.body or "", message.format or "text"
      end
      made[adapter.name] = rendered
    end
    return rendered
  end
end

-- What is said, and how; or nil, message, code.
function M.make(context, message, options)
  local letter = {
    context = context, message = message, retry = options.retry, configured = configured,
  }
  local name = options.template or message.template
  if name then
    local named = loaded and loaded.templates[name]
    if not named then
      return nil, ("template: there is no template '%s'%s"):format(name,
        schema.suggest(name, schema.names(loaded and loaded.templates or {}))), "invalid"
    end
    letter.template = renderer(context, name, named)
  end
  letter.shown = shown(message, not loaded)
  if loaded then
    letter.on_retry, letter.on_progress = callback.on_retry, callback.on_progress
  end
  return letter
end

return M
