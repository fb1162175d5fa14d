/* recent.h — the dedupe keys of late: which message was the first with each. */
#ifndef NH_WORK_RECENT_H
#define NH_WORK_RECENT_H

#include "runtime/core/handle.h"
#include "runtime/core/id.h"

typedef struct nh_recent nh_recent;

/* Remembers at most `keys` keys for `seconds` each, and the handles of the newest of them. NULL
 * when out of memory. */
nh_recent *nh_recent_create(size_t keys, double seconds);
void nh_recent_destroy(nh_recent *recent);

/* Thread: any; find and add between lock and unlock, so that asking and claiming are one. Blocks:
 * never for long. */
void nh_recent_lock(nh_recent *recent);
void nh_recent_unlock(nh_recent *recent);
/* Whether a message has this key. `first` gets its handle with a reference, or NULL when that is
 * not kept any more; `id` its id. */
bool nh_recent_find(nh_recent *recent, const char *key, size_t length, nh_handle **first,
                    char id[NH_ID_MAX + 1]);
/* Makes the handle the first with the key, unless memory runs out: then nobody knows of it. */
void nh_recent_add(nh_recent *recent, const char *key, size_t length, nh_handle *handle);
/* It was not accepted after all. */
void nh_recent_remove(nh_recent *recent, const char *key, size_t length);
/* Drops all handles. */
void nh_recent_clear(nh_recent *recent);

#endif
