/* arena.h — where the messages of a batch stand, side by side. */
#ifndef NH_CORE_ARENA_H
#define NH_CORE_ARENA_H

#include <stdint.h>

#include "runtime/core/pages.h"

typedef struct nh_run nh_run;

/* Owned by who makes the batch; what was taken from it outlives it. Thread: owner. */
typedef struct nh_arena {
    nh_pages *pages;          /* borrowed; NULL: all pieces are allocations of their own */
    nh_run *run;              /* that is being filled, or NULL */
    size_t used, size, taken; /* of it: bytes, bytes, pieces */
    size_t left;              /* pieces that are still to come */
} nh_arena;

/* For about `count` pieces. */
void nh_arena_init(nh_arena *arena, nh_pages *pages, size_t count);
void nh_arena_term(nh_arena *arena);

/* A piece of memory, and its place, which nh_arena_drop wants to know; NULL when out of memory. No
 * arena (NULL): an allocation of its own. */
void *nh_arena_take(nh_arena *arena, size_t bytes, uint32_t *place);
/* Thread: any. */
void nh_arena_drop(void *piece, uint32_t place);

#endif
