/* slab.h — memory for the many small blocks of one Lua state.
 *
 *     void *block = nh_slab_realloc(&slab, NULL, 0, 56);
 *     block = nh_slab_realloc(&slab, block, 56, 120);    -- the caller knows each block's size
 *     nh_slab_realloc(&slab, block, 120, 0);
 *     nh_slab_term(&slab);
 *
 * Blocks are aligned to eight bytes, which is what Lua asks for. Thread: the state's.
 */
#ifndef NH_CORE_SLAB_H
#define NH_CORE_SLAB_H

#include <stddef.h>

enum { NH_SLAB_BLOCK_MOST = 1024, NH_SLAB_CLASSES = 56 };

typedef struct nh_slab_chunk nh_slab_chunk;
typedef struct nh_slab_region nh_slab_region;

/* All zero is an empty one. */
typedef struct nh_slab {
    nh_slab_chunk *partial[NH_SLAB_CLASSES]; /* chunks with a free block, by the blocks' size */
    nh_slab_region *regions;
    size_t region_count;
    size_t free_chunks, kept_chunks; /* those that are not in use; of these, with memory */
} nh_slab;

/* Like realloc, with the block's present size (0 for none); nsize 0 frees. NULL: out of memory, and
 * the block is as it was. */
void *nh_slab_realloc(nh_slab *slab, void *block, size_t osize, size_t nsize);
/* All blocks must have been freed. */
void nh_slab_term(nh_slab *slab);

#endif
