/* libcrypto.h — OpenSSL's digests, loaded when a script first asks for one: the library takes
 * longer to load than a hub to open, and most hubs sign nothing.
 */
#ifndef NH_SCRIPT_LIBCRYPTO_H
#define NH_SCRIPT_LIBCRYPTO_H

#include <openssl/evp.h>
#include <openssl/hmac.h>

/* Those that are used. */
#define NH_LIBCRYPTO_FUNCTIONS(X)                                                                  \
    X(EVP_Digest)                                                                                  \
    X(EVP_sha1)                                                                                    \
    X(EVP_sha256)                                                                                  \
    X(EVP_sha512)                                                                                  \
    X(HMAC)

typedef struct nh_libcrypto {
#define NH_X(name) __typeof__(name) *name; /* NOLINT(bugprone-macro-parentheses) */
    NH_LIBCRYPTO_FUNCTIONS(NH_X)
#undef NH_X
} nh_libcrypto;

/* Loads it, once a process. NULL when it cannot be loaded: then `fault` is the reason. Thread: any.
 * Blocks: some milliseconds, once. */
const nh_libcrypto *nh_libcrypto_load(const char **fault);

#endif
