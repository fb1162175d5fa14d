/* object.h — the userdata of this module, and the functions (`native`) that its Lua files use.
 *
 * Each userdata holds one reference of the core's. Its owner table is the hub's `state`, made by
 * events.lua, which holds the hub: so a handle or batch keeps its hub alive. A userdata that was
 * collected (at the end of its state, a finalizer of the program may still reach it) holds NULL.
 */
#ifndef NHL_OBJECT_H
#define NHL_OBJECT_H

#include "bindings/lua/compat.h"
#include "runtime/notifyhub.h"

#define NHL_HUB    "notifyhub.hub"
#define NHL_HANDLE "notifyhub.handle"
#define NHL_BATCH  "notifyhub.batch"

typedef struct nhl_hub {
    nh_hub *hub;
    nh_inbox *inbox;   /* what happens to everything this state watches */
    nh_writer *writer; /* reused by every message */
    size_t unseen;     /* messages made since the collector was last told of them */
    uint64_t news;     /* how far this state has read the hub's */
} nhl_hub;

typedef struct nhl_handle {
    nh_handle *handle;
} nhl_handle;

typedef struct nhl_batch {
    nh_batch *batch;
} nhl_batch;

/* The userdata at `index`; raises when it is another thing or was collected. [-0, +0] */
nhl_hub *nhl_check_hub(lua_State *L, int index);
nh_handle *nhl_check_handle(lua_State *L, int index);
nh_batch *nhl_check_batch(lua_State *L, int index);

/* Pushes an empty handle whose owner is that of the userdata at `index`, for the caller to fill.
 * [-0, +1] */
nhl_handle *nhl_handle_new(lua_State *L, int index);
nhl_batch *nhl_batch_new(lua_State *L, int index);

/* Pushes nil, message, code; returns 3. [-0, +3] */
int nhl_push_error(lua_State *L, const nh_error *error);

/* Makes a metatable `type`. The table on top (`native`) gets the natives, and the methods under
 * `methods`, for the Lua files to add theirs. [-0, +0] */
typedef struct nhl_type {
    const char *type;
    const char *methods;
    const luaL_Reg *metamethods;
    const luaL_Reg *direct;  /* methods that are C functions */
    const luaL_Reg *natives; /* what the Lua files call */
    lua_CFunction index;     /* gets the methods as upvalue 1; NULL: __index is the methods */
} nhl_type;
void nhl_type_setup(lua_State *L, const nhl_type *type);

void nhl_hub_setup(lua_State *L);
void nhl_handle_setup(lua_State *L);
void nhl_batch_setup(lua_State *L);
void nhl_dead_setup(lua_State *L); /* only natives */

#endif
