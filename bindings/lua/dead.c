/* dead.c — a hub's dead letters: what the core answers, as tables. Each call waits for the
 * journal's thread, some milliseconds. */
#include "bindings/lua/document.h"
#include "bindings/lua/object.h"

/* native.dead_letters(hub, after, limit) → a list of letters; or nil, message, code. */
static int dead_letters(lua_State *L) {
    nh_error error;
    nhl_hub *self = nhl_check_hub(L, 1);
    uint64_t after = (uint64_t)lua_tonumber(L, 2);
    size_t limit = (size_t)lua_tonumber(L, 3);
    nh_doc **letters = nhl_document_slot(L);
    *letters = nh_hub_dead_letters(self->hub, after, limit, &error);
    if (!*letters)
        return nhl_push_error(L, &error);
    nhl_document_push(L);
    return 1;
}

/* native.dead_letter(hub, number) → a letter with its message; or nil, message, code. */
static int dead_letter(lua_State *L) {
    nh_error error;
    nhl_hub *self = nhl_check_hub(L, 1);
    nh_doc **letter = nhl_document_slot(L);
    *letter = nh_hub_dead_letter(self->hub, (uint64_t)lua_tonumber(L, 2), &error);
    if (!*letter)
        return nhl_push_error(L, &error);
    nhl_document_push(L);
    return 1;
}

typedef nh_err (*change_fn)(nh_hub *hub, uint64_t number, uint64_t *count, nh_error *error);

/* change(hub, number) → how many; or nil, message, code. Number 0: all. */
static int change(lua_State *L, change_fn fn) {
    nh_error error;
    uint64_t count = 0;
    nhl_hub *self = nhl_check_hub(L, 1);
    if (fn(self->hub, (uint64_t)lua_tonumber(L, 2), &count, &error) != NH_OK)
        return nhl_push_error(L, &error);
    nhl_push_integer(L, (int64_t)count);
    return 1;
}

static int retry_dead(lua_State *L) {
    return change(L, nh_hub_retry_dead);
}

static int discard_dead(lua_State *L) {
    return change(L, nh_hub_discard_dead);
}

void nhl_dead_setup(lua_State *L) {
    static const luaL_Reg natives[] = {{"dead_letters", dead_letters},
                                       {"dead_letter", dead_letter},
                                       {"retry_dead", retry_dead},
                                       {"discard_dead", discard_dead},
                                       {NULL, NULL}};
    nhl_set_functions(L, natives);
}
