-- What a rules file might try: a name and a chunk. Each must be stopped, by its limit or by an error of
-- its own, within the budget; `fine` marks those that may end well because the attack has no effect.
return {
  { "endless loop", "while true do end" },
  { "goto loop", "::again:: goto again" },
  { "endless numeric for", "for _ = 1, math.maxinteger do end" },
  { "pcall loop", "while true do pcall(function() while true do end end) end" },
  { "pcall that returns normally", "pcall(function() while true do end end) return 1" },
  { "pcall of pcall", "while true do pcall(pcall, pcall, pcall, function() while true do end end) end" },
  { "xpcall with a looping handler", "xpcall(error, function() while true do end end)" },
  { "xpcall of a loop with a looping handler",
    "xpcall(function() while true do end end, function() while true do end end)" },
  { "xpcall with a failing handler", "return xpcall(error, function() error 'again' end)", fine = true },
  { "child coroutine", "coroutine.resume(coroutine.create(function() while true do end end)) return 1" },
  { "coroutines in a loop", "while true do coroutine.wrap(function() end)() end" },
  { "coroutines in coroutines", [[
    local function nest(n) while true do if n > 0 then coroutine.wrap(nest)(n - 1) else return end end end nest(8)]] },
  { "coroutine that loops after its error", [[
    coroutine.wrap(function()
      local x <close> = setmetatable({}, { __close = function() while true do end end })
      while true do end
    end)()]] },
  { "close of a coroutine that loops", [[
    local co = coroutine.create(function()
      local x <close> = setmetatable({}, { __close = function() while true do end end })
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co) return 1]] },
  { "yielding coroutine", "for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end" },
  { "__close loop", [[
    local x <close> = setmetatable({}, { __close = function() while true do end end }) return 1]] },
  { "many __close loops", [[
    local function deep(n)
      local x <close> = setmetatable({}, { __close = function() while true do end end })
      if n > 0 then deep(n - 1) end
      while true do end
    end
    deep(100)]] },
  { "__gc", "setmetatable({}, { __gc = function() while true do end end })" },
  { "__index function", "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) return t[1]" },
  { "__index chain", [[
    local t = {} for _ = 1, 1e9 do t = setmetatable({}, { __index = t }) end return t.x]] },
  { "__newindex loop", [[
    local t = setmetatable({}, { __newindex = function(t, k, v) t[k + 1] = v end }) t[1] = 1]] },
  { "__concat loop", "local t = setmetatable({}, { __concat = function(a, b) return a .. b end }) return t .. t" },
  { "__eq loop", [[local m = { __eq = function(a, b) while true do end end }
    return setmetatable({}, m) == setmetatable({}, m)]] },
  { "__lt loop", [[local m = { __lt = function(a, b) return a < b end }
    return setmetatable({}, m) < setmetatable({}, m)]] },
  { "sort with an endless order", "table.sort({ 3, 1, 2 }, function() while true do end end)" },
  { "sort with an inconsistent order", [[
    local t = {} for i = 1, 20000 do t[i] = i end
    while true do pcall(table.sort, t, function() return true end) end]] },
  { "sort of a length that lies", [[
    table.sort(setmetatable({}, { __len = function() return 1e9 // 1 | 0 end, __index = rawlen }), rawequal)]] },
  { "sorts in a loop", [[
    local t = {} for i = 1, 100000 do t[i] = (i * 7919) % 100003 end
    while true do t[1] = t[1] + 1 table.sort(t) end]] },
  { "gsub callback", "return ('x'):gsub('x', function() while true do end end)" },
  { "gsub of callbacks", "while true do (('x'):rep(100000)):gsub('x', function() return 'y' end) end" },
  { "pattern of minus", "return ('a'):rep(400):find('a-a-a-a-a-a-b')" },
  { "pattern in a pcall loop", "while true do pcall(string.find, ('a'):rep(400), 'a-a-a-a-a-a-b') end" },
  { "nested quantifiers", "return ('a'):rep(5000):match('(a*)(a*)(a*)(a*)(a*)b')" },
  { "%b and %f", "while true do pcall(string.find, ('('):rep(50000), '%b().-%f[%a].-%b()') end" },
  { "plain find", "local s, p = ('a'):rep(1e6), ('a'):rep(5e5) .. 'b' while true do s:find(p, 1, true) end" },
  { "string.rep of a gigabyte", "return ('x'):rep(1 << 30)" },
  { "string.rep of nothing", "return (''):rep(math.maxinteger)", fine = true },
  { "string.rep in a loop", "while true do local s = ('x'):rep(1000000) end" },
  { "string doubling", "local s = 'x' while true do s = s .. s end" },
  { "string doubling in pcall", "while true do pcall(function() local s = 'x' while true do s = s .. s end end) end" },
  { "long strings", "local s = ('x'):rep(1000000) while true do local t = s .. 'y' end" },
  { "long strings as keys", "local s, t = ('x'):rep(1000000), {} for i = 1, 1e9 do local v = t[s .. i] end" },
  { "long strings as numbers", "local s = ('0'):rep(1000000) while true do local n = s | 0 end" },
  { "tonumber of long strings", "local s = ('0'):rep(1000000) while true do tonumber(s) end" },
  { "comparison of long strings", [[
    local a, b = ('x'):rep(1000000) .. 'a', ('x'):rep(1000000) .. 'b' while true do local n = a < b end]] },
  { "upper", "local s = ('x'):rep(1000000) while true do s:upper() end" },
  { "table doubling", "local t = {} while true do for i = 1, #t + 1 do t[#t + 1] = {} end end" },
  { "one large table", "local t = {} for i = 1, 1e9 do t[i] = i end" },
  { "kept garbage in pcall", "local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end" },
  { "format width", "return ('%99d'):rep(20000):format(table.unpack(setmetatable({}, { __index = rawlen }), 1, 7000))" },
  { "format of evil", [[
    local evil = setmetatable({}, { __tostring = function() while true do end end }) return ('%s'):format(evil)]] },
  { "format of much", "local s = ('x'):rep(1000000) return (('%s'):rep(200)):format(table.unpack({ s, s, s, s, s }))" },
  { "concat of a length that lies", [[
    return table.concat(setmetatable({}, { __len = function() return 100000000 end, __index = rawlen }))]] },
  { "concat of empty strings", [[
    return table.concat(setmetatable({}, { __len = function() return 1 << 60 end, __index = function() return '' end }))]] },
  { "concat of much", "local s = ('x'):rep(100000) local t = {} for i = 1, 100 do t[i] = s end return table.concat(t)" },
  { "move of a huge range", "table.move({}, 1, 1 << 40, 2)" },
  { "insert with a huge length", "table.insert(setmetatable({}, { __len = function() return 1 << 40 end }), 1, 1)" },
  { "remove with a huge length", "table.remove(setmetatable({}, { __len = function() return 1 << 40 end }), 1)" },
  { "unpack of a huge range", "return table.unpack({}, 1, 1e8)" },
  { "unpack in a loop", "local t = table.pack(('x'):byte(1, -1)) while true do table.unpack(t, 1, 7999) end" },
  { "byte of a long string", "return ('x'):rep(100000):byte(1, -1)" },
  { "huge varargs", [[
    local function grow(...) return grow(0, 0, 0, 0, 0, 0, 0, 0, ...) end
    return grow(table.unpack({}, 1, 7999))]] },
  { "string.unpack of much", "while true do string.unpack(('b'):rep(400000), ('x'):rep(400000)) end" },
  { "string.pack of much", "return string.pack('c1000000000', 'x')" },
  { "deep recursion", "local function f() return 1 + f() end return f()" },
  { "deep recursion through pcall", "local function f() return pcall(f) end return f()", fine = true },
  { "endless recursion through pcall", "local function f() while true do pcall(f) end end return f()" },
  { "tail calls", "local function f() return f() end return f()" },
  { "recursion in __index", "local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end return t.x" },
  { "recursion in __tostring", "local t = setmetatable({}, { __tostring = function(s) return tostring(s) end }) error(t)" },
  { "an error that loops as text", "error(setmetatable({}, { __tostring = function() while true do end end }))" },
  { "an error that is an error as text", "error(setmetatable({}, { __tostring = function(s) error(s) end }))" },
  { "an error with __index", "error(setmetatable({}, { __index = function() while true do end end }))" },
  { "a huge error", "error(('x'):rep(1000000))" },
  { "tostring of evil", "return tostring(setmetatable({}, { __tostring = function() return {} end }))" },
  { "load: deep nesting", "return assert(load('return ' .. ('('):rep(50000)))" },
  { "load: too large", "return assert(load('return ' .. ('x'):rep(100000)))" },
  { "load: huge tables", "while true do load('return {' .. ('1,'):rep(30000) .. '}') end" },
  { "load: labels", [[
    local t = {} for i = 1, 3000 do t[i] = 'goto a ::l' .. i .. '::' end
    t = table.concat(t, ' ') while true do load(t) end]] },
  { "load: byte code", "return assert(load('\\27Lua'))" },
  { "load of a loop", "load('while true do end')()" },
  { "utf8.len", "local s = ('\\xc3\\xa9'):rep(400000) while true do utf8.len(s) end" },
  { "utf8.codepoint", "return utf8.codepoint(('x'):rep(1000000), 1, -1)" },
  { "utf8.codes", "local f = utf8.codes('') while true do pcall(f, ('\\x80'):rep(1000000), 1) end" },
  { "utf8.offset", "local s = ('\\x80'):rep(1000000) while true do pcall(utf8.offset, s, 1, -1) pcall(utf8.offset, s, 1) end" },
  { "os.date", "return os.date(('%c'):rep(100000))" },
  { "os.date with a wrong conversion", "return os.date('%Ez')" },
  { "next over holes", "local t = {} for i = 1, 100000 do t[i .. ''] = i end for k in pairs(t) do t[k] = nil end while true do next(t) end" },
  { "dump", "return string.dump(function() end)" },
  { "collectgarbage", "while true do collectgarbage() end" },
  { "debug", "debug.sethook()" },
  { "os.exit", "os.exit(1)" },
  { "writing to a library", "string.upper = 1" },
  { "rawset on a library", "rawset(string, 'upper', 1)" },
  { "insert into a library", "table.insert(string, 1)" },
  { "another metatable for a library", "setmetatable(string, {})" },
  { "another method of strings", "('').upper = 1" },
  { "the string metatable", "getmetatable('').__index = {}" },
  { "require", "require 'main'" },
}
