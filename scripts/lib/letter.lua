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

-- The message as adapters may see it: its targets without what is secret in them. With names for targets it is that anyway, and
-- without rules nobody else looks at it.
local function shown(message)
  local given, same = message.targets, message.priority ~= nil
  local targets = {}
  for index = 1, given and #given or 0 do
    local each = given[index]
    local as_shown = target.shown(each)
    same, targets[index] = same and each == as_shown, as_shown
  end
  if same and given then
    return message
  end
  local copy = loaded and script.clone(message, 2) or message
  copy.targets, copy.priority = targets, message.priority or "normal"
  return copy
end

-- What template.render gives, under the limits of rules where it may run code of theirs.
local function render(context, named, message, adapter)
  if template.is_pure(named) then
    local words, warnings, code = template.render(named, message, adapter.name, true)
    if words or warnings ~= template.GUARD then
      return words, warnings, code
    end
  end
  local given = message == context.message and callback.message(context) or script.plain(message) -- it may write to it
  local ok, words, warnings, code = script.guard(template.render, named, given, adapter.name)
  if not ok then
    local problem = rules.problem(words, warnings)
    return nil, ("template '%s': %s"):format(named.name, problem.message), problem.code
  end
  return words, warnings, code
end

-- The words of a template for a platform; made once a letter and platform.
local function renderer(context, named)
  local made = {}
  return function(message, adapter)
    local rendered = made[adapter.name]
    if not rendered then
      local words, warnings, code = render(context, named, message, adapter)
      if not words then
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
    context = context, message = message, retry = options.retry, configured = configured, shown = shown(message),
    template = nil, on_retry = loaded and callback.on_retry, on_progress = loaded and callback.on_progress,
  }
  local name = options.template or message.template
  if name then
    local named = loaded and loaded.templates[name]
    if not named then
      return nil, ("template: there is no template '%s'%s"):format(name,
        schema.suggest(name, schema.names(loaded and loaded.templates or {}))), "invalid"
    end
    letter.template = renderer(context, named)
  end
  return letter
end

return M
