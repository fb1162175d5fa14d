/* journal_support.h — a store as a test uses it: each call waits for its end. */
#ifndef NH_SPEC_JOURNAL_SUPPORT_H
#define NH_SPEC_JOURNAL_SUPPORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/store/store.h"
#include "spec/unit/check.h"

/* --------------------------------------------------------------- directories */

static char support_directory[64];

static const char *support_path(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", support_directory, name);
    return path;
}

static inline void support_begin(void) {
    snprintf(support_directory, sizeof support_directory, "/tmp/nh-journal-XXXXXX");
    CHECK(mkdtemp(support_directory) != NULL);
}

static inline void support_remove(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", support_directory);
    CHECK(system(command) == 0);
}

/* Removes a journal and what stands beside it. */
static inline void support_forget(const char *name) {
    static const char *const ends[] = {"", "-wal", "-shm", ".lock", ".ring"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char path[192];
        snprintf(path, sizeof path, "%s%s", support_path(name), ends[i]);
        unlink(path);
    }
}

/* ------------------------------------------------------------------ messages */

typedef struct support_text {
    char id[32];
    unsigned char packed[64];
    size_t length;
} support_text;

/* {"n": number} with an id of "m<number>". */
static inline void support_message(support_text *text, unsigned number) {
    unsigned char *at = text->packed;
    snprintf(text->id, sizeof text->id, "m%u", number);
    *at++ = 0x81;
    *at++ = 0xa1;
    *at++ = 'n';
    *at++ = 0xce;
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (unsigned char)(number >> shift);
    text->length = (size_t)(at - text->packed);
}

static char support_first[NH_ID_MAX + 1]; /* where a duplicate's first goes that nobody looks at */

static inline nh_store_item support_item(const support_text *text, nh_priority priority) {
    return (nh_store_item){.id = text->id,
                           .payload = text->packed,
                           .length = text->length,
                           .created_at = nh_wall(),
                           .first = support_first,
                           .priority = (uint8_t)priority};
}

static inline unsigned support_number(const nh_doc *document) {
    return (unsigned)nh_value_int(nh_value_get(nh_doc_root(document), "n"), -1);
}

/* -------------------------------------------------------------------- calls */

typedef struct support_wait {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    nh_err failed;
    char why[NH_ERROR_MESSAGE_MAX];
} support_wait;

#define SUPPORT_WAIT                                                                               \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER }

static inline void support_end(support_wait *wait, nh_err failed, const char *why) {
    pthread_mutex_lock(&wait->lock);
    wait->done = true;
    wait->failed = failed;
    snprintf(wait->why, sizeof wait->why, "%s", why ? why : "");
    pthread_cond_signal(&wait->ended);
    pthread_mutex_unlock(&wait->lock);
}

static inline nh_err support_await(support_wait *wait) {
    pthread_mutex_lock(&wait->lock);
    while (!wait->done)
        pthread_cond_wait(&wait->ended, &wait->lock);
    pthread_mutex_unlock(&wait->lock);
    return wait->failed;
}

static inline void support_enqueued(nh_store_batch *batch, nh_err failed, const char *why) {
    support_end(batch->context, failed, why);
}

static _Thread_local char support_why[NH_ERROR_MESSAGE_MAX]; /* of the last enqueue that failed */

static inline nh_err support_enqueue(nh_store *store, nh_store_item *items, size_t count) {
    support_wait wait = SUPPORT_WAIT;
    nh_store_batch batch = {
        .items = items, .count = count, .done = support_enqueued, .context = &wait};
    nh_error error;
    nh_err failed = store->ops->enqueue(store, &batch, &error);
    snprintf(support_why, sizeof support_why, "%s", failed ? error.message : "");
    if (!failed) {
        failed = support_await(&wait);
        snprintf(support_why, sizeof support_why, "%s", wait.why);
    }
    return failed;
}

/* Enqueues messages `from`, `from + 1` … of one priority. */
static inline nh_err support_fill(nh_store *store, unsigned from, unsigned count,
                                  nh_priority priority, bool take) {
    support_text *texts = calloc(count, sizeof *texts);
    nh_store_item *items = calloc(count, sizeof *items);
    for (unsigned i = 0; i < count; i++) {
        support_message(&texts[i], from + i);
        items[i] = support_item(&texts[i], priority);
        items[i].take = take;
    }
    nh_err failed = support_enqueue(store, items, count);
    free(items);
    free(texts);
    return failed;
}

typedef struct support_row {
    nh_row row;
    unsigned number, attempts, crashes;
    nh_priority priority;
    char id[32];
} support_row;

typedef struct support_rows {
    support_wait wait;
    support_row *rows;
    size_t count, refuse_after;
    bool more;
} support_rows;

static inline bool support_take(nh_store_lease *lease, const nh_store_row *row) {
    support_rows *rows = lease->context;
    if (rows->count >= rows->refuse_after)
        return false;
    support_row *out = &rows->rows[rows->count++];
    *out = (support_row){.row = row->row,
                         .number = support_number(row->document),
                         .attempts = row->attempts,
                         .crashes = row->crashes,
                         .priority = row->priority};
    snprintf(out->id, sizeof out->id, "%s", row->id);
    return true;
}

static inline void support_leased(nh_store_lease *lease, size_t count, bool more, nh_err failed,
                                  const char *why) {
    support_rows *rows = lease->context;
    CHECK(count == rows->count || failed);
    rows->more = more;
    support_end(&rows->wait, failed, why);
}

/* Leases at most `most` rows into `out`; returns how many. */
static inline size_t support_lease(nh_store *store, support_row *out, size_t most, bool *more) {
    support_rows rows = {.wait = SUPPORT_WAIT, .rows = out, .refuse_after = SIZE_MAX};
    nh_store_lease lease = {.most = most,
                            .bytes = SIZE_MAX,
                            .take = support_take,
                            .done = support_leased,
                            .context = &rows};
    store->ops->lease(store, &lease);
    CHECK_INT(support_await(&rows.wait), NH_OK);
    if (more)
        *more = rows.more;
    return rows.count;
}

/* Leases, until there is one, for at most a minute. */
static inline size_t support_lease_wait(nh_store *store, support_row *out, size_t most) {
    uint64_t until = nh_monotonic() + 60 * NH_SECOND;
    size_t count;
    while ((count = support_lease(store, out, most, NULL)) == 0 && nh_monotonic() < until)
        usleep(2000);
    return count;
}

static inline nh_store_stats support_stats(nh_store *store) {
    nh_store_stats stats;
    CHECK_INT(store->ops->sync(store, NULL), NH_OK);
    store->ops->stats(store, &stats);
    return stats;
}

static inline nh_store *support_open(const char *name, nh_store_options options) {
    nh_error error = {.message = ""};
    options.path = support_path(name);
    nh_store *store = nh_store_journal.open(&options, &error);
    if (!store)
        printf("# %s\n", error.message);
    CHECK(store != NULL);
    return store;
}

static inline void support_close(nh_store *store) {
    nh_error error = {.message = ""};
    if (!CHECK_INT(store->ops->close(store, &error), NH_OK))
        printf("# %s\n", error.message);
}

#endif
