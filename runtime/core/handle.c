/* handle.c — states, waiters and the one settlement.
 *
 * Handles are many and small, so they carry no lock of their own: a fixed set of stripes, chosen by
 * address, guards the receipt and the watchers of each. A stripe's condition is broadcast only when
 * somebody waits on it. Lock order: stripe → inbox; batch → inbox; a stripe and a batch are never
 * held together.
 */
#include "runtime/core/handle.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "runtime/core/batch.h"
#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/fork.h"

enum { STRIPES = 64 };

typedef struct stripe {
    pthread_mutex_t lock;
    pthread_cond_t settled;
    unsigned waiting;
} stripe;

static stripe stripes[STRIPES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_stripes(void) {
    for (size_t i = 0; i < STRIPES; i++) {
        pthread_mutex_init(&stripes[i].lock, NULL);
        nh_cond_init(&stripes[i].settled);
    }
}

static stripe *stripe_of(const nh_handle *handle) {
    uintptr_t address = (uintptr_t)handle;
    return &stripes[((address >> 6) ^ (address >> 13)) % STRIPES];
}

/* Unsettled in a process that was forked off: nobody here will settle it, or give back a lock that
 * was held. */
static bool is_orphan(const nh_handle *handle) {
    return handle->fork_generation != nh_fork_generation() && nh_handle_state(handle) != NH_SETTLED;
}

/* -------------------------------------------------------------- life cycle */

nh_handle *nh_handle_create(nh_owner *owner, nh_message *message, nh_batch *batch, uint32_t index) {
    _Static_assert(sizeof(nh_handle) <= NH_MESSAGE_FRONT && NH_MESSAGE_FRONT % 8 == 0,
                   "a handle stands in front of its message");
    pthread_once(&once, make_stripes);
    nh_handle *handle = (nh_handle *)(void *)((char *)message - NH_MESSAGE_FRONT);
    memset(handle, 0, sizeof *handle);
    atomic_init(&handle->refs, 2);
    atomic_init(&handle->state, NH_QUEUED);
    handle->owner = owner;
    handle->fork_generation = owner->fork_generation;
    handle->batch = batch ? nh_batch_ref(batch) : NULL;
    handle->batch_index = index;
    return handle;
}

nh_handle *nh_handle_ref(nh_handle *handle) {
    atomic_fetch_add_explicit(&handle->refs, 1, memory_order_relaxed);
    return handle;
}

void nh_handle_unref(nh_handle *handle) {
    if (!handle || atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (nh_handle_is_parked(handle) && !is_orphan(handle))
        handle->owner->forget(handle->owner, handle);
    if (atomic_load_explicit(&handle->aside, memory_order_relaxed))
        nh_handle_unref(handle->first);
    nh_receipt_unref(handle->receipt);
    nh_message_unref(nh_message_of(handle)); /* the handle's own memory, too */
}

static void leave_batch(nh_handle *handle, bool settled, bool delivered) {
    nh_batch *batch = handle->batch;
    if (!batch)
        return;
    handle->batch = NULL;
    if (settled)
        nh_batch_settled(batch, handle->batch_index, delivered);
    nh_batch_unref(batch);
}

void nh_handle_discard(nh_handle *handle) {
    leave_batch(handle, false, false);
    nh_handle_unref(handle);
}

/* ---------------------------------------------------------------- settling */

bool nh_handle_settle(nh_handle *handle, nh_receipt *receipt, nh_err reason) {
    if (receipt)
        reason = NH_OK;
    else
        receipt = nh_receipt_for(nh_message_of(handle), reason);
    stripe *own = stripe_of(handle);
    nh_owner *owner = handle->owner;
    pthread_mutex_lock(&own->lock);
    bool first = atomic_load_explicit(&handle->state, memory_order_relaxed) != NH_SETTLED;
    nh_watcher *watcher = NULL;
    bool watched = false;
    nh_status status = receipt ? nh_receipt_status(receipt) : NH_FAILED;
    if (first) {
        owner->count(owner, handle, status);
        handle->receipt = receipt;
        atomic_store_explicit(&handle->state, NH_SETTLED, memory_order_release);
        watcher = handle->watchers;
        watched = watcher != NULL;
        handle->watchers = NULL;
        while (watcher) {
            nh_watcher *next = watcher->sibling;
            nh_watcher_post(watcher, NH_EVENT_COMPLETE);
            watcher = next;
        }
        if (own->waiting > 0)
            pthread_cond_broadcast(&own->settled);
    }
    pthread_mutex_unlock(&own->lock);
    if (!first) {
        nh_receipt_unref(receipt);
        return false;
    }
    leave_batch(handle, true, status == NH_DELIVERED);
    owner->settled(owner, handle, reason);
    if (watched)
        nh_handle_unref(handle);
    nh_handle_unref(handle);
    return true;
}

nh_receipt *nh_handle_make_receipt(nh_handle *handle, nh_status status, const nh_packed *packed) {
    return handle->batch ? nh_batch_make_receipt(handle->batch, status, packed)
                         : nh_receipt_create(status, packed, NULL);
}

nh_err nh_handle_deadline_reason(const nh_handle *handle) {
    const nh_message *message = nh_message_of(handle);
    const nh_times *times = nh_message_times(message);
    bool expires =
        times->expires_at > 0 &&
        (times->timeout < 0 || times->expires_at <= message->created_at + times->timeout);
    return expires ? NH_E_EXPIRED : NH_E_TIMEOUT;
}

void nh_handle_set_state(nh_handle *handle, nh_state state) {
    atomic_store_explicit(&handle->state, (uint8_t)state, memory_order_release);
}

/* --------------------------------------------------------------- accepting */

void nh_handle_begin_accepting(nh_handle *handle) {
    atomic_store_explicit(&handle->state, NH_ACCEPTING, memory_order_relaxed);
}

void nh_handle_accepted(nh_handle *handle) {
    stripe *own = stripe_of(handle);
    pthread_mutex_lock(&own->lock);
    bool watched = handle->watchers != NULL;
    for (nh_watcher **link = &handle->watchers; *link;) {
        nh_watcher *watcher = *link;
        if (watcher->wanted & NH_WATCH_ACCEPTANCE) {
            *link = watcher->sibling;
            nh_watcher_post(watcher, NH_EVENT_COMPLETE);
        } else {
            link = &watcher->sibling;
        }
    }
    watched = watched && !handle->watchers;
    if (own->waiting > 0)
        pthread_cond_broadcast(&own->settled);
    pthread_mutex_unlock(&own->lock);
    if (watched)
        nh_handle_unref(handle);
}

nh_err nh_handle_wait_accepted(nh_handle *handle, double seconds, nh_error *error) {
    stripe *own = stripe_of(handle);
    uint64_t due = nh_after(nh_monotonic(), seconds);
    bool late = false;
    if (is_orphan(handle))
        return nh_fail(error, NH_E_CLOSED,
                       "the hub belongs to the process that this one was forked from");
    pthread_mutex_lock(&own->lock);
    own->waiting++;
    while (nh_handle_state(handle) == NH_ACCEPTING && !late)
        late = seconds == 0 || nh_cond_wait(&own->settled, &own->lock, due) == ETIMEDOUT;
    own->waiting--;
    bool accepting = nh_handle_state(handle) == NH_ACCEPTING;
    pthread_mutex_unlock(&own->lock);
    if (accepting)
        return nh_fail(error, NH_E_TIMEOUT, "message %s is not in the journal after %g s",
                       nh_message_id(nh_message_of(handle)), seconds);
    nh_err reason = atomic_load_explicit(&handle->aside, memory_order_acquire);
    if (!reason)
        return NH_OK;
    /* It has settled, and its receipt says why. */
    size_t length;
    nh_doc *receipt = handle->receipt ? nh_receipt_doc(handle->receipt) : NULL;
    const char *why = nh_value_bytes(nh_value_get(nh_doc_root(receipt), "error"), &length);
    nh_fail(error, reason, "%.*s", (int)length, why ? why : "");
    nh_doc_unref(receipt);
    return reason;
}

nh_handle *nh_handle_first(nh_handle *handle) {
    return atomic_load_explicit(&handle->aside, memory_order_acquire) && handle->first
               ? nh_handle_ref(handle->first)
               : NULL;
}

void nh_handle_settle_aside(nh_handle *handle, nh_err reason, const char *text, nh_handle *first) {
    handle->first = first;
    atomic_store_explicit(&handle->aside, (uint8_t)reason, memory_order_release);
    nh_handle_settle(handle, nh_receipt_saying(nh_message_of(handle), reason, text), reason);
}

/* ----------------------------------------------------------------- parking */

bool nh_handle_is_parked(const nh_handle *handle) {
    return atomic_load_explicit(&handle->state, memory_order_relaxed) & NH_PARKED;
}

nh_batch *nh_handle_park(nh_handle *handle) {
    stripe *own = stripe_of(handle);
    pthread_mutex_lock(&own->lock);
    nh_batch *batch = handle->batch;
    atomic_fetch_or_explicit(&handle->state, NH_PARKED, memory_order_relaxed);
    pthread_mutex_unlock(&own->lock);
    return batch;
}

bool nh_handle_unpark(nh_handle *handle) {
    unsigned refs = atomic_load_explicit(&handle->refs, memory_order_relaxed);
    do {
        if (refs == 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&handle->refs, &refs, refs + 1,
                                                    memory_order_acq_rel, memory_order_relaxed));
    stripe *own = stripe_of(handle);
    pthread_mutex_lock(&own->lock);
    atomic_fetch_and_explicit(&handle->state, (uint8_t)~NH_PARKED, memory_order_relaxed);
    if (handle->batch && !nh_batch_revive(handle->batch))
        handle->batch = NULL;
    pthread_mutex_unlock(&own->lock);
    return true;
}

void nh_handle_leave_parked_batch(nh_handle *handle) {
    stripe *own = stripe_of(handle);
    pthread_mutex_lock(&own->lock);
    if (nh_handle_is_parked(handle))
        handle->batch = NULL;
    pthread_mutex_unlock(&own->lock);
}

/* ----------------------------------------------------------------- telling */

void nh_handle_tell(nh_handle *handle, nh_event_kind kind) {
    stripe *own = stripe_of(handle);
    pthread_mutex_lock(&own->lock);
    for (nh_watcher *watcher = handle->watchers; watcher; watcher = watcher->sibling)
        nh_watcher_post(watcher, kind);
    pthread_mutex_unlock(&own->lock);
}

/* ----------------------------------------------------------------- looking */

const char *nh_handle_id(const nh_handle *handle) {
    return nh_message_id(nh_message_of(handle));
}

nh_state nh_handle_state(const nh_handle *handle) {
    return (nh_state)(atomic_load_explicit(&handle->state, memory_order_acquire) & ~NH_PARKED);
}

void nh_handle_progress(const nh_handle *handle, uint32_t *done, uint32_t *total) {
    *done = atomic_load_explicit(&handle->done, memory_order_relaxed);
    *total = atomic_load_explicit(&handle->total, memory_order_relaxed);
}

uint32_t nh_handle_retries(const nh_handle *handle) {
    return atomic_load_explicit(&handle->retries, memory_order_relaxed);
}

/* The receipt is written before the state and never again. It is NULL only if memory ran out while
 * settling. */
static nh_receipt *settled_receipt(const nh_handle *handle) {
    return nh_handle_state(handle) == NH_SETTLED ? handle->receipt : NULL;
}

nh_receipt *nh_handle_receipt(nh_handle *handle) {
    nh_receipt *receipt = settled_receipt(handle);
    return receipt ? nh_receipt_ref(receipt) : NULL;
}

bool nh_handle_read(const nh_handle *handle, nh_reader *reader) {
    const nh_receipt *receipt = settled_receipt(handle);
    if (receipt)
        *reader = nh_receipt_read(receipt);
    return receipt != NULL;
}

nh_receipt *nh_handle_wait(nh_handle *handle, double seconds, nh_error *error) {
    stripe *own = stripe_of(handle);
    uint64_t due = nh_after(nh_monotonic(), seconds);
    bool late = false;
    if (is_orphan(handle)) {
        nh_fail(error, NH_E_CLOSED, "the hub belongs to the process that this one was forked from");
        return NULL;
    }
    pthread_mutex_lock(&own->lock);
    own->waiting++;
    while (nh_handle_state(handle) != NH_SETTLED && !late)
        late = seconds == 0 || nh_cond_wait(&own->settled, &own->lock, due) == ETIMEDOUT;
    own->waiting--;
    bool settled = nh_handle_state(handle) == NH_SETTLED;
    pthread_mutex_unlock(&own->lock);
    if (settled && handle->receipt)
        return nh_receipt_ref(handle->receipt);
    if (settled)
        nh_fail_memory(error);
    else
        nh_fail(error, NH_E_TIMEOUT, "message %s has not ended after %g s",
                nh_message_id(nh_message_of(handle)), seconds);
    return NULL;
}

/* ---------------------------------------------------------------- watching */

nh_err nh_inbox_watch_handle(nh_inbox *inbox, nh_handle *handle, uint64_t tag) {
    return nh_inbox_watch_handle_for(inbox, handle, tag, NH_EVENTS_ALL);
}

nh_err nh_inbox_watch_handle_for(nh_inbox *inbox, nh_handle *handle, uint64_t tag, unsigned kinds) {
    nh_watcher *watcher = nh_watcher_create(inbox, tag, kinds);
    if (!watcher)
        return NH_E_INTERNAL;
    stripe *own = stripe_of(handle);
    pthread_mutex_lock(&own->lock);
    nh_state state = nh_handle_state(handle);
    if (state == NH_SETTLED || ((kinds & NH_WATCH_ACCEPTANCE) && state != NH_ACCEPTING)) {
        nh_watcher_post(watcher, NH_EVENT_COMPLETE);
    } else {
        if (!handle->watchers)
            nh_handle_ref(handle);
        watcher->sibling = handle->watchers;
        handle->watchers = watcher;
    }
    pthread_mutex_unlock(&own->lock);
    return NH_OK;
}

nh_err nh_inbox_watch_accepted(nh_inbox *inbox, nh_handle *handle, uint64_t tag) {
    return nh_inbox_watch_handle_for(inbox, handle, tag, NH_WATCH_ACCEPTANCE);
}

/* --------------------------------------------------------------- cancelling */

bool nh_handle_cancel(nh_handle *handle) {
    if (is_orphan(handle))
        return false;
    if (atomic_exchange_explicit(&handle->cancelled, true, memory_order_acq_rel))
        return false;
    stripe *own = stripe_of(handle);
    nh_owner *owner = NULL;
    pthread_mutex_lock(&own->lock);
    if (nh_handle_state(handle) != NH_SETTLED) {
        /* Unsettled under this lock: the owner cannot have closed yet. */
        owner = handle->owner;
        owner->hold(owner);
    }
    pthread_mutex_unlock(&own->lock);
    if (!owner)
        return false;
    owner->cancel(owner, handle);
    owner->drop(owner);
    return true;
}

nh_doc *nh_handle_message(const nh_handle *handle) {
    const nh_message *message = nh_message_of(handle);
    return nh_doc_from_bytes(message->bytes, message->length, NULL);
}
