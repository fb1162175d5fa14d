/* run.c — `notifyhub run`: a Lua script with the notifyhub module at hand.
 *
 * The command is a host like any other: its Lua state is its own, the script reaches the hub
 * through the module, which is looked for beside the executable (a build tree or an installation)
 * before the usual places. Behaves as lua5.4 does: `arg`, a traceback for an error, os.exit for the
 * script's own status, SIGINT raises an error in the script.
 *
 * SIGTERM raises one too, and drains the hubs that the script has opened (signals.c) while the
 * script unwinds. How it ends matters no longer then, whether it has caught the error or has met a
 * closed hub: the status tells whether everything accepted was settled.
 */
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/command.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/term.h"
#include "runtime/core/slab.h"

/* Where the module is, from the executable's directory. NH_CLI_MODULES is the installation's. */
static const char *const module_places[] = {"../lua", NH_CLI_MODULES};

static lua_State
    *volatile interrupted; /* for the signal handlers: the state, while the script runs */

#define TERMINATED "terminated"

static void stop(lua_State *L, lua_Debug *where) {
    (void)where;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
}

static void terminate(lua_State *L, lua_Debug *where) {
    (void)where;
    lua_sethook(L, NULL, 0, 0);
    lua_pushliteral(L, TERMINATED);
    lua_error(L);
}

/* lua_sethook is made for signal handlers (lua.h: it may be called asynchronously). */
static void call_at_once(lua_Hook hook) {
    int at_once = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
    if (interrupted)
        lua_sethook(interrupted, hook, at_once, 1); /* NOLINT(bugprone-signal-handler) */
}

/* A second signal ends the process. */
static void on_interrupt(int number) {
    signal(number, SIG_DFL);
    call_at_once(stop);
}

static void on_terminate(void) {
    call_at_once(terminate);
}

static bool is_termination(const char *message) {
    return message && strcmp(message, TERMINATED) == 0;
}

/* [-1, +1] turns an error value into a message with a traceback. */
static int traceback(lua_State *L) {
    const char *message = lua_tostring(L, 1);
    if (is_termination(message))
        return 1;
    if (!message && luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
        return 1;
    if (!message)
        message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    luaL_traceback(L, L, message, 1);
    return 1;
}

/* [-0, +0] our own module is the one that `require` gives, whatever stands in the script's folder:
 * a configuration there is called notifyhub.lua, and package.path is searched before package.cpath.
 */
static void preload_module(lua_State *L, const char *file) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_getfield(L, -2, "loadlib");
    lua_pushstring(L, file);
    lua_pushliteral(L, "luaopen_notifyhub");
    lua_call(L, 2, 1);
    lua_setfield(L, -2, "notifyhub"); /* nil when it cannot be loaded: require tells why */
    lua_pop(L, 2);
}

/* [-0, +0] puts the directory of our own module in front of package.cpath. */
static void set_path(lua_State *L) {
    char executable[PATH_MAX], file[2 * PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
    if (length <= 0)
        return;
    executable[length] = '\0';
    *strrchr(executable, '/') = '\0';
    for (size_t i = 0; i < sizeof module_places / sizeof *module_places; i++) {
        snprintf(file, sizeof file, "%s/%s/notifyhub.so", executable, module_places[i]);
        if (access(file, R_OK) != 0)
            continue;
        lua_getglobal(L, "package");
        lua_getfield(L, -1, "cpath");
        lua_pushfstring(L, "%s/%s/?.so;%s", executable, module_places[i], lua_tostring(L, -1));
        lua_setfield(L, -3, "cpath");
        lua_pop(L, 2);
        preload_module(L, file);
        return;
    }
}

/* [-0, +0] arg[0] is the script, arg[1…] its arguments, arg[-1…] what stands before it. */
static void set_arguments(lua_State *L, const cli_operands *operands) {
    lua_createtable(L, operands->count, 3);
    lua_pushstring(L, "notifyhub");
    lua_rawseti(L, -2, -2);
    lua_pushstring(L, "run");
    lua_rawseti(L, -2, -1);
    for (int i = 0; i < operands->count; i++) {
        lua_pushstring(L, operands->items[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
}

/* [-(arguments + 1), +0] calls the script, with the handler of errors at 1. Returns the status. */
static int call_script(lua_State *L, int arguments) {
    if (!cli_signals_start("run", on_terminate))
        return luaL_error(L, "out of threads or descriptors");
    interrupted = L;
    signal(SIGINT, on_interrupt);
    int failed = lua_pcall(L, arguments, 0, 1);
    signal(SIGINT, SIG_DFL);
    interrupted = NULL;
    lua_sethook(L, NULL, 0, 0);
    if (failed && !is_termination(lua_tostring(L, -1)))
        cli_complain("run", "%s", lua_tostring(L, -1));
    return failed && !cli_signals_terminated() ? CLI_FAILED : CLI_OK;
}

/* [-1, +1] called with the operands as a light userdata; returns the exit status. */
static int run_script(lua_State *L) {
    const cli_operands *operands = lua_touserdata(L, 1);
    const char *script = operands->items[0];
    lua_settop(L, 0);
    luaL_openlibs(L);
    set_path(L);
    set_arguments(L, operands);

    lua_pushcfunction(L, traceback);
    if (luaL_loadfile(L, strcmp(script, "-") == 0 ? NULL : script) != LUA_OK) {
        cli_complain("run", "%s", lua_tostring(L, -1));
        lua_pushinteger(L, CLI_USAGE);
        return 1;
    }
    luaL_checkstack(L, operands->count, "too many arguments");
    for (int i = 1; i < operands->count; i++)
        lua_pushstring(L, operands->items[i]);
    lua_pushinteger(L, call_script(L, operands->count - 1));
    return 1;
}

/* A script that sends a batch holds as many receipts: their tables are many and small. */
static void *allocate(void *slab, void *block, size_t osize, size_t nsize) {
    return nh_slab_realloc(slab, block, block ? osize : 0, nsize);
}

typedef enum warnings { WARNINGS_OFF, WARNINGS_ON, WARNING_GOES_ON } warnings;

/* As lua does: off until warn("@on"). */
static void warn(void *state, const char *text, int more) {
    warnings *w = state;
    if (*w != WARNING_GOES_ON && !more && *text == '@') {
        if (strcmp(text, "@on") == 0)
            *w = WARNINGS_ON;
        else if (strcmp(text, "@off") == 0)
            *w = WARNINGS_OFF;
        return;
    }
    if (*w == WARNINGS_OFF)
        return;
    fprintf(stderr, "%s%s%s", *w == WARNING_GOES_ON ? "" : "Lua warning: ", text, more ? "" : "\n");
    *w = more ? WARNING_GOES_ON : WARNINGS_ON;
}

static const cli_option options[] = {{0}};

static int run_run(const cli_command *self, int argc, char **argv) {
    cli_operands operands;
    size_t left;
    int status = cli_options_parse(self, argc, argv, NULL, &operands);
    if (status != CLI_GO)
        return status;
    nh_slab slab = {.regions = NULL};
    warnings state = WARNINGS_OFF;
    lua_State *L = lua_newstate(allocate, &slab);
    if (!L) {
        cli_complain(self->name, "out of memory");
        return CLI_FAILED;
    }
    lua_setwarnf(L, warn, &state);
    signal(SIGPIPE, SIG_IGN); /* a peer that hangs up must not end the script */
    lua_pushcfunction(L, run_script);
    lua_pushlightuserdata(L, &operands);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        status = (int)lua_tointeger(L, -1);
    } else {
        cli_complain(self->name, "%s", lua_tostring(L, -1));
        status = CLI_FAILED;
    }
    lua_close(L); /* closes the hubs that are left */
    nh_slab_term(&slab);
    cli_signals_stop(&left);
    return left ? CLI_FAILED : status;
}

const cli_command cli_run = {
    .name = "run",
    .summary = "run a Lua script that uses the notifyhub module",
    .operands = "SCRIPT [ARGUMENT]...",
    .operands_min = 1,
    .operands_max = INT_MAX,
    .rest = true,
    .options = options,
    .about = "Runs a Lua 5.4 script, - for stdin, in which require \"notifyhub\" finds the module "
             "that belongs to this executable. The script's arguments are in arg and in ..., as "
             "with lua.\n"
             "SIGTERM drains the hubs of the script: they accept no more, what they have accepted "
             "gets 30 seconds, and the script is left with the error \"terminated\"; a second "
             "one ends at once. SIGHUP reloads the rules of all its hubs.\n"
             "  notifyhub run scripts/examples/demo.lua",
    .exits =
        (const cli_exit[]){{CLI_OK, "the script ended, or SIGTERM came and all that was accepted "
                                    "was settled"},
                           {CLI_FAILED, "the script raised an error (os.exit chooses another), or "
                                        "not all was settled after SIGTERM"},
                           {CLI_USAGE, "the script could not be read or compiled, or a mistake "
                                       "in the command line"},
                           {0}},
    .run = run_run,
};
