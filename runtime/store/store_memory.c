/* store_memory.c — the store for a hub without a journal: the same life of a row, in memory.
 *
 * Any thread; one lock, never held while something is called back, and a thread that tells when a
 * delayed row comes due. What is called back is called in the caller's thread.
 */
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/fork.h"
#include "runtime/store/store_memory.h"

static const unsigned weights[NH_PRIORITIES] = {
    [NH_LOW] = 1, [NH_NORMAL] = 2, [NH_HIGH] = 4, [NH_URGENT] = 8};

nh_err nh_memory_refuse_child(nh_error *error) {
    return nh_fail(error, NH_E_CLOSED, "the store belongs to the process that opened it");
}

bool nh_memory_forked(const nh_memory *m) {
    return m->fork_generation != nh_fork_generation();
}

static void *timer_main(void *argument) {
    nh_memory *m = argument;
    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        uint64_t at = UINT64_MAX;
        if (m->heap_count > 0 && !m->quiet) {
            double wait = m->heap[1]->due - nh_wall(); /* the clock may be set: look every second */
            at = nh_after(nh_monotonic(), wait < 0 ? 0 : wait > 1 ? 1 : wait);
        }
        nh_cond_wait(&m->due, &m->lock, at);
        nh_memory_unlock(m);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---------------------------------------------------------------- messages */

/* What a batch had put in before it failed goes again, its keys with it. */
static void take_back(nh_memory *m, nh_store_batch *batch, size_t count) {
    for (size_t i = 0; i < count; i++) {
        nh_store_item *item = &batch->items[i];
        nh_memory_row *e = item->row ? nh_memory_find(m, item->row) : NULL;
        nh_memory_pair *p = item->key && !item->duplicate
                                ? nh_memory_find_pair(&m->keys, item->key, item->key_length)
                                : NULL;
        if (e)
            nh_memory_remove(m, e);
        if (p)
            p->expires_at = 0;
    }
}

static nh_err enqueue(nh_store *store, nh_store_batch *batch, nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    char why[128] = "out of memory";
    nh_err failed = nh_store_check_batch(batch, error);
    if (failed)
        return failed;
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    double now = nh_wall();
    uint64_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++)
        bytes += batch->items[i].length + batch->items[i].key_length + 2 * NH_MEMORY_OVERHEAD;
    pthread_mutex_lock(&m->lock);
    nh_memory_forget_keys(m, now);
    if (bytes > m->stats.most || m->stats.bytes > m->stats.most - bytes) {
        snprintf(why, sizeof why, "the store is full: %llu of %llu bytes",
                 (unsigned long long)m->stats.bytes, (unsigned long long)m->stats.most);
        failed = NH_E_JOURNAL;
    }
    for (size_t i = 0; i < batch->count && !failed; i++)
        if ((failed = nh_memory_put(m, &batch->items[i], now)))
            take_back(m, batch, i + 1);
    m->stats.commits += !failed;
    m->stats.refused += failed ? batch->count : 0;
    m->stats.full = failed == NH_E_JOURNAL;
    nh_memory_unlock(m);
    batch->done(batch, failed, failed ? why : NULL);
    return NH_OK;
}

/* The next row that may be leased, taken from where it waits; a reference for the caller. */
static nh_memory_row *next_row(nh_memory *m, double now, unsigned credits[NH_PRIORITIES]) {
    if (m->heap_count > 0 && m->heap[1]->due <= now) {
        nh_memory_row *e = m->heap[1];
        nh_memory_stop_waiting(m, e);
        return nh_memory_share(e);
    }
    for (int round = 0; round < 2; round++) {
        for (int priority = NH_URGENT; priority >= NH_LOW; priority--)
            if (nh_memory_waiting(m, priority) && credits[priority] > 0) {
                nh_memory_row *e = m->rings[priority].next;
                credits[priority]--;
                nh_memory_stop_waiting(m, e);
                return nh_memory_share(e);
            }
        memcpy(credits, weights, sizeof weights);
    }
    return NULL;
}

static void lease(nh_store *store, nh_store_lease *wish) {
    nh_memory *m = nh_memory_of(store);
    unsigned credits[NH_PRIORITIES];
    double now = nh_wall();
    size_t count = 0, bytes = 0;
    if (nh_memory_forked(m)) {
        wish->done(wish, 0, false, NH_E_CLOSED, "the store belongs to another process");
        return;
    }
    memcpy(credits, weights, sizeof weights);
    pthread_mutex_lock(&m->lock);
    nh_memory_row *e = NULL;
    while (count < wish->most && (count == 0 || bytes < wish->bytes) &&
           (e = next_row(m, now, credits))) {
        nh_store_row row = {.row = e->row,
                            .id = e->id,
                            .lane = e->lane,
                            .document = e->document,
                            .created_at = e->created_at,
                            .due = e->due,
                            .expires_at = e->expires_at,
                            .attempts = e->attempts,
                            .priority = e->priority};
        pthread_mutex_unlock(&m->lock);
        bool taken = wish->take(wish, &row);
        pthread_mutex_lock(&m->lock);
        bytes += e->length;
        count += taken;
        if (!taken && nh_memory_find(m, e->row) == e && !e->next && !e->place)
            nh_memory_link_before(e, m->rings[e->priority].next);
        nh_memory_drop(e);
        if (!taken)
            break;
    }
    bool more = nh_memory_ready(m);
    m->quiet = more;
    pthread_cond_signal(&m->due);
    nh_memory_unlock(m);
    wish->done(wish, count, more, NH_OK, NULL);
}

static nh_err ack(nh_store *store, const nh_row *rows, size_t count) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return NH_E_CLOSED;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < count; i++) {
        nh_memory_row *e = nh_memory_find(m, rows[i]);
        if (e)
            nh_memory_remove(m, e);
    }
    nh_memory_unlock(m);
    return NH_OK;
}

static nh_err nack(nh_store *store, nh_row row, const nh_store_nack *what) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return NH_E_CLOSED;
    double now = nh_wall();
    pthread_mutex_lock(&m->lock);
    nh_memory_row *e = nh_memory_find(m, row);
    if (e) {
        e->attempts = what->attempts;
        if (what->delay >= 0) {
            nh_memory_stop_waiting(m, e);
            nh_memory_wait_from(m, e, now + what->delay, now);
        }
    }
    nh_memory_unlock(m);
    return NH_OK;
}

/* ------------------------------------------------------------ any other */

static nh_err sync_all(nh_store *store, nh_error *error) {
    return nh_memory_forked(nh_memory_of(store)) ? nh_memory_refuse_child(error) : NH_OK;
}

static void find_oldest(const void *node, VISIT visit, void *closure) {
    const nh_memory_row *e = *(nh_memory_row *const *)node;
    double *oldest = closure;
    if ((visit == postorder || visit == leaf) && (*oldest <= 0 || e->created_at < *oldest))
        *oldest = e->created_at;
}

static void stats(nh_store *store, nh_store_stats *out) {
    nh_memory *m = nh_memory_of(store);
    *out = (nh_store_stats){0};
    if (nh_memory_forked(m))
        return;
    pthread_mutex_lock(&m->lock);
    *out = m->stats;
    twalk_r(m->rows, find_oldest, &out->oldest);
    pthread_mutex_unlock(&m->lock);
}

/* What is in memory does not outlive a crash, so there is nobody to count it. */
static void enter(nh_store *store, unsigned worker, nh_row row) {
    (void)store;
    (void)worker;
    (void)row;
}

static void leave(nh_store *store, unsigned worker) {
    (void)store;
    (void)worker;
}

/* -------------------------------------------------------------- life cycle */

static nh_store *open_memory(const nh_store_options *options, nh_error *error) {
    nh_memory *m = calloc(1, sizeof *m);
    sigset_t all, before;
    int failed;
    if (!m) {
        nh_fail_memory(error);
        return NULL;
    }
    m->store.ops = &nh_store_memory;
    m->fork_generation = nh_fork_generation();
    m->notify = options->notify;
    m->context = options->context;
    m->dead_most = options->dead_most ? options->dead_most : NH_STORE_DEAD_DEFAULT;
    m->stats.most = options->bytes ? options->bytes : NH_STORE_BYTES_DEFAULT;
    m->last_key = &m->first_key;
    for (int priority = 0; priority < NH_PRIORITIES; priority++)
        m->rings[priority].next = m->rings[priority].prev = &m->rings[priority];
    m->letters = calloc(m->dead_most, sizeof(nh_memory_row *));
    if (!m->letters || pthread_mutex_init(&m->lock, NULL) != 0) {
        nh_fail_memory(error);
        goto fail;
    }
    if (nh_cond_init(&m->due) != 0) {
        nh_fail_memory(error);
        goto fail_lock;
    }
    sigfillset(&all); /* a host's signals are the host's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&m->timer, NULL, timer_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        nh_error_set(error, NH_E_INTERNAL, "store thread: %s", strerror(failed));
        goto fail_due;
    }
    return &m->store;
fail_due:
    pthread_cond_destroy(&m->due);
fail_lock:
    pthread_mutex_destroy(&m->lock);
fail:
    free(m->letters);
    free(m);
    return NULL;
}

static void drop_node(void *node) {
    nh_memory_drop(node);
}

static nh_err close_memory(nh_store *store, nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    pthread_cond_signal(&m->due);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->timer, NULL);
    tdestroy(m->rows, drop_node);
    tdestroy(m->keys, free);
    tdestroy(m->values, free);
    for (size_t i = 0; i < m->stats.dead; i++)
        nh_memory_drop(m->letters[i]);
    pthread_cond_destroy(&m->due);
    pthread_mutex_destroy(&m->lock);
    free(m->letters);
    free(m->heap);
    free(m);
    return NH_OK;
}

const nh_store_ops nh_store_memory = {
    .name = "memory",
    .caps = 0,
    .open = open_memory,
    .close = close_memory,
    .enqueue = enqueue,
    .lease = lease,
    .ack = ack,
    .nack = nack,
    .dead = nh_memory_dead,
    .dead_list = nh_memory_dead_list,
    .dead_get = nh_memory_dead_get,
    .dead_retry = nh_memory_dead_retry,
    .dead_discard = nh_memory_dead_discard,
    .dedupe = nh_memory_dedupe,
    .set = nh_memory_set,
    .values = nh_memory_values,
    .sync = sync_all,
    .stats = stats,
    .enter = enter,
    .leave = leave,
};
