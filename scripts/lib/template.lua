-- template: texts with {{ expressions }} and {% statements %} in them, compiled once a generation of the rules.
--
--   gather(files)                          texts of files → definitions by name, platforms' variants put together
--   compile(name, definition, options)     → a template; raises { code = "config", message }
--   direct(template, message, platform)    → true, title, body, format; or false: it has to be rendered
--   render(template, message, platform)    → { title, body, format }, warnings; or nil, problem, code
--   names(template)                        → the variables that it reads, for `notifyhub check`
--
-- Every title and body becomes one Lua function. A plain path ({{ metadata.service }}) is looked up by code made for it;
-- anything else runs as Lua in a scope of its own. What is put in is escaped for its place (template_escape.lua). Includes
-- are resolved when the includer is compiled, and cost nothing later. Most templates have a direct way, too
-- (template_direct.lua).

local code = require "template_code"
local direct = require "template_direct"
local escape = require "template_escape"
local schema = require "schema"
local scope = require "template_scope"
local script = require "script"

local M = {}

local MOST_BYTES = 1 << 20 -- of a rendered title or body

M.escape = escape.escape

local FORMATS = { text = true, markdown = true, html = true }
local SUFFIXES = { txt = "text", md = "markdown", html = "html" }
local EMPTY = {}

------------------------------------------------------------------ from files

-- A file's text → its definition, the template's name, and the platform that it is for or nil.
-- templates/incident.md, templates/incident.email.html; a first line "Subject: …" is the title.
function M.read(file, text)
  local stem, suffix = file:match("([^/]+)%.(%w+)$")
  local name, platform = (stem or ""):match("^([^.]+)%.?([^.]*)$")
  local format = SUFFIXES[suffix]
  if not name or not format then
    scope.config_error(file, "a template's file is called NAME.md or NAME.PLATFORM.md (or .txt, .html)")
  end
  text = text:gsub("\r\n", "\n"):gsub("\n$", "")
  local subject, body, line = text:match("^[Ss]ubject:[ \t]*([^\n]*)\n?(.*)$"), text, 1
  if subject then
    local gap
    gap, body = text:match("^[^\n]*\n?(\n?)(.*)$")
    line = 2 + #gap
  end
  return {
    title = subject, body = body ~= "" and body or nil, format = format,
    origin = { file = file, title = 1, body = line },
  }, name, platform ~= "" and platform or nil
end

-- Files, a list of { file, text } → definitions by template name.
function M.gather(files)
  local definitions = {}
  for _, each in ipairs(files) do
    local read, name, platform = M.read(each.file, each.text)
    local definition = definitions[name] or {}
    definitions[name] = definition
    local taken = definition.origin
    if platform then
      taken = definition[platform] and definition[platform].origin
      definition[platform] = definition[platform] or read
    end
    if taken then
      scope.config_error(each.file, ("the same template is in %s: keep one of them"):format(taken.file))
    elseif not platform then
      definition.title, definition.body, definition.format = read.title, read.body, read.format
      definition.origin = read.origin
    end
  end
  return definitions
end

------------------------------------------------------------------ definitions

local function string_field(origin, definition, key)
  local value = definition[key]
  if value ~= nil and type(value) ~= "string" then
    scope.config_error(origin, ("%s must be a string, not a %s"):format(key, type(value)))
  end
  return value
end

-- The keys of a definition, or of a variant inside of it.
local function check_definition(where, definition, variant, options)
  local known = { "title", "body", "format", not variant and "defaults" or nil }
  for key, value in pairs(definition) do
    local is_platform = not variant and type(key) == "string" and type(value) == "table"
      and (not options.platforms or options.platforms[key])
    if not is_platform and key ~= "title" and key ~= "body" and key ~= "format" and key ~= "origin"
      and (variant or key ~= "defaults") then
      local names = { table.unpack(known) }
      for name in pairs(not variant and options.platforms or EMPTY) do
        names[#names + 1] = name
      end
      table.sort(names)
      scope.config_error(where, ("unknown field '%s'%s"):format(tostring(key), schema.suggest(key, names)))
    end
  end
  string_field(where, definition, "title")
  string_field(where, definition, "body")
  local format = string_field(where, definition, "format")
  if format and not FORMATS[format] then
    scope.config_error(where, ("format: must be text, markdown or html, not '%s'"):format(format))
  end
end

local function origin_of(template, definition, part, key, options)
  local file = definition.origin
  return {
    template = template.name, part = part, rule = options.file,
    file = file and file.file, first = file and file[key] or 1,
  }
end

-- What a platform is given: the definition's own parts with the variant's instead where it has them.
local function compile_entry(template, definition, platform, options)
  local variant = platform and definition[platform] or EMPTY
  local sinks = options.sinks and options.sinks[platform] or EMPTY
  local function part(key, format, sink)
    local from = variant[key] and variant or definition
    if not from[key] then
      return nil
    end
    local label = from == variant and platform .. "." .. key or key
    local origin = origin_of(template, from, label, key, options)
    return code.compile(template, origin, from[key], format, platform, sink, options)
  end
  local format = variant.format or definition.format or "text"
  if variant.format and not variant.body and variant.format ~= (definition.format or "text") then
    scope.config_error(template.where, ("%s.format: is given without a body written in it"):format(platform))
  end
  local title, body = part("title", "text", sinks.title), part("body", format, sinks[format])
  local entry = { title = title, body = body, format = format }
  entry.direct, entry.compares = direct.compile(template, title, body, options.load)
  for _, each in pairs { title, body } do
    each.nodes = nil
  end
  return entry
end

-- The defaults as the rules cannot change them any more, unless they answer by code.
local function own_defaults(given)
  if not given or getmetatable(given) ~= nil then
    return given or EMPTY
  end
  local own = {}
  for name, value in pairs(given) do
    own[name] = value
  end
  return own
end

-- definition: a string (the body), or { title, body, format, defaults, PLATFORM = { title, body, format } … }.
-- options, all but load optional:
--   load(text, chunkname, env)   compiles Lua
--   find(name)                   a definition to include, or nil
--   env                          the rules' globals
--   platforms                    a set of the names that variants may have
--   sinks                        platform → { title, text, markdown, html }: a name of M.escape or a function, for
--                                platforms whose adapter sends a text of that format as it is
--   file                         where the definition stands ("rules/10-oncall.lua:12"), for errors
--   most                         bytes of a rendered part
function M.compile(name, definition, options)
  local where = (options.file and options.file .. ": " or "") .. ("template '%s'"):format(tostring(name))
  definition = code.definition_of(definition)
  if type(name) ~= "string" or not name:find("^[^%c]+$") then
    scope.config_error(where, "its name must be a string")
  elseif type(definition) ~= "table" then
    scope.config_error(where, ("must be a string or a table, not a %s"):format(type(definition)))
  end
  check_definition(where, definition, false, options)
  if definition.defaults ~= nil and type(definition.defaults) ~= "table" then
    scope.config_error(where, "defaults must be a table of values by name")
  end
  local template = {
    name = name, where = where, platforms = {}, names = {}, env = options.env or EMPTY,
    defaults = own_defaults(definition.defaults), most = options.most or MOST_BYTES,
  }
  local special = {}
  for key, value in pairs(definition) do
    if type(value) == "table" and key ~= "defaults" and key ~= "origin" then
      check_definition(where .. ", " .. key, value, true, options)
      special[key] = true
    end
  end
  for platform in pairs(options.sinks or EMPTY) do
    special[platform] = true
  end
  template.base = compile_entry(template, definition, nil, options)
  for _, platform in ipairs(schema.names(special)) do
    template.platforms[platform] = compile_entry(template, definition, platform, options)
  end
  return template
end

-- The variables that a template reads, in order: { name, part, line, place }; each once for each line.
function M.names(template)
  local list, seen = {}, {}
  for _, each in ipairs(template.names) do
    local key = each.place .. "\0" .. each.name
    if not seen[key] then
      seen[key] = true
      list[#list + 1] = each
    end
  end
  return list
end

-------------------------------------------------------------------- rendering

-- A template that only says what the message has: true, title, body and format, or false where render has to be asked. Runs
-- no code of the rules and changes nothing.
function M.direct(template, message, platform)
  local entry = template.platforms[platform] or template.base
  local run, variables, most = entry.direct, message.variables or EMPTY, template.most
  local done, title, body
  if entry.compares then -- perhaps a text with a number, which is an error
    local ok
    ok, done, title, body = pcall(run, message, variables)
    done = ok and done
  elseif run then
    done, title, body = run(message, variables)
  end
  if not done or title and (#title > most or not script.is_line(title)) or body and #body > most then
    return false
  end
  return true, title, body, entry.format
end

local function run(rendering, part)
  local message = rendering.message
  rendering.part, rendering.marks, rendering.size = part, part.marks, 0
  local out = part.collects and {} or nil
  local globals = (part.scoped or part.statements) and scope.scope(rendering) or nil
  local made = part.run(rendering, message.variables or EMPTY, message, out, globals)
  made = made or table.concat(out)
  if #made > rendering.most then
    error(scope.TOO_LARGE, 0)
  end
  return made
end

local function run_both(rendering, entry)
  local title, body = entry.title, entry.body
  title = title and run(rendering, title)
  if title and not script.is_line(title) then
    title = title:gsub("%s*[\r\n]+%s*", " ")
  end
  return title, body and run(rendering, body)
end

-- An error while rendering → problem, code.
local function explain(rendering, problem)
  local name = rendering.template.name
  if problem == scope.TOO_LARGE then
    return ("template '%s': the text is longer than %d bytes: a loop that never ends, or too much put in"):format(name,
      rendering.most), "script"
  elseif type(problem) == "table" and type(problem.message) == "string" then
    return ("template '%s': %s"):format(name, problem.message), problem.code or "script"
  end
  local found, rest = code.translate(rendering.part.lines, problem)
  local mark = rendering.marks[rendering.at]
  if found and not (mark and mark.origin == found.origin and mark.line == found.line) then
    return ("%s: %s"):format(scope.told(found), rest), "script"
  end
  return mark and ("%s: %s in %s"):format(scope.told(mark), rest, mark.what) or ("template '%s': %s"):format(name, rest), "script"
end

-- { title, body, format } and a list of warnings or nil; or nil, problem, code. A part that the template does not have is nil:
-- the message's own stands. May run the rules' own code: call it under their limits.
function M.render(template, message, platform)
  local entry = template.platforms[platform] or template.base
  local rendering = { -- with all that every rendering gets: a table that grows costs more than the rest of this
    message = message, template = template, most = template.most, size = 0, part = false, marks = false, at = false,
  }
  local ok, title, body = pcall(run_both, rendering, entry)
  if not ok then
    return nil, explain(rendering, title)
  end
  return { title = title, body = body, format = entry.format }, rendering.warnings
end

return M
