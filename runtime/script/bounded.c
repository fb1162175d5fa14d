/* bounded.c — the smaller libraries: utf8 and os, and the wrapper for functions whose time goes
 * with the length of what they read. */
#include "runtime/script/bounded.h"

#include <lauxlib.h>

#include "runtime/script/limit.h"

enum { BYTE_UNITS = 4, DATE_FORMAT_MAX = 256 };

int nh_bound_original(lua_State *L) {
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int charged(lua_State *L) {
    size_t bytes = 0;
    for (int i = lua_gettop(L); i > 0; i--)
        if (lua_type(L, i) == LUA_TSTRING)
            bytes += lua_rawlen(L, i);
    nh_limiter_charge(L, bytes * BYTE_UNITS);
    return nh_bound_original(L);
}

void nh_bound_by_length(lua_State *L) {
    lua_pushcclosure(L, charged, 1);
}

/* Its iterator looks for the next character, which may be far away in what is not UTF-8. */
static int utf8_codes(lua_State *L) {
    int results = charged(L);
    lua_pushvalue(L, -results);
    nh_bound_by_length(L);
    lua_replace(L, -results - 1);
    return results;
}

static int os_date(lua_State *L) {
    size_t length;
    luaL_optlstring(L, 1, "%c", &length);
    luaL_argcheck(L, length <= DATE_FORMAT_MAX, 1, "format too long");
    return nh_bound_original(L);
}

static void replace(lua_State *L, const char *name, lua_CFunction function) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

void nh_bound_utf8(lua_State *L) {
    replace(L, "len", charged);
    replace(L, "offset", charged);
    replace(L, "codepoint", charged);
    replace(L, "codes", utf8_codes);
}

void nh_bound_os(lua_State *L) {
    static const char *const gone[] = {"execute", "exit",      "getenv",  "remove",
                                       "rename",  "setlocale", "tmpname", NULL};
    for (const char *const *name = gone; *name; name++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *name);
    }
    replace(L, "date", os_date);
}
