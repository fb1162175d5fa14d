/* health_test.c — states, rates and latencies from made-up attempts. */
#include "runtime/work/health.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

#define START (100000 * NH_SECOND)
#define WALL  1.7e9

static void note_as(nh_health *health, const char *key, nh_err code, double seconds, uint64_t now) {
    nh_health_attempt attempt = {.code = code, .seconds = seconds};
    if (code != NH_OK) {
        attempt.text = "hooks.example.com: no";
        attempt.length = strlen(attempt.text);
    }
    nh_health_note(health, NH_HEALTH_PLATFORM, key, strlen(key), &attempt, now,
                   WALL + (double)(now - START) / 1e9);
}

static void note(nh_health *health, nh_err code, uint64_t now) {
    note_as(health, "slack", code, 0.1, now);
}

static nh_health_view look_at(nh_health *health, const char *key, uint64_t now) {
    nh_health_view view;
    nh_health_look(health, NH_HEALTH_PLATFORM, key, strlen(key), now, &view);
    return view;
}

static nh_health_view look(nh_health *health, uint64_t now) {
    return look_at(health, "slack", now);
}

#define CHECK_NEAR(got, wanted, share) CHECK(fabs((got) / (wanted)-1) <= (share))

static void is_unknown_before_anything_was_tried(void) {
    nh_health *health = nh_health_create(0);
    nh_health_view view = look(health, START);
    CHECK_INT(view.state, NH_HEALTH_UNKNOWN);
    CHECK(view.score == 0.5 && view.rate < 0 && view.p50 < 0);
    note(health, NH_E_CANCELLED, START); /* never reached the platform */
    note(health, NH_E_INVALID, START);
    CHECK_INT(look(health, START).state, NH_HEALTH_UNKNOWN);
    note(health, NH_E_REJECTED, START); /* about the message: the platform did answer */
    view = look(health, START);
    CHECK_INT(view.state, NH_HEALTH_UNKNOWN);
    CHECK_INT((long long)view.refused, 1);
    CHECK_INT(view.error_code, NH_E_REJECTED);
    CHECK(view.p50 > 0);
    nh_health_destroy(health);
}

static void has_states(void) {
    nh_health *health = nh_health_create(0);
    note(health, NH_OK, START);
    CHECK_INT(look(health, START).state, NH_HEALTH_HEALTHY);
    note(health, NH_E_TIMEOUT, START);
    CHECK_INT(look(health, START).state, NH_HEALTH_DEGRADED);
    note(health, NH_E_REJECTED, START); /* neither ends nor lengthens the row */
    CHECK_INT(look(health, START).row, 1);
    note(health, NH_E_NETWORK, START);
    note(health, NH_E_AUTH, START);
    nh_health_view view = look(health, START);
    CHECK_INT(view.state, NH_HEALTH_DOWN);
    CHECK_INT(view.row, 3);
    CHECK_INT(view.error_code, NH_E_AUTH);
    CHECK_STR(view.error_text, "hooks.example.com: no");
    CHECK(view.error_at == WALL && view.success_at == WALL);
    note(health, NH_OK, START);
    CHECK_INT(look(health, START).state, NH_HEALTH_DEGRADED); /* two of five */
    for (int i = 0; i < 100; i++)
        note(health, NH_OK, START);
    CHECK_INT(look(health, START).state, NH_HEALTH_HEALTHY);
    for (int i = 0; i < 300; i++) /* never three in a row, but two of three */
        note(health, i % 3 ? NH_E_UNAVAILABLE : NH_OK, START + 400 * NH_SECOND);
    note(health, NH_OK, START + 400 * NH_SECOND);
    CHECK_INT(look(health, START + 400 * NH_SECOND).state, NH_HEALTH_DOWN);
    nh_health_destroy(health);
}

static void forgets(void) {
    nh_health *health = nh_health_create(0);
    for (int i = 0; i < 10; i++)
        note(health, NH_OK, START);
    for (int i = 0; i < 10; i++)
        note(health, i < 9 ? NH_E_TIMEOUT : NH_OK, START);
    nh_health_view view = look(health, START);
    CHECK_NEAR(view.rate, 11.0 / 20, 1e-9);
    CHECK_NEAR(view.recent, 11.0 / 20, 1e-9);
    for (int i = 0; i < 10; i++)
        note(health, NH_OK, START + 1200 * NH_SECOND); /* two half-lives later */
    view = look(health, START + 1200 * NH_SECOND);
    CHECK_NEAR(view.recent, 1, 1e-9);
    CHECK_NEAR(view.rate, (11.0 / 4 + 10) / (20.0 / 4 + 10), 1e-9);
    CHECK_INT((long long)view.ok, 21);
    CHECK_INT((long long)view.failed, 9);
    view = look(health, START + 100 * 86400 * NH_SECOND);
    CHECK(view.recent < 0 && view.rate < 0 && view.p50 < 0);
    CHECK_INT(view.state, NH_HEALTH_HEALTHY); /* when it was last used it was */
    CHECK(view.score > 0.5 && view.score <= 1);
    nh_health_destroy(health);
}

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void tells_latencies(void) {
    enum { CALLS = 10000 };
    static double times[CALLS];
    nh_health *health = nh_health_create(0);
    uint64_t random = 1;
    for (int i = 0; i < CALLS; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        times[i] = 0.001 * exp((double)(random >> 40) / (double)(1 << 24) * 9); /* 1 ms … 8 s */
        note_as(health, "slack", NH_OK, times[i], START);
    }
    qsort(times, CALLS, sizeof *times, by_size);
    nh_health_view view = look(health, START);
    CHECK_NEAR(view.p50, times[CALLS / 2], 0.13);
    CHECK_NEAR(view.p90, times[CALLS * 9 / 10], 0.13);
    CHECK_NEAR(view.p99, times[CALLS * 99 / 100], 0.13);
    static const double odd[] = {0, -1, NAN, INFINITY, 1e300, 1e-9, 5000};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        note_as(health, "odd", NH_OK, odd[i], START);
    CHECK(look_at(health, "odd", START).p99 > 100);
    nh_health_destroy(health);
}

static void scores(void) {
    nh_health *health = nh_health_create(0);
    for (int i = 0; i < 20; i++) {
        note_as(health, "fast", NH_OK, 0.05, START);
        note_as(health, "slow", NH_OK, 4, START);
        note_as(health, "flaky", i % 4 ? NH_OK : NH_E_UNAVAILABLE, 0.05, START);
        note_as(health, "down", NH_E_NETWORK, 0.05, START);
    }
    static const char *const worse[] = {"fast", "slow", "flaky", "never tried", "down"};
    for (size_t i = 0; i < 5; i++) {
        double score = look_at(health, worse[i], START).score;
        CHECK(score >= 0 && score <= 1);
        if (i > 0)
            CHECK(score < look_at(health, worse[i - 1], START).score);
        CHECK(score ==
              nh_health_score(health, NH_HEALTH_PLATFORM, worse[i], strlen(worse[i]), START));
    }
    /* 0.4 + 0.3 + 0.2 (1 - 0.05/5) + 0.1, the latency within an eighth */
    CHECK_NEAR(look_at(health, "fast", START).score, 0.998, 0.001);
    CHECK_NEAR(look_at(health, "down", START).score, 0.1 / 21, 1e-9);
    nh_health_destroy(health);
}

static void cuts_a_long_error(void) {
    nh_health *health = nh_health_create(0);
    char text[1000];
    for (size_t i = 0; i < sizeof text; i += 2)
        text[i] = '\xC3', text[i + 1] = '\xA4';
    nh_health_attempt attempt = {
        .code = NH_E_NETWORK, .text = text, .length = sizeof text, .seconds = 1};
    nh_health_note(health, NH_HEALTH_TARGET, "t", 1, &attempt, START, WALL);
    nh_health_view view;
    nh_health_look(health, NH_HEALTH_TARGET, "t", 1, START, &view);
    CHECK_INT((long long)strlen(view.error_text), NH_HEALTH_TEXT_MAX - 1);
    CHECK_INT(look_at(health, "t", START).state, NH_HEALTH_UNKNOWN); /* another kind */
    nh_health_destroy(health);
}

static void writes_a_document(void) {
    nh_health *health = nh_health_create(0);
    char key[16];
    note(health, NH_OK, START);
    note(health, NH_E_TLS, START);
    for (size_t i = 0; i < NH_HEALTH_SHOWN + 7; i++) {
        nh_health_attempt attempt = {.seconds = 0.1};
        int length = snprintf(key, sizeof key, "t%zu", i);
        nh_health_note(health, NH_HEALTH_TARGET, key, (size_t)length, &attempt, START, WALL);
    }
    nh_writer *writer = nh_writer_create();
    nh_error error = {NH_OK, ""};
    nh_health_write(health, NULL, writer, START);
    nh_doc *doc = nh_writer_finish(writer, &error);
    CHECK_STR(error.message, "");
    const nh_value *root = nh_doc_root(doc);
    const nh_value *slack = nh_value_get(nh_value_get(root, "platforms"), "slack");
    size_t length;
    const char *state = nh_value_bytes(nh_value_get(slack, "state"), &length);
    CHECK(state && length == 8 && memcmp(state, "degraded", 8) == 0);
    CHECK(nh_value_real(nh_value_get(slack, "success_rate"), -1) == 0.5);
    CHECK(nh_value_real(nh_value_get(slack, "p99"), -1) > 0.08);
    CHECK_INT(nh_value_int(nh_value_get(slack, "delivered"), -1), 1);
    CHECK_INT(nh_value_int(nh_value_get(slack, "consecutive_failures"), -1), 1);
    CHECK(nh_value_real(nh_value_get(slack, "last_error_at"), -1) == WALL);
    CHECK_INT(nh_value_int(nh_value_get(root, "left_out"), -1), 7);
    CHECK_INT((long long)nh_value_count(nh_value_get(root, "targets")), NH_HEALTH_SHOWN);
    nh_doc_unref(doc);
    nh_writer_destroy(writer);
    nh_health_destroy(health);
}

static void granted(nh_slot *slot) {
    (void)slot;
}

/* Of two subjects one went through a lane, in which a slot is held and another one waited for. */
static void tells_the_lane_of_its_last_attempt(void) {
    nh_health *health = nh_health_create(0);
    nh_lanes *lanes =
        nh_lanes_create((nh_lane_options){.least = 1, .start = 1, .most = 1}, 0, NULL);
    nh_slot held = {.granted = granted}, waiting = {.granted = granted};
    CHECK(nh_lane_acquire(lanes, "host", 4, NH_NORMAL, &held, START));
    CHECK(!nh_lane_acquire(lanes, "host", 4, NH_LOW, &waiting, START));
    nh_health_attempt attempt = {.seconds = 0.1};
    nh_health_note(health, NH_HEALTH_TARGET, "without", 7, &attempt, START, WALL);
    attempt.lane = nh_lane_name(&held);
    nh_health_note(health, NH_HEALTH_TARGET, "with", 4, &attempt, START, WALL);
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 2);
    nh_writer_cstring(writer, "health");
    nh_health_write(health, lanes, writer, START + 2 * NH_SECOND);
    nh_writer_cstring(writer, "lanes");
    nh_lanes_write(lanes, writer, 10, START + 2 * NH_SECOND);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    const nh_value *root = nh_doc_root(doc);
    const nh_value *targets = nh_value_get(nh_value_get(root, "health"), "targets");
    const nh_value *views[] = {nh_value_get(targets, "with"),
                               nh_value_get(nh_value_get(root, "lanes"), "host")};
    for (int i = 0; i < 2; i++) {
        CHECK_INT(nh_value_int(nh_value_get(views[i], "limit"), -1), 1);
        CHECK_INT(nh_value_int(nh_value_get(views[i], "in_flight"), -1), 1);
        CHECK_INT(nh_value_int(nh_value_get(views[i], "waiting"), -1), 1);
        CHECK(nh_value_real(nh_value_get(views[i], "oldest"), -1) == 2);
    }
    CHECK(!nh_value_get(nh_value_get(targets, "without"), "limit"));
    nh_doc_unref(doc);
    nh_writer_destroy(writer);
    CHECK(nh_lane_cancel(lanes, &waiting));
    nh_lane_release(lanes, &held, NH_LOAD_NONE);
    nh_lanes_destroy(lanes);
    nh_health_destroy(health);
}

static void is_bounded(void) {
    nh_health *health = nh_health_create(64);
    char key[16];
    note(health, NH_OK, START);
    for (int i = 0; i < 1000; i++) {
        nh_health_attempt attempt = {.seconds = 0.1};
        int length = snprintf(key, sizeof key, "t%d", i);
        nh_health_note(health, NH_HEALTH_TARGET, key, (size_t)length, &attempt, START, WALL);
    }
    nh_keyed_figures figures;
    nh_health_read(health, NH_HEALTH_TARGET, &figures);
    CHECK_INT((long long)figures.keys, 64);
    CHECK_INT((long long)figures.evicted, 936);
    CHECK_INT(look(health, START).state, NH_HEALTH_HEALTHY); /* targets do not push accounts out */
    nh_health_destroy(health);
}

static void *note_many(void *user) {
    for (int i = 0; i < 5000; i++)
        note(user, i % 10 ? NH_OK : NH_E_TIMEOUT, START);
    return NULL;
}

static void is_shared_by_threads(void) {
    nh_health *health = nh_health_create(0);
    nh_writer *writer = nh_writer_create();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, note_many, health);
    for (int i = 0; i < 20; i++) {
        nh_health_write(health, NULL, writer, START);
        nh_doc *doc = nh_writer_finish(writer, NULL);
        CHECK(doc);
        nh_doc_unref(doc);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    nh_health_view view = look(health, START);
    CHECK_INT((long long)view.ok, 13500);
    CHECK_INT((long long)view.failed, 1500);
    nh_writer_destroy(writer);
    nh_health_destroy(health);
}

static void tells_what_a_call_costs(void) {
    enum { CALLS = 200000, LOOKS = 20000 };
    nh_health *health = nh_health_create(0);
    uint64_t before = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < CALLS; i++)
        note(health, NH_OK, START + (uint64_t)i * 1000);
    printf("# %.0f ns a note\n", (double)(nh_clock_read(CLOCK_THREAD_CPUTIME_ID) - before) / CALLS);
    before = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < LOOKS; i++)
        look(health, START + NH_SECOND);
    printf("# %.0f ns a look\n", (double)(nh_clock_read(CLOCK_THREAD_CPUTIME_ID) - before) / LOOKS);
    nh_health_destroy(health);
}

int main(void) {
    RUN(is_unknown_before_anything_was_tried);
    RUN(has_states);
    RUN(forgets);
    RUN(tells_latencies);
    RUN(scores);
    RUN(cuts_a_long_error);
    RUN(writes_a_document);
    RUN(tells_the_lane_of_its_last_attempt);
    RUN(is_bounded);
    RUN(is_shared_by_threads);
    RUN(tells_what_a_call_costs);
    return check_end();
}
