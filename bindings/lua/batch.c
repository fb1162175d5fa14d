/* batch.c — a batch as a userdata. `batch[i]` makes a handle when it is first asked for and
 * remembers it weakly, so that it is the same one as long as somebody holds it. */
#include "bindings/lua/document.h"
#include "bindings/lua/object.h"

#include <string.h>

enum { GATHERED_AT_ONCE = 256 };

nh_batch *nhl_check_batch(lua_State *L, int index) {
    nhl_batch *self = luaL_checkudata(L, index, NHL_BATCH);
    if (!self->batch)
        luaL_error(L, "this batch has been collected");
    return self->batch;
}

nhl_batch *nhl_batch_new(lua_State *L, int index) {
    nhl_batch *self = nhl_new_userdata(L, sizeof *self);
    self->batch = NULL;
    luaL_getmetatable(L, NHL_BATCH);
    lua_setmetatable(L, -2);
    nhl_push_owner(L, index);
    nhl_set_owner(L, lua_gettop(L) - 1);
    return self;
}

/* A batch is `running` until all have settled, then what its receipts say together. */
static const char *state_name(nh_batch *batch) {
    size_t settled, failed, count = nh_batch_count(batch);
    nh_batch_progress(batch, &settled, &failed);
    if (settled < count)
        return "running";
    if (failed == 0)
        return nh_status_name(NH_DELIVERED);
    if (failed < count)
        return nh_status_name(NH_PARTIAL);

    nh_status all = NH_FAILED;
    for (size_t i = 0; i < count; i++) {
        nh_receipt *receipt = nh_handle_receipt(nh_batch_handle(batch, i));
        nh_status one = nh_receipt_status(receipt);
        nh_receipt_unref(receipt);
        if (one == NH_PARTIAL)
            return nh_status_name(NH_PARTIAL);
        if (i == 0)
            all = one;
        else if (one != all)
            all = NH_FAILED;
    }
    return nh_status_name(all);
}

static void set_count(lua_State *L, const char *name, size_t count) {
    nhl_push_integer(L, (int64_t)count);
    lua_setfield(L, -2, name);
}

static int batch_status(lua_State *L) {
    nh_batch *batch = nhl_check_batch(L, 1);
    size_t settled, failed;
    lua_createtable(L, 0, 6);
    lua_pushstring(L, nh_batch_id(batch));
    lua_setfield(L, -2, "id");
    lua_pushstring(L, state_name(batch));
    lua_setfield(L, -2, "state");
    nh_batch_progress(batch, &settled, &failed);
    set_count(L, "total", nh_batch_count(batch));
    set_count(L, "settled", settled);
    set_count(L, "failed", failed);
    set_count(L, "delivered", settled - failed);
    return 1;
}

static int batch_progress(lua_State *L) {
    nh_batch *batch = nhl_check_batch(L, 1);
    size_t settled, failed;
    nh_batch_progress(batch, &settled, &failed);
    nhl_push_integer(L, (int64_t)settled);
    nhl_push_integer(L, (int64_t)nh_batch_count(batch));
    return 2;
}

static int batch_cancel(lua_State *L) {
    nhl_push_integer(L, (int64_t)nh_batch_cancel(nhl_check_batch(L, 1)));
    return 1;
}

static int batch_settled(lua_State *L) {
    lua_pushboolean(L, nh_batch_wait(nhl_check_batch(L, 1), 0) == NH_OK);
    return 1;
}

/* The receipt of a message, or nil. [-0, +1] */
static void push_receipt(const nhl_pusher *to, nh_batch *batch, size_t index) {
    nh_reader receipt;
    if (nh_handle_read(nh_batch_handle(batch, index), &receipt))
        nhl_pusher_push(to, receipt);
    else
        lua_pushnil(to->L);
}

/* native.batch_next(batch, nth) → index, receipt of what settled as number nth; nil when it has
 * not. Both count from 1. */
static int batch_next(lua_State *L) {
    nh_batch *batch = nhl_check_batch(L, 1);
    size_t index, nth = (size_t)lua_tonumber(L, 2);
    if (nh_batch_next(batch, nth - 1, 0, &index) != NH_OK)
        return 0;
    nhl_push_integer(L, (int64_t)index + 1);
    nhl_pusher to = nhl_pusher_open(L);
    push_receipt(&to, batch, index);
    lua_replace(L, to.index);
    return 2;
}

/* native.batch_gather(batch, receipts, taken) → receipts, taken, whole: puts receipts that have
 * come since the first `taken` into the table (nil: a new one); not whole: there may be more. */
static int batch_gather(lua_State *L) {
    size_t indexes[GATHERED_AT_ONCE];
    nh_batch *batch = nhl_check_batch(L, 1);
    size_t taken = (size_t)lua_tonumber(L, 3);
    size_t count = nh_batch_order(batch, taken, indexes, GATHERED_AT_ONCE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_createtable(L, (int)nh_batch_count(batch), 0);
        lua_replace(L, 2);
    }
    nhl_pusher to = nhl_pusher_open(L);
    for (size_t i = 0; i < count; i++) {
        push_receipt(&to, batch, indexes[i]);
        lua_rawseti(L, 2, (int)indexes[i] + 1);
    }
    lua_settop(L, 2);
    nhl_push_integer(L, (int64_t)(taken + count));
    lua_pushboolean(L, count < GATHERED_AT_ONCE);
    return 3;
}

/* native.batch_receipts(batch) → the receipts of a settled batch, in the order of its messages. */
static int batch_receipts(lua_State *L) {
    nh_batch *batch = nhl_check_batch(L, 1);
    size_t count = nh_batch_count(batch);
    nhl_pusher to = nhl_pusher_open(L);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        push_receipt(&to, batch, i);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* native.batch_state(value) → the state of a batch's hub, nil for anything else. */
static int batch_state(lua_State *L) {
    if (!nhl_test_userdata(L, 1, NHL_BATCH))
        return 0;
    nhl_push_owner(L, 1);
    return 1;
}

/* [-0, +1] the handle of a position, or nil. The state's weak table `handles` has those that
 * somebody holds, by their address in the core. */
static void push_handle(lua_State *L, nh_batch *batch, lua_Number position) {
    nh_handle *handle = position >= 1 && position <= (lua_Number)nh_batch_count(batch)
                            ? nh_batch_handle(batch, (size_t)position - 1)
                            : NULL;
    if (!handle || position != floor(position)) {
        lua_pushnil(L);
        return;
    }
    nhl_push_owner(L, 1);
    lua_getfield(L, -1, "handles");
    lua_pushlightuserdata(L, handle);
    lua_rawget(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        nhl_handle_new(L, 1)->handle = nh_handle_ref(handle);
        lua_pushlightuserdata(L, handle);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    }
}

/* batch[i], batch.id, and the methods (upvalue 1). */
static int batch_index(lua_State *L) {
    nh_batch *batch = nhl_check_batch(L, 1);
    lua_settop(L, 2);
    if (lua_type(L, 2) == LUA_TNUMBER) {
        push_handle(L, batch, lua_tonumber(L, 2));
    } else if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "id") == 0) {
        lua_pushstring(L, nh_batch_id(batch));
    } else {
        lua_rawget(L, lua_upvalueindex(1));
    }
    return 1;
}

static int batch_length(lua_State *L) {
    nhl_push_integer(L, (int64_t)nh_batch_count(nhl_check_batch(L, 1)));
    return 1;
}

static int batch_tostring(lua_State *L) {
    nh_batch *batch = nhl_check_batch(L, 1);
    lua_pushfstring(L, NHL_BATCH ": %s (%s)", nh_batch_id(batch), state_name(batch));
    return 1;
}

static int batch_gc(lua_State *L) {
    nhl_batch *self = luaL_checkudata(L, 1, NHL_BATCH);
    nh_batch_unref(self->batch);
    self->batch = NULL;
    return 0;
}

void nhl_batch_setup(lua_State *L) {
    static const luaL_Reg metamethods[] = {
        {"__gc", batch_gc}, {"__len", batch_length}, {"__tostring", batch_tostring}, {NULL, NULL}};
    static const luaL_Reg direct[] = {{"status", batch_status},
                                      {"progress", batch_progress},
                                      {"cancel", batch_cancel},
                                      {NULL, NULL}};
    static const luaL_Reg natives[] = {{"batch_settled", batch_settled},
                                       {"batch_progress", batch_progress},
                                       {"batch_next", batch_next},
                                       {"batch_receipts", batch_receipts},
                                       {"batch_gather", batch_gather},
                                       {"batch_state", batch_state},
                                       {NULL, NULL}};
    static const nhl_type type = {NHL_BATCH, "batch_methods", metamethods,
                                  direct,    natives,         batch_index};
    nhl_type_setup(L, &type);
}
