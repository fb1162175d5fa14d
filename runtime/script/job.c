/* job.c — carries a delivery on. lib/delivery says in steps what is to be done next, and waits
 * between them without a coroutine: its stack would be most of what a message in flight holds. A
 * step runs in the state itself, so nothing that it calls (a rendering, an adapter) may wait.
 *
 * Most messages of an account are one request with another body, and the answer to most is that all
 * is well. So a request that comes with its body beside it is packed once, whatever is sent in it,
 * and a job may say that of a success its status is enough.
 * Owned by the worker's thread.
 */
#include <lauxlib.h>

#include "runtime/core/error.h"
#include "runtime/script/strand.h"
#include "runtime/script/value.h"

/* ---------------------------------------------------------------- requests */

static const char PACKED[] = "notifyhub.packed";

static int free_packed(lua_State *L) {
    nh_doc **doc = lua_touserdata(L, 1);
    nh_doc_unref(*doc);
    *doc = NULL;
    return 0;
}

/* Packs the request at `index`, kept as long as its table is [-0, +1]. */
static void push_packed(lua_State *L, int index) {
    nh_vm *vm = nh_vm_of(L);
    nh_error error;
    nh_doc **doc = lua_newuserdatauv(L, sizeof *doc, 0);
    *doc = NULL;
    if (luaL_newmetatable(L, PACKED)) {
        lua_pushcfunction(L, free_packed);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    nh_writer_clear(vm->writer);
    nh_write_value(L, index, vm->writer, "request");
    *doc = nh_writer_finish(vm->writer, &error);
    if (!*doc)
        nh_raise(L, "request: %s", error.message);
    if (vm->packed == LUA_NOREF) {
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "k");
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
        vm->packed = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->packed);
    lua_pushvalue(L, index);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* What the request at `index` has besides its body; borrowed from the stack [-0, +1]. */
static const nh_value *packed(lua_State *L, int index) {
    nh_vm *vm = nh_vm_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->packed); /* nil when there is none yet */
    if (lua_istable(L, -1)) {
        lua_pushvalue(L, index);
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        push_packed(L, index);
    }
    return nh_doc_root(*(nh_doc **)lua_touserdata(L, -1));
}

/* Writes a request: a table, and its body where that stands beside it. */
static int write_request(lua_State *L) {
    nh_writer *writer = nh_vm_of(L)->writer;
    size_t length;
    const char *body = lua_tolstring(L, 2, &length);
    if (!body) {
        nh_writer_clear(writer);
        nh_write_value(L, 1, writer, "request");
        return 0;
    }
    const nh_value *request = packed(L, 1);
    size_t count = nh_value_count(request);
    if (nh_value_kind(request) != NH_MAP)
        luaL_error(L, "request: must be a table of names");
    nh_writer_clear(writer);
    nh_writer_map(writer, count + 1);
    for (size_t i = 0; i < count; i++) {
        nh_writer_value(writer, nh_value_key(request, i));
        nh_writer_value(writer, nh_value_at(request, i));
    }
    nh_writer_cstring(writer, "body");
    nh_writer_string(writer, body, length);
    return 0;
}

enum { STEP_RESULTS = 7 };

/* What a step said, on top of the state's stack: a transport, a request, its body where that stands
 * beside it, whether it is one more attempt, whether a success needs no more than its status, the
 * account's name, whether it would rather be refused than wait [-STEP_RESULTS, +0]. */
static bool send(nh_strand *s, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    lua_State *L = vm->L;
    const char *transport = lua_tostring(L, -STEP_RESULTS);
    s->op.again = lua_toboolean(L, -4);
    s->brief = lua_toboolean(L, -3);
    s->op.account = lua_tostring(L, -2); /* the account lives as long as its job */
    s->op.hasty = lua_toboolean(L, -1);
    lua_pop(L, 4);
    lua_pushcfunction(L, write_request);
    lua_insert(L, -3);
    nh_doc *request =
        nh_vm_call(vm, 2, 0, error) == NH_OK ? nh_writer_finish(vm->writer, error) : NULL;
    bool sent = request && vm->setup.host->transfer(&s->op, transport, request, error) == NH_OK;
    lua_pop(L, 1);
    return sent;
}

/* ----------------------------------------------------------------- answers */

void nh_strand_push_answer(nh_strand *s, lua_State *L, const nh_doc *response) {
    const nh_value *answer = nh_doc_root(response);
    int64_t status = s->brief ? nh_value_int(nh_value_get(answer, "status"), 0) : 0;
    if (status >= 200 && status < 300 && !nh_value_get(answer, "error"))
        lua_pushinteger(L, status);
    else
        nh_push_value(L, answer);
}

/* The answer to a request that was refused before anything was sent [-0, +1]. */
static void push_refusal(lua_State *L, const nh_error *error) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, nh_err_name(error->code));
    lua_setfield(L, -2, "error");
    lua_pushstring(L, error->message);
    lua_setfield(L, -2, "message");
}

/* ------------------------------------------------------------------- steps */

static nh_err call_step(nh_strand *s, int job, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    nh_strand *outer = vm->job;
    nh_vm_push_own(vm, lua_isinteger(vm->L, job + 1) ? NH_MAIN_DELIVERED : NH_MAIN_STEP);
    lua_pushvalue(vm->L, job);
    lua_pushvalue(vm->L, job + 1);
    vm->job = s;
    s->waits = false;
    nh_err failed = nh_vm_call(vm, 2, STEP_RESULTS, error);
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
        double seconds = lua_tonumber(L, -STEP_RESULTS);
        switch (lua_type(L, -STEP_RESULTS)) {
        case LUA_TNIL:
            return NH_ENDED;
        case LUA_TBOOLEAN: /* and all is said with it */
            s->owner->plain = true;
            s->owner->after = lua_toboolean(L, -STEP_RESULTS + 1);
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
    luaL_checkstack(L, 10, NULL);
    /* Who sends may be a script, which goes on within its limits afterwards. */
    nh_limiter *limiter = nh_limiter_of(L);
    nh_slice outer = nh_limiter_enter(limiter, L);
    nh_progress progress = advance(s, job, error);
    nh_limiter_leave(limiter, &outer);
    s->waits = progress == NH_WAITS;
    lua_settop(L, job - 1);
    return progress;
}
