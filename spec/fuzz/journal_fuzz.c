/* journal_fuzz.c — a journal that something has damaged: it is refused, with a reason and as it is,
 * or opened; then each call does what it says or tells why not, and every row can be read or is
 * dead.
 *
 * "r" and bytes: what a row holds, "lane\nid\npayload", written there by SQLite itself. "m", "w"
 * and bytes: four for each byte that is damaged in the file or in its log (its place, its new
 * value). "t" and two bytes: where the file ends.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/store/store.h"
#include "spec/fuzz/fuzz.h"

enum { ROWS = 40, FILE_MOST = 1 << 20 };

typedef struct image {
    size_t length;
    char bytes[FILE_MOST];
} image;

static char folder[64], path[96], log_path[104];
static image whole, whole_log; /* of a journal that was not closed */

static void remove_all(void) {
    static const char *const ends[] = {"", "-wal", "-shm", ".lock", ".ring"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char name[112];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
    rmdir(folder);
}

static void read_image(const char *name, image *to) {
    int fd = open(name, O_RDONLY);
    MUST(fd >= 0);
    ssize_t length = read(fd, to->bytes, sizeof to->bytes);
    MUST(length >= 0 && (size_t)length < sizeof to->bytes);
    to->length = (size_t)length;
    close(fd);
}

static void write_image(const char *name, const image *from) {
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0 && write(fd, from->bytes, from->length) == (ssize_t)from->length);
    close(fd);
}

/* ---------------------------------------------------------- calls that wait */

typedef struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    nh_err failed;
    nh_row rows[2 * ROWS];
    size_t count;
} waiting;

#define WAITING                                                                                    \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER }

static void end(waiting *w, nh_err failed, const char *why) {
    MUST(!failed || (why && *why));
    pthread_mutex_lock(&w->lock);
    MUST(!w->done);
    w->done = true;
    w->failed = failed;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
}

static nh_err await(waiting *w) {
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->ended, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return w->failed;
}

static void enqueued(nh_store_batch *batch, nh_err failed, const char *why) {
    end(batch->context, failed, why);
}

/* Enqueues so many messages {"n": 1}. */
static nh_err put(nh_store *store, size_t count) {
    static const unsigned char packed[] = {0x81, 0xa1, 'n', 1};
    nh_store_item items[ROWS];
    char first[NH_ID_MAX + 1];
    waiting w = WAITING;
    for (size_t i = 0; i < count; i++)
        items[i] = (nh_store_item){.id = "m-1",
                                   .lane = "mail",
                                   .payload = packed,
                                   .length = sizeof packed,
                                   .created_at = nh_wall(),
                                   .due = i % 4 == 3 ? 5 : 0,
                                   .priority = (uint8_t)(i % NH_PRIORITIES),
                                   .key = i == 0 ? "key" : NULL,
                                   .key_length = 3,
                                   .first = first,
                                   .window = 3600};
    nh_store_batch batch = {.items = items, .count = count, .done = enqueued, .context = &w};
    nh_error error = FUZZ_ERROR;
    nh_err failed = store->ops->enqueue(store, &batch, &error);
    if (failed)
        must_be_told(&error);
    return failed ? failed : await(&w);
}

static bool take(nh_store_lease *lease, const nh_store_row *row) {
    waiting *w = lease->context;
    MUST(row->id && row->lane && row->document);
    MUST(nh_value_kind(nh_doc_root(row->document)) == NH_MAP);
    MUST(row->priority < NH_PRIORITIES);
    if (w->count == 2 * ROWS)
        return false;
    w->rows[w->count++] = row->row;
    return true;
}

static void leased(nh_store_lease *lease, size_t count, bool more, nh_err failed, const char *why) {
    (void)count, (void)more;
    end(lease->context, failed, why);
}

static void saw(void *context, const nh_store_dead *dead) {
    MUST(dead->reason && dead->id && dead->lane);
    *(uint64_t *)context = dead->number;
}

static void saw_value(void *context, const void *key, size_t key_length, const void *value,
                      size_t length, double expires_at) {
    (void)context, (void)key, (void)key_length, (void)value, (void)length, (void)expires_at;
}

/* --------------------------------------------------------------------- runs */

static nh_store *open_journal(nh_error *error) {
    nh_store_options options = {.path = path, .bytes = NH_STORE_BYTES_MIN};
    return nh_store_journal.open(&options, error);
}

/* All that a hub does with a journal. */
static void use(nh_store *store) {
    const nh_store_ops *ops = store->ops;
    nh_error error = FUZZ_ERROR;
    waiting w = WAITING;
    nh_store_lease lease = {
        .most = 2 * ROWS, .bytes = SIZE_MAX, .take = take, .done = leased, .context = &w};
    uint64_t number = 0;
    char id[NH_ID_MAX + 1];
    nh_store_stats stats;
    ops->lease(store, &lease);
    await(&w);
    if (ops->dead_list(store, 0, 100, saw, &number, &error))
        must_be_told(&error);
    if (number && ops->dead_get(store, number, saw, &number, &error))
        must_be_told(&error);
    if (ops->values(store, NULL, 0, 100, saw_value, NULL, &error))
        must_be_told(&error);
    if (ops->dedupe(store, "key", 3, id, &error))
        must_be_told(&error);
    ops->set(store, "value", 5, "new", 3, 0, NULL);
    put(store, 4);
    ops->ack(store, w.rows, w.count / 2);
    if (w.count > 0)
        ops->nack(store, w.rows[w.count - 1], &(nh_store_nack){.delay = 1, .attempts = 2});
    if (ops->dead_retry(store, 0, NULL, &error))
        must_be_told(&error);
    if (ops->sync(store, &error))
        must_be_told(&error);
    ops->stats(store, &stats);
    MUST(stats.trouble == NH_OK || stats.why[0]);
}

static void open_damaged(void) {
    static image before, after;
    nh_error error = FUZZ_ERROR;
    read_image(path, &before);
    nh_store *store = open_journal(&error);
    if (store) {
        use(store);
        if (store->ops->close(store, &error))
            must_be_told(&error);
    } else {
        must_be_told(&error);
        read_image(path, &after);
        if (strstr(error.message, "nothing was changed"))
            MUST(before.length == after.length &&
                 memcmp(before.bytes, after.bytes, after.length) == 0);
    }
}

static void put_row(sqlite3 *sqlite, fuzz_part lane, fuzz_part id, fuzz_part payload) {
    sqlite3_stmt *update;
    MUST(sqlite3_prepare_v2(sqlite,
                            "UPDATE q SET lane = ?1, message = ?2, payload = ?3"
                            " WHERE id % 3 = 0",
                            -1, &update, NULL) == SQLITE_OK);
    sqlite3_bind_text(update, 1, lane.bytes, (int)lane.length, SQLITE_STATIC);
    sqlite3_bind_text(update, 2, id.bytes, (int)id.length, SQLITE_STATIC);
    sqlite3_bind_blob(update, 3, payload.bytes, (int)payload.length, SQLITE_STATIC);
    MUST(sqlite3_step(update) == SQLITE_DONE);
    sqlite3_finalize(update);
}

static void damage_rows(fuzz_part rest) {
    sqlite3 *sqlite;
    fuzz_part lane = fuzz_take(&rest, '\n'), id = fuzz_take(&rest, '\n');
    MUST(sqlite3_open(path, &sqlite) == SQLITE_OK);
    put_row(sqlite, lane, id, rest);
    MUST(sqlite3_close(sqlite) == SQLITE_OK);
}

static void damage_bytes(const char *name, const image *from, fuzz_part rest) {
    static image damaged;
    memcpy(damaged.bytes, from->bytes, from->length);
    damaged.length = from->length;
    for (; rest.length >= 4 && from->length > 0; rest.bytes += 4, rest.length -= 4) {
        const unsigned char *at = (const unsigned char *)rest.bytes;
        size_t place = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        damaged.bytes[place % from->length] = (char)at[3];
    }
    write_image(name, &damaged);
}

/* A journal with something of everything, copied before it is closed: with a log that is not empty.
 */
static void make_whole(void) {
    nh_error error = FUZZ_ERROR;
    remove_all();
    strcpy(folder,
           access("/dev/shm", W_OK) == 0 ? "/dev/shm/nh-fuzz-XXXXXX" : "/tmp/nh-fuzz-XXXXXX");
    MUST(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/journal", folder);
    snprintf(log_path, sizeof log_path, "%s-wal", path);
    atexit(remove_all);
    nh_store *store = open_journal(&error);
    MUST(store && put(store, ROWS) == NH_OK);
    MUST(!store->ops->close(store, &error));
    store = open_journal(&error);
    MUST(store && put(store, ROWS) == NH_OK);
    waiting w = WAITING;
    nh_store_lease lease = {.most = 2, .bytes = 1000, .take = take, .done = leased, .context = &w};
    store->ops->lease(store, &lease);
    await(&w);
    store->ops->dead(store, w.rows[0], &(nh_store_death){.code = NH_E_AUTH, .reason = "refused"});
    store->ops->set(store, "value", 5, "old", 3, 0, NULL);
    MUST(!store->ops->sync(store, &error));
    read_image(path, &whole);
    read_image(log_path, &whole_log);
    MUST(!store->ops->close(store, &error));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!whole.length)
        make_whole();
    fuzz_part rest = {(const char *)data + 1, size - 1};
    if (size < 2 || !strchr("rmwt", data[0]))
        return 0;
    write_image(path, &whole);
    write_image(log_path, &whole_log);
    if (data[0] == 'r')
        damage_rows(rest);
    else if (data[0] == 't')
        MUST(truncate(path, (off_t)(((size_t)data[1] << 8 | (size > 2 ? data[2] : 0)) * 16 %
                                    whole.length)) == 0);
    else
        damage_bytes(data[0] == 'm' ? path : log_path, data[0] == 'm' ? &whole : &whole_log, rest);
    open_damaged();
    return 0;
}
