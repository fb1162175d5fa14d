-- content: what a platform is given to say: variables put in, converted to a format that it knows, within its limits.

local markdown = require "markdown"
local result = require "result"
local task = require "task"
local text = require "text"

local M = {}

local ATTACHMENT_BYTES = 25 << 20
local NONE = {} -- attachments of a message without any; read only

------------------------------------------------------------------ variables

local function lookup(variables, path)
  local value = variables
  for name in path:gmatch("[^.]+") do
    if type(value) ~= "table" then
      return nil
    end
    value = value[name]
  end
  return value
end

-- Puts variables in where a text says {{ name }} or {{ table.name }}. A variable that is not there is an error: a person
-- should not read "{{ service }}" or nothing at all. `escape` makes a value harmless where it lands.
local function fill(source, variables, field, escape)
  local missing
  local filled = source:gsub("{{%s*([%w_.-]+)%s*}}", function(path)
    local value = lookup(variables, path)
    if value == nil or type(value) == "table" then
      missing = missing or path
      return nil
    end
    return escape(tostring(value))
  end)
  if missing then
    return nil, ("%s: there is no variable '%s'"):format(field, missing)
  end
  return filled
end

local function as_is(s)
  return s
end

-- The title, body and format of a message with its variables in place; or nil, message, code.
function M.render(message)
  local title, body, format, variables = message.title or "", message.body or "", message.format or "text", message.variables
  if variables then
    local problem
    title, problem = fill(title, variables, "title", as_is)
    if title then
      body, problem = fill(body, variables, "body", format == "html" and text.escape_html or as_is)
    end
    if problem then
      return nil, problem, "invalid"
    end
  end
  return title, body, format
end

-------------------------------------------------------------------- formats

local function escape_markdown(s)
  return (s:gsub("[\\`*_{}%[%]()#+.!|<>~-]", "\\%0"))
end

local function text_to_html(s)
  return (text.escape_html(s):gsub("\r?\n", "<br>\n"))
end

local CONVERT = {
  text = { html = text_to_html, markdown = escape_markdown },
  markdown = { html = markdown.to_html, text = function(s) return s end },
  html = { text = text.strip_html, markdown = function(s) return escape_markdown(text.strip_html(s)) end },
}
local PREFERENCE = { text = { "html", "markdown" }, markdown = { "html", "text" }, html = { "text", "markdown" } }

local function convert(body, format, adapter)
  if adapter.takes[format] then
    return body, format
  end
  for _, other in ipairs(PREFERENCE[format]) do
    if adapter.takes[other] then
      return CONVERT[format][other](body), other
    end
  end
  return body, format
end

--------------------------------------------------------------------- limits

-- What is wrong with a text that has more bytes than its limit allows, which may count characters; or nil.
local function over_limit(adapter, field, s)
  local most, unit = adapter.limits[field], adapter.limits.unit or "characters"
  local size = unit == "characters" and text.length(s) or #s
  if size > most then
    return ("%s: %d %s, %s takes at most %d"):format(field, size, unit, adapter.name, most)
  end
end

local function problem_of(adapter, title, body)
  local limits = adapter.limits
  return limits.title and #title > limits.title and over_limit(adapter, "title", title)
    or limits.body and #body > limits.body and over_limit(adapter, "body", body)
end

---------------------------------------------------------------- attachments

-- The set of files that a message brings with it.
function M.files(message)
  if not message.attachments then
    return NONE
  end
  local files = {}
  for _, each in ipairs(message.attachments) do
    if each.path then
      files[each.path] = true
    end
  end
  return files
end

-- The attachments as an adapter takes them, and a warning when it takes none. `files`: the paths that may be read; nil for any.
local function attach(message, adapter, files)
  local given = message.attachments
  if #given == 0 then
    return NONE
  elseif adapter.attachments == "none" then
    return NONE, ("%d attachment(s) left out: %s takes none"):format(#given, adapter.name)
  end
  local attachments = {}
  for index, each in ipairs(given) do
    if each.path and message.untrusted then
      return nil, nil, ("attachments[%d].path: a message from outside may not read files; give content"):format(index)
    elseif files and each.path and not files[each.path] then
      return nil, nil, ("attachments[%d].path: rules cannot attach a file that the message has not brought; give its content")
        :format(index)
    end
    local copy = {
      name = each.name or each.path:match("[^/]*$"), content_type = each.content_type, inline_id = each.inline_id,
      content = each.content, path = each.path,
    }
    if each.path and adapter.attachments == "content" then
      local content, problem = task.read_file(each.path, ATTACHMENT_BYTES)
      if not content then
        return nil, nil, ("attachments[%d]: %s"):format(index, problem)
      end
      copy.content, copy.path = content, nil
    end
    attachments[index] = copy
  end
  return attachments
end

-- What one platform is given of a letter: title, body, format, attachments and a warning; or nil and a failed result.
function M.fit(letter, adapter)
  local title, said, written
  if letter.words then
    title, said, written = letter.words(letter, adapter)
  else
    title, said, written = M.render(letter.message)
  end
  if not title then
    return nil, result.fail(written, said)
  end
  local body, format = convert(said, written, adapter)
  local problem = problem_of(adapter, title, body)
  if problem then
    return nil, result.fail("too_large", problem)
  end
  if not letter.message.attachments then
    return title, body, format, NONE
  end
  local attachments, warning, missing = attach(letter.message, adapter, letter.context.files)
  if not attachments then
    return nil, result.fail("invalid", missing)
  end
  return title, body, format, attachments, warning
end

return M
