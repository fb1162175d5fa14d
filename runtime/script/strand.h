/* strand.h — the coroutines of a message that runs: what task.c and the module `task` share. */
#ifndef NH_SCRIPT_STRAND_H
#define NH_SCRIPT_STRAND_H

#include <lua.h>
#include <stdbool.h>

#include "runtime/script/vm.h"

enum { NH_STRANDS_MOST = 1024 }; /* of one message at once */

typedef struct nh_script nh_script;

/* One coroutine of a message. It waits for one thing at a time. */
typedef struct nh_strand {
    nh_op op; /* first */
    nh_script *owner;
    lua_State *co;
    int anchor; /* registry reference of co */
    struct nh_strand *parent;
    int place;                     /* of its result in the parent's list */
    int results;                   /* registry reference of the list that its children fill */
    size_t missing;                /* children that still run */
    bool waits;                    /* for an operation or children: a yield is in order */
    bool job;                      /* a delivery of the task itself, see `missing` there */
    bool detached;                 /* nobody waits for it: a callback */
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
    bool durable;   /* a close leaves the message in the journal */
};

/* Makes a strand for the function on top of the state's stack [-1, +0]. May raise. */
nh_strand *nh_strand_make(nh_script *owner, lua_State *L, nh_strand *parent, int place);
void nh_strand_free(nh_strand *s);

/* Stops all that runs for the task; its coroutines' to-be-closed variables are closed. */
void nh_strands_stop(nh_script *owner);

/* The strand that runs in L; raises in a coroutine of a script's own, and when its time is over. */
nh_strand *nh_strand_running(lua_State *L);

/* Runs the strand, with the arguments on top of its stack, until it waits or ends. What it runs may
 * end the task: nothing of it may be touched afterwards. */
void nh_strand_resume(nh_strand *s, int arguments);

#endif
