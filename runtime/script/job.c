/* job.c — carries a delivery on. lib/delivery says in steps what is to be done next, and waits
 * between them without a coroutine: its stack would be most of what a message in flight holds. A
 * step runs in the state itself, so nothing that it calls (a rendering, an adapter) may wait.
 *
 * Most messages of an account are one request with another body, and the answer to most is that all
 * is well. So a request that comes with its body beside it is made once, whatever is sent in it,
 * and a job may say that of a success its status is enough.
 * Owned by the worker's thread.
 */
#include <lauxlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/script/strand.h"
#include "runtime/script/value.h"

/* ---------------------------------------------------------------- requests */

bool nh_strand_send(nh_strand *s, const char *transport, nh_doc *doc, nh_error *error) {
    const nh_host *host = s->owner->vm->setup.host;
    nh_request *request = host->request(s->op.task, transport, doc, false, error);
    if (!request)
        return false;
    bool sent = host->transfer(&s->op, request, NULL, 0, error) == NH_OK;
    host->drop(request);
    return sent;
}

static bool send_whole(nh_strand *s, const char *transport, nh_error *error) {
    nh_doc *doc = nh_vm_pop_doc(s->owner->vm, "request", error);
    return doc && nh_strand_send(s, transport, doc, error);
}

/* A request that messages share: a userdata, kept as long as the table that it was made of. */
typedef struct shared {
    nh_request *request;   /* NULL: it could not be made */
    const nh_host *host;   /* whose it is */
    const char *transport; /* kept by the userdata */
} shared;

static const char SHARED[] = "notifyhub.request";

static int free_shared(lua_State *L) {
    shared *own = lua_touserdata(L, 1);
    if (own->request)
        own->host->drop(own->request);
    own->request = NULL;
    return 0;
}

/* Pushes the table of the shared ones, made when it is needed [-0, +1]. */
static void push_requests(lua_State *L) {
    nh_vm *vm = nh_vm_of(L);
    if (vm->requests == LUA_NOREF) {
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "k");
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
        vm->requests = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->requests);
}

/* (transport, request) → the shared one, without its request, whose document is written. */
static int write_shared(lua_State *L) {
    nh_vm *vm = nh_vm_of(L);
    if (!lua_istable(L, 2))
        nh_raise(L, "request: must be a table of names");
    shared *own = lua_newuserdatauv(L, sizeof *own, 1);
    *own = (shared){.host = vm->setup.host, .transport = lua_tostring(L, 1)};
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 3, 1);
    if (luaL_newmetatable(L, SHARED)) {
        lua_pushcfunction(L, free_shared);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, 3);
    push_requests(L);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    nh_writer_clear(vm->writer);
    nh_write_value(L, 2, vm->writer, "request");
    lua_settop(L, 3);
    return 1;
}

/* Makes the shared one of the request at `index`; NULL and an error. */
static nh_request *share(nh_strand *s, const char *transport, int index, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    lua_pushcfunction(vm->L, write_shared);
    lua_pushstring(vm->L, transport);
    lua_pushvalue(vm->L, index);
    if (nh_vm_call(vm, 2, 1, error) != NH_OK)
        return NULL;
    shared *own = lua_touserdata(vm->L, -1);
    nh_doc *doc = nh_writer_finish(vm->writer, error);
    if (doc && nh_value_kind(nh_doc_root(doc)) != NH_MAP) {
        nh_fail(error, NH_E_SCRIPT, "request: must be a table of names");
        nh_doc_unref(doc);
        return NULL;
    }
    if (doc)
        own->request = vm->setup.host->request(s->op.task, transport, doc, true, error);
    return own->request;
}

/* The request at `index`, shared by all who send this table; NULL and an error [-0, +?]. */
static nh_request *shared_of(nh_strand *s, const char *transport, int index, nh_error *error) {
    lua_State *L = s->owner->vm->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->owner->vm->requests); /* nil when there is none yet */
    if (lua_istable(L, -1) && lua_istable(L, index)) {
        lua_pushvalue(L, index);
        lua_rawget(L, -2);
        const shared *own = lua_touserdata(L, -1);
        if (own && own->request && strcmp(own->transport, transport) == 0)
            return own->request;
    }
    return share(s, transport, index, error);
}

enum { STEP_RESULTS = 7, STACK = STEP_RESULTS + 8 };

/* What a step said, on top of the state's stack: a transport, a request, its body where that stands
 * beside it, whether it is one more attempt, whether a success needs no more than its status, the
 * account's name, whether it would rather be refused than wait. Leaves the stack to its caller. */
static bool send(nh_strand *s, nh_error *error) {
    nh_vm *vm = s->owner->vm;
    lua_State *L = vm->L;
    int at = lua_gettop(L) - STEP_RESULTS + 1;
    size_t length;
    const char *transport = lua_tostring(L, at), *body = lua_tolstring(L, at + 2, &length);
    s->op.again = lua_toboolean(L, at + 3);
    s->op.brief = lua_toboolean(L, at + 4);
    s->op.account = lua_tostring(L, at + 5); /* the account lives as long as its job */
    s->op.hasty = lua_toboolean(L, at + 6);
    if (!body) {
        lua_settop(L, at + 1);
        return send_whole(s, transport, error);
    }
    nh_request *request = shared_of(s, transport, at + 1, error);
    return request && vm->setup.host->transfer(&s->op, request, body, length, error) == NH_OK;
}

/* ----------------------------------------------------------------- answers */

void nh_strand_push_answer(nh_strand *s, lua_State *L, const nh_doc *response) {
    if (s->op.status > 0)
        lua_pushinteger(L, s->op.status);
    else
        nh_push_value(L, nh_doc_root(response));
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
        double seconds;
        switch (lua_type(L, -STEP_RESULTS)) {
        case LUA_TNIL:
            return NH_ENDED;
        case LUA_TBOOLEAN: /* and all is said with it */
            s->owner->plain = true;
            s->owner->after = lua_toboolean(L, -STEP_RESULTS + 1);
            return NH_ENDED;
        case LUA_TNUMBER:
            seconds = lua_tonumber(L, -STEP_RESULTS); /* of a text it would cost a try to read it */
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
    luaL_checkstack(L, STACK, NULL);
    /* Who sends may be a script, which goes on within its limits afterwards. */
    nh_limiter *limiter = nh_limiter_of(L);
    nh_slice outer = nh_limiter_enter(limiter, L);
    nh_progress progress = advance(s, job, error);
    nh_limiter_leave(limiter, &outer);
    s->waits = progress == NH_WAITS;
    lua_settop(L, job - 1);
    return progress;
}
