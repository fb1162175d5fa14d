/* api_markdown.c — the module `markdown`: CommonMark to HTML by md4c. Raw HTML inside of markdown
 * is shown as text, since what a message holds may come from anybody. */
#include <lauxlib.h>
#include <md4c-html.h>

#include "runtime/script/vm.h"

static void append(const MD_CHAR *text, MD_SIZE length, void *buffer) {
    luaL_addlstring(buffer, text, length);
}

static int to_html(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length < (1u << 30), 1, "too long");
    luaL_Buffer html;
    luaL_buffinit(L, &html);
    if (md_html(text, (MD_SIZE)length, append, &html, MD_FLAG_NOHTML, 0) != 0)
        return luaL_error(L, "markdown: out of memory");
    luaL_pushresult(&html);
    return 1;
}

int nh_open_markdown(lua_State *L) {
    static const luaL_Reg functions[] = {{"to_html", to_html}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
