/* metrics_test.c — the text for Prometheus, read by a parser that forgives nothing. */
#include "runtime/core/metrics.h"

#include <locale.h>
#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

static const nh_gauges no_gauges;

/* ------------------------------------------------------------------ parser */

static bool is_name(char c, bool first) {
    return (c >= 'a' && c <= 'z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static const char *skip_name(const char *at) {
    if (!is_name(*at, true))
        return NULL;
    while (is_name(*at, false))
        at++;
    return at;
}

/* {name="value",…}: behind it, or NULL when it is wrong. */
static const char *skip_labels(const char *at) {
    do {
        at = skip_name(at + 1);
        if (!at || at[0] != '=' || at[1] != '"')
            return NULL;
        for (at += 2; *at != '"'; at++) {
            if (*at == '\0' || *at == '\n')
                return NULL;
            if (*at == '\\' && !(*++at == '\\' || *at == '"' || *at == 'n'))
                return NULL;
        }
        at++;
    } while (*at == ',');
    return *at == '}' ? at + 1 : NULL;
}

/* Checks each line, that a family's lines stand together behind its HELP and TYPE, and that no two
 * lines have the same name and labels. Returns the number of samples. */
static int parse(const char *text) {
    static char lines[4096][256];
    char family[128] = "", families[64][128];
    int samples = 0, seen = 0;
    const char *end;
    for (const char *at = text; *at; at = end + 1) {
        end = strchr(at, '\n');
        if (!CHECK(end))
            return -1;
        if (strncmp(at, "# HELP ", 7) == 0) {
            const char *stop = skip_name(at + 7);
            if (!CHECK(stop && *stop == ' ' && stop + 1 < end))
                return -1;
            snprintf(family, sizeof family, "%.*s", (int)(stop - at - 7), at + 7);
            for (int i = 0; i < seen; i++)
                CHECK(strcmp(families[i], family) != 0);
            snprintf(families[seen++], sizeof *families, "%s", family);
            size_t length = strlen(family);
            const char *type = end + 1 + 7 + length;
            CHECK(strncmp(end + 1, "# TYPE ", 7) == 0);
            CHECK(strncmp(end + 8, family, length) == 0);
            CHECK(strncmp(type, " counter\n", 9) == 0 || strncmp(type, " gauge\n", 7) == 0 ||
                  strncmp(type, " histogram\n", 11) == 0);
            end = strchr(end + 1, '\n');
            continue;
        }
        const char *stop = skip_name(at);
        if (!CHECK(stop && family[0] && strncmp(at, family, strlen(family)) == 0))
            return -1;
        if (*stop == '{')
            stop = skip_labels(stop);
        if (!CHECK(stop && *stop == ' ')) {
            printf("# %.*s\n", (int)(end - at), at);
            return -1;
        }
        char *rest;
        strtod(stop + 1, &rest);
        CHECK(rest == end);
        CHECK(memchr(stop, ',', (size_t)(end - stop)) == NULL);
        snprintf(lines[samples], sizeof *lines, "%.*s", (int)(stop - at), at);
        for (int i = 0; i < samples; i++)
            if (strcmp(lines[i], lines[samples]) == 0)
                CHECK_STR("twice", lines[i]);
        samples++;
    }
    return samples;
}

static char *text_of(const nh_metrics *metrics, const nh_gauges *gauges) {
    size_t length;
    char *text = nh_metrics_text(metrics, gauges, &length);
    CHECK_INT((long long)strlen(text), (long long)length);
    return text;
}

static void attempt(nh_metrics *metrics, const char *platform, nh_err code, double seconds) {
    nh_metrics_attempt(metrics, platform, strlen(platform), code, seconds);
}

#define CHECK_LINE(text, line)                                                                     \
    do {                                                                                           \
        const char *at_ = strstr(text, line "\n");                                                 \
        if (!CHECK(at_ && (at_ == (text) || at_[-1] == '\n')))                                     \
            printf("# %s is not in\n%s\n", line, text);                                            \
    } while (0)

/* ------------------------------------------------------------------- tests */

static void begins_with_zeros(void) {
    nh_metrics *metrics = nh_metrics_create();
    char *text = text_of(metrics, &no_gauges);
    CHECK(parse(text) > 20);
    CHECK_LINE(text, "notifyhub_messages_accepted_total 0");
    CHECK_LINE(text, "notifyhub_messages_settled_total{status=\"expired\"} 0");
    CHECK(!strstr(text, "notifyhub_attempt")); /* nothing to tell, not even a HELP */
    nh_free(text);
    nh_metrics_destroy(metrics);
}

static void counts(void) {
    nh_metrics *metrics = nh_metrics_create();
    nh_gauges gauges = {.in_flight = 7, .queue_urgent = 3, .breakers_half_open = 1};
    nh_metrics_accepted(metrics, 100);
    nh_metrics_accepted(metrics, 1);
    nh_metrics_settled(metrics, NH_DELIVERED);
    nh_metrics_settled(metrics, NH_PARTIAL);
    attempt(metrics, "slack", NH_OK, 0.2);
    attempt(metrics, "slack", NH_OK, 0.25);
    attempt(metrics, "slack", NH_E_RATE_LIMITED, 1e-4);
    attempt(metrics, "slack", NH_E_TIMEOUT, 100);
    nh_metrics_retry(metrics, "slack", 5);
    attempt(metrics, "email", NH_E_INTERNAL, -5); /* a clock that went back */
    char *text = text_of(metrics, &gauges);
    CHECK(parse(text) > 60);
    CHECK_LINE(text, "notifyhub_messages_accepted_total 101");
    CHECK_LINE(text, "notifyhub_messages_settled_total{status=\"delivered\"} 1");
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"slack\",code=\"ok\"} 2");
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"slack\",code=\"rate_limited\"} 1");
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"email\",code=\"internal\"} 1");
    CHECK_LINE(text, "notifyhub_retries_total{platform=\"slack\"} 1");
    CHECK_LINE(text, "notifyhub_attempt_seconds_bucket{platform=\"slack\",le=\"0.1\"} 1");
    CHECK_LINE(text, "notifyhub_attempt_seconds_bucket{platform=\"slack\",le=\"0.25\"} 3");
    CHECK_LINE(text, "notifyhub_attempt_seconds_bucket{platform=\"slack\",le=\"60\"} 3");
    CHECK_LINE(text, "notifyhub_attempt_seconds_bucket{platform=\"slack\",le=\"+Inf\"} 4");
    CHECK_LINE(text, "notifyhub_attempt_seconds_sum{platform=\"slack\"} 100.450100000");
    CHECK_LINE(text, "notifyhub_attempt_seconds_count{platform=\"slack\"} 4");
    CHECK_LINE(text, "notifyhub_in_flight 7");
    CHECK_LINE(text, "notifyhub_queue_messages{priority=\"urgent\"} 3");
    CHECK_LINE(text, "notifyhub_breakers{state=\"half-open\"} 1");
    const char *save = getenv("NH_METRICS_FILE"); /* for promtool check metrics */
    FILE *file = save ? fopen(save, "w") : NULL;
    if (file) {
        fputs(text, file);
        fclose(file);
    }
    nh_free(text);
    nh_metrics_destroy(metrics);
}

static void escapes_labels(void) {
    nh_metrics *metrics = nh_metrics_create();
    attempt(metrics, "a\"b\\c\nd", NH_OK, 1);
    attempt(metrics, "\xE9\xA3\x9E", NH_OK, 1); /* UTF-8 stays */
    attempt(metrics, "\xFF\"", NH_OK, 1);       /* what is none does not */
    char *text = text_of(metrics, &no_gauges);
    parse(text);
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"a\\\"b\\\\c\\nd\",code=\"ok\"} 1");
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"\xE9\xA3\x9E\",code=\"ok\"} 1");
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"?\\\"\",code=\"ok\"} 1");
    nh_free(text);
    nh_metrics_destroy(metrics);
}

static void bounds_its_labels(void) {
    nh_metrics *metrics = nh_metrics_create();
    char name[200];
    attempt(metrics, "other", NH_OK, 1); /* a platform of just this name */
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "p%d", i);
        attempt(metrics, name, NH_OK, 1);
    }
    memset(name, 'x', sizeof name);
    nh_metrics_attempt(metrics, name, sizeof name, NH_OK, 1);
    char *text = text_of(metrics, &no_gauges);
    CHECK(parse(text) < 1500);
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"p63\",code=\"ok\"} 1");
    CHECK_LINE(text, "notifyhub_attempts_total{platform=\"other\",code=\"ok\"} 938");
    nh_free(text);
    nh_metrics_destroy(metrics);
}

/* Numbers are the same wherever the host is at home. */
static void ignores_the_locale(void) {
    static const char *const commas[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"};
    bool set = false;
    for (int i = 0; i < 3 && !set; i++)
        set = setlocale(LC_NUMERIC, commas[i]) != NULL;
    printf("# %s\n", set ? "with a decimal comma" : "no locale with a decimal comma is here");
    nh_metrics *metrics = nh_metrics_create();
    attempt(metrics, "slack", NH_OK, 1.5);
    char *text = text_of(metrics, &no_gauges);
    CHECK_LINE(text, "notifyhub_attempt_seconds_sum{platform=\"slack\"} 1.500000000");
    nh_free(text);
    nh_metrics_destroy(metrics);
    setlocale(LC_NUMERIC, "C");
}

static void *attempt_many(void *user) {
    char name[8];
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "p%d", i % 100);
        attempt(user, name, NH_OK, 0.01);
    }
    return NULL;
}

static void is_shared_by_threads(void) {
    nh_metrics *metrics = nh_metrics_create();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, attempt_many, metrics);
    for (int i = 0; i < 10; i++) {
        char *text = text_of(metrics, &no_gauges);
        parse(text);
        nh_free(text);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    char *text = text_of(metrics, &no_gauges);
    long long all = 0;
    for (const char *at = text; (at = strstr(at, "code=\"ok\"} ")); at++)
        all += atoll(at + 11);
    CHECK_INT(all, 60000);
    nh_free(text);
    nh_metrics_destroy(metrics);
}

static void tells_what_a_call_costs(void) {
    enum { CALLS = 200000 };
    nh_metrics *metrics = nh_metrics_create();
    uint64_t before = nh_clock_read(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < CALLS; i++)
        attempt(metrics, "slack", NH_OK, 0.2);
    printf("# %.0f ns an attempt\n",
           (double)(nh_clock_read(CLOCK_THREAD_CPUTIME_ID) - before) / CALLS);
    nh_metrics_destroy(metrics);
}

int main(void) {
    RUN(begins_with_zeros);
    RUN(counts);
    RUN(escapes_labels);
    RUN(bounds_its_labels);
    RUN(ignores_the_locale);
    RUN(is_shared_by_threads);
    RUN(tells_what_a_call_costs);
    return check_end();
}
