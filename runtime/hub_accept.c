/* hub_accept.c — takes messages in: checked, bounded, all of a batch or none of it.
 *
 * Thread: any.
 */
#include "runtime/hub_parts.h"

#include <stdlib.h>

#include "runtime/core/batch.h"
#include "runtime/core/clock.h"
#include "runtime/core/error.h"

enum { MESSAGES_A_MOMENT = 64 }; /* of a batch, that are accepted at one time */

/* The two clocks, read together. */
typedef struct moment {
    double wall;        /* seconds */
    uint64_t monotonic; /* ns */
} moment;

static moment this_moment(void) {
    return (moment){.wall = nh_wall(), .monotonic = nh_monotonic()};
}

/* Turns the message's times into monotonic ones. */
static void set_times(nh_handle *handle, uint64_t now) {
    const nh_message *message = handle->message;
    handle->deadline = nh_after(now, message->timeout);
    if (message->expires_at > 0) {
        uint64_t expires = nh_after(now, message->expires_at - message->created_at);
        if (expires < handle->deadline)
            handle->deadline = expires;
    }
    if (message->deliver_at > message->created_at)
        handle->release = nh_after(now, message->deliver_at - message->created_at);
}

/* A handle ready to be queued, with a reference for the caller. */
static nh_handle *make_handle(nh_hub *hub, const nh_doc *doc, nh_batch *batch, size_t index,
                              moment now, nh_error *error) {
    nh_message *message = nh_message_create(doc, hub->message_bytes, now.wall, error);
    if (!message)
        return NULL;
    nh_handle *handle = nh_handle_create(&hub->owner, message, batch, (uint32_t)index);
    set_times(handle, now.monotonic);
    return handle;
}

static nh_err admit(nh_hub *hub, nh_handle *const *handles, size_t count, nh_error *error) {
    uint64_t earliest = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (handles[i]->deadline < earliest)
            earliest = handles[i]->deadline;
        if (handles[i]->release > 0 && handles[i]->release < earliest)
            earliest = handles[i]->release;
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
    nh_pool_pushed(hub->pool, count, earliest);
    return NH_OK;
}

nh_handle *nh_hub_send_async(nh_hub *hub, const nh_doc *message, nh_error *error) {
    if (nh_hub_refuse_closed(hub, error))
        return NULL;
    nh_handle *handle = make_handle(hub, message, NULL, 0, this_moment(), error);
    if (handle && admit(hub, &handle, 1, error) != NH_OK) {
        nh_handle_discard(handle);
        nh_handle_unref(handle);
        return NULL;
    }
    return handle;
}

/* A draft is its batch, which nobody else has seen yet, and the handles in it so far. */
struct nh_draft {
    nh_hub *hub;
    nh_batch *batch;
    moment now;
    size_t count, made;
    nh_handle *handles[];
};

nh_draft *nh_hub_draft(nh_hub *hub, size_t count, nh_error *error) {
    if (nh_hub_refuse_closed(hub, error))
        return NULL;
    if (count == 0 || count > NH_BATCH_MAX) {
        nh_fail(error, NH_E_INVALID, "a batch must have 1 to %d messages, not %zu", NH_BATCH_MAX,
                count);
        return NULL;
    }
    nh_draft *draft = malloc(sizeof *draft + count * sizeof *draft->handles);
    nh_batch *batch = nh_batch_create(count);
    if (!draft || !batch) {
        nh_batch_unref(batch);
        free(draft);
        nh_fail_memory(error);
        return NULL;
    }
    *draft = (nh_draft){.hub = hub, .batch = batch, .count = count};
    return draft;
}

nh_err nh_draft_add(nh_draft *draft, const nh_doc *message, nh_error *error) {
    nh_error fault;
    size_t index = draft->made;
    if (index == draft->count)
        return nh_fail(error, NH_E_INVALID, "the draft is full");
    if (index % MESSAGES_A_MOMENT == 0)
        draft->now = this_moment();
    nh_handle *handle = make_handle(draft->hub, message, draft->batch, index, draft->now, &fault);
    if (!handle)
        return nh_fail(error, fault.code, "messages[%zu].%.*s", index + 1,
                       NH_ERROR_MESSAGE_MAX - 32, fault.message);
    draft->handles[draft->made++] = handle;
    nh_batch_put(draft->batch, index, handle);
    return NH_OK;
}

void nh_draft_destroy(nh_draft *draft) {
    if (!draft)
        return;
    for (size_t i = 0; i < draft->made; i++)
        nh_handle_discard(draft->handles[i]);
    nh_batch_unref(draft->batch);
    free(draft);
}

nh_batch *nh_draft_send(nh_draft *draft, nh_error *error) {
    nh_batch *batch = draft->batch;
    if (draft->made < draft->count)
        nh_fail(error, NH_E_INVALID, "the draft has %zu messages of %zu", draft->made,
                draft->count);
    if (draft->made < draft->count || nh_hub_refuse_closed(draft->hub, error) ||
        admit(draft->hub, draft->handles, draft->count, error) != NH_OK) {
        nh_draft_destroy(draft);
        return NULL;
    }
    free(draft);
    return batch;
}

nh_batch *nh_hub_send_batch(nh_hub *hub, const nh_doc *const *messages, size_t count,
                            nh_error *error) {
    nh_draft *draft = nh_hub_draft(hub, count, error);
    for (size_t i = 0; i < count && draft; i++)
        if (nh_draft_add(draft, messages[i], error) != NH_OK) {
            nh_draft_destroy(draft);
            return NULL;
        }
    return draft ? nh_draft_send(draft, error) : NULL;
}
