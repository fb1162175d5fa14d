/* Preloaded, after the sanitizer's runtime, into the Lua interpreters of a sanitizer build.
 *
 * Shared objects stay mapped after dlclose: lua_close unloads the C modules before the leak check
 * runs, what a library reaches only through its static variables would then look leaked, and no
 * report could name a function of the module. The plain build runs the same specs with real
 * unloading.
 *
 * The programs that a spec starts do not inherit the preloading: shells crash under TSan's runtime,
 * compilers and Python leak by design. */
#include <dlfcn.h>
#include <stdlib.h>

__attribute__((visibility("default"))) int dlclose(void *handle) {
    (void)handle;
    return 0;
}

__attribute__((constructor)) static void forget_preloading(void) {
    unsetenv("LD_PRELOAD");
}
