/* bundle.h — the scripts of a hub: the built-in ones and those of its script path, compiled once.
 *
 * A script's name is its place without the suffix: "lib/main", "adapters/slack". One of the script
 * path replaces a built-in one of the same name. A bundle is immutable once it is made, and all
 * workers load from it.
 */
#ifndef NH_SCRIPT_BUNDLE_H
#define NH_SCRIPT_BUNDLE_H

#include <lua.h>

#include "runtime/notifyhub.h"

typedef struct nh_bundle nh_bundle;

enum { NH_SCRIPT_BYTES_MAX = 1 << 20, NH_SCRIPTS_MAX = 1000 };

/* Reads and compiles. `folders` are searched in order, the first that has a script wins. Errors:
 * NH_E_CONFIG with file and line. Thread: any. Blocks: on the files. */
nh_bundle *nh_bundle_create(const char *const *folders, size_t count, nh_error *error);
void nh_bundle_destroy(nh_bundle *bundle);

/* Pushes the compiled chunk as a function [-0, +1] and returns true, or pushes nothing. May raise.
 */
bool nh_bundle_load(const nh_bundle *bundle, lua_State *L, const char *name);
/* Pushes a list of the names that begin with `prefix`, without it [-0, +1]. */
void nh_bundle_names(const nh_bundle *bundle, lua_State *L, const char *prefix);

/* The scripts compiled into the engine; generated at build time. Ends with a NULL name. */
typedef struct nh_builtin {
    const char *name;
    const unsigned char *source;
    size_t length;
} nh_builtin;
extern const nh_builtin nh_builtins[];

#endif
