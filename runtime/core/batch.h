/* batch.h — many handles seen as one. */
#ifndef NH_CORE_BATCH_H
#define NH_CORE_BATCH_H

#include "runtime/core/handle.h"

/* A batch of `count` places, whose receipts stand in these pages (NULL: each by itself). NULL: out
 * of memory. */
nh_batch *nh_batch_create(size_t count, nh_pages *pages);
/* Its places, borrowed: its handles, each with a reference, are put there before anybody else sees
 * it. */
nh_handle **nh_batch_handles(nh_batch *batch);
/* A reference for one of its handles, which knows that the memory is still there; false when the
 * last reference has gone. */
bool nh_batch_revive(nh_batch *batch);
/* The receipt of one of its handles; as nh_receipt_create. Thread: any, no lock held. */
nh_receipt *nh_batch_make_receipt(nh_batch *batch, nh_status status, const nh_packed *packed);
/* One of its handles has settled. Thread: any, no lock held. */
void nh_batch_settled(nh_batch *batch, uint32_t index, bool delivered);

#endif
