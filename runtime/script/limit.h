/* limit.h — how long a script may run and how much it may hold.
 *
 * A limiter counts the bytes of one Lua state. Scripts that are not trusted run inside a guard:
 * there, and only there, a hook looks at the clock and the allocator refuses growth over the
 * budget. What a script may use up before it waits is a slice; one that breaks a limit is ended by
 * an error that no pcall of its own keeps, and that comes out of the guard as `script_limit` or
 * `script_memory`.
 *
 * The limiter is found from any coroutine through the userdata of the state's allocator, so it must
 * be the first member of the struct that is given to lua_newstate with nh_limiter_alloc.
 *
 *     lua_State *L = lua_newstate(nh_limiter_alloc, vm);         -- vm->limiter initialised before
 *     …
 *     nh_slice outer = nh_limiter_enter(&vm->limiter, co);       -- around every lua_resume
 *     lua_resume(co, …);
 *     nh_limiter_leave(&vm->limiter, &outer);
 *
 * Coroutines that the runtime makes itself begin without the hook (lua_sethook(co, NULL, 0, 0):
 * lua_newthread copies its maker's) and call nh_guard where a script's own code begins.
 *
 * Thread: the state's.
 */
#ifndef NH_SCRIPT_LIMIT_H
#define NH_SCRIPT_LIMIT_H

#include <lua.h>

#include "runtime/core/slab.h"
#include "runtime/notifyhub.h"

typedef struct nh_limits {
    double slice;           /* seconds of the processor without a pause */
    size_t state_memory;    /* bytes that a state holds while a script makes it grow */
    size_t message_memory;  /* bytes that it grows in one slice */
    int depth;              /* calls inside each other; seen when the hook looks, so not sharp */
    size_t string_bytes;    /* of one string that a script makes */
    uint64_t pattern_steps; /* of one pattern function, besides those linear in the subject */
} nh_limits;

#define NH_LIMITS_DEFAULT                                                                          \
    {                                                                                              \
        .slice = 0.1, .state_memory = 64u << 20, .message_memory = 8u << 20, .depth = 200,         \
        .string_bytes = 1u << 20, .pattern_steps = 1000000                                         \
    }

/* The time between two waits of a coroutine, as far as a guard is in it. */
typedef struct nh_slice {
    lua_State *L;      /* whose guarded code runs: gives an error its place */
    uint64_t deadline; /* ns of the coarse monotonic clock: when to look at the thread's own */
    uint64_t began;    /* ns of the thread's own clock at the first such look; 0: none yet */
    size_t base;       /* bytes held when it began */
    nh_err overrun;    /* NH_OK, or the limit that was broken: nothing guarded goes on */
    bool guarded;      /* a script's code runs */
    bool lent;         /* runs inside another slice and shares its deadline and base */
} nh_slice;

typedef struct nh_limiter {
    nh_limits limits;
    size_t held;       /* bytes of the state */
    size_t work;       /* units (about 1 ns each) since the clock was last read */
    bool loading;      /* limits.slice is that of loading, and told by that name */
    bool tight;        /* the last request to grow was refused */
    nh_slice slice;    /* of what runs now */
    char message[256]; /* the overrun in words, with its place */
    nh_slab slab;
} nh_limiter;

void nh_limiter_init(nh_limiter *limiter, const nh_limits *limits);
void nh_limiter_term(nh_limiter *limiter); /* after lua_close */

/* The allocator; `ud` begins with an nh_limiter. It always counts, refuses only growth and only
 * while guarded code runs. */
void *nh_limiter_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

nh_limiter *nh_limiter_of(lua_State *L);

/* Begins the slice of a coroutine that is about to be resumed and returns the one that it
 * interrupts, for nh_limiter_leave when lua_resume returns. A coroutine resumed from within guarded
 * code shares that code's slice. */
nh_slice nh_limiter_enter(nh_limiter *limiter, lua_State *co);
void nh_limiter_leave(nh_limiter *limiter, const nh_slice *outer);

/* Whether the state holds more than 80 % of its budget: when that is so after a collection, it is
 * time for another state. */
bool nh_limiter_is_high(const nh_limiter *limiter);

/* Counts work done in C, where the hook does not reach; raises past the deadline. 0 units only ask
 * whether the slice is overrun: functions that wait call it so. */
void nh_limiter_charge(lua_State *L, size_t units);

/* For functions that have caught an error: raises when it was a limit's. */
void nh_limiter_caught(lua_State *L);

/* How long a string may be that is made now; SIZE_MAX outside of a guard. */
size_t nh_limiter_string_room(lua_State *L);

/* Raises the error of a limit that the script may catch; uncaught, the guard gives its kind. */
_Noreturn void nh_limit_error(lua_State *L, const char *format, ...);

/* "8 MiB", "1000 bytes". */
const char *nh_limit_bytes(char text[32], size_t bytes);

/* guard(f, ...) → true, results… | false, text, kind, traceback. `kind` is "script_limit",
 * "script_memory" or nil (an error of the script's own, which alone has a traceback). Works across
 * yields. A guard inside a guard catches the errors of scripts but lets limits pass to the outer
 * one. */
int nh_guard(lua_State *L);

/* unguard(f, ...) → results…: the runtime's own code, called from a script, without hook and memory
 * limit; its time still counts. For code that runs no function and no metamethod that a script gave
 * it, but through nh_guard. Works across yields. */
int nh_unguard(lua_State *L);

/* Lua's own catchers with limits that pass through them, for scripts: pcall, xpcall. */
int nh_pcall(lua_State *L);
int nh_xpcall(lua_State *L);

#endif
