/* sandbox.h — what of Lua the scripts see.
 *
 * Two rings: the runtime's own scripts have the safe part of Lua's libraries, bounded; rules have
 * an environment of their own with read-only views of these, and functions that cannot reach beyond
 * it.
 *
 * Thread: the state's. All may raise (memory).
 */
#ifndef NH_SCRIPT_SANDBOX_H
#define NH_SCRIPT_SANDBOX_H

#include <lua.h>

/* Opens the libraries of a new state as its globals, without what reaches files, the process, byte
 * code or the collector, and with bounds (bounded.h). Once, before anything else; the state's
 * allocator must be a limiter's. */
void nh_sandbox_open(lua_State *L);

/* Replaces the table on top by a read-only view of it; tables inside are as writable as before. Its
 * errors call it `name` [-1, +1]. */
void nh_sandbox_freeze(lua_State *L, const char *name);

/* Pushes a new environment for a folder of rules: what is global in it belongs to it alone [-0,
 * +1].
 */
void nh_sandbox_environment(lua_State *L);

#endif
