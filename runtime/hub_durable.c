/* hub_durable.c — messages on their way into the journal.
 *
 * A sender hands its messages to the store and waits, or does not; the store's thread says what
 * came of them. Then those that were leased as they were written go to the workers, and the others
 * are parked: they wait in the journal, and are leased when their turn comes. Only as many ask to
 * be leased at once as the window has room for.
 *
 * What is being written is bounded as a queue without a journal is (queue.capacity, queue.bytes),
 * except that one batch may be larger than all of it: its sender waits, and that is the bound.
 *
 * Thread: any sender's; `written` and below, the store's.
 */
#include "runtime/hub_parts.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"

/* The key of a message that has one. */
typedef struct key {
    nh_doc *doc; /* keeps the key */
    char first[NH_ID_MAX + 1];
} key;

typedef struct admission {
    nh_store_batch batch; /* first */
    nh_hub *hub;
    nh_handle **handles;
    key *keys;    /* NULL: no message has one */
    size_t asked; /* so many are to be leased at once */
    size_t bytes;
    bool later;
    /* Unless it is later: its sender's, who waits for it. */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    nh_err failed;
    char why[NH_ERROR_MESSAGE_MAX];
    nh_store_item items[]; /* `handles` and `keys` stand behind them */
} admission;

/* ---------------------------------------------------------------- life cycle */

static void free_admission(admission *a) {
    for (size_t i = 0; i < a->batch.count && a->keys; i++)
        nh_doc_unref(a->keys[i].doc);
    pthread_cond_destroy(&a->ended);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static admission *make_admission(nh_hub *hub, size_t count, bool keyed) {
    size_t each = sizeof(nh_store_item) + sizeof(nh_handle *) + (keyed ? sizeof(key) : 0);
    admission *a = malloc(sizeof *a + count * each);
    if (!a)
        return NULL;
    *a = (admission){.hub = hub};
    if (pthread_mutex_init(&a->lock, NULL) != 0)
        goto fail;
    if (pthread_cond_init(&a->ended, NULL) != 0)
        goto fail_lock;
    a->batch = (nh_store_batch){.items = a->items, .count = count};
    a->handles = (nh_handle **)(a->items + count);
    if (keyed) {
        a->keys = (key *)(a->handles + count);
        for (size_t i = 0; i < count; i++)
            a->keys[i].doc = NULL;
    }
    return a;
fail_lock:
    pthread_mutex_destroy(&a->lock);
fail:
    free(a);
    return NULL;
}

static void fill_item(admission *a, size_t i, nh_handle *handle) {
    const nh_message *message = nh_message_of(handle);
    const nh_times *times = nh_message_times(message);
    nh_store_item *item = &a->items[i];
    *item = (nh_store_item){.id = nh_message_id(message),
                            .payload = message->bytes,
                            .length = message->length,
                            .created_at = message->created_at,
                            .due = times->release ? times->deliver_at : 0,
                            .expires_at = times->expires_at,
                            .priority = message->priority};
    a->handles[i] = handle;
    a->bytes += nh_message_size(message);
    nh_handle_begin_accepting(handle);
    if (!message->keyed)
        return;
    const char *text;
    a->keys[i].doc = nh_hub_dedupe_key(message, &text, &item->key_length);
    item->key = text;
    item->first = a->keys[i].first;
    item->window = a->hub->dedupe_window;
}

/* ------------------------------------------------------------ the store's part */

/* The second with its key. */
static void end_duplicate(nh_hub *hub, nh_handle *handle, const nh_store_item *item) {
    nh_handle *first = NULL;
    char id[NH_ID_MAX + 1];
    nh_recent_lock(hub->recent);
    nh_recent_find(hub->recent, item->key, item->key_length, &first, id);
    nh_recent_unlock(hub->recent);
    nh_hub_settle_duplicate(handle, item->first, first);
}

/* Cancelled while it was written: it goes as it came. */
static void end_cancelled(nh_hub *hub, nh_handle *handle) {
    hub->journal.store->ops->ack(hub->journal.store, &handle->row, 1);
    atomic_store_explicit(&handle->stays, true, memory_order_relaxed);
    nh_handle_settle(handle, NULL, NH_E_CANCELLED);
}

/* Where one message goes from here. */
typedef enum place { ENDED, PARKED, RUNS } place;

static place place_one(nh_hub *hub, nh_handle *handle, const nh_store_item *item) {
    if (item->duplicate) {
        end_duplicate(hub, handle, item);
        nh_hub_leave(hub, 1);
        return ENDED;
    }
    handle->row = item->row;
    if (item->key) {
        nh_recent_lock(hub->recent);
        nh_recent_add(hub->recent, item->key, item->key_length, handle);
        nh_recent_unlock(hub->recent);
    }
    if (atomic_load_explicit(&handle->cancelled, memory_order_seq_cst)) {
        end_cancelled(hub, handle);
        return ENDED;
    }
    if (item->leased)
        return RUNS;
    nh_handle_set_state(handle, nh_times_of(handle)->release ? NH_SCHEDULED : NH_QUEUED);
    nh_parked_put(hub->journal.parked, handle);
    nh_hub_leave(hub, 1);
    if (atomic_load_explicit(&handle->cancelled, memory_order_seq_cst))
        hub->owner.cancel(&hub->owner, handle); /* just now */
    return PARKED;
}

static void place_all(admission *a) {
    nh_hub *hub = a->hub;
    size_t count = a->batch.count, run = 0, parked = 0, duplicates = 0;
    for (size_t i = 0; i < count; i++) {
        nh_handle *handle = a->handles[i];
        duplicates += a->items[i].duplicate;
        nh_handle_ref(handle); /* it may end before all have been told */
        place where = place_one(hub, handle, &a->items[i]);
        parked += where == PARKED;
        if (where != RUNS)
            continue;
        a->handles[i] = a->handles[run]; /* those that run stand first, in their order */
        a->handles[run++] = handle;
    }
    nh_parked_give_back(hub->journal.parked, count - parked);
    atomic_fetch_add_explicit(&hub->accepted, count - duplicates, memory_order_relaxed);
    nh_metrics_accepted(hub->metrics, count - duplicates);
    if (run > 0)
        nh_hub_journal_run(hub, a->handles, run);
    for (size_t i = 0; i < count; i++) {
        nh_handle_accepted(a->handles[i]);
        nh_handle_unref(a->handles[i]);
    }
    if (parked > 0)
        atomic_store_explicit(&hub->journal.more, true, memory_order_seq_cst);
}

static void refuse_all(admission *a, const char *why) {
    nh_parked_give_back(a->hub->journal.parked, a->batch.count);
    for (size_t i = 0; i < a->batch.count && a->later; i++)
        nh_handle_settle_aside(a->handles[i], NH_E_JOURNAL, why, NULL);
    nh_hub_leave(a->hub, a->batch.count);
}

/* nh_store_batch's. */
static void written(nh_store_batch *batch, nh_err failed, const char *why) {
    admission *a = (admission *)batch;
    nh_hub *hub = a->hub;
    atomic_fetch_sub_explicit(&hub->journal.asked, a->asked, memory_order_relaxed);
    atomic_fetch_sub_explicit(&hub->journal.writing, batch->count, memory_order_relaxed);
    atomic_fetch_sub_explicit(&hub->journal.writing_bytes, a->bytes, memory_order_relaxed);
    if (failed)
        refuse_all(a, why);
    else
        place_all(a);
    nh_hub_journal_refill(hub);
    if (a->later) {
        free_admission(a);
        return;
    }
    pthread_mutex_lock(&a->lock);
    a->done = true;
    a->failed = failed;
    snprintf(a->why, sizeof a->why, "%s", why ? why : "");
    pthread_cond_signal(&a->ended);
    pthread_mutex_unlock(&a->lock);
}

/* ----------------------------------------------------------- the sender's part */

/* Counts them as being written; false when that is too much. */
static bool begin_writing(nh_hub *hub, size_t count, size_t bytes, nh_error *error) {
    nh_hub_journal *journal = &hub->journal;
    size_t before = atomic_fetch_add_explicit(&journal->writing, count, memory_order_relaxed);
    size_t held = atomic_fetch_add_explicit(&journal->writing_bytes, bytes, memory_order_relaxed);
    if (before == 0 || (before + count <= hub->capacity && held + bytes <= hub->bytes))
        return true;
    atomic_fetch_sub_explicit(&journal->writing, count, memory_order_relaxed);
    atomic_fetch_sub_explicit(&journal->writing_bytes, bytes, memory_order_relaxed);
    nh_error_set(error, NH_E_QUEUE_FULL,
                 "%zu messages wait to be written to the journal; queue.capacity allows %zu, and "
                 "queue.bytes %zu bytes",
                 before, hub->capacity, hub->bytes);
    return false;
}

/* How many of them may be leased as they are written: what the window has room for. */
static void ask_to_lease(admission *a) {
    nh_hub_journal *journal = &a->hub->journal;
    size_t held = nh_queue_ready(a->hub->work.queue) +
                  atomic_load_explicit(&journal->asked, memory_order_relaxed);
    size_t room = held < journal->window ? journal->window - held : 0, bytes = 0;
    for (size_t i = 0; i < a->batch.count && a->asked < room && bytes < journal->window_bytes / 2;
         i++) {
        bytes += a->items[i].length;
        a->items[i].take = true;
        a->asked++;
    }
    atomic_fetch_add_explicit(&journal->asked, a->asked, memory_order_relaxed);
}

/* Hands it to the store. From then on a later admission is the store's. */
static nh_err hand_in(admission *a, nh_error *error) {
    nh_hub *hub = a->hub;
    size_t count = a->batch.count;
    nh_store *store = nh_hub_store_enter(hub);
    if (!store)
        return nh_fail(error, NH_E_CLOSED, "the hub is closed");
    if (!nh_parked_reserve(hub->journal.parked, count)) {
        nh_hub_store_leave(hub);
        return nh_fail_memory(error);
    }
    ask_to_lease(a);
    atomic_fetch_add_explicit(&hub->pending, count, memory_order_seq_cst);
    a->batch.done = written;
    nh_err failed = store->ops->enqueue(store, &a->batch, error);
    nh_hub_store_leave(hub);
    if (!failed)
        return NH_OK;
    nh_hub_leave(hub, count);
    atomic_fetch_sub_explicit(&hub->journal.asked, a->asked, memory_order_relaxed);
    nh_parked_give_back(hub->journal.parked, count);
    return failed;
}

static nh_err wait_for(admission *a, nh_error *error) {
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->ended, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return a->failed ? nh_fail(error, a->failed, "%s", a->why) : NH_OK;
}

static bool any_keyed(nh_handle *const *handles, size_t count) {
    bool keyed = false;
    for (size_t i = 0; i < count && !keyed; i++)
        keyed = nh_message_of(handles[i])->keyed;
    return keyed;
}

nh_err nh_hub_write(nh_hub *hub, nh_handle *const *handles, size_t count, bool later,
                    nh_error *error) {
    admission *a = make_admission(hub, count, any_keyed(handles, count));
    if (!a)
        return nh_fail_memory(error);
    a->later = later;
    for (size_t i = 0; i < count; i++)
        fill_item(a, i, handles[i]);
    if (!begin_writing(hub, count, a->bytes, error)) {
        free_admission(a);
        return NH_E_QUEUE_FULL;
    }
    size_t bytes = a->bytes;
    nh_err failed = hand_in(a, error);
    if (failed) {
        atomic_fetch_sub_explicit(&hub->journal.writing, count, memory_order_relaxed);
        atomic_fetch_sub_explicit(&hub->journal.writing_bytes, bytes, memory_order_relaxed);
        free_admission(a);
        return failed;
    }
    if (later)
        return NH_OK;
    failed = wait_for(a, error);
    free_admission(a);
    return failed;
}
