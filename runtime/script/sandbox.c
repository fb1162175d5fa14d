/* sandbox.c — the libraries of a state, and the environment of rules.
 *
 * A read-only view is an empty table whose metatable leads to the real one. It is made once a state
 * for each library and shared by all environments, so nothing that rules are given writes to it:
 * not rawset, and no function of `table`, since those go through metamethods. The string metatable
 * is locked, and metatables that C code shares between objects are not shown.
 *
 * The environment costs a table of some thirty fields; a library function is found one lookup later
 * than in plain Lua.
 */
#include "runtime/script/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/script/bounded.h"
#include "runtime/script/limit.h"

enum {
    LOAD_BYTES_MAX = 64 << 10,
    LOAD_BYTE_UNITS = 100 /* what compiling a byte is charged */
};

static const char FROZEN[] = "notifyhub.frozen"; /* registry: library name → its view */
static char VIEW;                                /* key that marks the metatable of a view */

/* ------------------------------------------------------------------- views */

static int refuse_write(lua_State *L) {
    return luaL_error(L, "%s is read-only", lua_tostring(L, lua_upvalueindex(1)));
}

static int next_field(lua_State *L) {
    lua_settop(L, 2);
    lua_replace(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return lua_next(L, 1) ? 2 : 0;
}

static int all_fields(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, next_field, 1);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int field_count(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)lua_rawlen(L, lua_upvalueindex(1)));
    return 1;
}

void nh_sandbox_freeze(lua_State *L, const char *name) {
    luaL_checkstack(L, 4, NULL);
    lua_newtable(L);
    lua_createtable(L, 0, 6);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_pushcclosure(L, refuse_write, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, all_fields, 1);
    lua_setfield(L, -2, "__pairs");
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, field_count, 1);
    lua_setfield(L, -2, "__len");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushboolean(L, 1);
    lua_rawsetp(L, -2, &VIEW);
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

static bool is_view(lua_State *L, int index) {
    if (!lua_getmetatable(L, index))
        return false;
    bool is = lua_rawgetp(L, -1, &VIEW) != LUA_TNIL;
    lua_pop(L, 2);
    return is;
}

/* --------------------------------------------------------------- functions */

static int raw_set(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    if (is_view(L, 1))
        return luaL_error(L, "this table is read-only");
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

/* Hooks are off in finalizers, so a script may have none. */
static int set_metatable(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "a metatable of rules must not have __gc (use __close)");
        lua_settop(L, 2);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/* Whether the metatable on top was made by luaL_newmetatable: all objects of a kind share it. */
static bool is_shared(lua_State *L) {
    lua_pushliteral(L, "__name");
    if (lua_rawget(L, -2) == LUA_TSTRING) {
        lua_pushvalue(L, -1);
        lua_rawget(L, LUA_REGISTRYINDEX);
        bool is = lua_rawequal(L, -1, -3);
        lua_pop(L, 2);
        return is;
    }
    lua_pop(L, 1);
    return false;
}

static int get_metatable(lua_State *L) {
    luaL_checkany(L, 1);
    if (!lua_getmetatable(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    if (!lua_istable(L, 1) || is_shared(L)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    luaL_getmetafield(L, 1, "__metatable"); /* pushes nothing when there is none */
    return 1;
}

/* load(text [, name [, mode [, environment]]]); upvalue 1 is the environment of its folder. */
static int load_text(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    const char *name = luaL_optstring(L, 2, text);
    const char *mode = strchr(luaL_optstring(L, 3, "t"), 't') ? "t" : "";
    char most[32];
    if (length > LOAD_BYTES_MAX) {
        lua_pushnil(L);
        lua_pushfstring(L, "the chunk has more than %s", nh_limit_bytes(most, LOAD_BYTES_MAX));
        return 2;
    }
    nh_limiter_charge(L, length * LOAD_BYTE_UNITS);
    if (luaL_loadbufferx(L, text, length, name, mode) != LUA_OK) {
        nh_limiter_caught(L);
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, lua_isnone(L, 4) ? lua_upvalueindex(1) : 4);
    if (!lua_setupvalue(L, -2, 1))
        lua_pop(L, 1);
    return 1;
}

/* --------------------------------------------------------------- libraries */

static const luaL_Reg libraries[] = {
    {LUA_GNAME, luaopen_base},       {LUA_COLIBNAME, luaopen_coroutine},
    {LUA_TABLIBNAME, luaopen_table}, {LUA_STRLIBNAME, luaopen_string},
    {LUA_MATHLIBNAME, luaopen_math}, {LUA_UTF8LIBNAME, luaopen_utf8},
    {LUA_OSLIBNAME, luaopen_os},     {NULL, NULL}};

static void open_libraries(lua_State *L) {
    static const char *const gone[] = {"dofile", "loadfile", "load", "collectgarbage", NULL};
    for (const luaL_Reg *library = libraries; library->name; library++) {
        luaL_requiref(L, library->name, library->func, 1);
        lua_pop(L, 1);
    }
    for (const char *const *name = gone; *name; name++) {
        lua_pushnil(L);
        lua_setglobal(L, *name);
    }
}

static void bound_libraries(lua_State *L) {
    static const struct {
        const char *name;
        void (*bound)(lua_State *);
    } bounds[] = {{LUA_STRLIBNAME, nh_bound_string},
                  {LUA_TABLIBNAME, nh_bound_table},
                  {LUA_COLIBNAME, nh_bound_coroutine},
                  {LUA_UTF8LIBNAME, nh_bound_utf8},
                  {LUA_OSLIBNAME, nh_bound_os}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        lua_getglobal(L, bounds[i].name);
        bounds[i].bound(L);
        lua_pop(L, 1);
    }
}

static void lock_strings(lua_State *L) {
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

/* Rules seed a random generator of their own. */
static void open_rules_math(lua_State *L) {
    lua_pushcfunction(L, luaopen_math);
    lua_call(L, 0, 1);
}

static void freeze_libraries(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, FROZEN);
    for (const luaL_Reg *library = libraries + 1; library->name; library++) {
        if (library->func == luaopen_math)
            open_rules_math(L);
        else
            lua_getglobal(L, library->name);
        nh_sandbox_freeze(L, library->name);
        lua_setfield(L, -2, library->name);
    }
    lua_pop(L, 1);
}

void nh_sandbox_open(lua_State *L) {
    open_libraries(L);
    bound_libraries(L);
    lock_strings(L);
    freeze_libraries(L);
}

/* ------------------------------------------------------------- environment */

void nh_sandbox_environment(lua_State *L) {
    static const char *const kept[] = {"assert",   "error",    "ipairs", "next",   "pairs",
                                       "rawequal", "rawget",   "rawlen", "select", "tostring",
                                       "type",     "_VERSION", NULL};
    static const luaL_Reg replaced[] = {{"getmetatable", get_metatable},
                                        {"setmetatable", set_metatable},
                                        {"rawset", raw_set},
                                        {"pcall", nh_pcall},
                                        {"xpcall", nh_xpcall},
                                        {NULL, NULL}};
    luaL_checkstack(L, 5, NULL);
    lua_createtable(L, 0, 64);
    int env = lua_gettop(L);
    for (const char *const *name = kept; *name; name++) {
        lua_getglobal(L, *name);
        lua_setfield(L, env, *name);
    }
    luaL_setfuncs(L, replaced, 0);
    lua_getglobal(L, "tonumber");
    nh_bound_by_length(L);
    lua_setfield(L, env, "tonumber");
    lua_pushvalue(L, env);
    lua_pushcclosure(L, load_text, 1);
    lua_setfield(L, env, "load");
    lua_pushvalue(L, env);
    lua_setfield(L, env, "_G");

    luaL_getsubtable(L, LUA_REGISTRYINDEX, FROZEN);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, env);
    }
    lua_pop(L, 1);
}
