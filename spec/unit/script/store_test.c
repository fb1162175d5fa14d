/* store_test.c — the module `store` as a script sees it, in a scratch state and with a hub's. */
#include <lauxlib.h>
#include <stdlib.h>

#include "runtime/script/vm.h"
#include "runtime/store/shared.h"
#include "spec/unit/check.h"

static nh_bundle *bundle;

static void run(nh_vm *vm, const char *code) {
    nh_error error = {0};
    if (CHECK(luaL_loadstring(vm->L, code) == LUA_OK)) {
        if (!CHECK(nh_vm_call(vm, 0, 0, &error) == NH_OK))
            printf("# %s\n", error.message);
    } else {
        printf("# %s\n", lua_tostring(vm->L, -1));
    }
    CHECK_INT(lua_gettop(vm->L), 0);
}

static nh_vm *open_vm(nh_shared *shared) {
    nh_error error;
    static const nh_limits limits = NH_LIMITS_DEFAULT;
    nh_vm_setup setup = {.bundle = bundle, .shared = shared, .limits = &limits};
    nh_vm *vm = nh_vm_create(&setup, &error);
    if (!CHECK(vm))
        exit(check_end());
    return vm;
}

static void a_script_stores_and_reads(void) {
    nh_vm *vm = open_vm(NULL);
    run(vm, "local store = require 'store'\n"
            "assert(store.get 'k' == nil)\n"
            "assert(store.set('k', { a = { 1, 2.5, true }, b = '', [''] = '' }))\n"
            "local k = store.get 'k'\n"
            "assert(#k.a == 3 and k.a[2] == 2.5 and k.b == '' and k[''] == '')\n"
            "k.a = 1; assert(store.get('k').a[1] == 1)\n"
            "assert(store.set('k', nil) == true and store.get 'k' == nil)\n"
            "assert(store.add('once', false, 60) == true and store.add('once', 1) == false)\n"
            "assert(store.get 'once' == false)\n"
            "local left = store.ttl 'once'; assert(left > 0 and left <= 60)\n"
            "assert(store.ttl 'none' == nil)\n"
            "assert(math.type(store.incr 'n') == 'integer' and store.incr('n', 4) == 5)\n"
            "assert(store.incr('n', 0.5) == 5.5 and store.ttl 'n' == math.huge)\n"
            "assert(store.push('l', { id = 1 }) == 1 and store.push('l', 'x', { ttl = 9 }) == 2)\n"
            "assert(store.length 'l' == 2 and store.pop('l').id == 1)\n"
            "local all = store.pop_all 'l'; assert(#all == 1 and all[1] == 'x')\n"
            "assert(#store.pop_all 'l' == 0 and store.pop 'l' == nil and store.length 'l' == 0)\n"
            "assert(store.cas('c', nil, { x = 1, y = 2 }) == true)\n"
            "assert(store.cas('c', nil, 1) == false)\n"
            "assert(store.cas('c', { y = 2, x = 1 }, 'z') == true and store.get 'c' == 'z')\n"
            "assert(store.delete 'c' == true and store.delete 'c' == false)\n"
            "assert(table.concat(store.keys(), ' ') == 'n once' and #store.keys('on') == 1)\n"
            "store.set('\\0own', 1)\n"
            "assert(#store.keys() == 2 and #store.keys('\\0') == 1 and store.delete('\\0own'))\n"
            "assert(store.stats().entries == 2 and store.stats().bytes > 0)\n");
    nh_vm_destroy(vm);
}

static void failures_are_returned_and_misuse_is_raised(void) {
    nh_shared *shared = nh_shared_create(&(nh_shared_limits){.entries = 1}, NULL, NULL);
    nh_vm *vm = open_vm(shared);
    run(vm,
        "local store = require 'store'\n"
        "assert(store.push('l', 1))\n"
        "local function fails(code, text, ok, message, got)\n"
        "  assert(ok == nil and got == code and message:find(text, 1, true), message)\n"
        "end\n"
        "fails('too_large', 'the store is full', store.set('more', 1))\n"
        "fails('invalid', 'holds a list, incr needs a number', store.incr 'l')\n"
        "fails('invalid', 'must not be empty', store.get '')\n"
        "local function raises(text, f, ...)\n"
        "  local ok, message = pcall(f, ...)\n"
        "  assert(not ok and message:find(text, 1, true), message)\n"
        "end\n"
        "raises('value expected', store.set, 'k')\n"
        "raises('value expected', store.add, 'k', nil)\n"
        "raises('function cannot be there', store.set, 'k', print)\n"
        "raises('function cannot be there', store.cas, 'k', {}, { print })\n"
        "raises(\"unknown option 'tll' (known: ttl, durable)\", store.set, 'k', 1, { tll = 1 })\n"
        "raises('above 0', store.set, 'k', 1, 0)\n"
        "raises('above 0', store.set, 'k', 1, { ttl = '1' })\n"
        "raises('above 0', store.set, 'k', 1, { ttl = 0/0 })\n"
        "raises('need a journal', store.set, 'k', 1, { durable = true })\n"
        "raises('a list cannot be durable', store.push, 'k', 1, { durable = true })\n"
        "raises('string expected', store.get, {})\n"
        "raises('must be finite', store.incr, 'k', 1/0)\n"
        "local deep = {}; deep[1] = deep\n"
        "raises('nested', store.set, 'k', deep)\n");
    nh_vm_destroy(vm);
    nh_shared_destroy(shared);
}

static void states_share_what_the_hub_gave_them(void) {
    nh_shared *shared = nh_shared_create(NULL, NULL, NULL);
    nh_vm *one = open_vm(shared), *other = open_vm(shared), *alone = open_vm(NULL);
    run(one, "require('store').set('k', 'v')");
    nh_vm_destroy(one); /* what it set outlives it */
    run(other, "assert(require('store').get 'k' == 'v')");
    run(alone, "assert(require('store').get 'k' == nil)");
    nh_vm_destroy(other);
    nh_vm_destroy(alone);
    nh_shared_destroy(shared);
}

int main(void) {
    bundle = nh_bundle_create(NULL, 0, NULL);
    CHECK(bundle);
    RUN(a_script_stores_and_reads);
    RUN(failures_are_returned_and_misuse_is_raised);
    RUN(states_share_what_the_hub_gave_them);
    nh_bundle_destroy(bundle);
    return check_end();
}
