/* slab_test.c — blocks keep what was written to them through all sizes, do not overlap, and their
 * memory goes back. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/core/slab.h"
#include "spec/unit/check.h"

enum { BLOCKS = 60000, SIZE_MOST = 1500 };

typedef struct block {
    unsigned char *bytes;
    size_t size;
    unsigned char mark;
} block;

static bool is_whole(const block *b, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (b->bytes[i] != b->mark)
            return false;
    return true;
}

static void resize(nh_slab *slab, block *b, size_t size, unsigned char mark) {
    size_t common = size < b->size ? size : b->size;
    b->bytes = nh_slab_realloc(slab, b->bytes, b->size, size);
    if (size > 0 && CHECK(b->bytes)) {
        CHECK((uintptr_t)b->bytes % 8 == 0);
        CHECK(is_whole(b, common));
        memset(b->bytes, mark, size);
    }
    b->size = size;
    b->mark = mark;
}

static void blocks_keep_their_bytes(void) {
    static block blocks[BLOCKS / 30];
    nh_slab slab = {.regions = NULL};
    enum { COUNT = sizeof blocks / sizeof *blocks };
    unsigned seed = 1;
    for (unsigned step = 0; step < 20 * COUNT; step++) {
        seed = seed * 1103515245u + 12345u;
        block *b = &blocks[(seed >> 8) % COUNT];
        CHECK(is_whole(b, b->size));
        resize(&slab, b, step % 3 == 0 ? 0 : (seed >> 4) % SIZE_MOST, (unsigned char)step);
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(is_whole(&blocks[i], blocks[i].size));
        resize(&slab, &blocks[i], 0, 0);
    }
    nh_slab_term(&slab);
    CHECK(!slab.regions);
    CHECK_INT(slab.free_chunks, 0);
    CHECK_INT(slab.kept_chunks, 0);
}

static size_t resident(void) {
    size_t total = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (CHECK(file)) {
        CHECK_INT(fscanf(file, "%zu %zu", &total, &pages), 2);
        fclose(file);
    }
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* One of each hundred blocks stays, as what a state keeps would. */
static void a_burst_does_not_hold_its_memory(void) {
    static unsigned char *blocks[BLOCKS];
    enum { SIZE = 1000 };
    nh_slab slab = {.regions = NULL};
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = nh_slab_realloc(&slab, NULL, 0, SIZE);
        memset(blocks[i], 1, SIZE);
    }
    size_t most = resident();
    for (int i = 0; i < BLOCKS; i++)
        if (i % 100)
            nh_slab_realloc(&slab, blocks[i], SIZE, 0);
    size_t after = resident();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(after + (size_t)BLOCKS * SIZE / 2 < most);
    CHECK(slab.free_chunks > 0);
#else
    (void)after, (void)most; /* the sanitizers keep pages of their own */
#endif
    for (int i = 0; i < BLOCKS; i += 100)
        nh_slab_realloc(&slab, blocks[i], SIZE, 0);
    nh_slab_term(&slab);
}

int main(void) {
    RUN(blocks_keep_their_bytes);
    RUN(a_burst_does_not_hold_its_memory);
    return check_end();
}
