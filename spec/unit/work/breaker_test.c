/* breaker_test.c — the breaker's states under a clock that the test moves. */
#include "runtime/work/breaker.h"

#include <pthread.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

#define START (1000 * NH_SECOND)
#define HOST  "hooks.example.com:443"

static char story[4096]; /* changes, as they were told */
static double open_seconds;

static void told(void *user, const nh_breaker_change *change) {
    (void)user;
    snprintf(story + strlen(story), sizeof story - strlen(story), "%s>%s ",
             nh_breaker_state_name(change->from), nh_breaker_state_name(change->to));
    CHECK_STR(change->key, HOST);
    CHECK((change->seconds > 0) == (change->to == NH_BREAKER_OPENED));
    if (change->to == NH_BREAKER_OPENED)
        open_seconds = change->seconds;
}

static nh_breaker *make(void) {
    story[0] = '\0';
    return nh_breaker_create(0, 42, told, NULL);
}

static nh_verdict ask(nh_breaker *breaker, uint64_t now, uint64_t *token, double *seconds) {
    nh_refusal refusal = {0};
    nh_verdict verdict = nh_breaker_before(breaker, HOST, strlen(HOST), now, token, &refusal);
    *seconds = refusal.seconds;
    return verdict;
}

static void tell(nh_breaker *breaker, uint64_t token, nh_outcome outcome, uint64_t now) {
    nh_breaker_after(breaker, HOST, strlen(HOST), token, outcome, now);
}

static nh_verdict call(nh_breaker *breaker, nh_outcome outcome, uint64_t now) {
    uint64_t token;
    double seconds;
    nh_verdict verdict = ask(breaker, now, &token, &seconds);
    if (verdict != NH_REFUSED)
        tell(breaker, token, outcome, now);
    return verdict;
}

static uint64_t later(uint64_t now, double seconds) {
    return now + (uint64_t)(seconds * 1e9);
}

static nh_breaker_state look(nh_breaker *breaker, uint64_t now) {
    return nh_breaker_look(breaker, HOST, strlen(HOST), now, NULL);
}

static void opens_at_five_failures_in_a_row(void) {
    nh_breaker *breaker = make();
    uint64_t token;
    double seconds = 0;
    for (int i = 0; i < 4; i++)
        CHECK_INT(call(breaker, NH_OUTCOME_FAILURE, START), NH_GO);
    CHECK_INT(call(breaker, NH_OUTCOME_SUCCESS, START), NH_GO); /* breaks the row */
    for (int i = 0; i < 4; i++)
        call(breaker, NH_OUTCOME_FAILURE, START + NH_SECOND);
    CHECK_INT(call(breaker, NH_OUTCOME_NONE, START), NH_GO); /* says nothing */
    CHECK_STR(story, "");
    CHECK_INT(call(breaker, NH_OUTCOME_FAILURE, START + NH_SECOND), NH_GO);
    CHECK_STR(story, "closed>open ");
    CHECK_INT(ask(breaker, START + NH_SECOND, &token, &seconds), NH_REFUSED);
    CHECK(seconds <= NH_BREAKER_OPEN && seconds >= 0.75 * NH_BREAKER_OPEN);
    CHECK(seconds > open_seconds - 1e-6 && seconds < open_seconds + 1e-6);
    nh_breaker_figures figures;
    nh_breaker_read(breaker, &figures);
    CHECK_INT((long long)figures.open, 1);
    CHECK_INT((long long)figures.opened, 1);
    CHECK_INT((long long)figures.refused, 1);
    nh_breaker_destroy(breaker);
}

static void opens_at_half_of_twenty_in_ten_seconds(void) {
    nh_breaker *breaker = make();
    for (int i = 0; i < 19; i++) /* success, failure, success, … */
        call(breaker, i % 2 ? NH_OUTCOME_FAILURE : NH_OUTCOME_SUCCESS, START + i * NH_SECOND / 3);
    CHECK_STR(story, "");
    call(breaker, NH_OUTCOME_FAILURE, START + 7 * NH_SECOND);
    CHECK_STR(story, "closed>open ");
    nh_breaker_destroy(breaker);

    breaker = make(); /* the same, over a longer time */
    for (int i = 0; i < 200; i++)
        call(breaker, i % 2 ? NH_OUTCOME_FAILURE : NH_OUTCOME_SUCCESS, START + i * NH_SECOND);
    CHECK_STR(story, "");
    nh_breaker_destroy(breaker);

    breaker = make(); /* less than half */
    for (int i = 0; i < 2000; i++)
        call(breaker, i % 5 < 2 ? NH_OUTCOME_FAILURE : NH_OUTCOME_SUCCESS, START + i * 1000000u);
    CHECK_STR(story, "");
    nh_breaker_destroy(breaker);
}

static uint64_t open_it(nh_breaker *breaker, uint64_t now) {
    for (unsigned i = 0; i < NH_BREAKER_FAILURES; i++)
        call(breaker, NH_OUTCOME_FAILURE, now);
    CHECK_INT(look(breaker, now), NH_BREAKER_OPENED);
    return later(now, open_seconds) + 1;
}

static void closes_after_three_probes(void) {
    nh_breaker *breaker = make();
    uint64_t now = open_it(breaker, START), token, other;
    double seconds = 0;
    for (int i = 0; i < 3; i++) {
        CHECK_INT(ask(breaker, now, &token, &seconds), NH_PROBE);
        CHECK_INT(ask(breaker, now, &other, &seconds), NH_REFUSED); /* one at a time */
        CHECK(seconds > 0);
        CHECK_INT(look(breaker, now), NH_BREAKER_HALF_OPEN);
        tell(breaker, token, NH_OUTCOME_SUCCESS, now);
    }
    CHECK_INT(look(breaker, now), NH_BREAKER_CLOSED);
    CHECK_INT(ask(breaker, now, &token, &seconds), NH_GO);
    CHECK_STR(story, "closed>open open>half-open half-open>closed ");
    nh_breaker_destroy(breaker);
}

static void opens_twice_as_long_each_time(void) {
    nh_breaker *breaker = make();
    uint64_t now = open_it(breaker, START);
    double base = NH_BREAKER_OPEN;
    for (int i = 0; i < 12; i++) {
        base = base * 2 < NH_BREAKER_OPEN_MOST ? base * 2 : NH_BREAKER_OPEN_MOST;
        CHECK_INT(call(breaker, NH_OUTCOME_FAILURE, now), NH_PROBE);
        CHECK(open_seconds <= base && open_seconds >= 0.75 * base);
        now = later(now, open_seconds) + 1;
    }
    for (int i = 0; i < 3; i++)
        CHECK_INT(call(breaker, NH_OUTCOME_SUCCESS, now), NH_PROBE);
    open_it(breaker, now); /* closed in between: from the beginning */
    CHECK(open_seconds <= NH_BREAKER_OPEN);
    nh_breaker_destroy(breaker);
}

static void gives_a_probe_back(void) {
    nh_breaker *breaker = make();
    uint64_t now = open_it(breaker, START), lost, token;
    double seconds = 0;
    CHECK_INT(call(breaker, NH_OUTCOME_NONE, now), NH_PROBE); /* cancelled */
    CHECK_INT(ask(breaker, now, &lost, &seconds), NH_PROBE);  /* and one that never comes back */
    CHECK_INT(ask(breaker, now + 100 * NH_SECOND, &token, &seconds), NH_REFUSED);
    now += 121 * NH_SECOND;
    CHECK_INT(ask(breaker, now, &token, &seconds), NH_PROBE);
    tell(breaker, lost, NH_OUTCOME_FAILURE, now); /* far too late: not heard */
    CHECK_INT(look(breaker, now), NH_BREAKER_HALF_OPEN);
    tell(breaker, token, NH_OUTCOME_SUCCESS, now);
    CHECK_STR(story, "closed>open open>half-open ");
    nh_breaker_destroy(breaker);
}

static void does_not_hear_what_began_before(void) {
    nh_breaker *breaker = make();
    uint64_t old[8], token;
    double seconds = 0;
    for (int i = 0; i < 8; i++)
        CHECK_INT(ask(breaker, START, &old[i], &seconds), NH_GO);
    for (int i = 0; i < 5; i++)
        tell(breaker, old[i], NH_OUTCOME_FAILURE, START);
    tell(breaker, old[5], NH_OUTCOME_FAILURE, START); /* told once, opened once */
    uint64_t now = later(START, open_seconds) + 1;
    CHECK_INT(ask(breaker, now, &token, &seconds), NH_PROBE);
    tell(breaker, old[6], NH_OUTCOME_FAILURE, now);
    tell(breaker, old[7], NH_OUTCOME_SUCCESS, now);
    CHECK_INT(look(breaker, now), NH_BREAKER_HALF_OPEN);
    CHECK_STR(story, "closed>open open>half-open ");
    nh_breaker_destroy(breaker);
}

static void counts_what_is_the_hosts(void) {
    CHECK_INT(nh_breaker_counts(NH_OK), NH_OUTCOME_SUCCESS);
    CHECK_INT(nh_breaker_counts(NH_E_NETWORK), NH_OUTCOME_FAILURE);
    CHECK_INT(nh_breaker_counts(NH_E_TIMEOUT), NH_OUTCOME_FAILURE);
    CHECK_INT(nh_breaker_counts(NH_E_UNAVAILABLE), NH_OUTCOME_FAILURE);
    CHECK_INT(nh_breaker_counts(NH_E_REJECTED), NH_OUTCOME_SUCCESS);
    CHECK_INT(nh_breaker_counts(NH_E_RATE_LIMITED), NH_OUTCOME_SUCCESS);
    CHECK_INT(nh_breaker_counts(NH_E_CANCELLED), NH_OUTCOME_NONE);
    CHECK_INT(nh_breaker_counts(NH_E_TLS), NH_OUTCOME_NONE);
    CHECK_INT(nh_breaker_counts(NH_E_INTERNAL), NH_OUTCOME_NONE);
    CHECK_INT(nh_breaker_counts((nh_err)9999), NH_OUTCOME_NONE);
}

static void writes_what_is_not_closed(void) {
    nh_breaker *breaker = make();
    uint64_t token;
    nh_refusal refusal;
    nh_breaker_before(breaker, "fine", 4, START, &token, &refusal);
    open_it(breaker, START);
    nh_writer *writer = nh_writer_create();
    nh_breaker_write(breaker, writer, 100, START);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    const nh_value *host = nh_value_get(nh_doc_root(doc), HOST);
    CHECK_INT((long long)nh_value_count(nh_doc_root(doc)), 1);
    CHECK(nh_value_real(nh_value_get(host, "retry_in"), -1) > 3);
    CHECK_INT(nh_value_int(nh_value_get(host, "failures"), -1), 5);
    nh_doc_unref(doc);
    nh_breaker_write(breaker, writer, 0, START);
    doc = nh_writer_finish(writer, NULL);
    CHECK_INT((long long)nh_value_count(nh_doc_root(doc)), 0);
    nh_doc_unref(doc);
    nh_writer_destroy(writer);
    nh_breaker_destroy(breaker);
}

static void is_bounded(void) {
    nh_breaker *breaker = nh_breaker_create(64, 1, NULL, NULL);
    char key[16];
    uint64_t token;
    nh_refusal refusal;
    for (int i = 0; i < 1000; i++) { /* far more that fail than there is room */
        int length = snprintf(key, sizeof key, "host-%d", i);
        for (int n = 0; n < 6; n++)
            if (nh_breaker_before(breaker, key, (size_t)length, START, &token, &refusal) !=
                NH_REFUSED)
                nh_breaker_after(breaker, key, (size_t)length, token, NH_OUTCOME_FAILURE, START);
    }
    nh_breaker_figures figures;
    nh_breaker_read(breaker, &figures);
    CHECK_INT((long long)figures.table.keys, 64);
    CHECK_INT((long long)figures.open, 64);
    CHECK_INT((long long)figures.table.refused, 0); /* the newest is always watched */
    CHECK_INT((long long)figures.opened, 1000);
    nh_breaker_destroy(breaker);
}

/* Threads that fail at once open it once, and one of them is the probe. */
static nh_breaker *shared;
static _Atomic int opened, probes;

static void count_opened(void *user, const nh_breaker_change *change) {
    (void)user;
    opened += change->to == NH_BREAKER_OPENED;
}

static void *fail_and_probe(void *user) {
    uint64_t token, now = *(uint64_t *)user;
    nh_refusal refusal;
    for (int i = 0; i < 1000; i++)
        if (nh_breaker_before(shared, "h", 1, START, &token, &refusal) == NH_GO)
            nh_breaker_after(shared, "h", 1, token, NH_OUTCOME_FAILURE, START);
    probes += nh_breaker_before(shared, "h", 1, now, &token, &refusal) == NH_PROBE;
    return NULL;
}

static void is_shared_by_threads(void) {
    pthread_t threads[4];
    uint64_t now = START + 10 * NH_SECOND;
    shared = nh_breaker_create(0, 7, count_opened, NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, fail_and_probe, &now);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(opened, 1);
    CHECK_INT(probes, 1);
    nh_breaker_destroy(shared);
}

static void tells_what_a_call_costs(void) {
    enum { CALLS = 200000 };
    nh_breaker *breaker = make();
    uint64_t before = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < CALLS; i++)
        call(breaker, NH_OUTCOME_SUCCESS, START + (uint64_t)i * 1000);
    printf("# %.0f ns for before and after\n",
           (double)(nh_clock_read(CLOCK_THREAD_CPUTIME_ID) - before) / CALLS);
    nh_breaker_destroy(breaker);
}

int main(void) {
    RUN(opens_at_five_failures_in_a_row);
    RUN(opens_at_half_of_twenty_in_ten_seconds);
    RUN(closes_after_three_probes);
    RUN(opens_twice_as_long_each_time);
    RUN(gives_a_probe_back);
    RUN(does_not_hear_what_began_before);
    RUN(counts_what_is_the_hosts);
    RUN(writes_what_is_not_closed);
    RUN(is_bounded);
    RUN(is_shared_by_threads);
    RUN(tells_what_a_call_costs);
    return check_end();
}
