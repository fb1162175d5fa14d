/* api_task.c — the module `task`: what the runtime's own scripts ask the worker for. What waits
 * (transfer, carry, sleep, parallel) yields the coroutine of a message that it is called in, and is
 * told the outcome when that is resumed. The rest may be called in the step of a job, too.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/log.h"
#include "runtime/core/nearest.h"
#include "runtime/script/file.h"
#include "runtime/script/strand.h"
#include "runtime/script/value.h"
#include "runtime/store/shared.h"

enum { NAMES_MOST = 256, FIELDS_MOST = 16 };

static int push_error(lua_State *L, const nh_error *error) {
    lua_pushnil(L);
    lua_pushstring(L, error->message);
    lua_pushstring(L, nh_err_name(error->code));
    return 3;
}

/* transfer(transport, request) → response; or nil, message, code. */
static int transfer(lua_State *L) {
    nh_strand *s = nh_strand_running(L);
    nh_vm *vm = nh_vm_of(L);
    nh_error error;
    s->op.again = s->op.brief = false;
    s->op.hasty = true; /* a script has its own idea of what to do then */
    s->op.account = NULL;
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 2);
    lua_xmove(L, vm->L, 1); /* what is sent is not held while the transfer is under way */
    nh_doc *doc = nh_vm_pop_doc(vm, "request", &error);
    if (!doc || !nh_strand_send(s, name, doc, &error))
        return push_error(L, &error);
    s->waits = true;
    return lua_yield(L, 0);
}

/* carry(job): carries a delivery out, in a coroutine that has to wait for it. */
static int carried(lua_State *L, int status, lua_KContext context) {
    nh_strand *s = nh_strand_running(L);
    lua_State *own = nh_vm_of(L)->L;
    nh_error error;
    (void)status;
    (void)context;
    lua_settop(L, 2); /* the answer, or nothing */
    if (!lua_checkstack(own, 2))
        nh_raise(L, "out of memory");
    lua_pushvalue(L, 1);
    lua_insert(L, 2);
    lua_xmove(L, own, 2);
    switch (nh_job_advance(s, &error)) {
    case NH_WAITS:
        return lua_yieldk(L, 0, 0, carried);
    case NH_FAILED_JOB:
        lua_createtable(L, 0, 2);
        lua_pushstring(L, nh_err_name(error.code));
        lua_setfield(L, -2, "code");
        lua_pushstring(L, error.message);
        lua_setfield(L, -2, "message");
        return lua_error(L);
    default:
        return 0;
    }
}

static int carry(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    return carried(L, LUA_OK, 0);
}

static int sleep_for(lua_State *L) {
    nh_strand *s = nh_strand_running(L);
    double seconds = luaL_checknumber(L, 1);
    nh_error error;
    luaL_argcheck(L, seconds >= 0, 1, "must not be negative");
    if (nh_vm_of(L)->setup.host->sleep(&s->op, seconds, &error) != NH_OK)
        return luaL_error(L, "%s", error.message);
    s->waits = true;
    return lua_yield(L, 0);
}

static double field(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

/* admit(key, rate or nil, most) → the seconds that the job has to wait, 0: none; or nil, message,
 * code. `rate` is a table { tokens, per, burst }. Called in a job's step, which goes on when the
 * time has come; the job holds the key until then. */
static int admit(lua_State *L) {
    nh_strand *s = nh_strand_current(L);
    const char *key = luaL_checkstring(L, 1);
    double most = luaL_checknumber(L, 3), wait;
    nh_rate_limit rate;
    nh_error error;
    bool limited = lua_istable(L, 2);
    if (limited)
        rate = (nh_rate_limit){field(L, "tokens"), field(L, "per"), field(L, "burst")};
    nh_err failed =
        nh_vm_of(L)->setup.host->admit(&s->op, key, limited ? &rate : NULL, most, &wait, &error);
    if (failed)
        return push_error(L, &error);
    s->waits = wait > 0;
    lua_pushnumber(L, wait > 0 ? wait : 0);
    return 1;
}

static int pause_account(lua_State *L) {
    const char *key = luaL_checkstring(L, 1);
    nh_vm_of(L)->setup.host->pause(nh_strand_current(L)->op.task, key, luaL_checknumber(L, 2));
    return 0;
}

/* deadline(seconds): the message ends after them, if it has not; its own deadline may be sooner. */
static int deadline(lua_State *L) {
    nh_error error;
    if (nh_vm_of(L)->setup.host->deadline(nh_strand_running(L)->op.task, luaL_checknumber(L, 1),
                                          &error) != NH_OK)
        return luaL_error(L, "%s", error.message);
    return 0;
}

/* parallel(list, f): calls f(list[i]) for each i at once, each in a strand of its own; returns the
 * list of their results. */
static int parallel(lua_State *L) {
    nh_strand *s = nh_strand_running(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_Integer count = luaL_len(L, 1);
    if ((size_t)count > NH_STRANDS_MOST - s->owner->count)
        return luaL_error(L, "more than %d deliveries of one message at once", NH_STRANDS_MOST);
    lua_createtable(L, (int)count, 0);
    lua_pushvalue(L, -1);
    luaL_unref(L, LUA_REGISTRYINDEX, s->results);
    s->results = luaL_ref(L, LUA_REGISTRYINDEX);
    s->missing = (size_t)count;
    for (lua_Integer i = 1; i <= count; i++) {
        lua_pushvalue(L, 2);
        nh_strand *child = nh_strand_make(s->owner, L, s, (int)i);
        lua_geti(L, 1, i);
        lua_xmove(L, child->co, 1);
        nh_strand_resume(child, 1); /* cannot end the task: this strand still runs */
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
    nh_strand *s = nh_strand_current(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (s->owner->count >= NH_STRANDS_MOST)
        return luaL_error(L, "more than %d things of one message at once", NH_STRANDS_MOST);
    int arguments = lua_gettop(L) - 1;
    lua_pushvalue(L, 1);
    nh_strand *child = nh_strand_make(s->owner, L, NULL, 0);
    child->detached = true;
    luaL_checkstack(child->co, arguments, NULL);
    lua_xmove(L, child->co, arguments);
    nh_strand_resume(child, arguments); /* cannot end the task: this strand still runs */
    return 0;
}

/* The table that run, stop and after share: what a script's `send` is about. */
static int context(lua_State *L) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, nh_strand_running(L)->owner->context);
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
    nh_strand *s = nh_strand_current(L);
    nh_vm_of(L)->setup.host->progress(s->op.task, (uint32_t)luaL_checkinteger(L, 1),
                                      (uint32_t)luaL_checkinteger(L, 2));
    return 0;
}

/* retrying(platform, attempts): another attempt follows after so many. */
static int retrying(lua_State *L) {
    nh_vm_of(L)->setup.host->retrying(nh_strand_current(L)->op.task, luaL_checkstring(L, 1),
                                      (uint32_t)luaL_checkinteger(L, 2));
    return 0;
}

/* attempted(account, platform, target, seconds, code, text): code and text of an error, or neither.
 */
static int attempted(lua_State *L) {
    const nh_op *op = &nh_strand_current(L)->op;
    const char *code = luaL_optstring(L, 5, NULL);
    const nh_attempt attempt = {.account = luaL_checkstring(L, 1),
                                .platform = luaL_checkstring(L, 2),
                                .target = luaL_checkstring(L, 3),
                                .seconds = luaL_checknumber(L, 4),
                                .code = code ? nh_err_from_name(code) : NH_OK,
                                .text = luaL_optstring(L, 6, NULL),
                                .lane = op->lane};
    nh_vm_of(L)->setup.host->attempted(op->task, &attempt);
    return 0;
}

/* log(level, event, {name, value, …}): a line of the log; values are strings and whole numbers. */
static int write_log(lua_State *L) {
    nh_log *log = nh_vm_of(L)->setup.log;
    nh_log_field fields[FIELDS_MOST];
    nh_log_level level;
    size_t count = 0;
    const char *event = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (!nh_log_level_from_name(luaL_checkstring(L, 1), &level))
        return luaL_argerror(L, 1, "no level of this name");
    luaL_checkstack(L, 2 * FIELDS_MOST, NULL);
    for (lua_Integer i = 1; count < FIELDS_MOST && lua_rawgeti(L, 3, i) == LUA_TSTRING; i += 2) {
        const char *name = lua_tostring(L, -1);
        if (lua_rawgeti(L, 3, i + 1) == LUA_TNUMBER)
            fields[count++] = nh_log_int(name, (int64_t)lua_tointeger(L, -1));
        else
            fields[count++] = nh_log_text(name, lua_tostring(L, -1));
    }
    nh_log_fields(log, level, event, fields, count);
    return 0;
}

static int score(lua_State *L) {
    const char *account = luaL_checkstring(L, 1);
    lua_pushnumber(L, nh_vm_of(L)->setup.host->score(nh_strand_current(L)->op.task, account));
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

/* What a file holds, for push_content. */
typedef struct content {
    char *bytes;
    size_t length;
} content;

static int push_content(lua_State *L) {
    const content *c = lua_touserdata(L, 1);
    lua_pushlstring(L, c->bytes, c->length);
    return 1;
}

/* read_file(path, most) → content, or nil, message: an attachment on its way into a request. */
static int read_file(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    size_t most = (size_t)luaL_checkinteger(L, 2);
    nh_error error;
    content c;
    c.bytes = nh_file_read(path, most, &c.length, &error);
    if (!c.bytes) {
        lua_pushnil(L);
        lua_pushstring(L, error.message);
        return 2;
    }
    lua_pushcfunction(L, push_content); /* may raise, and the content is to be freed */
    lua_pushlightuserdata(L, &c);
    int status = lua_pcall(L, 1, 1, 0);
    free(c.bytes);
    return status == LUA_OK ? 1 : lua_error(L);
}

static int adapters(lua_State *L) {
    nh_bundle_names(nh_vm_of(L)->setup.bundle, L, "adapters/");
    return 1;
}

int nh_open_task(lua_State *L) {
    static const luaL_Reg functions[] = {{"transfer", transfer},
                                         {"carry", carry},
                                         {"sleep", sleep_for},
                                         {"admit", admit},
                                         {"pause", pause_account},
                                         {"deadline", deadline},
                                         {"parallel", parallel},
                                         {"spawn", spawn},
                                         {"context", context},
                                         {"turn", turn},
                                         {"attempted", attempted},
                                         {"log", write_log},
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
