/* limiter_test.c — token buckets under a clock that the test moves. */
#include "runtime/work/limiter.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

#define START (1000 * NH_SECOND)

static nh_rate rate_of(double tokens, double seconds, double burst) {
    nh_rate rate;
    nh_error error = {NH_OK, ""};
    CHECK_INT(nh_rate_make(tokens, seconds, burst, &rate, &error), NH_OK);
    return rate;
}

static double take(nh_limiter *limiter, const nh_rate *rate, uint64_t now, nh_ticket *ticket) {
    return nh_limiter_take(limiter, "slack", 5, rate, 1, -1, now, ticket);
}

static double redeem(nh_limiter *limiter, uint64_t now, nh_ticket *ticket) {
    return nh_limiter_redeem(limiter, "slack", 5, now, ticket);
}

static void pause_for(nh_limiter *limiter, double seconds, uint64_t now) {
    nh_limiter_pause(limiter, "slack", 5, seconds, now);
}

#define CHECK_NEAR(got, wanted) CHECK(fabs((got) - (wanted)) < 1e-6)

static void refuses_rates_that_are_none(void) {
    static const struct {
        double tokens, seconds, burst;
        const char *part;
    } cases[] = {
        {0, 1, 1, "tokens"},       {-1, 1, 1, "tokens"},    {0.5, 1, 1, "tokens"},
        {1e7, 1, 1, "tokens"},     {NAN, 1, 1, "tokens"},   {INFINITY, 1, 1, "tokens"},
        {1, 0, 1, "seconds"},      {1, -1, 1, "seconds"},   {1, NAN, 1, "seconds"},
        {1, 1e6, 1, "seconds"},    {1, 1e-6, 1, "seconds"}, {1, 1, 0, "burst"},
        {1, 1, 1.5, "burst"},      {1, 1, 1e300, "burst"},  {1, 1, NAN, "burst"},
        {1, 86400, 367, "a year"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nh_rate rate;
        nh_error error = {NH_OK, ""};
        CHECK_INT(nh_rate_make(cases[i].tokens, cases[i].seconds, cases[i].burst, &rate, &error),
                  NH_E_CONFIG);
        CHECK(strstr(error.message, cases[i].part));
        CHECK_INT(rate.tokens, 0);
    }
}

static void gives_a_burst_and_then_one_an_interval(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(2, 1, 3);
    nh_ticket tickets[6];
    static const double waits[] = {0, 0, 0, 0.5, 1, 1.5};
    for (int i = 0; i < 6; i++) {
        CHECK_NEAR(take(limiter, &rate, START, &tickets[i]), waits[i]);
        CHECK_INT(tickets[i].waiting, waits[i] > 0);
    }
    for (int i = 3; i < 6; i++) { /* woken on time, they go */
        CHECK(redeem(limiter, START + (uint64_t)(waits[i] * 1e9) - 1, &tickets[i]) > 0);
        CHECK_NEAR(redeem(limiter, START + (uint64_t)(waits[i] * 1e9), &tickets[i]), 0);
    }
    nh_ticket ticket;
    for (int i = 0; i < 3; i++) /* after a long silence there is a burst, and no more than that */
        CHECK_NEAR(take(limiter, &rate, START + 3600 * NH_SECOND, &ticket), 0);
    CHECK_NEAR(take(limiter, &rate, START + 3600 * NH_SECOND, &ticket), 0.5);
    nh_limiter_cancel(limiter, "slack", 5, &ticket);
    nh_limiter_destroy(limiter);
}

/* Seven tokens in a second: an interval that is no whole number of nanoseconds. */
static void does_not_drift(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(7, 1, 1);
    nh_ticket ticket;
    uint64_t now = START;
    for (int i = 0; i < 7 * 20000; i++) {
        double wait = take(limiter, &rate, now, &ticket);
        now = wait > 0 ? ticket.at : now;
        if (redeem(limiter, now, &ticket) != 0)
            CHECK(!"a ticket is good at its time");
    }
    /* The first went at once; the last goes 139,999 sevenths of a second later, rounded up. */
    CHECK_INT((long long)(now - START), (7LL * 20000 - 1) * 1000000000LL / 7 + 1);
    nh_limiter_destroy(limiter);
}

static void takes_nothing_when_the_wait_is_too_long(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(1, 10, 1);
    nh_ticket ticket;
    CHECK_NEAR(take(limiter, &rate, START, &ticket), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_NEAR(nh_limiter_take(limiter, "slack", 5, &rate, 1, 5, START, &ticket), 10);
        CHECK(!ticket.waiting);
    }
    CHECK_NEAR(nh_limiter_wait(limiter, "slack", 5, START), 10);
    CHECK_NEAR(nh_limiter_take(limiter, "slack", 5, &rate, 1, 10, START, &ticket), 10);
    CHECK(ticket.waiting);
    CHECK_NEAR(nh_limiter_take(limiter, "teams", 5, &rate, 1, 0, START, &ticket), 0);
    nh_limiter_destroy(limiter);
}

static void takes_several_at_once(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(1, 1, 4);
    nh_ticket ticket;
    CHECK_NEAR(nh_limiter_take(limiter, "k", 1, &rate, 3, -1, START, &ticket), 0);
    CHECK_NEAR(nh_limiter_take(limiter, "k", 1, &rate, 3, -1, START, &ticket), 2);
    nh_limiter_cancel(limiter, "k", 1, &ticket);
    CHECK_NEAR(nh_limiter_wait(limiter, "k", 1, START), 0); /* one is left */
    CHECK_NEAR(nh_limiter_take(limiter, "k", 1, &rate, 99, -1, START, &ticket), 3); /* = burst */
    nh_limiter_destroy(limiter);
}

static void gives_back_what_is_cancelled(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(1, 1, 1);
    nh_ticket first, tickets[1000], next;
    nh_limiter_figures figures;
    take(limiter, &rate, START, &first);
    for (int i = 0; i < 1000; i++)
        CHECK_NEAR(take(limiter, &rate, START, &tickets[i]), i + 1.0);
    nh_limiter_cancel(limiter, "slack", 5, &tickets[999]); /* the last: its place is free again */
    CHECK_NEAR(take(limiter, &rate, START, &tickets[999]), 1000);
    nh_limiter_read(limiter, &figures);
    CHECK_INT((long long)figures.waiting, 1000);
    for (int i = 0; i < 1000; i++) /* a batch is cancelled from its front */
        nh_limiter_cancel(limiter, "slack", 5, &tickets[i]);
    nh_limiter_cancel(limiter, "slack", 5, &tickets[0]); /* once more changes nothing */
    CHECK_NEAR(take(limiter, &rate, START, &next), 1);
    nh_limiter_read(limiter, &figures);
    CHECK_INT((long long)figures.waiting, 1);
    nh_limiter_destroy(limiter);
}

static void puts_all_off_by_a_pause(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(1, 1, 2);
    nh_ticket tickets[4], late;
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(take(limiter, &rate, START, &tickets[i]), i < 2 ? 0 : i - 1.0);
    pause_for(limiter, 10, START);
    pause_for(limiter, 4, START); /* a shorter one inside of it */
    CHECK_NEAR(redeem(limiter, START + 1 * NH_SECOND, &tickets[2]), 10);
    CHECK_NEAR(redeem(limiter, START + 2 * NH_SECOND, &tickets[3]), 10);
    CHECK_NEAR(take(limiter, &rate, START, &late), 13);
    pause_for(limiter, 10, START + 5 * NH_SECOND); /* till 15 s: five seconds more */
    CHECK(redeem(limiter, START + 11 * NH_SECOND, &tickets[2]) > 0);
    CHECK_NEAR(redeem(limiter, START + 16 * NH_SECOND, &tickets[2]), 0);
    CHECK_NEAR(redeem(limiter, START + 17 * NH_SECOND, &tickets[3]), 0);
    CHECK_NEAR(redeem(limiter, START + 17 * NH_SECOND, &late), 1);
    CHECK_NEAR(redeem(limiter, START + 18 * NH_SECOND, &late), 0);

    pause_for(limiter, 1e300, START + 100 * NH_SECOND); /* Retry-After is anybody's */
    CHECK_NEAR(nh_limiter_wait(limiter, "slack", 5, START + 100 * NH_SECOND), NH_PAUSE_MOST);
    pause_for(limiter, -5, START);
    pause_for(limiter, NAN, START);
    nh_limiter_destroy(limiter);
}

static void pauses_what_has_no_rate(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_ticket ticket, other;
    nh_limiter_figures figures;
    CHECK_NEAR(take(limiter, NULL, START, &ticket), 0);
    nh_limiter_read(limiter, &figures);
    CHECK_INT((long long)figures.table.keys, 0);
    pause_for(limiter, 3, START);
    CHECK_NEAR(take(limiter, NULL, START + NH_SECOND, &ticket), 2);
    CHECK_NEAR(take(limiter, NULL, START + NH_SECOND, &other), 2);
    nh_limiter_cancel(limiter, "slack", 5, &other);
    pause_for(limiter, 3, START + 2 * NH_SECOND);
    CHECK_NEAR(redeem(limiter, START + 3 * NH_SECOND, &ticket), 2);
    CHECK_NEAR(redeem(limiter, START + 5 * NH_SECOND, &ticket), 0);
    CHECK_NEAR(take(limiter, NULL, START + 5 * NH_SECOND, &ticket), 0);
    nh_limiter_destroy(limiter);
}

static void follows_a_new_rate(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate slow = rate_of(1, 60, 1), fast = rate_of(100, 1, 1);
    nh_ticket old, ticket;
    take(limiter, &slow, START, &old);
    CHECK_NEAR(take(limiter, &slow, START, &old), 60);
    CHECK(take(limiter, &fast, START, &ticket) > 0);
    nh_limiter_cancel(limiter, "slack", 5, &old); /* of the rate before: nothing to give back */
    CHECK_NEAR(take(limiter, &fast, START + 200 * NH_SECOND, &ticket), 0);
    CHECK_NEAR(take(limiter, &fast, START + 200 * NH_SECOND, &ticket), 0.01);
    nh_limiter_destroy(limiter);
}

static void is_bounded(void) {
    nh_limiter *limiter = nh_limiter_create(128);
    nh_rate rate = rate_of(1, 1, 1);
    nh_limiter_figures figures;
    nh_ticket ticket, held[2];
    char key[16];
    take(limiter, &rate, START, &held[0]);
    take(limiter, &rate, START, &held[1]); /* "slack" has somebody who waits: it stays */
    for (int i = 0; i < 10000; i++) {
        int length = snprintf(key, sizeof key, "target-%d", i);
        CHECK_NEAR(nh_limiter_take(limiter, key, (size_t)length, &rate, 1, -1, START, &ticket), 0);
    }
    nh_limiter_read(limiter, &figures);
    CHECK_INT((long long)figures.table.most, 128);
    CHECK(figures.table.keys <= 128);
    CHECK_INT((long long)(figures.table.evicted + figures.table.keys), 10001);
    CHECK_NEAR(redeem(limiter, START, &held[1]), 1);
    nh_limiter_destroy(limiter);
}

static void tells_long_keys_apart(void) {
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(1, 1, 1);
    nh_ticket ticket;
    char key[5000];
    memset(key, 'x', sizeof key);
    CHECK_NEAR(nh_limiter_take(limiter, key, sizeof key, &rate, 1, -1, START, &ticket), 0);
    CHECK_NEAR(nh_limiter_take(limiter, key, sizeof key, &rate, 1, -1, START, &ticket), 1);
    key[sizeof key - 1] = 'y';
    CHECK_NEAR(nh_limiter_take(limiter, key, sizeof key, &rate, 1, -1, START, &ticket), 0);
    nh_limiter_destroy(limiter);
}

/* Two threads that go one after the other through the same schedule never share a place. */
typedef struct taker {
    nh_limiter *limiter;
    pthread_t thread;
    uint64_t at[2000];
} taker;

static void *take_many(void *user) {
    taker *own = user;
    nh_rate rate = {1000, 1, NH_SECOND};
    for (int i = 0; i < 2000; i++) {
        nh_ticket ticket;
        double wait = take(own->limiter, &rate, START, &ticket);
        own->at[i] = wait > 0 ? ticket.at : START;
        if (i > 0)
            CHECK(own->at[i] > own->at[i - 1]);
        redeem(own->limiter, own->at[i], &ticket);
    }
    return NULL;
}

static int by_time(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void is_shared_by_threads(void) {
    static taker takers[2];
    static uint64_t all[4000];
    nh_limiter *limiter = nh_limiter_create(0);
    for (int i = 0; i < 2; i++) {
        takers[i].limiter = limiter;
        pthread_create(&takers[i].thread, NULL, take_many, &takers[i]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(takers[i].thread, NULL);
        memcpy(all + 2000 * i, takers[i].at, sizeof takers[i].at);
    }
    qsort(all, 4000, sizeof *all, by_time);
    for (size_t i = 0; i < 4000; i++)
        CHECK_INT((long long)(all[i] - START), (long long)i * 1000000);
    nh_limiter_destroy(limiter);
}

static void tells_what_a_call_costs(void) {
    enum { CALLS = 200000 };
    nh_limiter *limiter = nh_limiter_create(0);
    nh_rate rate = rate_of(1000000, 1, 1000000);
    nh_ticket ticket;
    uint64_t before = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < CALLS; i++)
        nh_limiter_take(limiter, "hooks.example.com", 17, &rate, 1, -1, START + (uint64_t)i * 1000,
                        &ticket);
    printf("# %.0f ns a take\n", (double)(nh_clock_read(CLOCK_THREAD_CPUTIME_ID) - before) / CALLS);
    nh_limiter_destroy(limiter);
}

int main(void) {
    RUN(refuses_rates_that_are_none);
    RUN(gives_a_burst_and_then_one_an_interval);
    RUN(does_not_drift);
    RUN(takes_nothing_when_the_wait_is_too_long);
    RUN(takes_several_at_once);
    RUN(gives_back_what_is_cancelled);
    RUN(puts_all_off_by_a_pause);
    RUN(pauses_what_has_no_rate);
    RUN(follows_a_new_rate);
    RUN(is_bounded);
    RUN(tells_long_keys_apart);
    RUN(is_shared_by_threads);
    RUN(tells_what_a_call_costs);
    return check_end();
}
