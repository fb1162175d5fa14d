/* engine.c — the Lua engine behind engine.h: checks a configuration once and gives each worker a
 * state of its own.
 *
 * Opening compiles the scripts and lets lib/main look at the configuration in a scratch state; what
 * it returns, with every default in place, is what the workers' states are set up with. An engine
 * is immutable once it is open.
 */
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/script/config.h"
#include "runtime/script/file.h"
#include "runtime/script/task.h"
#include "runtime/script/value.h"
#include "runtime/script/vm.h"

enum { FOLDERS_MOST = 16, CONFIG_BYTES_MAX = 1 << 20 };

struct nh_engine {
    nh_bundle *bundle;
    nh_doc *config; /* with every default in place */
};

/* ----------------------------------------------------------- configuration */

/* Folders of script_path: a string or a list; relative to the configuration file when there is one.
 */
static nh_err add_folder(const nh_value *value, const char *base, char **folders, size_t *count,
                         nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (nh_value_kind(value) != NH_STRING || length == 0)
        return nh_fail(error, NH_E_CONFIG, "script_path: must be a folder or a list of folders");
    if (*count == FOLDERS_MOST)
        return nh_fail(error, NH_E_CONFIG, "script_path: more than %d folders", FOLDERS_MOST);
    const char *slash = base && *text != '/' ? strrchr(base, '/') : NULL;
    size_t prefix = slash ? (size_t)(slash + 1 - base) : 0;
    char *folder = malloc(prefix + length + 1);
    if (!folder)
        return nh_fail_memory(error);
    memcpy(folder, base ? base : "", prefix);
    memcpy(folder + prefix, text, length);
    folder[prefix + length] = '\0';
    folders[(*count)++] = folder;
    return NH_OK;
}

static nh_bundle *load_scripts(const nh_value *config, const char *base, nh_error *error) {
    char *folders[FOLDERS_MOST];
    size_t count = 0;
    nh_err failed = NH_OK;
    nh_bundle *bundle = NULL;
    const nh_value *path = nh_value_get(config, "script_path");
    if (nh_value_kind(path) == NH_ARRAY)
        for (size_t i = 0; i < nh_value_count(path) && !failed; i++)
            failed = add_folder(nh_value_at(path, i), base, folders, &count, error);
    else if (nh_value_kind(path) != NH_NIL)
        failed = add_folder(path, base, folders, &count, error);
    if (!failed)
        bundle = nh_bundle_create((const char *const *)folders, count, error);
    for (size_t i = 0; i < count; i++)
        free(folders[i]);
    return bundle;
}

static int push_doc(lua_State *L) {
    nh_push_value(L, nh_doc_root(lua_touserdata(L, 1)));
    return 1;
}

/* The texts of all secrets in a document, added to the list on top of the stack. Depth is bounded
 * by the document's. */
static void add_secrets(lua_State *L, const nh_value *value) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (nh_value_kind(value) == NH_SECRET) {
        lua_pushlstring(L, text, length);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    }
    for (size_t i = 0; i < nh_value_count(value); i++)
        add_secrets(L, nh_value_at(value, i));
}

static int push_secrets(lua_State *L) {
    lua_newtable(L);
    luaL_checkstack(L, 2, NULL);
    add_secrets(L, nh_doc_root(lua_touserdata(L, 1)));
    return 1;
}

/* prepare(config, secrets): in Lua a secret is a string like any other, so they are told apart. */
static nh_doc *prepare(nh_vm *vm, const nh_doc *config, nh_error *error) {
    static const lua_CFunction pushes[] = {push_doc, push_secrets};
    nh_vm_push_main(vm, "prepare");
    for (int i = 0; i < 2; i++) {
        lua_pushcfunction(vm->L, pushes[i]);
        lua_pushlightuserdata(vm->L, (void *)config);
        if (nh_vm_call(vm, 1, 1, error) != NH_OK) {
            lua_pop(vm->L, i + 1);
            return NULL;
        }
    }
    if (nh_vm_call(vm, 2, 1, error) != NH_OK)
        return NULL;
    return nh_vm_pop_doc(vm, "prepare", error);
}

/* Calls a function of lib/main with a document (may be NULL) and returns what it returns as one. */
static nh_doc *ask(nh_vm *vm, const char *function, const nh_doc *doc, nh_error *error) {
    nh_vm_push_main(vm, function);
    lua_pushcfunction(vm->L, push_doc);
    lua_pushlightuserdata(vm->L, (void *)doc);
    if (nh_vm_call(vm, 1, 1, error) != NH_OK) {
        lua_pop(vm->L, 1);
        return NULL;
    }
    if (nh_vm_call(vm, 1, 1, error) != NH_OK)
        return NULL;
    return nh_vm_pop_doc(vm, function, error);
}

/* Puts file and line before an error that begins with a key: "platforms.slack.tokn: unknown
 * option". */
static void locate(const char *path, nh_error *error) {
    char key[256], text[NH_ERROR_MESSAGE_MAX];
    nh_error unused;
    size_t length;
    if (!path || !error)
        return;
    size_t end = strcspn(error->message, ": \n");
    char *source = nh_file_read(path, CONFIG_BYTES_MAX, &length, &unused);
    if (source && end < sizeof key) {
        memcpy(key, error->message, end);
        key[end] = '\0';
        int line = nh_config_line(source, key);
        snprintf(text, sizeof text, "%s", error->message);
        if (line > 0)
            nh_fail(error, error->code, "%s:%d: %.900s", path, line, text);
        else
            nh_fail(error, error->code, "%s: %.900s", path, text);
    }
    free(source);
}

static void engine_close(nh_engine *engine) {
    if (!engine)
        return;
    nh_doc_unref(engine->config);
    nh_bundle_destroy(engine->bundle);
    free(engine);
}

static nh_err engine_open(const nh_doc *config, nh_engine **out, nh_error *error) {
    nh_error fault = {.code = NH_E_INTERNAL};
    char path[PATH_MAX] = "";
    size_t length;
    const nh_value *root = nh_doc_root(config);
    const char *told = nh_value_bytes(nh_value_get(root, "config_file"), &length);
    if (told && length < sizeof path)
        memcpy(path, told, length);
    nh_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return nh_fail_memory(error);
    engine->bundle = load_scripts(root, *path ? path : NULL, &fault);
    nh_vm *vm = engine->bundle ? nh_vm_create(engine->bundle, NULL, &fault) : NULL;
    if (vm) {
        engine->config = prepare(vm, config, &fault);
        if (!engine->config && fault.code == NH_E_CONFIG)
            locate(*path ? path : NULL, &fault);
    }
    nh_vm_destroy(vm);
    if (!engine->config) {
        engine_close(engine);
        return nh_fail(error, fault.code, "%s", fault.message);
    }
    *out = engine;
    return NH_OK;
}

static const nh_doc *engine_config(const nh_engine *engine) {
    return engine->config;
}

static nh_doc *engine_platforms(const nh_engine *engine, nh_error *error) {
    nh_vm *vm = nh_vm_create(engine->bundle, NULL, error);
    nh_doc *doc = vm ? ask(vm, "platforms", engine->config, error) : NULL;
    nh_vm_destroy(vm);
    return doc;
}

/* ----------------------------------------------------------------- workers */

static nh_err vm_open(nh_engine *engine, const nh_host *host, nh_vm **out, nh_error *error) {
    nh_vm *vm = nh_vm_create(engine->bundle, host, error);
    if (!vm)
        return NH_E_SCRIPT;
    nh_vm_push_main(vm, "setup");
    lua_pushcfunction(vm->L, push_doc);
    lua_pushlightuserdata(vm->L, engine->config);
    nh_err failed = nh_vm_call(vm, 1, 1, error);
    if (!failed)
        failed = nh_vm_call(vm, 1, 0, error);
    if (failed) {
        nh_vm_destroy(vm);
        return failed;
    }
    *out = vm;
    return NH_OK;
}

static size_t vm_memory(const nh_vm *vm) {
    return vm->memory;
}

static const nh_engine_ops ops = {
    .abi = NH_ENGINE_ABI,
    .open = engine_open,
    .close = engine_close,
    .config = engine_config,
    .platforms = engine_platforms,
    .load_config = nh_config_read,
    .vm_open = vm_open,
    .vm_close = nh_vm_destroy,
    .vm_memory = vm_memory,
    .task_start = nh_script_start,
    .task_stop = nh_script_stop,
    .op_done = nh_script_op_done,
};

NH_API const nh_engine_ops *nh_engine_entry(void);

const nh_engine_ops *nh_engine_entry(void) {
    return &ops;
}
