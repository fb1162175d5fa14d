/* pool.h — the workers of a hub, as many as the backlog asks for, and the control thread that
 * decides it. */
#ifndef NH_WORK_POOL_H
#define NH_WORK_POOL_H

#include "runtime/work/worker.h"

typedef struct nh_pool nh_pool;

enum { NH_WORKERS_MOST = 64 };

typedef struct nh_pool_options {
    size_t min, max, start; /* 1 ≤ min ≤ start ≤ max ≤ NH_WORKERS_MOST */
    double idle;            /* seconds without work after which a worker beyond min ends */
} nh_pool_options;

typedef struct nh_pool_figures {
    size_t workers, in_flight, asleep;
    size_t memory;          /* of all workers' scripts, bytes */
    uint64_t grown, shrunk; /* workers started and ended beyond the first ones */
} nh_pool_figures;

/* Starts the workers and the control thread. `work` is borrowed and must outlive the pool; the pool
 * sets its `more`. */
nh_pool *nh_pool_create(nh_work *work, const nh_pool_options *options, nh_error *error);
/* Stops all threads, settling what the workers still have as closed; returns how many that were.
 * Blocks: some ms. */
size_t nh_pool_stop(nh_pool *pool);
void nh_pool_destroy(nh_pool *pool); /* after stop */

/* Messages were pushed, `ready` of them to be sent now; `earliest` is the first of their deadlines
 * and releases (UINT64_MAX: none). Thread: any. */
void nh_pool_pushed(nh_pool *pool, size_t ready, uint64_t earliest);
/* There is a new generation of the scripts: every worker looks. Thread: any. */
void nh_pool_renew(nh_pool *pool);
void nh_pool_read(nh_pool *pool, nh_pool_figures *figures);

#endif
