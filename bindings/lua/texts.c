/* texts.c — a small table of strings by their bytes, with two places for each.
 *
 * A receipt is a dozen keys and half as many words that were in the one before it. To have Lua look
 * for each in its own table costs most of what the receipt costs; here it is a hash of a few
 * instructions and one access to a Lua list, which also keeps the strings alive. Their bytes stay
 * where they are as long as they live, so those are compared. What comes once (ids) would
 * drive out what comes again, so only that is kept which came lately, too. What somebody chooses on
 * purpose to meet in one place costs what it did without all this.
 */
#include "bindings/lua/texts.h"

#include <string.h>

enum { PLACES = 128, LONGEST = 64 };

typedef struct kept {
    const char *text; /* the Lua string's own; NULL: none */
    uint32_t length;
    uint32_t once; /* a hash of what came lately and was not kept */
} kept;

struct nhl_texts {
    unsigned turn; /* which of two goes when both places are taken */
    kept at[PLACES];
};

static const char key; /* its address, in the registry */

static uint64_t eight(const char *text) {
    uint64_t word;
    memcpy(&word, text, sizeof word);
    return word;
}

static uint64_t four(const char *text) {
    uint32_t word;
    memcpy(&word, text, sizeof word);
    return word;
}

/* Of its beginning, middle and end, which is all of a short one. */
static uint64_t hash_of(const char *text, size_t length) {
    uint64_t hash = length;
    if (length >= 8) {
        hash += eight(text) * UINT64_C(0x9E3779B97F4A7C15) + eight(text + length / 2 - 4);
        hash = hash * UINT64_C(0x9E3779B97F4A7C15) + eight(text + length - 8);
    } else if (length >= 4) {
        hash += four(text) << 32 | four(text + length - 4);
    } else if (length > 0) {
        hash += (uint64_t)(unsigned char)text[0] << 8 |
                (uint64_t)(unsigned char)text[length / 2] << 16 |
                (uint64_t)(unsigned char)text[length - 1] << 24;
    }
    hash *= UINT64_C(0xFF51AFD7ED558CCD);
    return hash ^ hash >> 32;
}

/* [-0, +1] or nothing, when it is not there */
static bool push_kept(lua_State *L, const nhl_texts *texts, int index, size_t place,
                      const char *text, size_t length) {
    const kept *k = &texts->at[place];
    if (k->length != length || !k->text || memcmp(k->text, text, length) != 0)
        return false;
    lua_rawgeti(L, index, (int)place + 1);
    return true;
}

/* The string on top. */
static void keep(lua_State *L, nhl_texts *texts, int index, size_t place, size_t length) {
    kept *k = &texts->at[place];
    lua_pushvalue(L, -1);
    lua_rawseti(L, index, (int)place + 1); /* in place, so nothing can fail here */
    k->text = lua_tolstring(L, -1, NULL);
    k->length = (uint32_t)length;
}

void nhl_texts_push(lua_State *L, nhl_texts *texts, int index, const char *text, size_t length) {
    if (length > LONGEST) {
        lua_pushlstring(L, text, length);
        return;
    }
    uint64_t hash = hash_of(text, length);
    size_t place = hash % PLACES, other = place ^ 1;
    if (push_kept(L, texts, index, place, text, length) ||
        push_kept(L, texts, index, other, text, length))
        return;
    lua_pushlstring(L, text, length);
    uint32_t once = (uint32_t)(hash >> 16);
    if (texts->at[place].once == once || texts->at[other].once == once)
        keep(L, texts, index, texts->at[place].text && texts->turn++ % 2 ? other : place, length);
    texts->at[other].once = texts->at[place].once;
    texts->at[place].once = once;
}

nhl_texts *nhl_texts_open(lua_State *L) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)&key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    nhl_texts *texts = lua_touserdata(L, -1);
    nhl_push_owner(L, -1);
    lua_remove(L, -2);
    return texts;
}

void nhl_texts_setup(lua_State *L) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)&key);
    memset(nhl_new_userdata(L, sizeof(nhl_texts)), 0, sizeof(nhl_texts));
    lua_createtable(L, PLACES, 0);
    nhl_set_owner(L, lua_gettop(L) - 1);
    lua_rawset(L, LUA_REGISTRYINDEX);
}
