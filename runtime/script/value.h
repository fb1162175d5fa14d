/* value.h — documents ↔ Lua values. */
#ifndef NH_SCRIPT_VALUE_H
#define NH_SCRIPT_VALUE_H

#include <lua.h>

#include "runtime/notifyhub.h"

/* Pushes a value [-0, +1]; maps become tables, a secret its text. May raise (memory). */
void nh_push_value(lua_State *L, const nh_value *value);

/* The same of a document that is packed, without a tree of it; its table has room for `more` fields
 * of other names. May raise (memory). */
void nh_push_packed(lua_State *L, const void *bytes, size_t length, int more);

/* Writes the value at `index`. A table with keys 1…n is an array, one with string keys a map, an
 * empty one a map unless nh_mark_array was here. Raises for anything else, naming `what`; the
 * writer must then be cleared. */
void nh_write_value(lua_State *L, int index, nh_writer *writer, const char *what);

/* luaL_error for those who must know that it does not return. */
_Noreturn void nh_raise(lua_State *L, const char *format, ...);

/* Marks the table at `index` as an array even when it is empty [-0, +0]; tells whether one is. */
void nh_mark_array(lua_State *L, int index);
bool nh_is_marked_array(lua_State *L, int index);

/* Pushes an empty table with room for what the one at `index` holds, and `more` fields [-0, +1]. */
void nh_push_sized_like(lua_State *L, int index, int more);

/* Whether a table's keys are just 1…n, or it is empty and marked, and how many it has [-0, +0]. */
bool nh_is_sequence(lua_State *L, int index, size_t *count);

/* Pushes the keys and values of a table, when all keys are names and there are some but not many
 * [-0, +2 * count]; else pushes nothing. Walking a table is what writing it costs most. */
enum { NH_PAIRS_MOST = 16 };
bool nh_push_pairs(lua_State *L, int index, size_t *count);

/* The text that tostring would give, as far as that can be had without raising; borrowed from the
 * stack [-0, +1]. */
const char *nh_error_text(lua_State *L, int index);

/* A secret of a configuration: a userdata that prints as "<secret>" [-0, +1]. NULL when it is no
 * secret. */
void nh_push_secret(lua_State *L, const char *text, size_t length);
const char *nh_to_secret(lua_State *L, int index, size_t *length);

#endif
