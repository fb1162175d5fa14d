-- A value that a template puts into a text: wherever it lands, a reader sees the value and nothing becomes of it.

local escape = require "template_escape"
local markdown = require "markdown"
local template = require "template"
local script = require "script"

local ESCAPE, PLACES = escape.escape, escape.places
local ENTITIES = { amp = "&", lt = "<", gt = ">", quot = '"', ["#39"] = "'", apos = "'" }
local ZERO_WIDTH = "\u{200B}"

local function unescape_html(s)
  return (s:gsub("&([#%w]+);", function(name) return ENTITIES[name] end))
end

-- Text for HTML: no mark is left, and it reads as it was.
local function html(value)
  local made = ESCAPE.html(value)
  assert(not made:find("[<>\"']"), "html: " .. made)
  assert(unescape_html(made) == value, "html reads otherwise: " .. made)
end

local function slack(value)
  local made = ESCAPE.slack(value)
  assert(not made:find("[<>]"), "slack: " .. made)
  assert(not made:gsub("&amp;", ""):gsub("&lt;", ""):gsub("&gt;", ""):find("&", 1, true), "slack: " .. made)
  assert(made:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&amp;", "&") == value, "slack reads otherwise: " .. made)
end

local function telegram(value)
  local made = ESCAPE.telegram(value)
  assert(made:gsub("\\(%p)", "%1") == value, "telegram reads otherwise: " .. made)
  assert(not made:gsub("\\%p", ""):find("[_*%[%]()~`>#+=|{}.!\\-]"), "telegram: " .. made)
end

local CROWDS = { everyone = true, here = true, channel = true, all = true }

local function chat(value)
  local made = ESCAPE.chat(value)
  assert(made:gsub(ZERO_WIDTH, "") == value:gsub(ZERO_WIDTH, ""), "chat reads otherwise: " .. made)
  for before, name in (" " .. made):gmatch("(.)@(%a+)") do
    assert(before:find("[%w.]") or not CROWDS[name:lower()], "chat calls everyone: " .. made)
  end
end

local function feishu(value)
  local made = ESCAPE.feishu(value)
  assert(not made:lower():find("</?at[ >/]"), "feishu: " .. made)
  assert(made:gsub(ZERO_WIDTH, "") == value:gsub(ZERO_WIDTH, ""), "feishu reads otherwise: " .. made)
end

-- Blanks are no part of what markdown promises: ends of lines, indents and runs of them may change.
local function words(s)
  return (s:gsub(ZERO_WIDTH, ""):gsub("\u{A0}", " "):gsub("%s+", ""))
end

-- What markdown itself does not let through.
local function is_readable(value)
  return utf8.len(value) and not value:find("\0", 1, true)
end

-- As CommonMark reads it: paragraphs with line breaks, in which there is nothing but the text.
local function in_markdown(source, value, what)
  local made = markdown.to_html(source)
  local text = made:gsub("</?p>", ""):gsub("<br>\n?", "\n")
  assert(not text:find("[<>]"), what .. " makes something of a value: " .. source .. " → " .. made)
  assert(words(unescape_html(text)) == words(value), what .. " reads otherwise: " .. source .. " → " .. made)
end

local function markdowns(value)
  if not is_readable(value) then
    return
  end
  in_markdown(PLACES.markdown.text(value), value, "markdown")
  in_markdown("so " .. PLACES.markdown.inline(value) .. " it is", "so " .. value .. " it is", "markdown inline")
end

local function addresses(value)
  for name, place in pairs { query = PLACES.html.query, path = PLACES.html.path, rest = PLACES.html.rest } do
    local made = place(value)
    assert(not made:find("[%c%s\"'<>\\^`{|}]"), name .. ": " .. made)
  end
  assert(not PLACES.html.rest(value):find(":", 1, true), "rest begins a scheme")
  assert(not PLACES.html.path(value):find("[?#]"), "path ends")
  assert(not PLACES.html.query(value):find("[^%w._~%%-]"), "query")
  local whole = PLACES.html.url(value)
  assert(not whole:find("[%c%s\"'<>\\^`{|}]"), "url: " .. whole)
  local scheme = whole:match("^(%a[%w+.-]*):")
  assert(not scheme or ({ http = true, https = true, mailto = true, tel = true })[scheme:lower()], "url: " .. whole)
  assert(not PLACES.html.css(value):find("[;:{}()<>\"'\\/@]"), "css")
end

-- All of the way: a template whose places were found by reading it.
local made = template.compile("page", {
  format = "html", body = '<p class="{{ v }}" style="color: {{ v }}"><a href="{{ v }}">{{ v }}</a>'
    .. '<img src="https://example.com/{{ v }}?a={{ v }}"><!-- {{ v }} --></p>',
}, { load = script.compile, env = {} })

local function page(value)
  local text, problem = template.render(made, { variables = { v = value } })
  assert(text, problem)
  local body = text.body
  assert(select(2, body:gsub("<", "")) == 6 and select(2, body:gsub(">", "")) == 6, "page: " .. body)
  assert(select(2, body:gsub('"', "")) == 8, "page: " .. body)
end

return function(value)
  html(value)
  slack(value)
  telegram(value)
  chat(value)
  feishu(value)
  markdowns(value)
  addresses(value)
  page(value)
end
