/* bounded_coroutine.c — coroutine.*: create, wrap, resume and close, so that a limit broken in a
 * coroutine goes on in the one that resumed it, and so that none can touch a coroutine of the
 * runtime: those have a pointer in their extra space.
 *
 * A coroutine's body runs in a pcall of its own, for the reason told in limit.c.
 */
#include "runtime/script/bounded.h"

#include <lauxlib.h>

#include "runtime/script/limit.h"

/* Coroutines that never live to their first look at the clock are stopped by this charge. */
enum { RESUME_UNITS = 1000 };

static int body_end(lua_State *L, int status, lua_KContext context) {
    (void)context;
    if (status != LUA_OK && status != LUA_YIELD)
        return lua_error(L);
    return lua_gettop(L);
}

static int body(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return body_end(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, body_end), 0);
}

static int create(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, body, 1);
    lua_xmove(L, co, 1);
    return 1;
}

/* The coroutine at 1, when it is a script's. */
static lua_State *check_own(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    bool is_main = lua_pushthread(co);
    lua_pop(co, 1);
    if (is_main || *(void **)lua_getextraspace(co))
        luaL_error(L, "this coroutine belongs to the runtime");
    return co;
}

/* Resumes with the `count` values on top; returns how many came back, or -1 with an error [-count,
 * +results]. */
static int resume(lua_State *L, lua_State *co, int count) {
    int results;
    nh_limiter_charge(L, RESUME_UNITS);
    if (!lua_checkstack(co, count)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    if (lua_gethook(L) && !lua_gethook(co)) /* made outside of the guard that it runs in now */
        lua_sethook(co, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L));
    lua_xmove(L, co, count);
    int status = lua_resume(co, L, count, &results);
    if (status != LUA_OK && status != LUA_YIELD) {
        nh_limiter_caught(L);
        lua_xmove(co, L, 1);
        return -1;
    }
    nh_limiter_charge(L, 0);
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, results);
    return results;
}

static int resume_function(lua_State *L) {
    lua_State *co = check_own(L);
    int results = resume(L, co, lua_gettop(L) - 1);
    lua_pushboolean(L, results >= 0);
    if (results < 0)
        results = 1;
    lua_insert(L, -(results + 1));
    return results + 1;
}

static int call_wrapped(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int results = resume(L, co, lua_gettop(L));
    if (results >= 0)
        return results;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD)
        lua_resetthread(co);
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap(lua_State *L) {
    create(L);
    lua_pushcclosure(L, call_wrapped, 1);
    return 1;
}

/* Upvalue 1 is Lua's. */
static int close_function(lua_State *L) {
    check_own(L);
    int results = nh_bound_original(L);
    if (results > 1) /* false and an error */
        nh_limiter_caught(L);
    return results;
}

void nh_bound_coroutine(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"create", create}, {"wrap", wrap}, {"resume", resume_function}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_getfield(L, -1, "close");
    lua_pushcclosure(L, close_function, 1);
    lua_setfield(L, -2, "close");
}
