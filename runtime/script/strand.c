/* strand.c — makes the coroutines of a message, finds them and ends them.
 *
 * Every strand is anchored in the registry and let go exactly once. The one that runs is found from
 * its lua_State (extra space); a coroutine that a script made itself has none and may not wait.
 * Owned by the worker's thread; inside of a protected call wherever something may raise.
 */
#include "runtime/script/strand.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "runtime/script/value.h"

nh_strand *nh_strand_running(lua_State *L) {
    nh_limiter_charge(L, 0); /* a script whose time is over waits for nothing any more */
    nh_strand *s = *(nh_strand **)lua_getextraspace(L);
    if (!s)
        luaL_error(
            L, "this can only wait in the coroutine of a message, not in one of the script's own");
    return s;
}

nh_strand *nh_strand_make(nh_script *owner, lua_State *L, nh_strand *parent, int place) {
    lua_State *co = lua_newthread(L);
    lua_sethook(co, NULL, 0, 0); /* it has its maker's; a guard brings its own */
    lua_insert(L, -2);
    lua_xmove(L, co, 1);
    int anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    nh_strand *s = calloc(1, sizeof *s);
    if (!s) {
        luaL_unref(L, LUA_REGISTRYINDEX, anchor);
        nh_raise(L, "out of memory");
    }
    s->op.task = owner->task;
    s->owner = owner;
    s->co = co;
    s->anchor = anchor;
    s->parent = parent;
    s->place = place;
    s->results = LUA_NOREF;
    s->next = &owner->strands;
    s->prev = owner->strands.prev;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a freed strand is out of the ring */
    s->prev->next = s->next->prev = s;
    owner->count++;
    *(nh_strand **)lua_getextraspace(co) = s;
    return s;
}

void nh_strand_free(nh_strand *s) {
    lua_State *L = s->owner->vm->L;
    s->prev->next = s->next;
    s->next->prev = s->prev;
    s->owner->count--;
    *(nh_strand **)lua_getextraspace(s->co) = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, s->results);
    luaL_unref(L, LUA_REGISTRYINDEX, s->anchor);
    free(s);
}

void nh_strands_stop(nh_script *owner) {
    /* NOLINTBEGIN(clang-analyzer-unix.Malloc): a freed strand is out of the ring */
    while (owner->strands.next != &owner->strands) {
        nh_strand *s = owner->strands.prev; /* children before parents */
        owner->vm->setup.host->op_cancel(&s->op);
        lua_resetthread(s->co);
        nh_strand_free(s);
    }
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    owner->strands.next = owner->strands.prev = &owner->strands; /* for readers that prove things */
}
