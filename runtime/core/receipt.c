/* receipt.c — Thread: any. */
#include "runtime/core/receipt.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/core/clock.h"

struct nh_receipt {
    atomic_uint refs;
    nh_status status;
    nh_doc *doc;
};

nh_status nh_status_for(nh_err reason) {
    return reason == NH_E_CANCELLED ? NH_CANCELLED
           : reason == NH_E_EXPIRED ? NH_EXPIRED
                                    : NH_FAILED;
}

nh_receipt *nh_receipt_create(nh_status status, nh_doc *doc) {
    nh_receipt *receipt = malloc(sizeof *receipt);
    if (!receipt) {
        nh_doc_unref(doc);
        return NULL;
    }
    atomic_init(&receipt->refs, 1);
    receipt->status = status;
    receipt->doc = doc;
    return receipt;
}

nh_receipt *nh_receipt_for(const nh_message *message, nh_err reason) {
    return nh_receipt_saying(message, reason, nh_err_text(reason));
}

nh_receipt *nh_receipt_saying(const nh_message *message, nh_err reason, const char *text) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_status status = nh_status_for(reason);
    nh_writer_map(writer, 7);
    nh_writer_cstring(writer, "id");
    nh_writer_cstring(writer, message->id);
    nh_writer_cstring(writer, "status");
    nh_writer_cstring(writer, nh_status_name(status));
    nh_writer_cstring(writer, "code");
    nh_writer_cstring(writer, nh_err_name(reason));
    nh_writer_cstring(writer, "error");
    nh_writer_cstring(writer, text);
    nh_writer_cstring(writer, "results");
    nh_writer_array(writer, 0);
    nh_writer_cstring(writer, "created_at");
    nh_writer_real(writer, message->created_at);
    nh_writer_cstring(writer, "settled_at");
    nh_writer_real(writer, nh_wall());
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return doc ? nh_receipt_create(status, doc) : NULL;
}

nh_receipt *nh_receipt_ref(nh_receipt *receipt) {
    atomic_fetch_add_explicit(&receipt->refs, 1, memory_order_relaxed);
    return receipt;
}

void nh_receipt_unref(nh_receipt *receipt) {
    if (!receipt || atomic_fetch_sub_explicit(&receipt->refs, 1, memory_order_acq_rel) != 1)
        return;
    nh_doc_unref(receipt->doc);
    free(receipt);
}

nh_status nh_receipt_status(const nh_receipt *receipt) {
    return receipt->status;
}

const char *nh_receipt_text(const nh_receipt *receipt, const char *field, size_t *length) {
    return nh_value_bytes(nh_value_get(nh_doc_root(receipt->doc), field), length);
}

nh_doc *nh_receipt_doc(const nh_receipt *receipt) {
    return nh_doc_ref(receipt->doc);
}
