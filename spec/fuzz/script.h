/* script.h — for targets that are Lua: a state as the engine makes it, and a file of this folder
 * whose function gets the inputs. It stays open to the end of the process.
 *
 * spec/fuzz/NAME.lua returns a function; it is called with each input as a string, and an error
 * that comes out of it is a finding. libFuzzer sees no line of Lua, so a hook counts them for it.
 */
#ifndef NH_SPEC_FUZZ_SCRIPT_H
#define NH_SPEC_FUZZ_SCRIPT_H

#include <lauxlib.h>

#include "runtime/script/vm.h"
#include "spec/fuzz/fuzz.h"

#define FUZZ_COUNTERS 65536

/* libFuzzer takes what stands in this section for coverage beside that of C. */
#if defined(__clang__)
__attribute__((section("__libfuzzer_extra_counters"), used))
#endif
static uint8_t fuzz_lines[FUZZ_COUNTERS];

typedef struct fuzz_script {
    nh_bundle *bundle;
    nh_limits limits;
    nh_vm *vm;
    int function; /* registry reference */
} fuzz_script;

/* A pair of lines that ran after one another: as an edge is in C. Asking whose lines they are would
 * cost more than all the rest. */
static void fuzz_count_line(lua_State *L, lua_Debug *debug) {
    static unsigned before;
    (void)L;
    unsigned now = (unsigned)debug->currentline * 2654435761u;
    uint8_t *counter = &fuzz_lines[(now >> 8 ^ before >> 9) % FUZZ_COUNTERS];
    *counter = (uint8_t)(*counter + (*counter < UINT8_MAX));
    before = now;
}

static inline void fuzz_script_must(fuzz_script *s, int status, const char *what) {
    if (status == LUA_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, luaL_tolstring(s->vm->L, -1, NULL));
    abort();
}

/* An error of ours is a table with a message. */
static int fuzz_script_traceback(lua_State *L) {
    if (lua_istable(L, 1))
        lua_getfield(L, 1, "message");
    luaL_traceback(L, L, luaL_tolstring(L, -1, NULL), 1);
    return 1;
}

/* Opens a state and loads the file. */
static inline void fuzz_script_open(fuzz_script *s, const char *path) {
    nh_error error = FUZZ_ERROR;
    s->limits = (nh_limits)NH_LIMITS_DEFAULT;
    s->limits.slice = 0.02; /* a script that never ends is soon over */
    s->bundle = nh_bundle_create(NULL, 0, &error);
    nh_vm_setup setup = {.bundle = s->bundle, .limits = &s->limits, .simulated = true};
    s->vm = s->bundle ? nh_vm_create(&setup, &error) : NULL;
    if (!s->vm) {
        fprintf(stderr, "%s: %s\n", path, error.message);
        abort();
    }
    lua_pushcfunction(s->vm->L, fuzz_script_traceback);
    fuzz_script_must(s, luaL_loadfile(s->vm->L, path) || lua_pcall(s->vm->L, 0, 1, -2), path);
    s->function = luaL_ref(s->vm->L, LUA_REGISTRYINDEX);
    lua_settop(s->vm->L, 0);
#if defined(__clang__)
    lua_sethook(s->vm->L, fuzz_count_line, LUA_MASKLINE, 0);
#else
    (void)fuzz_count_line;
#endif
}

/* Calls the function with the input. */
static inline void fuzz_script_run(fuzz_script *s, const uint8_t *data, size_t size) {
    lua_State *L = s->vm->L;
    lua_pushcfunction(L, fuzz_script_traceback);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->function);
    lua_pushlstring(L, (const char *)data, size);
    fuzz_script_must(s, lua_pcall(L, 1, 0, 1), "does not hold");
    lua_settop(L, 0);
}

#endif
