/* hub_accept.c — takes messages in: checked, bounded, all of a batch or none of it.
 *
 * Thread: any.
 */
#include "runtime/hub_parts.h"

#include <stdlib.h>

#include "runtime/core/batch.h"
#include "runtime/core/clock.h"
#include "runtime/core/error.h"

/* Turns the message's times into monotonic ones. */
static void set_times(nh_handle *handle) {
    const nh_message *message = handle->message;
    uint64_t now = nh_monotonic();
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
                              nh_error *error) {
    nh_message *message = nh_message_create(doc, hub->message_bytes, error);
    if (!message)
        return NULL;
    nh_handle *handle = nh_handle_create(&hub->owner, message, batch, (uint32_t)index);
    if (handle)
        set_times(handle);
    else
        nh_fail_memory(error);
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
    nh_handle *handle = make_handle(hub, message, NULL, 0, error);
    if (handle && admit(hub, &handle, 1, error) != NH_OK) {
        nh_handle_discard(handle);
        nh_handle_unref(handle);
        return NULL;
    }
    return handle;
}

nh_batch *nh_hub_send_batch(nh_hub *hub, const nh_doc *const *messages, size_t count,
                            nh_error *error) {
    if (nh_hub_refuse_closed(hub, error))
        return NULL;
    if (count == 0 || count > NH_BATCH_MAX) {
        nh_fail(error, NH_E_INVALID, "a batch must have 1 to %d messages, not %zu", NH_BATCH_MAX,
                count);
        return NULL;
    }
    nh_batch *batch = nh_batch_create(count);
    nh_handle **handles = malloc(count * sizeof *handles);
    size_t made = 0;
    if (!batch || !handles) {
        nh_fail_memory(error);
        goto fail;
    }
    for (; made < count; made++) {
        nh_error fault;
        handles[made] = make_handle(hub, messages[made], batch, made, &fault);
        if (!handles[made]) {
            nh_fail(error, fault.code, "messages[%zu].%.*s", made + 1, NH_ERROR_MESSAGE_MAX - 32,
                    fault.message);
            goto fail;
        }
        nh_batch_put(batch, made, handles[made]);
    }
    if (admit(hub, handles, count, error) != NH_OK)
        goto fail;
    free(handles);
    return batch;
fail:
    for (size_t i = 0; i < made; i++)
        nh_handle_discard(handles[i]);
    free(handles);
    nh_batch_unref(batch);
    return NULL;
}
