/* engine.h — the seam between the workers and the scripts.
 *
 * The core knows no script language. An engine runs one task a message: it decides who is told,
 * builds requests, judges responses and ends with a receipt. The workers (the host) do what a task
 * asks for: transfers, sleeps, settling. The Lua engine is a shared object of its own that exports
 * `nh_engine_entry`; tests put a fake in its place.
 *
 * Rules of the seam:
 * - All calls of one vm, in both directions, happen in its worker's thread.
 * - The host never calls into the engine from inside a call of the engine: results of a transfer or
 * sleep come later.
 * - An operation (nh_op) ends exactly once: by ops->op_done, or by host->op_cancel.
 * - A task settles exactly once (host->settle); when it has callbacks they run between that and
 * host->end. After task_stop it has settled before the call returns.
 * - A vm is one generation of the scripts. A worker gives each message to the newest, and keeps an
 * older one as long as a task of it lives.
 */
#ifndef NH_WORK_ENGINE_H
#define NH_WORK_ENGINE_H

#include "runtime/core/doc.h"

struct nh_log;

#define NH_ENGINE_ABI 6

typedef struct nh_engine
    nh_engine; /* one a hub: the checked configuration and the compiled scripts; immutable */
typedef struct nh_vm nh_vm;           /* one a worker and generation */
typedef struct nh_request nh_request; /* what is asked of a transport; see work/transport.h */

/* A message in work. The host allocates it; `script` belongs to the engine. */
typedef struct nh_task {
    void *script;
} nh_task;

/* One wait of a script for something outside. The engine allocates it; `pending` belongs to the
 * host. */
typedef struct nh_op {
    nh_task *task;
    bool again; /* of a transfer: it repeats an attempt that failed */
    /* Of a transfer: it is refused rather than waiting for a host that does not answer, because
     * there is something else to be done. */
    bool hasty;
    bool brief;          /* of a transfer: of a success nothing but its status is wanted */
    int status;          /* the host's: that of such a success, whose response is NULL; else 0 */
    bool fresh;          /* the host's: its last transfer failed on the network; see nh_transfer */
    bool sole;           /* it is all that its message is about, and no rule decided that */
    const char *account; /* of a transfer, NULL: none; borrowed for that call */
    uint64_t lane;       /* the host's: which lane the last transfer went through; 0: none */
    void *pending;
} nh_op;

/* What a task is about; borrowed until the task has settled. */
typedef struct nh_task_message {
    const char *id;
    const void *bytes; /* the message document, packed */
    size_t length;
    double created_at; /* seconds since the epoch */
    uint32_t attempts; /* that failed in earlier runs of the program */
    bool durable;      /* it stays in the journal when the hub closes before it ends */
} nh_task_message;

/* One attempt of a delivery that has ended; borrowed for the call. */
typedef struct nh_attempt {
    const char *account, *platform;
    const char *target; /* as it may be shown */
    nh_err code;        /* NH_OK: it was delivered */
    const char *text;   /* of the error, as it may be shown; NULL allowed */
    double seconds;
    uint64_t lane; /* of its op */
} nh_attempt;

/* `tokens` each `per` seconds, at most `burst` at once. */
typedef struct nh_rate_limit {
    double tokens, per, burst;
} nh_rate_limit;

/* What the workers offer to the engine. */
typedef struct nh_host {
    /* Makes a request of a document (taken, whatever happens) for the transport of this name: for
     * any number of transfers of this worker, at once or one after the other, each of which brings
     * its own body when it is `bodied`. To be dropped. NULL and an error: NH_E_INVALID for one that
     * nh_request_check refuses, NH_E_CONFIG for an unknown transport. */
    nh_request *(*request)(nh_task *task, const char *transport, nh_doc *doc, bool bodied,
                           nh_error *error);
    void (*drop)(nh_request *request);
    /* Starts a request (borrowed for the call, as the body is); ends in ops->op_done with the
     * response. `body` is NULL unless the request is bodied. Errors (then no op_done follows):
     * NH_E_TOO_LARGE, NH_E_INTERNAL. */
    nh_err (*transfer)(nh_op *op, nh_request *request, const char *body, size_t length,
                       nh_error *error);
    /* Ends in ops->op_done without a response after `seconds`. */
    nh_err (*sleep)(nh_op *op, double seconds, nh_error *error);
    /* Asks for a place in an account's rate (NULL: none of its own; a pause holds for all). `wait`
     * is 0: go on at once, no op_done follows. Else it ends in ops->op_done when it may go, and
     * `wait` is how many seconds that will be; a pause that begins meanwhile makes it longer. `key`
     * stays valid until then. Errors: NH_E_RATE_LIMITED when it would be more than `most` seconds,
     * NH_E_INTERNAL. */
    nh_err (*admit)(nh_op *op, const char *key, const nh_rate_limit *rate, double most,
                    double *wait, nh_error *error);
    /* The platform asked for a pause: nothing of this account goes for so many seconds. */
    void (*pause)(nh_task *task, const char *key, double seconds);
    /* Has the task stopped for NH_E_TIMEOUT after `seconds`, unless its message's own deadline
     * comes sooner. */
    nh_err (*deadline)(nh_task *task, double seconds, nh_error *error);
    /* Stops an operation: op_done will not come. No-op for one that is not under way. */
    void (*op_cancel)(nh_op *op);
    /* Tells how far the task is; wakes those who watch it. */
    void (*progress)(nh_task *task, uint32_t done, uint32_t total);
    /* There will be another attempt at this platform, after so many. */
    void (*retrying)(nh_task *task, const char *platform, uint32_t attempts);
    /* Counts an attempt for health and metrics. */
    void (*attempted)(nh_task *task, const nh_attempt *attempt);
    /* How well an account did lately, 0 to 1; 0.5 when nothing is known. */
    double (*score)(nh_task *task, const char *account);
    /* Settles the message with its receipt (borrowed; NULL when out of memory: the host makes one
     * with NH_E_INTERNAL). With `more` its callbacks go on until `end`; without, the task is gone.
     */
    void (*settle)(nh_task *task, nh_status status, const nh_packed *receipt, bool more);
    /* The callbacks are over: the task is gone. */
    void (*end)(nh_task *task);
} nh_host;

typedef struct nh_engine_ops {
    uint32_t abi; /* NH_ENGINE_ABI */

    /* Checks the configuration (may be NULL) and loads the scripts. The log (may be NULL) is
     * borrowed until close. Thread: the opener's. */
    nh_err (*open)(const nh_doc *config, struct nh_log *log, nh_engine **out, nh_error *error);
    void (*close)(nh_engine *engine); /* no vm is open */
    /* The configuration with every default in place, for the core to read. Borrowed. */
    const nh_doc *(*config)(const nh_engine *engine);
    /* What nh_hub_platforms returns. Owned by the caller. */
    nh_doc *(*platforms)(const nh_engine *engine, nh_error *error);
    /* What nh_config_load returns. Needs no open engine. */
    nh_doc *(*load_config)(const char *path, nh_error *error);
    /* Answers a question about rules without sending anything: "check", "test", "explain"
     * (argument: a message). Needs no open engine. Owned by the caller. */
    nh_doc *(*ask)(const char *question, const nh_doc *config, const nh_doc *argument,
                   nh_error *error);
    /* Gives a durable value of the scripts back, as it was kept. Thread: the opener's, before a vm
     * is open, as the next. Errors: NH_E_TOO_LARGE, NH_E_INVALID, NH_E_INTERNAL. */
    nh_err (*restore)(nh_engine *engine, const char *key, size_t length, const void *value,
                      size_t value_length, double expires_at, nh_error *error);
    /* Has `changed` called for each durable value from now on; without it there are none. Its rules
     * are those of nh_shared_journal. NULL in an engine that has no such values. */
    void (*keep)(nh_engine *engine,
                 void (*changed)(void *context, const char *key, size_t length, const void *value,
                                 size_t value_length, double expires_at),
                 void *context);
    /* Loads the rules anew and publishes them; an error leaves those that run. Thread: any. Blocks:
     * while it compiles and tests them. */
    nh_err (*reload)(nh_engine *engine, nh_error *error);
    /* Has `published` called for each new generation from now on; NULL ends it, and when this has
     * returned no call is under way. Thread: any. */
    void (*subscribe)(nh_engine *engine, void (*published)(void *context), void *context);
    /* The number of the newest generation: what vm_open gives. Thread: any. Blocks: never. */
    uint64_t (*generation)(const nh_engine *engine);
    /* Writes a list of the generations in use, for nh_hub_stats. Thread: any. */
    void (*generations)(nh_engine *engine, nh_writer *writer);

    /* Thread: the worker's, from here on. */
    nh_err (*vm_open)(nh_engine *engine, const nh_host *host, nh_vm **out, nh_error *error);
    void (*vm_close)(nh_vm *vm); /* no task is alive */
    size_t (*vm_memory)(const nh_vm *vm);
    /* Whether a fresh vm should take its place: its scripts hold too much. */
    bool (*vm_worn)(nh_vm *vm);

    void (*task_start)(nh_vm *vm, nh_task *task, const nh_task_message *message);
    /* Stops the task for `reason` (cancelled, timeout, expired; closed: callbacks do not run any
     * more; script: its generation's time is over) and settles it, if it had not, with what it has
     * reached. */
    void (*task_stop)(nh_vm *vm, nh_task *task, nh_err reason);
    /* The operation has ended; response is borrowed, NULL for a sleep and where op->status says
     * all. */
    void (*op_done)(nh_vm *vm, nh_op *op, const nh_doc *response);
} nh_engine_ops;

/* The one symbol that an engine's shared object exports. */
typedef const nh_engine_ops *(*nh_engine_entry_fn)(void);
#define NH_ENGINE_ENTRY "nh_engine_entry"

#endif
