/* owner.h — an owner of handles that belongs to no hub: nothing follows from what becomes of them,
 * but that the settled ones are counted. */
#ifndef SPEC_UNIT_WORK_OWNER_H
#define SPEC_UNIT_WORK_OWNER_H

#include "runtime/core/handle.h"

static size_t settled_count;

static void nothing(nh_owner *unused) {
    (void)unused;
}

static void no_cancel(nh_owner *unused, nh_handle *handle) {
    (void)unused, (void)handle;
}

static void count_settled(nh_owner *unused, nh_handle *handle, nh_status status) {
    (void)unused, (void)handle, (void)status;
    settled_count++;
}

static void no_more(nh_owner *unused, nh_handle *handle, nh_err reason) {
    (void)unused, (void)handle, (void)reason;
}

static nh_owner owner = {.hold = nothing,
                         .drop = nothing,
                         .cancel = no_cancel,
                         .count = count_settled,
                         .settled = no_more};

#endif
