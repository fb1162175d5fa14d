/* texts.h — strings that come again, kept so that Lua need not make them anew. */
#ifndef NHL_TEXTS_H
#define NHL_TEXTS_H

#include "bindings/lua/compat.h"

typedef struct nhl_texts nhl_texts;

/* Makes those of a state. [-0, +0] */
void nhl_texts_setup(lua_State *L);

/* Pushes the table that has the strings; what it returns is good as long as the state is.
 * [-0, +1] */
nhl_texts *nhl_texts_open(lua_State *L);
/* lua_pushlstring; `index` is the absolute one of that table. [-0, +1] */
void nhl_texts_push(lua_State *L, nhl_texts *texts, int index, const char *text, size_t length);

#endif
