/* arena.c — runs of pages that are filled from one end and given back when their last piece is
 * dropped.
 *
 * A batch keeps its messages until it is dropped itself, so that they share memory keeps none of
 * them longer, but for a handle that somebody takes out of a batch and holds: that one keeps the
 * run of its message, at most half a megabyte. A run is as long as the pieces to come need it to be
 * if they are as large as this one; what it does not need in the end goes back. Few or large pieces
 * are allocations of their own. So are all in an ASan build, which then sees to each of them.
 */
#include "runtime/core/arena.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    UNIT = 8,                           /* of a place */
    ALONE = NH_RUN_LEAST * NH_PAGE / 2, /* bytes of a piece that is too large */
    /* While it is being filled a run counts as so many pieces more. */
    FILLING = 1 << 30,
};

#if defined(__SANITIZE_ADDRESS__)
enum { SHARED = 0 };
#else
enum { SHARED = 1 };
#endif

struct nh_run {
    atomic_uint pieces; /* that have not been dropped */
    uint32_t count;     /* of pages */
    nh_pages *pages;    /* counted */
};

static void drop_pieces(nh_run *run, unsigned count) {
    if (atomic_fetch_sub_explicit(&run->pieces, count, memory_order_acq_rel) != count)
        return;
    nh_pages *pages = run->pages;
    nh_pages_give(pages, run, run->count);
    nh_pages_unref(pages);
}

static void close_run(nh_arena *arena) {
    nh_run *run = arena->run;
    if (!run)
        return;
    arena->run = NULL;
    uint32_t needed = (uint32_t)((arena->used + NH_PAGE - 1) / NH_PAGE);
    if (needed < run->count)
        nh_pages_give(run->pages, (char *)run + (size_t)needed * NH_PAGE, run->count - needed);
    run->count = needed;
    drop_pieces(run, FILLING - (unsigned)arena->taken);
}

/* A run for the pieces to come, each of `bytes`. */
static void open_run(nh_arena *arena, size_t bytes) {
    size_t count, want = (sizeof *arena->run + bytes * arena->left + NH_PAGE - 1) / NH_PAGE;
    if (want < NH_RUN_LEAST)
        return;
    arena->run = nh_pages_take(arena->pages, want < NH_RUN_MOST ? want : NH_RUN_MOST, &count);
    if (!arena->run)
        return;
    atomic_init(&arena->run->pieces, FILLING);
    arena->run->count = (uint32_t)count;
    arena->run->pages = nh_pages_ref(arena->pages);
    arena->used = sizeof *arena->run;
    arena->size = count * NH_PAGE;
    arena->taken = 0;
}

void nh_arena_init(nh_arena *arena, nh_pages *pages, size_t count) {
    *arena = (nh_arena){.pages = pages, .left = count};
}

void nh_arena_term(nh_arena *arena) {
    close_run(arena);
}

void *nh_arena_take(nh_arena *arena, size_t bytes, uint32_t *place) {
    *place = 0;
    if (!arena || !arena->pages || !SHARED || bytes > ALONE)
        return malloc(bytes);
    bytes = (bytes + UNIT - 1) / UNIT * UNIT;
    if (arena->run && arena->size - arena->used < bytes)
        close_run(arena);
    if (!arena->run)
        open_run(arena, bytes);
    arena->left -= arena->left > 0;
    if (!arena->run)
        return malloc(bytes);
    char *piece = (char *)arena->run + arena->used;
    *place = (uint32_t)(arena->used / UNIT);
    arena->used += bytes;
    arena->taken++;
    return piece;
}

void nh_arena_drop(void *piece, uint32_t place) {
    if (place == 0)
        free(piece);
    else
        drop_pieces((nh_run *)(void *)((char *)piece - (size_t)place * UNIT), 1);
}
