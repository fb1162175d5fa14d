/* value.c — the two faces of a value. Thread: the state's. Recursion is bounded by NH_DOC_DEPTH_MAX
 * on both sides. */
#include "runtime/script/value.h"

#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/reader.h"

static const char ARRAY[] = "notifyhub.array";
static const char SECRET[] = "notifyhub.secret";

_Noreturn void nh_raise(lua_State *L, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    luaL_where(L, 1);
    lua_pushvfstring(L, format, arguments);
    va_end(arguments);
    lua_concat(L, 2);
    lua_error(L);
    abort();
}

static void push_map(lua_State *L, const nh_value *map) {
    size_t count = nh_value_count(map);
    lua_createtable(L, 0, (int)count);
    for (size_t i = 0; i < count; i++) {
        const nh_value *key = nh_value_key(map, i);
        if (nh_value_kind(key) == NH_NIL ||
            (nh_value_kind(key) == NH_REAL && isnan(nh_value_real(key, 0))))
            continue; /* cannot be a key in Lua */
        nh_push_value(L, key);
        nh_push_value(L, nh_value_at(map, i));
        lua_rawset(L, -3);
    }
}

static void push_array(lua_State *L, const nh_value *array) {
    size_t count = nh_value_count(array);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        nh_push_value(L, nh_value_at(array, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

void nh_push_value(lua_State *L, const nh_value *value) {
    size_t length;
    const char *bytes;
    switch (nh_value_kind(value)) {
    case NH_NIL:
        lua_pushnil(L);
        break;
    case NH_BOOL:
        lua_pushboolean(L, nh_value_bool(value));
        break;
    case NH_INT:
        lua_pushinteger(L, nh_value_int(value, 0));
        break;
    case NH_REAL:
        lua_pushnumber(L, nh_value_real(value, 0));
        break;
    case NH_STRING:
    case NH_BINARY:
    case NH_SECRET:
        bytes = nh_value_bytes(value, &length);
        lua_pushlstring(L, bytes, length);
        break;
    case NH_ARRAY:
        luaL_checkstack(L, 4, "too many values");
        push_array(L, value);
        break;
    case NH_MAP:
        luaL_checkstack(L, 4, "too many values");
        push_map(L, value);
        break;
    }
}

static void read_value(lua_State *L, nh_reader *reader, int more);

/* The pair that comes next, whose key may be one that a table cannot have. */
static void read_pair(lua_State *L, nh_reader *reader) {
    read_value(L, reader, 0);
    read_value(L, reader, 0);
    lua_Number key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    if (lua_isnil(L, -2) || isnan(key))
        lua_pop(L, 2);
    else
        lua_rawset(L, -3);
}

static void read_container(lua_State *L, nh_reader *reader, const nh_datum *datum, int more) {
    luaL_checkstack(L, 4, "too many values");
    if (datum->kind == NH_MAP) {
        lua_createtable(L, 0, (int)datum->count + more);
        for (size_t i = 0; i < datum->count; i++)
            read_pair(L, reader);
    } else {
        lua_createtable(L, (int)datum->count, more);
        for (size_t i = 1; i <= datum->count; i++) {
            read_value(L, reader, 0);
            lua_rawseti(L, -2, (lua_Integer)i);
        }
    }
}

static void read_value(lua_State *L, nh_reader *reader, int more) {
    nh_datum datum;
    nh_read(reader, &datum);
    switch (datum.kind) {
    case NH_NIL:
        lua_pushnil(L);
        break;
    case NH_BOOL:
        lua_pushboolean(L, datum.truth);
        break;
    case NH_INT:
        lua_pushinteger(L, datum.big ? 0 : datum.integer);
        break;
    case NH_REAL:
        lua_pushnumber(L, datum.real);
        break;
    case NH_STRING:
    case NH_BINARY:
    case NH_SECRET:
        lua_pushlstring(L, datum.bytes, datum.count);
        break;
    case NH_ARRAY:
    case NH_MAP:
        read_container(L, reader, &datum, more);
        break;
    }
}

void nh_push_packed(lua_State *L, const void *bytes, size_t length, int more) {
    nh_reader reader = {.at = bytes, .end = (const char *)bytes + length};
    luaL_checkstack(L, 4, "too many values");
    read_value(L, &reader, more);
}

void nh_mark_array(lua_State *L, int index) {
    index = lua_absindex(L, index);
    luaL_newmetatable(L, ARRAY);
    lua_setmetatable(L, index);
}

bool nh_is_marked_array(lua_State *L, int index) {
    if (!lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, ARRAY);
    bool marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return marked;
}

void nh_push_sized_like(lua_State *L, int index, int more) {
    size_t length = lua_rawlen(L, index), pairs = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        pairs++;
    size_t fields = pairs > length ? pairs - length : 0;
    lua_createtable(L, (int)length, (int)fields + more);
}

bool nh_is_sequence(lua_State *L, int index, size_t *count) {
    size_t length = lua_rawlen(L, index), pairs = 0;
    bool sequence = true;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        pairs++;
        if (sequence && !lua_isinteger(L, -2))
            sequence = false;
    }
    *count = pairs;
    return pairs > 0 ? sequence && pairs == length : nh_is_marked_array(L, index);
}

bool nh_push_pairs(lua_State *L, int index, size_t *count) {
    int top = lua_gettop(L);
    luaL_checkstack(L, 2 * NH_PAIRS_MOST + 6, NULL);
    *count = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pushvalue(L, -2)) {
        if (lua_type(L, -2) != LUA_TSTRING || ++*count > NH_PAIRS_MOST) {
            lua_settop(L, top);
            return false;
        }
    }
    return *count > 0;
}

static void write_table(lua_State *L, int index, nh_writer *writer, const char *what, int depth);

static void write_any(lua_State *L, int index, nh_writer *writer, const char *what, int depth) {
    size_t length;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        nh_writer_nil(writer);
        break;
    case LUA_TBOOLEAN:
        nh_writer_bool(writer, lua_toboolean(L, index));
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            nh_writer_int(writer, lua_tointeger(L, index));
        else
            nh_writer_real(writer, lua_tonumber(L, index));
        break;
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &length);
        nh_writer_string(writer, text, length);
        break;
    case LUA_TTABLE:
        write_table(L, lua_absindex(L, index), writer, what, depth);
        break;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, index)) { /* cjson.null */
            nh_writer_nil(writer);
            break;
        }
        /* fall through */
    default:
        text = nh_to_secret(L, index, &length);
        if (!text)
            nh_raise(L, "%s: a %s cannot be there", what, luaL_typename(L, index));
        nh_writer_secret(writer, text, length);
    }
}

static void write_pair(lua_State *L, int key, nh_writer *writer, const char *what, int depth) {
    size_t length;
    if (lua_type(L, key) != LUA_TSTRING)
        luaL_error(L, "%s: the keys of a table must be names, or 1 to n", what);
    const char *name = lua_tolstring(L, key, &length);
    nh_writer_string(writer, name, length);
    write_any(L, key + 1, writer, name, depth + 1);
}

static void write_table(lua_State *L, int index, nh_writer *writer, const char *what, int depth) {
    size_t count;
    if (depth >= NH_DOC_DEPTH_MAX)
        luaL_error(L, "%s: nested more than %d levels deep", what, NH_DOC_DEPTH_MAX);
    int pairs = lua_gettop(L) + 1;
    if (nh_push_pairs(L, index, &count)) {
        nh_writer_map(writer, count);
        for (int i = 0; i < (int)count; i++)
            write_pair(L, pairs + 2 * i, writer, what, depth);
        lua_settop(L, pairs - 1);
        return;
    }
    luaL_checkstack(L, 6, what);
    if (nh_is_sequence(L, index, &count)) {
        nh_writer_array(writer, count);
        for (size_t i = 1; i <= count; i++) {
            lua_rawgeti(L, index, (lua_Integer)i);
            write_any(L, -1, writer, what, depth + 1);
            lua_pop(L, 1);
        }
        return;
    }
    nh_writer_map(writer, count);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        write_pair(L, lua_gettop(L) - 1, writer, what, depth);
}

void nh_write_value(lua_State *L, int index, nh_writer *writer, const char *what) {
    write_any(L, index, writer, what, 0);
}

const char *nh_error_text(lua_State *L, int index) {
    index = lua_absindex(L, index);
    if (lua_type(L, index) == LUA_TSTRING)
        lua_pushvalue(L, index);
    else
        lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, index));
    return lua_tostring(L, -1);
}

/* ----------------------------------------------------------------- secrets */

typedef struct secret {
    size_t length;
    char text[];
} secret;

const char *nh_to_secret(lua_State *L, int index, size_t *length) {
    secret *s = luaL_testudata(L, index, SECRET);
    if (!s)
        return NULL;
    *length = s->length;
    return s->text;
}

static int secret_tostring(lua_State *L) {
    lua_pushliteral(L, "<secret>");
    return 1;
}

/* What is made of a secret is one. */
static int secret_concat(lua_State *L) {
    luaL_Buffer joined;
    luaL_buffinit(L, &joined);
    for (int i = 1; i <= 2; i++) {
        size_t length;
        const char *text = nh_to_secret(L, i, &length);
        if (!text)
            text = luaL_checklstring(L, i, &length);
        luaL_addlstring(&joined, text, length);
    }
    luaL_pushresult(&joined);
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    nh_push_secret(L, text, length);
    return 1;
}

void nh_push_secret(lua_State *L, const char *text, size_t length) {
    static const luaL_Reg methods[] = {
        {"__tostring", secret_tostring}, {"__concat", secret_concat}, {NULL, NULL}};
    secret *s = lua_newuserdatauv(L, sizeof *s + length, 0);
    s->length = length;
    memcpy(s->text, text, length);
    if (luaL_newmetatable(L, SECRET)) {
        luaL_setfuncs(L, methods, 0);
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
}
