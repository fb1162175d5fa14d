/* map.h — blocks of memory that one huge page can back each. */
#ifndef NH_CORE_MAP_H
#define NH_CORE_MAP_H

#include <stdbool.h>

enum { NH_BLOCK = 2 << 20 }; /* bytes, and what a block is aligned to */

/* A fresh block, all zero; NULL: out of memory. `huge`: it will be needed whole, and the kernel may
 * back it with one huge page, which saves the faults of its pages; else what is not touched costs
 * nothing. Thread: any. */
void *nh_map_block(bool huge);
void nh_unmap_block(void *block);

#endif
