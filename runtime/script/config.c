/* config.c — a configuration is a Lua file that returns a table. It sees what rules see of Lua, env
 * "NAME" and file "path", whose values are secrets, and nothing else; like them it is stopped when
 * it takes too long or too much. */
#include "runtime/script/config.h"

#include <ctype.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/script/file.h"
#include "runtime/script/limit.h"
#include "runtime/script/sandbox.h"
#include "runtime/script/value.h"

enum { CONFIG_BYTES_MAX = 1 << 20, SECRET_BYTES_MAX = 64 << 10, MEMORY_MAX = 64 << 20 };

#define SECONDS_MAX 1.0

typedef struct reading {
    nh_limiter limiter; /* first: the allocator's argument */
    const char *path;
    const char *text;
    size_t length;
    nh_writer *writer;
} reading;

/* env(name [, otherwise]). A variable that is set to nothing is a mistake of whoever set it, and
 * one that would be told much later as a password that the server refuses. */
static int env(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    const char *value = getenv(name);
    bool empty = value && !*value;
    if (!value || empty)
        value = luaL_optstring(L, 2, NULL);
    if (!value)
        return luaL_error(L,
                          "the environment variable %s is %s; set it, or give env a default: "
                          "env(\"%s\", \"\")",
                          name, empty ? "empty" : "not set", name);
    nh_push_secret(L, value, strlen(value));
    return 1;
}

/* The content of a file, for push_content. */
typedef struct content {
    char *bytes;
    size_t length;
} content;

static int push_content(lua_State *L) {
    const content *c = lua_touserdata(L, 1);
    nh_push_secret(L, c->bytes, c->length);
    return 1;
}

/* file(path): its content without the last line end; relative to the configuration's folder. */
static int file(lua_State *L) {
    const char *config = lua_tostring(L, lua_upvalueindex(1));
    const char *path = luaL_checkstring(L, 1);
    const char *slash = strrchr(config, '/');
    if (*path != '/' && slash)
        path = lua_pushfstring(L, "%s%s", lua_pushlstring(L, config, (size_t)(slash + 1 - config)),
                               path);
    nh_error error;
    content c;
    c.bytes = nh_file_read(path, SECRET_BYTES_MAX, &c.length, &error);
    if (!c.bytes)
        return luaL_error(L, "%s", error.message);
    while (c.length > 0 && (c.bytes[c.length - 1] == '\n' || c.bytes[c.length - 1] == '\r'))
        c.length--;
    lua_pushcfunction(L, push_content); /* may raise, and the content is to be freed */
    lua_pushlightuserdata(L, &c);
    int status = lua_pcall(L, 1, 1, 0);
    free(c.bytes);
    if (status != LUA_OK)
        return lua_error(L);
    if (c.length == 0)
        return luaL_error(L, "%s: is empty", path);
    return 1;
}

/* tonumber, which reads a secret, too: timeout = tonumber(env "TIMEOUT"). A number hides nothing.
 */
static int to_number(lua_State *L) {
    size_t length;
    const char *text = nh_to_secret(L, 1, &length);
    if (text) {
        lua_pushlstring(L, text, length);
        lua_replace(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* Pushes what the file sees [-0, +1]. */
static void push_environment(lua_State *L, const char *path) {
    nh_sandbox_environment(L);
    lua_getfield(L, -1, "tonumber");
    lua_pushcclosure(L, to_number, 1);
    lua_setfield(L, -2, "tonumber");
    lua_pushcfunction(L, env);
    lua_setfield(L, -2, "env");
    lua_pushstring(L, path);
    lua_pushcclosure(L, file, 1);
    lua_setfield(L, -2, "file");
}

/* Raises what came of nh_guard when it was an error. That the limits have names does not help here:
 * only a configuration could change them. */
static void raise_failure(lua_State *L) {
    const char *text = nh_error_text(L, -1);
    const char *name = strstr(text, " (limits.");
    nh_raise(L, "%s", name ? lua_pushlstring(L, text, (size_t)(name - text)) : text);
}

static int read_config(lua_State *L) {
    reading *r = lua_touserdata(L, 1);
    nh_sandbox_open(L);
    lua_pushcfunction(L, nh_guard);
    const char *chunk = lua_pushfstring(L, "@%s", r->path);
    if (luaL_loadbufferx(L, r->text, r->length, chunk, "t") != LUA_OK)
        return lua_error(L);
    lua_remove(L, -2);
    push_environment(L, r->path);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 1, 2); /* true and the table, or false and why */
    if (!lua_toboolean(L, -2))
        raise_failure(L);
    if (!lua_istable(L, -1))
        return luaL_error(L, "%s: must return a table, not %s", r->path, luaL_typename(L, -1));
    lua_pushstring(L, r->path);
    lua_setfield(L, -2, "config_file");
    nh_write_value(L, -1, r->writer, r->path);
    return 0;
}

nh_doc *nh_config_read(const char *path, nh_error *error) {
    nh_doc *doc = NULL;
    nh_limits limits = NH_LIMITS_DEFAULT;
    reading r = {.path = path, .writer = nh_writer_create()};
    limits.slice = SECONDS_MAX;
    limits.state_memory = limits.message_memory = MEMORY_MAX;
    nh_limiter_init(&r.limiter, &limits);
    char *text = nh_file_read(path, CONFIG_BYTES_MAX, &r.length, error);
    lua_State *L = text && r.writer ? lua_newstate(nh_limiter_alloc, &r) : NULL;
    r.text = text;
    if (!L) {
        if (text)
            nh_fail_memory(error);
    } else {
        *(void **)lua_getextraspace(L) = NULL;
        lua_pushcfunction(L, read_config);
        lua_pushlightuserdata(L, &r);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            nh_fail(error, NH_E_CONFIG, "%s", nh_error_text(L, -1));
        else
            doc = nh_writer_finish(r.writer, error);
        lua_close(L);
    }
    nh_limiter_term(&r.limiter);
    nh_writer_destroy(r.writer);
    free(text);
    return doc;
}

/* ------------------------------------------------------------ finding lines */

static bool is_name(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* Where `name` is set from `text` on: as a word, or quoted in brackets, that `=` follows. */
static const char *find_key(const char *text, const char *name, size_t length) {
    for (const char *at = text; (at = strstr(at, name)); at++) {
        const char *after = at + length;
        if ((at > text && is_name(at[-1])) || is_name(*after))
            continue;
        if (*after == '"' || *after == '\'')
            after++;
        if (*after == ']')
            after++;
        after += strspn(after, " \t");
        if (*after == '=' && after[1] != '=')
            return at;
    }
    return NULL;
}

int nh_config_line(const char *text, const char *key) {
    const char *at = text, *found = NULL;
    while (*key) {
        size_t length = strcspn(key, ".[");
        char name[128];
        if (length >= sizeof name)
            break;
        memcpy(name, key, length);
        name[length] = '\0';
        const char *next = length > 0 ? find_key(at, name, length) : NULL;
        if (next)
            at = found = next;
        key += length;
        key += *key == '.';
        if (*key == '[') /* a place in a list has no name to look for */
            key += strcspn(key, "]") + (strchr(key, ']') != NULL);
    }
    int line = found ? 1 : 0;
    for (const char *c = text; found && c < found; c++)
        line += *c == '\n';
    return line;
}
