/* run.c — `notifyhub run`: a Lua script with the notifyhub module at hand.
 *
 * The command is a host like any other: its Lua state is its own, the script reaches the hub
 * through the module, which is looked for beside the executable (a build tree or an installation)
 * before the usual places. Behaves as lua5.4 does: `arg`, a traceback for an error, os.exit for the
 * script's own status, SIGINT raises an error in the script.
 */
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/command.h"
#include "runtime/cli/term.h"

/* Where the module is, from the executable's directory. NH_CLI_MODULES is the installation's. */
static const char *const module_places[] = {"../lua", NH_CLI_MODULES};

static lua_State *interrupted; /* for the signal handler; the one state of the process */

static void stop(lua_State *L, lua_Debug *where) {
    (void)where;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
}

/* lua_sethook is made for this (lua.h: it may be called asynchronously); a second signal ends the
 * process. */
static void on_signal(int number) {
    signal(number, SIG_DFL);
    int at_once = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
    lua_sethook(interrupted, stop, at_once, 1); /* NOLINT(bugprone-signal-handler) */
}

/* [-1, +1] turns an error value into a message with a traceback. */
static int traceback(lua_State *L) {
    const char *message = lua_tostring(L, 1);
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
    signal(SIGINT, on_signal);
    int failed = lua_pcall(L, operands->count - 1, 0, 1);
    signal(SIGINT, SIG_DFL);
    if (failed)
        cli_complain("run", "%s", lua_tostring(L, -1));
    lua_pushinteger(L, failed ? CLI_FAILED : CLI_OK);
    return 1;
}

static const cli_option options[] = {{0}};

static int run_run(const cli_command *self, int argc, char **argv) {
    cli_operands operands;
    int status = cli_options_parse(self, argc, argv, NULL, &operands);
    if (status != CLI_GO)
        return status;
    lua_State *L = luaL_newstate();
    if (!L) {
        cli_complain(self->name, "out of memory");
        return CLI_FAILED;
    }
    interrupted = L;
    signal(SIGPIPE, SIG_IGN); /* a peer that hangs up must not end the script */
    lua_pushcfunction(L, run_script);
    lua_pushlightuserdata(L, &operands);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        status = (int)lua_tointeger(L, -1);
    } else {
        cli_complain(self->name, "%s", lua_tostring(L, -1));
        status = CLI_FAILED;
    }
    lua_close(L);
    return status;
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
             "  notifyhub run scripts/examples/demo.lua",
    .exits =
        (const cli_exit[]){{CLI_OK, "the script ended"},
                           {CLI_FAILED, "the script raised an error; os.exit chooses another"},
                           {CLI_USAGE, "the script could not be read or compiled, or a mistake "
                                       "in the command line"},
                           {0}},
    .run = run_run,
};
