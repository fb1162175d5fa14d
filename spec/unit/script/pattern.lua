-- Compares two string libraries, Lua's and the bounded one, on random patterns and subjects: called
-- with both, a number of pairs and a seed; returns the number of calls that were compared, or nil and
-- the first difference.
local theirs, ours, pairs_wanted, seed = ...
math.randomseed(seed)
local random, concat = math.random, table.concat

local ALPHABET = { "a", "b", "c", "A", "1", " ", "-", "(", ")", "%", "x", "\0", ".", "\200", "]", "^" }
local LETTERS = { "a", "b", "c", "d", "g", "l", "p", "s", "u", "w", "x", "z", "A", "D", "S", "W", "Z", ".", "%", "]", "-", "q", "\0" }
local SUFFIXES = { "", "", "", "*", "+", "-", "?" }

local function pick(list) return list[random(#list)] end

local function text(most)
  local out = {}
  for i = 1, random(0, most) do out[i] = ALPHABET[random(random(3) == 1 and #ALPHABET or 3)] end
  return concat(out)
end

local function set()
  local out = { "[" }
  if random(3) == 1 then out[#out + 1] = "^" end
  for _ = 1, random(0, 3) do
    local kind = random(4)
    if kind == 1 then out[#out + 1] = "%" .. pick(LETTERS)
    elseif kind == 2 then out[#out + 1] = pick(ALPHABET) .. "-" .. pick(ALPHABET)
    else out[#out + 1] = pick(ALPHABET) end
  end
  if random(25) > 1 then out[#out + 1] = "]" end
  return concat(out)
end

local makers = {
  function() return ALPHABET[random(3)] end,
  function() return ALPHABET[random(3)] end,
  function() return pick(ALPHABET) end,
  function() return "." end,
  function() return "%" .. pick(LETTERS) end,
  set,
}

local function item(depth)
  local kind = random(22)
  if kind == 1 then return "()" end
  if kind == 2 and depth > 0 then
    local out = { "(" }
    for _ = 1, random(0, 3) do out[#out + 1] = item(depth - 1) end
    out[#out + 1] = random(20) > 1 and ")" or ""
    return concat(out)
  end
  if kind == 3 then return "%" .. random(0, 3) end
  if kind == 4 then return "%b" .. pick(ALPHABET) .. pick(ALPHABET) end
  if kind == 5 then return "%f" .. set() end
  if kind == 6 and random(6) == 1 then return pick { "$", "^", "%", "(", ")", "[", "%b", "%f", "%ba" } end
  return pick(makers)() .. pick(SUFFIXES)
end

local function pattern()
  local out = { random(6) == 1 and "^" or "" }
  for _ = 1, random(0, 5) do out[#out + 1] = item(2) end
  if random(8) == 1 then out[#out + 1] = "$" end
  return concat(out)
end

-- Everything that a call gives, as one string.
local function gather(...)
  local out = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    out[i] = math.type(value) or type(value)
    out[i] = out[i] .. ":" .. tostring(value)
  end
  return concat(out, "|")
end

local replacements = {
  "<%0>", "%1", "%2%%", "x", "%", "%q", "", "%3",
  function(a, b) return b or a and "[" .. tostring(a) .. "]" end,
  function() return false end,
  function() return {} end,
  setmetatable({}, { __index = function(_, key) return key ~= "a" and tostring(key) .. "!" or nil end }),
  { a = "AA", b = 7, [""] = "empty", [1] = "one" },
}

local function places() return random(4) == 1 and random(-12, 12) or nil end

local calls = {
  function(lib, s, p, at) return lib.find(s, p, at) end,
  function(lib, s, p, at, _, plain) return lib.find(s, p, at, plain) end,
  function(lib, s, p, at) return lib.match(s, p, at) end,
  function(lib, s, p, at)
    local out = {}
    for a, b, c in lib.gmatch(s, p, at) do out[#out + 1] = gather(a, b, c) end
    return concat(out, ";")
  end,
  function(lib, s, p, _, replacement, _, most) return lib.gsub(s, p, replacement, most) end,
}

local function compare(call, ...)
  local expected, got = gather(pcall(call, theirs, ...)), gather(pcall(call, ours, ...))
  if expected == got then return end
  return ("%s\n  Lua: %q\n  here: %q"):format(gather(...), expected, got)
end

local count = 0
for _ = 1, pairs_wanted do
  local s, p, at, most = text(24), pattern(), places(), places()
  local replacement, plain = pick(replacements), random(2) == 1
  for index, call in ipairs(calls) do
    local difference = compare(call, s, p, at, replacement, plain, most)
    if difference then return nil, "call " .. index .. ": " .. difference end
    count = count + 1
  end
end

-- What is not about patterns, with arguments from the edges.
local edges = { 0, 1, 2, 3, -1, -2, -3, 100, -100, math.maxinteger, math.mininteger }
local function try(name, ...)
  local difference = compare(function(lib, ...) return lib[name](...) end, ...)
  count = count + 1
  return difference and name .. ": " .. difference
end
for _, a in ipairs(edges) do
  for _, b in ipairs(edges) do
    local difference = try("byte", "abc", a, b) or try("byte", "", a, b) or try("find", "abc", "c", a, true)
      or try("byte", "abc", a) or try("match", "abc", ".", a)
      or (a <= 100 and (try("rep", "xy", a, ",") or try("rep", "", a))) or try("gsub", "aaa", "a", "b", a)
    if difference then return nil, difference end
  end
end
for _, name in ipairs { "find", "match", "gmatch", "gsub", "rep", "byte", "unpack", "packsize" } do
  local difference = try(name) or try(name, {}) or try(name, "x") or try(name, "x", {}) or try(name, 12, 1)
    or try(name, "x", "y", {}) or try(name, "aaa", "a", "a", "z") or try(name, "%", "%%")
  -- An iterator has no text to compare.
  if difference and not difference:find "function: " then return nil, difference end
end
for _, deep in ipairs { 100, 198, 199, 200, 201, 300 } do
  local difference = try("find", ("a"):rep(deep), ("a?"):rep(deep)) or try("match", "a", ("a*"):rep(deep))
    or try("match", ("a"):rep(50), ("(a)"):rep(deep // 4)) or try("match", "", ("()"):rep(33))
  if difference then return nil, difference end
end
return count
