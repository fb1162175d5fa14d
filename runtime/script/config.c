/* config.c — a configuration is a Lua file that returns a table. It sees the harmless part of Lua,
 * env "NAME" and file "path", whose values are secrets, and nothing else; an endless loop in it is
 * stopped. */
#include "runtime/script/config.h"

#include <ctype.h>
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/script/file.h"
#include "runtime/script/value.h"

enum { CONFIG_BYTES_MAX = 1 << 20, SECRET_BYTES_MAX = 64 << 10, STEPS_MOST = 10000000 };

typedef struct reading {
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

/* file(path): its content without the last line end; relative to the configuration's folder. */
static int file(lua_State *L) {
    const char *config = lua_tostring(L, lua_upvalueindex(1));
    const char *path = luaL_checkstring(L, 1);
    const char *slash = strrchr(config, '/');
    if (*path != '/' && slash)
        path = lua_pushfstring(L, "%s%s", lua_pushlstring(L, config, (size_t)(slash + 1 - config)),
                               path);
    nh_error error;
    size_t length;
    char *content = nh_file_read(path, SECRET_BYTES_MAX, &length, &error);
    if (!content)
        return luaL_error(L, "%s", error.message);
    while (length > 0 && (content[length - 1] == '\n' || content[length - 1] == '\r'))
        length--;
    if (length > 0)
        nh_push_secret(L, content, length);
    free(content);
    if (length == 0)
        return luaL_error(L, "%s: is empty", path);
    return 1;
}

static void too_long(lua_State *L, lua_Debug *debug) {
    lua_getinfo(L, "Sl", debug);
    luaL_error(L, "%s:%d: the configuration does not come to an end", debug->short_src,
               debug->currentline);
}

static void sandbox(lua_State *L, const char *path) {
    static const luaL_Reg libraries[] = {{LUA_GNAME, luaopen_base},
                                         {LUA_TABLIBNAME, luaopen_table},
                                         {LUA_STRLIBNAME, luaopen_string},
                                         {LUA_MATHLIBNAME, luaopen_math},
                                         {NULL, NULL}};
    static const char *const gone[] = {"dofile", "loadfile", "load", "print", "collectgarbage"};
    for (const luaL_Reg *library = libraries; library->name; library++) {
        luaL_requiref(L, library->name, library->func, 1);
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        lua_pushnil(L);
        lua_setglobal(L, gone[i]);
    }
    lua_pushcfunction(L, env);
    lua_setglobal(L, "env");
    lua_pushstring(L, path);
    lua_pushcclosure(L, file, 1);
    lua_setglobal(L, "file");
}

static int read_config(lua_State *L) {
    reading *r = lua_touserdata(L, 1);
    sandbox(L, r->path);
    const char *chunk = lua_pushfstring(L, "@%s", r->path);
    if (luaL_loadbufferx(L, r->text, r->length, chunk, "t") != LUA_OK)
        return lua_error(L);
    lua_sethook(L, too_long, LUA_MASKCOUNT, STEPS_MOST);
    lua_call(L, 0, 1);
    lua_sethook(L, NULL, 0, 0);
    if (!lua_istable(L, -1))
        return luaL_error(L, "%s: must return a table, not %s", r->path, luaL_typename(L, -1));
    lua_pushstring(L, r->path);
    lua_setfield(L, -2, "config_file");
    nh_write_value(L, -1, r->writer, r->path);
    return 0;
}

nh_doc *nh_config_read(const char *path, nh_error *error) {
    nh_doc *doc = NULL;
    reading r = {.path = path, .writer = nh_writer_create()};
    char *text = nh_file_read(path, CONFIG_BYTES_MAX, &r.length, error);
    lua_State *L = text && r.writer ? luaL_newstate() : NULL;
    r.text = text;
    if (!L) {
        if (text)
            nh_fail_memory(error);
    } else {
        lua_pushcfunction(L, read_config);
        lua_pushlightuserdata(L, &r);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            nh_fail(error, NH_E_CONFIG, "%s", nh_error_text(L, -1));
        else
            doc = nh_writer_finish(r.writer, error);
        lua_close(L);
    }
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
