/* limit.c — the hook, the allocator and the guard.
 *
 * Time: a count hook on the coroutines of guarded code reads the clock every COUNT instructions,
 * and work in C is charged, so that the two together look at the clock every 0.1 ms or so. COUNT is
 * small because a single instruction can take a millisecond (a concatenation, or a conversion of a
 * long string). Past the deadline the hook runs before every instruction and always raises: neither
 * pcall loops nor to-be-closed variables get far, and nh_pcall and the sandbox's coroutine
 * functions raise again what they caught.
 *
 * Lua 5.4.4 leaves a coroutine that dies by an error from its hook with hooks off, and its
 * to-be-closed variables would then run without limit. A pcall inside of the coroutine switches
 * them on again, which is why one stands at the root of each (nh_guard, the sandbox's coroutines).
 * An error handler runs inside the hook, so it must not be a script's: see on_xpcall_error.
 *
 * What counts is the thread's own time, or a busy machine would fail messages whose scripts had no
 * turn. Asking for it is a system call, so the coarse clock comes first: once an eighth of a slice
 * has passed on it the thread's time is noted, and when the rest has, looked at again, until the
 * thread has really run for so long.
 *
 * Memory: a refused request makes Lua collect everything and ask again. The second request must fit
 * with an eighth of the budget to spare, or a script at its limit would pay a full collection for
 * every allocation.
 *
 * Cost: guarded instructions take about twice as long as others; unguarded code pays one comparison
 * for an allocation. The test `unit_script_sandbox bench` measures both.
 */
#include "runtime/script/limit.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"

enum {
    COUNT = 100,          /* instructions between two looks at the clock */
    WORK_MOST = 64 << 10, /* units of work between two looks */
    HIGH_PERCENT = 80,
    STRING_HEADER = 32, /* what Lua allocates around a string's bytes, at most */
};

static const uint64_t COARSE_TICK = NH_SECOND / 250; /* of the coarse clock */

static const char LIMIT[] = "notifyhub.limit"; /* metatable of limit errors */
static char TRACEBACK;                         /* registry key; its address matters */

static void on_count(lua_State *L, lua_Debug *debug);

nh_limiter *nh_limiter_of(lua_State *L) {
    void *limiter;
    lua_getallocf(L, &limiter);
    return limiter;
}

void nh_limiter_init(nh_limiter *limiter, const nh_limits *limits) {
    memset(limiter, 0, sizeof *limiter);
    limiter->limits = *limits;
}

void nh_limiter_term(nh_limiter *limiter) {
    nh_slab_term(&limiter->slab);
}

static bool is_hooked(lua_State *L) {
    return lua_gethook(L) == on_count;
}

static uint64_t coarse_now(void) {
    return nh_clock_read(CLOCK_MONOTONIC_COARSE);
}

/* ---------------------------------------------------------------- overruns */

const char *nh_limit_bytes(char text[32], size_t bytes) {
    if (bytes >= 1u << 20 && bytes % (1u << 20) == 0)
        snprintf(text, 32, "%zu MiB", bytes >> 20);
    else if (bytes >= 1u << 10 && bytes % (1u << 10) == 0)
        snprintf(text, 32, "%zu KiB", bytes >> 10);
    else
        snprintf(text, 32, "%zu bytes", bytes);
    return text;
}

/* The innermost line of Lua code that runs, as "file:line: ". Allocates nothing: it is called from
 * the allocator, too. */
static size_t write_place(lua_State *L, char *text, size_t room) {
    lua_Debug debug;
    for (int level = 0; lua_getstack(L, level, &debug); level++) {
        lua_getinfo(L, "Sl", &debug);
        if (debug.currentline > 0)
            return (size_t)snprintf(text, room, "%s:%d: ", debug.short_src, debug.currentline);
    }
    return 0;
}

static void overrun(nh_limiter *limiter, lua_State *L, nh_err kind, const char *format, ...) {
    va_list arguments;
    size_t length = write_place(L, limiter->message, sizeof limiter->message);
    va_start(arguments, format);
    vsnprintf(limiter->message + length, sizeof limiter->message - length, format, arguments);
    va_end(arguments);
    limiter->slice.overrun = kind;
}

static void overrun_time(nh_limiter *limiter, lua_State *L) {
    overrun(limiter, L, NH_E_SCRIPT_LIMIT,
            "the script ran longer than %g s without a pause (limits.%s)", limiter->limits.slice,
            limiter->loading ? "loading" : "slice");
}

static uint64_t first_part(const nh_limits *limits) {
    return (uint64_t)(limits->slice / 8 * (double)NH_SECOND);
}

/* Whether the thread has run for a whole slice; else the deadline is when it can have. */
static bool is_used_up(const nh_limits *limits, nh_slice *slice, uint64_t now) {
    uint64_t ran = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    uint64_t rest = (uint64_t)(limits->slice * (double)NH_SECOND) - first_part(limits);
    if (!slice->began)
        slice->began = ran;
    if (rest > 4 * COARSE_TICK) /* both looks come late by up to a tick */
        rest -= 2 * COARSE_TICK;
    uint64_t used = ran - slice->began;
    if (used >= rest)
        return true;
    slice->deadline = now + rest - used;
    return false;
}

/* Reads the clock and remembers an overrun of time, once. */
static bool is_overdue(nh_limiter *limiter, lua_State *L) {
    uint64_t now = coarse_now();
    limiter->work = 0;
    if (limiter->slice.overrun)
        return true;
    if (now < limiter->slice.deadline || !is_used_up(&limiter->limits, &limiter->slice, now))
        return false;
    overrun_time(limiter, L);
    return true;
}

/* The value is only a sign, and made without allocating: the guard has the words. */
static void raise_overrun(lua_State *L) {
    lua_pushlightuserdata(L, &TRACEBACK);
    lua_error(L);
}

static void on_count(lua_State *L, lua_Debug *debug) {
    nh_limiter *limiter = nh_limiter_of(L);
    if (!limiter->slice.guarded)
        return;
    if (!limiter->slice.overrun && !is_overdue(limiter, L)) {
        if (!lua_getstack(L, limiter->limits.depth, debug))
            return;
        overrun(limiter, L, NH_E_SCRIPT_LIMIT,
                "more than %d calls inside each other (limits.depth)", limiter->limits.depth);
    }
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    raise_overrun(L);
}

void nh_limiter_charge(lua_State *L, size_t units) {
    nh_limiter *limiter = nh_limiter_of(L);
    if (!limiter->slice.guarded)
        return;
    limiter->work += units;
    if (limiter->work >= WORK_MOST)
        is_overdue(limiter, L);
    if (limiter->slice.overrun)
        raise_overrun(L);
}

size_t nh_limiter_string_room(lua_State *L) {
    nh_limiter *limiter = nh_limiter_of(L);
    return limiter->slice.guarded ? limiter->limits.string_bytes : SIZE_MAX;
}

/* A table {code, message} that tostring turns into its message. */
static int limit_text(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushliteral(L, "message");
    lua_rawget(L, 1);
    return 1;
}

_Noreturn void nh_limit_error(lua_State *L, const char *format, ...) {
    va_list arguments;
    lua_createtable(L, 0, 2);
    lua_pushstring(L, nh_err_name(NH_E_SCRIPT_LIMIT));
    lua_setfield(L, -2, "code");
    luaL_where(L, 1);
    va_start(arguments, format);
    lua_pushvfstring(L, format, arguments);
    va_end(arguments);
    lua_concat(L, 2);
    lua_setfield(L, -2, "message");
    if (luaL_newmetatable(L, LIMIT)) {
        lua_pushcfunction(L, limit_text);
        lua_setfield(L, -2, "__tostring");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    lua_error(L);
    abort();
}

/* ------------------------------------------------------------------ memory */

/* Puts an overrun of memory into words; it becomes one when the request is refused again. */
static void describe_memory(nh_limiter *limiter, const char *format, size_t bytes) {
    char text[32];
    nh_err before = limiter->slice.overrun;
    if (before)
        return;
    overrun(limiter, limiter->slice.L, NH_E_SCRIPT_MEMORY, format, nh_limit_bytes(text, bytes));
    limiter->slice.overrun = before;
}

static void overrun_memory(nh_limiter *limiter) {
    if (!limiter->slice.overrun)
        limiter->slice.overrun = NH_E_SCRIPT_MEMORY;
}

/* Whether guarded code may have `more` bytes, of a string or of something else. */
static bool may_grow(nh_limiter *limiter, size_t more, bool string) {
    const nh_limits *limits = &limiter->limits;
    const nh_slice *slice = &limiter->slice;
    size_t held = limiter->held + more;
    size_t margin = limiter->tight ? 8 : 0; /* see above */
    size_t state = limits->state_memory - (margin ? limits->state_memory / margin : 0);
    size_t grown = limits->message_memory - (margin ? limits->message_memory / margin : 0);

    if (string && more > limits->string_bytes + STRING_HEADER) {
        describe_memory(limiter, "a string of more than %s (limits.string_bytes)",
                        limits->string_bytes);
        overrun_memory(limiter);
        return false;
    }
    if (held > slice->base + grown || held > state) {
        if (limiter->tight)
            overrun_memory(limiter);
        else if (held > state)
            describe_memory(limiter, "the scripts hold more than %s together (limits.state_memory)",
                            limits->state_memory);
        else
            describe_memory(limiter,
                            "the script took more than %s in one go (limits.message_memory)",
                            limits->message_memory);
        limiter->tight = true;
        return false;
    }
    limiter->tight = false;

    /* Large values take time to fill. The hook gets the chance to stop the script in good order; a
     * quarter of a slice later there is nothing more. */
    limiter->work += more;
    if (limiter->work < WORK_MOST || !is_overdue(limiter, slice->L))
        return true;
    lua_sethook(slice->L, on_count, LUA_MASKCOUNT, 1);
    return coarse_now() < slice->deadline + (uint64_t)(limits->slice / 4 * (double)NH_SECOND);
}

/* When ptr is NULL, osize is the type of what is made. */
void *nh_limiter_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
    nh_limiter *limiter = ud;
    size_t before = ptr ? osize : 0;
    if (nsize == 0) {
        nh_slab_realloc(&limiter->slab, ptr, before, 0);
        limiter->held -= before;
        return NULL;
    }
    if (nsize > before && limiter->slice.guarded &&
        !may_grow(limiter, nsize - before, !ptr && osize == LUA_TSTRING))
        return NULL;
    void *memory = nh_slab_realloc(&limiter->slab, ptr, before, nsize);
    if (memory)
        limiter->held += nsize - before;
    return memory;
}

bool nh_limiter_is_high(const nh_limiter *limiter) {
    return limiter->held / HIGH_PERCENT > limiter->limits.state_memory / 100;
}

/* A request that was refused and not repeated leaves no overrun behind but only `tight`: the
 * buffers of Lua's own libraries do that. */
static bool is_overrun(nh_limiter *limiter, int status) {
    if (limiter->tight && status != LUA_OK && status != LUA_YIELD)
        overrun_memory(limiter);
    return limiter->slice.overrun != NH_OK;
}

void nh_limiter_caught(lua_State *L) {
    if (is_overrun(nh_limiter_of(L), LUA_ERRRUN))
        raise_overrun(L);
}

/* ------------------------------------------------------------------ slices */

static void begin(nh_limiter *limiter, lua_State *L) {
    limiter->slice = (nh_slice){.L = L,
                                .deadline = coarse_now() + first_part(&limiter->limits),
                                .base = limiter->held,
                                .guarded = true};
    limiter->tight = false;
}

nh_slice nh_limiter_enter(nh_limiter *limiter, lua_State *co) {
    nh_slice outer = limiter->slice;
    bool guarded = is_hooked(co);
    if (outer.guarded || outer.lent) {
        limiter->slice.L = co;
        limiter->slice.guarded = guarded;
        limiter->slice.lent = true;
    } else if (guarded) {
        begin(limiter, co);
    } else {
        limiter->slice = (nh_slice){.L = co};
    }
    return outer;
}

void nh_limiter_leave(nh_limiter *limiter, const nh_slice *outer) {
    nh_slice inner = limiter->slice;
    limiter->slice = *outer;
    if (inner.lent) { /* it ran on the outer one's time */
        limiter->slice.deadline = inner.deadline;
        limiter->slice.began = inner.began;
    }
}

/* ------------------------------------------------------------------- guard */

/* The text of an error value [-0, +1]; may call a script's __tostring, in guarded code. */
static void push_text(lua_State *L, int index) {
    if (lua_type(L, index) == LUA_TTABLE) {
        lua_pushliteral(L, "message");
        lua_rawget(L, index);
        if (lua_type(L, -1) == LUA_TSTRING)
            return;
        lua_pop(L, 1);
    }
    if (lua_isstring(L, index) || luaL_getmetafield(L, index, "__tostring") != LUA_TNIL)
        luaL_tolstring(L, index, NULL);
    else
        lua_pushfstring(L, "the error is a %s value", luaL_typename(L, index));
}

static bool is_limit_error(lua_State *L, int index) {
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, LIMIT);
    bool is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}

/* Runs where the error was raised: turns the value into a limit error or a text. */
static int on_guard_error(lua_State *L) {
    nh_limiter *limiter = nh_limiter_of(L);
    if (limiter->slice.overrun || limiter->tight || is_limit_error(L, 1))
        return 1;
    push_text(L, 1);
    luaL_traceback(L, L, lua_tostring(L, -1), 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &TRACEBACK);
    return 1;
}

static int guard_failed(lua_State *L) {
    lua_insert(L, 1);
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    if (is_limit_error(L, 1)) {
        lua_getfield(L, 1, "message");
        lua_getfield(L, 1, "code");
        return 3;
    }
    if (lua_type(L, 1) == LUA_TSTRING)
        lua_pushvalue(L, 1);
    else /* the error of an error: no handler has seen it */
        lua_pushfstring(L, "the error is a %s value", luaL_typename(L, 1));
    lua_pushnil(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &TRACEBACK);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &TRACEBACK);
    return 4;
}

/* Stack: handler, true, results or error. `context` is whether the guard stands in another one. */
static int guard_end(lua_State *L, int status, lua_KContext context) {
    nh_limiter *limiter = nh_limiter_of(L);
    bool over = is_overrun(limiter, status);
    nh_err kind = limiter->slice.overrun;
    if (over && context)
        raise_overrun(L);
    if (!context) {
        lua_sethook(L, NULL, 0, 0);
        limiter->slice.guarded = false;
        limiter->slice.overrun = NH_OK;
        limiter->tight = false;
    }
    if (over) {
        lua_settop(L, 0);
        if (kind == NH_E_SCRIPT_MEMORY) /* what it held is garbage now */
            lua_gc(L, LUA_GCCOLLECT);
        lua_pushboolean(L, 0);
        lua_pushstring(L, limiter->message);
        lua_pushstring(L, nh_err_name(kind));
        return 3;
    }
    if (status != LUA_OK && status != LUA_YIELD)
        return guard_failed(L);
    return lua_gettop(L) - 1;
}

int nh_guard(lua_State *L) {
    nh_limiter *limiter = nh_limiter_of(L);
    bool nested = is_hooked(L);
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    lua_pushcfunction(L, on_guard_error);
    lua_insert(L, 1);
    if (!nested) {
        if (limiter->slice.lent) {
            limiter->slice.L = L;
            limiter->slice.guarded = true;
        } else {
            begin(limiter, L);
        }
        lua_sethook(L, on_count, LUA_MASKCOUNT, COUNT);
    }
    int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 1, nested, guard_end);
    return guard_end(L, status, nested);
}

/* ----------------------------------------------------------------- unguard */

static int unguard_end(lua_State *L, int status) {
    lua_sethook(L, on_count, LUA_MASKCOUNT, COUNT);
    if (status != LUA_OK && status != LUA_YIELD)
        return lua_error(L);
    return lua_gettop(L);
}

/* After a yield: the slice is one that nh_limiter_enter began. */
static int unguard_resumed(lua_State *L, int status, lua_KContext context) {
    nh_limiter *limiter = nh_limiter_of(L);
    (void)context;
    if (limiter->slice.lent)
        limiter->slice.guarded = true;
    else
        begin(limiter, L);
    return unguard_end(L, status);
}

static int call_end(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    return lua_gettop(L);
}

int nh_unguard(lua_State *L) {
    nh_limiter *limiter = nh_limiter_of(L);
    luaL_checkany(L, 1);
    if (!is_hooked(L)) {
        lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, call_end);
        return lua_gettop(L);
    }
    nh_slice outer = limiter->slice;
    limiter->slice.guarded = false;
    limiter->slice.lent = true;
    lua_sethook(L, NULL, 0, 0);
    int status = lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, unguard_resumed);
    limiter->slice = outer;
    return unguard_end(L, status);
}

/* ----------------------------------------------------------- pcall, xpcall */

/* Stack: `context` values, true, results; or … error. */
static int catch_end(lua_State *L, int status, lua_KContext context) {
    if (is_overrun(nh_limiter_of(L), status))
        raise_overrun(L);
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - (int)context;
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

int nh_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, catch_end);
    return catch_end(L, status, 0);
}

/* Called in the hook, with hooks off, when that is what raised: a script's handler must not run
 * then. */
static int on_xpcall_error(lua_State *L) {
    nh_limiter *limiter = nh_limiter_of(L);
    if (limiter->slice.overrun || limiter->tight)
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

int nh_xpcall(lua_State *L) {
    int arguments = lua_gettop(L) - 2;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, on_xpcall_error, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* f, handler, true, f, … */
    int status = lua_pcallk(L, arguments, LUA_MULTRET, 2, 2, catch_end);
    return catch_end(L, status, 2);
}
