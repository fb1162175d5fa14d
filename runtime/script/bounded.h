/* bounded.h — functions of Lua's libraries whose work in C has an end: they are charged for it
 * (limit.h), and in guarded code their results are capped. Each opener puts its functions into the
 * table on top of the stack, in the place of Lua's own [-0, +0].
 *
 * Thread: the state's.
 */
#ifndef NH_SCRIPT_BOUNDED_H
#define NH_SCRIPT_BOUNDED_H

#include <lua.h>

void nh_bound_string(lua_State *L);
void nh_bound_table(lua_State *L);
void nh_bound_coroutine(lua_State *L);
void nh_bound_utf8(lua_State *L);
void nh_bound_os(lua_State *L); /* and keeps only clock, date, difftime, time */

/* Wraps the function on top so that each call is charged by the length of its string arguments
 * [-1, +1]. */
void nh_bound_by_length(lua_State *L);

/* Calls the C function that stands as upvalue 1, in the place of the one that runs: its errors name
 * the caller's line and function as ever. It must need no upvalues. */
int nh_bound_original(lua_State *L);

/* How many values one call may return in guarded code. */
enum { NH_VALUES_MAX = 8000 };

#endif
