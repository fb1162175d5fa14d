/* receipt.h — what came of a message: a status and a document, immutable, shared by count. */
#ifndef NH_CORE_RECEIPT_H
#define NH_CORE_RECEIPT_H

#include "runtime/core/doc.h"
#include "runtime/core/message.h"

/* Copies the document, to a place in the arena (NULL: none). NULL only when out of memory. */
nh_receipt *nh_receipt_create(nh_status status, const nh_packed *packed, nh_arena *arena);
/* The receipt of a message that no script has ended: cancelled, expired, timed out, closed. Its
 * status follows from the reason; its `code` and `error` tell it. NULL only when out of memory. */
nh_receipt *nh_receipt_for(const nh_message *message, nh_err reason);
/* cancelled → NH_CANCELLED, expired → NH_EXPIRED, all else NH_FAILED. */
nh_status nh_status_for(nh_err reason);
/* The same with a text of one's own for the error. */
nh_receipt *nh_receipt_saying(const nh_message *message, nh_err reason, const char *text);
/* Its document, in place. */
nh_reader nh_receipt_read(const nh_receipt *receipt);

#endif
