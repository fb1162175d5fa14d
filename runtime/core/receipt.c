/* receipt.c — one piece of memory: a head and the packed document.
 *
 * A program keeps thousands of receipts and reads few, so none has its tree: who reads one gets a
 * document made for it. Thread: any.
 */
#include "runtime/core/receipt.h"

#include <stdatomic.h>
#include <string.h>

#include "runtime/core/clock.h"

struct nh_receipt {
    atomic_uint refs;
    uint32_t place; /* of its memory; see arena.h */
    nh_status status;
    uint32_t length, values; /* of the packed document, NH_DOC_BYTES_MAX at most */
    char bytes[];
};

nh_status nh_status_for(nh_err reason) {
    return reason == NH_E_CANCELLED ? NH_CANCELLED
           : reason == NH_E_EXPIRED ? NH_EXPIRED
                                    : NH_FAILED;
}

nh_receipt *nh_receipt_create(nh_status status, const nh_packed *packed, nh_arena *arena) {
    uint32_t place;
    nh_receipt *receipt = nh_arena_take(arena, sizeof *receipt + packed->length, &place);
    if (!receipt)
        return NULL;
    atomic_init(&receipt->refs, 1);
    receipt->place = place;
    receipt->status = status;
    receipt->length = (uint32_t)packed->length;
    receipt->values = (uint32_t)packed->values;
    memcpy(receipt->bytes, packed->bytes, packed->length);
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
    nh_writer_cstring(writer, nh_message_id(message));
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
    nh_packed packed;
    nh_receipt *receipt = nh_writer_packed(writer, &packed, NULL) == NH_OK
                              ? nh_receipt_create(status, &packed, NULL)
                              : NULL;
    nh_writer_destroy(writer);
    return receipt;
}

nh_receipt *nh_receipt_ref(nh_receipt *receipt) {
    atomic_fetch_add_explicit(&receipt->refs, 1, memory_order_relaxed);
    return receipt;
}

void nh_receipt_unref(nh_receipt *receipt) {
    if (!receipt || atomic_fetch_sub_explicit(&receipt->refs, 1, memory_order_acq_rel) != 1)
        return;
    nh_arena_drop(receipt, receipt->place);
}

nh_status nh_receipt_status(const nh_receipt *receipt) {
    return receipt->status;
}

nh_reader nh_receipt_read(const nh_receipt *receipt) {
    return (nh_reader){.at = receipt->bytes, .end = receipt->bytes + receipt->length};
}

nh_doc *nh_receipt_doc(const nh_receipt *receipt) {
    const nh_packed packed = {
        .bytes = receipt->bytes, .length = receipt->length, .values = receipt->values};
    return nh_doc_of_packed(&packed, NULL);
}
