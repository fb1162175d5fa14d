/* metrics.c — counters that only grow, and the text that tells them.
 *
 * Any thread; counting is a relaxed atomic addition, after a search through the few platforms there
 * are. A platform's row is found without a lock: rows are only ever added, and `count` is raised
 * after a row is whole. What Prometheus keeps grows with the distinct labels, so these are bounded:
 * platforms by NH_METRICS_PLATFORMS, codes and states by their lists.
 *
 * The text is written without printf's floating point, which follows the host's locale.
 */
#include "runtime/core/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/utf8.h"

#define PREFIX         "notifyhub_"
#define NAME_MAX_BYTES 64 /* of a platform */

/* A place for each code, NH_OK first. */
enum {
    CODE_OK,
#define NH_X(symbol, name, retryable, text) CODE_##symbol,
    NH_ERRORS(NH_X)
#undef NH_X
        CODES
};

enum {
    STATUSES = NH_EXPIRED + 1,
    OTHER = NH_METRICS_PLATFORMS, /* the row of all that found none */
};

/* Upper bounds of the histogram. */
static const struct {
    double seconds;
    const char *text;
} bounds[] = {
    {0.005, "0.005"}, {0.01, "0.01"}, {0.025, "0.025"}, {0.05, "0.05"}, {0.1, "0.1"},
    {0.25, "0.25"},   {0.5, "0.5"},   {1, "1"},         {2.5, "2.5"},   {5, "5"},
    {10, "10"},       {30, "30"},     {60, "60"},
};
enum { BOUNDS = sizeof bounds / sizeof *bounds };

typedef _Atomic uint64_t counter;

typedef struct row {
    char name[NAME_MAX_BYTES];
    size_t length;
    counter codes[CODES];
    counter retries;
    counter times[BOUNDS + 1]; /* the last: longer than all bounds */
    counter nanoseconds;
} row;

struct nh_metrics {
    pthread_mutex_t lock; /* for adding rows */
    atomic_size_t count;
    counter accepted;
    counter settled[STATUSES];
    row rows[NH_METRICS_PLATFORMS + 1];
};

nh_metrics *nh_metrics_create(void) {
    nh_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics || pthread_mutex_init(&metrics->lock, NULL) != 0) {
        free(metrics);
        return NULL;
    }
    row *other = &metrics->rows[OTHER];
    other->length = strlen("other");
    memcpy(other->name, "other", other->length);
    return metrics;
}

void nh_metrics_destroy(nh_metrics *metrics) {
    if (!metrics)
        return;
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

/* ---------------------------------------------------------------- counting */

static void add(counter *to, uint64_t n) {
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static uint64_t get(const counter *from) {
    return atomic_load_explicit(from, memory_order_relaxed);
}

static row *find(nh_metrics *metrics, const char *name, size_t length, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (metrics->rows[i].length == length && memcmp(metrics->rows[i].name, name, length) == 0)
            return &metrics->rows[i];
    return NULL;
}

static row *row_of(nh_metrics *metrics, const char *name, size_t length) {
    length = length < NAME_MAX_BYTES ? length : NAME_MAX_BYTES;
    size_t known = atomic_load_explicit(&metrics->count, memory_order_acquire);
    row *found = find(metrics, name, length, 0, known);
    if (found)
        return found;
    if (known == NH_METRICS_PLATFORMS || find(metrics, name, length, OTHER, OTHER + 1))
        return &metrics->rows[OTHER];
    pthread_mutex_lock(&metrics->lock);
    size_t count = atomic_load_explicit(&metrics->count, memory_order_relaxed);
    found = find(metrics, name, length, known, count);
    if (!found && count < NH_METRICS_PLATFORMS) {
        found = &metrics->rows[count];
        memcpy(found->name, name, length);
        found->length = length;
        atomic_store_explicit(&metrics->count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&metrics->lock);
    return found ? found : &metrics->rows[OTHER];
}

void nh_metrics_accepted(nh_metrics *metrics, size_t messages) {
    add(&metrics->accepted, messages);
}

void nh_metrics_settled(nh_metrics *metrics, nh_status status) {
    add(&metrics->settled[status], 1);
}

void nh_metrics_attempt(nh_metrics *metrics, const char *platform, size_t length, nh_err code,
                        double seconds) {
    row *at = row_of(metrics, platform, length);
    size_t bucket = 0;
    seconds = seconds > 0 && seconds < 1e9 ? seconds : 0;
    while (bucket < BOUNDS && seconds > bounds[bucket].seconds)
        bucket++;
    add(&at->codes[(size_t)code < CODES ? code : NH_E_INTERNAL], 1);
    add(&at->times[bucket], 1);
    add(&at->nanoseconds, (uint64_t)(seconds * 1e9));
}

void nh_metrics_retry(nh_metrics *metrics, const char *platform, size_t length) {
    add(&row_of(metrics, platform, length)->retries, 1);
}

/* ----------------------------------------------------------------- writing */

/* HELP and TYPE of a metric, before its lines. */
static void head(FILE *out, const char *name, const char *type, const char *help) {
    fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

/* A label's value: any UTF-8, with \, " and line feed escaped. */
static void put_value(FILE *out, const char *bytes, size_t length) {
    bool whole = nh_utf8_valid(bytes, length);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n')
            fputs("\\n", out);
        else if (c == '\\' || c == '"')
            fprintf(out, "\\%c", c);
        else
            fputc(c >= 0x80 && !whole ? '?' : c, out);
    }
}

/* `name{platform="…"`, the brace left open. */
static void put_row(FILE *out, const char *name, const row *of) {
    fprintf(out, PREFIX "%s{platform=\"", name);
    put_value(out, of->name, of->length);
    fputc('"', out);
}

static void put_attempts(FILE *out, const row *of) {
    for (int code = 0; code < CODES; code++) {
        uint64_t n = get(&of->codes[code]);
        if (n == 0)
            continue;
        put_row(out, "attempts_total", of);
        fprintf(out, ",code=\"%s\"} %" PRIu64 "\n", code ? nh_err_name((nh_err)code) : "ok", n);
    }
}

static void put_retries(FILE *out, const row *of) {
    put_row(out, "retries_total", of);
    fprintf(out, "} %" PRIu64 "\n", get(&of->retries));
}

static void put_histogram(FILE *out, const row *of) {
    uint64_t all = 0, nanoseconds = get(&of->nanoseconds);
    for (int i = 0; i <= BOUNDS; i++) {
        all += get(&of->times[i]);
        put_row(out, "attempt_seconds_bucket", of);
        fprintf(out, ",le=\"%s\"} %" PRIu64 "\n", i < BOUNDS ? bounds[i].text : "+Inf", all);
    }
    put_row(out, "attempt_seconds_sum", of);
    fprintf(out, "} %" PRIu64 ".%09" PRIu64 "\n", nanoseconds / 1000000000,
            nanoseconds % 1000000000);
    put_row(out, "attempt_seconds_count", of);
    fprintf(out, "} %" PRIu64 "\n", all);
}

static bool is_used(const row *of) {
    uint64_t all = get(&of->retries);
    for (int i = 0; i <= BOUNDS; i++)
        all += get(&of->times[i]);
    return all > 0;
}

static void put_rows(FILE *out, const nh_metrics *metrics, void (*put)(FILE *, const row *)) {
    size_t count = atomic_load_explicit(&metrics->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        put(out, &metrics->rows[i]);
    if (is_used(&metrics->rows[OTHER]))
        put(out, &metrics->rows[OTHER]);
}

static void put_gauges(FILE *out, const nh_gauges *gauges) {
    const struct {
        const char *name, *type, *label, *help;
        uint64_t value;
    } lines[] = {
#define NH_X(field, name, type, label, help) {name, type, label, help, gauges->field},
        NH_GAUGES(NH_X)
#undef NH_X
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        bool labelled = lines[i].label[0] != '\0';
        if (i == 0 || strcmp(lines[i].name, lines[i - 1].name) != 0)
            head(out, lines[i].name, lines[i].type, lines[i].help);
        fprintf(out, PREFIX "%s%s%s%s %" PRIu64 "\n", lines[i].name, labelled ? "{" : "",
                lines[i].label, labelled ? "}" : "", lines[i].value);
    }
}

char *nh_metrics_text(const nh_metrics *metrics, const nh_gauges *gauges, size_t *length) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    head(out, "messages_accepted_total", "counter", "messages that were accepted");
    fprintf(out, PREFIX "messages_accepted_total %" PRIu64 "\n", get(&metrics->accepted));
    head(out, "messages_settled_total", "counter", "messages that have their receipt");
    for (int status = 0; status < STATUSES; status++)
        fprintf(out, PREFIX "messages_settled_total{status=\"%s\"} %" PRIu64 "\n",
                nh_status_name((nh_status)status), get(&metrics->settled[status]));
    put_gauges(out, gauges);
    /* What has no platform yet has no line; a HELP alone would say nothing. */
    if (atomic_load_explicit(&metrics->count, memory_order_acquire) > 0 ||
        is_used(&metrics->rows[OTHER])) {
        head(out, "attempts_total", "counter", "attempts that ended, by what came of them");
        put_rows(out, metrics, put_attempts);
        head(out, "retries_total", "counter", "attempts that were made again");
        put_rows(out, metrics, put_retries);
        head(out, "attempt_seconds", "histogram", "how long attempts took");
        put_rows(out, metrics, put_histogram);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    if (length)
        *length = size;
    return text;
}
