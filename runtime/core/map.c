/* map.c — asks the kernel for blocks. Thread: any; it keeps nothing. */
#include "runtime/core/map.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

static void *map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void *nh_map_block(bool huge) {
    char *at = map(NH_BLOCK);
    if (at && (uintptr_t)at % NH_BLOCK != 0) { /* one that is twice as long holds an aligned one */
        munmap(at, NH_BLOCK);
        at = map(2 * (size_t)NH_BLOCK);
        if (!at)
            return NULL;
        size_t before = (NH_BLOCK - (uintptr_t)at % NH_BLOCK) % NH_BLOCK;
        if (before > 0)
            munmap(at, before);
        munmap(at + before + NH_BLOCK, NH_BLOCK - before);
        at += before;
    }
    if (at)
        madvise(at, NH_BLOCK, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return at;
}

void nh_unmap_block(void *block) {
    munmap(block, NH_BLOCK);
}
