/* receipt.c — writes the receipt of a message all of whose entries were delivered, which is what
 * lib/receipt would make of its context. What the sender gets is packed at once; callbacks get a
 * table of the same values, filled on the same way, which costs less than packing the table.
 * Owned by the worker's thread.
 */
#include "runtime/script/receipt.h"

#include <lauxlib.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/script/value.h"

/* Room in the tables: a table that grows costs more than all that is put into it. */
enum { RECEIPT_FIELDS = 8, RESULT_FIELDS = 8 };

/* Tells the value on top of the stack, unless it is nil: to the writer, and to the table at that
 * index, 0: to none [-1, +0]. */
static void tell(lua_State *L, nh_writer *writer, int table, const char *name) {
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    nh_writer_cstring(writer, name);
    nh_write_value(L, -1, writer, name);
    if (table)
        lua_setfield(L, table, name);
    else
        lua_pop(L, 1);
}

static void tell_field(lua_State *L, int from, const char *field, nh_writer *writer, int table,
                       const char *name) {
    lua_getfield(L, from, field);
    tell(L, writer, table, name);
}

/* A table with so much room, where one is asked for [-0, +0 or 1]; its index or 0. */
static int push_table(lua_State *L, int table, int items, int fields) {
    if (!table)
        return 0;
    lua_createtable(L, items, fields);
    return lua_gettop(L);
}

/* The result of the entry on top of the stack, which becomes number `place` of the list at index
 * `results` [-1, +0]. */
static void tell_result(lua_State *L, nh_writer *writer, int results, size_t place) {
    int entry = lua_gettop(L);
    nh_writer_open_map(writer);
    int table = push_table(L, results, 0, RESULT_FIELDS);
    int top = lua_gettop(L);
    lua_getfield(L, entry, "account");
    lua_getfield(L, -1, "adapter");
    tell_field(L, top + 2, "name", writer, table, "platform");
    lua_settop(L, top);
    tell_field(L, entry, "shown", writer, table, "target");
    lua_pushboolean(L, true);
    tell(L, writer, table, "ok");
    tell_field(L, entry, "delivered", writer, table, "status_code");
    tell_field(L, entry, "attempts", writer, table, "attempts");
    tell_field(L, entry, "latency", writer, table, "latency");
    tell_field(L, entry, "waited", writer, table, "waited");
    nh_writer_close(writer);
    if (table)
        lua_rawseti(L, results, (lua_Integer)place);
    lua_settop(L, entry - 1);
}

/* The results of the entries at that index. */
static void tell_results(lua_State *L, nh_writer *writer, int entries, int table) {
    size_t count = lua_rawlen(L, entries);
    nh_writer_cstring(writer, "results");
    nh_writer_array(writer, count);
    int results = push_table(L, table, (int)count, 0);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, entries, (lua_Integer)i);
        tell_result(L, writer, results, i);
    }
    if (table)
        lua_setfield(L, table, "results");
}

/* Of a context, a generation, and whether a table is asked for; → the table. */
static int tell_receipt(lua_State *L) {
    enum { CONTEXT = 1, GENERATION, TABLE, MESSAGE, ENTRIES };
    nh_writer *writer = nh_vm_of(L)->writer;
    lua_getfield(L, CONTEXT, "message");
    lua_getfield(L, CONTEXT, "entries");
    int table = push_table(L, lua_toboolean(L, TABLE), 0, RECEIPT_FIELDS);
    nh_writer_clear(writer);
    nh_writer_open_map(writer);
    tell_field(L, MESSAGE, "id", writer, table, "id");
    lua_pushstring(L, nh_status_name(NH_DELIVERED));
    tell(L, writer, table, "status");
    tell_results(L, writer, ENTRIES, table);
    tell_field(L, MESSAGE, "created_at", writer, table, "created_at");
    lua_pushnumber(L, nh_wall());
    tell(L, writer, table, "settled_at");
    tell_field(L, CONTEXT, "route", writer, table, "route");
    tell_field(L, CONTEXT, "warnings", writer, table, "warnings");
    if (lua_tointeger(L, GENERATION) > 0) {
        lua_pushvalue(L, GENERATION);
        tell(L, writer, table, "generation");
    }
    nh_writer_close(writer);
    return table ? 1 : 0;
}

nh_err nh_receipt_delivered(nh_vm *vm, int context, lua_Integer generation, bool table,
                            nh_packed *receipt) {
    lua_State *L = vm->L;
    lua_pushcfunction(L, tell_receipt);
    lua_rawgeti(L, LUA_REGISTRYINDEX, context);
    lua_pushinteger(L, generation);
    lua_pushboolean(L, table);
    nh_err failed = nh_vm_call(vm, 3, table ? 1 : 0, NULL);
    if (failed)
        return failed;
    failed = nh_writer_packed(vm->writer, receipt, NULL);
    if (failed && table)
        lua_pop(L, 1);
    return failed;
}
