/* strand.h — what goes on for a message at once: deliveries, and coroutines. What task.c, job.c and
 * the module `task` share. */
#ifndef NH_SCRIPT_STRAND_H
#define NH_SCRIPT_STRAND_H

#include <lua.h>
#include <stdbool.h>

#include "runtime/script/vm.h"

enum { NH_STRANDS_MOST = 1024 }; /* of one message at once */

typedef struct nh_script nh_script;

/* One coroutine of a message, or a delivery of its own (a job), which needs none. It waits for one
 * thing at a time. */
typedef struct nh_strand {
    nh_op op; /* first */
    nh_script *owner;
    lua_State *co; /* NULL: a job */
    int anchor;    /* registry reference of co, or of the job */
    struct nh_strand *parent;
    int place;                     /* of its result in the parent's list */
    int results;                   /* registry reference of the list that its children fill */
    size_t missing;                /* children that still run */
    bool waits;                    /* for an operation or children: a yield is in order */
    bool detached;                 /* nobody waits for it: a callback */
    bool ended;                    /* its coroutine came to a good end */
    struct nh_strand *next, *prev; /* of the same task */
} nh_strand;

/* A message that runs, as the engine sees it. */
struct nh_script {
    nh_vm *vm;
    nh_task *task;
    nh_strand strands; /* head of the ring; its parent-less member is the main strand */
    size_t count;
    size_t missing; /* jobs that have not ended */
    int context;    /* registry reference of the table that run, stop and after share */
    bool settled;   /* what still runs are its callbacks */
    bool plain;     /* its one job was delivered, and done(context) has nothing to add */
    bool after;     /* and callbacks want to hear of it */
    bool durable;   /* a close leaves the message in the journal */
};

/* Makes a strand for the function on top of the stack [-1, +0], or for a job, a table. May raise.
 */
nh_strand *nh_strand_make(nh_script *owner, lua_State *L, nh_strand *parent, int place);
nh_strand *nh_strand_make_job(nh_script *owner, lua_State *L);
void nh_strand_free(nh_strand *s);

/* Stops all that runs for the task; its coroutines' to-be-closed variables are closed. */
void nh_strands_stop(nh_script *owner);

/* The strand whose code runs in L. One that may wait is a coroutine: the first raises in a job's
 * step and in a coroutine of a script's own, and when the script's time is over. */
nh_strand *nh_strand_running(lua_State *L);
nh_strand *nh_strand_current(lua_State *L);

/* Runs the strand, with the arguments on top of its stack, until it waits or ends. What it runs may
 * end the task: nothing of it may be touched afterwards. */
void nh_strand_resume(nh_strand *s, int arguments);

/* What has become of a job. */
typedef enum nh_progress { NH_WAITS, NH_ENDED, NH_FAILED_JOB } nh_progress;

/* Carries a job on for a strand: calls lib/main's step(job, answer) in the state itself until it
 * waits or ends; both are on top of the state's stack [-2, +0]. An error of it ends it. May raise
 * (memory). */
nh_progress nh_job_advance(nh_strand *s, nh_error *error);

/* Sends what stands in one document (taken, whatever happens) over the transport of this name.
 * False and an error: nothing is under way. */
bool nh_strand_send(nh_strand *s, const char *transport, nh_doc *doc, nh_error *error);

/* Pushes the answer of a transfer as the strand that waits for it is told it [-0, +1]: the status
 * of a success that says all, else the response; NULL: nil. */
void nh_strand_push_answer(nh_strand *s, lua_State *L, const nh_doc *response);

#endif
