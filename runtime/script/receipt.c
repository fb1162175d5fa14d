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

/* The names of the fields that are read and told. tell_receipt has them as its upvalues: a text
 * that comes from C is looked up by its bytes each time. */
typedef enum name {
    MESSAGE = 1,
    ENTRIES,
    ACCOUNT,
    ADAPTER,
    NAME,
    SHOWN,
    DELIVERED,
    ID,
    STATUS,
    RESULTS,
    CREATED_AT,
    SETTLED_AT,
    ROUTE,
    WARNINGS,
    GENERATION,
    PLATFORM,
    TARGET,
    OK,
    STATUS_CODE,
    ATTEMPTS,
    LATENCY,
    WAITED,
    NAMES_END
} name;

#define TEXT(word)                                                                                 \
    { (word), sizeof(word) - 1 }

static const struct {
    const char *text;
    size_t length;
} names[NAMES_END] = {[MESSAGE] = TEXT("message"),
                      [ENTRIES] = TEXT("entries"),
                      [ACCOUNT] = TEXT("account"),
                      [ADAPTER] = TEXT("adapter"),
                      [NAME] = TEXT("name"),
                      [SHOWN] = TEXT("shown"),
                      [DELIVERED] = TEXT("delivered"),
                      [ID] = TEXT("id"),
                      [STATUS] = TEXT("status"),
                      [RESULTS] = TEXT("results"),
                      [CREATED_AT] = TEXT("created_at"),
                      [SETTLED_AT] = TEXT("settled_at"),
                      [ROUTE] = TEXT("route"),
                      [WARNINGS] = TEXT("warnings"),
                      [GENERATION] = TEXT("generation"),
                      [PLATFORM] = TEXT("platform"),
                      [TARGET] = TEXT("target"),
                      [OK] = TEXT("ok"),
                      [STATUS_CODE] = TEXT("status_code"),
                      [ATTEMPTS] = TEXT("attempts"),
                      [LATENCY] = TEXT("latency"),
                      [WAITED] = TEXT("waited")};

static void tell_name(nh_writer *writer, name field) {
    nh_writer_string(writer, names[field].text, names[field].length);
}

static void push_name(lua_State *L, name field) {
    lua_pushvalue(L, lua_upvalueindex(field));
}

/* The field of the table at `from` [-0, +1]. */
static void get(lua_State *L, int from, name field) {
    push_name(L, field);
    lua_rawget(L, from);
}

/* Tells the value on top of the stack, which stands on its field's name, unless it is nil: to the
 * writer, and to the table at that index, 0: to none [-2, +0]. */
static void tell(lua_State *L, nh_writer *writer, int table, name field) {
    if (lua_isnil(L, -1)) {
        lua_pop(L, 2);
        return;
    }
    tell_name(writer, field);
    nh_write_value(L, -1, writer, names[field].text);
    if (table)
        lua_rawset(L, table);
    else
        lua_pop(L, 2);
}

static void tell_field(lua_State *L, int from, name from_field, nh_writer *writer, int table,
                       name field) {
    push_name(L, field);
    get(L, from, from_field);
    tell(L, writer, table, field);
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
    get(L, entry, ACCOUNT);
    get(L, top + 1, ADAPTER);
    tell_field(L, top + 2, NAME, writer, table, PLATFORM);
    lua_settop(L, top);
    tell_field(L, entry, SHOWN, writer, table, TARGET);
    push_name(L, OK);
    lua_pushboolean(L, true);
    tell(L, writer, table, OK);
    tell_field(L, entry, DELIVERED, writer, table, STATUS_CODE);
    tell_field(L, entry, ATTEMPTS, writer, table, ATTEMPTS);
    tell_field(L, entry, LATENCY, writer, table, LATENCY);
    tell_field(L, entry, WAITED, writer, table, WAITED);
    nh_writer_close(writer);
    if (table)
        lua_rawseti(L, results, (lua_Integer)place);
    lua_settop(L, entry - 1);
}

/* The results of the entries at that index. */
static void tell_results(lua_State *L, nh_writer *writer, int entries, int table) {
    size_t count = lua_rawlen(L, entries);
    tell_name(writer, RESULTS);
    nh_writer_array(writer, count);
    push_name(L, RESULTS);
    int results = push_table(L, table, (int)count, 0);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, entries, (lua_Integer)i);
        tell_result(L, writer, results, i);
    }
    if (table)
        lua_rawset(L, table);
    else
        lua_pop(L, 1);
}

/* Of a context, a generation, and whether a table is asked for; → the table. */
static int tell_receipt(lua_State *L) {
    enum { CONTEXT_AT = 1, GENERATION_AT, TABLE_AT, MESSAGE_AT, ENTRIES_AT };
    nh_writer *writer = nh_vm_of(L)->writer;
    get(L, CONTEXT_AT, MESSAGE);
    get(L, CONTEXT_AT, ENTRIES);
    int table = push_table(L, lua_toboolean(L, TABLE_AT), 0, RECEIPT_FIELDS);
    nh_writer_clear(writer);
    nh_writer_open_map(writer);
    tell_field(L, MESSAGE_AT, ID, writer, table, ID);
    push_name(L, STATUS);
    push_name(L, DELIVERED);
    tell(L, writer, table, STATUS);
    tell_results(L, writer, ENTRIES_AT, table);
    tell_field(L, MESSAGE_AT, CREATED_AT, writer, table, CREATED_AT);
    push_name(L, SETTLED_AT);
    lua_pushnumber(L, nh_wall());
    tell(L, writer, table, SETTLED_AT);
    tell_field(L, CONTEXT_AT, ROUTE, writer, table, ROUTE);
    tell_field(L, CONTEXT_AT, WARNINGS, writer, table, WARNINGS);
    if (lua_tointeger(L, GENERATION_AT) > 0) {
        push_name(L, GENERATION);
        lua_pushvalue(L, GENERATION_AT);
        tell(L, writer, table, GENERATION);
    }
    nh_writer_close(writer);
    return table ? 1 : 0;
}

static const char TELL; /* its address: where the registry has tell_receipt */

void nh_receipt_open(lua_State *L) {
    luaL_checkstack(L, NAMES_END, NULL);
    for (int field = 1; field < NAMES_END; field++)
        lua_pushlstring(L, names[field].text, names[field].length);
    lua_pushcclosure(L, tell_receipt, NAMES_END - 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &TELL);
}

nh_err nh_receipt_delivered(nh_vm *vm, int context, lua_Integer generation, bool table,
                            nh_packed *receipt) {
    lua_State *L = vm->L;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &TELL);
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
