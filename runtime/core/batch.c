/* batch.c — counts its handles as they settle and remembers in which order.
 *
 * Those who wait are woken when what the first of them waits for is true, not at each settlement.
 * `order` is written once a place, under the lock, and is never longer than the batch: a reader
 * that comes late or reads twice sees the same sequence. A batch holds its handles; each holds the
 * batch until it settles, so the ring opens by itself. So it keeps all their receipts, too, which
 * therefore share memory as its messages do (arena.c).
 */
#include "runtime/core/batch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "runtime/core/fork.h"
#include "runtime/core/id.h"

struct nh_batch {
    atomic_uint refs;
    char id[NH_ID_LENGTH + 1];
    unsigned fork_generation; /* of the process whose threads settle it */
    size_t count;
    nh_handle **handles; /* constant once the batch is seen by others */
    pthread_mutex_t lock;
    pthread_cond_t grown;
    /* Under the lock. */
    uint32_t *order; /* order[0…settled): indexes as they settled */
    size_t settled, failed;
    size_t wanted; /* the least of what those who wait wait for; SIZE_MAX: nobody does */
    nh_watcher *watchers;
    bool watched; /* the watchers have a reference */
    nh_arena receipts;
    nh_pages *pages; /* counted: the arena's */
};

nh_batch *nh_batch_create(size_t count, nh_pages *pages) {
    nh_batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    atomic_init(&batch->refs, 1);
    nh_id_make(batch->id);
    batch->fork_generation = nh_fork_generation();
    batch->count = count;
    batch->wanted = SIZE_MAX;
    batch->handles = calloc(count, sizeof *batch->handles);
    batch->order = calloc(count, sizeof *batch->order);
    if (!batch->handles || !batch->order)
        goto fail;
    if (pthread_mutex_init(&batch->lock, NULL) != 0)
        goto fail;
    if (nh_cond_init(&batch->grown) != 0)
        goto fail_lock;
    batch->pages = pages ? nh_pages_ref(pages) : NULL;
    nh_arena_init(&batch->receipts, pages, count);
    return batch;
fail_lock:
    pthread_mutex_destroy(&batch->lock);
fail:
    free(batch->order);
    free(batch->handles);
    free(batch);
    return NULL;
}

nh_batch *nh_batch_ref(nh_batch *batch) {
    atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    return batch;
}

bool nh_batch_revive(nh_batch *batch) {
    unsigned refs = atomic_load_explicit(&batch->refs, memory_order_relaxed);
    while (refs > 0)
        if (atomic_compare_exchange_weak_explicit(&batch->refs, &refs, refs + 1,
                                                  memory_order_acq_rel, memory_order_relaxed))
            return true;
    return false;
}

void nh_batch_unref(nh_batch *batch) {
    if (!batch || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < batch->count; i++) {
        if (!batch->handles[i])
            continue; /* it was never filled */
        nh_handle_leave_parked_batch(batch->handles[i]);
        nh_handle_unref(batch->handles[i]);
    }
    nh_arena_term(&batch->receipts);
    nh_pages_unref(batch->pages);
    pthread_cond_destroy(&batch->grown);
    pthread_mutex_destroy(&batch->lock);
    free(batch->order);
    free(batch->handles);
    free(batch);
}

nh_handle **nh_batch_handles(nh_batch *batch) {
    return batch->handles;
}

nh_receipt *nh_batch_make_receipt(nh_batch *batch, nh_status status, const nh_packed *packed) {
    if (!batch->pages)
        return nh_receipt_create(status, packed, NULL);
    pthread_mutex_lock(&batch->lock);
    nh_receipt *receipt = nh_receipt_create(status, packed, &batch->receipts);
    pthread_mutex_unlock(&batch->lock);
    return receipt;
}

void nh_batch_settled(nh_batch *batch, uint32_t index, bool delivered) {
    pthread_mutex_lock(&batch->lock);
    batch->order[batch->settled++] = index;
    batch->failed += !delivered;
    bool complete = batch->settled == batch->count;
    nh_watcher *watcher = batch->watchers;
    bool watched = complete && batch->watched;
    if (complete) {
        batch->watchers = NULL;
        batch->watched = false;
    }
    while (watcher) {
        nh_watcher *next = watcher->sibling;
        nh_watcher_post(watcher, NH_EVENT_PROGRESS);
        if (complete)
            nh_watcher_post(watcher, NH_EVENT_COMPLETE);
        watcher = next;
    }
    if (batch->settled >= batch->wanted) {
        batch->wanted = SIZE_MAX; /* who goes on waiting says so again */
        pthread_cond_broadcast(&batch->grown);
    }
    pthread_mutex_unlock(&batch->lock);
    if (watched)
        nh_batch_unref(batch);
}

const char *nh_batch_id(const nh_batch *batch) {
    return batch->id;
}

size_t nh_batch_count(const nh_batch *batch) {
    return batch->count;
}

nh_handle *nh_batch_handle(nh_batch *batch, size_t index) {
    return index < batch->count ? batch->handles[index] : NULL;
}

void nh_batch_progress(const nh_batch *batch, size_t *settled, size_t *failed) {
    nh_batch *own = (nh_batch *)batch;
    pthread_mutex_lock(&own->lock);
    *settled = own->settled;
    *failed = own->failed;
    pthread_mutex_unlock(&own->lock);
}

/* Waits until `wanted` have settled. */
static nh_err wait_for(nh_batch *batch, size_t wanted, double seconds, size_t *index) {
    if (batch->fork_generation != nh_fork_generation())
        return NH_E_CLOSED; /* nobody is here who would settle, or give its lock back */
    uint64_t due = nh_after(nh_monotonic(), seconds);
    bool late = false;
    pthread_mutex_lock(&batch->lock);
    while (batch->settled < wanted && !late) {
        if (seconds != 0 && wanted < batch->wanted)
            batch->wanted = wanted;
        late = seconds == 0 || nh_cond_wait(&batch->grown, &batch->lock, due) == ETIMEDOUT;
    }
    bool there = batch->settled >= wanted;
    if (there && index)
        *index = batch->order[wanted - 1];
    pthread_mutex_unlock(&batch->lock);
    return there ? NH_OK : NH_E_TIMEOUT;
}

nh_err nh_batch_next(nh_batch *batch, size_t nth, double seconds, size_t *index) {
    return nth < batch->count ? wait_for(batch, nth + 1, seconds, index) : NH_E_INVALID;
}

size_t nh_batch_order(nh_batch *batch, size_t from, size_t *indexes, size_t most) {
    size_t settled, failed;
    if (batch->fork_generation != nh_fork_generation())
        return 0;
    nh_batch_progress(batch, &settled, &failed);
    size_t left = from < settled ? settled - from : 0, count = left < most ? left : most;
    for (size_t i = 0; i < count; i++)
        indexes[i] = batch->order[from + i]; /* settled, and so for ever */
    return count;
}

nh_err nh_batch_wait(nh_batch *batch, double seconds) {
    return wait_for(batch, batch->count, seconds, NULL);
}

size_t nh_batch_cancel(nh_batch *batch) {
    size_t cancelled = 0;
    for (size_t i = 0; i < batch->count; i++)
        cancelled += nh_handle_cancel(batch->handles[i]);
    return cancelled;
}

nh_err nh_inbox_watch_batch(nh_inbox *inbox, nh_batch *batch, uint64_t tag) {
    return nh_inbox_watch_batch_for(inbox, batch, tag, NH_EVENTS_ALL);
}

nh_err nh_inbox_watch_batch_for(nh_inbox *inbox, nh_batch *batch, uint64_t tag, unsigned kinds) {
    nh_watcher *watcher = nh_watcher_create(inbox, tag, kinds);
    if (!watcher)
        return NH_E_INTERNAL;
    pthread_mutex_lock(&batch->lock);
    if (batch->settled == batch->count) {
        nh_watcher_post(watcher, NH_EVENT_COMPLETE);
    } else {
        watcher->sibling = batch->watchers;
        batch->watchers = watcher;
        if (!batch->watched) {
            batch->watched = true;
            nh_batch_ref(batch);
        }
    }
    pthread_mutex_unlock(&batch->lock);
    return NH_OK;
}
