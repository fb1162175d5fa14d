/* worker.h — one thread that moves messages: its loop, its scripts, its transports, its tasks. */
#ifndef NH_WORK_WORKER_H
#define NH_WORK_WORKER_H

#include "runtime/work/engine.h"
#include "runtime/work/gate.h"
#include "runtime/work/limiter.h"
#include "runtime/work/queue.h"
#include "runtime/work/transport.h"

typedef struct nh_worker nh_worker;

/* What all workers of a hub share. Constant while they live. */
typedef struct nh_work {
    nh_queue *queue;
    nh_engine *engine;
    const nh_engine_ops *ops;
    struct nh_log *log; /* may be NULL */
    nh_gate gate;
    struct nh_store *store; /* the journal; NULL without one */
    /* With a journal: told by a worker that left at most `low` messages in the queue. */
    void (*refill)(struct nh_work *work);
    size_t low;
    nh_limiter *limiter;                       /* may be NULL: no rates */
    struct nh_health *health;                  /* may be NULL */
    struct nh_metrics *metrics;                /* may be NULL */
    const nh_transport_ops *const *transports; /* ends with NULL */
    nh_transport_limits limits;
    nh_transport_counts counts; /* the limits point to them */
    size_t in_flight;           /* most messages a worker has in work, those asleep not counted */
    size_t sleepers;            /* most messages a worker has asleep */
    double drain;               /* seconds that a replaced generation may go on */
    /* Told by a worker that took messages and left more. Thread: a worker. */
    void (*more)(struct nh_work *work);
    struct nh_pool *pool; /* more's */
    /* A settled message's callbacks begin (+1) and have ended (-1): a close waits for them. */
    void (*linger)(struct nh_work *work, int change);
    _Atomic uint64_t retries;
} nh_work;

/* `place` is its own, from 0. */
nh_worker *nh_worker_create(nh_work *work, unsigned place, nh_error *error);
void nh_worker_destroy(nh_worker *worker); /* it is not running */

/* Starts the thread; it is running when this returns well. Thread: the pool's owner, as stop and
 * join. Blocks: until the scripts are loaded. */
nh_err nh_worker_start(nh_worker *worker, nh_error *error);
/* Asks the thread to end: it takes no more messages, and finishes those it has or, with `now`,
 * settles them as closed. May be called again to turn a patient stop into an immediate one. */
void nh_worker_stop(nh_worker *worker, bool now);
/* Waits for the end of a thread that was asked to stop; returns how many messages it settled as
 * closed. */
size_t nh_worker_join(nh_worker *worker);

/* Thread: any, for these. */
bool nh_worker_running(const nh_worker *worker); /* started and not joined */
bool nh_worker_ended(const nh_worker *worker);   /* joining will not wait */
size_t nh_worker_in_flight(const nh_worker *worker);
size_t nh_worker_asleep(const nh_worker *worker); /* not counted as in flight */
uint64_t
nh_worker_idle_since(const nh_worker *worker);    /* monotonic ns; UINT64_MAX while it has work */
size_t nh_worker_memory(const nh_worker *worker); /* of its scripts, bytes */
/* Wakes the worker if it sleeps and has room for messages; false otherwise. */
bool nh_worker_offer(nh_worker *worker);
/* It sleeps without room for a message. In one order with what is pushed, as an offer is. */
bool nh_worker_full(const nh_worker *worker);
/* Has the worker look around: there is a new generation. */
void nh_worker_wake(nh_worker *worker);
/* Stops the task of a handle that this worker has or had. */
void nh_worker_cancel(nh_worker *worker, nh_handle *handle);

#endif
