/* document.h — Lua values to documents and back. */
#ifndef NHL_DOCUMENT_H
#define NHL_DOCUMENT_H

#include "bindings/lua/compat.h"
#include "bindings/lua/texts.h"
#include "runtime/notifyhub.h"

#define NHL_ARRAY  "notifyhub.array"  /* metatable of a table that is a list even when empty */
#define NHL_SECRET "notifyhub.secret" /* metatable of a userdata that holds a secret string */

/* Makes the metatables. [-0, +0] */
void nhl_document_setup(lua_State *L);

/* notifyhub.array and notifyhub.secret, as lua_CFunctions. */
int nhl_array(lua_State *L);
int nhl_secret(lua_State *L);

/* The value at the absolute `index` as a document, owned by the caller. `name` opens the path that
 * an error tells. The writer is emptied first, so one that an error left half full is welcome.
 * Errors: NH_E_INVALID with the path, NH_E_TOO_LARGE, NH_E_INTERNAL. [-0, +0] */
nh_doc *nhl_document_read(lua_State *L, int index, const char *name, nh_writer *writer,
                          nh_error *error);

/* Writes it, and does not finish it. `position` counts from 1 in a list that is called `name`; 0:
 * the value has that name itself. [-0, +0] */
bool nhl_document_write(lua_State *L, int index, const char *name, size_t position,
                        nh_writer *writer, nh_error *error);

/* What pushes documents. Opening one pushes a table that it needs, for as long as it is used, at
 * `index`. [-0, +1] */
typedef struct nhl_pusher {
    lua_State *L;
    nhl_texts *texts;
    int index;
} nhl_pusher;
nhl_pusher nhl_pusher_open(lua_State *L);
/* Pushes what is read as a Lua value; its owner must outlive the call even when Lua raises.
 * [-0, +1] */
void nhl_pusher_push(const nhl_pusher *to, nh_reader from);

/* Pushes an empty slot for a document that the caller then puts into it: first the slot, so that
 * no document is lost when Lua has no memory for it. [-0, +1] */
nh_doc **nhl_document_slot(lua_State *L);
/* Replaces the slot on top by its document's root as a Lua value (nil for an empty slot) and drops
 * the document. [-1, +1] */
void nhl_document_push(lua_State *L);

#endif
