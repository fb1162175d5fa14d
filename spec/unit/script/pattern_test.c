/* pattern_test.c — the bounded string functions are Lua's: the same results, the same errors; but
 * they come to an end. With the argument `bench` it compares their speed. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "runtime/script/bounded.h"
#include "runtime/script/limit.h"
#include "spec/unit/check.h"

static nh_limiter limiter;

/* A state with two string libraries as globals `theirs` and `ours`, and none called `string`, so
 * that errors name the functions of both in the same way. */
static lua_State *make_state(void) {
    nh_limits limits = NH_LIMITS_DEFAULT;
    nh_limiter_init(&limiter, &limits);
    lua_State *L = lua_newstate(nh_limiter_alloc, &limiter);
    luaL_openlibs(L);
    lua_getglobal(L, "string");
    lua_setglobal(L, "theirs");
    luaopen_string(L); /* locks nothing: the methods of strings stay Lua's */
    nh_bound_string(L);
    lua_setglobal(L, "ours");
    lua_getglobal(L, "theirs");
    lua_getglobal(L, "theirs");
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushnil(L);
    lua_setfield(L, -2, "string");
    lua_settop(L, 0);
    lua_pushnil(L);
    lua_setglobal(L, "string");
    return L;
}

static void random_patterns_give_what_they_give_in_lua(void) {
    enum { PAIRS = 60000, SEED = 5 }; /* of five calls each */
    const char *pairs = getenv("NH_PATTERN_PAIRS"), *seed = getenv("NH_PATTERN_SEED");
    lua_State *L = make_state();
    if (!CHECK(luaL_loadfile(L, NH_SOURCE_DIR "/spec/unit/script/pattern.lua") == LUA_OK))
        printf("# %s\n", lua_tostring(L, -1));
    lua_getglobal(L, "theirs");
    lua_getglobal(L, "ours");
    lua_pushinteger(L, pairs ? atoll(pairs) : PAIRS);
    lua_pushinteger(L, seed ? atoll(seed) : SEED);
    if (!CHECK(lua_pcall(L, 4, 2, 0) == LUA_OK) || !CHECK(lua_isinteger(L, -2)))
        printf("# %s\n", lua_tostring(L, -1));
    else
        printf("# %lld calls compared\n", (long long)lua_tointeger(L, -2));
    lua_close(L);
    nh_limiter_term(&limiter);
}

static void a_pattern_that_explodes_ends(void) {
    static const char *const bombs[] = {
        "return ours.find(('a'):rep(400), 'a-a-a-a-b')",
        "return ours.find(('a'):rep(3000), '.-.-.-.-.-b')",
        "return ours.match(('a'):rep(3000), 'a*a*a*a*a*a*b')",
        "return ours.gsub(('a'):rep(3000), '(a*)(a*)(a*)%1%2%3b', '')",
        "for a in ours.gmatch(('ab'):rep(3000), '(.-)(.-)(.-)%1%2%3c') do end",
        "return ours.find(('('):rep(100000), ('%b()'):rep(3)..'.-%b()-x')",
        "return ours.find(('x '):rep(100000), '.-%f[%a].-%f[%d].-')",
    };
    lua_State *L = make_state();
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        CHECK(luaL_loadstring(L, bombs[i]) == LUA_OK);
        CHECK(lua_pcall(L, 0, 0, 0) == LUA_ERRRUN);
        const char *text = luaL_tolstring(L, -1, NULL);
        if (!CHECK(strstr(text, "steps (limits.pattern_steps)")))
            printf("# %s: %s\n", bombs[i], text);
        lua_settop(L, 0);
    }
    lua_close(L);
    nh_limiter_term(&limiter);
}

static void a_long_subject_alone_uses_up_nothing(void) {
    lua_State *L = make_state();
    static const char text[] = "local s = ('some words, and more: '):rep(200000)\n"
                               "assert(not ours.find(s, '%d+'))\n"
                               "assert(not ours.find(s, '[<>&]'))\n"
                               "assert(select(2, ours.gsub(s, '%a+', '%0')) == 800000)\n"
                               "assert(ours.match(s, '^(.*)$') == s)\n"
                               "assert(not ours.find(s, 'more;', 1, true))";
    if (!CHECK(luaL_dostring(L, text) == LUA_OK))
        printf("# %s\n", luaL_tolstring(L, -1, NULL));
    lua_close(L);
    nh_limiter_term(&limiter);
}

/* ------------------------------------------------------------------- bench */

static double seconds_of(lua_State *L, const char *library, const char *call, lua_Integer times) {
    double best = 1e9;
    for (int round = 0; round < 7; round++) {
        lua_pushfstring(L,
                        "local lib, find, n = %s, nil, %I\n"
                        "local find, match, gsub, gmatch, rep = lib.find, lib.match, lib.gsub, "
                        "lib.gmatch, lib.rep\n"
                        "local line = 'service=payments severity=critical host=db-17.example.com "
                        "took 1234 ms'\n"
                        "local long = line:rep(100)\n"
                        "for _ = 1, n do %s end",
                        library, times, call);
        if (luaL_loadstring(L, lua_tostring(L, -1)) != LUA_OK)
            printf("# %s\n", lua_tostring(L, -1));
        uint64_t start = nh_monotonic();
        if (lua_pcall(L, 0, 0, 0) != LUA_OK)
            printf("# %s\n", luaL_tolstring(L, -1, NULL));
        double took = (double)(nh_monotonic() - start) / (double)NH_SECOND;
        best = took < best ? took : best;
        lua_settop(L, 0);
    }
    return best;
}

static void bench(void) {
    static const struct {
        const char *call;
        lua_Integer times;
    } cases[] = {
        {"find(line, 'critical')", 1000000},
        {"find(line, 'critical', 1, true)", 1000000},
        {"find(long, 'nowhere', 1, true)", 50000},
        {"find(long, 'nowhere')", 50000},
        {"find(line, '^service')", 1000000},
        {"match(line, 'severity=(%a+)')", 500000},
        {"match(line, '(%d+) ms$')", 200000},
        {"match(line, 'host=([^ ]+)')", 500000},
        {"match(line, '^(%w+)=(%w+)')", 500000},
        {"match(long, '.-took (%d+)')", 100000},
        {"gsub(line, '%s+', ' ')", 100000},
        {"gsub(line, '[<>&]', {['<'] = '&lt;'})", 100000},
        {"gsub(line, '%w+', '%0')", 50000},
        {"gsub(long, '[^%w]', function(c) return c end)", 1000},
        {"for k, v in gmatch(line, '(%w+)=(%S+)') do end", 100000},
        {"rep('ab', 100)", 1000000},
    };
    lua_State *L = make_state();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double theirs = seconds_of(L, "theirs", cases[i].call, cases[i].times);
        double ours = seconds_of(L, "ours", cases[i].call, cases[i].times);
        printf("%-50s Lua %8.0f ns, here %8.0f ns, ratio %.2f\n", cases[i].call,
               theirs / (double)cases[i].times * 1e9, ours / (double)cases[i].times * 1e9,
               ours / theirs);
    }
    lua_close(L);
    nh_limiter_term(&limiter);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "bench") == 0) {
        bench();
        return 0;
    }
    RUN(random_patterns_give_what_they_give_in_lua);
    RUN(a_pattern_that_explodes_ends);
    RUN(a_long_subject_alone_uses_up_nothing);
    return check_end();
}
