/* vm.h — one Lua state with the script API in it: a worker's, or the scratch one that checks a
 * configuration. */
#ifndef NH_SCRIPT_VM_H
#define NH_SCRIPT_VM_H

#include <lua.h>
#include <stdatomic.h>

#include "runtime/core/log.h"
#include "runtime/script/limit.h"
#include "runtime/script/rules.h"
#include "runtime/work/engine.h"

/* A text that grows. */
typedef struct nh_text {
    char *bytes;
    size_t length, room;
} nh_text;

/* A generation of the rules as the engine counts it. */
typedef struct nh_generation {
    uint64_t number;
    nh_rules *rules;      /* NULL: there are none */
    double loaded_at;     /* seconds since the epoch */
    _Atomic size_t tasks; /* messages that run in it, callbacks included */
    unsigned refs;        /* the engine's lock */
    struct nh_generation *next;
} nh_generation;

/* What a state is made of; all borrowed for its life. */
typedef struct nh_vm_setup {
    const nh_bundle *bundle;
    const nh_doc *config;      /* allow, env: what rules may reach */
    nh_generation *generation; /* NULL: none, and its rules are not there */
    const nh_host *host;       /* NULL in a scratch state: nothing can be sent from it */
    struct nh_log *log;        /* NULL: silent */
    struct nh_shared *shared;  /* NULL: a dictionary of its own */
    const nh_limits *limits;
    const nh_problems *problems; /* that reading the rules had, for lib/tools; may be NULL */
    bool simulated;              /* lib/simulation stands for the module `task` */
} nh_vm_setup;

/* The functions of lib/main that every message calls. */
typedef enum nh_main {
    NH_MAIN_BEGIN,
    NH_MAIN_STEP,
    NH_MAIN_DELIVERED,
    NH_MAIN_DONE,
    NH_MAIN_AFTER,
    NH_MAIN_OWN
} nh_main;

struct nh_vm {
    nh_limiter limiter; /* first: the allocator's argument */
    lua_State *L;
    nh_vm_setup setup;
    nh_writer *writer;     /* reused for every document that leaves the state */
    struct nh_strand *job; /* the delivery whose step runs in the state itself; NULL: none */
    nh_task *ended; /* the last task that ended, so that a failure afterwards is not its own */
    nh_text text;   /* json.encode's and markdown's */
    int main;       /* registry reference of the table that lib/main returns */
    int own[NH_MAIN_OWN]; /* of the functions in it that every message calls */
    int requests;         /* of those that messages share, by their tables; LUA_NOREF: none */
    int spare;            /* of a coroutine that has ended and can be used again; LUA_NOREF: none */
    size_t tasks;         /* messages that run here, callbacks included */
    bool large;           /* it holds more than a small part of its budget */
    nh_engine *engine;    /* a worker's */
    uint64_t opened;      /* monotonic ns */
    struct nh_shared *shared;       /* of all workers; NULL in a scratch state */
    struct nh_shared *owned_shared; /* a scratch state's own, made when it is first used */
};

/* A state with its libraries and lib/main loaded. Errors: NH_E_SCRIPT, NH_E_INTERNAL. */
nh_vm *nh_vm_create(const nh_vm_setup *setup, nh_error *error);
/* Makes another thing of a state, of the same bundle, that has run nothing but the runtime's own.
 */
void nh_vm_adopt(nh_vm *vm, const nh_vm_setup *setup);
void nh_vm_destroy(nh_vm *vm);

/* The vm of a state or of any of its coroutines. */
nh_vm *nh_vm_of(lua_State *L);

/* Pushes a function of lib/main by name [-0, +1]. */
void nh_vm_push_main(nh_vm *vm, const char *name);
/* Pushes one that every message calls [-0, +1]. */
void nh_vm_push_own(nh_vm *vm, nh_main which);
/* Calls a function that stands below its arguments and takes what it returns; on an error returns
 * its code, with the text (and traceback for other than plain errors) in `error` and nothing
 * pushed. */
nh_err nh_vm_call(nh_vm *vm, int arguments, int results, nh_error *error);

/* The value on top, popped, as a document; NULL and an error when it cannot be one. Never raises.
 */
nh_doc *nh_vm_pop_doc(nh_vm *vm, const char *what, nh_error *error);
/* The same, borrowed until the state makes its next document. */
nh_err nh_vm_pop_packed(nh_vm *vm, const char *what, nh_packed *out, nh_error *error);

/* A line of the log about what this state's scripts do [-0, +0]. */
void nh_vm_log(nh_vm *vm, nh_log_level level, const char *event, const char *text);
/* A message has begun (1) or ended (-1) here. */
void nh_vm_count_task(nh_vm *vm, int change);

/* The modules of the script API; each pushes its table [-0, +1]. */
int nh_open_json(lua_State *L);
int nh_open_crypto(lua_State *L);
int nh_open_markdown(lua_State *L);
int nh_open_task(lua_State *L);
int nh_open_store(lua_State *L);
int nh_open_script(lua_State *L);

#endif
