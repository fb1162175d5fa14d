/* lane_test.c — slots, who gets them, and how many there are. */
#include "runtime/work/lane.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

#define KEY "slack hooks.slack.com", 21

typedef struct call {
    nh_slot slot; /* first */
    int number;
} call;

static int order[256], granted_count;

static void granted(nh_slot *slot) {
    order[granted_count++ % 256] = ((call *)slot)->number;
}

static call make(int number) {
    return (call){.slot = {.granted = granted}, .number = number};
}

static nh_lanes *lanes_of(unsigned least, unsigned start, unsigned most) {
    nh_error error = {NH_OK, ""};
    nh_lanes *lanes =
        nh_lanes_create((nh_lane_options){.least = least, .start = start, .most = most}, 0, &error);
    CHECK_STR(error.message, "");
    granted_count = 0;
    return lanes;
}

static bool acquire(nh_lanes *lanes, call *own, nh_priority priority) {
    return nh_lane_acquire(lanes, KEY, priority, &own->slot, 0);
}

static nh_lane_view look(nh_lanes *lanes) {
    nh_lane_view view;
    nh_lane_look(lanes, KEY, 0, &view);
    return view;
}

static void gives_slots_up_to_the_limit(void) {
    nh_lanes *lanes = lanes_of(1, 2, 2);
    call calls[4];
    for (int i = 0; i < 4; i++) {
        calls[i] = make(i);
        CHECK_INT(acquire(lanes, &calls[i], NH_NORMAL), i < 2);
    }
    CHECK_INT(look(lanes).held, 2);
    CHECK_INT(look(lanes).waiting[NH_NORMAL], 2);
    nh_lane_view view;
    nh_lane_look(lanes, KEY, 3 * NH_SECOND, &view);
    CHECK(view.oldest == 3);
    nh_lane_release(lanes, &calls[1].slot, NH_LOAD_NONE);
    CHECK_INT(granted_count, 1);
    CHECK_INT(order[0], 2);
    CHECK(!nh_lane_cancel(lanes, &calls[2].slot)); /* has a slot */
    CHECK(nh_lane_cancel(lanes, &calls[3].slot));
    nh_lane_release(lanes, &calls[0].slot, NH_LOAD_NONE);
    nh_lane_release(lanes, &calls[2].slot, NH_LOAD_NONE);
    CHECK_INT(granted_count, 1);
    nh_lane_figures figures;
    nh_lanes_read(lanes, &figures);
    CHECK_INT((long long)figures.held, 0);
    CHECK_INT((long long)figures.waiting, 0);
    nh_lanes_destroy(lanes);
}

static void gives_them_by_weight(void) {
    nh_lanes *lanes = lanes_of(1, 1, 1);
    static call calls[4][60];
    call first = make(-1);
    int counts[4] = {0};
    CHECK(acquire(lanes, &first, NH_LOW));
    for (int priority = 0; priority < 4; priority++)
        for (int i = 0; i < 60; i++) {
            calls[priority][i] = make(priority * 60 + i);
            CHECK(!acquire(lanes, &calls[priority][i], (nh_priority)priority));
        }
    nh_lane_release(lanes, &first.slot, NH_LOAD_NONE);
    for (int i = 0; i < 60; i++) { /* four rounds of fifteen */
        int number = order[i];
        CHECK_INT(number % 60, counts[number / 60]); /* in order within a priority */
        counts[number / 60]++;
        nh_lane_release(lanes, &calls[number / 60][number % 60].slot, NH_LOAD_NONE);
    }
    CHECK_INT(counts[NH_URGENT], 32);
    CHECK_INT(counts[NH_HIGH], 16);
    CHECK_INT(counts[NH_NORMAL], 8);
    CHECK_INT(counts[NH_LOW], 4);
    for (int i = 60; i < 240; i++) {
        int number = order[i];
        nh_lane_release(lanes, &calls[number / 60][number % 60].slot, NH_LOAD_NONE);
    }
    CHECK_INT(granted_count, 240);
    nh_lanes_destroy(lanes);
}

/* Rounds of as many calls as the lane lets through, all of them with the same end. */
static unsigned run_round(nh_lanes *lanes, nh_load load) {
    static call calls[2000];
    unsigned held = look(lanes).limit;
    held = held ? held : 1;
    call over = make(0);
    unsigned got = 0;
    for (unsigned i = 0; i < held && i < 2000; i++) {
        calls[i] = make((int)i);
        got += acquire(lanes, &calls[i], NH_NORMAL);
    }
    CHECK_INT(got, held);
    CHECK(held < 2 || !acquire(lanes, &over, NH_NORMAL)); /* somebody wants more */
    CHECK(held < 2 || nh_lane_cancel(lanes, &over.slot));
    for (unsigned i = 0; i < held; i++)
        nh_lane_release(lanes, &calls[i].slot, load);
    return held;
}

static void grows_and_backs_off(void) {
    nh_lanes *lanes = lanes_of(1, 4, 64);
    run_round(lanes, NH_LOAD_NONE); /* makes the lane */
    CHECK_INT(look(lanes).limit, 4);
    run_round(lanes, NH_LOAD_FINE); /* until it first objects: doubles */
    CHECK_INT(look(lanes).limit, 8);
    for (int i = 0; i < 5; i++)
        run_round(lanes, NH_LOAD_FINE);
    CHECK_INT(look(lanes).limit, 64);
    run_round(lanes, NH_LOAD_TOO_MUCH); /* 64 objections, one halving */
    CHECK_INT(look(lanes).limit, 32);
    for (int i = 0; i < 3; i++) {
        run_round(lanes, NH_LOAD_FINE); /* from now on one a window */
        CHECK_INT(look(lanes).limit, 33 + i);
    }
    for (int i = 0; i < 10; i++)
        run_round(lanes, NH_LOAD_TOO_MUCH);
    CHECK_INT(look(lanes).limit, 1);
    nh_lane_figures figures;
    nh_lanes_read(lanes, &figures);
    CHECK_INT((long long)figures.backoffs, 11);
    nh_lanes_destroy(lanes);
}

static void does_not_grow_unused(void) {
    nh_lanes *lanes = lanes_of(1, 4, 64);
    for (int i = 0; i < 100; i++) {
        call own = make(i);
        CHECK(acquire(lanes, &own, NH_NORMAL));
        nh_lane_release(lanes, &own.slot, NH_LOAD_FINE);
    }
    CHECK_INT(look(lanes).limit, 4);
    nh_lanes_destroy(lanes);
}

static void shrinks_under_what_is_held(void) {
    nh_lanes *lanes = lanes_of(1, 8, 8);
    call calls[9];
    for (int i = 0; i < 9; i++) {
        calls[i] = make(i);
        acquire(lanes, &calls[i], NH_NORMAL);
    }
    nh_lane_release(lanes, &calls[0].slot, NH_LOAD_TOO_MUCH); /* limit 4, held 7 */
    for (int i = 1; i < 4; i++)
        nh_lane_release(lanes, &calls[i].slot, NH_LOAD_NONE);
    CHECK_INT(granted_count, 0);
    nh_lane_release(lanes, &calls[4].slot, NH_LOAD_NONE);
    CHECK_INT(granted_count, 1);
    for (int i = 5; i < 9; i++)
        nh_lane_release(lanes, &calls[i].slot, NH_LOAD_NONE);
    nh_lanes_destroy(lanes);
}

/* First ones and repeated ones wait for a lane of ten slots. */
static void gives_repeated_attempts_their_share(void) {
    nh_lanes *lanes = lanes_of(1, 10, 10);
    static call calls[200];
    call *held[10];
    for (int i = 0; i < 200; i++) {
        calls[i] = make(i);
        calls[i].slot.again = i % 2; /* every second one */
    }
    for (int i = 0; i < 10; i++) /* nobody waits: they may have all of it */
        CHECK(acquire(lanes, held[i] = &calls[2 * i + 1], NH_NORMAL));
    CHECK_INT(look(lanes).again, 10);
    for (int i = 20; i < 120; i++)
        CHECK(!acquire(lanes, &calls[i], NH_NORMAL));
    CHECK_INT(look(lanes).waiting[NH_NORMAL], 100);
    for (int i = 0; i < 63; i++) {
        nh_lane_release(lanes, &held[i % 10]->slot, NH_LOAD_NONE);
        CHECK_INT(granted_count, i + 1);
        held[i % 10] = &calls[order[i]];
        CHECK_INT(look(lanes).again, i < 8 ? 9 - i : i < 62 ? 2 : 3); /* 62: no first one is left */
    }
    for (int i = 0; look(lanes).held > 0; i++) {
        nh_lane_release(lanes, &held[i % 10]->slot, NH_LOAD_NONE);
        if (granted_count > 63 + i)
            held[i % 10] = &calls[order[63 + i]];
    }
    CHECK_INT(granted_count, 100);
    CHECK_INT(look(lanes).again, 0);
    nh_lanes_destroy(lanes);
}

/* Three targets that could take ten each, four slots for all. */
static void keeps_all_lanes_within_the_total(void) {
    nh_lanes *lanes = nh_lanes_create(
        (nh_lane_options){.least = 1, .start = 10, .most = 10, .total = 4}, 0, NULL);
    static const char *const keys[] = {"a", "b", "c"};
    static call calls[3][10];
    call *held[4];
    granted_count = 0;
    for (int key = 0; key < 3; key++)
        for (int i = 0; i < 10; i++) {
            calls[key][i] = make(key * 10 + i);
            bool got = nh_lane_acquire(lanes, keys[key], 1, NH_NORMAL, &calls[key][i].slot, 0);
            CHECK_INT(got, key == 0 && i < 4);
            if (got)
                held[i] = &calls[key][i];
        }
    nh_lane_figures figures;
    nh_lanes_read(lanes, &figures);
    CHECK_INT((long long)figures.held, 4);
    CHECK_INT((long long)figures.waiting, 26);
    int counts[3] = {0};
    for (int i = 0; i < 18; i++) { /* as long as all three have somebody who waits */
        nh_lane_release(lanes, &held[i % 4]->slot, NH_LOAD_NONE);
        CHECK_INT(granted_count, i + 1);
        held[i % 4] = &calls[order[i] / 10][order[i] % 10];
        counts[order[i] / 10]++;
    }
    for (int key = 0; key < 3; key++)
        CHECK_INT(counts[key], 6); /* in turns, whoever came first */
    CHECK(nh_lane_cancel(lanes, &calls[2][9].slot));
    for (int i = 18; i < 30; i++) {
        nh_lane_release(lanes, &held[i % 4]->slot, NH_LOAD_NONE);
        if (granted_count > i)
            held[i % 4] = &calls[order[i] / 10][order[i] % 10];
        else
            held[i % 4] = NULL;
        if (i >= 25)
            break;
    }
    for (int i = 0; i < 4; i++)
        if (held[i])
            nh_lane_release(lanes, &held[i]->slot, NH_LOAD_NONE);
    CHECK_INT(granted_count, 25);
    nh_lanes_read(lanes, &figures);
    CHECK_INT((long long)figures.held, 0);
    CHECK_INT((long long)figures.waiting, 0);
    nh_lanes_destroy(lanes);
}

static void refuses_wrong_options(void) {
    nh_error error = {NH_OK, ""};
    CHECK(!nh_lanes_create((nh_lane_options){.least = 8, .start = 4, .most = 16}, 0, &error));
    CHECK_INT(error.code, NH_E_CONFIG);
    CHECK(strstr(error.message, "8, 4 and 16"));
    nh_lanes *lanes = nh_lanes_create((nh_lane_options){.most = 3}, 0, &error);
    call own = make(0);
    CHECK(acquire(lanes, &own, NH_NORMAL));
    CHECK_INT(look(lanes).limit, 3);
    nh_lane_release(lanes, &own.slot, NH_LOAD_FINE);
    nh_lanes_destroy(lanes);
    CHECK_INT(nh_lane_load(NH_OK), NH_LOAD_FINE);
    CHECK_INT(nh_lane_load(NH_E_RATE_LIMITED), NH_LOAD_TOO_MUCH);
    CHECK_INT(nh_lane_load(NH_E_REJECTED), NH_LOAD_NONE);
}

static void is_bounded(void) {
    nh_error error;
    nh_lanes *lanes =
        nh_lanes_create((nh_lane_options){.least = 1, .start = 1, .most = 1}, 64, &error);
    static call calls[100];
    char key[16];
    for (int i = 0; i < 100; i++) {
        calls[i] = make(i);
        int length = snprintf(key, sizeof key, "t%d", i);
        CHECK(nh_lane_acquire(lanes, key, (size_t)length, NH_LOW, &calls[i].slot, 0));
    }
    nh_lane_figures figures;
    nh_lanes_read(lanes, &figures);
    CHECK_INT((long long)figures.held, 64); /* the others go without being counted */
    CHECK_INT((long long)figures.table.refused, 36);
    for (int i = 0; i < 100; i++)
        nh_lane_release(lanes, &calls[i].slot, NH_LOAD_FINE);
    nh_lanes_destroy(lanes);
}

/* How many rounds of 50 ms a batch of a thousand takes against a target that could take all at
 * once: why the lane starts where it does. */
static void tells_what_a_start_costs(void) {
    static const unsigned starts[] = {2, 4, 16, 64};
    for (int i = 0; i < 4; i++) {
        nh_lanes *lanes = lanes_of(1, starts[i], 1024);
        unsigned sent = starts[i], rounds = 1, slow = 0;
        run_round(lanes, NH_LOAD_NONE);
        for (; sent < 1000; rounds++)
            sent += run_round(lanes, NH_LOAD_FINE);
        for (unsigned all = 0; all < 1000; slow++) /* if it grew by one a window from the start */
            all += starts[i] + slow;
        printf("# start %u: %u rounds, %u ms; with +1 a window %u rounds, %u ms\n", starts[i],
               rounds, rounds * 50, slow, slow * 50);
        nh_lanes_destroy(lanes);
    }
}

/* ----------------------------------------------------------------- threads */

enum { THREADS = 4, CALLS = 5000 };
static nh_lanes *shared;
static const char keys[] = "abcde";
static int key_count;
static _Atomic int inside, most_inside, done;

typedef struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int granted;
} worker;

typedef struct task {
    nh_slot slot; /* first */
    worker *owner;
} task;

static void wake(nh_slot *slot) {
    worker *owner = ((task *)slot)->owner;
    pthread_mutex_lock(&owner->lock);
    owner->granted = 1;
    pthread_cond_signal(&owner->changed);
    pthread_mutex_unlock(&owner->lock);
}

static void wait_for_grant(worker *own) {
    pthread_mutex_lock(&own->lock);
    while (!own->granted)
        pthread_cond_wait(&own->changed, &own->lock);
    own->granted = 0;
    pthread_mutex_unlock(&own->lock);
}

static void *work(void *user) {
    worker *own = user;
    for (int i = 0; i < CALLS; i++) {
        task *mine = calloc(1, sizeof *mine);
        mine->slot.granted = wake;
        mine->owner = own;
        const char *key = keys + i % key_count;
        if (!nh_lane_acquire(shared, key, 1, (nh_priority)(i % 4), &mine->slot, 0)) {
            if (i % 3 == 0 && nh_lane_cancel(shared, &mine->slot)) {
                free(mine);
                continue;
            }
            wait_for_grant(own);
        }
        int now = ++inside;
        if (now > most_inside)
            most_inside = now;
        inside--;
        done++;
        nh_lane_release(shared, &mine->slot, NH_LOAD_NONE);
        free(mine);
    }
    return NULL;
}

/* Over so many targets with two slots each and `total` for all. */
static void share(int targets, unsigned total) {
    static worker workers[THREADS];
    shared = nh_lanes_create((nh_lane_options){.least = 1, .start = 2, .most = 2, .total = total},
                             0, NULL);
    key_count = targets;
    inside = most_inside = done = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_mutex_init(&workers[i].lock, NULL);
        pthread_cond_init(&workers[i].changed, NULL);
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    CHECK(most_inside <= (int)total);
    CHECK(done > THREADS * CALLS / 2);
    nh_lane_figures figures;
    nh_lanes_read(shared, &figures);
    CHECK_INT((long long)figures.held, 0);
    CHECK_INT((long long)figures.waiting, 0);
    nh_lanes_destroy(shared);
}

static void is_shared_by_threads(void) {
    share(1, 2);
    share(5, 3);
    share(5, 1);
}

static void tells_what_a_call_costs(void) {
    enum { TIMES = 200000 };
    nh_lanes *lanes = lanes_of(1, 16, 1024);
    uint64_t before = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < TIMES; i++) {
        call own = make(i);
        acquire(lanes, &own, NH_NORMAL);
        nh_lane_release(lanes, &own.slot, NH_LOAD_FINE);
    }
    printf("# %.0f ns for acquire and release\n",
           (double)(nh_clock_read(CLOCK_THREAD_CPUTIME_ID) - before) / TIMES);
    nh_lanes_destroy(lanes);
}

int main(void) {
    RUN(gives_slots_up_to_the_limit);
    RUN(gives_them_by_weight);
    RUN(gives_repeated_attempts_their_share);
    RUN(grows_and_backs_off);
    RUN(does_not_grow_unused);
    RUN(shrinks_under_what_is_held);
    RUN(keeps_all_lanes_within_the_total);
    RUN(refuses_wrong_options);
    RUN(is_bounded);
    RUN(tells_what_a_start_costs);
    RUN(is_shared_by_threads);
    RUN(tells_what_a_call_costs);
    return check_end();
}
