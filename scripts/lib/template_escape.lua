-- template_escape: makes a value harmless for the place where it lands.
--
-- A place is found when a template is compiled: a tracker reads the literal text before an expression and says what it
-- stands in (text, a quoted attribute, an address, code). Each place of each format has one function, string → string and
-- perhaps a problem; where none is needed there is none. Trackers read in the order of the text, whatever its statements do.

local text = require "text"

local M = {}

local find, gsub = string.find, string.gsub -- with patterns of our own only, all of which are linear

-- What needs no escape anywhere: letters, digits, spaces and , - . / : — ranges, as they are twice as fast as %w.
local PLAIN = "^[a-z,-: A-Z]*$"

-- Public: by name, for rules and for adapters. Each makes a string that the sink shows as it was.
M.escape = {}

function M.escape.html(s)
  return find(s, PLAIN) and s or text.escape_html(s)
end

function M.escape.text(s)
  return s
end

---------------------------------------------------------------- markdown

local ZERO_WIDTH = "\u{200B}"
local CROWDS = { everyone = true, here = true, channel = true, all = true }

local function break_crowd(before, name)
  return CROWDS[name:lower()] and before .. "@" .. ZERO_WIDTH .. name or nil
end

-- "@everyone" and its like with an invisible character in it: nobody is called, a person reads the same.
local function calm(s)
  if not find(s, "@", 1, true) then
    return s
  end
  return ((" " .. s):gsub("([^%w.])@(%a+)", break_crowd):sub(2))
end

-- Text for a chat that reads mentions out of plain text.
M.escape.chat = calm

-- Marks that make something of a line when they begin it. Spaces there would make code of it: they become ones that do not.
local function line_start(s)
  local spaces, rest = s:match("^([ \t]*)(.*)$")
  rest = rest:gsub("^[#+=-]", "\\%0"):gsub("^(%d+)([.)])", "%1\\%2")
  return spaces:gsub("\t", "    "):gsub(" ", "\u{A0}") .. rest
end

-- Marks that make something anywhere. Others (. ! ( ) inside of a line) are left alone: not every platform that calls its
-- text markdown knows the backslash.
local function markdown_inline(s)
  if find(s, PLAIN) then
    return s
  end
  s = gsub(gsub(calm(s), "[\\`*_%[%]<>&~|]", "\\%0"), "!$", "\\!")
  if find(s, "[\r\n]") then -- each of them alone ends a line, too
    s = s:gsub("\r\n?", "\n"):gsub("\n([^\n]+)", function(line) return "\n" .. line_start(line) end)
  end
  return s
end

function M.escape.markdown(s)
  s = markdown_inline(s)
  return find(s, "^[ \t#+=%d-]") and line_start(s) or s
end

-- Inside of backquotes a backslash is a backslash, so that a backquote can only be replaced.
local function markdown_code(s)
  return (s:gsub("`", "'"):gsub("%s*\n%s*", " "))
end

local function markdown_fence(s)
  return (s:gsub("```+", function(marks) return ("'"):rep(#marks) end)
    :gsub("~~~+", function(marks) return ("-"):rep(#marks) end))
end

--------------------------------------------------------- platforms' markup

local SLACK = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }

-- Slack's mrkdwn: <!channel>, <@U…> and <https://…|words> begin with one of these three.
function M.escape.slack(s)
  return (s:gsub("[&<>]", SLACK))
end

-- https://core.telegram.org/bots/api#markdownv2-style
function M.escape.telegram(s)
  return (s:gsub("[_*%[%]()~`>#+=|{}.!\\-]", "\\%0"))
end

-- Feishu's text knows tags and no escape for them: an invisible character makes what looks like one inert.
function M.escape.feishu(s)
  return (s:gsub("<(/?[aA][tT]%f[^%w])", "<" .. ZERO_WIDTH .. "%1"))
end

local CODE = { telegram = function(s) return (s:gsub("[`\\]", "\\%0")) end }

--------------------------------------------------------------- addresses

local SCHEMES = { http = true, https = true, mailto = true, tel = true }

local function percent(char)
  return ("%%%02X"):format(char:byte())
end

-- A whole address: what is no part of one is percent-encoded; a scheme that could run something makes it "#".
local function whole_url(s)
  s = s:match("^%s*(.-)%s*$")
  local scheme = s:gsub("[%c%s]", ""):match("^([^/?#]*):")
  if scheme and not SCHEMES[scheme:lower()] then
    return "#", "is no address that may be linked to (http, https, mailto or tel)"
  end
  return (s:gsub("[^%w%-._~:/?#%[%]@!$&*+,;=%%\128-\255]", percent))
end

-- What follows the "?" of an address; public too, for addresses that are put together in statements.
function M.escape.url(s)
  return (s:gsub("[^%w._~-]", percent))
end

local function url_path(s)
  return (s:gsub("[^%w%-._~/:@!$&*+,;=]", percent))
end

-- As the first thing after another value no colon: it could finish a scheme.
local function url_rest(s)
  return (s:gsub("[^%w%-._~/@!$&*+,;=]", percent))
end

-- Which of them, by what stands before in the same address; NUL stands for an expression.
local function url_place(before)
  if before == "" then
    return "url"
  elseif before:find("[?#]") then
    return "query"
  end
  return before:find("[:/]") and "path" or "rest"
end

local function css(s)
  if s:find("[^%w#., %%-]") then
    return "", "is no plain value of a style (letters, digits, # . , % -)"
  end
  return s
end

------------------------------------------------------------------- places

local function then_html(place)
  return function(s)
    local made, problem = place(s)
    return text.escape_html(made), problem
  end
end

M.places = {
  text = {},
  html = {
    text = M.escape.html, url = then_html(whole_url), query = M.escape.url, path = then_html(url_path),
    rest = then_html(url_rest), css = css,
  },
  markdown = {
    text = M.escape.markdown, inline = markdown_inline, code = markdown_code, fence = markdown_fence, url = whole_url,
    query = M.escape.url, path = url_path, rest = url_rest,
  },
}

-- The places of a platform that reads a format by its own rules. `sink` is a name of M.escape or a function.
function M.own_places(format, sink)
  local escape = M.escape[sink] or sink
  local places = { text = escape, inline = escape, code = CODE[sink] or escape, fence = CODE[sink] or escape }
  return setmetatable(places, { __index = M.places[format] })
end

---------------------------------------------------------------- trackers

local URLS = {
  href = true, src = true, action = true, formaction = true, cite = true, background = true, poster = true, data = true,
}
local REFUSED = { srcset = true, srcdoc = true }

local HTML = {}

function HTML.text(state, s, at)
  local open = s:find("<[%a/!]", at)
  if not open then
    return #s + 1
  elseif s:sub(open, open + 3) == "<!--" then
    state.mode = "comment"
    return open + 4
  end
  local slash, name = s:match("^<([/!]?)([%w:-]*)", open)
  state.mode, state.element, state.named = "tag", slash == "" and name:lower() or "", false
  return open + 1 + #slash + #name
end

function HTML.comment(state, s, at)
  local _, stop = s:find("-->", at, true)
  state.mode = stop and "text" or "comment"
  return (stop or #s) + 1
end

function HTML.tag(state, s, at)
  at = s:find("[^%s/]", at)
  if not at then
    return #s + 1
  end
  local char = s:sub(at, at)
  if char == ">" then
    state.mode = (state.element == "script" or state.element == "style") and "inner" or "text"
  elseif char == "=" and state.named then
    state.mode, state.named = "equals", false
  else
    local name = s:match("^=?[^%s/>=]*", at) -- one that begins with "=" is a name, too
    state.attribute, state.named = name:lower(), true
    return at + #name
  end
  return at + 1
end

function HTML.equals(state, s, at)
  at = s:find("%S", at)
  if not at then
    return #s + 1
  end
  state.quote = s:match("^[\"']", at)
  state.mode, state.value = "value", ""
  return state.quote and at + 1 or at
end

function HTML.value(state, s, at)
  local stop = s:find(state.quote or "[%s>]", at)
  state.value = state.value .. s:sub(at, (stop or #s + 1) - 1)
  if not stop then
    return #s + 1
  end
  state.mode = "tag"
  return state.quote and stop + 1 or stop
end

-- Inside of <script> or <style>.
function HTML.inner(state, s, at)
  local stop = s:lower():find("</" .. state.element, at, true)
  state.mode = stop and "text" or "inner"
  return stop or #s + 1
end

local function html_place(state)
  local mode = state.mode
  if mode == "text" or mode == "comment" then
    return "text"
  elseif mode == "inner" then
    return state.element == "style" and "css" or nil, "a script is no place for a value"
  elseif mode ~= "value" or not state.quote then
    return nil, "in a tag a value stands in quotes: name=\"{{ … }}\""
  end
  local before = state.value:match("^%s*(.-)$")
  local name = state.attribute
  if name:find("^on") or REFUSED[name] then
    return nil, ("the attribute %s is no place for a value"):format(name)
  end
  return name == "style" and "css" or URLS[name:match("[^:]*$")] and url_place(before) or "text"
end

local function html_tracker()
  local state = { mode = "text", element = "", value = "" }
  return {
    text = function(s)
      local at = 1
      while at <= #s do
        at = HTML[state.mode](state, s, at)
      end
    end,
    put = function()
      state.value = state.value .. "\0"
    end,
    statement = function() end,
    place = function() return html_place(state) end,
  }
end

-- Whether a code span is open at the end of this line.
local function in_code(line)
  local open, from = nil, 1
  while true do
    local first, last = line:find("`+", from)
    if not first then
      return open ~= nil
    end
    if not open and line:sub(first - 1, first - 1) ~= "\\" then
      open = last - first
    elseif open == last - first then
      open = nil
    end
    from = last + 1
  end
end

local DESTINATIONS = { "%]%(<?([^%s()<>]*)$", "^%s*%[[^%]]*%]:%s*<?([^%s<>]*)$" }

local function markdown_place(fence, line)
  if fence then
    return "fence"
  elseif in_code(line) then
    return "code"
  end
  for _, pattern in ipairs(DESTINATIONS) do
    local before = line:match(pattern)
    if before then
      return url_place(before)
    end
  end
  local angle = line:match("<([^%s<>]*)$")
  if angle and (angle == "" or angle:find("^%a[%w+.-]*:")) then
    return url_place(angle)
  end
  -- An expression before may be empty, and text before a statement be skipped: only words since the last one are sure.
  local starts = not line:find("[^%s\0\1>*+.)%d-][^\1]*$")
  return starts and "text" or "inline"
end

local function markdown_tracker()
  local line, fence = "", nil
  local function end_line()
    local mark = line:match("^[ \t>*+%d.)-]*(```+)") or line:match("^[ \t>*+%d.)-]*(~~~+)")
    if mark and not fence then
      fence = mark:sub(1, 1)
    elseif mark and fence == mark:sub(1, 1) then
      fence = nil
    end
    line = ""
  end
  return {
    text = function(s)
      for piece, stop in s:gmatch("([^\n]*)(\n?)") do
        line = line .. piece
        if stop ~= "" then
          end_line()
        end
      end
    end,
    put = function() line = line .. "\0" end,
    statement = function() line = line .. "\1" end,
    place = function() return markdown_place(fence, line) end,
  }
end

local function text_tracker()
  local function nothing() end
  return { text = nothing, put = nothing, statement = nothing, place = function() return "text" end }
end

-- What says where an expression of a text in this format stands: text(s), put(), statement() tell what was passed; place() is
-- a key of M.places, or nil and why nothing may stand there.
M.tracker = { text = text_tracker, html = html_tracker, markdown = markdown_tracker }

return M
