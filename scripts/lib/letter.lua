-- letter: what is said for a message, and how: { context, message, shown = the message as adapters may see it, retry }, and of a
-- template { words = a function, named, made = what it gave by platform }. Several may go out for one message: one a route that
-- matched, one a `send`. Where there is to be one only, which no script waits for, the context is that letter.

local callback = require "callback"
local json = require "json"
local rules = require "rules"
local schema = require "schema"
local script = require "script"
local target = require "target"
local template = require "template"
local warning = require "warning"

local M = {}

local loaded -- the rules; nil when there are none

function M.setup(rules_loaded)
  loaded = rules_loaded
end

local NOBODY = json.array {} -- read only

local same -- the target that was shown as it is last: it comes again as a rule

local function is_shown(targets)
  for index = 1, #targets do
    local each = targets[index]
    if each ~= same then
      if target.shown(each) ~= each then
        return false
      end
      same = each
    end
  end
  return true
end

-- The message as adapters may see it: its targets without what is secret in them. With names for targets it is that anyway, and
-- without rules nobody else looks at it.
local function shown(message)
  local given, targets = message.targets, nil
  if given and message.priority and is_shown(given) then
    return message
  elseif given and given[1] then
    targets = {}
    for index = 1, #given do
      targets[index] = target.shown(given[index])
    end
  end
  local copy = loaded and script.clone(message, 2) or message
  copy.targets, copy.priority = targets or NOBODY, message.priority or "normal"
  return copy
end

-- What template.render gives, under the limits of rules: it may run code of theirs.
local function render(letter, named, adapter)
  local context, message = letter.context, letter.message
  local given = message == context.message and callback.message(context) or script.plain(message) -- it may write to it
  local ok, words, warnings, code = script.guard(template.render, named, given, adapter.name)
  if not ok then
    local problem = rules.problem(words, warnings)
    return nil, ("template '%s': %s"):format(named.name, problem.message), problem.code
  end
  return words, warnings, code
end

-- The words of a template for a platform, title, body and format; or nil, message, code. Made once a letter and platform.
local function words(letter, adapter)
  local named, message, platform = letter.named, letter.message, adapter.name
  local made = letter.made and letter.made[platform]
  if made then
    return made.title, made.body, made.format
  end
  local done, title, body, format = template.direct(named, message, platform)
  if not done then
    local rendered, warnings, code = render(letter, named, adapter)
    if not rendered then
      return nil, warnings, code or "script"
    end
    for _, text in ipairs(warnings or {}) do
      warning.add(letter.context, "template", text)
    end
    title, body, format = rendered.title, rendered.body, rendered.format
  end
  title = title or message.title or ""
  if not body then -- the template has a title only
    body, format = message.body or "", message.format or "text"
  end
  if not done or letter.context.total > 1 then
    letter.made = letter.made or {}
    letter.made[platform] = { title = title, body = body, format = format }
  end
  return title, body, format
end

-- The letter of a message in which rules have no say and that names no template; `targets` is what it names, as that may be
-- shown, where that is known.
function M.own(context, targets)
  local message = context.message
  if targets then
    message.targets, message.priority = targets, message.priority or "normal"
  else
    shown(message)
  end
  context.context, context.shown = context, message
  return context
end

-- Adds to a letter what `options` say of it, a plan or those of a send. → the letter; or nil, message, code.
local function put(letter, message, options)
  local name = options.template or message.template
  local named = name and loaded and loaded.templates[name]
  if named then
    letter.words, letter.named = words, named
  elseif name then
    return nil, ("template: there is no template '%s'%s"):format(name,
      schema.suggest(name, schema.names(loaded and loaded.templates or {}))), "invalid"
  end
  letter.retry = options.retry
  return letter
end

-- The letter of a message that one plan decides about: all that is said for it, so the context is that letter, too.
function M.planned(context, plan)
  local message = context.message
  context.context, context.shown = context, shown(message)
  return put(context, message, plan)
end

-- What is said, and how; or nil, message, code.
function M.make(context, message, options)
  return put({
    context = context, message = message, retry = nil, shown = shown(message), words = nil, named = nil, made = nil,
  }, message, options)
end

return M
