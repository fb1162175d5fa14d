/* slab.c — regions, their chunks, and what is not done in place (slab.h).
 *
 * Blocks of up to NH_SLAB_BLOCK_MOST bytes come from chunks that are aligned to their size: the low
 * bits of a block's address lead to its chunk, whose blocks are all of one size. Chunks come from
 * regions that are mapped. Larger blocks are malloc's. Owned by the state's thread.
 *
 * A chunk hands out those blocks first that came back, then fresh ones in order, so that memory
 * that was never needed is never touched. An empty chunk serves any size. The memory of SPARE_MOST
 * of them is kept, 4 MB: what the collector frees in a cycle of a small state, or each cycle would
 * pay for it in page faults. That of others goes back to the system, together, and so does a region
 * that is empty while others have room: a burst of messages does not hold its memory for ever. A
 * state that has outgrown SMALL_REGIONS gets huge pages where the kernel has them: on a virtual
 * machine the faults of a fresh table cost more than all else that making it does.
 *
 * A block's size is rounded up to a multiple of 8, or of 32 above NH_SLAB_FINE_MOST; nothing else
 * is added, where malloc adds 8 and rounds up to 16. Making and freeing one are some ten
 * instructions each. With AddressSanitizer every block is malloc's, so that it sees the edges of
 * each.
 */
#include "runtime/core/slab.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/core/map.h"

enum {
    REGION_CHUNKS = 64, /* a region, a block of memory, has a bit for each */
    SPARE_MOST = 128,
    SMALL_REGIONS = 2, /* before those that huge pages may back */
};

#define ALL_FREE UINT64_MAX

struct nh_slab_region {
    char *first;         /* chunk */
    uint64_t free, kept; /* chunks that are not in use; of these, those that have memory */
    nh_slab_region *next, *prev;
};

static uint32_t size_of(unsigned class) {
    enum { FINE = NH_SLAB_FINE_MOST / NH_SLAB_FINE };
    return class < FINE ? (class + 1) * NH_SLAB_FINE
                        : NH_SLAB_FINE_MOST + (class + 1 - FINE) * NH_SLAB_COARSE;
}

_Static_assert(NH_SLAB_CLASSES == NH_SLAB_FINE_MOST / NH_SLAB_FINE +
                                      (NH_SLAB_BLOCK_MOST - NH_SLAB_FINE_MOST) / NH_SLAB_COARSE,
               "a class for each size");
_Static_assert(NH_SLAB_CHUNK *REGION_CHUNKS == NH_BLOCK, "a region is a block");

/* ----------------------------------------------------------------- regions */

static nh_slab_region *make_region(nh_slab *slab) {
    nh_slab_region *region = malloc(sizeof *region);
    char *block = region ? nh_map_block(slab->region_count >= SMALL_REGIONS) : NULL;
    if (!block) {
        free(region);
        return NULL;
    }
    *region = (nh_slab_region){.first = block, .free = ALL_FREE, .next = slab->regions};
    if (region->next)
        region->next->prev = region;
    slab->regions = region;
    slab->region_count++;
    slab->free_chunks += REGION_CHUNKS;
    return region;
}

static void unmap_region(nh_slab_region *region) {
    nh_unmap_block(region->first);
    free(region);
}

static void drop_region(nh_slab *slab, nh_slab_region *region) {
    *(region->prev ? &region->prev->next : &slab->regions) = region->next;
    if (region->next)
        region->next->prev = region->prev;
    slab->region_count--;
    slab->free_chunks -= (size_t)__builtin_popcountll(region->free);
    slab->kept_chunks -= (size_t)__builtin_popcountll(region->kept);
    unmap_region(region);
}

/* ------------------------------------------------------------------ chunks */

static nh_slab_chunk *chunk_of(void *block) {
    return (nh_slab_chunk *)((uintptr_t)block & ~(uintptr_t)(NH_SLAB_CHUNK - 1));
}

static void link_chunk(nh_slab *slab, nh_slab_chunk *chunk) {
    nh_slab_chunk **first = &slab->partial[chunk->class];
    chunk->prev = NULL;
    chunk->next = *first;
    if (chunk->next)
        chunk->next->prev = chunk;
    *first = chunk;
}

static void unlink_chunk(nh_slab *slab, nh_slab_chunk *chunk) {
    *(chunk->prev ? &chunk->prev->next : &slab->partial[chunk->class]) = chunk->next;
    if (chunk->next)
        chunk->next->prev = chunk->prev;
}

static bool is_full(const nh_slab_chunk *chunk) {
    return !chunk->freed && chunk->fresh + chunk->size > NH_SLAB_CHUNK;
}

static nh_slab_chunk *take_chunk(nh_slab *slab, unsigned class) {
    nh_slab_region *region = slab->regions;
    while (region && !region->free)
        region = region->next;
    if (!region && !(region = make_region(slab)))
        return NULL;
    int index = __builtin_ctzll(region->kept ? region->kept : region->free);
    uint64_t bit = (uint64_t)1 << index;
    slab->free_chunks--;
    if (region->kept & bit)
        slab->kept_chunks--;
    region->free &= ~bit;
    region->kept &= ~bit;
    nh_slab_chunk *chunk = (nh_slab_chunk *)(void *)(region->first + (size_t)index * NH_SLAB_CHUNK);
    *chunk = (nh_slab_chunk){
        .region = region, .fresh = sizeof *chunk, .size = size_of(class), .class = class};
    link_chunk(slab, chunk);
    return chunk;
}

/* Gives the memory of a region's kept chunks back, those that stand side by side in one go. */
static void trim(nh_slab *slab, nh_slab_region *region) {
    slab->kept_chunks -= (size_t)__builtin_popcountll(region->kept);
    while (region->kept) {
        int from = __builtin_ctzll(region->kept);
        uint64_t after = ~(region->kept >> from);
        int count = after ? __builtin_ctzll(after) : REGION_CHUNKS;
        madvise(region->first + (size_t)from * NH_SLAB_CHUNK, (size_t)count * NH_SLAB_CHUNK,
                MADV_DONTNEED);
        region->kept &= ~(ALL_FREE >> (REGION_CHUNKS - count) << from);
    }
}

static void give_chunk(nh_slab *slab, nh_slab_chunk *chunk) {
    nh_slab_region *region = chunk->region;
    uint64_t bit = (uint64_t)1 << ((size_t)((char *)chunk - region->first) / NH_SLAB_CHUNK);
    unlink_chunk(slab, chunk);
    region->free |= bit;
    region->kept |= bit;
    slab->free_chunks++;
    slab->kept_chunks++;
    if (region->free == ALL_FREE && slab->free_chunks >= REGION_CHUNKS + SPARE_MOST) {
        drop_region(slab, region);
        return;
    }
    /* A region's worth more than is kept: to give back each chunk by itself would have the other
     * processors told each time. */
    for (region = slab->regions; region && slab->kept_chunks >= SPARE_MOST + REGION_CHUNKS;
         region = region->next)
        trim(slab, region);
}

/* ------------------------------------------------------------------ blocks */

void *nh_slab_take(nh_slab *slab, size_t size) {
    unsigned class = nh_slab_class(size);
    nh_slab_chunk *chunk = slab->partial[class];
    if (!chunk && !(chunk = take_chunk(slab, class)))
        return NULL;
    void *block = chunk->freed;
    if (block) {
        memcpy(&chunk->freed, block, sizeof chunk->freed);
    } else {
        block = (char *)chunk + chunk->fresh;
        chunk->fresh += chunk->size;
    }
    chunk->used++;
    if (is_full(chunk))
        unlink_chunk(slab, chunk);
    return block;
}

void nh_slab_give(nh_slab *slab, void *block, size_t size) {
    if (!nh_slab_holds(size)) {
        free(block);
        return;
    }
    nh_slab_chunk *chunk = chunk_of(block);
    if (is_full(chunk))
        link_chunk(slab, chunk);
    memcpy(block, &chunk->freed, sizeof chunk->freed);
    chunk->freed = block;
    if (--chunk->used == 0)
        give_chunk(slab, chunk);
}

void *nh_slab_move(nh_slab *slab, void *block, size_t osize, size_t nsize) {
    if (nsize == 0) {
        if (block)
            nh_slab_give(slab, block, osize);
        return NULL;
    }
    if (!block)
        return nh_slab_holds(nsize) ? nh_slab_take(slab, nsize) : malloc(nsize);
    if (!nh_slab_holds(osize) && !nh_slab_holds(nsize))
        return realloc(block, nsize);
    if (nh_slab_holds(osize) && nh_slab_holds(nsize) &&
        nh_slab_class(osize) == nh_slab_class(nsize))
        return block;
    void *moved = nh_slab_holds(nsize) ? nh_slab_take(slab, nsize) : malloc(nsize);
    if (!moved)
        return NULL;
    memcpy(moved, block, osize < nsize ? osize : nsize);
    nh_slab_give(slab, block, osize);
    return moved;
}

void nh_slab_term(nh_slab *slab) {
    nh_slab_region *region = slab->regions;
    while (region) {
        nh_slab_region *next = region->next;
        unmap_region(region);
        region = next;
    }
    *slab = (nh_slab){.regions = NULL};
}
