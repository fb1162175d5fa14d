/* pattern_fuzz.c — "pattern\nreplacement\nsubject": the bounded string functions give what Lua's
 * own give, results and errors, or say that their steps are used up. */
#include <lauxlib.h>
#include <lualib.h>

#include "runtime/script/bounded.h"
#include "runtime/script/limit.h"
#include "spec/fuzz/fuzz.h"

/* So few steps that Lua's own matcher comes to an end wherever ours does. */
enum { STEPS = 20000 };

static nh_limiter limiter;

/* Runs a call of both libraries and compares all that comes of them: returns true, or nil and both.
 */
static const char comparison[] =
    "local theirs, ours, pattern, replacement, subject = ...\n"
    "local function told(...)\n"
    "  local list = table.pack(...)\n"
    "  for i = 1, list.n do list[i] = math.type(list[i]) or type(list[i]) .. ':' .. "
    "tostring(list[i]) end\n"
    "  return table.concat(list, '\\0'), ...\n"
    "end\n"
    "local function all(lib)\n"
    "  local list = {}\n"
    "  for a, b, c in lib.gmatch(subject, pattern) do\n"
    "    list[#list + 1] = told(a, b, c)\n"
    "    if #list == 100 then break end\n"
    "  end\n"
    "  return table.concat(list, '\\1')\n"
    "end\n"
    "local calls = {\n"
    "  function(lib) return lib.find(subject, pattern) end,\n"
    "  function(lib) return lib.find(subject, pattern, -3) end,\n"
    "  function(lib) return lib.find(subject, pattern, 2, true) end,\n"
    "  function(lib) return lib.match(subject, pattern) end,\n"
    "  function(lib) return lib.match(subject, pattern, 3) end,\n"
    "  function(lib) return lib.gsub(subject, pattern, replacement, 50) end,\n"
    "  function(lib) return lib.gsub(subject, pattern, function(a) return a ~= 'a' and a end, 50) "
    "end,\n"
    "  function(lib) return lib.gsub(subject, pattern, { a = 'b', [''] = 'c' }, 50) end,\n"
    "  all,\n"
    "}\n"
    "for i, call in ipairs(calls) do\n"
    "  local mine = told(pcall(call, ours))\n"
    "  if not mine:find('limits.pattern_steps', 1, true) then\n"
    "    local other = told(pcall(call, theirs))\n"
    "    if mine ~= other then return nil, i, mine, other end\n"
    "  end\n"
    "end\n"
    "return true\n";

static lua_State *make_state(void) {
    nh_limits limits = NH_LIMITS_DEFAULT;
    limits.pattern_steps = STEPS;
    nh_limiter_init(&limiter, &limits);
    lua_State *L = lua_newstate(nh_limiter_alloc, &limiter);
    MUST(L);
    luaL_openlibs(L);
    lua_getglobal(L, "string");
    lua_setglobal(L, "theirs");
    luaopen_string(L);
    nh_bound_string(L);
    lua_setglobal(L, "ours");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L); /* so that errors name the functions of both in the same way */
    lua_setfield(L, -2, "string");
    lua_pop(L, 1);
    /* The methods of strings, which the comparison itself uses, stay Lua's. */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_getglobal(L, "theirs");
    lua_setfield(L, -2, "__index");
    lua_settop(L, 0);
    MUST(luaL_loadstring(L, comparison) == LUA_OK);
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lua_State *L;
    enum { LONGEST = 512 }; /* Lua's own may take the square of the subject */
    fuzz_part rest = {(const char *)data, size < LONGEST ? size : LONGEST};
    if (!L)
        L = make_state();
    lua_pushvalue(L, 1);
    lua_getglobal(L, "theirs");
    lua_getglobal(L, "ours");
    for (int i = 0; i < 3; i++) {
        fuzz_part part = i < 2 ? fuzz_take(&rest, '\n') : rest;
        lua_pushlstring(L, part.bytes, part.length);
    }
    if (lua_pcall(L, 5, LUA_MULTRET, 0) != LUA_OK || !lua_toboolean(L, 2)) {
        for (int i = 2; i <= lua_gettop(L); i++)
            fprintf(stderr, "%s\n", luaL_tolstring(L, i, NULL)), lua_pop(L, 1);
        abort();
    }
    lua_settop(L, 1);
    return 0;
}
