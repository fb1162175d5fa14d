/* journal.c — what the journal costs beside SQLite: durable messages of ~500 bytes a second, in
 * batches, against a bare loop that commits the same rows in the same batches, and of the same
 * batches through nh_hub_send_batch into a hub that delivers none of them; then how long the hub's
 * call takes, and the latency of acceptance when 20,000 messages a second are offered one by one.
 *
 *     build/spec/bench/journal [DIRECTORY] [MESSAGES]
 *
 * Each pair runs interleaved, thrice, and shows its medians: the speed of a disk drifts. The bare
 * loop has the journal's tables, pragmas and statement, nothing else: no threads, no acks.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/store/store.h"
#include "spec/unit/hub/fake.h"

enum { ROUNDS = 3, PAYLOAD = 500, OFFERED = 20000, SENDERS = 4, LARGEST = 1000 };

static unsigned char payload[PAYLOAD] = {
    0x81, 0xa1, 'b', 0xc5, (PAYLOAD - 6) >> 8, (PAYLOAD - 6) & 0xff};
static char directory[512];

static void stop(const char *what, const char *why) {
    fprintf(stderr, "bench_journal: %s: %s\n", what, why);
    exit(1);
}

static const char *path(const char *name) {
    static char text[600];
    snprintf(text, sizeof text, "%s/%s", directory, name);
    return text;
}

static void forget(const char *name) {
    static const char *const ends[] = {"", "-wal", ".lock", ".ring"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char text[640];
        snprintf(text, sizeof text, "%s%s", path(name), ends[i]);
        unlink(text);
    }
}

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static double quantile(double *values, size_t count, double part) {
    qsort(values, count, sizeof *values, ascending);
    return values[(size_t)((double)(count - 1) * part)];
}

/* --------------------------------------------------------------------- bare */

static void run(sqlite3 *sqlite, const char *sql) {
    if (sqlite3_exec(sqlite, sql, NULL, NULL, NULL))
        stop(sql, sqlite3_errmsg(sqlite));
}

static double bare(size_t count, size_t batch) {
    sqlite3 *sqlite;
    sqlite3_stmt *put;
    forget("bare");
    if (sqlite3_open(path("bare"), &sqlite))
        stop("open", sqlite3_errmsg(sqlite));
    run(sqlite,
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;"
        "CREATE TABLE q(id INTEGER PRIMARY KEY, due INTEGER, created INTEGER, expires "
        "INTEGER, attempts INTEGER, crashes INTEGER, lane TEXT, message TEXT, payload BLOB);"
        "CREATE INDEX q_due ON q(due) WHERE due > 0");
    sqlite3_prepare_v2(sqlite,
                       "INSERT INTO q VALUES(?1, 0, ?2, 0, 0, 0, 'slack', "
                       "'01HZZZZZZZZZZZZZZZZZZZZZZZ', ?3)",
                       -1, &put, NULL);
    uint64_t start = nh_monotonic();
    for (size_t i = 0; i < count; i += batch) {
        run(sqlite, "BEGIN IMMEDIATE");
        for (size_t k = 0; k < batch; k++) {
            sqlite3_bind_int64(put, 1, (sqlite3_int64)i + (sqlite3_int64)k + 1);
            sqlite3_bind_int64(put, 2, 1700000000000);
            sqlite3_bind_blob(put, 3, payload, PAYLOAD, SQLITE_STATIC);
            if (sqlite3_step(put) != SQLITE_DONE)
                stop("insert", sqlite3_errmsg(sqlite));
            sqlite3_reset(put);
        }
        run(sqlite, "COMMIT");
    }
    double seconds = (double)(nh_monotonic() - start) / 1e9;
    sqlite3_finalize(put);
    sqlite3_close(sqlite);
    forget("bare");
    return (double)count / seconds;
}

/* ------------------------------------------------------------------ journal */

typedef struct sending {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
} sending;

static void accepted(nh_store_batch *batch, nh_err failed, const char *why) {
    sending *s = batch->context;
    if (failed)
        stop("enqueue", why);
    pthread_mutex_lock(&s->lock);
    s->done = true;
    pthread_cond_signal(&s->ended);
    pthread_mutex_unlock(&s->lock);
}

static nh_store *open_store(void) {
    nh_error error;
    forget("journal");
    nh_store *store = nh_store_journal.open(&(nh_store_options){.path = path("journal")}, &error);
    if (!store)
        stop("open", error.message);
    return store;
}

static void close_store(nh_store *store) {
    nh_error error;
    if (store->ops->close(store, &error))
        stop("close", error.message);
    forget("journal");
}

static void send_one(nh_store *store, nh_store_item *items, size_t count) {
    sending s = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    nh_store_batch batch = {.items = items, .count = count, .done = accepted, .context = &s};
    nh_error error;
    if (store->ops->enqueue(store, &batch, &error))
        stop("enqueue", error.message);
    pthread_mutex_lock(&s.lock);
    while (!s.done)
        pthread_cond_wait(&s.ended, &s.lock);
    pthread_mutex_unlock(&s.lock);
}

static void fill(nh_store_item *items, size_t count) {
    for (size_t i = 0; i < count; i++)
        items[i] = (nh_store_item){.id = "01HZZZZZZZZZZZZZZZZZZZZZZZ",
                                   .lane = "slack",
                                   .payload = payload,
                                   .length = PAYLOAD,
                                   .created_at = 1.7e9,
                                   .priority = NH_NORMAL,
                                   .take = true};
}

static double journal(size_t count, size_t batch, bool acks) {
    nh_store *store = open_store();
    nh_store_item items[LARGEST];
    nh_row rows[LARGEST];
    uint64_t start = nh_monotonic();
    for (size_t i = 0; i < count; i += batch) {
        fill(items, batch);
        send_one(store, items, batch);
        for (size_t k = 0; k < batch; k++)
            rows[k] = items[k].row;
        if (acks && store->ops->ack(store, rows, batch))
            stop("ack", "out of memory");
    }
    if (store->ops->sync(store, NULL))
        stop("sync", "failed");
    double seconds = (double)(nh_monotonic() - start) / 1e9;
    close_store(store);
    return (double)count / seconds;
}

/* ---------------------------------------------------------------------- hub */

static double held[1000000]; /* ms of each call of the last round */

/* A hub whose one worker is held by the first message. */
static double hub(size_t count, size_t batch, size_t *calls) {
    nh_error error;
    char text[1024], body[PAYLOAD - 40];
    forget("hub");
    memset(body, 'x', sizeof body - 1);
    body[sizeof body - 1] = '\0';
    snprintf(text, sizeof text,
             "{\"workers\":{\"max\":1,\"in_flight\":1},\"queue\":{\"journal\":\"%s\","
             "\"journal_bytes\":8589934592}}",
             path("hub"));
    nh_doc *config = nh_doc_from_json(text, strlen(text), &error);
    nh_hub *made = nh_hub_open_with(config, &fake_engine, fake_transports, &error);
    if (!made)
        stop("hub", error.message);
    snprintf(text, sizeof text, "{\"title\":\"hold\",\"body\":\"%s\"}", body);
    nh_doc *message = nh_doc_from_json(text, strlen(text), &error);
    const nh_doc *messages[LARGEST];
    for (size_t i = 0; i < batch; i++)
        messages[i] = message;
    *calls = 0;
    uint64_t start = nh_monotonic();
    for (size_t i = 0; i < count; i += batch) {
        uint64_t at = nh_monotonic();
        nh_batch *sent = nh_hub_send_batch(made, messages, batch, &error);
        if (!sent)
            stop("send_batch", error.message);
        nh_batch_unref(sent);
        held[(*calls)++] = (double)(nh_monotonic() - at) / 1e6;
    }
    double seconds = (double)(nh_monotonic() - start) / 1e9;
    nh_hub_unref(made);
    nh_doc_unref(message);
    nh_doc_unref(config);
    forget("hub");
    return (double)count / seconds;
}

/* ------------------------------------------------------------------- latency */

typedef struct offered {
    nh_store *store;
    nh_store_batch batch;
    nh_store_item item;
    uint64_t at;
    double latency;
} offered;

typedef struct offering {
    nh_store *store;
    offered *messages;
    size_t count;
    uint64_t start;
} offering;

static atomic_size_t ended;

static void answered(nh_store_batch *batch, nh_err failed, const char *why) {
    offered *o = batch->context;
    if (failed)
        stop("enqueue", why);
    o->latency = (double)(nh_monotonic() - o->at) / 1e6;
    if (o->store->ops->ack(o->store, &o->item.row, 1))
        stop("ack", "out of memory");
    ended++;
}

/* A quarter of the messages, each at its time (or at once when that is over). */
static void *offer(void *argument) {
    offering *o = argument;
    for (size_t i = 0; i < o->count; i++) {
        offered *m = &o->messages[i];
        uint64_t at = o->start + i * (NH_SECOND * SENDERS / OFFERED);
        struct timespec until = nh_timespec(at);
        if (nh_monotonic() < at)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        m->at = nh_monotonic();
        if (o->store->ops->enqueue(o->store, &m->batch, NULL))
            stop("enqueue", "refused");
    }
    return NULL;
}

static void latency(size_t count) {
    nh_store *store = open_store();
    offered *messages = calloc(count, sizeof *messages);
    double *latencies = calloc(count, sizeof *latencies);
    pthread_t threads[SENDERS];
    offering parts[SENDERS];
    if (!messages || !latencies)
        stop("latency", "out of memory");
    ended = 0;
    for (size_t i = 0; i < count; i++) {
        fill(&messages[i].item, 1);
        messages[i].store = store;
        messages[i].batch = (nh_store_batch){
            .items = &messages[i].item, .count = 1, .done = answered, .context = &messages[i]};
    }
    uint64_t start = nh_monotonic();
    for (size_t i = 0; i < SENDERS; i++) {
        size_t part = count / SENDERS;
        parts[i] = (offering){
            .store = store, .messages = messages + i * part, .count = part, .start = start};
        pthread_create(&threads[i], NULL, offer, &parts[i]);
    }
    for (size_t i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    while (ended < count / SENDERS * SENDERS)
        usleep(1000);
    double seconds = (double)(nh_monotonic() - start) / 1e9;
    nh_store_stats stats;
    store->ops->sync(store, NULL);
    store->ops->stats(store, &stats);
    count = count / SENDERS * SENDERS;
    for (size_t i = 0; i < count; i++)
        latencies[i] = messages[i].latency;
    double p50 = quantile(latencies, count, 0.5), p99 = quantile(latencies, count, 0.99);
    printf("%d/s offered one by one, acked at once: %.0f/s, p50 %.2f ms, p99 %.2f ms, max %.2f ms, "
           "%.1f messages a commit\n",
           OFFERED, (double)count / seconds, p50, p99, latencies[count - 1],
           (double)count / (double)stats.commits);
    free(latencies);
    free(messages);
    close_store(store);
}

int main(int argc, char **argv) {
    static const size_t batches[] = {1, 10, 100, 1000};
    snprintf(directory, sizeof directory, "%s", argc > 1 ? argv[1] : "/tmp");
    size_t count = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 100000;
    if (count < LARGEST)
        stop("MESSAGES", "at least 1000");
    count -= count % LARGEST;
    printf("%6s %12s %12s %6s %14s %12s %6s %10s %10s\n", "batch", "bare/s", "journal/s", "ratio",
           "with acks/s", "hub/s", "ratio", "p50 ms", "p99 ms");
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        double results[4][ROUNDS];
        size_t calls = 0;
        size_t messages = batches[i] == 1 ? count / 10 : count;
        for (int round = 0; round < ROUNDS; round++) {
            results[0][round] = bare(messages, batches[i]);
            results[1][round] = journal(messages, batches[i], false);
            results[2][round] = journal(messages, batches[i], true);
            results[3][round] = hub(messages, batches[i], &calls);
        }
        double loop = quantile(results[0], ROUNDS, 0.5), ours = quantile(results[1], ROUNDS, 0.5);
        double whole = quantile(results[3], ROUNDS, 0.5);
        double p50 = quantile(held, calls, 0.5), p99 = quantile(held, calls, 0.99);
        printf("%6zu %12.0f %12.0f %6.2f %14.0f %12.0f %6.2f %10.2f %10.2f\n", batches[i], loop,
               ours, ours / loop, quantile(results[2], ROUNDS, 0.5), whole, whole / loop, p50, p99);
        fflush(stdout);
    }
    latency(count);
    return 0;
}
