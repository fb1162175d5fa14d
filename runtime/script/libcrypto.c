/* libcrypto.c — finds libcrypto and its functions, once a process. It stays loaded until the
 * process ends. A host that has another libcrypto of its own keeps that one to itself. */
#include "runtime/script/libcrypto.h"

#include <dlfcn.h>
#include <openssl/opensslv.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)
#define LIBRARY         "libcrypto.so." TEXT(OPENSSL_SHLIB_VERSION)

static nh_libcrypto functions;
static char failure[512]; /* "" unless it could not be loaded */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    const struct {
        const char *name;
        void *to;
    } wanted[] = {
#define NH_X(name) {#name, &functions.name},
        NH_LIBCRYPTO_FUNCTIONS(NH_X)
#undef NH_X
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = library ? dlsym(library, wanted[i].name) : NULL;
        if (!symbol) {
            const char *why = dlerror();
            snprintf(failure, sizeof failure, "%s", why ? why : LIBRARY);
            return;
        }
        memcpy(wanted[i].to, &symbol, sizeof symbol); /* ISO C has no cast for this */
    }
}

const nh_libcrypto *nh_libcrypto_load(const char **fault) {
    pthread_once(&once, load);
    *fault = failure;
    return *failure ? NULL : &functions;
}
