/* curl.c — finds libcurl and its functions, once a process. It stays loaded until the process ends,
 * as its threads and handles may outlive any hub. A host that has another libcurl of its own keeps
 * that one to itself. */
#define NH_CURL_WITHOUT_NAMES
#include "platforms/transports/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The ABI of the headers that this was built with: it has been this one since 2006. */
#define LIBRARY "libcurl.so.4"

nh_curl_functions nh_curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static nh_error fault;

static void fail(const char *text) {
    fault.code = NH_E_INTERNAL;
    snprintf(fault.message, sizeof fault.message, "libcurl: %.900s", text ? text : "cannot start");
}

static void load(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fail(dlerror());
        return;
    }
    const struct {
        const char *name;
        void *to;
    } functions[] = {
#define NH_X(name) {#name, &nh_curl.name},
        NH_CURL_FUNCTIONS(NH_X)
#undef NH_X
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *symbol = dlsym(library, functions[i].name);
        if (!symbol) {
            fail(dlerror());
            return;
        }
        memcpy(functions[i].to, &symbol, sizeof symbol); /* ISO C has no cast for this */
    }
    if (nh_curl.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        fail(NULL);
}

nh_err nh_curl_load(nh_error *error) {
    pthread_once(&once, load);
    if (fault.code != NH_OK && error)
        *error = fault;
    return fault.code;
}
