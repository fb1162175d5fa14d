/* hub_journal.c — the hub's side of its journal: what is leased from it, and what becomes of a row.
 *
 * Memory keeps a window of the messages that wait; the others are rows in the store. One lease is
 * under way at a time: it is asked for when half of the window is free and the store has said that
 * rows wait, by whoever notices (a worker that took messages, the store's own thread). Rows arrive
 * in the store's thread, each with the handle that somebody still holds, or a new one.
 *
 * A row ends with its message: delivered, cancelled and expired ones go; one that failed, in whole
 * or in part, becomes a dead letter; one that a close stopped stays as it was. All of these are
 * handed in after the receipt is decided, so a crash in between delivers again, never loses.
 *
 * Threads: any, the store's for what it calls back (which never blocks).
 */
#include "runtime/hub_parts.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"

enum { LEASE_MOST = 1000 }; /* rows of one lease: senders wait while they are read */

static nh_hub *hub_of(nh_hub_journal *journal) {
    return (nh_hub *)((char *)journal - offsetof(nh_hub, journal));
}

/* ----------------------------------------------------------------- settling */

void nh_hub_journal_keep(nh_handle *handle) {
    atomic_store_explicit(&handle->stays, true, memory_order_relaxed);
    nh_handle_settle(handle, nh_receipt_saying(nh_message_of(handle), NH_E_CLOSED, NH_KEPT_TEXT),
                     NH_E_CLOSED);
}

/* A text of a map as a C string; cut, "" when it is none. */
static void copy_text(char *to, size_t size, const nh_value *map, const char *name) {
    size_t length = 0;
    const char *text = nh_value_bytes(nh_value_get(map, name), &length);
    snprintf(to, size, "%.*s", (int)(length < size ? length : size - 1), text ? text : "");
}

/* The first failure among a receipt's results, or NULL; `attempts` gets the most of one of them. */
static const nh_value *failure_of(const nh_value *results, uint32_t *attempts) {
    const nh_value *first = NULL;
    for (size_t i = 0; i < nh_value_count(results); i++) {
        const nh_value *result = nh_value_at(results, i);
        int64_t made = nh_value_int(nh_value_get(result, "attempts"), 0);
        if (made > *attempts)
            *attempts = (uint32_t)made;
        if (!first && !nh_value_bool(nh_value_get(result, "ok")) &&
            !nh_value_bool(nh_value_get(result, "superseded")))
            first = result;
    }
    return first;
}

enum { TEXT = NH_STORE_TEXT_MAX + 1 };

/* Which target failed, and what its platform answered, if it did. */
static void describe(const nh_value *failure, char reason[TEXT], char answer[TEXT]) {
    char platform[64], target[256], text[512];
    copy_text(platform, sizeof platform, failure, "platform");
    copy_text(target, sizeof target, failure, "target");
    copy_text(text, sizeof text, failure, "error");
    int64_t status = nh_value_int(nh_value_get(failure, "status_code"), 0);
    snprintf(reason, TEXT, "%s%s%s: %s", platform, *platform ? " " : "", target, text);
    if (status)
        snprintf(answer, TEXT, "%lld: %s", (long long)status, text);
}

/* Why a message failed, from its receipt: the message's own reason, else that of its first target.
 */
static void bury(nh_store *store, const nh_handle *handle) {
    char code[64] = "", reason[TEXT] = "", answer[TEXT] = "";
    nh_store_death death = {.attempts = handle->attempts, .reason = reason, .code = NH_E_INTERNAL};
    nh_doc *doc = handle->receipt ? nh_receipt_doc(handle->receipt) : NULL;
    if (doc) {
        const nh_value *root = nh_doc_root(doc);
        const nh_value *failure = failure_of(nh_value_get(root, "results"), &death.attempts);
        copy_text(code, sizeof code, root, "code");
        copy_text(reason, sizeof reason, root, "error");
        if (failure && !code[0])
            copy_text(code, sizeof code, failure, "code");
        if (failure) {
            describe(failure, reason, answer);
            death.answer = answer;
        }
        death.code = nh_err_from_name(code);
    }
    store->ops->dead(store, handle->row, &death);
    nh_doc_unref(doc);
}

void nh_hub_journal_settled(nh_hub *hub, nh_handle *handle) {
    nh_status status = handle->receipt ? nh_receipt_status(handle->receipt) : NH_FAILED;
    if (status != NH_DELIVERED && atomic_load_explicit(&handle->stays, memory_order_relaxed))
        return;
    nh_store *store = nh_hub_store_enter(hub);
    if (!store)
        return; /* cancelled while the hub closed: it stays, and comes again */
    if (status == NH_FAILED || status == NH_PARTIAL)
        bury(store, handle);
    else
        store->ops->ack(store, &handle->row, 1);
    nh_hub_store_leave(hub);
}

bool nh_hub_journal_cancel(nh_hub *hub, nh_handle *handle) {
    nh_store *store = nh_hub_store_enter(hub);
    if (!store)
        return false;
    bool taken = nh_parked_cancel(hub->journal.parked, handle, store);
    nh_hub_store_leave(hub);
    if (taken)
        atomic_fetch_add_explicit(&hub->pending, 1, memory_order_seq_cst);
    return taken;
}

/* ------------------------------------------------------------------ leasing */

void nh_hub_journal_run(nh_hub *hub, nh_handle *const *handles, size_t count) {
    uint64_t earliest = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        nh_handle_ref(handles[i]);
        uint64_t first = nh_times_first(nh_times_of(handles[i]));
        earliest = first < earliest ? first : earliest;
    }
    nh_err failed = nh_queue_return(hub->work.queue, handles, count);
    if (!failed)
        nh_pool_pushed(hub->pool, count, earliest);
    for (size_t i = 0; i < count; i++) {
        nh_handle *handle = handles[i];
        if (failed)
            nh_handle_settle(handle, NULL, NH_E_INTERNAL);
        else if (atomic_load_explicit(&handle->cancelled, memory_order_seq_cst))
            hub->owner.cancel(&hub->owner, handle); /* it was asked for before it was there */
        nh_handle_unref(handle);
    }
}

static nh_handle *restore(nh_hub *hub, const nh_store_row *row) {
    nh_error error;
    nh_message *message =
        nh_message_restore(nh_doc_read(row->document), row->id, row->created_at, &error);
    if (!message) {
        const nh_store_death death = {
            .code = error.code, .attempts = row->attempts, .reason = error.message};
        hub->journal.store->ops->dead(hub->journal.store, row->row, &death);
        return NULL;
    }
    nh_handle *handle = nh_handle_create(&hub->owner, message, NULL, 0);
    handle->row = row->row;
    nh_handle_unref(handle); /* nobody holds it */
    return handle;
}

/* nh_store_lease's: a row on its way to a worker. */
static bool take_row(nh_store_lease *lease, const nh_store_row *row) {
    nh_hub_journal *journal = lease->context;
    nh_hub *hub = hub_of(journal);
    nh_handle *handle;
    if (atomic_load_explicit(&journal->stopped, memory_order_acquire))
        return false;
    switch (nh_parked_take(journal->parked, row->row, &handle)) {
    case NH_PARKED_CANCELLED:
        return true;
    case NH_PARKED_NONE:
        handle = restore(hub, row);
        break;
    case NH_PARKED_HANDLE:
        break;
    }
    if (!handle)
        return true;
    handle->attempts = row->attempts;
    nh_hub_set_times(handle, nh_hub_moment());
    atomic_fetch_add_explicit(&hub->pending, 1, memory_order_seq_cst);
    if (nh_times_of(handle)->deadline <= nh_monotonic())
        nh_handle_settle(handle, NULL, nh_handle_deadline_reason(handle));
    else
        nh_hub_journal_run(hub, &handle, 1);
    return true;
}

/* nh_store_lease's: no more rows come. */
static void leased(nh_store_lease *lease, size_t count, bool more, nh_err failed, const char *why) {
    nh_hub_journal *journal = lease->context;
    nh_hub *hub = hub_of(journal);
    (void)count;
    if (failed)
        nh_log_write(hub->log, NH_LOG_ERROR, "the journal cannot be read",
                     nh_log_text("error", why));
    nh_parked_end_lease(journal->parked);
    atomic_store_explicit(&journal->more, more && !failed, memory_order_seq_cst);
    atomic_store_explicit(&journal->leasing, false, memory_order_seq_cst);
    nh_hub_journal_refill(hub);
    nh_hub_leave(hub, 0); /* a close may wait for this */
}

void nh_hub_journal_refill(nh_hub *hub) {
    nh_hub_journal *journal = &hub->journal;
    size_t ready = nh_queue_ready(hub->work.queue);
    if (!atomic_load_explicit(&journal->more, memory_order_seq_cst) ||
        atomic_load_explicit(&journal->stopped, memory_order_acquire) ||
        ready > journal->window / 2)
        return;
    nh_queue_figures figures;
    nh_queue_read(hub->work.queue, &figures);
    if (figures.bytes > journal->window_bytes / 2 ||
        atomic_exchange_explicit(&journal->leasing, true, memory_order_seq_cst))
        return;
    size_t room = journal->window - ready;
    journal->lease.most = room < LEASE_MOST ? room : LEASE_MOST;
    journal->lease.bytes = journal->window_bytes - figures.bytes;
    nh_parked_begin_lease(journal->parked);
    journal->store->ops->lease(journal->store, &journal->lease);
}

/* nh_work's: a worker has taken messages and few are left. */
static void refill(nh_work *work) {
    nh_hub_journal_refill((nh_hub *)((char *)work - offsetof(nh_hub, work)));
}

bool nh_hub_journal_busy(const nh_hub *hub) {
    const nh_hub_journal *journal = &hub->journal;
    return atomic_load_explicit(&journal->leasing, memory_order_seq_cst) ||
           (atomic_load_explicit(&journal->more, memory_order_seq_cst) &&
            !atomic_load_explicit(&journal->stopped, memory_order_seq_cst));
}

/* Tells the operator once that writing has begun to fail, or works again. */
static void tell_trouble(nh_hub *hub) {
    nh_hub_journal *journal = &hub->journal;
    nh_store_stats stats;
    journal->store->ops->stats(journal->store, &stats);
    if (stats.trouble == journal->trouble && !stats.broken)
        return;
    journal->trouble = stats.trouble;
    if (stats.trouble)
        nh_log_write(hub->log, NH_LOG_ERROR, "the journal cannot be written",
                     nh_log_text("error", stats.why));
    else
        nh_log_write(hub->log, NH_LOG_WARN, "the journal is written again",
                     nh_log_int("refused", (int64_t)stats.refused));
}

/* The store's: rows wait, or writing has begun to fail or to work again. */
static void notified(void *context) {
    nh_hub *hub = context;
    nh_hub_journal *journal = &hub->journal;
    atomic_store_explicit(&journal->more, true, memory_order_seq_cst);
    if (atomic_load_explicit(&journal->stopped, memory_order_acquire))
        return; /* while it is opened or closed */
    tell_trouble(hub);
    nh_hub_journal_refill(hub);
}

/* -------------------------------------------------------------- life cycle */

static nh_store *open_store(nh_hub *hub, const nh_value *queue, nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(nh_value_get(queue, "journal"), &length);
    char path[PATH_MAX];
    if (length >= sizeof path) {
        nh_fail(error, NH_E_CONFIG, "queue.journal: a path has fewer than %d bytes", PATH_MAX);
        return NULL;
    }
    memcpy(path, text, length);
    path[length] = '\0';
    const nh_store_options options = {
        .path = path,
        .bytes = (uint64_t)nh_value_int(nh_value_get(queue, "journal_bytes"), 0),
        .dead_most = (uint64_t)nh_value_int(nh_value_get(queue, "dead_letters"), 0),
        .notify = notified,
        .context = hub};
    return nh_store_journal.open(&options, error);
}

nh_err nh_hub_journal_open(nh_hub *hub, const nh_doc *config, nh_error *error) {
    nh_hub_journal *journal = &hub->journal;
    const nh_value *queue = nh_value_get(nh_doc_root(config), "queue");
    if (nh_value_kind(nh_value_get(queue, "journal")) == NH_NIL)
        return NH_OK;
    nh_error fault;
    journal->parked = nh_parked_create();
    if (!journal->parked || pthread_rwlock_init(&journal->lock, NULL) != 0) {
        nh_parked_destroy(journal->parked);
        journal->parked = NULL;
        return nh_fail_memory(error);
    }
    journal->window = (size_t)nh_value_int(nh_value_get(queue, "window"), 10000);
    journal->window_bytes = (size_t)nh_value_int(nh_value_get(queue, "window_bytes"), 32 << 20);
    journal->lease = (nh_store_lease){.take = take_row, .done = leased, .context = journal};
    atomic_store(&journal->stopped, true);
    journal->store = open_store(hub, queue, &fault);
    if (!journal->store)
        return nh_fail(error, fault.code, "%s", fault.message);
    hub->work.store = journal->store;
    hub->work.refill = refill;
    hub->work.low = journal->window / 2;
    return NH_OK;
}

void nh_hub_journal_start(nh_hub *hub) {
    if (!hub->journal.store)
        return;
    atomic_store_explicit(&hub->journal.stopped, false, memory_order_seq_cst);
    nh_hub_journal_refill(hub);
}

void nh_hub_journal_stop(nh_hub *hub) {
    atomic_store_explicit(&hub->journal.stopped, true, memory_order_seq_cst);
}

/* From here on only the store's own thread calls it, until it has ended. */
static void close_store(nh_hub *hub) {
    nh_hub_journal *journal = &hub->journal;
    nh_store *store = journal->store;
    nh_error error;
    pthread_rwlock_wrlock(&journal->lock);
    journal->closing = true;
    pthread_rwlock_unlock(&journal->lock);
    nh_store_stats last;
    store->ops->sync(store, NULL); /* so that the figures are the last ones; close tells the rest */
    store->ops->stats(store, &last);
    if (store->ops->close(store, &error) != NH_OK)
        nh_log_write(hub->log, NH_LOG_ERROR, "the journal could not be written to its end",
                     nh_log_text("error", error.message));
    pthread_rwlock_wrlock(&journal->lock);
    journal->last = last;
    journal->closed = true;
    pthread_rwlock_unlock(&journal->lock);
}

size_t nh_hub_journal_close(nh_hub *hub) {
    nh_hub_journal *journal = &hub->journal;
    nh_handle *handle;
    size_t left = 0;
    if (!journal->store || journal->closed)
        return 0;
    close_store(hub);
    while ((handle = nh_parked_take_any(journal->parked))) {
        atomic_fetch_add_explicit(&hub->pending, 1, memory_order_seq_cst);
        nh_hub_journal_keep(handle);
        left++;
    }
    return left;
}

void nh_hub_journal_destroy(nh_hub *hub) {
    if (!hub->journal.parked)
        return;
    nh_hub_journal_close(hub);
    nh_parked_destroy(hub->journal.parked);
    pthread_rwlock_destroy(&hub->journal.lock);
}

nh_store *nh_hub_store_enter(nh_hub *hub) {
    nh_hub_journal *journal = &hub->journal;
    if (!journal->store)
        return NULL;
    pthread_rwlock_rdlock(&journal->lock);
    if (!journal->closing)
        return journal->store;
    pthread_rwlock_unlock(&journal->lock);
    return NULL;
}

void nh_hub_store_leave(nh_hub *hub) {
    pthread_rwlock_unlock(&hub->journal.lock);
}

void nh_hub_journal_stats(nh_hub *hub, nh_store_stats *stats) {
    nh_store *store = nh_hub_store_enter(hub);
    if (store) {
        store->ops->stats(store, stats);
        nh_hub_store_leave(hub);
        return;
    }
    pthread_rwlock_rdlock(&hub->journal.lock);
    *stats = hub->journal.last;
    pthread_rwlock_unlock(&hub->journal.lock);
}
