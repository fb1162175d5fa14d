/* pages.c — runs of pages, first fit, out of blocks of 2 MB.
 *
 * Any thread; one mutex, taken once a run, that is once for some dozens of messages. To touch fresh
 * memory costs a page fault for every 4 KB, and that is more than all else a message costs until it
 * is queued. So a block stands where one huge page can back it, and the kernel is asked for a run's
 * memory at once, which is one call where it has no huge pages. Neither is needed: what a kernel
 * does not know it refuses, and then there are faults.
 *
 * A block begins with its own bookkeeping, in a page of its own, and is found from an address by
 * its alignment. Blocks with room are in a list, of which the first few are looked at; two empty
 * ones are kept, others go back to the system. A forked child gives nothing back: the lock may have
 * been held when it was forked.
 */
#include "runtime/core/pages.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/core/fork.h"
#include "runtime/core/map.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older kernels refuse it */
#endif

enum {
    PAGES = NH_BLOCK / NH_PAGE,
    WORDS = PAGES / 64,
    LOOKED_AT = 4,
    EMPTY_KEPT = 2,
};

typedef struct block {
    struct block *next, *prev; /* among those with room */
    bool listed;
    unsigned unused;      /* pages */
    unsigned touched;     /* pages before this one have been used before */
    uint64_t used[WORDS]; /* a bit a page */
} block;

struct nh_pages {
    atomic_uint refs;
    unsigned fork_generation; /* of the process that made it */
    pthread_mutex_t lock;
    block *first; /* with room */
    size_t empty; /* of these, without any run */
};

/* ------------------------------------------------------------------ blocks */

static block *map_block(void) {
    block *made = nh_map_block(true);
    if (!made)
        return NULL;
    made->used[0] = 1;
    made->unused = PAGES - 1;
    made->touched = 1;
    return made;
}

static void list(nh_pages *pages, block *b) {
    b->listed = true;
    b->prev = NULL;
    b->next = pages->first;
    if (b->next)
        b->next->prev = b;
    pages->first = b;
}

static void unlist(nh_pages *pages, block *b) {
    b->listed = false;
    *(b->prev ? &b->prev->next : &pages->first) = b->next;
    if (b->next)
        b->next->prev = b->prev;
}

/* The first page from `at` on that is used, or is not; at most `end`. */
static unsigned next_page(const block *b, unsigned at, unsigned end, bool used) {
    while (at < end) {
        uint64_t word = (used ? b->used[at / 64] : ~b->used[at / 64]) >> at % 64;
        if (word) {
            at += (unsigned)__builtin_ctzll(word);
            return at < end ? at : end;
        }
        at += 64 - at % 64;
    }
    return end;
}

/* The first run of `want` pages, or the longest; 0 when that is too short. */
static unsigned find_run(const block *b, unsigned want, unsigned *from) {
    unsigned longest = 0;
    for (unsigned at = 0; at < PAGES && longest < want;) {
        unsigned start = next_page(b, at, PAGES, false);
        unsigned most = start + want < PAGES ? start + want : PAGES;
        at = next_page(b, start, most, true);
        if (at - start > longest) {
            longest = at - start;
            *from = start;
        }
    }
    return longest >= want || longest >= NH_RUN_LEAST ? longest : 0;
}

static void mark(block *b, unsigned from, unsigned count, bool used) {
    for (unsigned at = from; at < from + count; at++)
        if (used)
            b->used[at / 64] |= UINT64_C(1) << at % 64;
        else
            b->used[at / 64] &= ~(UINT64_C(1) << at % 64);
}

/* -------------------------------------------------------------- life cycle */

nh_pages *nh_pages_create(void) {
    nh_pages *pages = calloc(1, sizeof *pages);
    if (!pages || pthread_mutex_init(&pages->lock, NULL) != 0) {
        free(pages);
        return NULL;
    }
    atomic_init(&pages->refs, 1);
    pages->fork_generation = nh_fork_generation();
    return pages;
}

nh_pages *nh_pages_ref(nh_pages *pages) {
    atomic_fetch_add_explicit(&pages->refs, 1, memory_order_relaxed);
    return pages;
}

void nh_pages_unref(nh_pages *pages) {
    if (!pages || atomic_fetch_sub_explicit(&pages->refs, 1, memory_order_acq_rel) != 1)
        return;
    while (pages->first) { /* without runs all blocks are empty, and empty ones are listed */
        block *b = pages->first;
        unlist(pages, b);
        nh_unmap_block(b);
    }
    pthread_mutex_destroy(&pages->lock);
    free(pages);
}

/* -------------------------------------------------------------------- runs */

void *nh_pages_take(nh_pages *pages, size_t want, size_t *got) {
    unsigned from = 0, count = 0, looked = 0;
    pthread_mutex_lock(&pages->lock);
    block *b = pages->first;
    for (; b && looked < LOOKED_AT; b = b->next, looked++)
        if ((count = find_run(b, (unsigned)want, &from)) > 0)
            break;
    if (count == 0 && (b = map_block())) {
        list(pages, b);
        pages->empty++;
        count = find_run(b, (unsigned)want, &from);
    }
    bool fresh = false;
    if (count > 0) {
        pages->empty -= b->unused == PAGES - 1;
        mark(b, from, count, true);
        b->unused -= count;
        fresh = from + count > b->touched;
        if (fresh)
            b->touched = from + count;
        if (b->unused < NH_RUN_LEAST)
            unlist(pages, b);
    }
    pthread_mutex_unlock(&pages->lock);
    *got = count;
    if (count == 0)
        return NULL;
    char *run = (char *)b + (size_t)from * NH_PAGE;
    if (fresh)
        madvise(run, (size_t)count * NH_PAGE, MADV_POPULATE_WRITE);
    return run;
}

void nh_pages_give(nh_pages *pages, void *at, size_t count) {
    block *b = (block *)((uintptr_t)at & ~(uintptr_t)(NH_BLOCK - 1));
    unsigned from = (unsigned)(((uintptr_t)at - (uintptr_t)b) / NH_PAGE);
    if (pages->fork_generation != nh_fork_generation())
        return;
    pthread_mutex_lock(&pages->lock);
    mark(b, from, (unsigned)count, false);
    b->unused += (unsigned)count;
    bool gone = b->unused == PAGES - 1 && pages->empty == EMPTY_KEPT;
    if (b->unused == PAGES - 1 && !gone)
        pages->empty++;
    if (gone && b->listed)
        unlist(pages, b);
    else if (!gone && !b->listed && b->unused >= NH_RUN_LEAST)
        list(pages, b);
    pthread_mutex_unlock(&pages->lock);
    if (gone)
        nh_unmap_block(b);
}
