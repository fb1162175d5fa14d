/* handle.c — a handle as a userdata. What blocks or calls back is in handle.lua; here is what asks
 * the core and returns at once. */
#include "bindings/lua/document.h"
#include "bindings/lua/object.h"

#include <string.h>

nh_handle *nhl_check_handle(lua_State *L, int index) {
    nhl_handle *self = luaL_checkudata(L, index, NHL_HANDLE);
    if (!self->handle)
        luaL_error(L, "this handle has been collected");
    return self->handle;
}

nhl_handle *nhl_handle_new(lua_State *L, int index) {
    nhl_handle *self = nhl_new_userdata(L, sizeof *self);
    self->handle = NULL;
    luaL_getmetatable(L, NHL_HANDLE);
    lua_setmetatable(L, -2);
    nhl_push_owner(L, index);
    nhl_set_owner(L, lua_gettop(L) - 1);
    return self;
}

/* The state's name; for a settled message the receipt's status, which says more. */
static const char *state_name(nh_handle *handle) {
    nh_state state = nh_handle_state(handle);
    if (state != NH_SETTLED)
        return nh_state_name(state);
    nh_receipt *receipt = nh_handle_receipt(handle);
    const char *name = nh_status_name(nh_receipt_status(receipt));
    nh_receipt_unref(receipt);
    return name;
}

static int handle_status(lua_State *L) {
    nh_handle *handle = nhl_check_handle(L, 1);
    uint32_t done, total;
    lua_createtable(L, 0, 5);
    lua_pushstring(L, nh_handle_id(handle));
    lua_setfield(L, -2, "id");
    lua_pushstring(L, state_name(handle));
    lua_setfield(L, -2, "state");
    nh_handle_progress(handle, &done, &total);
    nhl_push_integer(L, done);
    lua_setfield(L, -2, "done");
    nhl_push_integer(L, total);
    lua_setfield(L, -2, "total");
    nhl_push_integer(L, nh_handle_retries(handle));
    lua_setfield(L, -2, "retries");
    return 1;
}

static int handle_cancel(lua_State *L) {
    lua_pushboolean(L, nh_handle_cancel(nhl_check_handle(L, 1)));
    return 1;
}

/* handle:result() and native.receipt(handle) → the receipt, or nil before the handle settles. */
static int handle_receipt(lua_State *L) {
    nh_handle *handle = nhl_check_handle(L, 1);
    nh_reader receipt;
    if (!nh_handle_read(handle, &receipt))
        return 0;
    nhl_pusher to = nhl_pusher_open(L);
    nhl_pusher_push(&to, receipt);
    return 1;
}

static int handle_settled(lua_State *L) {
    lua_pushboolean(L, nh_handle_state(nhl_check_handle(L, 1)) == NH_SETTLED);
    return 1;
}

/* native.accepting(handle) → whether it is not known yet if it is accepted. */
static int handle_accepting(lua_State *L) {
    lua_pushboolean(L, nh_handle_state(nhl_check_handle(L, 1)) == NH_ACCEPTING);
    return 1;
}

/* native.accepted(handle) → true; or nil, message, code. */
static int handle_accepted(lua_State *L) {
    nh_error error;
    if (nh_handle_wait_accepted(nhl_check_handle(L, 1), 0, &error) != NH_OK)
        return nhl_push_error(L, &error);
    lua_pushboolean(L, true);
    return 1;
}

/* native.first(handle) → the handle whose duplicate it is, or nil. */
static int handle_first(lua_State *L) {
    nh_handle *handle = nhl_check_handle(L, 1);
    nhl_handle *first = nhl_handle_new(L, 1);
    first->handle = nh_handle_first(handle);
    return first->handle ? 1 : 0;
}

/* Two userdata may be of one handle: that of a duplicate is the first's. */
static int handle_equal(lua_State *L) {
    lua_pushboolean(L, nhl_check_handle(L, 1) == nhl_check_handle(L, 2));
    return 1;
}

static int handle_message(lua_State *L) {
    nh_handle *handle = nhl_check_handle(L, 1);
    nh_doc **doc = nhl_document_slot(L);
    *doc = nh_handle_message(handle);
    nhl_document_push(L);
    return 1;
}

static int handle_progress(lua_State *L) {
    uint32_t done, total;
    nh_handle_progress(nhl_check_handle(L, 1), &done, &total);
    nhl_push_integer(L, done);
    nhl_push_integer(L, total);
    return 2;
}

static int handle_retries(lua_State *L) {
    nhl_push_integer(L, nh_handle_retries(nhl_check_handle(L, 1)));
    return 1;
}

/* native.handle_state(value) → the state of a handle's hub, nil for anything else. */
static int handle_state(lua_State *L) {
    if (!nhl_test_userdata(L, 1, NHL_HANDLE))
        return 0;
    nhl_push_owner(L, 1);
    return 1;
}

/* handle.id, and the methods (upvalue 1). */
static int handle_index(lua_State *L) {
    nh_handle *handle = nhl_check_handle(L, 1);
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "id") == 0) {
        lua_pushstring(L, nh_handle_id(handle));
        return 1;
    }
    lua_settop(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

static int handle_tostring(lua_State *L) {
    nh_handle *handle = nhl_check_handle(L, 1);
    lua_pushfstring(L, NHL_HANDLE ": %s (%s)", nh_handle_id(handle), state_name(handle));
    return 1;
}

static int handle_gc(lua_State *L) {
    nhl_handle *self = luaL_checkudata(L, 1, NHL_HANDLE);
    nh_handle_unref(self->handle);
    self->handle = NULL;
    return 0;
}

void nhl_handle_setup(lua_State *L) {
    static const luaL_Reg metamethods[] = {
        {"__gc", handle_gc}, {"__tostring", handle_tostring}, {"__eq", handle_equal}, {NULL, NULL}};
    static const luaL_Reg direct[] = {{"status", handle_status},
                                      {"result", handle_receipt},
                                      {"cancel", handle_cancel},
                                      {NULL, NULL}};
    static const luaL_Reg natives[] = {
        {"receipt", handle_receipt},     {"settled", handle_settled},
        {"accepting", handle_accepting}, {"accepted", handle_accepted},
        {"first", handle_first},         {"message", handle_message},
        {"progress", handle_progress},   {"retries", handle_retries},
        {"handle_state", handle_state},  {NULL, NULL}};
    static const nhl_type type = {NHL_HANDLE, "handle_methods", metamethods,
                                  direct,     natives,          handle_index};
    nhl_type_setup(L, &type);
}
