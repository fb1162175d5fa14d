/* bundle.c — sources become byte code once, in a scratch state that is thrown away; each worker
 * then only undumps. Built-in scripts are byte code already.
 *
 * What users write is loaded as text only: byte code from outside could crash the state. */
#include "runtime/script/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/script/file.h"

typedef struct script {
    char *name;
    char *code;
    size_t length, room; /* room 0: both are of a built-in script, and constant */
} script;

struct nh_bundle {
    script *scripts;
    size_t count;
};

static const script *find(const nh_bundle *bundle, const char *name) {
    for (size_t i = 0; i < bundle->count; i++)
        if (strcmp(bundle->scripts[i].name, name) == 0)
            return &bundle->scripts[i];
    return NULL;
}

static int append(lua_State *L, const void *bytes, size_t length, void *argument) {
    script *s = argument;
    (void)L;
    if (s->length + length > s->room) {
        size_t room = 2 * (s->length + length);
        char *code = realloc(s->code, room);
        if (!code)
            return 1;
        s->code = code;
        s->room = room;
    }
    memcpy(s->code + s->length, bytes, length);
    s->length += length;
    return 0;
}

nh_bundle *nh_bundle_new(void) {
    return calloc(1, sizeof(nh_bundle));
}

size_t nh_bundle_count(const nh_bundle *bundle) {
    return bundle->count;
}

const char *nh_bundle_name(const nh_bundle *bundle, size_t index) {
    return bundle->scripts[index].name;
}

static bool keep(nh_bundle *bundle, const script *s) {
    script *scripts = realloc(bundle->scripts, (bundle->count + 1) * sizeof *scripts);
    if (!scripts)
        return false;
    bundle->scripts = scripts;
    scripts[bundle->count++] = *s;
    return true;
}

nh_err nh_bundle_add(nh_bundle *bundle, lua_State *L, const char *name, const char *chunk,
                     const char *source, size_t length, nh_error *error) {
    if (find(bundle, name))
        return NH_OK;
    if (bundle->count == NH_SCRIPTS_MAX)
        return nh_fail(error, NH_E_CONFIG, "%s: more than %d scripts", chunk + 1, NH_SCRIPTS_MAX);
    if (length > 0 && *source == *LUA_SIGNATURE) /* Lua's own message does not name the file */
        return nh_fail(error, NH_E_CONFIG, "%s: is byte code, not Lua text", chunk + 1);
    if (luaL_loadbufferx(L, source, length, chunk, "t") != LUA_OK) {
        nh_fail(error, NH_E_CONFIG, "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        return NH_E_CONFIG;
    }
    script s = {.name = strdup(name)};
    int failed = s.name ? lua_dump(L, append, &s, 0) : LUA_ERRMEM;
    lua_pop(L, 1);
    if (!failed && keep(bundle, &s))
        return NH_OK;
    free(s.name);
    free(s.code);
    return nh_fail_memory(error);
}

/* `b`, unless there is a script of that name already. */
static nh_err add_builtin(nh_bundle *bundle, const nh_builtin *b, nh_error *error) {
    const script s = {
        .name = (char *)b->name, .code = (char *)b->code, .length = b->length, .room = 0};
    if (find(bundle, b->name) || keep(bundle, &s))
        return NH_OK;
    return nh_fail_memory(error);
}

static nh_err add_file(nh_bundle *bundle, lua_State *L, const char *name, const char *path,
                       nh_error *error) {
    char chunk[PATH_MAX + 1];
    size_t length;
    char *source = nh_file_read(path, NH_SCRIPT_BYTES_MAX, &length, error);
    if (!source)
        return NH_E_CONFIG;
    snprintf(chunk, sizeof chunk, "@%s", path);
    nh_err failed = nh_bundle_add(bundle, L, name, chunk, source, length, error);
    free(source);
    return failed;
}

/* All *.lua of folder/kind, kind being "adapters" or "lib"; a folder without it has none. */
static nh_err add_folder(nh_bundle *bundle, lua_State *L, const char *folder, const char *kind,
                         nh_error *error) {
    char path[PATH_MAX], file[PATH_MAX], name[NAME_MAX + 16];
    snprintf(path, sizeof path, "%s/%s", folder, kind);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT
                   ? NH_OK
                   : nh_fail(error, NH_E_CONFIG, "script_path: %s: %s", path, strerror(errno));
    nh_err failed = NH_OK;
    for (struct dirent *entry; !failed && (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.' || length < 5 ||
            strcmp(entry->d_name + length - 4, ".lua") != 0)
            continue;
        snprintf(name, sizeof name, "%s/%.*s", kind, (int)length - 4, entry->d_name);
        if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) >= (int)sizeof file)
            failed = nh_fail(error, NH_E_CONFIG, "script_path: %s: the path is too long", path);
        else
            failed = add_file(bundle, L, name, file, error);
    }
    closedir(dir);
    return failed;
}

static nh_err add_path(nh_bundle *bundle, lua_State *L, const char *folder, nh_error *error) {
    DIR *dir = opendir(folder);
    if (!dir)
        return nh_fail(error, NH_E_CONFIG, "script_path: %s: %s", folder, strerror(errno));
    closedir(dir);
    nh_err failed = add_folder(bundle, L, folder, "adapters", error);
    return failed ? failed : add_folder(bundle, L, folder, "lib", error);
}

nh_bundle *nh_bundle_create(const char *const *folders, size_t count, nh_error *error) {
    nh_bundle *bundle = nh_bundle_new();
    lua_State *L = luaL_newstate();
    nh_err failed = bundle && L ? NH_OK : nh_fail_memory(error);
    for (size_t i = 0; i < count && !failed; i++)
        failed = add_path(bundle, L, folders[i], error);
    for (const nh_builtin *b = nh_builtins; b->name && !failed; b++)
        failed = add_builtin(bundle, b, error);
    if (L)
        lua_close(L);
    if (!failed)
        return bundle;
    nh_bundle_destroy(bundle);
    return NULL;
}

void nh_bundle_destroy(nh_bundle *bundle) {
    if (!bundle)
        return;
    for (size_t i = 0; i < bundle->count; i++)
        if (bundle->scripts[i].room > 0) {
            free(bundle->scripts[i].name);
            free(bundle->scripts[i].code);
        }
    free(bundle->scripts);
    free(bundle);
}

bool nh_bundle_load(const nh_bundle *bundle, lua_State *L, const char *name) {
    const script *s = find(bundle, name);
    if (!s)
        return false;
    if (luaL_loadbufferx(L, s->code, s->length, name, "b") != LUA_OK)
        lua_error(L);
    return true;
}

void nh_bundle_names(const nh_bundle *bundle, lua_State *L, const char *prefix) {
    size_t length = strlen(prefix);
    lua_Integer count = 0;
    lua_newtable(L);
    for (size_t i = 0; i < bundle->count; i++)
        if (strncmp(bundle->scripts[i].name, prefix, length) == 0) {
            lua_pushstring(L, bundle->scripts[i].name + length);
            lua_rawseti(L, -2, ++count);
        }
}
