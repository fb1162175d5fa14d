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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { NH_SLAB_BLOCK_MOST = 1024, NH_SLAB_CLASSES = 56 };

typedef struct nh_slab_region nh_slab_region;

/* Blocks of one size, aligned to NH_SLAB_CHUNK bytes, which this begins. */
typedef struct nh_slab_chunk {
    nh_slab_region *region;
    void *freed;    /* blocks that came back; each begins with the address of the next */
    uint32_t fresh; /* offset of the first block that was never handed out */
    uint32_t used;  /* blocks that are out */
    uint32_t size;  /* of a block */
    uint32_t class;
    struct nh_slab_chunk *next,
        *prev; /* of those with a free block; not linked when there is none */
} nh_slab_chunk;

#define NH_SLAB_CHUNK ((size_t)32 << 10)

/* All zero is an empty one. */
typedef struct nh_slab {
    nh_slab_chunk *partial[NH_SLAB_CLASSES]; /* chunks with a free block, by the blocks' size */
    nh_slab_region *regions;
    size_t region_count;
    size_t free_chunks, kept_chunks; /* those that are not in use; of these, with memory */
} nh_slab;

/* All blocks must have been freed. */
void nh_slab_term(nh_slab *slab);

/* What most calls are is done here: a block that came back is handed out while another one waits,
 * and one comes back to a chunk that stays in use. The rest is slab.c's. */
void *nh_slab_take(nh_slab *slab, size_t size);
void nh_slab_give(nh_slab *slab, void *block, size_t size);
void *nh_slab_move(nh_slab *slab, void *block, size_t osize, size_t nsize);

#if defined(__SANITIZE_ADDRESS__)
static inline bool nh_slab_holds(size_t size) { /* every block is malloc's */
    (void)size;
    return false;
}
#else
static inline bool nh_slab_holds(size_t size) {
    return size > 0 && size <= NH_SLAB_BLOCK_MOST;
}
#endif

enum { NH_SLAB_FINE = 8, NH_SLAB_FINE_MOST = 256, NH_SLAB_COARSE = 32 };

static inline unsigned nh_slab_class(size_t size) {
    return (unsigned)(size <= NH_SLAB_FINE_MOST ? (size - 1) / NH_SLAB_FINE
                                                : (size - 1 - NH_SLAB_FINE_MOST) / NH_SLAB_COARSE +
                                                      NH_SLAB_FINE_MOST / NH_SLAB_FINE);
}

/* Like realloc, with the block's present size (0 for none); nsize 0 frees. NULL: out of memory, and
 * the block is as it was. */
static inline void *nh_slab_realloc(nh_slab *slab, void *block, size_t osize, size_t nsize) {
    if (!block && nh_slab_holds(nsize)) {
        nh_slab_chunk *chunk = slab->partial[nh_slab_class(nsize)];
        void *taken = chunk ? chunk->freed : NULL, *next = NULL;
        if (taken)
            memcpy(&next, taken, sizeof next);
        if (!next)
            return nh_slab_take(slab, nsize);
        chunk->freed = next;
        chunk->used++;
        return taken;
    }
    if (nsize == 0 && block && nh_slab_holds(osize)) {
        nh_slab_chunk *chunk =
            (nh_slab_chunk *)((uintptr_t)block & ~(uintptr_t)(NH_SLAB_CHUNK - 1));
        if (chunk->freed && chunk->used > 1) {
            memcpy(block, &chunk->freed, sizeof chunk->freed);
            chunk->freed = block;
            chunk->used--;
        } else {
            nh_slab_give(slab, block, osize);
        }
        return NULL;
    }
    return nh_slab_move(slab, block, osize, nsize);
}

#endif
