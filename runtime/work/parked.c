/* parked.c — a hash table from row to handle: open addressing, linear probing, at most half full.
 *
 * A place costs 16 bytes, and only messages whose handle somebody holds have one. The table shrinks
 * when an eighth of it is used. A handle leaves by its row being leased, by being cancelled, by the
 * hub's closing, or because its last reference went; all that happens under the one lock, which is
 * how a lease and the last unref agree on who was first.
 *
 * A cancelled row's ack may be handed in while a lease is being served that gives this very row
 * out. So a handle that is cancelled during a lease keeps its place, with a reference, until that
 * has ended; any later lease knows of the ack, which is handed in under the same lock. It needs no
 * memory, so a cancel cannot fail. Lock order: this one → stripe (of a handle); this one → the
 * store's.
 */
#include "runtime/work/parked.h"

#include <pthread.h>
#include <stdlib.h>

enum { SIZE_LEAST = 64 };

struct nh_parked {
    pthread_mutex_t lock;
    pthread_cond_t emptied;
    nh_handle **places; /* `size` of them, a power of two; NULL is free */
    size_t size, count, reserved;
    size_t sweep; /* where take_any goes on */
    bool leasing;
    nh_handle *cancelled;   /* during this lease, each with a reference; linked by mail_next */
    size_t cancelled_count; /* of `count` */
};

static size_t home_of(const nh_parked *table, nh_row row) {
    return (size_t)((row * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (table->size - 1);
}

static void insert(nh_parked *table, nh_handle *handle) {
    size_t at = home_of(table, handle->row);
    while (table->places[at])
        at = (at + 1) & (table->size - 1);
    table->places[at] = handle;
}

/* The place of a row; `size` when it has none. */
static size_t find(const nh_parked *table, nh_row row) {
    size_t at = home_of(table, row);
    for (; table->places[at]; at = (at + 1) & (table->size - 1))
        if (table->places[at]->row == row)
            return at;
    return table->size;
}

static bool resize(nh_parked *table, size_t size) {
    nh_handle **places = calloc(size, sizeof *places), **old = table->places;
    size_t old_size = table->size;
    if (!places)
        return false;
    table->places = places;
    table->size = size;
    for (size_t i = 0; i < old_size; i++)
        if (old[i])
            insert(table, old[i]);
    free(old);
    return true;
}

/* Frees a place, and moves back those that had passed it on their way from home. */
static void clear(nh_parked *table, size_t hole) {
    size_t mask = table->size - 1;
    for (size_t at = (hole + 1) & mask; table->places[at]; at = (at + 1) & mask) {
        size_t home = home_of(table, table->places[at]->row);
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->places[hole] = table->places[at];
            hole = at;
        }
    }
    table->places[hole] = NULL;
    table->count--;
    if (table->size > SIZE_LEAST && (table->count + table->reserved) * 8 < table->size)
        resize(table, table->size / 2); /* without memory it stays as it is */
    if (table->count == table->cancelled_count)
        pthread_cond_broadcast(&table->emptied);
}

nh_parked *nh_parked_create(void) {
    nh_parked *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    table->size = SIZE_LEAST;
    table->places = calloc(table->size, sizeof *table->places);
    if (!table->places || pthread_mutex_init(&table->lock, NULL) != 0)
        goto fail;
    if (pthread_cond_init(&table->emptied, NULL) != 0)
        goto fail_lock;
    return table;
fail_lock:
    pthread_mutex_destroy(&table->lock);
fail:
    free(table->places);
    free(table);
    return NULL;
}

void nh_parked_destroy(nh_parked *table) {
    if (!table)
        return;
    pthread_cond_destroy(&table->emptied);
    pthread_mutex_destroy(&table->lock);
    free(table->places);
    free(table);
}

bool nh_parked_reserve(nh_parked *table, size_t count) {
    bool room = true;
    pthread_mutex_lock(&table->lock);
    size_t size = table->size;
    while (size < 2 * (table->count + table->reserved + count))
        size *= 2;
    if (size > table->size)
        room = resize(table, size);
    if (room)
        table->reserved += count;
    pthread_mutex_unlock(&table->lock);
    return room;
}

void nh_parked_give_back(nh_parked *table, size_t count) {
    pthread_mutex_lock(&table->lock);
    table->reserved -= count;
    pthread_mutex_unlock(&table->lock);
}

void nh_parked_put(nh_parked *table, nh_handle *handle) {
    pthread_mutex_lock(&table->lock);
    table->reserved--;
    table->count++;
    insert(table, handle);
    nh_batch *batch = nh_handle_park(handle);
    pthread_mutex_unlock(&table->lock);
    nh_batch_unref(batch);
    nh_handle_unref(handle);
}

/* Lock held. The handle at a place, with its own reference; NULL when it is being forgotten, or was
 * cancelled. It keeps its place. */
static nh_handle *unpark(nh_parked *table, size_t at) {
    nh_handle *handle = table->places[at];
    return nh_handle_is_parked(handle) && nh_handle_unpark(handle) ? handle : NULL;
}

static nh_handle *take(nh_parked *table, size_t at) {
    nh_handle *handle = unpark(table, at);
    if (handle)
        clear(table, at);
    return handle;
}

nh_parked_found nh_parked_take(nh_parked *table, nh_row row, nh_handle **handle) {
    nh_parked_found found = NH_PARKED_NONE;
    *handle = NULL;
    pthread_mutex_lock(&table->lock);
    size_t at = find(table, row);
    if (at < table->size && !nh_handle_is_parked(table->places[at]))
        found = NH_PARKED_CANCELLED;
    else if (at < table->size && (*handle = take(table, at)))
        found = NH_PARKED_HANDLE;
    pthread_mutex_unlock(&table->lock);
    return found;
}

/* Lock held. NULL: those that are left are on their way out. */
static nh_handle *take_next(nh_parked *table) {
    for (size_t i = 0; i < table->size; i++) {
        size_t at = table->sweep & (table->size - 1);
        nh_handle *handle = table->places[at] ? take(table, at) : NULL;
        if (handle)
            return handle; /* another one may have moved here */
        table->sweep++;
    }
    return NULL;
}

nh_handle *nh_parked_take_any(nh_parked *table) {
    pthread_mutex_lock(&table->lock);
    nh_handle *handle = take_next(table);
    while (!handle && table->count > table->cancelled_count)
        pthread_cond_wait(&table->emptied, &table->lock);
    pthread_mutex_unlock(&table->lock);
    return handle;
}

/* Lock held. It has its own reference back; what is kept here is another one. */
static void leave_cancelled(nh_parked *table, size_t at) {
    nh_handle *handle = nh_handle_ref(table->places[at]);
    handle->mail_next = table->cancelled; /* no worker has had it */
    table->cancelled = handle;
    table->cancelled_count++;
}

bool nh_parked_cancel(nh_parked *table, nh_handle *handle, nh_store *store) {
    bool taken = false;
    pthread_mutex_lock(&table->lock);
    size_t at = handle->row ? find(table, handle->row) : table->size;
    if (at < table->size && table->places[at] == handle)
        taken = unpark(table, at) != NULL;
    if (taken) {
        /* With its ack on the way its row is left alone from here on. */
        bool acked = store->ops->ack(store, &handle->row, 1) == NH_OK;
        atomic_store_explicit(&handle->stays, acked, memory_order_relaxed);
        if (table->leasing)
            leave_cancelled(table, at);
        else
            clear(table, at);
    }
    pthread_mutex_unlock(&table->lock);
    return taken;
}

void nh_parked_forget(nh_parked *table, nh_handle *handle) {
    pthread_mutex_lock(&table->lock);
    clear(table, find(table, handle->row));
    pthread_mutex_unlock(&table->lock);
}

void nh_parked_begin_lease(nh_parked *table) {
    pthread_mutex_lock(&table->lock);
    table->leasing = true;
    pthread_mutex_unlock(&table->lock);
}

void nh_parked_end_lease(nh_parked *table) {
    pthread_mutex_lock(&table->lock);
    nh_handle *cancelled = table->cancelled;
    table->leasing = false;
    table->cancelled = NULL;
    for (nh_handle *each = cancelled; each; each = each->mail_next) {
        table->cancelled_count--;
        clear(table, find(table, each->row));
    }
    pthread_mutex_unlock(&table->lock);
    while (cancelled) {
        nh_handle *next = cancelled->mail_next;
        nh_handle_unref(cancelled);
        cancelled = next;
    }
}

size_t nh_parked_count(nh_parked *table) {
    pthread_mutex_lock(&table->lock);
    size_t count = table->count - table->cancelled_count;
    pthread_mutex_unlock(&table->lock);
    return count;
}
