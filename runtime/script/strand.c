/* strand.c — makes the coroutines of a message, finds them and ends them.
 *
 * Every strand is anchored in the registry and let go exactly once. The one that runs is found from
 * its lua_State (extra space); a coroutine that a script made itself has none and may not wait. A
 * job has no coroutine: its steps run in the state itself, where vm->job tells whose they are.
 *
 * The coroutine of a strand that has come to a good end is kept for the next one: callbacks, which
 * seldom wait, follow each other in it. Nothing can still be under way for it, and the strand is
 * another.
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

nh_strand *nh_strand_current(lua_State *L) {
    nh_vm *vm = nh_vm_of(L);
    return L == vm->L && vm->job ? vm->job : nh_strand_running(L);
}

/* A strand with this anchor, which it takes. */
static nh_strand *make(nh_script *owner, lua_State *L, int anchor) {
    nh_strand *s = calloc(1, sizeof *s);
    if (!s) {
        luaL_unref(L, LUA_REGISTRYINDEX, anchor);
        nh_raise(L, "out of memory");
    }
    s->op.task = owner->task;
    s->owner = owner;
    s->anchor = anchor;
    s->results = LUA_NOREF;
    s->next = &owner->strands;
    s->prev = owner->strands.prev;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a freed strand is out of the ring */
    s->prev->next = s->next->prev = s;
    owner->count++;
    return s;
}

nh_strand *nh_strand_make_job(nh_script *owner, lua_State *L) {
    return make(owner, L, luaL_ref(L, LUA_REGISTRYINDEX));
}

/* A coroutine and its anchor: the spare one, or a new one. */
static lua_State *take_coroutine(nh_vm *vm, lua_State *L, int *anchor) {
    lua_State *co;
    if (vm->spare == LUA_NOREF) {
        co = lua_newthread(L);
        lua_sethook(co, NULL, 0, 0); /* it has its maker's; a guard brings its own */
        *anchor = luaL_ref(L, LUA_REGISTRYINDEX);
        return co;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->spare);
    co = lua_tothread(L, -1);
    lua_pop(L, 1);
    *anchor = vm->spare;
    vm->spare = LUA_NOREF;
    return co;
}

nh_strand *nh_strand_make(nh_script *owner, lua_State *L, nh_strand *parent, int place) {
    int anchor;
    lua_State *co = take_coroutine(owner->vm, L, &anchor);
    lua_xmove(L, co, 1);
    nh_strand *s = make(owner, L, anchor);
    s->co = co;
    s->parent = parent;
    s->place = place;
    *(nh_strand **)lua_getextraspace(co) = s;
    return s;
}

void nh_strand_free(nh_strand *s) {
    nh_vm *vm = s->owner->vm;
    lua_State *L = vm->L;
    s->prev->next = s->next;
    s->next->prev = s->prev;
    s->owner->count--;
    if (s->co && s->ended && vm->spare == LUA_NOREF) {
        lua_settop(s->co, 0);
        *(void **)lua_getextraspace(s->co) = vm; /* still the runtime's own, see check_own */
        vm->spare = s->anchor;
    } else {
        if (s->co)
            *(void **)lua_getextraspace(s->co) = NULL;
        luaL_unref(L, LUA_REGISTRYINDEX, s->anchor);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, s->results);
    free(s);
}

void nh_strands_stop(nh_script *owner) {
    /* NOLINTBEGIN(clang-analyzer-unix.Malloc): a freed strand is out of the ring */
    while (owner->strands.next != &owner->strands) {
        nh_strand *s = owner->strands.prev; /* children before parents */
        owner->vm->setup.host->op_cancel(&s->op);
        if (s->co)
            lua_resetthread(s->co);
        nh_strand_free(s);
    }
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    owner->strands.next = owner->strands.prev = &owner->strands; /* for readers that prove things */
}
