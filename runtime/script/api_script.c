/* api_script.c — the module `script`: what lib/rules needs to load a folder of rules and to run
 * what is in it safely. Rules do not see it.
 *
 *   names()                  the folder's scripts in the order in which they run, and its tests
 *   load(name, env)          a script's function, with env as its globals
 *   compile(text, chunk, env) text, never byte code, as a function; or nil, message
 *   templates()              { file name = text }
 *   problems()               what was wrong when the folder was read, for lib/tools
 *   environment()            a fresh sandbox's globals
 *   freeze(table, name)      a read-only view
 *   guard(f, ...)            true and what f returns; or false, error, kind, traceback
 *   unguard(f, ...)          the runtime's own code, called by a script, without its limits
 *   plain(value, keep)       a copy of a value that a script made, all the way down and without
 *                            metatables; tables that are keys of `keep` stay what they are
 *   clone(table, more)       a copy of the table itself, with room for `more` fields
 *   texts(...)               its arguments, texts, numbers and booleans, as a person reads them; or
 *                            nothing, when one of them is something else
 *   is_line(text)            whether it has no line's end in it
 *   lacks(table, ...)        whether the table has none of the keys, nor a metatable that may
 * answer allowed(name)            a module that the operator allows; or nil, message env(name) an
 * environment variable; or nil log(level, event, text) where(level)             "file:line: " of
 * who called folder(), generation()
 */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/script/file.h"
#include "runtime/script/sandbox.h"
#include "runtime/script/value.h"
#include "runtime/script/vm.h"

int luaopen_cjson(lua_State *L);

static const nh_rules *rules_of(lua_State *L) {
    const nh_generation *generation = nh_vm_of(L)->setup.generation;
    return generation ? generation->rules : NULL;
}

static bool is_test(const char *name) {
    size_t length = strlen(name);
    return length >= 5 && strcmp(name + length - 5, "_test") == 0;
}

static int names(lua_State *L) {
    const nh_rules *rules = rules_of(L);
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; rules && i < nh_bundle_count(nh_rules_scripts(rules)); i++) {
        const char *name = nh_bundle_name(nh_rules_scripts(rules), i);
        int list = is_test(name) ? -2 : -3;
        if (strchr(name, '.') && !is_test(name))
            continue; /* a module of a subfolder: a require runs it */
        lua_pushstring(L, name);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    }
    return 2;
}

static int load_script(lua_State *L) {
    const nh_rules *rules = rules_of(L);
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    if (!rules || !nh_bundle_load(nh_rules_scripts(rules), L, name))
        return 0;
    lua_pushvalue(L, 2);
    lua_setupvalue(L, -2, 1);
    return 1;
}

static int compile(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    const char *chunk = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (luaL_loadbufferx(L, text, length, chunk, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, 3);
    if (!lua_setupvalue(L, -2, 1))
        lua_pop(L, 1);
    return 1;
}

static int problems(lua_State *L) {
    const nh_problems *found = nh_vm_of(L)->setup.problems;
    lua_newtable(L);
    for (size_t i = 0; found && i < found->count; i++) {
        lua_pushstring(L, found->lines[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int templates(lua_State *L) {
    const nh_rules *rules = rules_of(L);
    if (rules)
        nh_rules_push_templates(rules, L);
    else
        lua_newtable(L);
    return 1;
}

static int environment(lua_State *L) {
    nh_sandbox_environment(L);
    return 1;
}

static int freeze(lua_State *L) {
    const char *name = luaL_checkstring(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, 1);
    nh_sandbox_freeze(L, name);
    return 1;
}

/* ------------------------------------------------------------- what rules hand over */

enum { PLAIN_DEPTH = 64, PLAIN_NODES = 100000 };

static void copy_plain(lua_State *L, int keep, int depth, int *nodes);

/* Puts a copy of a table with so many pairs, which stand above it, in its place [-2 * count, +0].
 */
static void copy_pairs(lua_State *L, int from, int count, int keep, int depth, int *nodes) {
    lua_createtable(L, 0, count);
    int copy = lua_gettop(L);
    for (int pair = from + 1; pair < copy; pair += 2) {
        lua_pushvalue(L, pair);
        lua_pushvalue(L, pair + 1);
        copy_plain(L, keep, depth + 1, nodes);
        lua_rawset(L, copy);
    }
    lua_replace(L, from);
    lua_settop(L, from);
}

/* Copies the value on top [-1, +1]. What a script gives may call the script when it is read, and
 * may be changed by it later: what is kept must be a copy that does neither. Upvalue-free and raw.
 */
static void copy_plain(lua_State *L, int keep, int depth, int *nodes) {
    int type = lua_type(L, -1);
    if (type == LUA_TFUNCTION || type == LUA_TTHREAD || type == LUA_TUSERDATA)
        luaL_error(L, "a %s cannot be part of a message or a target", lua_typename(L, type));
    if (type != LUA_TTABLE)
        return;
    lua_pushvalue(L, -1);
    bool kept = keep && lua_rawget(L, keep) != LUA_TNIL;
    lua_pop(L, 1);
    if (kept)
        return;
    if (depth == PLAIN_DEPTH || ++*nodes > PLAIN_NODES)
        luaL_error(L, "a message or a target is nested deeper than %d tables, or has more than %d",
                   PLAIN_DEPTH, PLAIN_NODES);
    luaL_checkstack(L, 8, NULL);
    nh_limiter_charge(L, 100);
    int from = lua_gettop(L);
    size_t count;
    if (nh_push_pairs(L, from, &count)) {
        copy_pairs(L, from, (int)count, keep, depth, nodes);
        return;
    }
    nh_push_sized_like(L, from, 0);
    for (lua_pushnil(L); lua_next(L, from);) {
        if (lua_type(L, -2) != LUA_TSTRING && lua_type(L, -2) != LUA_TNUMBER)
            luaL_error(L, "a %s cannot be a key of a message or a target", luaL_typename(L, -2));
        copy_plain(L, keep, depth + 1, nodes);
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, from + 1);
    }
    if (nh_is_marked_array(L, from))
        nh_mark_array(L, from + 1);
    lua_replace(L, from);
}

static int plain(lua_State *L) {
    int nodes = 0;
    luaL_checkany(L, 1);
    lua_settop(L, 2);
    int keep = lua_istable(L, 2) ? 2 : 0;
    lua_pushvalue(L, 1);
    copy_plain(L, keep, 0, &nodes);
    return 1;
}

static int clone(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    nh_push_sized_like(L, 1, (int)luaL_checkinteger(L, 2));
    for (lua_pushnil(L); lua_next(L, 1);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, 3);
    }
    return 1;
}

/* ----------------------------------------------------------------- for templates */

/* Most numbers of a message are small and whole: Lua asks snprintf for each. */
static void push_digits(lua_State *L, lua_Integer number) {
    char text[24], *at = text + sizeof text;
    lua_Unsigned rest = number < 0 ? 0u - (lua_Unsigned)number : (lua_Unsigned)number;
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    lua_pushlstring(L, at, (size_t)(text + sizeof text - at));
}

/* As template_filters.show. */
static int texts(lua_State *L) {
    int count = lua_gettop(L);
    char text[64];
    for (int i = 1; i <= count; i++) {
        switch (lua_type(L, i)) {
        case LUA_TSTRING:
            continue;
        case LUA_TNUMBER:
            if (lua_isinteger(L, i)) {
                push_digits(L, lua_tointeger(L, i));
                break;
            }
            snprintf(text, sizeof text, "%.14g", lua_tonumber(L, i));
            lua_pushstring(L, text);
            break;
        case LUA_TBOOLEAN:
            lua_pushstring(L, lua_toboolean(L, i) ? "true" : "false");
            break;
        default:
            return 0;
        }
        lua_replace(L, i);
    }
    return count;
}

static int is_line(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    lua_pushboolean(L, !memchr(text, '\n', length) && !memchr(text, '\r', length));
    return 1;
}

static int lacks(lua_State *L) {
    int count = lua_gettop(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    bool none = !lua_getmetatable(L, 1);
    for (int i = 2; none && i <= count; i++) {
        lua_pushvalue(L, i);
        none = lua_rawget(L, 1) == LUA_TNIL;
        lua_pop(L, 1);
    }
    lua_pushboolean(L, none);
    return 1;
}

/* ------------------------------------------------------------ what rules may reach */

static bool is_listed(const nh_value *list, const char *name) {
    for (size_t i = 0; i < nh_value_count(list); i++) {
        size_t length;
        const char *each = nh_value_bytes(nh_value_at(list, i), &length);
        if (each && length == strlen(name) && memcmp(each, name, length) == 0)
            return true;
    }
    return false;
}

/* A Lua file of the system's path, run with the state's own globals: the operator trusts it.
 * Modules in C are not loaded: they would be linked to the host's Lua, which may be another one. */
static int load_module(lua_State *L, const char *name) {
    const char *template = LUA_PATH_DEFAULT;
    const char *place = luaL_gsub(L, name, ".", "/");
    nh_error error;
    for (const char *at = template; *at;) {
        size_t length = strcspn(at, ";"), size;
        lua_pushlstring(L, at, length);
        at += length + (at[length] == ';');
        const char *path = luaL_gsub(L, lua_tostring(L, -1), "?", place);
        if (*path != '/') /* nothing of the working directory */
            continue;
        const char *chunk = lua_pushfstring(L, "@%s", path);
        char *source = nh_file_read(path, NH_SCRIPT_BYTES_MAX, &size, &error);
        if (!source)
            continue;
        int status = luaL_loadbufferx(L, source, size, chunk, "t");
        free(source);
        if (status != LUA_OK)
            return lua_error(L);
        lua_pushstring(L, name);
        lua_call(L, 1, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "the module '%s' is allowed, but no Lua file of that name is installed",
                    name);
    return 2;
}

static int allowed(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    if (!is_listed(nh_value_get(nh_doc_root(nh_vm_of(L)->setup.config), "allow"), name))
        return 0;
    if (strcmp(name, "cjson") != 0)
        return load_module(L, name);
    luaL_requiref(L, "cjson", luaopen_cjson, 0);
    return 1;
}

static int env(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    if (!is_listed(nh_value_get(nh_doc_root(nh_vm_of(L)->setup.config), "env"), name))
        return luaL_error(
            L,
            "env: '%s' is not one of the variables that the configuration allows (env = { ... })",
            name);
    lua_pushstring(L, getenv(name));
    return 1;
}

/* --------------------------------------------------------------------- log */

static int write_log(lua_State *L) {
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const nh_log_level values[] = {NH_LOG_ERROR, NH_LOG_WARN, NH_LOG_INFO, NH_LOG_DEBUG};
    nh_log_level level = values[luaL_checkoption(L, 1, NULL, levels)];
    nh_vm_log(nh_vm_of(L), level, luaL_checkstring(L, 2), luaL_checkstring(L, 3));
    return 0;
}

static int where(lua_State *L) {
    luaL_where(L, (int)luaL_checkinteger(L, 1) + 1);
    return 1;
}

static int folder(lua_State *L) {
    const nh_rules *rules = rules_of(L);
    lua_pushstring(L, rules ? nh_rules_folder(rules) : NULL);
    return 1;
}

static int generation(lua_State *L) {
    const nh_generation *own = nh_vm_of(L)->setup.generation;
    lua_pushinteger(L, own ? (lua_Integer)own->number : 0);
    return 1;
}

int nh_open_script(lua_State *L) {
    static const luaL_Reg functions[] = {{"names", names},
                                         {"load", load_script},
                                         {"compile", compile},
                                         {"templates", templates},
                                         {"problems", problems},
                                         {"environment", environment},
                                         {"freeze", freeze},
                                         {"guard", nh_guard},
                                         {"unguard", nh_unguard},
                                         {"plain", plain},
                                         {"clone", clone},
                                         {"texts", texts},
                                         {"is_line", is_line},
                                         {"lacks", lacks},
                                         {"allowed", allowed},
                                         {"env", env},
                                         {"log", write_log},
                                         {"where", where},
                                         {"folder", folder},
                                         {"generation", generation},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
