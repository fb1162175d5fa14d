/* bounded_table.c — table.*: every element that is moved is charged, so that neither a large table
 * nor a __len that lies keeps a script in C. As Lua's, they go through metamethods.
 */
#include "runtime/script/bounded.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdint.h>

#include "runtime/script/limit.h"

enum {
    ELEMENT_UNITS = 16,  /* what moving an element is charged */
    SORT_UNCHARGED = 500 /* elements that Lua may sort without being watched */
};

enum { READS = 1, WRITES = 2, LENGTH = 4 };

/* A table, or what has the metamethods of one. */
static void check_table(lua_State *L, int index, int needs) {
    static const char *const names[] = {"__index", "__newindex", "__len"};
    if (lua_type(L, index) == LUA_TTABLE)
        return;
    for (int i = 0; i < 3; i++) {
        if (!(needs & (1 << i)))
            continue;
        if (luaL_getmetafield(L, index, names[i]) == LUA_TNIL) {
            luaL_checktype(L, index, LUA_TTABLE);
            return;
        }
        lua_pop(L, 1);
    }
}

static lua_Integer check_length(lua_State *L, int index, int needs) {
    check_table(L, index, needs | LENGTH);
    return luaL_len(L, index);
}

/* t[to] = t[from], of the table at 1. */
static void shift(lua_State *L, lua_Integer from, lua_Integer to) {
    nh_limiter_charge(L, ELEMENT_UNITS);
    lua_geti(L, 1, from);
    lua_seti(L, 1, to);
}

static int table_insert(lua_State *L) {
    lua_Unsigned end = (lua_Unsigned)check_length(L, 1, READS | WRITES) + 1;
    lua_Integer at = (lua_Integer)end;
    switch (lua_gettop(L)) {
    case 2:
        break;
    case 3:
        at = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)at - 1u < end, 2, "position out of bounds");
        for (lua_Integer i = (lua_Integer)end; i > at; i--)
            shift(L, i - 1, i);
        break;
    default:
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_seti(L, 1, at);
    return 0;
}

static int table_remove(lua_State *L) {
    lua_Integer size = check_length(L, 1, READS | WRITES);
    lua_Integer at = luaL_optinteger(L, 2, size);
    if (at != size)
        luaL_argcheck(L, (lua_Unsigned)at - 1u <= (lua_Unsigned)size, 2, "position out of bounds");
    lua_geti(L, 1, at);
    for (; at < size; at++)
        shift(L, at + 1, at);
    lua_pushnil(L);
    lua_seti(L, 1, at);
    return 1;
}

static int table_move(lua_State *L) {
    lua_Integer from = luaL_checkinteger(L, 2), end = luaL_checkinteger(L, 3);
    lua_Integer to = luaL_checkinteger(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    check_table(L, 1, READS);
    check_table(L, target, WRITES);
    if (end >= from) {
        luaL_argcheck(L, from > 0 || end < LUA_MAXINTEGER + from, 3, "too many elements to move");
        lua_Integer count = end - from + 1;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - count + 1, 4, "destination wrap around");
        /* Backwards when the target lies in what is still to be read. */
        bool backwards = to > from && to <= end && (target == 1 || lua_compare(L, 1, 5, LUA_OPEQ));
        for (lua_Integer n = 0; n < count; n++) {
            lua_Integer i = backwards ? count - 1 - n : n;
            nh_limiter_charge(L, ELEMENT_UNITS);
            lua_geti(L, 1, from + i);
            lua_seti(L, target, to + i);
        }
    }
    lua_pushvalue(L, target);
    return 1;
}

static void add_field(lua_State *L, luaL_Buffer *out, lua_Integer i) {
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid value (at index %I) in table for 'concat'", (LUAI_UACINT)i);
    luaL_addvalue(out);
    nh_limiter_charge(L, ELEMENT_UNITS);
}

static int table_concat(lua_State *L) {
    lua_Integer end = check_length(L, 1, READS);
    size_t between, room = nh_limiter_string_room(L);
    const char *separator = luaL_optlstring(L, 2, "", &between);
    lua_Integer i = luaL_optinteger(L, 3, 1);
    end = luaL_optinteger(L, 4, end);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (; i < end; i++) {
        add_field(L, &out, i);
        luaL_addlstring(&out, separator, between);
        if (luaL_bufflen(&out) > room) {
            char text[32];
            nh_limit_error(L, "a string of more than %s (limits.string_bytes)",
                           nh_limit_bytes(text, room));
        }
    }
    if (i == end)
        add_field(L, &out, i);
    luaL_pushresult(&out);
    return 1;
}

static int table_unpack(lua_State *L) {
    lua_Integer i = luaL_optinteger(L, 2, 1);
    lua_Integer end = lua_isnoneornil(L, 3) ? luaL_len(L, 1) : luaL_checkinteger(L, 3);
    if (i > end)
        return 0;
    lua_Unsigned count = (lua_Unsigned)end - (lua_Unsigned)i;
    if (count >= NH_VALUES_MAX || !lua_checkstack(L, (int)count + 1))
        return luaL_error(L, "too many results to unpack");
    nh_limiter_charge(L, (size_t)count * ELEMENT_UNITS);
    for (; i < end; i++)
        lua_geti(L, 1, i);
    lua_geti(L, 1, end);
    return (int)count + 1;
}

/* -------------------------------------------------------------------- sort */

/* The order of the sort, watched; upvalue 1 is the script's or nil. */
static int watched_order(lua_State *L) {
    nh_limiter_charge(L, ELEMENT_UNITS * 4);
    if (lua_isnil(L, lua_upvalueindex(1))) {
        lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* Lua's own sort, upvalue 1. An order written in Lua is watched by the hook; all else of a large
 * table is not, and gets an order that is. */
static int table_sort(lua_State *L) {
    lua_Integer count = check_length(L, 1, READS | WRITES);
    lua_settop(L, 2);
    if (count > 1 && !lua_isnil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    if (count > SORT_UNCHARGED && (lua_isnil(L, 2) || lua_iscfunction(L, 2)))
        lua_pushcclosure(L, watched_order, 1); /* stands at 2 now */
    else if (count > 1)
        nh_limiter_charge(L, (size_t)count * ELEMENT_UNITS);
    return nh_bound_original(L);
}

void nh_bound_table(lua_State *L) {
    static const luaL_Reg functions[] = {{"insert", table_insert}, {"remove", table_remove},
                                         {"move", table_move},     {"concat", table_concat},
                                         {"unpack", table_unpack}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_getfield(L, -1, "sort");
    lua_pushcclosure(L, table_sort, 1);
    lua_setfield(L, -2, "sort");
}
