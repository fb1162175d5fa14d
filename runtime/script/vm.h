/* vm.h — one Lua state with the script API in it: a worker's, or the scratch one that checks a
 * configuration. */
#ifndef NH_SCRIPT_VM_H
#define NH_SCRIPT_VM_H

#include <lua.h>

#include "runtime/script/bundle.h"
#include "runtime/work/engine.h"

/* A text that grows. */
typedef struct nh_text {
    char *bytes;
    size_t length, room;
} nh_text;

struct nh_vm {
    lua_State *L;
    const nh_bundle *bundle;
    const nh_host *host; /* NULL in a scratch state: nothing can be sent from it */
    nh_writer *writer;   /* reused for every document that leaves the state */
    size_t memory;       /* bytes that Lua holds */
    nh_task *ended; /* the last task that settled, so that a failure afterwards is not its own */
    nh_text text;   /* json.encode's */
    struct nh_shared *shared;       /* the hub's dictionary; NULL in a scratch state */
    struct nh_shared *owned_shared; /* a scratch state's own, made when first used */
    int main;                       /* registry reference of the table that lib/main returns */
};

/* A state with its libraries and lib/main loaded. Errors: NH_E_SCRIPT, NH_E_INTERNAL. */
nh_vm *nh_vm_create(const nh_bundle *bundle, const nh_host *host, nh_error *error);
void nh_vm_destroy(nh_vm *vm);

/* The vm of a state or of any of its coroutines. */
nh_vm *nh_vm_of(lua_State *L);

/* Pushes a function of lib/main by name [-0, +1]. */
void nh_vm_push_main(nh_vm *vm, const char *name);
/* Calls a function that stands below its arguments and takes what it returns; on an error returns
 * its code, with the text (and traceback for other than plain errors) in `error` and nothing
 * pushed. */
nh_err nh_vm_call(nh_vm *vm, int arguments, int results, nh_error *error);

/* The value on top, popped, as a document; NULL and an error when it cannot be one. Never raises.
 */
nh_doc *nh_vm_pop_doc(nh_vm *vm, const char *what, nh_error *error);

/* The modules of the script API; each pushes its table [-0, +1]. */
int nh_open_json(lua_State *L);
int nh_open_crypto(lua_State *L);
int nh_open_markdown(lua_State *L);
int nh_open_task(lua_State *L);
int nh_open_store(lua_State *L);

#endif
