/* worker_parts.h — what worker.c and worker_host.c share; nobody else looks. */
#ifndef NH_WORK_WORKER_PARTS_H
#define NH_WORK_WORKER_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/work/operation.h"
#include "runtime/work/worker.h"

/* One loaded version of the scripts. */
typedef struct generation {
    nh_vm *vm;
    nh_worker *worker;
    uint64_t number;
    size_t tasks;   /* that were started in it and have not ended */
    nh_timer drain; /* once it is replaced */
    struct generation *next;
} generation;

typedef struct task {
    nh_actor actor; /* first: the engine and its operations see only this */
    nh_worker *worker;
    generation *generation;
    nh_handle *handle; /* its own reference is this task's; NULL once it has settled */
    nh_task_message message;
    nh_timer deadline;
    bool routed;              /* the deadline is what a route asked for, not the message's own */
    struct task *next, *prev; /* live tasks; `next` in the free list */
} task;

struct nh_worker {
    nh_work *work;
    pthread_t thread;
    bool started; /* the owner's view: start and join pair up */

    /* The thread's own. */
    nh_loop *loop;
    generation *current;
    generation *replaced; /* a list: each drains */
    uint64_t broken;      /* the number of a generation that could not be opened */
    nh_operations *operations;
    task tasks; /* head of the ring of live tasks */
    task *free_tasks;
    size_t closed; /* messages settled as closed */

    /* The mailbox. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the thread has come up or failed to */
    /* To cancel, each with a reference. Changed under the lock; looked at without it, or a
     * wake-up's sender, who holds it, would have the thread wait for itself. */
    _Atomic(nh_handle *) mail;
    bool up;
    nh_error fault;

    atomic_bool sleeping;
    atomic_bool full;    /* it waits, too, but takes nothing */
    atomic_int stopping; /* 0, 1 patient, 2 now */
    atomic_bool ended;
    _Atomic uint64_t idle_since;
    _Atomic size_t memory;
};

/* What a worker is for the tasks of its engine. */
extern const nh_host nh_worker_host;

/* Settles a task's message with a receipt (taken), or NULL and a reason. */
void nh_worker_settle(task *t, nh_receipt *receipt, nh_err reason);
/* A task that has settled is no more: its memory is for the next one. */
void nh_worker_forget(task *t);

#endif
