-- text: small things done to UTF-8 text. All are linear in the length of the text and accept broken UTF-8, of which each
-- stray byte counts as one character.

local M = {}

-- The length in characters.
function M.length(s)
  local count, from = 0, 1
  while true do
    local n, bad = utf8.len(s, from)
    if n then
      return count + n
    end
    count = count + utf8.len(s, from, bad - 1) + 1
    from = bad + 1
    if from > #s then
      return count
    end
  end
end

-- The first byte after the character at `at`.
local function after(s, at)
  local byte = s:byte(at)
  local size = byte < 0x80 and 1 or byte >= 0xF0 and 4 or byte >= 0xE0 and 3 or byte >= 0xC2 and 2 or 1
  for next = at + 1, at + size - 1 do
    local continuation = s:byte(next)
    if not continuation or continuation < 0x80 or continuation > 0xBF then
      return next
    end
  end
  return at + size
end

-- At most `n` characters of it; where something is cut off the last one is "…".
function M.truncate(s, n)
  if #s <= n then
    return s
  end
  local at, keep = 1, 1
  for _ = 1, n do
    if at > #s then
      return s
    end
    keep, at = at, after(s, at)
  end
  if at > #s then
    return s
  end
  return s:sub(1, keep - 1) .. (n > 0 and "…" or "")
end

-- Shows control characters (C0, DEL, C1) instead of letting them act on a terminal or a log; keeps tabs and newlines.
function M.visible(s)
  s = s:gsub("\r\n", "\n")
  s = s:gsub("[\0-\8\11-\31\127]", function(c) return ("\\x%02x"):format(c:byte()) end)
  return (s:gsub("\xC2([\x80-\x9F])", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local HTML = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

function M.escape_html(s)
  return (s:gsub("[&<>\"']", HTML))
end

-- As escape_html, for XML 1.0: characters that XML cannot hold even escaped become U+FFFD.
function M.escape_xml(s)
  s = s:gsub("[\0-\8\11\12\14-\31]", "\u{FFFD}"):gsub("\u{FFFE}", "\u{FFFD}"):gsub("\u{FFFF}", "\u{FFFD}")
  return (s:gsub("[&<>\"']", HTML):gsub("\r", "&#13;"))
end

--------------------------------------------------------- HTML to plain text

local ENTITIES = {
  amp = "&", lt = "<", gt = ">", quot = '"', apos = "'", nbsp = "\u{A0}", copy = "©", reg = "®", trade = "™",
  hellip = "…", ndash = "–", mdash = "—", lsquo = "‘", rsquo = "’", ldquo = "“", rdquo = "”", laquo = "«", raquo = "»",
  bull = "•", middot = "·", euro = "€", pound = "£", yen = "¥", cent = "¢", sect = "§", deg = "°", times = "×",
  larr = "←", rarr = "→", shy = "", zwnj = "\u{200C}",
}

local function entity(name)
  local code = name:match("^#(%d+)$")
  code = code and tonumber(code) or tonumber(name:match("^#[xX](%x+)$") or "", 16)
  if code then
    local valid = code > 0 and code <= 0x10FFFF and not (code >= 0xD800 and code <= 0xDFFF)
    return valid and utf8.char(math.tointeger(code)) or "\u{FFFD}"
  end
  return ENTITIES[name]
end

local function unescape(s)
  return (s:gsub("&(#?%w%w?%w?%w?%w?%w?%w?%w?);", entity))
end

local SKIPPED = { script = true, style = true, head = true, title = true, template = true }

-- How many line ends stand at least before and after an element.
local BLOCKS = {
  p = 2, h1 = 2, h2 = 2, h3 = 2, h4 = 2, h5 = 2, h6 = 2, ul = 2, ol = 2, table = 2, blockquote = 2, pre = 2, hr = 2,
  div = 1, section = 1, article = 1, header = 1, footer = 1, li = 1, tr = 1, dt = 1, dd = 1, address = 1, body = 1,
}

-- Where the tag that begins at `at` ends: the ">" outside of quotes.
local function tag_end(s, at)
  local from = at + 1
  while true do
    local mark = s:find("[\"'>]", from)
    if not mark then
      return nil
    end
    local char = s:sub(mark, mark)
    if char == ">" then
      return mark
    end
    from = s:find(char, mark + 1, true)
    if not from then
      return s:find(">", mark, true) -- a quote that never ends is no quote
    end
    from = from + 1
  end
end

-- What a person would read: tags gone, blocks on lines of their own, list items marked, links with their addresses.
function M.strip_html(html)
  local out = {}
  local pending = 0 -- line ends that stand before the next word
  local space = false -- whether a space does
  local preformatted = 0 -- depth of <pre>
  local href, link_start -- of the link we are in: its address, and where its words begin in `out`

  local function put(s)
    if #out > 0 and out[#out] ~= "- " then
      if pending > 0 then
        out[#out + 1] = ("\n"):rep(math.min(pending, 2))
      elseif space then
        out[#out + 1] = " "
      end
    end
    out[#out + 1] = s
    pending, space = 0, false
  end

  local function words(s)
    if preformatted > 0 then
      if s ~= "" then
        put(unescape(s))
      end
      return
    end
    s = unescape((s:gsub("[ \t\r\n\f]+", " ")))
    local core = s:match("^ ?(.-) ?$")
    if core == "" then
      space = space or s ~= ""
      return
    end
    space = space or s:sub(1, 1) == " "
    put(core)
    space = s:sub(-1) == " "
  end

  local function link(tag, closing)
    if not closing then
      local value = tag:match("%f[%w][hH][rR][eE][fF]%s*=%s*(.+)$") or ""
      href = unescape(value:match('^"([^"]*)"') or value:match("^'([^']*)'") or value:match("^[^%s>]*"))
      link_start = #out
    elseif href then
      local label = table.concat(out, "", link_start + 1):match("^%s*(.-)%s*$")
      if href:find("^%a[%w+.-]*:") and not href:lower():find("^javascript:") and label ~= href
        and "mailto:" .. label ~= href then
        space = true
        put(label == "" and href or "(" .. href .. ")")
      end
      href = nil
    end
  end

  local skip_to = {} -- where a closing tag is known not to come any more, so that each is looked for once
  local lower = html:lower()
  local from = 1
  while from <= #html do
    local open = html:find("<[%a/!?]", from)
    words(html:sub(from, (open or #html + 1) - 1))
    if not open then
      break
    end
    if html:sub(open, open + 3) == "<!--" then
      local _, stop = html:find("-->", open + 4, true)
      from = (stop or #html) + 1
    else
      local stop = tag_end(html, open)
      if not stop then
        break
      end
      local closing, name = lower:match("^<(/?)([%w]*)", open)
      closing = closing == "/"
      from = stop + 1
      if SKIPPED[name] and not closing and not skip_to[name] then
        local _, over = lower:find("</" .. name, from, true)
        if over then
          from = (html:find(">", over, true) or #html) + 1
        else
          skip_to[name] = true
        end
      elseif name == "br" then
        pending, space = pending + 1, false
      elseif name == "a" then
        link(html:sub(open, stop), closing)
      elseif name == "img" and not closing then
        local alt = html:sub(open, stop):match('%f[%w][aA][lL][tT]%s*=%s*"([^"]*)"')
        if alt and alt ~= "" then
          put("[" .. unescape(alt) .. "]")
        end
      elseif name == "td" or name == "th" then
        space = true
      elseif BLOCKS[name] then
        pending, space = math.max(pending, BLOCKS[name]), false
        if name == "pre" then
          preformatted = math.max(0, preformatted + (closing and -1 or 1))
        elseif name == "li" and not closing then
          put("- ")
        elseif name == "hr" then
          put("---")
          pending = 2
        end
      end
    end
  end
  return table.concat(out):match("^%s*(.-)%s*$")
end

return M
