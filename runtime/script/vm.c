/* vm.c — makes a state and fills it: the safe part of Lua's own libraries, the C modules of the
 * script API, and `require` for these and for the scripts of the bundle, and for nothing else.
 * Owned by the worker's thread.
 *
 * The allocator's argument leads from any coroutine to its vm.
 */
#include "runtime/script/vm.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/script/receipt.h"
#include "runtime/script/sandbox.h"
#include "runtime/script/value.h"
#include "runtime/store/shared.h"

/* Percent of the live memory at which a collection begins. In a small state most of that is the
 * scripts themselves, and looking at them again for every few messages is what a collection costs;
 * beside many messages in flight the garbage is to be less than at Lua's 200. A state that is small
 * holds up to GC_PAUSE_SMALL percent of that before a collection has ended, and stays small. */
enum { GC_PAUSE_SMALL = 300, GC_PAUSE = 130, SMALL_PART = 32 };

static const char LOADED[] = "notifyhub.loaded";

nh_vm *nh_vm_of(lua_State *L) {
    void *vm;
    lua_getallocf(L, &vm);
    return vm;
}

/* ----------------------------------------------------------------- modules */

static bool load_script(lua_State *L, const char *name) {
    const nh_bundle *bundle = nh_vm_of(L)->setup.bundle;
    /* require "url" is lib/url; require "adapters.slack" is adapters/slack. */
    if (strncmp(name, "adapters.", 9) == 0)
        return nh_bundle_load(bundle, L, lua_pushfstring(L, "adapters/%s", name + 9));
    return nh_bundle_load(bundle, L, lua_pushfstring(L, "lib/%s", name));
}

static int require(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LOADED);
    if (lua_getfield(L, 2, name) == LUA_TBOOLEAN)
        return luaL_error(L, "module '%s' requires itself", name);
    if (!lua_isnil(L, -1))
        return 1;
    if (!load_script(L, name))
        return luaL_error(L, "there is no module '%s'", name);
    lua_pushboolean(L, 1);
    lua_setfield(L, 2, name);
    lua_pushvalue(L, 1);
    if (lua_pcallk(L, 1, 1, 0, 0, NULL) != LUA_OK) {
        lua_pushnil(L);
        lua_setfield(L, 2, name);
        return lua_error(L);
    }
    if (lua_isnil(L, -1))
        return luaL_error(L, "module '%s' returns nothing", name);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

static void open_modules(lua_State *L) {
    static const luaL_Reg modules[] = {{"json", nh_open_json},
                                       {"crypto", nh_open_crypto},
                                       {"markdown", nh_open_markdown},
                                       {"store", nh_open_store},
                                       {"script", nh_open_script},
                                       {"task", nh_open_task},
                                       {NULL, NULL}};
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LOADED);
    for (const luaL_Reg *module = modules; module->name; module++) {
        lua_pushcfunction(L, module->func);
        lua_call(L, 0, 1);
        lua_setfield(L, -2, module->name);
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, require);
    lua_setglobal(L, "require");
}

static const char *const own_names[NH_MAIN_OWN] = {[NH_MAIN_BEGIN] = "begin",
                                                   [NH_MAIN_STEP] = "step",
                                                   [NH_MAIN_DELIVERED] = "delivered",
                                                   [NH_MAIN_DONE] = "done",
                                                   [NH_MAIN_AFTER] = "after"};

/* Runs protected: everything that may raise while a state comes up. */
static int open_all(lua_State *L) {
    nh_vm *vm = nh_vm_of(L);
    lua_gc(L, LUA_GCINC, GC_PAUSE_SMALL, 0, 0);
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    nh_sandbox_open(L);
    open_modules(L);
    nh_receipt_open(L);
    if (vm->setup.simulated) { /* before anything takes the real one */
        lua_pushcfunction(L, require);
        lua_pushliteral(L, "simulation");
        lua_call(L, 1, 1);
        luaL_getsubtable(L, LUA_REGISTRYINDEX, LOADED);
        lua_getfield(L, -2, "task");
        lua_setfield(L, -2, "task");
        lua_pop(L, 2);
    }
    lua_pushcfunction(L, require);
    lua_pushliteral(L, "main");
    lua_call(L, 1, 1);
    for (int i = 0; i < NH_MAIN_OWN; i++) {
        lua_getfield(L, -1, own_names[i]);
        vm->own[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    vm->main = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* -------------------------------------------------------------- life cycle */

void nh_vm_adopt(nh_vm *vm, const nh_vm_setup *setup) {
    vm->setup = *setup;
    vm->shared = setup->shared;
    vm->limiter.limits = *setup->limits;
}

nh_vm *nh_vm_create(const nh_vm_setup *setup, nh_error *error) {
    nh_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        goto fail;
    vm->setup = *setup;
    vm->shared = setup->shared;
    vm->requests = vm->spare = LUA_NOREF;
    nh_limiter_init(&vm->limiter, setup->limits);
    vm->writer = nh_writer_create();
    vm->L = lua_newstate(nh_limiter_alloc, vm);
    if (!vm->writer || !vm->L)
        goto fail;
    *(void **)lua_getextraspace(vm->L) = NULL; /* coroutines start with a copy: no strand */
    lua_pushcfunction(vm->L, open_all);
    if (nh_vm_call(vm, 0, 0, error) != NH_OK) {
        nh_vm_destroy(vm);
        return NULL;
    }
    return vm;
fail:
    nh_vm_destroy(vm);
    nh_fail_memory(error);
    return NULL;
}

void nh_vm_destroy(nh_vm *vm) {
    if (!vm)
        return;
    if (vm->L)
        lua_close(vm->L);
    nh_limiter_term(&vm->limiter);
    nh_shared_destroy(vm->owned_shared);
    nh_writer_destroy(vm->writer);
    free(vm->text.bytes);
    free(vm);
}

void nh_vm_log(nh_vm *vm, nh_log_level level, const char *event, const char *text) {
    const nh_generation *generation = vm->setup.generation;
    nh_log_write(vm->setup.log, level, event, nh_log_text("text", text),
                 nh_log_int("generation", generation ? (int64_t)generation->number : 0));
}

/* Chooses the collector's pause by what the state holds. */
static void tune(nh_vm *vm) {
    size_t small = vm->limiter.limits.state_memory / SMALL_PART;
    bool large = vm->limiter.held > (vm->large ? small : small / 100 * GC_PAUSE_SMALL);
    if (large == vm->large)
        return;
    vm->large = large;
    lua_gc(vm->L, LUA_GCSETPAUSE, large ? GC_PAUSE : GC_PAUSE_SMALL);
}

void nh_vm_count_task(nh_vm *vm, int change) {
    vm->tasks += (size_t)change;
    tune(vm);
    if (vm->setup.generation)
        atomic_fetch_add_explicit(&vm->setup.generation->tasks, (size_t)change,
                                  memory_order_relaxed);
}

void nh_vm_push_main(nh_vm *vm, const char *name) {
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->main);
    lua_getfield(vm->L, -1, name);
    lua_remove(vm->L, -2);
}

void nh_vm_push_own(nh_vm *vm, nh_main which) {
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->own[which]);
}

/* The message as it is when a script raised it on purpose (a table {code, message}), else with a
 * traceback. */
static int on_error(lua_State *L) {
    if (lua_type(L, 1) == LUA_TTABLE)
        return 1;
    luaL_traceback(L, L, nh_error_text(L, 1), 1);
    return 1;
}

nh_err nh_vm_call(nh_vm *vm, int arguments, int results, nh_error *error) {
    lua_State *L = vm->L;
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, on_error);
    lua_insert(L, base);
    int status = lua_pcall(L, arguments, results, base);
    nh_err code = NH_OK;
    if (status != LUA_OK && lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        lua_getfield(L, -2, "message");
        code = nh_err_from_name(lua_isstring(L, -2) ? lua_tostring(L, -2) : "internal");
        nh_fail(error, code, "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "");
        lua_pop(L, 3);
    } else if (status != LUA_OK) {
        code = nh_fail(error, NH_E_SCRIPT, "%s", nh_error_text(L, -1));
        lua_pop(L, 2);
    }
    lua_remove(L, base);
    return code;
}

static int write_doc(lua_State *L) {
    nh_writer_clear(nh_vm_of(L)->writer);
    nh_write_value(L, 1, nh_vm_of(L)->writer, lua_touserdata(L, 2));
    return 0;
}

static nh_err pop_value(nh_vm *vm, const char *what, nh_error *error) {
    lua_State *L = vm->L;
    lua_pushcfunction(L, write_doc);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, (void *)what);
    return nh_vm_call(vm, 2, 0, error);
}

nh_doc *nh_vm_pop_doc(nh_vm *vm, const char *what, nh_error *error) {
    return pop_value(vm, what, error) == NH_OK ? nh_writer_finish(vm->writer, error) : NULL;
}

nh_err nh_vm_pop_packed(nh_vm *vm, const char *what, nh_packed *out, nh_error *error) {
    nh_err failed = pop_value(vm, what, error);
    return failed ? failed : nh_writer_packed(vm->writer, out, error);
}
