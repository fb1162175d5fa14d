/* arena_test.c — memory of batches: nothing overlaps, everything comes back. */
#include "runtime/core/arena.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "spec/unit/check.h"

enum { PIECES = 5000, RUNS = 600, ROUNDS = 20 };

typedef struct piece {
    unsigned char *at;
    size_t size;
    uint32_t place;
} piece;

static unsigned char mark_of(size_t index) {
    return (unsigned char)(index * 31 + 7);
}

static void fill(nh_arena *arena, piece *all, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++) {
        all[i].size = size + i % 97;
        all[i].at = nh_arena_take(arena, all[i].size, &all[i].place);
        if (CHECK(all[i].at))
            memset(all[i].at, mark_of(i), all[i].size);
        CHECK((uintptr_t)all[i].at % 8 == 0);
    }
}

static bool is_whole(const piece *p, size_t index) {
    for (size_t i = 0; i < p->size; i++)
        if (p->at[i] != mark_of(index))
            return false;
    return true;
}

/* Drops them in an order that is neither theirs nor its reverse. */
static void drop_all(piece *all, size_t count) {
    size_t damaged = 0;
    for (size_t i = 0; i < count; i++) {
        size_t index = i * 7919 % count;
        damaged += !is_whole(&all[index], index);
        nh_arena_drop(all[index].at, all[index].place);
    }
    CHECK_INT(damaged, 0);
}

static void pieces_of_all_sizes_are_whole_and_apart(void) {
    static piece all[PIECES];
    nh_pages *pages = nh_pages_create();
    static const size_t sizes[] = {1, 500, 4000, 16000, 17000, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t count = sizes[i] < 10000 ? PIECES : 50;
        nh_arena arena;
        nh_arena_init(&arena, pages, count - count / 10); /* more come than were announced */
        fill(&arena, all, count, sizes[i]);
        nh_arena_term(&arena);
        drop_all(all, count);
    }
    nh_pages_unref(pages);
}

static void pieces_outlive_their_arena_and_its_pages(void) {
    static piece all[PIECES];
    nh_pages *pages = nh_pages_create();
    nh_arena arena;
    nh_arena_init(&arena, pages, PIECES);
    fill(&arena, all, PIECES, 300);
    nh_arena_term(&arena);
    nh_pages_unref(pages);
    drop_all(all, PIECES);
}

static void without_an_arena_a_piece_is_its_own(void) {
    uint32_t place = 1;
    void *at = nh_arena_take(NULL, 100, &place);
    CHECK(at);
    CHECK_INT(place, 0);
    nh_arena_drop(at, place);
}

static void runs_are_apart_and_used_again(void) {
    struct {
        char *at;
        size_t count;
    } runs[RUNS];
    nh_pages *pages = nh_pages_create();
    unsigned seed = 1;
    memset(runs, 0, sizeof runs);
    for (int i = 0; i < 20 * RUNS; i++) {
        int index = rand_r(&seed) % RUNS;
        if (runs[index].at) {
            for (size_t page = 0; page < runs[index].count; page++)
                CHECK(memcmp(runs[index].at + page * NH_PAGE, &index, sizeof index) == 0);
            nh_pages_give(pages, runs[index].at, runs[index].count);
            runs[index].at = NULL;
            continue;
        }
        size_t want = (size_t)rand_r(&seed) % NH_RUN_MOST + 1, got;
        runs[index].at = nh_pages_take(pages, want, &got);
        runs[index].count = got;
        CHECK(runs[index].at && got > 0 && got <= want && (got == want || got >= NH_RUN_LEAST));
        for (size_t page = 0; page < got; page++)
            memcpy(runs[index].at + page * NH_PAGE, &index, sizeof index);
    }
    for (int i = 0; i < RUNS; i++)
        if (runs[i].at)
            nh_pages_give(pages, runs[i].at, runs[i].count);
    nh_pages_unref(pages);
}

static void *fill_and_drop(void *argument) {
    piece *all = malloc(PIECES * sizeof *all);
    for (int round = 0; round < ROUNDS; round++) {
        nh_arena arena;
        nh_arena_init(&arena, argument, PIECES / 10);
        fill(&arena, all, PIECES / 10, 200 + (size_t)round);
        nh_arena_term(&arena);
        drop_all(all, PIECES / 10);
    }
    free(all);
    return NULL;
}

static void many_threads_share_the_pages(void) {
    pthread_t threads[4];
    nh_pages *pages = nh_pages_create();
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, fill_and_drop, pages);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    nh_pages_unref(pages);
}

int main(void) {
    RUN(pieces_of_all_sizes_are_whole_and_apart);
    RUN(pieces_outlive_their_arena_and_its_pages);
    RUN(without_an_arena_a_piece_is_its_own);
    RUN(runs_are_apart_and_used_again);
    RUN(many_threads_share_the_pages);
    return check_end();
}
