/* embed.c — a program of the build: compiles the built-in scripts and writes them as a C table of
 * nh_builtin, so that opening a hub only undumps them.
 *
 *     embed OUTPUT NAME=FILE…
 *
 * Byte code is the same for all releases of Lua 5.4 (lua.org: releases of a version have the same
 * virtual machine and are binary compatible). Debug information stays: errors name file and line.
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

enum { BYTES_A_LINE = 20 };

typedef struct output {
    FILE *file;
    size_t length;
} output;

static int put(lua_State *L, const void *bytes, size_t length, void *argument) {
    output *out = argument;
    (void)L;
    for (size_t i = 0; i < length; i++, out->length++)
        fprintf(out->file, "%u,%s", ((const unsigned char *)bytes)[i],
                out->length % BYTES_A_LINE == BYTES_A_LINE - 1 ? "\n" : "");
    return ferror(out->file);
}

/* lua_load's reader cannot name a chunk as we do, so a file is read whole. [-0, +1] */
static int load_file(lua_State *L, const char *name, const char *path) {
    luaL_Buffer text;
    FILE *file = fopen(path, "rb");
    if (!file) {
        lua_pushfstring(L, "%s: cannot be read", path);
        return LUA_ERRFILE;
    }
    luaL_buffinit(L, &text);
    size_t count;
    do {
        char *room = luaL_prepbuffer(&text);
        count = fread(room, 1, LUAL_BUFFERSIZE, file);
        luaL_addsize(&text, count);
    } while (count > 0);
    fclose(file);
    luaL_pushresult(&text);
    size_t length;
    const char *source = lua_tolstring(L, -1, &length);
    lua_pushfstring(L, "@%s.lua", name);
    int failed = luaL_loadbufferx(L, source, length, lua_tostring(L, -1), "t");
    lua_replace(L, -3);
    lua_pop(L, 1);
    return failed;
}

/* Writes one script's array. Returns its length, 0 after a failure that has been told. */
static size_t embed(lua_State *L, FILE *file, int number, char *script) {
    char *equals = strchr(script, '=');
    output out = {.file = file};
    if (!equals) {
        fprintf(stderr, "embed: %s: NAME=FILE expected\n", script);
        return 0;
    }
    *equals = '\0';
    if (load_file(L, script, equals + 1) != LUA_OK) {
        fprintf(stderr, "embed: %s\n", lua_tostring(L, -1));
        return 0;
    }
    fprintf(file, "static const unsigned char code_%d[] = {\n", number);
    int failed = lua_dump(L, put, &out, 0);
    fprintf(file, "};\n");
    lua_settop(L, 0);
    return failed ? 0 : out.length;
}

static int embed_all(lua_State *L, FILE *file, char **scripts, int count) {
    size_t lengths[1000];
    if (count > (int)(sizeof lengths / sizeof *lengths))
        return 1;
    fprintf(file, "/* Made from the scripts by embed.c. */\n"
                  "#include \"runtime/script/bundle.h\"\n\n");
    for (int i = 0; i < count; i++)
        if ((lengths[i] = embed(L, file, i, scripts[i])) == 0)
            return 1;
    fprintf(file, "\nconst nh_builtin nh_builtins[] = {\n");
    for (int i = 0; i < count; i++)
        fprintf(file, "    {\"%s\", code_%d, %zu},\n", scripts[i], i, lengths[i]);
    fprintf(file, "    {NULL, NULL, 0},\n};\n");
    return 0;
}

int main(int count, char **arguments) {
    lua_State *L = luaL_newstate();
    FILE *file = count > 1 ? fopen(arguments[1], "w") : NULL;
    if (!L || !file) {
        fprintf(stderr, "embed: no memory, or no output file\n");
        return 1;
    }
    int failed = embed_all(L, file, arguments + 2, count - 2);
    lua_close(L);
    failed |= fclose(file) != 0;
    if (failed)
        remove(arguments[1]);
    return failed;
}
