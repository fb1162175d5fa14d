/* microhttpd.c — finds libmicrohttpd and its functions. */
#define CLI_MHD_WITHOUT_NAMES
#include "runtime/cli/microhttpd.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

/* The ABI of the headers that this was built with. */
#define LIBRARY "libmicrohttpd.so.12"

mhd_functions mhd;

bool mhd_load(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const struct {
        const char *name;
        void *to;
    } functions[] = {
#define CLI_X(name) {#name, &mhd.name},
        CLI_MHD_FUNCTIONS(CLI_X)
#undef CLI_X
    };
    for (size_t i = 0; library && i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(library, functions[i].name);
        if (!symbol)
            return false;
        memcpy(functions[i].to, &symbol, sizeof symbol); /* ISO C has no cast for this */
    }
    return library != NULL;
}
