/* journal.c — the store on disk: what any thread may ask, handed to the writer.
 *
 * Opening takes the lock file, then the file, then counts the crashes of those rows that a script
 * had when the process ended, then starts the writer. From there every function puts something
 * into the writer's inbox under one lock and wakes it: batches and leases are threaded through the
 * caller's memory, so accepting a message allocates nothing. What the callers wait for stands on
 * their stacks. In a forked child the writer does not exist and the file belongs to the parent: all
 * is refused, and closing leaves everything alone.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/fork.h"
#include "runtime/store/journal_lock.h"
#include "runtime/store/journal_writer.h"

static nh_journal *journal_of(nh_store *store) {
    return (nh_journal *)store;
}

static bool forked(const nh_journal *j) {
    return j->fork_generation != nh_fork_generation();
}

static nh_err refuse_child(nh_error *error) {
    return nh_fail(error, NH_E_CLOSED, "the journal belongs to the process that opened it");
}

/* ---------------------------------------------------------------- messages */

static nh_err enqueue(nh_store *store, nh_store_batch *batch, nh_error *error) {
    nh_journal *j = journal_of(store);
    nh_err failed = nh_store_check_batch(batch, error);
    if (failed)
        return failed;
    if (forked(j))
        return refuse_child(error);
    batch->next = NULL;
    pthread_mutex_lock(&j->lock);
    if (j->stats.broken) {
        j->stats.refused += batch->count;
        failed = nh_fail(error, NH_E_JOURNAL, "%s", j->stats.why);
    } else {
        *j->inbox.batches_tail = batch;
        j->inbox.batches_tail = &batch->next;
        nh_journal_wake(j);
    }
    pthread_mutex_unlock(&j->lock);
    return failed;
}

static void lease(nh_store *store, nh_store_lease *wish) {
    nh_journal *j = journal_of(store);
    if (forked(j)) {
        wish->done(wish, 0, false, NH_E_CLOSED, "the journal belongs to another process");
        return;
    }
    wish->next = NULL;
    pthread_mutex_lock(&j->lock);
    *j->inbox.leases_tail = wish;
    j->inbox.leases_tail = &wish->next;
    nh_journal_wake(j);
    pthread_mutex_unlock(&j->lock);
}

static nh_err ack(nh_store *store, const nh_row *rows, size_t count) {
    nh_journal *j = journal_of(store);
    if (forked(j))
        return NH_E_CLOSED;
    pthread_mutex_lock(&j->lock);
    nh_journal_acks *acks = &j->inbox.acks;
    bool room = nh_journal_acks_reserve(acks, count);
    if (room && count > 0) {
        memcpy(acks->rows + acks->count, rows, count * sizeof *rows);
        acks->count += count;
        nh_journal_added(j, count);
    }
    pthread_mutex_unlock(&j->lock);
    return room ? NH_OK : NH_E_INTERNAL;
}

/* ------------------------------------------------------------------- notes */

static int apply_delay(nh_journal_db *db, const nh_journal_note *note) {
    int64_t due = nh_journal_now(db) + nh_journal_ms(note->time);
    return nh_journal_delay(db, note->row, due, note->attempts);
}

static int apply_attempts(nh_journal_db *db, const nh_journal_note *note) {
    return nh_journal_note_attempts(db, note->row, note->attempts);
}

static int apply_death(nh_journal_db *db, const nh_journal_note *note) {
    return nh_journal_die(db, note->row, note->code, note->attempts, note->reason, note->answer);
}

static int apply_value(nh_journal_db *db, const nh_journal_note *note) {
    return nh_journal_value_put(db, note->key, note->key_length, note->value, note->length,
                                nh_journal_ms(note->time));
}

static void post(nh_journal *j, nh_journal_note *note) {
    *j->inbox.notes_tail = note;
    j->inbox.notes_tail = &note->next;
    j->inbox.note_count++;
    nh_journal_added(j, 1);
}

static nh_err nack(nh_store *store, nh_row row, const nh_store_nack *what) {
    nh_journal *j = journal_of(store);
    if (forked(j))
        return NH_E_CLOSED;
    nh_journal_note *note = calloc(1, sizeof *note);
    if (!note)
        return NH_E_INTERNAL;
    note->apply = what->delay < 0 ? apply_attempts : apply_delay;
    note->row = row;
    note->time = what->delay;
    note->attempts = what->attempts;
    pthread_mutex_lock(&j->lock);
    post(j, note);
    pthread_mutex_unlock(&j->lock);
    return NH_OK;
}

static nh_err dead(nh_store *store, nh_row row, const nh_store_death *death) {
    nh_journal *j = journal_of(store);
    if (forked(j))
        return NH_E_CLOSED;
    size_t reason = nh_store_text_length(death->reason);
    size_t answer = nh_store_text_length(death->answer);
    nh_journal_note *note = calloc(1, sizeof *note + reason + answer + 2);
    if (!note)
        return NH_E_INTERNAL;
    char *at = note->bytes;
    if (reason)
        memcpy(at, death->reason, reason);
    note->reason = at;
    at += reason + 1;
    if (answer)
        memcpy(at, death->answer, answer);
    note->answer = at;
    note->apply = apply_death;
    note->row = row;
    note->code = death->code;
    note->attempts = death->attempts;
    pthread_mutex_lock(&j->lock);
    post(j, note);
    pthread_mutex_unlock(&j->lock);
    return NH_OK;
}

static nh_err set(nh_store *store, const void *key, size_t key_length, const void *value,
                  size_t length, double expires_at, nh_error *error) {
    nh_journal *j = journal_of(store);
    nh_err failed = nh_store_check_value(key_length, length, error);
    if (failed)
        return failed;
    if (forked(j))
        return refuse_child(error);
    nh_journal_note *note = calloc(1, sizeof *note + key_length + length + 1);
    if (!note)
        return nh_fail_memory(error);
    memcpy(note->bytes, key, key_length);
    note->key = note->bytes;
    if (value) {
        if (length)
            memcpy(note->bytes + key_length, value, length);
        note->value = note->bytes + key_length;
        note->length = length;
    }
    note->key_length = key_length;
    note->time = expires_at;
    note->apply = apply_value;
    pthread_mutex_lock(&j->lock);
    if (j->stats.broken)
        failed = nh_fail(error, NH_E_JOURNAL, "%s", j->stats.why);
    else if (j->unwritten + note->key_length + note->length > NH_STORE_UNWRITTEN_MAX)
        failed = nh_fail(error, NH_E_JOURNAL, "too much waits to be written: %llu bytes%s%s",
                         (unsigned long long)j->unwritten, j->stats.trouble ? "; " : "",
                         j->stats.trouble ? j->stats.why : "");
    if (!failed) {
        j->unwritten += note->key_length + note->length;
        post(j, note);
        note = NULL;
    }
    pthread_mutex_unlock(&j->lock);
    free(note);
    return failed;
}

/* ------------------------------------------------------------------- calls */

/* Has the writer run it, and waits. */
static nh_err ask(nh_store *store, nh_journal_call *call) {
    nh_journal *j = journal_of(store);
    if (forked(j))
        return refuse_child(call->error);
    pthread_mutex_lock(&j->lock);
    *j->inbox.calls_tail = call;
    j->inbox.calls_tail = &call->next;
    nh_journal_wake(j);
    while (!call->ended)
        pthread_cond_wait(&j->served, &j->lock);
    pthread_mutex_unlock(&j->lock);
    return call->failed;
}

static nh_err told(nh_journal_db *db, const nh_journal_call *call, int code) {
    return code ? nh_journal_explain(db->sqlite, code, db->path, call->error) : NH_OK;
}

static nh_err no_letter(const nh_journal_call *call) {
    return nh_fail(call->error, NH_E_INVALID, "there is no dead letter %llu",
                   (unsigned long long)call->number);
}

static nh_err run_list(nh_journal_db *db, nh_journal_call *call) {
    return told(db, call,
                nh_journal_dead_list(db, call->number, call->most, call->letter, call->context));
}

static nh_err run_get(nh_journal_db *db, nh_journal_call *call) {
    bool found;
    int code = nh_journal_dead_get(db, call->number, call->letter, call->context, &found);
    return code ? told(db, call, code) : found ? NH_OK : no_letter(call);
}

/* One letter, or all of them in transactions of bounded size. */
static nh_err change_letters(nh_journal_db *db, nh_journal_call *call,
                             int (*change)(nh_journal_db *db, uint64_t number, bool all,
                                           size_t most, uint64_t *count)) {
    enum { STEP = 1024 };
    bool all = call->number == 0;
    uint64_t total = 0, count = 0;
    if (call->unwritten)
        return nh_fail(call->error, NH_E_JOURNAL, "%s", call->unwritten);
    do {
        count = 0;
        int code = nh_journal_begin(db);
        if (!code)
            code = change(db, call->number, all, all ? STEP : 1, &count);
        if (!code)
            code = nh_journal_commit(db);
        if (code) {
            nh_err failed = told(db, call, code);
            nh_journal_rollback(db);
            return failed;
        }
        total += count;
    } while (all && count == STEP);
    if (call->count)
        *call->count = total;
    return all || total ? NH_OK : no_letter(call);
}

static nh_err run_retry(nh_journal_db *db, nh_journal_call *call) {
    return change_letters(db, call, nh_journal_dead_revive);
}

static nh_err run_discard(nh_journal_db *db, nh_journal_call *call) {
    return change_letters(db, call, nh_journal_dead_remove);
}

static nh_err run_dedupe(nh_journal_db *db, nh_journal_call *call) {
    return told(
        db, call,
        nh_journal_dedupe_find(db, call->key, call->key_length, nh_journal_now(db), call->id));
}

static nh_err run_values(nh_journal_db *db, nh_journal_call *call) {
    return told(db, call,
                nh_journal_value_list(db, call->key, call->key_length, call->most, call->value,
                                      call->context));
}

static nh_err run_sync(nh_journal_db *db, nh_journal_call *call) {
    (void)db;
    return call->unwritten ? nh_fail(call->error, NH_E_JOURNAL, "%s", call->unwritten) : NH_OK;
}

static nh_err dead_list(nh_store *store, uint64_t after, size_t most,
                        void (*each)(void *context, const nh_store_dead *dead), void *context,
                        nh_error *error) {
    return ask(store, &(nh_journal_call){.run = run_list,
                                         .number = after,
                                         .most = most,
                                         .letter = each,
                                         .context = context,
                                         .error = error});
}

static nh_err dead_get(nh_store *store, uint64_t number,
                       void (*each)(void *context, const nh_store_dead *dead), void *context,
                       nh_error *error) {
    return ask(
        store,
        &(nh_journal_call){
            .run = run_get, .number = number, .letter = each, .context = context, .error = error});
}

static nh_err dead_retry(nh_store *store, uint64_t number, uint64_t *count, nh_error *error) {
    return ask(store, &(nh_journal_call){
                          .run = run_retry, .number = number, .count = count, .error = error});
}

static nh_err dead_discard(nh_store *store, uint64_t number, uint64_t *count, nh_error *error) {
    return ask(store, &(nh_journal_call){
                          .run = run_discard, .number = number, .count = count, .error = error});
}

static nh_err dedupe(nh_store *store, const void *key, size_t length, char id[NH_ID_MAX + 1],
                     nh_error *error) {
    return ask(store,
               &(nh_journal_call){
                   .run = run_dedupe, .key = key, .key_length = length, .id = id, .error = error});
}

static nh_err values(nh_store *store, const void *after, size_t after_length, size_t most,
                     void (*each)(void *context, const void *key, size_t key_length,
                                  const void *value, size_t length, double expires_at),
                     void *context, nh_error *error) {
    return ask(store, &(nh_journal_call){.run = run_values,
                                         .key = after,
                                         .key_length = after_length,
                                         .most = most,
                                         .value = each,
                                         .context = context,
                                         .error = error});
}

static nh_err sync_all(nh_store *store, nh_error *error) {
    return ask(store, &(nh_journal_call){.run = run_sync, .error = error});
}

/* ------------------------------------------------------------ any other */

static void stats(nh_store *store, nh_store_stats *out) {
    nh_journal *j = journal_of(store);
    *out = (nh_store_stats){0};
    if (forked(j))
        return;
    pthread_mutex_lock(&j->lock);
    *out = j->stats;
    pthread_mutex_unlock(&j->lock);
}

static void enter(nh_store *store, unsigned worker, nh_row row) {
    nh_journal_poison_mark(journal_of(store)->poison, worker, row);
}

static void leave(nh_store *store, unsigned worker) {
    nh_journal_poison_mark(journal_of(store)->poison, worker, 0);
}

/* -------------------------------------------------------------- life cycle */

/* Makes the file when there is none, for the owner's eyes only, and finds its one true name: two
 * names of one file must meet the same lock. It is never opened here when it exists, since closing
 * it would drop the locks of a journal that this process has open. */
static char *resolve(const char *path, nh_error *error) {
    struct stat status;
    char *name = realpath(path, NULL);
    if (!name && errno == ENOENT) {
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
            close(fd);
        if (fd >= 0 || errno == EEXIST)
            name = realpath(path, NULL);
    }
    if (!name || stat(name, &status) != 0) {
        nh_error_set(error, errno == ENOMEM ? NH_E_INTERNAL : NH_E_JOURNAL,
                     "%s: cannot be opened: %s; check queue.journal and that its directory exists",
                     path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(status.st_mode)) {
        nh_error_set(error, NH_E_CONFIG, "queue.journal: %s is not a file", path);
        goto fail;
    }
    return name;
fail:
    free(name);
    return NULL;
}

static nh_err count_crashes(nh_journal *j, nh_error *error) {
    nh_row rows[NH_STORE_WORKERS_MAX];
    size_t count = nh_journal_poison_read(j->poison, rows);
    if (count == 0)
        return NH_OK;
    int code = nh_journal_begin(&j->db);
    for (size_t i = 0; i < count && !code; i++)
        code = nh_journal_note_crash(&j->db, rows[i]);
    if (!code)
        code = nh_journal_commit(&j->db);
    if (code && !nh_journal_fatal(code)) { /* a full disk: the slots stay for the next time */
        nh_journal_rollback(&j->db);
        return NH_OK;
    }
    if (code)
        return nh_journal_explain(j->db.sqlite, code, j->db.path, error);
    nh_journal_poison_clear(j->poison);
    return NH_OK;
}

static nh_store *open_journal(const nh_store_options *options, nh_error *error) {
    if (!options->path || !options->path[0]) {
        nh_error_set(error, NH_E_CONFIG, "queue.journal: needs a path");
        return NULL;
    }
    if (options->bytes && options->bytes < NH_STORE_BYTES_MIN) {
        nh_error_set(error, NH_E_CONFIG, "queue.journal_bytes: %llu is too little, at least %llu",
                     (unsigned long long)options->bytes, (unsigned long long)NH_STORE_BYTES_MIN);
        return NULL;
    }
    char *path = resolve(options->path, error);
    if (!path)
        return NULL;
    nh_journal *j = calloc(1, sizeof *j);
    if (!j) {
        nh_fail_memory(error);
        goto fail;
    }
    j->store.ops = &nh_store_journal;
    j->fork_generation = nh_fork_generation();
    j->notify = options->notify;
    j->context = options->context;
    nh_journal_work_init(&j->inbox);
    nh_journal_work_init(&j->kept);
    if (pthread_mutex_init(&j->lock, NULL) != 0 || nh_cond_init(&j->filled) != 0 ||
        nh_cond_init(&j->served) != 0) {
        nh_fail_memory(error);
        goto fail_memory;
    }
    if ((j->lock_fd = nh_journal_lock(path, error)) < 0)
        goto fail_locks;
    if (!(j->poison = nh_journal_poison_open(path, error)))
        goto fail_lock;
    if (nh_journal_db_open(&j->db, path, options, error))
        goto fail_poison;
    j->crowded = UINT64_MAX;
    j->stats.most = j->db.pages_most * j->db.page_size;
    if (count_crashes(j, error) || nh_journal_writer_start(j, error))
        goto fail_db;
    free(path);
    return &j->store;
fail_db:
    nh_journal_db_close(&j->db, false);
fail_poison:
    nh_journal_poison_close(j->poison);
fail_lock:
    close(j->lock_fd);
fail_locks:
    pthread_cond_destroy(&j->served);
    pthread_cond_destroy(&j->filled);
    pthread_mutex_destroy(&j->lock);
fail_memory:
    free(j);
fail:
    free(path);
    return NULL;
}

static nh_err close_journal(nh_store *store, nh_error *error) {
    nh_journal *j = journal_of(store);
    if (forked(j))
        return refuse_child(error);
    nh_journal_writer_stop(j);
    nh_err failed =
        j->unflushed
            ? nh_fail(error, NH_E_JOURNAL,
                      "what ended last could not be written and comes again: %s", j->stats.why)
            : NH_OK;
    nh_journal_db_close(&j->db, !j->stats.broken);
    nh_journal_poison_close(j->poison);
    close(j->lock_fd);
    pthread_cond_destroy(&j->served);
    pthread_cond_destroy(&j->filled);
    pthread_mutex_destroy(&j->lock);
    free(j);
    return failed;
}

const nh_store_ops nh_store_journal = {
    .name = "journal",
    .caps = NH_STORE_DURABLE,
    .open = open_journal,
    .close = close_journal,
    .enqueue = enqueue,
    .lease = lease,
    .ack = ack,
    .nack = nack,
    .dead = dead,
    .dead_list = dead_list,
    .dead_get = dead_get,
    .dead_retry = dead_retry,
    .dead_discard = dead_discard,
    .dedupe = dedupe,
    .set = set,
    .values = values,
    .sync = sync_all,
    .stats = stats,
    .enter = enter,
    .leave = leave,
};
