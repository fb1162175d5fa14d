/* engine.c — finds and opens the script engine, a shared object of its own, once a process.
 *
 * It is opened with RTLD_DEEPBIND: a host may carry another Lua whose lua_* symbols would otherwise
 * be taken for the engine's own. The sanitizers cannot work with that flag; their builds leave it
 * out, and then a host must be Lua 5.4 or none. The object stays loaded until the process ends: its
 * threads and atexit handlers may outlive any hub. A program that holds the static library may
 * stand anywhere; NOTIFYHUB_ENGINE tells it where the engine is.
 */
#include "runtime/work/engine.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/error.h"
#include "runtime/work/engine_load.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BINDING 0
#else
#define BINDING RTLD_DEEPBIND
#endif

static const nh_engine_ops *loaded;
static nh_error fault;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Adds a place to the error that is told when no place has the engine. */
static void not_there(const char *path) {
    static const char first[] = "script engine: it is in none of ";
    char places[sizeof fault.message];
    snprintf(places, sizeof places, "%s", fault.code ? fault.message + sizeof first - 1 : "");
    nh_fail(&fault, NH_E_INTERNAL, "%s%.600s%s%.300s", first, places, *places ? ", " : "", path);
}

/* Opens one file. Returns false only when it is not there: a file that is there and cannot be used
 * ends the search, and its fault is told. */
static bool try_file(const char *path) {
    if (access(path, F_OK) != 0) {
        not_there(path);
        return false;
    }
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL | BINDING);
    if (!object) {
        nh_fail(&fault, NH_E_INTERNAL, "script engine: %s", dlerror());
        return true;
    }
    void *symbol = dlsym(object, NH_ENGINE_ENTRY);
    nh_engine_entry_fn entry;
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast for this */
    const nh_engine_ops *ops = symbol ? entry() : NULL;
    if (ops && ops->abi == NH_ENGINE_ABI)
        loaded = ops;
    else
        nh_fail(&fault, NH_E_INTERNAL, "script engine: %s is not of this version", path);
    return true;
}

/* Beside the library or the program that holds this code. */
static bool try_beside(void) {
    static const char *const places[] = {"notifyhub/engine.so", "../lib/notifyhub/engine.so"};
    Dl_info own;
    char path[PATH_MAX];
    if (!dladdr(&once, &own) || !own.dli_fname)
        return false;
    const char *slash = strrchr(own.dli_fname, '/');
    int folder = slash ? (int)(slash - own.dli_fname) : 1;
    const char *from = slash ? own.dli_fname : ".";
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (snprintf(path, sizeof path, "%.*s/%s", folder, from, places[i]) < (int)sizeof path &&
            try_file(path))
            return true;
    return false;
}

/* NOTIFYHUB_ENGINE alone when it is set; else beside this code, then where it was installed. */
static void load(void) {
    const char *named =
        secure_getenv("NOTIFYHUB_ENGINE"); /* not of whoever runs a setuid program */
    if (named && *named) {
        if (!try_file(named))
            nh_fail(&fault, NH_E_INTERNAL,
                    "script engine: NOTIFYHUB_ENGINE names %.900s, which is "
                    "not there",
                    named);
        return;
    }
    if (try_beside() || try_file(NH_ENGINE_PATH))
        return;
    char looked[sizeof fault.message];
    snprintf(looked, sizeof looked, "%s", fault.message);
    nh_fail(&fault, NH_E_INTERNAL, "%.900s; NOTIFYHUB_ENGINE may name the file", looked);
}

const nh_engine_ops *nh_engine_load(nh_error *error) {
    pthread_once(&once, load);
    if (!loaded && error)
        *error = fault;
    return loaded;
}
