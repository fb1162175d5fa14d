/* api_markdown.c — the module `markdown`: CommonMark to HTML by md4c. Raw HTML inside of markdown
 * is shown as text, since what a message holds may come from anybody. */
#include <lauxlib.h>
#include <md4c-html.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/script/vm.h"

enum { KEPT_MOST = 1 << 20 }; /* bytes of the vm's buffer, from one text to the next */

/* What md4c makes. It has memory of its own, so nothing may raise before it returns. */
typedef struct html {
    nh_text *out; /* the vm's: stays when something raises afterwards */
    bool failed;
} html;

static void append(const MD_CHAR *text, MD_SIZE length, void *user) {
    html *to = user;
    nh_text *out = to->out;
    if (out->length + length > out->room) {
        size_t room = 2 * (out->length + length) + 256;
        char *bytes = realloc(out->bytes, room);
        to->failed = to->failed || !bytes;
        if (!bytes)
            return;
        out->bytes = bytes;
        out->room = room;
    }
    memcpy(out->bytes + out->length, text, length);
    out->length += length;
}

static int to_html(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length < (1u << 30), 1, "too long");
    html to = {.out = &nh_vm_of(L)->text};
    to.out->length = 0;
    if (md_html(text, (MD_SIZE)length, append, &to, MD_FLAG_NOHTML, 0) != 0 || to.failed)
        return luaL_error(L, "markdown: out of memory");
    lua_pushlstring(L, to.out->length ? to.out->bytes : "", to.out->length);
    if (to.out->room > KEPT_MOST) {
        free(to.out->bytes);
        *to.out = (nh_text){0};
    }
    return 1;
}

int nh_open_markdown(lua_State *L) {
    static const luaL_Reg functions[] = {{"to_html", to_html}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
