/* bounded_string.c — string.*: the pattern functions on pattern.c's matcher, and those others that
 * can take long. What only makes one string (upper, reverse, format, …) is bounded by the
 * allocator, which in guarded code refuses a string over limits.string_bytes.
 *
 * The functions stand in for Lua's, so they take what Lua's take and fail with the same words.
 */
#include "runtime/script/bounded.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

#include "runtime/script/limit.h"
#include "runtime/script/pattern.h"

/* A start from 1 as Lua counts: negative from the end, never below 1. */
static size_t position(lua_Integer at, size_t length) {
    if (at > 0)
        return (size_t)at;
    if (at == 0 || at < -(lua_Integer)length)
        return 1;
    return length + (size_t)at + 1;
}

/* Raises when a string that long may not be made here. */
static void check_room(lua_State *L, size_t length) {
    size_t room = nh_limiter_string_room(L);
    char text[32];
    if (length > room)
        nh_limit_error(L, "a string of more than %s (limits.string_bytes)",
                       nh_limit_bytes(text, room));
    nh_limiter_charge(L, length);
}

/* ------------------------------------------------------------- find, match */

static int find_plain(lua_State *L, const char *subject, size_t length, size_t start,
                      const char *text, size_t text_length) {
    nh_limiter_charge(L, length - start);
    const char *at = memmem(subject + start, length - start, text, text_length);
    if (!at) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, at - subject + 1);
    lua_pushinteger(L, at - subject + (lua_Integer)text_length);
    return 2;
}

static int search(lua_State *L, bool find) {
    size_t length, pattern_length;
    const char *subject = luaL_checklstring(L, 1, &length);
    const char *pattern = luaL_checklstring(L, 2, &pattern_length);
    size_t start = position(luaL_optinteger(L, 3, 1), length) - 1;
    if (start > length) {
        lua_pushnil(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || nh_pattern_is_plain(pattern, pattern_length)))
        return find_plain(L, subject, length, start, pattern, pattern_length);

    nh_pattern m;
    bool anchor = *pattern == '^';
    nh_pattern_init(&m, L, subject, length, pattern + anchor, pattern_length - anchor);
    for (const char *at = subject + start; at <= m.subject_end; at++) {
        if (!anchor && !(at = nh_pattern_skip(&m, at)))
            break;
        const char *end = nh_pattern_match(&m, at);
        if (end) {
            nh_pattern_done(&m);
            if (!find)
                return nh_pattern_push(&m, at, end);
            lua_pushinteger(L, at - subject + 1);
            lua_pushinteger(L, end - subject);
            return nh_pattern_push(&m, NULL, NULL) + 2;
        }
        if (anchor)
            break;
    }
    nh_pattern_done(&m);
    lua_pushnil(L);
    return 1;
}

static int string_find(lua_State *L) {
    return search(L, true);
}

static int string_match(lua_State *L) {
    return search(L, false);
}

/* ------------------------------------------------------------------ gmatch */

/* What an iterator keeps between its calls, as upvalues: subject, pattern and this. */
typedef struct walk {
    size_t at;   /* where the next match may begin */
    size_t last; /* the end of the last one, which no empty match may repeat; SIZE_MAX at first */
} walk;

static int gmatch_next(lua_State *L) {
    size_t length, pattern_length;
    const char *subject = lua_tolstring(L, lua_upvalueindex(1), &length);
    const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &pattern_length);
    walk *w = lua_touserdata(L, lua_upvalueindex(3));
    nh_pattern m;
    if (w->at > length)
        return 0;
    nh_pattern_init(&m, L, subject, length, pattern, pattern_length);
    for (const char *at = subject + w->at; at <= m.subject_end; at++) {
        if (!(at = nh_pattern_skip(&m, at)))
            break;
        const char *end = nh_pattern_match(&m, at);
        if (end && (size_t)(end - subject) != w->last) {
            w->at = w->last = (size_t)(end - subject);
            nh_pattern_done(&m);
            return nh_pattern_push(&m, at, end);
        }
    }
    nh_pattern_done(&m);
    return 0;
}

static int string_gmatch(lua_State *L) {
    size_t length;
    luaL_checklstring(L, 1, &length);
    luaL_checkstring(L, 2);
    size_t start = position(luaL_optinteger(L, 3, 1), length) - 1;
    lua_settop(L, 2);
    walk *w = lua_newuserdatauv(L, sizeof *w, 0);
    w->at = start > length ? length + 1 : start;
    w->last = SIZE_MAX;
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* -------------------------------------------------------------------- gsub */

static void add_text(nh_pattern *m, luaL_Buffer *out, const char *start, const char *end) {
    size_t length;
    const char *text = lua_tolstring(m->L, 3, &length), *text_end = text + length, *percent;
    while ((percent = memchr(text, '%', (size_t)(text_end - text)))) {
        luaL_addlstring(out, text, (size_t)(percent - text));
        text = percent + 2;
        if (percent[1] == '%') {
            luaL_addchar(out, '%');
        } else if (percent[1] == '0') {
            luaL_addlstring(out, start, (size_t)(end - start));
        } else if (isdigit((unsigned char)percent[1])) {
            nh_pattern_push_one(m, percent[1] - '1', start, end);
            luaL_addvalue(out);
        } else {
            luaL_error(m->L, "invalid use of '%%' in replacement string");
        }
    }
    luaL_addlstring(out, text, (size_t)(text_end - text));
}

/* Adds what stands for a match; tells whether that is something else than the match. */
static bool add_replacement(nh_pattern *m, luaL_Buffer *out, int type, const char *start,
                            const char *end) {
    lua_State *L = m->L;
    switch (type) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, nh_pattern_push(m, start, end), 1);
        break;
    case LUA_TTABLE:
        nh_pattern_push_one(m, 0, start, end);
        lua_gettable(L, 3);
        break;
    default:
        add_text(m, out, start, end);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, start, (size_t)(end - start));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(out);
    return true;
}

static int string_gsub(lua_State *L) {
    size_t length, pattern_length;
    const char *at = luaL_checklstring(L, 1, &length), *last = NULL;
    const char *pattern = luaL_checklstring(L, 2, &pattern_length);
    int type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)length + 1), count = 0;
    bool anchor = *pattern == '^', changed = false;
    nh_pattern m;
    luaL_Buffer out;
    if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TTABLE && type != LUA_TFUNCTION)
        return luaL_typeerror(L, 3, "string/function/table");
    nh_pattern_init(&m, L, at, length, pattern + anchor, pattern_length - anchor);
    luaL_buffinit(L, &out);
    while (count < most) {
        if (!anchor) { /* what lies between cannot match */
            const char *next = nh_pattern_skip(&m, at);
            if (!next)
                break;
            luaL_addlstring(&out, at, (size_t)(next - at));
            at = next;
        }
        const char *end = nh_pattern_match(&m, at);
        if (end && end != last) {
            count++;
            changed |= add_replacement(&m, &out, type, at, end);
            at = last = end;
            check_room(L, luaL_bufflen(&out));
        } else if (at < m.subject_end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchor)
            break;
    }
    nh_pattern_done(&m);
    if (!changed) {
        lua_pushvalue(L, 1);
    } else {
        luaL_addlstring(&out, at, (size_t)(m.subject_end - at));
        check_room(L, luaL_bufflen(&out));
        luaL_pushresult(&out);
    }
    lua_pushinteger(L, count);
    return 2;
}

/* --------------------------------------------------------------- rep, byte */

static int string_rep(lua_State *L) {
    size_t length, between;
    const char *text = luaL_checklstring(L, 1, &length);
    lua_Integer count = luaL_checkinteger(L, 2);
    const char *separator = luaL_optlstring(L, 3, "", &between);
    luaL_Buffer out;
    if (count <= 0 || length + between == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (length + between < length || length + between > (size_t)(INT64_MAX / 2) / (size_t)count)
        return luaL_error(L, "resulting string too large");
    size_t total = (size_t)count * length + (size_t)(count - 1) * between;
    check_room(L, total);
    char *at = luaL_buffinitsize(L, &out, total);
    for (lua_Integer i = 0; i < count; i++) {
        memcpy(at, text, length);
        at += length;
        if (between > 0 && i < count - 1) {
            memcpy(at, separator, between);
            at += between;
        }
    }
    luaL_pushresultsize(&out, total);
    return 1;
}

static int string_byte(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    lua_Integer first = luaL_optinteger(L, 2, 1);
    size_t start = position(first, length);
    lua_Integer last = luaL_optinteger(L, 3, first);
    size_t end = last > (lua_Integer)length    ? length
                 : last >= 0                   ? (size_t)last
                 : last < -(lua_Integer)length ? 0
                                               : length + (size_t)last + 1;
    if (start > end)
        return 0;
    size_t count = end - start + 1;
    if (count > NH_VALUES_MAX)
        return luaL_error(L, "string slice too long");
    luaL_checkstack(L, (int)count, "string slice too long");
    for (size_t i = 0; i < count; i++)
        lua_pushinteger(L, (unsigned char)text[start + i - 1]);
    nh_limiter_charge(L, count);
    return (int)count;
}

void nh_bound_string(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"find", string_find}, {"match", string_match}, {"gmatch", string_gmatch},
        {"gsub", string_gsub}, {"rep", string_rep},     {"byte", string_byte},
        {NULL, NULL}};
    static const char *const by_length[] = {"unpack", "packsize"};
    luaL_setfuncs(L, functions, 0);
    for (size_t i = 0; i < sizeof by_length / sizeof *by_length; i++) {
        lua_getfield(L, -1, by_length[i]);
        nh_bound_by_length(L);
        lua_setfield(L, -2, by_length[i]);
    }
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
}
