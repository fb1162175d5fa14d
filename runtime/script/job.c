/* job.c — carries a delivery on. lib/delivery says in steps what is to be done next, and waits
 * between them without a coroutine: its stack would be most of what a message in flight holds. A
 * step runs in the state itself, so nothing that it calls (a rendering, an adapter) may wait.
 * Owned by the worker's thread.
 */
#include <lauxlib.h>

#include "runtime/core/error.h"
#include "runtime/script/strand.h"
#include "runtime/script/value.h"

/* What a step said, on top of the state's stack: a transport, a request, whether it is one more
 * attempt [-3, +0]. */
static bool send(nh_strand *s, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    const char *transport = lua_tostring(vm->L, -3);
    s->op.again = lua_toboolean(vm->L, -1);
    lua_pop(vm->L, 1);
    nh_doc *request = nh_vm_pop_doc(vm, "request", error);
    bool sent = request && vm->setup.host->transfer(&s->op, transport, request, error) == NH_OK;
    lua_pop(vm->L, 1);
    return sent;
}

/* The answer to a request that was refused before anything was sent [-0, +1]. */
static void push_refusal(lua_State *L, const nh_error *error) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, nh_err_name(error->code));
    lua_setfield(L, -2, "error");
    lua_pushstring(L, error->message);
    lua_setfield(L, -2, "message");
}

static nh_err call_step(nh_strand *s, int job, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    nh_strand *outer = vm->job;
    nh_vm_push_main(vm, "step");
    lua_pushvalue(vm->L, job);
    lua_pushvalue(vm->L, job + 1);
    vm->job = s;
    s->waits = false;
    nh_err failed = nh_vm_call(vm, 2, 3, error);
    vm->job = outer;
    return failed;
}

static nh_progress advance(nh_strand *s, int job, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    lua_State *L = vm->L;
    for (;;) {
        if (call_step(s, job, error) != NH_OK)
            return NH_FAILED_JOB;
        if (s->waits) /* for its account's rate */
            return NH_WAITS;
        double seconds = lua_tonumber(L, -3);
        switch (lua_type(L, -3)) {
        case LUA_TNIL:
            return NH_ENDED;
        case LUA_TNUMBER:
            if (seconds > 0 && vm->setup.host->sleep(&s->op, seconds, error) != NH_OK)
                return NH_FAILED_JOB;
            if (seconds > 0)
                return NH_WAITS;
            lua_settop(L, job);
            lua_pushnil(L);
            break;
        default:
            if (send(s, error))
                return NH_WAITS;
            lua_settop(L, job);
            push_refusal(L, error);
        }
    }
}

nh_progress nh_job_advance(nh_strand *s, nh_error *error) {
    lua_State *L = s->owner->vm->L;
    int job = lua_gettop(L) - 1;
    luaL_checkstack(L, 8, NULL);
    /* Who sends may be a script, which goes on within its limits afterwards. */
    nh_limiter *limiter = nh_limiter_of(L);
    nh_slice outer = nh_limiter_enter(limiter, L);
    nh_progress progress = advance(s, job, error);
    nh_limiter_leave(limiter, &outer);
    s->waits = progress == NH_WAITS;
    lua_settop(L, job - 1);
    return progress;
}
