/* api_json.c — the module `json`: lua-cjson reads, and what it makes a float of that was an integer
 * becomes one again. Writing is done here, because Debian's cjson keeps no more than 14 digits of a
 * number and knows no empty array: integers and floats come out whole, a table with keys 1…n is an
 * array, an empty one an object unless json.array marked it. json.object is for an object that is
 * written again and again: it needs no table, and its names are sorted once. The text grows in a
 * buffer that the vm keeps, bounded by NH_JSON_MAX. Errors of decode are returned: what it reads
 * comes from outside.
 */
#include <lauxlib.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/script/value.h"
#include "runtime/script/vm.h"

int luaopen_cjson(lua_State *L);

enum { PAIRS_MOST = 100000, NAMES_MOST = 100, DEPTH_MOST = 64, NH_JSON_MAX = 64 << 20 };

/* ----------------------------------------------------------------- writing */

static char *room(lua_State *L, nh_text *out, size_t more) {
    if (more > NH_JSON_MAX - out->length)
        nh_raise(L, "json.encode: the text is longer than %d bytes", NH_JSON_MAX);
    if (out->length + more > out->room) {
        size_t size = 2 * (out->length + more) + 256;
        char *bytes = realloc(out->bytes, size);
        if (!bytes)
            nh_raise(L, "out of memory");
        out->bytes = bytes;
        out->room = size;
    }
    return out->bytes + out->length;
}

static void add(lua_State *L, nh_text *out, const char *bytes, size_t length) {
    memcpy(room(L, out, length), bytes, length);
    out->length += length;
}

static void add_sign(lua_State *L, nh_text *out, char sign) {
    *room(L, out, 1) = sign;
    out->length++;
}

static const bool is_escaped[256] = {
    [0] = true,  [1] = true,  [2] = true,  [3] = true,  [4] = true,   [5] = true,    [6] = true,
    [7] = true,  [8] = true,  [9] = true,  [10] = true, [11] = true,  [12] = true,   [13] = true,
    [14] = true, [15] = true, [16] = true, [17] = true, [18] = true,  [19] = true,   [20] = true,
    [21] = true, [22] = true, [23] = true, [24] = true, [25] = true,  [26] = true,   [27] = true,
    [28] = true, [29] = true, [30] = true, [31] = true, ['"'] = true, ['\\'] = true, [0x7F] = true};

/* How many bytes at the beginning need no escape, rounded down to whole words: bodies are long, and
 * few of their bytes are special. A byte is below 0x20 when subtracting that borrows into its top
 * bit, and it is another when its difference from that is below 1. A byte over 0x7F is neither. */
static size_t plain_words(const unsigned char *text, size_t length) {
    const uint64_t ones = UINT64_MAX / 255, tops = ones << 7;
    size_t at = 0;
    for (; length - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, text + at, sizeof word);
        uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\', del = word ^ ones * 0x7F;
        uint64_t special =
            ((word - ones * 0x20) | (quote - ones) | (slash - ones) | (del - ones)) & ~word & tops;
        if (special)
            break;
    }
    return at;
}

/* RFC 8259: quote, backslash and control characters are escaped; the rest is UTF-8 as it is. */
static void add_string(lua_State *L, nh_text *out, int index) {
    static const char short_form[] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
                                      ['\t'] = 't', ['"'] = '"',  ['\\'] = '\\'};
    size_t length;
    const unsigned char *text = (const unsigned char *)lua_tolstring(L, index, &length);
    const unsigned char *end = text + length;
    char *to = room(L, out, 6 * length + 2);
    *to++ = '"';
    while (text < end) {
        const unsigned char *plain = text;
        text += plain_words(text, (size_t)(end - text));
        while (text < end && !is_escaped[*text])
            text++;
        memcpy(to, plain, (size_t)(text - plain));
        to += text - plain;
        if (text == end)
            break;
        unsigned char c = *text++;
        if (c < sizeof short_form && short_form[c]) {
            *to++ = '\\';
            *to++ = short_form[c];
        } else {
            to += snprintf(to, 7, "\\u%04x", c);
        }
    }
    *to++ = '"';
    out->length = (size_t)(to - out->bytes);
}

static void add_integer(lua_State *L, nh_text *out, lua_Integer number) {
    char digits[32], *first = digits + sizeof digits;
    lua_Unsigned rest = number < 0 ? 0 - (lua_Unsigned)number : (lua_Unsigned)number;
    do {
        *--first = (char)('0' + rest % 10);
    } while (rest /= 10);
    if (number < 0)
        *--first = '-';
    add(L, out, first, (size_t)(digits + sizeof digits - first));
}

/* The shortest form that reads back as the same number. */
static void add_real(lua_State *L, nh_text *out, double number) {
    char text[32];
    if (!isfinite(number))
        luaL_error(L, "json.encode: a number that is not finite");
    int length = snprintf(text, sizeof text, "%.15g", number);
    if (strtod(text, NULL) != number)
        length = snprintf(text, sizeof text, "%.17g", number);
    add(L, out, text, (size_t)length);
}

static void add_value(lua_State *L, nh_text *out, int index, int depth);

static void add_array(lua_State *L, nh_text *out, int index, int depth) {
    size_t count = lua_rawlen(L, index);
    add_sign(L, out, '[');
    for (size_t i = 1; i <= count; i++) {
        if (i > 1)
            add_sign(L, out, ',');
        lua_rawgeti(L, index, (lua_Integer)i);
        add_value(L, out, lua_gettop(L), depth);
        lua_pop(L, 1);
    }
    add_sign(L, out, ']');
}

/* A pair of a table, whose key and value stand at `place` and the one after it of the stack. */
typedef struct member {
    const char *key;
    size_t length;
    int place;
} member;

static int by_key(const void *left, const void *right) {
    const member *a = left, *b = right;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->key, b->key, shorter);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static void sort(member *members, size_t count) {
    if (count > NH_PAIRS_MOST) {
        qsort(members, count, sizeof *members, by_key);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        member one = members[i];
        size_t to = i;
        for (; to > 0 && by_key(&members[to - 1], &one) > 0; to--)
            members[to] = members[to - 1];
        members[to] = one;
    }
}

/* Writes the pairs that stand from `place` on, in the order of the keys: the same table gives the
 * same text in every state, which signatures, tests and `notifyhub explain` rest on. */
static void add_members(lua_State *L, nh_text *out, member *members, int place, size_t count,
                        int depth) {
    for (size_t i = 0; i < count; i++, place += 2) {
        members[i].key = lua_tolstring(L, place, &members[i].length);
        members[i].place = place;
    }
    sort(members, count);
    add_sign(L, out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            add_sign(L, out, ',');
        add_string(L, out, members[i].place);
        add_sign(L, out, ':');
        add_value(L, out, members[i].place + 1, depth);
    }
    add_sign(L, out, '}');
}

/* An object of many pairs, or of keys that are numbers, too. */
static void add_object(lua_State *L, nh_text *out, int index, size_t count, int depth) {
    if (count > PAIRS_MOST)
        luaL_error(L, "json.encode: an object of more than %d pairs", PAIRS_MOST);
    luaL_checkstack(L, 2 * (int)count + 8, "json.encode");
    member *members = lua_newuserdatauv(L, count * sizeof *members, 0);
    int place = lua_gettop(L) + 1;
    /* What lua_next goes on from is a copy of the key: the key itself becomes a text. */
    for (lua_pushnil(L); lua_next(L, index); lua_pushvalue(L, -2)) {
        int type = lua_type(L, -2);
        if (type != LUA_TSTRING && type != LUA_TNUMBER)
            luaL_error(L, "json.encode: a %s cannot be a key", lua_typename(L, type));
    }
    add_members(L, out, members, place, count, depth);
}

static void add_table(lua_State *L, nh_text *out, int index, int depth) {
    member few[NH_PAIRS_MOST];
    size_t pairs;
    int top = lua_gettop(L);
    if (depth == DEPTH_MOST)
        luaL_error(L, "json.encode: nested more than %d levels deep", DEPTH_MOST);
    if (nh_push_pairs(L, index, &pairs)) {
        add_members(L, out, few, top + 1, pairs, depth + 1);
    } else {
        luaL_checkstack(L, 8, "json.encode");
        if (nh_is_sequence(L, index, &pairs))
            add_array(L, out, index, depth + 1);
        else
            add_object(L, out, index, pairs, depth + 1);
    }
    lua_settop(L, top);
}

static void add_value(lua_State *L, nh_text *out, int index, int depth) {
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        add(L, out, "null", 4);
        break;
    case LUA_TBOOLEAN:
        if (lua_toboolean(L, index))
            add(L, out, "true", 4);
        else
            add(L, out, "false", 5);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            add_integer(L, out, lua_tointeger(L, index));
        else
            add_real(L, out, lua_tonumber(L, index));
        break;
    case LUA_TSTRING:
        add_string(L, out, index);
        break;
    case LUA_TTABLE:
        add_table(L, out, index, depth);
        break;
    default:
        if (lua_type(L, index) != LUA_TLIGHTUSERDATA || lua_touserdata(L, index))
            luaL_error(L, "json.encode: a %s has no JSON form", luaL_typename(L, index));
        add(L, out, "null", 4); /* json.null */
    }
}

static int encode(lua_State *L) {
    nh_text *out = &nh_vm_of(L)->text;
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    out->length = 0;
    add_value(L, out, 1, 0);
    lua_pushlstring(L, out->bytes, out->length);
    return 1;
}

/* Upvalues: how many names, and each as it stands before its value. */
static int encode_object(lua_State *L) {
    nh_text *out = &nh_vm_of(L)->text;
    int count = (int)lua_tointeger(L, lua_upvalueindex(1));
    size_t length;
    lua_settop(L, count);
    luaL_checkstack(L, 8, "json.encode");
    out->length = 0;
    add_sign(L, out, '{');
    for (int i = 1; i <= count; i++) {
        if (lua_isnil(L, i))
            continue;
        if (out->length > 1)
            add_sign(L, out, ',');
        const char *name = lua_tolstring(L, lua_upvalueindex(1 + i), &length);
        add(L, out, name, length);
        add_value(L, out, i, 1);
    }
    add_sign(L, out, '}');
    lua_pushlstring(L, out->bytes, out->length);
    return 1;
}

/* object(names) → f(values…) → the text of the object that has these values by these names, in this
 * order; those that are nil are left out. */
static int object(lua_State *L) {
    nh_text *out = &nh_vm_of(L)->text;
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t count = lua_rawlen(L, 1);
    luaL_argcheck(L, count <= NAMES_MOST, 1, "too many names");
    luaL_checkstack(L, (int)count + 2, "json.object");
    lua_pushinteger(L, (lua_Integer)count);
    for (size_t i = 1; i <= count; i++) {
        luaL_argcheck(L, lua_rawgeti(L, 1, (lua_Integer)i) == LUA_TSTRING, 1,
                      "must be a list of names");
        out->length = 0;
        add_string(L, out, -1);
        add_sign(L, out, ':');
        lua_pop(L, 1);
        lua_pushlstring(L, out->bytes, out->length);
    }
    lua_pushcclosure(L, encode_object, 1 + (int)count);
    return 1;
}

static int array(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_pushnil(L);
    if (lua_next(L, 1))
        lua_settop(L, 1);
    else
        nh_mark_array(L, 1);
    return 1;
}

/* ----------------------------------------------------------------- reading */

static bool is_integral(lua_State *L, int index) {
    double number = lua_tonumber(L, index);
    return lua_type(L, index) == LUA_TNUMBER && floor(number) == number &&
           fabs(number) <= 9007199254740992.0;
}

/* Turns integral floats of the table at `index` into integers, all the way down. */
static void integers(lua_State *L, int index) {
    luaL_checkstack(L, 4, "json.decode");
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_istable(L, -1)) {
            integers(L, lua_gettop(L)); /* cjson bounds the depth */
        } else if (is_integral(L, -1)) {
            lua_pushvalue(L, -2);
            lua_pushinteger(L, (lua_Integer)lua_tonumber(L, -2));
            lua_rawset(L, index);
        }
    }
}

/* Upvalue: cjson.decode. */
static int decode(lua_State *L) {
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, 1);
        return 2;
    }
    if (lua_istable(L, 1))
        integers(L, 1);
    else if (is_integral(L, 1))
        lua_pushinteger(L, (lua_Integer)lua_tonumber(L, 1));
    return 1;
}

int nh_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"encode", encode}, {"object", object}, {"array", array}, {NULL, NULL}};
    luaL_newlib(L, functions);
    luaL_requiref(L, "cjson", luaopen_cjson, 0);
    lua_getfield(L, -1, "decode_max_depth");
    lua_pushinteger(L, DEPTH_MOST);
    lua_call(L, 1, 0);
    lua_getfield(L, -1, "decode");
    lua_pushcclosure(L, decode, 1);
    lua_setfield(L, -3, "decode");
    lua_getfield(L, -1, "null");
    lua_setfield(L, -3, "null");
    lua_pop(L, 1);
    return 1;
}
