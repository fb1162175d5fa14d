/* api_store.c — the module `store`: the dictionary that all workers of the hub share.
 *
 *     store.get(key)                          value, or nil
 *     store.set(key, value [, life])          true; a nil value deletes
 *     store.add(key, value [, life])          true when the key was not there, else false
 *     store.delete(key)                       whether it was there
 *     store.incr(key [, by [, life]])         the new number
 *     store.cas(key, expected, value [, life])  whether it held `expected` (nil: was not there)
 *     store.push(key, value [, ttl])          how many items there are
 *     store.pop(key)  store.pop_all(key)  store.length(key)
 *     store.ttl(key)                          seconds left, math.huge, or nil
 *     store.keys([prefix [, most]])  store.stats()
 *
 * `life` is seconds to live, or {ttl = seconds, durable = true}. What may fail while all is right
 * with the script (a full store, a key of another kind) returns nil, message, code; misuse raises.
 *
 * A scratch state, which belongs to no hub, gets a dictionary of its own at the first call.
 * Nothing that C allocated is held while Lua may raise.
 */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/script/value.h"
#include "runtime/script/vm.h"
#include "runtime/store/shared.h"

enum { KEYS_DEFAULT = 1000 };

static nh_shared *shared_of(lua_State *L) {
    nh_vm *vm = nh_vm_of(L);
    if (vm->shared)
        return vm->shared;
    if (!vm->owned_shared)
        vm->owned_shared = nh_shared_create(NULL, NULL, NULL);
    if (!vm->owned_shared)
        nh_raise(L, "out of memory");
    return vm->owned_shared;
}

/* --------------------------------------------------------------- arguments */

/* The document of the value at `index`; raises for what none can be made of. NULL and an error when
 * memory is out. */
static nh_doc *make_doc(lua_State *L, int index, const char *what, nh_error *error) {
    nh_vm *vm = nh_vm_of(L);
    luaL_checkany(L, index);
    nh_writer_clear(vm->writer);
    nh_write_value(L, index, vm->writer, what);
    return nh_writer_finish(vm->writer, error);
}

/* The same, never NULL: raises for that, too. */
static nh_doc *check_doc(lua_State *L, int index, const char *what) {
    nh_error error;
    nh_doc *doc = make_doc(L, index, what, &error);
    if (!doc)
        nh_raise(L, "%s: %s", what, error.message);
    return doc;
}

/* Whether make_doc would raise: to be asked where it must not. */
static void check_writable(lua_State *L, int index, const char *what) {
    nh_writer_clear(nh_vm_of(L)->writer);
    nh_write_value(L, index, nh_vm_of(L)->writer, what);
}

static double check_ttl(lua_State *L, int index, int argument) {
    double ttl = lua_tonumber(L, index);
    luaL_argcheck(L, lua_type(L, index) == LUA_TNUMBER && ttl > 0, argument,
                  "ttl must be a number of seconds above 0");
    return ttl;
}

static nh_shared_life check_life(lua_State *L, int index) {
    nh_shared_life life = {0};
    if (lua_isnoneornil(L, index))
        return life;
    if (lua_type(L, index) == LUA_TNUMBER) {
        life.ttl = check_ttl(L, index, index);
        return life;
    }
    luaL_argcheck(L, lua_istable(L, index), index, "seconds or {ttl = …, durable = …} expected");
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        if (lua_rawequal(L, -2, lua_upvalueindex(1))) {
            life.ttl = check_ttl(L, -1, index);
        } else if (lua_rawequal(L, -2, lua_upvalueindex(2))) {
            luaL_argcheck(L, lua_isboolean(L, -1), index, "durable must be true or false");
            life.durable = lua_toboolean(L, -1);
        } else {
            luaL_argerror(L, index,
                          lua_pushfstring(L, "unknown option '%s' (known: ttl, durable)", name));
        }
    }
    return life;
}

/* ----------------------------------------------------------------- results */

/* nil, message, code; a mistake of the set-up is raised, so that nobody takes it for an answer. */
static int failed(lua_State *L, const nh_error *error) {
    if (error->code == NH_E_CONFIG)
        return luaL_error(L, "%s", error->message);
    lua_pushnil(L);
    lua_pushstring(L, error->message);
    lua_pushstring(L, nh_err_name(error->code));
    return 3;
}

static int push_root(lua_State *L) {
    const nh_doc *doc = lua_touserdata(L, 1);
    nh_push_value(L, nh_doc_root(doc));
    if (nh_value_kind(nh_doc_root(doc)) == NH_ARRAY)
        nh_mark_array(L, -1);
    return 1;
}

/* Pushes the document's value and drops the document (NULL: nil), also when Lua is out of memory.
 */
static int push_doc(lua_State *L, nh_doc *doc) {
    if (!doc) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushcfunction(L, push_root);
    lua_pushlightuserdata(L, doc);
    int status = lua_pcall(L, 1, 1, 0);
    nh_doc_unref(doc);
    return status == LUA_OK ? 1 : lua_error(L);
}

static int push_bool(lua_State *L, bool truth) {
    lua_pushboolean(L, truth);
    return 1;
}

static int push_count(lua_State *L, size_t count) {
    lua_pushinteger(L, (lua_Integer)count);
    return 1;
}

/* --------------------------------------------------------------- functions */

static int get(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared *shared = shared_of(L);
    nh_error error;
    nh_doc *value;
    if (nh_shared_get(shared, key, length, &value, &error) != NH_OK)
        return failed(L, &error);
    return push_doc(L, value);
}

static int delete (lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared *shared = shared_of(L);
    nh_error error;
    bool deleted;
    if (nh_shared_delete(shared, key, length, &deleted, &error) != NH_OK)
        return failed(L, &error);
    return push_bool(L, deleted);
}

static int set(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared_life life = check_life(L, 3);
    nh_shared *shared = shared_of(L);
    nh_error error;
    luaL_checkany(L, 2);
    if (lua_isnil(L, 2)) {
        delete (L);
        return lua_isnil(L, -1) ? 3 : push_bool(L, true);
    }
    nh_doc *value = check_doc(L, 2, "store.set");
    nh_err code = nh_shared_set(shared, key, length, value, life, &error);
    nh_doc_unref(value);
    return code ? failed(L, &error) : push_bool(L, true);
}

static int add(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared_life life = check_life(L, 3);
    nh_shared *shared = shared_of(L);
    nh_error error;
    bool added;
    luaL_argcheck(L, !lua_isnoneornil(L, 2), 2, "value expected");
    nh_doc *value = check_doc(L, 2, "store.add");
    nh_err code = nh_shared_add(shared, key, length, value, life, &added, &error);
    nh_doc_unref(value);
    return code ? failed(L, &error) : push_bool(L, added);
}

static int incr(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_number by = {.integral = true, .integer = 1}, result;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TNUMBER);
        by.integral = lua_isinteger(L, 2);
        if (by.integral)
            by.integer = lua_tointeger(L, 2);
        else
            by.real = lua_tonumber(L, 2);
        luaL_argcheck(L, by.integral || isfinite(by.real), 2, "must be finite");
    }
    nh_shared_life life = check_life(L, 3);
    nh_error error;
    if (nh_shared_incr(shared_of(L), key, length, by, life, &result, &error) != NH_OK)
        return failed(L, &error);
    if (result.integral)
        lua_pushinteger(L, result.integer);
    else
        lua_pushnumber(L, result.real);
    return 1;
}

static int cas(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared_life life = check_life(L, 4);
    nh_shared *shared = shared_of(L);
    nh_error error;
    bool swapped;
    luaL_checkany(L, 3);
    check_writable(L, 3, "store.cas");
    nh_doc *expected = lua_isnil(L, 2) ? NULL : check_doc(L, 2, "store.cas");
    nh_doc *value = lua_isnil(L, 3) ? NULL : make_doc(L, 3, "store.cas", &error);
    if (!value && !lua_isnil(L, 3)) {
        nh_doc_unref(expected);
        nh_raise(L, "store.cas: %s", error.message);
    }
    nh_err code = nh_shared_cas(shared, key, length, expected, value, life, &swapped, &error);
    nh_doc_unref(expected);
    nh_doc_unref(value);
    return code ? failed(L, &error) : push_bool(L, swapped);
}

static int push(lua_State *L) {
    size_t length, count;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared_life life = check_life(L, 3);
    nh_shared *shared = shared_of(L);
    nh_error error;
    luaL_argcheck(L, !lua_isnoneornil(L, 2), 2, "value expected");
    luaL_argcheck(L, !life.durable, 3, "a list cannot be durable");
    nh_doc *value = check_doc(L, 2, "store.push");
    nh_err code = nh_shared_push(shared, key, length, value, life.ttl, &count, &error);
    nh_doc_unref(value);
    return code ? failed(L, &error) : push_count(L, count);
}

static int pop(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared *shared = shared_of(L);
    nh_error error;
    nh_doc *value;
    if (nh_shared_pop(shared, key, length, &value, &error) != NH_OK)
        return failed(L, &error);
    return push_doc(L, value);
}

static int pop_all(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_shared *shared = shared_of(L);
    nh_error error;
    nh_doc *list;
    if (nh_shared_pop_all(shared, key, length, &list, &error) != NH_OK)
        return failed(L, &error);
    return push_doc(L, list);
}

static int length_of(lua_State *L) {
    size_t length, count;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_error error;
    if (nh_shared_length(shared_of(L), key, length, &count, &error) != NH_OK)
        return failed(L, &error);
    return push_count(L, count);
}

static int ttl(lua_State *L) {
    size_t length;
    const char *key = luaL_checklstring(L, 1, &length);
    nh_error error;
    double seconds;
    if (nh_shared_ttl(shared_of(L), key, length, &seconds, &error) != NH_OK)
        return failed(L, &error);
    if (seconds < 0)
        lua_pushnil(L);
    else
        lua_pushnumber(L, seconds);
    return 1;
}

static int keys(lua_State *L) {
    size_t length;
    const char *prefix = luaL_optlstring(L, 1, "", &length);
    lua_Integer most = luaL_optinteger(L, 2, KEYS_DEFAULT);
    nh_shared *shared = shared_of(L);
    nh_error error;
    luaL_argcheck(L, most >= 0, 2, "must not be negative");
    nh_doc *list = nh_shared_keys(shared, prefix, length, (size_t)most, &error);
    return list ? push_doc(L, list) : failed(L, &error);
}

static int stats(lua_State *L) {
    nh_shared_figures figures;
    nh_shared_read(shared_of(L), &figures);
    lua_createtable(L, 0, 2);
    push_count(L, figures.entries);
    lua_setfield(L, -2, "entries");
    push_count(L, figures.bytes);
    lua_setfield(L, -2, "bytes");
    return 1;
}

int nh_open_store(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"get", get},     {"set", set},         {"add", add},          {"delete", delete},
        {"incr", incr},   {"cas", cas},         {"push", push},        {"pop", pop},
        {"ttl", ttl},     {"pop_all", pop_all}, {"length", length_of}, {"keys", keys},
        {"stats", stats}, {NULL, NULL}};
    luaL_newlibtable(L, functions);
    lua_pushliteral(L, "ttl"); /* the names that check_life knows */
    lua_pushliteral(L, "durable");
    luaL_setfuncs(L, functions, 2);
    return 1;
}
