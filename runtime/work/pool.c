/* pool.c — how many workers there are, and what has to happen at a time.
 *
 * The control thread sleeps until the queue's next deadline or deliver_at, or until somebody is to
 * be let go in a lane that was shut, and while there is a backlog or a worker too many it looks
 * every TICK. A backlog that stands at two looks in a row gets one more worker, up to max; a worker
 * beyond min that had nothing to do for `idle` seconds is let go. A backlog means messages that no
 * worker has taken: a worker takes few at a time, so it is the sign of workers that are busy or
 * full, not of messages that wait for a slow platform.
 *
 * The places of the workers are made once, so anybody may offer to any of them at any time; only
 * the control thread starts, stops and joins. Lock order: pool → worker.
 */
#include "runtime/work/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

enum { EXPIRED_AT_ONCE = 256 };
static const double TICK = 0.010, SLOW_TICK = 0.250;

struct nh_pool {
    nh_work *work;
    nh_pool_options options;
    nh_worker *workers[NH_WORKERS_MOST];
    pthread_t control;
    pthread_mutex_t lock;
    pthread_cond_t poke;
    bool poked, stopping;  /* under the lock */
    atomic_bool pressure;  /* messages were left behind since the control thread last looked */
    _Atomic uint64_t next; /* when the control thread wants to wake for the queue */
    _Atomic size_t running;
    _Atomic uint64_t grown, shrunk;
    bool backlog; /* the control thread's: there was one at the last look */
};

static void poke(nh_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->poked = true;
    pthread_cond_signal(&pool->poke);
    pthread_mutex_unlock(&pool->lock);
}

/* Wakes up to `count` sleeping workers, the first places first, so that the last ones become idle
 * and can go. False when there was none. */
static bool offer(nh_pool *pool, size_t count) {
    size_t left = count;
    for (size_t i = 0; i < pool->options.max && left > 0; i++)
        left -= nh_worker_offer(pool->workers[i]);
    return left < count;
}

/* Has the control thread look whether another worker is needed. */
static void press(nh_pool *pool) {
    if (!atomic_exchange_explicit(&pool->pressure, true, memory_order_acq_rel))
        poke(pool);
}

/* nh_work's callback. */
static void more(nh_work *work) {
    offer(work->pool, 1);
    press(work->pool);
}

/* Whether one that could take a message has all that it may have, and may have company. */
static bool is_full(nh_pool *pool) {
    if (atomic_load_explicit(&pool->running, memory_order_relaxed) == pool->options.max)
        return false;
    for (size_t i = 0; i < pool->options.max; i++)
        if (nh_worker_full(pool->workers[i]))
            return true;
    return false;
}

void nh_pool_pushed(nh_pool *pool, size_t ready, uint64_t earliest) {
    if (earliest < atomic_load_explicit(&pool->next, memory_order_relaxed))
        poke(pool);
    if (!offer(pool, ready < 2 ? ready : 2) && is_full(pool))
        press(pool); /* who is full sleeps, and would leave it alone until one of its own ends */
}

void nh_pool_renew(nh_pool *pool) {
    for (size_t i = 0; i < pool->options.max; i++)
        nh_worker_wake(pool->workers[i]);
}

/* ----------------------------------------------------------- control thread */

/* Ends what is overdue and releases what is due; returns when to look again. */
static uint64_t tick_queue(nh_pool *pool) {
    nh_handle *expired[EXPIRED_AT_ONCE];
    uint64_t next;
    size_t count;
    /* Who pushes from here on pokes, whatever its time: `next` is of before that push. */
    atomic_store_explicit(&pool->next, UINT64_MAX, memory_order_relaxed);
    do {
        bool ready;
        count = nh_queue_tick(pool->work->queue, nh_monotonic(), expired, EXPIRED_AT_ONCE, &next,
                              &ready);
        for (size_t i = 0; i < count; i++)
            nh_handle_settle(expired[i], NULL, nh_handle_deadline_reason(expired[i]));
        if (ready)
            offer(pool, pool->options.max);
    } while (count == EXPIRED_AT_ONCE);
    atomic_store_explicit(&pool->next, next, memory_order_relaxed);
    return next;
}

/* A lane's time comes sooner than the control thread knows. */
static void lane_alarm(void *user) {
    poke(user);
}

static uint64_t tick_lanes(nh_pool *pool) {
    nh_lanes *lanes = pool->work->gate.lanes;
    return lanes ? nh_lanes_tick(lanes, nh_monotonic()) : UINT64_MAX;
}

static void grow(nh_pool *pool) {
    size_t running = atomic_load_explicit(&pool->running, memory_order_relaxed);
    bool backlog = nh_queue_ready(pool->work->queue) > 0;
    bool lasting = backlog && pool->backlog;
    pool->backlog = backlog;
    if (backlog)
        offer(pool,
              1); /* to one that was passed over, or whose turn went to a worker about to end */
    if (!lasting || running == pool->options.max)
        return;
    for (size_t i = 0; i < pool->options.max; i++)
        if (!nh_worker_running(pool->workers[i])) {
            /* A failure (memory, threads) leaves the pool as it is; the next look tries again. */
            if (nh_worker_start(pool->workers[i], NULL) == NH_OK) {
                atomic_fetch_add_explicit(&pool->running, 1, memory_order_relaxed);
                atomic_fetch_add_explicit(&pool->grown, 1, memory_order_relaxed);
            }
            return;
        }
}

/* Lets one idle worker go a look, the last places first. */
static void shrink(nh_pool *pool) {
    uint64_t now = nh_monotonic();
    for (size_t i = pool->options.max; i-- > 0;) {
        nh_worker *worker = pool->workers[i];
        if (nh_worker_running(worker) && nh_worker_ended(worker)) {
            nh_worker_join(worker);
            atomic_fetch_sub_explicit(&pool->running, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&pool->shrunk, 1, memory_order_relaxed);
        }
    }
    if (atomic_load_explicit(&pool->running, memory_order_relaxed) <= pool->options.min)
        return;
    for (size_t i = pool->options.max; i-- > 0;) {
        uint64_t since = nh_worker_idle_since(pool->workers[i]);
        if (nh_worker_running(pool->workers[i]) && since != UINT64_MAX && now > since &&
            now - since > (uint64_t)(pool->options.idle * (double)NH_SECOND)) {
            nh_worker_stop(pool->workers[i], false);
            return;
        }
    }
}

static void *control_main(void *argument) {
    nh_pool *pool = argument;
    for (;;) {
        uint64_t until = tick_queue(pool), lanes = tick_lanes(pool);
        until = lanes < until ? lanes : until;
        grow(pool);
        shrink(pool);
        bool active = nh_queue_ready(pool->work->queue) > 0;
        bool extra = atomic_load_explicit(&pool->running, memory_order_relaxed) > pool->options.min;
        if (!active)
            atomic_store_explicit(&pool->pressure, false, memory_order_release);
        if (active || extra) {
            uint64_t tick = nh_after(nh_monotonic(), active ? TICK : SLOW_TICK);
            until = tick < until ? tick : until;
        }
        pthread_mutex_lock(&pool->lock);
        while (!pool->poked && !pool->stopping &&
               nh_cond_wait(&pool->poke, &pool->lock, until) != ETIMEDOUT)
            ;
        pool->poked = false;
        bool stopping = pool->stopping;
        pthread_mutex_unlock(&pool->lock);
        if (stopping)
            return NULL;
    }
}

/* -------------------------------------------------------------- life cycle */

static int spawn_control(nh_pool *pool) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&pool->control, NULL, control_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static size_t stop_workers(nh_pool *pool) {
    size_t closed = 0;
    for (size_t i = 0; i < pool->options.max; i++)
        if (pool->workers[i] && nh_worker_running(pool->workers[i]))
            nh_worker_stop(pool->workers[i], true);
    for (size_t i = 0; i < pool->options.max; i++)
        if (pool->workers[i] && nh_worker_running(pool->workers[i]))
            closed += nh_worker_join(pool->workers[i]);
    atomic_store(&pool->running, 0);
    return closed;
}

nh_pool *nh_pool_create(nh_work *work, const nh_pool_options *options, nh_error *error) {
    nh_pool *pool = calloc(1, sizeof *pool);
    if (!pool || pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        nh_fail_memory(error);
        return NULL;
    }
    pool->work = work;
    pool->options = *options;
    atomic_init(&pool->next, UINT64_MAX);
    work->more = more;
    work->pool = pool;
    nh_cond_init(&pool->poke);
    if (work->gate.lanes)
        nh_lanes_watch(work->gate.lanes, lane_alarm, pool);
    for (size_t i = 0; i < options->max; i++)
        if (!(pool->workers[i] = nh_worker_create(work, (unsigned)i, error)))
            goto fail;
    for (size_t i = 0; i < options->start; i++) {
        if (nh_worker_start(pool->workers[i], error) != NH_OK)
            goto fail;
        atomic_fetch_add(&pool->running, 1);
    }
    int failed = spawn_control(pool);
    if (failed) {
        nh_fail(error, NH_E_INTERNAL, "control thread: %s", strerror(failed));
        goto fail;
    }
    return pool;
fail:
    stop_workers(pool);
    nh_pool_destroy(pool);
    return NULL;
}

size_t nh_pool_stop(nh_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_signal(&pool->poke);
    pthread_mutex_unlock(&pool->lock);
    pthread_join(pool->control, NULL);
    return stop_workers(pool);
}

void nh_pool_destroy(nh_pool *pool) {
    if (!pool)
        return;
    for (size_t i = 0; i < pool->options.max; i++)
        nh_worker_destroy(pool->workers[i]);
    pthread_cond_destroy(&pool->poke);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void nh_pool_read(nh_pool *pool, nh_pool_figures *figures) {
    *figures = (nh_pool_figures){
        .workers = atomic_load_explicit(&pool->running, memory_order_relaxed),
        .grown = atomic_load_explicit(&pool->grown, memory_order_relaxed),
        .shrunk = atomic_load_explicit(&pool->shrunk, memory_order_relaxed),
    };
    for (size_t i = 0; i < pool->options.max; i++) {
        figures->in_flight += nh_worker_in_flight(pool->workers[i]);
        figures->asleep += nh_worker_asleep(pool->workers[i]);
        figures->memory += nh_worker_memory(pool->workers[i]);
    }
}
