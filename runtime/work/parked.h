/* parked.h — the handles of messages that wait in the journal, by row: what a program still holds
 * on to while the message itself needs no memory. */
#ifndef NH_WORK_PARKED_H
#define NH_WORK_PARKED_H

#include "runtime/core/handle.h"
#include "runtime/store/store.h"

typedef struct nh_parked nh_parked;

nh_parked *nh_parked_create(void);        /* NULL when out of memory */
void nh_parked_destroy(nh_parked *table); /* it is empty */

/* Thread: any, for all of these. Blocks: never. */

/* Room for `count` more, so that putting them in cannot fail; what is not used is given back. */
bool nh_parked_reserve(nh_parked *table, size_t count);
void nh_parked_give_back(nh_parked *table, size_t count);
/* Parks a handle with a row, for which there is room. It may be gone when this returns. */
void nh_parked_put(nh_parked *table, nh_handle *handle);

typedef enum nh_parked_found {
    NH_PARKED_NONE,      /* nobody holds a handle of this row (any more) */
    NH_PARKED_HANDLE,    /* its own reference is back, and belongs to the caller */
    NH_PARKED_CANCELLED, /* the row is gone and comes from the store once more */
} nh_parked_found;

nh_parked_found nh_parked_take(nh_parked *table, nh_row row, nh_handle **handle);
/* Takes any; NULL when none is left. */
nh_handle *nh_parked_take_any(nh_parked *table);
/* Takes a handle that is cancelled, and its row out of the store, which needs no memory; false when
 * it is not parked. */
bool nh_parked_cancel(nh_parked *table, nh_handle *handle, nh_store *store);
/* For nh_owner.forget. */
void nh_parked_forget(nh_parked *table, nh_handle *handle);

/* Around a lease: rows cancelled meanwhile may still come from it. */
void nh_parked_begin_lease(nh_parked *table);
void nh_parked_end_lease(nh_parked *table);

size_t nh_parked_count(nh_parked *table);

#endif
