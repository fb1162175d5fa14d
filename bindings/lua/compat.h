/* compat.h — one face for the C interfaces of Lua 5.1, LuaJIT, 5.3 and 5.4.
 *
 * Only what this module uses and what differs. The 5.1 build keeps to what PUC Lua 5.1 exports, so
 * that the same shared object serves LuaJIT.
 */
#ifndef NHL_COMPAT_H
#define NHL_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* A full userdata with room for one Lua table (nhl_set_owner). [-0, +1] */
static inline void *nhl_new_userdata(lua_State *L, size_t size) {
#if LUA_VERSION_NUM >= 504
    return lua_newuserdatauv(L, size, 1);
#else
    return lua_newuserdata(L, size);
#endif
}

/* Makes the table on top the owner of the userdata at `index`, which keeps it alive. [-1, +0] */
static inline void nhl_set_owner(lua_State *L, int index) {
#if LUA_VERSION_NUM >= 504
    lua_setiuservalue(L, index, 1);
#elif LUA_VERSION_NUM >= 502
    lua_setuservalue(L, index);
#else
    lua_setfenv(L, index);
#endif
}

/* [-0, +1] */
static inline void nhl_push_owner(lua_State *L, int index) {
#if LUA_VERSION_NUM >= 504
    lua_getiuservalue(L, index, 1);
#elif LUA_VERSION_NUM >= 502
    lua_getuservalue(L, index);
#else
    lua_getfenv(L, index);
#endif
}

/* The userdata at `index` when it is one of the type `name`, else NULL. [-0, +0] */
static inline void *nhl_test_userdata(lua_State *L, int index, const char *name) {
#if LUA_VERSION_NUM >= 502
    return luaL_testudata(L, index, name);
#else
    void *found = lua_touserdata(L, index);
    if (!found || !lua_getmetatable(L, index))
        return NULL;
    luaL_getmetatable(L, name);
    if (!lua_rawequal(L, -1, -2))
        found = NULL;
    lua_pop(L, 2);
    return found;
#endif
}

/* Adds functions to the table on top. [-0, +0] */
static inline void nhl_set_functions(lua_State *L, const luaL_Reg *functions) {
#if LUA_VERSION_NUM >= 502
    luaL_setfuncs(L, functions, 0);
#else
    luaL_register(L, NULL, functions);
#endif
}

static inline size_t nhl_raw_length(lua_State *L, int index) {
#if LUA_VERSION_NUM >= 502
    return (size_t)lua_rawlen(L, index);
#else
    return lua_objlen(L, index);
#endif
}

/* Whether the number at `index` is an integer. Lua 5.1 has no integers: there a number with an
 * integral value that a double holds exactly is one. */
static inline bool nhl_integer(lua_State *L, int index, int64_t *integer) {
#if LUA_VERSION_NUM >= 503
    if (!lua_isinteger(L, index))
        return false;
    *integer = lua_tointeger(L, index);
    return true;
#else
    double number = lua_tonumber(L, index);
    if (!(fabs(number) <= 9007199254740992.0) || floor(number) != number)
        return false;
    *integer = (int64_t)number;
    return true;
#endif
}

/* Lets the collector work as if Lua had allocated these kilobytes, unless it is stopped (which 5.1
 * cannot tell). Finalizers may run. [-0, +0] */
static inline void nhl_collect_for(lua_State *L, int kilobytes) {
#if LUA_VERSION_NUM >= 502
    if (!lua_gc(L, LUA_GCISRUNNING, 0))
        return;
#endif
    lua_gc(L, LUA_GCSTEP, kilobytes);
}

/* [-0, +1] */
static inline void nhl_push_integer(lua_State *L, int64_t integer) {
#if LUA_VERSION_NUM >= 503
    lua_pushinteger(L, integer);
#else
    lua_pushnumber(L, (double)integer);
#endif
}

#endif
