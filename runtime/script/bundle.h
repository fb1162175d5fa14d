/* bundle.h — scripts under names, compiled once: those of a hub (the built-in ones and its script
 * path's), or those of one generation of its rules.
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

/* An empty one, to be filled by nh_bundle_add. NULL when out of memory. */
nh_bundle *nh_bundle_new(void);
/* Compiles a source and adds it, unless a script of that name is there already. `chunk` is its name
 * in errors ("@path"). L is any state: it only compiles. Errors: NH_E_CONFIG with file and line. */
nh_err nh_bundle_add(nh_bundle *bundle, lua_State *L, const char *name, const char *chunk,
                     const char *source, size_t length, nh_error *error);
size_t nh_bundle_count(const nh_bundle *bundle);
const char *nh_bundle_name(const nh_bundle *bundle, size_t index);

/* Reads and compiles. `folders` are searched in order, the first that has a script wins. Errors:
 * NH_E_CONFIG with file and line. Thread: any. Blocks: on the files. */
nh_bundle *nh_bundle_create(const char *const *folders, size_t count, nh_error *error);
void nh_bundle_destroy(nh_bundle *bundle);

/* Pushes the compiled chunk as a function [-0, +1] and returns true, or pushes nothing. May raise.
 */
bool nh_bundle_load(const nh_bundle *bundle, lua_State *L, const char *name);
/* Pushes a list of the names that begin with `prefix`, without it [-0, +1]. */
void nh_bundle_names(const nh_bundle *bundle, lua_State *L, const char *prefix);

/* The scripts compiled into the engine, as byte code; made at build time by embed.c. Ends with a
 * NULL name. */
typedef struct nh_builtin {
    const char *name;
    const unsigned char *code;
    size_t length;
} nh_builtin;
extern const nh_builtin nh_builtins[];

#endif
