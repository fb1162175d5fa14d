/* module.c — `require "notifyhub"`: puts the C functions and the Lua files together.
 *
 * The C files offer `native`, what asks the core and returns at once; the Lua files beside them,
 * compiled in as text, build on it what waits and calls back. They are run in the order of
 * `chunks`, each with `native` and one shared table; the module is what the last one returns.
 * Nothing is kept in C variables: a state's everything is in its registry, so any number of states
 * may load this.
 */
#include "bindings/lua/document.h"
#include "bindings/lua/object.h"

#include <stdio.h>

#include "bindings/lua/chunks.h"

void nhl_type_setup(lua_State *L, const nhl_type *type) {
    int native = lua_gettop(L);
    nhl_set_functions(L, type->natives);
    lua_newtable(L);
    nhl_set_functions(L, type->direct);
    luaL_newmetatable(L, type->type);
    nhl_set_functions(L, type->metamethods);
    lua_pushvalue(L, -2);
    if (type->index)
        lua_pushcclosure(L, type->index, 1);
    lua_setfield(L, -2, "__index");
    lua_setfield(L, native, type->type);
    lua_setfield(L, native, type->methods);
}

/* native.call(handler, f, …): calls f(…) protected; an error goes through handler. Returns true, or
 * false and what handler made of the error. A C boundary on purpose: a callback must not yield out
 * of the middle of being told. */
static int protected_call(lua_State *L) {
    int failed = lua_pcall(L, lua_gettop(L) - 2, 0, 1);
    lua_pushboolean(L, !failed);
    if (!failed)
        return 1;
    lua_insert(L, -2);
    return 2;
}

/* native.complain(text): the last resort for an error that nobody took. */
static int complain(lua_State *L) {
    fprintf(stderr, "notifyhub: %s\n", luaL_checkstring(L, 1));
    return 0;
}

/* [-0, +1] the names of the error codes, each with whether a retry may help. */
static void push_codes(lua_State *L) {
    lua_newtable(L);
#define NH_X(symbol, name, retryable, text)                                                        \
    lua_pushboolean(L, retryable);                                                                 \
    lua_setfield(L, -2, name);
    NH_ERRORS(NH_X)
#undef NH_X
}

NH_API int luaopen_notifyhub(lua_State *L);

int luaopen_notifyhub(lua_State *L) {
    static const luaL_Reg natives[] = {
        {"call", protected_call}, {"complain", complain}, {NULL, NULL}};
    static const luaL_Reg module[] = {{"array", nhl_array}, {"secret", nhl_secret}, {NULL, NULL}};
    lua_settop(L, 0);
    nhl_document_setup(L);
    lua_newtable(L); /* 1: native */
    nhl_set_functions(L, natives);
    nhl_hub_setup(L);
    nhl_handle_setup(L);
    nhl_batch_setup(L);
    nhl_dead_setup(L);
    lua_newtable(L); /* 2: what the Lua files share */

    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        lua_settop(L, 2);
        if (luaL_loadbuffer(L, chunks[i].text, chunks[i].length, chunks[i].name) != 0)
            return lua_error(L);
        lua_pushvalue(L, 1);
        lua_pushvalue(L, 2);
        lua_call(L, 2, 1);
    }

    nhl_set_functions(L, module);
    lua_pushstring(L, nh_version());
    lua_setfield(L, -2, "version");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    push_codes(L);
    lua_setfield(L, -2, "codes");
    return 1;
}
