/* hub.c — the hub as a userdata: opening, sending, its inbox, closing.
 *
 * Everything here runs in the thread that runs the Lua state, and never keeps that state's address:
 * callbacks are Lua's affair (events.lua) and run with whatever calls poll, wait or run. A userdata
 * is made before the core's object that it is to hold, so that an error from Lua leaks nothing; no
 * Lua call is made while something of the core's is held in a C variable alone.
 */
#include "bindings/lua/document.h"
#include "bindings/lua/object.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* How long a hub that is collected, or closed without a limit, lets its messages end. */
#define CLOSE_SECONDS 10.0

/* The tag of events that are told to nobody. */
#define NOBODY (UINT64_C(1) << 50)

/* What a small message costs in the core, about, and how many are told to the collector together.
 */
enum { MESSAGE_BYTES = 768, TOLD_AT_ONCE = 64 };

static nhl_hub *test_hub(lua_State *L, int index) {
    return nhl_test_userdata(L, index, NHL_HUB);
}

nhl_hub *nhl_check_hub(lua_State *L, int index) {
    nhl_hub *self = luaL_checkudata(L, index, NHL_HUB);
    if (!self->hub)
        luaL_error(L, "this hub has been collected");
    return self;
}

int nhl_push_error(lua_State *L, const nh_error *error) {
    lua_pushnil(L);
    lua_pushstring(L, error->message);
    lua_pushstring(L, nh_err_name(error->code));
    return 3;
}

static int out_of_memory(lua_State *L) {
    return luaL_error(L, "not enough memory");
}

/* ---------------------------------------------------------------- opening */

/* native.open(state, config): config is a table or a path. Returns a hub, or nil, message, code. */
static int hub_open(lua_State *L) {
    nh_error error;
    luaL_checktype(L, 1, LUA_TTABLE);
    nhl_hub *self = nhl_new_userdata(L, sizeof *self);
    int place = lua_gettop(L);
    memset(self, 0, sizeof *self);
    luaL_getmetatable(L, NHL_HUB);
    lua_setmetatable(L, place);
    lua_pushvalue(L, 1);
    nhl_set_owner(L, place);

    self->writer = nh_writer_create();
    self->inbox = nh_inbox_create();
    if (!self->writer || !self->inbox)
        return out_of_memory(L);
    nh_doc **config = nhl_document_slot(L);
    if (lua_type(L, 2) == LUA_TSTRING)
        *config = nh_config_load(lua_tostring(L, 2), &error);
    else
        *config = nhl_document_read(L, 2, "config", self->writer, &error);
    if (!*config) {
        if (error.code == NH_E_INVALID)
            error.code = NH_E_CONFIG;
        return nhl_push_error(L, &error);
    }
    self->hub = nh_hub_open(*config, &error);
    nh_doc_unref(*config);
    *config = NULL;
    if (!self->hub)
        return nhl_push_error(L, &error);
    lua_pushvalue(L, place);
    return 1;
}

/* ---------------------------------------------------------------- sending */

/* To Lua a handle is some bytes; in the core it keeps a message and a receipt. The collector is
 * told now and then, or handles that nobody holds would pile up. */
static void note_messages(lua_State *L, nhl_hub *self, size_t count) {
    self->unseen += count;
    if (self->unseen < TOLD_AT_ONCE)
        return;
    int kilobytes = (int)(self->unseen * MESSAGE_BYTES / 1024);
    self->unseen = 0;
    nhl_collect_for(L, kilobytes);
}

/* How to accept: a number of seconds to wait for room, whether later. */
static nh_send_options send_options(lua_State *L, int index) {
    return (nh_send_options){.wait = lua_tonumber(L, index),
                             .later = lua_toboolean(L, index + 1) != 0};
}

/* Accepts the message at 2; its handle is a userdata on top, empty when it was refused. [-0, +1] */
static nhl_handle *accept_message(lua_State *L, nhl_hub *self, const nh_send_options *options,
                                  nh_error *error) {
    nhl_handle *made = nhl_handle_new(L, 1);
    if (nhl_document_write(L, 2, "message", 0, self->writer, error))
        made->handle = nh_hub_send_written(self->hub, self->writer, options, error);
    return made;
}

/* native.send(hub, message, wait, later) → a handle, or nil, message, code; a handle, message, code
 * for a duplicate. */
static int hub_send(lua_State *L) {
    nh_error error;
    nhl_hub *self = nhl_check_hub(L, 1);
    bool duplicate = false;
    nh_send_options options = send_options(L, 3);
    options.duplicate = &duplicate;
    lua_settop(L, 2);
    note_messages(L, self, 1);
    nhl_handle *made = accept_message(L, self, &options, &error);
    if (!made->handle)
        return nhl_push_error(L, &error);
    if (!duplicate)
        return 1;
    lua_pushstring(L, nh_err_text(NH_E_DUPLICATE));
    lua_pushstring(L, nh_err_name(NH_E_DUPLICATE));
    return 3;
}

/* Watches a message and waits for it, at most `seconds`; more than 0 only in a state in which
 * nobody else is to be told of anything: then other events are of those who went. False when out of
 * memory. */
static bool wait_alone(nhl_hub *self, nh_handle *handle, double seconds) {
    nh_event event;
    if (nh_handle_state(handle) == NH_SETTLED)
        return true;
    if (nh_inbox_watch_handle_for(self->inbox, handle, NOBODY, 0) != NH_OK)
        return false;
    while (seconds > 0 && nh_handle_state(handle) != NH_SETTLED &&
           nh_inbox_next(self->inbox, seconds, &event) == NH_OK)
        ;
    return true;
}

/* native.wait_alone(hub, handle, seconds): as above. Its end is told to nobody. */
static int hub_wait_alone(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    return wait_alone(self, nhl_check_handle(L, 2), lua_tonumber(L, 3)) ? 0 : out_of_memory(L);
}

/* native.send_alone(hub, message, seconds) → the receipt; nil, handle when it has not settled then;
 * nil, nil, message, code when it was refused. Most programs that send one by one send and wait, so
 * this is one call, and what the core keeps of the message goes with it. */
static int hub_send_alone(lua_State *L) {
    nh_error error;
    nh_reader receipt;
    nhl_hub *self = nhl_check_hub(L, 1);
    double seconds = lua_tonumber(L, 3);
    lua_settop(L, 2);
    lua_pushnil(L);
    nhl_handle *made = accept_message(L, self, NULL, &error);
    if (!made->handle) {
        lua_pop(L, 1);
        return 1 + nhl_push_error(L, &error);
    }
    if (seconds > 0 && !wait_alone(self, made->handle, seconds))
        return out_of_memory(L);
    if (!nh_handle_read(made->handle, &receipt)) {
        note_messages(L, self, 1);
        return 2;
    }
    nhl_pusher to = nhl_pusher_open(L);
    nhl_pusher_push(&to, receipt);
    nh_handle_unref(made->handle);
    made->handle = NULL;
    return 1;
}

/* A batch while it is being made. */
#define DRAFT "notifyhub.draft"

static int draft_gc(lua_State *L) {
    nh_draft **draft = lua_touserdata(L, 1);
    nh_draft_destroy(*draft);
    *draft = NULL;
    return 0;
}

static bool fill_draft(lua_State *L, nhl_hub *self, nh_draft *draft, size_t count,
                       nh_error *error) {
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, 2, (int)i);
        if (!nhl_document_write(L, lua_gettop(L), "messages", i, self->writer, error) ||
            nh_draft_add_written(draft, self->writer, error) != NH_OK)
            return false;
        lua_pop(L, 1);
    }
    return true;
}

/* native.send_batch(hub, messages) → a batch, or nil, message, code. */
static int hub_send_batch(lua_State *L) {
    nh_error error;
    nhl_hub *self = nhl_check_hub(L, 1);
    size_t count = nhl_raw_length(L, 2);
    if (count > NH_BATCH_MAX) {
        error.code = NH_E_TOO_LARGE;
        snprintf(error.message, sizeof error.message, "messages: %zu are more than %d", count,
                 NH_BATCH_MAX);
        return nhl_push_error(L, &error);
    }
    nh_send_options options = send_options(L, 3);
    lua_settop(L, 2);
    note_messages(L, self, count);
    nhl_batch *made = nhl_batch_new(L, 1);
    nh_draft **draft = nhl_new_userdata(L, sizeof *draft);
    *draft = NULL;
    luaL_getmetatable(L, DRAFT);
    lua_setmetatable(L, -2);

    *draft = nh_hub_draft(self->hub, count, &error);
    if (!*draft || !fill_draft(L, self, *draft, count, &error))
        return nhl_push_error(L, &error);
    made->batch = nh_draft_send_with(*draft, &options, &error);
    *draft = NULL;
    if (!made->batch)
        return nhl_push_error(L, &error);
    lua_pop(L, 1);
    return 1;
}

/* ------------------------------------------------------------------ inbox */

/* native.watch(hub, subject, tag, progress): what happens to a handle or batch comes to the hub's
 * inbox; its progress only when asked for. */
static int hub_watch(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    uint64_t tag = (uint64_t)lua_tonumber(L, 3);
    unsigned kinds = NH_EVENT_RETRY | (lua_toboolean(L, 4) ? NH_EVENT_PROGRESS : 0u);
    nh_err failed = nhl_test_userdata(L, 2, NHL_HANDLE)
                        ? nh_inbox_watch_handle_for(self->inbox, nhl_check_handle(L, 2), tag, kinds)
                        : nh_inbox_watch_batch_for(self->inbox, nhl_check_batch(L, 2), tag, kinds);
    return failed ? out_of_memory(L) : 0;
}

/* native.watch_accepted(hub, handle, tag): that it is accepted comes to the hub's inbox. */
static int hub_watch_accepted(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    uint64_t tag = (uint64_t)lua_tonumber(L, 3);
    nh_err failed = nh_inbox_watch_accepted(self->inbox, nhl_check_handle(L, 2), tag);
    return failed ? out_of_memory(L) : 0;
}

/* native.watch_news(hub, tag): the hub's own news come to its inbox. */
static int hub_watch_news(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    nh_err failed = nh_inbox_watch_hub(self->inbox, self->hub, (uint64_t)lua_tonumber(L, 2));
    return failed == NH_E_INTERNAL ? out_of_memory(L) : 0;
}

/* native.news(hub) → the next item as a table; nil when there is none. */
static int hub_news(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    nh_doc **item = nhl_document_slot(L);
    *item = nh_hub_news(self->hub, &self->news);
    if (!*item)
        return 0;
    nhl_document_push(L);
    return 1;
}

/* native.next_event(hub, seconds) → tag, progress, retry, complete, news; nothing when none came.
 */
static int hub_next_event(lua_State *L) {
    nh_event event;
    nhl_hub *self = nhl_check_hub(L, 1);
    if (nh_inbox_next(self->inbox, lua_tonumber(L, 2), &event) != NH_OK)
        return 0;
    lua_pushnumber(L, (lua_Number)event.tag);
    lua_pushboolean(L, event.kinds & NH_EVENT_PROGRESS);
    lua_pushboolean(L, event.kinds & NH_EVENT_RETRY);
    lua_pushboolean(L, event.kinds & NH_EVENT_COMPLETE);
    lua_pushboolean(L, event.kinds & NH_EVENT_NEWS);
    return 5;
}

/* ---------------------------------------------------------------- methods */

static int hub_fd(lua_State *L) {
    nh_error error = {.code = NH_E_INTERNAL, .message = "no descriptor is left"};
    int fd = nh_inbox_fd(nhl_check_hub(L, 1)->inbox);
    if (fd < 0)
        return nhl_push_error(L, &error);
    lua_pushinteger(L, fd);
    return 1;
}

static int hub_stats(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    nh_doc **stats = nhl_document_slot(L);
    *stats = nh_hub_stats(self->hub);
    if (!*stats)
        return out_of_memory(L);
    nhl_document_push(L);
    return 1;
}

/* native.health(hub) → what the platforms and targets say. */
static int hub_health(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    nh_doc **health = nhl_document_slot(L);
    *health = nh_hub_health(self->hub);
    if (!*health)
        return out_of_memory(L);
    nhl_document_push(L);
    return 1;
}

static int text_gc(lua_State *L) {
    nh_free(*(char **)lua_touserdata(L, 1));
    return 0;
}

/* metrics(hub) → text. What C allocated is held by a userdata while Lua may raise. */
static int hub_metrics(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    size_t length;
    char **text = lua_newuserdata(L, sizeof *text);
    *text = NULL;
    if (luaL_newmetatable(L, NHL_HUB ".text")) {
        lua_pushcfunction(L, text_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    *text = nh_hub_metrics(self->hub, &length);
    if (!*text)
        return out_of_memory(L);
    lua_pushlstring(L, *text, length);
    return 1;
}

/* reload(hub) → true; or nil, message, code */
static int hub_reload(lua_State *L) {
    nh_error error;
    nhl_hub *self = nhl_check_hub(L, 1);
    if (nh_hub_reload(self->hub, &error) != NH_OK)
        return nhl_push_error(L, &error);
    lua_pushboolean(L, true);
    return 1;
}

static int hub_platforms(lua_State *L) {
    nh_error error;
    nhl_hub *self = nhl_check_hub(L, 1);
    nh_doc **platforms = nhl_document_slot(L);
    *platforms = nh_hub_platforms(self->hub, &error);
    if (!*platforms)
        return nhl_push_error(L, &error);
    nhl_document_push(L);
    return 1;
}

/* native.close(hub, seconds) → how many messages were settled with `closed`. */
static int hub_close(lua_State *L) {
    nhl_hub *self = nhl_check_hub(L, 1);
    nhl_push_integer(L, (int64_t)nh_hub_close(self->hub, luaL_optnumber(L, 2, CLOSE_SECONDS)));
    return 1;
}

/* native.hub_state(value) → the state of a hub, nil for anything else. */
static int hub_state(lua_State *L) {
    if (!test_hub(L, 1))
        return 0;
    nhl_push_owner(L, 1);
    return 1;
}

static int hub_tostring(lua_State *L) {
    lua_pushfstring(L, NHL_HUB ": %p", luaL_checkudata(L, 1, NHL_HUB));
    return 1;
}

/* Closes as close() does, but runs no callback: the state may be half-way gone. The workers are
 * joined here, before lua_close can unload this module. */
static int hub_gc(lua_State *L) {
    nhl_hub *self = luaL_checkudata(L, 1, NHL_HUB);
    nhl_hub held = *self;
    memset(self, 0, sizeof *self);
    if (held.hub)
        nh_hub_close(held.hub, CLOSE_SECONDS);
    nh_hub_unref(held.hub);
    nh_inbox_unref(held.inbox);
    nh_writer_destroy(held.writer);
    return 0;
}

/* native.now() → seconds of a clock that only goes on. */
static int monotonic(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

void nhl_hub_setup(lua_State *L) {
    static const luaL_Reg metamethods[] = {
        {"__gc", hub_gc}, {"__tostring", hub_tostring}, {NULL, NULL}};
    static const luaL_Reg direct[] = {
        {"fd", hub_fd},           {"stats", hub_stats},         {"reload", hub_reload},
        {"metrics", hub_metrics}, {"platforms", hub_platforms}, {NULL, NULL}};
    static const luaL_Reg natives[] = {{"open", hub_open},
                                       {"send", hub_send},
                                       {"send_alone", hub_send_alone},
                                       {"wait_alone", hub_wait_alone},
                                       {"health", hub_health},
                                       {"send_batch", hub_send_batch},
                                       {"watch", hub_watch},
                                       {"next_event", hub_next_event},
                                       {"close", hub_close},
                                       {"hub_state", hub_state},
                                       {"now", monotonic},
                                       {"news", hub_news},
                                       {"watch_news", hub_watch_news},
                                       {"watch_accepted", hub_watch_accepted},
                                       {NULL, NULL}};
    static const nhl_type type = {NHL_HUB, "hub_methods", metamethods, direct, natives, NULL};
    nhl_type_setup(L, &type);
    luaL_newmetatable(L, DRAFT);
    lua_pushcfunction(L, draft_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
