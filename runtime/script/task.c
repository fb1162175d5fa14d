/* task.c — runs one message: its deliveries, and a coroutine for what rules do with it when that
 * may wait.
 *
 * A strand waits for one thing at a time: an operation of the host (transfer, sleep) or the strands
 * that it started with task.parallel. lib/main's begin(context) says what there is to do:
 * deliveries, a strand without a coroutine each (job.c), after which done(context) returns a status
 * and a receipt, which end the task; or nil, and then run(context) is a coroutine, the main strand,
 * and returns these. A task that is stopped has its operations cancelled and its
 * coroutines closed, and then lib/main's stop(context, code, text) makes the receipt of what was
 * reached.
 *
 * Owned by the worker's thread. Every entry from the host runs inside a protected call, so that
 * running out of memory fails the message and not the process.
 */
#include "runtime/script/task.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/script/receipt.h"
#include "runtime/script/strand.h"
#include "runtime/script/value.h"

static bool is_ruled(const nh_vm *vm) {
    return vm->setup.generation && vm->setup.generation->rules;
}

/* ------------------------------------------------------------------ ending */

static nh_status status_from(const char *name) {
    for (nh_status status = NH_DELIVERED; status <= NH_EXPIRED; status++)
        if (name && strcmp(name, nh_status_name(status)) == 0)
            return status;
    return NH_FAILED;
}

/* Nothing of the task runs any more and it has settled. */
static void finish(nh_script *owner) {
    nh_vm *vm = owner->vm;
    nh_task *task = owner->task;
    bool alone = owner->settled; /* else it ends with its settlement */
    nh_strands_stop(owner);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, owner->context);
    free(owner);
    task->script = NULL;
    vm->ended = task;
    nh_vm_count_task(vm, -1);
    if (alone)
        vm->setup.host->end(task);
}

/* Packs the receipt on top of the state's stack, a table or a generation, and leaves it there as a
 * table when that is to be had for the callbacks [-1, +0 or 1]; false when it cannot be packed. */
static bool pack_receipt(nh_script *owner, bool *after, nh_packed *receipt) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    if (lua_istable(L, -1)) {
        if (*after)
            lua_pushvalue(L, -1);
        return nh_vm_pop_packed(vm, "receipt", receipt, NULL) == NH_OK;
    }
    bool plain = lua_isinteger(L, -1);
    lua_Integer generation = lua_tointeger(L, -1);
    lua_pop(L, 1);
    plain = plain && nh_receipt_delivered(vm, owner->context, generation, *after, receipt) == NH_OK;
    *after = *after && plain; /* else there is nothing to call them with */
    return plain;
}

/* Takes status, receipt and whether callbacks follow from the top of the state's stack, settles the
 * task with them, and runs the callbacks or ends it. */
static void settle(nh_script *owner, bool last) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    int base = lua_gettop(L) - 3;
    nh_status status = status_from(lua_tostring(L, base + 1));
    bool after = !last && lua_toboolean(L, base + 3);
    lua_settop(L, base + 2);
    nh_packed receipt;
    bool whole = pack_receipt(owner, &after, &receipt);
    nh_task *task = owner->task;
    if (last)
        nh_strands_stop(owner);
    bool more = after || owner->count > 0;
    if (!more)
        finish(owner);
    vm->setup.host->settle(task, status, whole ? &receipt : NULL, more);
    if (more)
        owner->settled = true;
    if (after) {
        nh_vm_push_own(vm, NH_MAIN_AFTER);
        nh_strand *s = nh_strand_make(owner, L, NULL, 0);
        lua_rawgeti(s->co, LUA_REGISTRYINDEX, owner->context);
        lua_xmove(L, s->co, 1); /* the receipt */
        lua_settop(L, base);
        nh_strand_resume(s, 2);
        return;
    }
    lua_settop(L, base);
}

/* Ends the task before its script did. Reasons that leave no time: its callbacks do not run. */
static void stop(nh_script *owner, const char *code, const char *text, bool last) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    nh_strands_stop(owner);
    if (owner->settled) {
        finish(owner);
        return;
    }
    nh_vm_push_main(vm, "stop");
    lua_rawgeti(L, LUA_REGISTRYINDEX, owner->context);
    lua_pushstring(L, code);
    lua_pushstring(L, text);
    if (nh_vm_call(vm, 3, 3, NULL) != NH_OK) {
        lua_pushliteral(L, "failed");
        lua_pushnil(L);
        lua_pushboolean(L, false);
    }
    settle(owner, last);
}

/* ---------------------------------------------------------------- resuming */

static void child_ended(nh_strand *s, bool failed) {
    nh_strand *parent = s->parent;
    lua_State *L = s->owner->vm->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, parent->results);
    lua_xmove(s->co, L, 1);
    if (failed) { /* an error of a child is its result's `error` */
        lua_createtable(L, 0, 1);
        lua_insert(L, -2);
        lua_setfield(L, -2, "error");
    }
    lua_rawseti(L, -2, s->place);
    lua_pop(L, 1);
    nh_strand_free(s);
    if (--parent->missing > 0 || !parent->waits)
        return;
    lua_rawgeti(parent->co, LUA_REGISTRYINDEX, parent->results);
    nh_strand_resume(parent, 1);
}

/* A callback has ended, the last one ends a settled task. */
static void callback_ended(nh_strand *s) {
    nh_script *owner = s->owner;
    nh_strand_free(s);
    if (owner->settled && owner->count == 0)
        finish(owner);
}

/* The last job has ended: makes the receipt. */
static void jobs_ended(nh_script *owner) {
    nh_vm *vm = owner->vm;
    nh_error error;
    if (owner->plain) { /* what done(context) would say */
        lua_pushstring(vm->L, nh_status_name(NH_DELIVERED));
        lua_pushinteger(vm->L, is_ruled(vm) ? (lua_Integer)vm->setup.generation->number : 0);
        lua_pushboolean(vm->L, owner->after);
        settle(owner, false);
        return;
    }
    nh_vm_push_own(vm, NH_MAIN_DONE);
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, owner->context);
    if (nh_vm_call(vm, 1, 3, &error) == NH_OK)
        settle(owner, false);
    else
        stop(owner, nh_err_name(error.code), error.message, false);
}

/* Carries a job on, whose answer (or nil) is on top of the state's stack [-1, +0]. What it does may
 * end the task: nothing of it may be touched afterwards. An error is left in the context, where
 * done(context) finds it. */
static void run_job(nh_strand *s) {
    nh_script *owner = s->owner;
    lua_State *L = owner->vm->L;
    nh_error error;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchor);
    lua_insert(L, -2);
    nh_progress progress = nh_job_advance(s, &error);
    if (progress == NH_WAITS)
        return;
    if (progress == NH_FAILED_JOB) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, owner->context);
        lua_createtable(L, 0, 2);
        lua_pushstring(L, nh_err_name(error.code));
        lua_setfield(L, -2, "code");
        lua_pushstring(L, error.message);
        lua_setfield(L, -2, "message");
        lua_setfield(L, -2, "failed");
        lua_pop(L, 1);
    }
    nh_strand_free(s);
    if (--owner->missing == 0)
        jobs_ended(owner);
}

static void main_ended(nh_strand *s, int results) {
    nh_script *owner = s->owner;
    if (owner->settled) {
        callback_ended(s);
        return;
    }
    if (results != 3) {
        stop(owner, "internal", "the message's script returned no receipt", false);
        return;
    }
    lua_xmove(s->co, owner->vm->L, 3);
    nh_strand_free(s);
    settle(owner, false);
}

/* The error on top of the strand's stack is told where it belongs: to the parent, to the log, or to
 * the message's receipt. */
static void failed(nh_strand *s, int status) {
    nh_script *owner = s->owner;
    lua_State *L = owner->vm->L;
    luaL_traceback(L, s->co, nh_error_text(s->co, -1), 0);
    lua_pop(s->co, 1);
    if (s->parent) {
        lua_resetthread(s->co);
        lua_settop(s->co, 0);
        lua_xmove(L, s->co, 1);
        child_ended(s, true);
    } else if (s->detached || owner->settled) {
        nh_vm_log(owner->vm, NH_LOG_ERROR, "callback failed", lua_tostring(L, -1));
        lua_pop(L, 1);
        lua_resetthread(s->co);
        callback_ended(s);
    } else {
        int top = lua_gettop(L);
        stop(owner, status == LUA_ERRMEM ? "script_memory" : "script", lua_tostring(L, -1), false);
        lua_remove(L, top);
    }
}

void nh_strand_resume(nh_strand *s, int arguments) {
    int results;
    s->waits = false;
    nh_vm *vm = s->owner->vm;
    nh_strand *job = vm->job; /* it may be the step of a job that runs this */
    vm->job = NULL;
    nh_slice outer = nh_limiter_enter(&vm->limiter, s->co);
    int status = lua_resume(s->co, vm->L, arguments, &results);
    nh_limiter_leave(&vm->limiter, &outer);
    vm->job = job;
    s->ended = status == LUA_OK;
    if (status == LUA_YIELD && s->waits)
        return;
    if (status == LUA_YIELD) {
        lua_settop(s->co, 0);
        lua_pushliteral(s->co, "coroutine.yield outside of a coroutine of the script's own");
        status = LUA_ERRRUN;
    }
    if (status != LUA_OK)
        failed(s, status);
    else if (s->detached)
        callback_ended(s);
    else if (s->parent) {
        lua_settop(s->co, results > 0 ? lua_gettop(s->co) - results + 1 : lua_gettop(s->co) + 1);
        child_ended(s, false);
    } else
        main_ended(s, results);
}

/* --------------------------------------------------------------- the seam */

/* What lib/main adds to a context, when it has rules, and to a message: it is cheaper to make room
 * at once. */
enum { CONTEXT_FIELDS = 8, RULED_CONTEXT_FIELDS = 16, MESSAGE_FIELDS = 4 };

/* What a protected call needs, on its C stack. */
typedef struct start_call {
    nh_vm *vm;
    nh_task *task;
    const nh_task_message *message;
} start_call;

/* Starts the deliveries of the context on top of the state's stack; true when there is more to do
 * than these, and nothing was started. */
static bool start_jobs(nh_script *owner) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    nh_error error;
    nh_vm_push_own(vm, NH_MAIN_BEGIN);
    lua_pushvalue(L, -2);
    if (nh_vm_call(vm, 1, 1, &error) != NH_OK) {
        stop(owner, nh_err_name(error.code), error.message, false);
        return false;
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return true;
    }
    int jobs = lua_gettop(L);
    size_t count = lua_rawlen(L, jobs);
    owner->missing =
        count + 1; /* one more: none of them shall end the task before all have begun */
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, jobs, (lua_Integer)i);
        nh_strand *s = nh_strand_make_job(owner, L);
        s->op.sole = count == 1 && !is_ruled(vm);
        lua_pushnil(L);
        run_job(s);
    }
    lua_settop(L, jobs - 1);
    if (--owner->missing == 0)
        jobs_ended(owner);
    return false;
}

static int protected_start(lua_State *L) {
    start_call *call = lua_touserdata(L, 1);
    nh_vm *vm = call->vm;
    nh_script *owner = calloc(1, sizeof *owner);
    if (!owner)
        return luaL_error(L, "out of memory");
    owner->vm = vm;
    owner->task = call->task;
    owner->strands.next = owner->strands.prev = &owner->strands;
    owner->context = LUA_NOREF;
    owner->durable = call->message->durable;
    call->task->script = owner;
    nh_vm_count_task(vm, 1);

    lua_createtable(L, 0, is_ruled(vm) ? RULED_CONTEXT_FIELDS : CONTEXT_FIELDS);
    nh_push_packed(L, call->message->bytes, call->message->length, MESSAGE_FIELDS);
    lua_pushstring(L, call->message->id);
    lua_setfield(L, -2, "id");
    lua_pushnumber(L, call->message->created_at);
    lua_setfield(L, -2, "created_at");
    lua_setfield(L, -2, "message");
    if (call->message->attempts > 0) {
        lua_pushinteger(L, call->message->attempts);
        lua_setfield(L, -2, "attempts");
    }
    lua_pushvalue(L, -1);
    owner->context = luaL_ref(L, LUA_REGISTRYINDEX);
    if (!start_jobs(owner))
        return 0;
    nh_vm_push_main(vm, "run");
    nh_strand *s = nh_strand_make(owner, L, NULL, 0);
    lua_xmove(L, s->co, 1);
    nh_strand_resume(s, 1);
    return 0;
}

/* A failure outside of the coroutines: memory. If the task is still there it is ended with what can
 * be had. */
static void end_broken(nh_vm *vm, nh_task *task) {
    lua_settop(vm->L, 0);
    vm->job = NULL;
    if (vm->ended == task)
        return;
    nh_script *owner = task->script;
    bool settled = owner && owner->settled;
    if (owner)
        finish(owner);
    if (!settled)
        vm->setup.host->settle(task, NH_FAILED, NULL, false);
}

void nh_script_start(nh_vm *vm, nh_task *task, const nh_task_message *message) {
    start_call call = {vm, task, message};
    vm->ended = NULL;
    lua_pushcfunction(vm->L, protected_start);
    lua_pushlightuserdata(vm->L, &call);
    if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK)
        end_broken(vm, task);
}

typedef struct op_call {
    nh_strand *s;
    const nh_doc *response;
} op_call;

static int protected_op_done(lua_State *L) {
    op_call *call = lua_touserdata(L, 1);
    int arguments = 0;
    if (!call->s->co) {
        nh_strand_push_answer(call->s, L, call->response);
        run_job(call->s);
        return 0;
    }
    if (call->response || call->s->op.status > 0) { /* not for a sleep */
        nh_strand_push_answer(call->s, call->s->co, call->response);
        arguments = 1;
    }
    nh_strand_resume(call->s, arguments);
    return 0;
}

void nh_script_op_done(nh_vm *vm, nh_op *op, const nh_doc *response) {
    op_call call = {(nh_strand *)op, response};
    nh_task *task = op->task;
    vm->ended = NULL;
    lua_pushcfunction(vm->L, protected_op_done);
    lua_pushlightuserdata(vm->L, &call);
    if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK)
        end_broken(vm, task);
}

static int protected_stop(lua_State *L) {
    nh_script *owner = lua_touserdata(L, 1);
    nh_err reason = (nh_err)lua_tointeger(L, 2);
    const char *text =
        reason == NH_E_SCRIPT
            ? "its rules were replaced and their time to drain is over (reload.drain)"
        : reason == NH_E_CLOSED && owner->durable ? NH_KEPT_TEXT
                                                  : nh_err_text(reason);
    stop(owner, nh_err_name(reason), text, reason == NH_E_SCRIPT || reason == NH_E_CLOSED);
    return 0;
}

void nh_script_stop(nh_vm *vm, nh_task *task, nh_err reason) {
    vm->ended = NULL;
    lua_pushcfunction(vm->L, protected_stop);
    lua_pushlightuserdata(vm->L, task->script);
    lua_pushinteger(vm->L, reason);
    if (lua_pcall(vm->L, 2, 0, 0) != LUA_OK)
        end_broken(vm, task);
}
