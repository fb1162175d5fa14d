/* setup.c — see setup.h. */
#include "runtime/script/setup.h"

#include <lauxlib.h>

#include "runtime/script/value.h"

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

nh_doc *nh_vm_prepare(nh_vm *vm, const nh_doc *config, nh_error *error) {
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

nh_doc *nh_vm_ask(nh_vm *vm, const char *function, const nh_doc *doc, nh_error *error) {
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

double nh_vm_allow_loading(nh_vm *vm, const nh_doc *config) {
    const nh_value *limits = nh_value_get(nh_doc_root(config), "limits");
    double slice = vm->limiter.limits.slice;
    vm->limiter.limits.slice = nh_value_real(nh_value_get(limits, "loading"), slice);
    vm->limiter.loading = true;
    return slice;
}

nh_err nh_vm_call_loading(nh_vm *vm, const nh_doc *config, int arguments, nh_error *error) {
    double slice = nh_vm_allow_loading(vm, config);
    nh_slice outer = nh_limiter_enter(&vm->limiter, vm->L);
    nh_err failed = nh_vm_call(vm, arguments, 0, error);
    nh_limiter_leave(&vm->limiter, &outer);
    vm->limiter.limits.slice = slice;
    vm->limiter.loading = false;
    return failed;
}

nh_err nh_vm_set_up(nh_vm *vm, const nh_doc *config, nh_error *error) {
    nh_vm_push_main(vm, "setup");
    lua_pushcfunction(vm->L, push_doc);
    lua_pushlightuserdata(vm->L, (void *)config);
    nh_err failed = nh_vm_call(vm, 1, 1, error);
    return failed ? failed : nh_vm_call_loading(vm, config, 1, error);
}
