/* hub_accept.c — takes messages in: checked, bounded, all of a batch or none of it.
 *
 * Without a journal a message is accepted by being queued. With one it is accepted by being written
 * (hub_durable.c) and queued after that. Of messages with one dedupe_key only the first is
 * accepted: here the table of recent keys decides which that is, with a journal the journal does,
 * and the table only knows where the first one's handle is.
 *
 * Thread: any.
 */
#include "runtime/hub_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/core/batch.h"
#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"

enum { MESSAGES_A_MOMENT = 64 }; /* of a batch, that are accepted at one time */

static double left_of(double time, double wall) {
    return time > wall ? time - wall : 0;
}

nh_moment nh_hub_moment(void) {
    return (nh_moment){.wall = nh_wall(), .monotonic = nh_monotonic()};
}

void nh_hub_set_times(nh_handle *handle, nh_moment now) {
    const nh_message *message = nh_message_of(handle);
    nh_times *times = nh_message_own_times(nh_message_of(handle));
    if (!times)
        return;
    times->deadline = UINT64_MAX;
    if (times->timeout >= 0)
        times->deadline =
            nh_after(now.monotonic, left_of(message->created_at + times->timeout, now.wall));
    if (times->expires_at > 0) {
        uint64_t expires = nh_after(now.monotonic, left_of(times->expires_at, now.wall));
        if (expires < times->deadline)
            times->deadline = expires;
    }
    times->release =
        times->deliver_at > now.wall ? nh_after(now.monotonic, times->deliver_at - now.wall) : 0;
}

/* A handle ready to be queued, with a reference for the caller. */
static nh_handle *make_handle(nh_hub *hub, nh_reader document, nh_batch *batch, size_t index,
                              nh_moment now, nh_arena *arena, nh_error *error) {
    nh_message *message = nh_message_create(document, hub->message_bytes, now.wall, arena, error);
    if (!message)
        return NULL;
    nh_handle *handle = nh_handle_create(&hub->owner, message, batch, (uint32_t)index);
    nh_hub_set_times(handle, now);
    return handle;
}

/* ------------------------------------------------------------------- queueing */

static nh_err queue_up(nh_hub *hub, nh_handle *const *handles, size_t count, nh_error *error) {
    uint64_t earliest = UINT64_MAX;
    size_t ready = 0;
    for (size_t i = 0; i < count; i++) {
        ready += nh_times_of(handles[i])->release == 0;
        uint64_t first = nh_times_first(nh_times_of(handles[i]));
        earliest = first < earliest ? first : earliest;
    }
    /* Counted before it can settle; taken back when it was refused. */
    atomic_fetch_add_explicit(&hub->pending, count, memory_order_seq_cst);
    nh_err failed = nh_queue_push(hub->work.queue, handles, count, error);
    if (failed) {
        nh_hub_leave(hub, count);
        return failed;
    }
    atomic_fetch_add_explicit(&hub->accepted, count, memory_order_relaxed);
    nh_metrics_accepted(hub->metrics, count);
    nh_pool_pushed(hub->pool, ready, earliest);
    return NH_OK;
}

/* ------------------------------------------------------------------ duplicates */

nh_err nh_hub_recent_open(nh_hub *hub, const nh_doc *config, nh_error *error) {
    const nh_value *queue = nh_value_get(nh_doc_root(config), "queue");
    hub->dedupe_window = nh_value_real(nh_value_get(queue, "dedupe_window"), 300);
    hub->recent = nh_recent_create((size_t)nh_value_int(nh_value_get(queue, "dedupe_keys"), 100000),
                                   hub->dedupe_window);
    return hub->recent ? NH_OK : nh_fail_memory(error);
}

nh_doc *nh_hub_dedupe_key(const nh_message *message, const char **key, size_t *length) {
    nh_doc *doc = nh_doc_from_bytes(message->bytes, message->length, NULL);
    *key = nh_value_bytes(nh_value_get(nh_doc_root(doc), "dedupe_key"), length);
    return doc;
}

void nh_hub_settle_duplicate(nh_handle *handle, const char *id, nh_handle *first) {
    char text[NH_ID_MAX + 80];
    snprintf(text, sizeof text, "a message with this dedupe_key was accepted before: %s", id);
    nh_handle_settle_aside(handle, NH_E_DUPLICATE, text, first);
}

/* What is known of a message's key: a claim, to be kept or given up together with the others of its
 * batch. */
typedef struct claim {
    nh_doc *doc; /* NULL: it has no key */
    const char *key;
    size_t length;
    bool duplicate;
    nh_handle *first;
    char id[NH_ID_MAX + 1];
} claim;

/* Finds out which of the messages are the first with their key. The table is locked. */
static void claim_keys(nh_hub *hub, nh_handle *const *handles, claim *claims, size_t count) {
    for (size_t i = 0; i < count; i++) {
        claim *c = &claims[i];
        if (!nh_message_of(handles[i])->keyed)
            continue;
        c->doc = nh_hub_dedupe_key(nh_message_of(handles[i]), &c->key, &c->length);
        if (!c->doc)
            continue; /* out of memory: it is nobody's duplicate */
        c->duplicate = nh_recent_find(hub->recent, c->key, c->length, &c->first, c->id);
        if (!c->duplicate)
            nh_recent_add(hub->recent, c->key, c->length, handles[i]);
    }
}

/* Accepts messages some of which have keys: those that are no duplicates, all or none. */
static nh_err queue_up_firsts(nh_hub *hub, nh_handle *const *handles, size_t count,
                              nh_error *error) {
    claim *claims = calloc(count, sizeof *claims);
    nh_handle **firsts = malloc(count * sizeof *firsts);
    nh_err failed = NH_OK;
    size_t kept = 0;
    if (!claims || !firsts) {
        free(claims);
        free(firsts);
        return nh_fail_memory(error);
    }
    nh_recent_lock(hub->recent);
    claim_keys(hub, handles, claims, count);
    for (size_t i = 0; i < count; i++)
        if (!claims[i].duplicate)
            firsts[kept++] = handles[i];
    if (kept > 0)
        failed = queue_up(hub, firsts, kept, error);
    for (size_t i = 0; i < count && failed; i++)
        if (claims[i].doc && !claims[i].duplicate)
            nh_recent_remove(hub->recent, claims[i].key, claims[i].length);
    nh_recent_unlock(hub->recent);
    for (size_t i = 0; i < count; i++) {
        if (claims[i].duplicate && !failed)
            nh_hub_settle_duplicate(handles[i], claims[i].id, claims[i].first);
        else if (claims[i].duplicate)
            nh_handle_unref(claims[i].first);
        nh_doc_unref(claims[i].doc);
    }
    free(claims);
    free(firsts);
    return failed;
}

static bool any_keyed(nh_handle *const *handles, size_t count) {
    bool keyed = false;
    for (size_t i = 0; i < count && !keyed; i++)
        keyed = nh_message_of(handles[i])->keyed;
    return keyed;
}

static nh_err accept_once(nh_hub *hub, nh_handle *const *handles, size_t count, bool later,
                          nh_error *error) {
    if (hub->journal.store)
        return nh_hub_write(hub, handles, count, later, error);
    if (any_keyed(handles, count))
        return queue_up_firsts(hub, handles, count, error);
    return queue_up(hub, handles, count, error);
}

/* ------------------------------------------------------------------- accepting */

/* Whether what refused a message may have room in a while. */
static bool is_full(nh_err failed) {
    return failed == NH_E_QUEUE_FULL || failed == NH_E_JOURNAL;
}

/* Accepts them, and asks again for as long as the sender wants. */
static nh_err admit(nh_hub *hub, nh_handle *const *handles, size_t count,
                    const nh_send_options *options, nh_error *error) {
    static const struct timespec pause = {.tv_nsec = 5000000};
    double wait = options ? options->wait : 0;
    bool later = options && options->later;
    nh_err failed = accept_once(hub, handles, count, later, error);
    if (!is_full(failed) || wait == 0)
        return failed;
    uint64_t due = nh_after(nh_monotonic(), wait);
    while (is_full(failed) && nh_monotonic() < due) {
        nanosleep(&pause, NULL);
        failed = nh_hub_refuse_closed(hub, error);
        if (!failed)
            failed = accept_once(hub, handles, count, later, error);
    }
    return failed;
}

/* What was written, to be read. */
static nh_err written(nh_writer *writer, nh_reader *message, nh_error *error) {
    nh_packed packed;
    nh_err failed = nh_writer_packed(writer, &packed, error);
    if (!failed)
        *message = (nh_reader){.at = packed.bytes, .end = packed.bytes + packed.length};
    return failed;
}

static nh_handle *send_one(nh_hub *hub, nh_reader message, const nh_send_options *options,
                           nh_error *error) {
    if (options && options->duplicate)
        *options->duplicate = false;
    if (nh_hub_refuse_closed(hub, error))
        return NULL;
    nh_handle *handle = make_handle(hub, message, NULL, 0, nh_hub_moment(), NULL, error);
    if (!handle)
        return NULL;
    if (admit(hub, &handle, 1, options, error) != NH_OK) {
        nh_handle_discard(handle);
        nh_handle_unref(handle);
        return NULL;
    }
    if (!nh_message_of(handle)->keyed ||
        !atomic_load_explicit(&handle->aside, memory_order_acquire))
        return handle;
    if (options && options->duplicate)
        *options->duplicate = true;
    nh_handle *first = nh_handle_first(handle);
    if (!first)
        return handle;
    nh_handle_unref(handle);
    return first;
}

nh_handle *nh_hub_send_with(nh_hub *hub, const nh_doc *message, const nh_send_options *options,
                            nh_error *error) {
    return send_one(hub, nh_doc_read(message), options, error);
}

nh_handle *nh_hub_send_written(nh_hub *hub, nh_writer *message, const nh_send_options *options,
                               nh_error *error) {
    nh_reader document;
    return written(message, &document, error) == NH_OK ? send_one(hub, document, options, error)
                                                       : NULL;
}

nh_handle *nh_hub_send_async(nh_hub *hub, const nh_doc *message, nh_error *error) {
    return nh_hub_send_with(hub, message, NULL, error);
}

/* A draft is its batch, which nobody else has seen yet, filled so far. */
struct nh_draft {
    nh_hub *hub;
    nh_batch *batch;
    nh_handle **handles; /* the batch's */
    nh_arena arena;      /* their memory */
    nh_moment now;
    size_t count, made;
};

nh_draft *nh_hub_draft(nh_hub *hub, size_t count, nh_error *error) {
    if (nh_hub_refuse_closed(hub, error))
        return NULL;
    if (count == 0 || count > NH_BATCH_MAX) {
        nh_fail(error, NH_E_INVALID, "a batch must have 1 to %d messages, not %zu", NH_BATCH_MAX,
                count);
        return NULL;
    }
    /* A journal's messages are parked and taken up one by one: none is to keep others' memory. */
    nh_pages *pages = hub->journal.store ? NULL : hub->pages;
    nh_draft *draft = malloc(sizeof *draft);
    nh_batch *batch = nh_batch_create(count, pages);
    if (!draft || !batch) {
        nh_batch_unref(batch);
        free(draft);
        nh_fail_memory(error);
        return NULL;
    }
    *draft =
        (nh_draft){.hub = hub, .batch = batch, .handles = nh_batch_handles(batch), .count = count};
    nh_arena_init(&draft->arena, pages, count);
    return draft;
}

static nh_err add(nh_draft *draft, nh_reader message, nh_error *error) {
    nh_error fault;
    size_t index = draft->made;
    if (index == draft->count)
        return nh_fail(error, NH_E_INVALID, "the draft is full");
    if (index % MESSAGES_A_MOMENT == 0)
        draft->now = nh_hub_moment();
    nh_handle *handle =
        make_handle(draft->hub, message, draft->batch, index, draft->now, &draft->arena, &fault);
    if (!handle)
        return nh_fail(error, fault.code, "messages[%zu].%.*s", index + 1,
                       NH_ERROR_MESSAGE_MAX - 32, fault.message);
    draft->handles[draft->made++] = handle; /* with the caller's reference */
    return NH_OK;
}

nh_err nh_draft_add(nh_draft *draft, const nh_doc *message, nh_error *error) {
    return add(draft, nh_doc_read(message), error);
}

nh_err nh_draft_add_written(nh_draft *draft, nh_writer *message, nh_error *error) {
    nh_reader document;
    nh_err failed = written(message, &document, error);
    return failed ? failed : add(draft, document, error);
}

void nh_draft_destroy(nh_draft *draft) {
    if (!draft)
        return;
    for (size_t i = 0; i < draft->made; i++)
        nh_handle_discard(draft->handles[i]);
    nh_batch_unref(draft->batch);
    nh_arena_term(&draft->arena);
    free(draft);
}

nh_batch *nh_draft_send_with(nh_draft *draft, const nh_send_options *options, nh_error *error) {
    nh_batch *batch = draft->batch;
    if (draft->made < draft->count)
        nh_fail(error, NH_E_INVALID, "the draft has %zu messages of %zu", draft->made,
                draft->count);
    if (draft->made < draft->count || nh_hub_refuse_closed(draft->hub, error) ||
        admit(draft->hub, draft->handles, draft->count, options, error) != NH_OK) {
        nh_draft_destroy(draft);
        return NULL;
    }
    nh_arena_term(&draft->arena);
    free(draft);
    return batch;
}

nh_batch *nh_draft_send(nh_draft *draft, nh_error *error) {
    return nh_draft_send_with(draft, NULL, error);
}

nh_batch *nh_hub_send_batch_with(nh_hub *hub, const nh_doc *const *messages, size_t count,
                                 const nh_send_options *options, nh_error *error) {
    nh_draft *draft = nh_hub_draft(hub, count, error);
    for (size_t i = 0; i < count && draft; i++)
        if (nh_draft_add(draft, messages[i], error) != NH_OK) {
            nh_draft_destroy(draft);
            return NULL;
        }
    return draft ? nh_draft_send_with(draft, options, error) : NULL;
}

nh_batch *nh_hub_send_batch(nh_hub *hub, const nh_doc *const *messages, size_t count,
                            nh_error *error) {
    return nh_hub_send_batch_with(hub, messages, count, NULL, error);
}
