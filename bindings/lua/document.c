/* document.c — Lua values to documents and back.
 *
 * A table whose keys are 1 to n is a list, one whose keys are strings is a map, anything between is
 * an error that names the place. Tables are read raw: a metatable plays no part, and no Lua code
 * runs here. Strings travel as they are; whether they must be UTF-8 is the core's to say.
 *
 * Reading is on the path of every message: it walks a map once and a list twice (to count, to
 * write), writes into the hub's own writer and allocates nothing a value; the path is built only
 * for an error, from a chain of places on the C stack. Nothing in it can start a collection, so no
 * finalizer can come in between and use the same writer. Pushing reads the packed bytes in order.
 * A document that C holds alone is pushed through a slot, a userdata that drops it even when Lua
 * runs out of memory half-way; a receipt is its handle's, which the caller has on the stack.
 */
#include "bindings/lua/document.h"

#include <stdio.h>
#include <string.h>

#define SLOT "notifyhub.document"

/* A value in a document has at most NH_DOC_DEPTH_MAX levels, itself included. */
enum { CONTAINERS_MOST = NH_DOC_DEPTH_MAX - 1, SLOTS_A_LEVEL = 4, PATH_LONGEST = 256 };

/* ---------------------------------------------------------------- reading */

/* Where a value stands: under a name, or at a position in a list. */
typedef struct place {
    const struct place *above;
    const char *name; /* borrowed from a key on the Lua stack; NULL in a list */
    size_t position;
    int depth;
} place;

typedef struct reader {
    lua_State *L;
    nh_writer *writer;
    nh_error *error;
} reader;

static bool is_identifier(const char *name) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t length = strspn(name, letters);
    return length > 0 && length <= 64 && !name[length] && !(name[0] >= '0' && name[0] <= '9');
}

/* Appends a place's path; a name that is no identifier is quoted, and what of it is not printable
 * ASCII becomes '?'. */
static void append_path(const place *at, char *path, size_t size) {
    if (at->above)
        append_path(at->above, path, size);
    size_t used = strlen(path);
    char *end = path + used;
    size_t room = size - used;
    if (!at->above) {
        snprintf(end, room, "%s", at->name);
    } else if (!at->name) {
        snprintf(end, room, "[%zu]", at->position);
    } else if (is_identifier(at->name)) {
        snprintf(end, room, ".%s", at->name);
    } else {
        snprintf(end, room, "[\"%.40s\"]", at->name);
        for (; *end; end++)
            if (*end < 0x20 || *end > 0x7E)
                *end = '?';
    }
}

static bool refuse(const reader *r, const place *at, const char *complaint) {
    char path[PATH_LONGEST] = "";
    append_path(at, path, sizeof path);
    r->error->code = NH_E_INVALID;
    snprintf(r->error->message, sizeof r->error->message, "%s: %s", path, complaint);
    return false;
}

/* Replaces a key by the one after it; false, and none, when it was the last. [-1, +1|0] */
static bool next_key(lua_State *L) {
    if (!lua_next(L, -2))
        return false;
    lua_pop(L, 1);
    return true;
}

/* Counts the elements of the table below the top, which is to be a list; from the key on top on,
 * which is popped; `names` were before it. Keys are looked at by their type only: lua_tolstring
 * would turn a number into a string under lua_next's feet. */
static bool measure(const reader *r, const place *at, size_t names, size_t *count) {
    lua_State *L = r->L;
    size_t positions = 0;
    int64_t last = 0, position;
    do {
        switch (lua_type(L, -1)) {
        case LUA_TSTRING:
            names++;
            break;
        case LUA_TNUMBER:
            if (!nhl_integer(L, -1, &position) || position < 1)
                return refuse(r, at, "a number that is not 1, 2, 3 … cannot be a key");
            if (position > last)
                last = position;
            positions++;
            break;
        default:
            return refuse(r, at, "keys must be strings, or 1 to n");
        }
    } while (next_key(L));
    if (names > 0)
        return refuse(r, at, "a table cannot have both names and positions as keys");
    if ((uint64_t)last != positions)
        return refuse(r, at, "a list cannot have holes");
    *count = positions;
    return true;
}

static bool read_value(const reader *r, const place *at);

/* The table below a key, which is no name, though `names` were before it: then it is wrong.
 * [-1, +0] when it succeeds; a failure leaves the stack to the caller, as the next two, which pop
 * nothing. */
static bool read_list(const reader *r, const place *at, size_t names) {
    lua_State *L = r->L;
    size_t count;
    if (!measure(r, at, names, &count))
        return false;
    place inside = {.above = at, .depth = at->depth + 1};
    nh_writer_array(r->writer, count);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, (int)i);
        inside.position = i;
        if (!read_value(r, &inside))
            return false;
        lua_pop(L, 1);
    }
    return true;
}

/* The table on top, which has no elements: a map, unless it is marked as a list. */
static void read_empty(const reader *r) {
    lua_State *L = r->L;
    bool list = false;
    if (lua_getmetatable(L, -1)) {
        luaL_getmetatable(L, NHL_ARRAY);
        list = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (list)
        nh_writer_array(r->writer, 0);
    else
        nh_writer_map(r->writer, 0);
}

/* The table on top. */
static bool read_table(const reader *r, const place *at) {
    lua_State *L = r->L;
    if (at->depth == CONTAINERS_MOST)
        return refuse(r, at, "nested too deep (or a table that holds itself)");
    lua_pushnil(L);
    if (!lua_next(L, -2)) {
        read_empty(r);
        return true;
    }
    place inside = {.above = at, .depth = at->depth + 1};
    if (lua_type(L, -2) != LUA_TSTRING) {
        lua_pop(L, 1);
        return read_list(r, at, 0);
    }
    nh_writer_open_map(r->writer);
    do {
        size_t length;
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 1);
            return read_list(r, at, 1);
        }
        inside.name = lua_tolstring(L, -2, &length);
        nh_writer_string(r->writer, inside.name, length);
        if (!read_value(r, &inside))
            return false;
        lua_pop(L, 1);
    } while (lua_next(L, -2));
    nh_writer_close(r->writer);
    return true;
}

static bool read_number(const reader *r, const place *at) {
    int64_t integer;
    if (nhl_integer(r->L, -1, &integer)) {
        nh_writer_int(r->writer, integer);
        return true;
    }
    double real = lua_tonumber(r->L, -1);
    if (!isfinite(real))
        return refuse(r, at, "a number must be finite");
    nh_writer_real(r->writer, real);
    return true;
}

/* The value on top. */
static bool read_value(const reader *r, const place *at) {
    lua_State *L = r->L;
    size_t length;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        nh_writer_nil(r->writer);
        return true;
    case LUA_TBOOLEAN:
        nh_writer_bool(r->writer, lua_toboolean(L, -1));
        return true;
    case LUA_TNUMBER:
        return read_number(r, at);
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &length);
        nh_writer_string(r->writer, text, length);
        return true;
    case LUA_TTABLE:
        return read_table(r, at);
    case LUA_TUSERDATA:
        text = nhl_test_userdata(L, -1, NHL_SECRET);
        if (!text)
            return refuse(r, at, "userdata cannot be sent");
        nh_writer_secret(r->writer, text, nhl_raw_length(L, -1));
        return true;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1))
            return refuse(r, at, "light userdata cannot be sent");
        nh_writer_nil(r->writer);
        return true;
    case LUA_TFUNCTION:
        return refuse(r, at, "functions cannot be sent");
    case LUA_TTHREAD:
        return refuse(r, at, "coroutines cannot be sent");
    default:
        return refuse(r, at, "a value of this type cannot be sent");
    }
}

/* Writes the value at `index`, which stands at `root`. */
static bool write_document(lua_State *L, int index, const place *root, nh_writer *writer,
                           nh_error *error) {
    reader r = {.L = L, .writer = writer, .error = error};
    int top = lua_gettop(L);
    luaL_checkstack(L, SLOTS_A_LEVEL * (NH_DOC_DEPTH_MAX + 1), "too many nested calls");
    nh_writer_clear(writer);
    lua_pushvalue(L, index);
    bool whole = read_value(&r, root);
    lua_settop(L, top);
    return whole;
}

nh_doc *nhl_document_read(lua_State *L, int index, const char *name, nh_writer *writer,
                          nh_error *error) {
    const place root = {.name = name};
    if (write_document(L, index, &root, writer, error))
        return nh_writer_finish(writer, error);
    return NULL;
}

bool nhl_document_write(lua_State *L, int index, const char *name, size_t position,
                        nh_writer *writer, nh_error *error) {
    const place root = {.name = name}, element = {.above = &root, .position = position};
    return write_document(L, index, position > 0 ? &element : &root, writer, error);
}

/* ---------------------------------------------------------------- pushing */

nhl_pusher nhl_pusher_open(lua_State *L) {
    luaL_checkstack(L, SLOTS_A_LEVEL * (NH_DOC_DEPTH_MAX + 1), "too many nested calls");
    nhl_texts *texts = nhl_texts_open(L);
    return (nhl_pusher){.L = L, .texts = texts, .index = lua_gettop(L)};
}

static void push_value(const nhl_pusher *to, nh_reader *from);

/* [-0, +1] as the next two */
static void push_list(const nhl_pusher *to, nh_reader *from, size_t count) {
    lua_State *L = to->L;
    lua_createtable(L, (int)count, 0);
    for (size_t i = 1; i <= count; i++) {
        push_value(to, from);
        lua_rawseti(L, -2, (int)i);
    }
    if (count == 0) { /* so that it is a list again when it is sent */
        luaL_getmetatable(L, NHL_ARRAY);
        lua_setmetatable(L, -2);
    }
}

static void push_map(const nhl_pusher *to, nh_reader *from, size_t count) {
    lua_createtable(to->L, 0, (int)count);
    for (; count > 0; count--) {
        push_value(to, from);
        push_value(to, from);
        lua_rawset(to->L, -3);
    }
}

static void push_value(const nhl_pusher *to, nh_reader *from) {
    lua_State *L = to->L;
    nh_datum value;
    if (!nh_reader_next(from, &value))
        value.kind = NH_NIL; /* cannot be: each value that is counted is there */
    switch (value.kind) {
    case NH_NIL: /* keeps its place in a list, as JSON's null does */
        lua_pushlightuserdata(L, NULL);
        return;
    case NH_BOOL:
        lua_pushboolean(L, value.truth);
        return;
    case NH_INT:
        nhl_push_integer(L, value.big ? INT64_MAX : value.integer);
        return;
    case NH_REAL:
        lua_pushnumber(L, value.real);
        return;
    case NH_STRING:
    case NH_BINARY:
        nhl_texts_push(L, to->texts, to->index, value.bytes, value.count);
        return;
    case NH_SECRET: /* its text stays in the core; a Lua program learns that there is one */
        lua_pushliteral(L, "<secret>");
        return;
    case NH_ARRAY:
        push_list(to, from, value.count);
        return;
    case NH_MAP:
        push_map(to, from, value.count);
        return;
    }
}

void nhl_pusher_push(const nhl_pusher *to, nh_reader from) {
    push_value(to, &from);
}

nh_doc **nhl_document_slot(lua_State *L) {
    nh_doc **slot = nhl_new_userdata(L, sizeof *slot);
    *slot = NULL;
    luaL_getmetatable(L, SLOT);
    lua_setmetatable(L, -2);
    return slot;
}

void nhl_document_push(lua_State *L) {
    nh_doc **slot = lua_touserdata(L, -1);
    if (*slot) {
        nhl_pusher to = nhl_pusher_open(L);
        nhl_pusher_push(&to, nh_doc_read(*slot));
        lua_replace(L, to.index);
    } else {
        lua_pushnil(L);
    }
    nh_doc_unref(*slot);
    *slot = NULL;
    lua_remove(L, -2);
}

static int slot_gc(lua_State *L) {
    nh_doc **slot = lua_touserdata(L, 1);
    nh_doc_unref(*slot);
    *slot = NULL;
    return 0;
}

/* ----------------------------------------------------------- marked values */

int nhl_array(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_getmetatable(L, NHL_ARRAY);
    lua_setmetatable(L, 1);
    return 1;
}

int nhl_secret(lua_State *L) {
    size_t length;
    luaL_checktype(L, 1, LUA_TSTRING);
    const char *text = lua_tolstring(L, 1, &length);
    memcpy(nhl_new_userdata(L, length), text, length);
    luaL_getmetatable(L, NHL_SECRET);
    lua_setmetatable(L, -2);
    return 1;
}

static int secret_text(lua_State *L) {
    lua_pushliteral(L, "<secret>");
    return 1;
}

/* What is made of a secret is one. */
static int secret_concat(lua_State *L) {
    const char *part[2];
    size_t length[2];
    for (int i = 0; i < 2; i++) {
        part[i] = nhl_test_userdata(L, i + 1, NHL_SECRET);
        if (part[i])
            length[i] = nhl_raw_length(L, i + 1);
        else
            part[i] = luaL_checklstring(L, i + 1, &length[i]);
    }
    char *joined = nhl_new_userdata(L, length[0] + length[1]);
    memcpy(joined, part[0], length[0]);
    memcpy(joined + length[0], part[1], length[1]);
    luaL_getmetatable(L, NHL_SECRET);
    lua_setmetatable(L, -2);
    return 1;
}

void nhl_document_setup(lua_State *L) {
    nhl_texts_setup(L);
    luaL_newmetatable(L, SLOT);
    lua_pushcfunction(L, slot_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, NHL_SECRET);
    lua_pushcfunction(L, secret_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, secret_concat);
    lua_setfield(L, -2, "__concat");
    lua_pushliteral(L, "<secret>");
    lua_setfield(L, -2, "__metatable");
    luaL_newmetatable(L, NHL_ARRAY);
    lua_pop(L, 3);
}
