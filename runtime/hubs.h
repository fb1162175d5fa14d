/* hubs.h — the list of the hubs that are open in this process, for who must reach hubs that others
 * have opened (nh_hubs_close, nh_hubs_reload). */
#ifndef NH_HUBS_H
#define NH_HUBS_H

#include <stddef.h>

#include "runtime/core/handle.h"

/* A hub's place in the list: a part of the hub. */
typedef struct nh_hubs_place {
    nh_owner *owner; /* NULL: in no list */
    struct nh_hubs_place *prev, *next;
} nh_hubs_place;

/* Enters a hub. `place` and `owner` are borrowed until nh_hubs_leave. Thread: any. Blocks: never
 * long. */
void nh_hubs_enter(nh_hubs_place *place, nh_owner *owner);

/* Takes it out; a place that is in no list is left alone. From then on nobody finds it. */
void nh_hubs_leave(nh_hubs_place *place);

/* The hubs of this process in the order in which they were opened, each held: the caller drops
 * each and frees the list with free(). NULL, and a count of 0, for none or when out of memory. */
nh_owner **nh_hubs_all(size_t *count);

#endif
