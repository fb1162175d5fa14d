/* task.c — runs one message: a coroutine for each of its deliveries, and a main one for what rules
 * do with it when that may wait.
 *
 * A strand is one coroutine of a task. It waits for one thing at a time: an operation of the host
 * (transfer, sleep) or the strands that it started with task.parallel. lib/main's begin(context),
 * in the state itself, says what there is to do: deliveries, a strand each, after which
 * done(context) returns a status and a receipt, which end the task; or nil, and then run(context)
 * is the main strand and returns these. A task that is stopped has its operations cancelled and its
 * coroutines closed, and then lib/main's stop(context, code, text) makes the receipt of what was
 * reached.
 *
 * A coroutine holds what a message in flight costs most: its stack doubles from 40 slots and stays
 * so. What never waits (an adapter, a rendering) runs on the state's own stack, by task.aside and
 * task.exchange.
 *
 * Owned by the worker's thread. Every entry from the host runs inside a protected call, so that
 * running out of memory fails the message and not the process; every strand is anchored in the
 * registry and let go exactly once. The strand that runs is found from its lua_State (extra space);
 * a coroutine that a script made itself has none and may not wait.
 */
#include "runtime/script/task.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/nearest.h"
#include "runtime/script/file.h"
#include "runtime/script/value.h"
#include "runtime/store/shared.h"

enum { STRANDS_MOST = 1024, NAMES_MOST = 256 };

typedef struct script script;

typedef struct strand {
    nh_op op; /* first */
    script *owner;
    lua_State *co;
    int anchor; /* registry reference of co */
    struct strand *parent;
    int place;                  /* of its result in the parent's list */
    int results;                /* registry reference of the list that its children fill */
    size_t missing;             /* children that still run */
    bool waits;                 /* for an operation or children: a yield is in order */
    bool job;                   /* a delivery of the task itself, see `missing` there */
    bool detached;              /* nobody waits for it: a callback */
    struct strand *next, *prev; /* of the same task */
} strand;

struct script {
    nh_vm *vm;
    nh_task *task;
    strand strands; /* head of the ring; its parent-less member is the main strand */
    size_t count;
    size_t missing; /* jobs that have not ended */
    int context;    /* registry reference of the table that run, stop and after share */
    bool settled;   /* what still runs are its callbacks */
};

static void resume(strand *s, int arguments);

/* ----------------------------------------------------------------- strands */

static strand *running(lua_State *L) {
    nh_limiter_charge(L, 0); /* a script whose time is over waits for nothing any more */
    strand *s = *(strand **)lua_getextraspace(L);
    if (!s)
        luaL_error(
            L, "this can only wait in the coroutine of a message, not in one of the script's own");
    return s;
}

/* Makes a strand for the function on top of the state's stack [-1, +0]. May raise. */
static strand *make_strand(script *owner, lua_State *L, strand *parent, int place) {
    lua_State *co = lua_newthread(L);
    lua_sethook(co, NULL, 0, 0); /* it has its maker's; a guard brings its own */
    lua_insert(L, -2);
    lua_xmove(L, co, 1);
    int anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    strand *s = calloc(1, sizeof *s);
    if (!s) {
        luaL_unref(L, LUA_REGISTRYINDEX, anchor);
        nh_raise(L, "out of memory");
    }
    s->op.task = owner->task;
    s->owner = owner;
    s->co = co;
    s->anchor = anchor;
    s->parent = parent;
    s->place = place;
    s->results = LUA_NOREF;
    s->next = &owner->strands;
    s->prev = owner->strands.prev;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a freed strand is out of the ring */
    s->prev->next = s->next->prev = s;
    owner->count++;
    *(strand **)lua_getextraspace(co) = s;
    return s;
}

static void free_strand(strand *s) {
    lua_State *L = s->owner->vm->L;
    s->prev->next = s->next;
    s->next->prev = s->prev;
    s->owner->count--;
    *(strand **)lua_getextraspace(s->co) = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, s->results);
    luaL_unref(L, LUA_REGISTRYINDEX, s->anchor);
    free(s);
}

/* Stops all that runs for the task; its coroutines' to-be-closed variables are closed. */
static void free_strands(script *owner) {
    /* NOLINTBEGIN(clang-analyzer-unix.Malloc): a freed strand is out of the ring */
    while (owner->strands.next != &owner->strands) {
        strand *s = owner->strands.prev; /* children before parents */
        owner->vm->setup.host->op_cancel(&s->op);
        lua_resetthread(s->co);
        free_strand(s);
    }
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    owner->strands.next = owner->strands.prev = &owner->strands; /* for readers that prove things */
}

/* ------------------------------------------------------------------ ending */

static nh_status status_from(const char *name) {
    for (nh_status status = NH_DELIVERED; status <= NH_EXPIRED; status++)
        if (name && strcmp(name, nh_status_name(status)) == 0)
            return status;
    return NH_FAILED;
}

/* Nothing of the task runs any more and it has settled. */
static void finish(script *owner) {
    nh_vm *vm = owner->vm;
    nh_task *task = owner->task;
    bool alone = owner->settled; /* else it ends with its settlement */
    free_strands(owner);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, owner->context);
    free(owner);
    task->script = NULL;
    vm->ended = task;
    nh_vm_count_task(vm, -1);
    if (alone)
        vm->setup.host->end(task);
}

/* Takes status, receipt and whether callbacks follow from the top of the state's stack, settles the
 * task with them, and runs the callbacks or ends it. */
static void settle(script *owner, bool last) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    int base = lua_gettop(L) - 3;
    nh_status status = status_from(lua_tostring(L, base + 1));
    bool after = !last && lua_toboolean(L, base + 3);
    lua_settop(L, base + 2);
    lua_pushvalue(L, -1);
    nh_doc *receipt = lua_istable(L, -1) ? nh_vm_pop_doc(vm, "receipt", NULL) : NULL;
    nh_task *task = owner->task;
    if (last)
        free_strands(owner);
    bool more = after || owner->count > 0;
    if (!more)
        finish(owner);
    vm->setup.host->settle(task, status, receipt, more);
    if (more)
        owner->settled = true;
    if (after) {
        lua_settop(L, base + 2);
        nh_vm_push_main(vm, "after");
        strand *s = make_strand(owner, L, NULL, 0);
        lua_rawgeti(s->co, LUA_REGISTRYINDEX, owner->context);
        lua_xmove(L, s->co, 1); /* the receipt */
        lua_settop(L, base);
        resume(s, 2);
        return;
    }
    lua_settop(L, base);
}

/* Ends the task before its script did. Reasons that leave no time: its callbacks do not run. */
static void stop(script *owner, const char *code, const char *text, bool last) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    free_strands(owner);
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

static void child_ended(strand *s, bool failed) {
    strand *parent = s->parent;
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
    free_strand(s);
    if (--parent->missing > 0 || !parent->waits)
        return;
    lua_rawgeti(parent->co, LUA_REGISTRYINDEX, parent->results);
    resume(parent, 1);
}

/* A callback has ended, the last one ends a settled task. */
static void callback_ended(strand *s) {
    script *owner = s->owner;
    free_strand(s);
    if (owner->settled && owner->count == 0)
        finish(owner);
}

/* The last job has ended: makes the receipt. */
static void jobs_ended(script *owner) {
    nh_vm *vm = owner->vm;
    nh_error error;
    nh_vm_push_main(vm, "done");
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, owner->context);
    if (nh_vm_call(vm, 1, 3, &error) == NH_OK)
        settle(owner, false);
    else
        stop(owner, nh_err_name(error.code), error.message, false);
}

static void job_ended(strand *s) {
    script *owner = s->owner;
    free_strand(s);
    if (--owner->missing == 0)
        jobs_ended(owner);
}

static void main_ended(strand *s, int results) {
    script *owner = s->owner;
    if (owner->settled) {
        callback_ended(s);
        return;
    }
    if (results != 3) {
        stop(owner, "internal", "the message's script returned no receipt", false);
        return;
    }
    lua_xmove(s->co, owner->vm->L, 3);
    free_strand(s);
    settle(owner, false);
}

/* The error on top of the strand's stack is told where it belongs: to the parent, to the log, or to
 * the message's receipt. */
static void failed(strand *s, int status) {
    script *owner = s->owner;
    lua_State *L = owner->vm->L;
    luaL_traceback(L, s->co, nh_error_text(s->co, -1), 0);
    lua_pop(s->co, 1);
    if (s->job) { /* in the context, where done(context) finds it */
        lua_rawgeti(L, LUA_REGISTRYINDEX, owner->context);
        lua_insert(L, -2);
        if (lua_istable(s->co, -1)) {
            lua_pop(L, 1);
            lua_pushvalue(s->co, -1);
            lua_xmove(s->co, L, 1);
        }
        lua_setfield(L, -2, "failed");
        lua_pop(L, 1);
        lua_resetthread(s->co);
        job_ended(s);
    } else if (s->parent) {
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

/* Runs the strand until it waits or ends. What it runs may end the task: nothing of it may be
 * touched afterwards. */
static void resume(strand *s, int arguments) {
    int results;
    s->waits = false;
    nh_vm *vm = s->owner->vm;
    nh_slice outer = nh_limiter_enter(&vm->limiter, s->co);
    int status = lua_resume(s->co, vm->L, arguments, &results);
    nh_limiter_leave(&vm->limiter, &outer);
    if (status == LUA_YIELD && s->waits)
        return;
    if (status == LUA_YIELD) {
        lua_settop(s->co, 0);
        lua_pushliteral(s->co, "coroutine.yield outside of a coroutine of the script's own");
        status = LUA_ERRRUN;
    }
    if (status != LUA_OK)
        failed(s, status);
    else if (s->job)
        job_ended(s);
    else if (s->detached)
        callback_ended(s);
    else if (s->parent) {
        lua_settop(s->co, results > 0 ? lua_gettop(s->co) - results + 1 : lua_gettop(s->co) + 1);
        child_ended(s, false);
    } else
        main_ended(s, results);
}

/* ----------------------------------------------------------- module `task` */

/* Sends the request on top of the state's own stack, which is taken: what is sent is not held by
 * the strand while the transfer is under way. */
static int send_request(lua_State *L, strand *s, const char *name) {
    nh_vm *vm = nh_vm_of(L);
    nh_error error;
    nh_doc *request = nh_vm_pop_doc(vm, "request", &error);
    if (!request || vm->setup.host->transfer(&s->op, name, request, &error) != NH_OK) {
        lua_pushnil(L);
        lua_pushstring(L, error.message);
        lua_pushstring(L, nh_err_name(error.code));
        return 3;
    }
    s->waits = true;
    return lua_yield(L, 0);
}

static int transfer(lua_State *L) {
    strand *s = running(L);
    s->op.again = false;
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 2);
    lua_xmove(L, nh_vm_of(L)->L, 1);
    return send_request(L, s, name);
}

/* Calls the function under its arguments on the state's own stack, which takes them; its results or
 * its error are on top of that. */
static int call_aside(lua_State *L, int arguments, int results) {
    lua_State *own = nh_vm_of(L)->L;
    if (!lua_checkstack(own, arguments + 2))
        nh_raise(L, "out of memory");
    lua_xmove(L, own, arguments + 1);
    return lua_pcall(own, arguments, results, 0);
}

/* aside(f, ...): pcall for what never waits. */
static int aside(lua_State *L) {
    lua_State *own = nh_vm_of(L)->L;
    luaL_checkany(L, 1);
    int base = own == L ? 0 : lua_gettop(own);
    int status = call_aside(L, lua_gettop(L) - 1, LUA_MULTRET);
    int results = lua_gettop(own) - base;
    luaL_checkstack(L, results + 1, NULL);
    lua_xmove(own, L, results);
    lua_pushboolean(L, status == LUA_OK);
    lua_insert(L, -results - 1);
    return results + 1;
}

/* exchange(build, transport, delivery, account) → response, or nil, message, code: sends what
 * build(delivery) makes. An adapter is somebody's script: its errors are results. */
static int exchange(lua_State *L) {
    strand *s = running(L);
    lua_State *own = nh_vm_of(L)->L;
    const char *name = luaL_checkstring(L, 2);
    lua_getfield(L, 3, "attempt");
    s->op.again = lua_tointeger(L, -1) > 1;
    lua_pop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    int status = call_aside(L, 1, 3);
    if (status == LUA_OK && lua_toboolean(own, -3)) {
        lua_pop(own, 2);
        return send_request(L, s, name);
    }
    lua_pushnil(L);
    if (status == LUA_OK) {
        lua_xmove(own, L, 2);
        lua_pop(own, 1);
    } else {
        lua_pushstring(L, luaL_tolstring(own, -1, NULL));
        lua_pushliteral(L, "script");
        lua_pop(own, 2);
    }
    return 3;
}

static int sleep_for(lua_State *L) {
    strand *s = running(L);
    double seconds = luaL_checknumber(L, 1);
    nh_error error;
    luaL_argcheck(L, seconds >= 0, 1, "must not be negative");
    if (nh_vm_of(L)->setup.host->sleep(&s->op, seconds, &error) != NH_OK)
        return luaL_error(L, "%s", error.message);
    s->waits = true;
    return lua_yield(L, 0);
}

/* admit(key, rate or nil, most) → the seconds it waited; or nil, message, code. `rate` is a table
 * { tokens, per, burst }. */
static int admitted(lua_State *L, int status, lua_KContext waited) {
    (void)status;
    lua_pushnumber(L, (double)waited / 1000);
    return 1;
}

static double field(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

static int admit(lua_State *L) {
    strand *s = running(L);
    const char *key = luaL_checkstring(L, 1);
    double most = luaL_checknumber(L, 3), wait;
    nh_rate_limit rate;
    nh_error error;
    bool limited = lua_istable(L, 2);
    if (limited)
        rate = (nh_rate_limit){field(L, "tokens"), field(L, "per"), field(L, "burst")};
    nh_err failed =
        nh_vm_of(L)->setup.host->admit(&s->op, key, limited ? &rate : NULL, most, &wait, &error);
    if (failed) {
        lua_pushnil(L);
        lua_pushstring(L, error.message);
        lua_pushstring(L, nh_err_name(failed));
        return 3;
    }
    if (wait <= 0) {
        lua_pushnumber(L, 0);
        return 1;
    }
    s->waits = true;
    return lua_yieldk(L, 0, (lua_KContext)(wait * 1000), admitted);
}

static int pause_account(lua_State *L) {
    const char *key = luaL_checkstring(L, 1);
    nh_vm_of(L)->setup.host->pause(running(L)->op.task, key, luaL_checknumber(L, 2));
    return 0;
}

/* deadline(seconds): the message ends after them, if it has not; its own deadline may be sooner. */
static int deadline(lua_State *L) {
    nh_error error;
    if (nh_vm_of(L)->setup.host->deadline(running(L)->op.task, luaL_checknumber(L, 1), &error) !=
        NH_OK)
        return luaL_error(L, "%s", error.message);
    return 0;
}

/* parallel(list, f): calls f(list[i]) for each i at once, each in a strand of its own; returns the
 * list of their results. */
static int parallel(lua_State *L) {
    strand *s = running(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_Integer count = luaL_len(L, 1);
    if ((size_t)count > STRANDS_MOST - s->owner->count)
        return luaL_error(L, "more than %d deliveries of one message at once", STRANDS_MOST);
    lua_createtable(L, (int)count, 0);
    lua_pushvalue(L, -1);
    luaL_unref(L, LUA_REGISTRYINDEX, s->results);
    s->results = luaL_ref(L, LUA_REGISTRYINDEX);
    s->missing = (size_t)count;
    for (lua_Integer i = 1; i <= count; i++) {
        lua_pushvalue(L, 2);
        strand *child = make_strand(s->owner, L, s, (int)i);
        lua_geti(L, 1, i);
        lua_xmove(L, child->co, 1);
        resume(child, 1); /* cannot end the task: this strand still runs */
    }
    if (s->missing > 0) {
        s->waits = true;
        return lua_yield(L, 0);
    }
    return 1;
}

/* spawn(f, ...): runs f beside what the message does, in a strand that nobody waits for; its error
 * is logged. */
static int spawn(lua_State *L) {
    strand *s = running(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (s->owner->count >= STRANDS_MOST)
        return luaL_error(L, "more than %d things of one message at once", STRANDS_MOST);
    int arguments = lua_gettop(L) - 1;
    lua_pushvalue(L, 1);
    strand *child = make_strand(s->owner, L, NULL, 0);
    child->detached = true;
    luaL_checkstack(child->co, arguments, NULL);
    lua_xmove(L, child->co, arguments);
    resume(child, arguments); /* cannot end the task: this strand still runs */
    return 0;
}

/* The table that run, stop and after share: what a script's `send` is about. */
static int context(lua_State *L) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, running(L)->owner->context);
    return 1;
}

/* turn(key): counts from 0 on, over all workers and generations. */
static int turn(lua_State *L) {
    static const nh_number one = {.integral = true, .integer = 1};
    nh_number count = one;
    size_t length;
    const char *name = luaL_checklstring(L, 1, &length);
    lua_pushliteral(L, "\0turn ");
    lua_pushlstring(L, name, length);
    lua_concat(L, 2);
    const char *key = lua_tolstring(L, -1, &length);
    nh_shared *shared = nh_vm_of(L)->shared;
    /* A store that is full takes nobody's turn away: it is the first one's. */
    if (shared)
        nh_shared_incr(shared, key, length, one, (nh_shared_life){0}, &count, NULL);
    lua_pushinteger(L, (lua_Integer)count.integer - 1);
    return 1;
}

static int progress(lua_State *L) {
    strand *s = running(L);
    nh_vm_of(L)->setup.host->progress(s->op.task, (uint32_t)luaL_checkinteger(L, 1),
                                      (uint32_t)luaL_checkinteger(L, 2));
    return 0;
}

static int retrying(lua_State *L) {
    nh_vm_of(L)->setup.host->retrying(running(L)->op.task, luaL_checkstring(L, 1));
    return 0;
}

/* attempted(account, platform, target, seconds, code, text): code and text of an error, or neither.
 */
static int attempted(lua_State *L) {
    const char *code = luaL_optstring(L, 5, NULL);
    const nh_attempt attempt = {.account = luaL_checkstring(L, 1),
                                .platform = luaL_checkstring(L, 2),
                                .target = luaL_checkstring(L, 3),
                                .seconds = luaL_checknumber(L, 4),
                                .code = code ? nh_err_from_name(code) : NH_OK,
                                .text = luaL_optstring(L, 6, NULL)};
    nh_vm_of(L)->setup.host->attempted(running(L)->op.task, &attempt);
    return 0;
}

static int score(lua_State *L) {
    const char *account = luaL_checkstring(L, 1);
    lua_pushnumber(L, nh_vm_of(L)->setup.host->score(running(L)->op.task, account));
    return 1;
}

static int now(lua_State *L) {
    lua_pushnumber(L, nh_wall());
    return 1;
}

/* A duration is taken from the clock that nobody sets. */
static int monotonic(lua_State *L) {
    lua_pushnumber(L, (double)nh_monotonic() / (double)NH_SECOND);
    return 1;
}

/* nearest(text, names) → the known name that was meant, or nil. */
static int nearest(lua_State *L) {
    const char *names[NAMES_MOST];
    size_t length, count = 0;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checkstack(L, NAMES_MOST, NULL);
    while (count < NAMES_MOST && lua_rawgeti(L, 2, (lua_Integer)count + 1) == LUA_TSTRING)
        names[count++] = lua_tostring(L, -1);
    lua_pushstring(L, nh_nearest(text, length, names, count));
    return 1;
}

/* read_file(path, most) → content, or nil, message: an attachment on its way into a request. */
static int read_file(lua_State *L) {
    nh_error error;
    size_t length;
    char *content =
        nh_file_read(luaL_checkstring(L, 1), (size_t)luaL_checkinteger(L, 2), &length, &error);
    if (!content) {
        lua_pushnil(L);
        lua_pushstring(L, error.message);
        return 2;
    }
    lua_pushlstring(L, content, length);
    free(content);
    return 1;
}

static int adapters(lua_State *L) {
    nh_bundle_names(nh_vm_of(L)->setup.bundle, L, "adapters/");
    return 1;
}

int nh_open_task(lua_State *L) {
    static const luaL_Reg functions[] = {{"transfer", transfer},
                                         {"exchange", exchange},
                                         {"aside", aside},
                                         {"sleep", sleep_for},
                                         {"admit", admit},
                                         {"pause", pause_account},
                                         {"deadline", deadline},
                                         {"parallel", parallel},
                                         {"spawn", spawn},
                                         {"context", context},
                                         {"turn", turn},
                                         {"attempted", attempted},
                                         {"score", score},
                                         {"progress", progress},
                                         {"retrying", retrying},
                                         {"now", now},
                                         {"nearest", nearest},
                                         {"monotonic", monotonic},
                                         {"read_file", read_file},
                                         {"adapters", adapters},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

/* --------------------------------------------------------------- the seam */

/* What a protected call needs, on its C stack. */
typedef struct start_call {
    nh_vm *vm;
    nh_task *task;
    const nh_task_message *message;
} start_call;

/* Starts the deliveries of the context on top of the state's stack; true when there is more to do
 * than these, and nothing was started. */
static bool start_jobs(script *owner) {
    nh_vm *vm = owner->vm;
    lua_State *L = vm->L;
    nh_error error;
    nh_vm_push_main(vm, "begin");
    lua_pushvalue(L, -2);
    if (nh_vm_call(vm, 1, 2, &error) != NH_OK) {
        stop(owner, nh_err_name(error.code), error.message, false);
        return false;
    }
    if (lua_isnil(L, -2)) {
        lua_pop(L, 2);
        return true;
    }
    int letter = lua_gettop(L) - 1, jobs = letter + 1;
    size_t count = lua_rawlen(L, jobs);
    owner->missing =
        count + 1; /* one more: none of them shall end the task before all have begun */
    for (size_t i = 1; i <= count; i++) {
        nh_vm_push_main(vm, "deliver");
        strand *s = make_strand(owner, L, NULL, 0);
        s->job = true;
        lua_pushvalue(L, letter);
        lua_rawgeti(L, jobs, (lua_Integer)i);
        lua_xmove(L, s->co, 2);
        resume(s, 2);
    }
    lua_settop(L, letter - 1);
    if (--owner->missing == 0)
        jobs_ended(owner);
    return false;
}

static int protected_start(lua_State *L) {
    start_call *call = lua_touserdata(L, 1);
    nh_vm *vm = call->vm;
    nh_error error;
    nh_doc *doc = nh_doc_from_bytes(call->message->bytes, call->message->length, &error);
    if (!doc)
        return luaL_error(L, "%s", error.message);
    script *owner = calloc(1, sizeof *owner);
    if (!owner) {
        nh_doc_unref(doc);
        return luaL_error(L, "out of memory");
    }
    owner->vm = vm;
    owner->task = call->task;
    owner->strands.next = owner->strands.prev = &owner->strands;
    owner->context = LUA_NOREF;
    call->task->script = owner;
    nh_vm_count_task(vm, 1);

    lua_createtable(L, 0, 4); /* the context */
    nh_push_value(L, nh_doc_root(doc));
    nh_doc_unref(doc);
    lua_pushstring(L, call->message->id);
    lua_setfield(L, -2, "id");
    lua_pushnumber(L, call->message->created_at);
    lua_setfield(L, -2, "created_at");
    lua_setfield(L, -2, "message");
    lua_pushvalue(L, -1);
    owner->context = luaL_ref(L, LUA_REGISTRYINDEX);
    if (!start_jobs(owner))
        return 0;
    nh_vm_push_main(vm, "run");
    strand *s = make_strand(owner, L, NULL, 0);
    lua_xmove(L, s->co, 1);
    resume(s, 1);
    return 0;
}

/* A failure outside of the coroutines: memory. If the task is still there it is ended with what can
 * be had. */
static void end_broken(nh_vm *vm, nh_task *task) {
    lua_settop(vm->L, 0);
    if (vm->ended == task)
        return;
    script *owner = task->script;
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
    strand *s;
    const nh_doc *response;
} op_call;

static int protected_op_done(lua_State *L) {
    op_call *call = lua_touserdata(L, 1);
    int arguments = 0;
    if (call->response) {
        nh_push_value(call->s->co, nh_doc_root(call->response));
        arguments = 1;
    }
    resume(call->s, arguments);
    return 0;
}

void nh_script_op_done(nh_vm *vm, nh_op *op, const nh_doc *response) {
    op_call call = {(strand *)op, response};
    nh_task *task = op->task;
    vm->ended = NULL;
    lua_pushcfunction(vm->L, protected_op_done);
    lua_pushlightuserdata(vm->L, &call);
    if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK)
        end_broken(vm, task);
}

static int protected_stop(lua_State *L) {
    script *owner = lua_touserdata(L, 1);
    nh_err reason = (nh_err)lua_tointeger(L, 2);
    const char *text =
        reason == NH_E_SCRIPT
            ? "its rules were replaced and their time to drain is over (reload.drain)"
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
