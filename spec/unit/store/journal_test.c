/* journal_test.c — the journal's file: what it keeps, what it refuses, and a disk that fails. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "spec/unit/store/journal_support.h"
#include "spec/unit/store/powerloss_vfs.h"

static const nh_store_ops *ops = &nh_store_journal;

static nh_store *fresh(nh_store_options options) {
    support_forget("journal");
    return support_open("journal", options);
}

static nh_store *again(void) {
    return support_open("journal", (nh_store_options){0});
}

/* What opening says; "" when it works. */
static const char *refusal(const char *path, nh_store_options options) {
    static nh_error error;
    options.path = path;
    nh_store *store = ops->open(&options, &error);
    if (!store)
        return error.message;
    support_close(store);
    return "";
}

static bool says(const char *text, const char *part) {
    bool found = strstr(text, part) != NULL;
    if (!found)
        printf("# \"%s\" does not say \"%s\"\n", text, part);
    return found;
}

/* Runs SQL on the file of a closed journal. */
static void sql(const char *text) {
    sqlite3 *sqlite = NULL;
    char *message = NULL;
    CHECK_INT(sqlite3_open(support_path("journal"), &sqlite), SQLITE_OK);
    if (!CHECK_INT(sqlite3_exec(sqlite, text, NULL, NULL, &message), SQLITE_OK))
        printf("# %s: %s\n", text, message);
    sqlite3_free(message);
    sqlite3_close(sqlite);
}

/* -------------------------------------------------------------- what it keeps */

static void note_value(void *context, const void *key, size_t key_length, const void *value,
                       size_t length, double expires_at) {
    char *text = context;
    (void)expires_at;
    snprintf(text + strlen(text), 32, "%.*s=%.*s ", (int)key_length, (const char *)key, (int)length,
             (const char *)value);
}

static void all_is_there_when_it_is_opened_again(void) {
    nh_store *store = fresh((nh_store_options){0});
    support_row rows[8];
    support_text text;
    char id[NH_ID_MAX + 1], values[64] = "";
    CHECK_INT(support_fill(store, 1, 3, NH_NORMAL, true), NH_OK);
    CHECK_INT(support_fill(store, 4, 1, NH_URGENT, false), NH_OK);
    CHECK_INT(support_lease(store, rows, 8, NULL), 1); /* the first three are the sender's */
    CHECK_INT(ops->nack(store, rows[0].row, &(nh_store_nack){.attempts = 2}), NH_OK);
    support_message(&text, 9);
    nh_store_item item = support_item(&text, NH_LOW);
    item.key = "key";
    item.key_length = 3;
    item.window = 3600;
    item.take = true;
    item.lane = "slack";
    CHECK_INT(support_enqueue(store, &item, 1), NH_OK);
    CHECK_INT(ops->ack(store, &item.row, 1), NH_OK);
    CHECK_INT(ops->set(store, "a", 1, "1", 1, 0, NULL), NH_OK);
    support_close(store);

    store = again();
    CHECK_INT(support_stats(store).depth, 4);
    CHECK(support_stats(store).oldest > 1e9);
    CHECK_INT(support_lease(store, rows, 8, NULL), 4); /* no lease outlives the process */
    CHECK_INT(rows[0].number, 4);
    CHECK_INT(rows[0].attempts, 2);
    CHECK_INT(rows[0].priority, NH_URGENT);
    CHECK_INT(rows[3].number, 3);
    CHECK_INT(ops->dedupe(store, "key", 3, id, NULL), NH_OK);
    CHECK_STR(id, "m9");
    CHECK_INT(ops->values(store, NULL, 0, 9, note_value, values, NULL), NH_OK);
    CHECK_STR(values, "a=1 ");
    support_close(store);
}

static void keys_that_expired_are_pruned(void) {
    nh_store *store = fresh((nh_store_options){0});
    enum { KEYS = 3000 };
    nh_store_item *items = calloc(KEYS, sizeof *items);
    support_text *texts = calloc(KEYS, sizeof *texts);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            support_message(&texts[i], round * KEYS + i);
            items[i] = support_item(&texts[i], NH_NORMAL);
            items[i].key = texts[i].id;
            items[i].key_length = strlen(texts[i].id);
            items[i].window = round == 0 ? 0.001 : 3600;
        }
        for (unsigned i = 0; i < KEYS; i += 100)
            CHECK_INT(support_enqueue(store, items + i, 100), NH_OK);
        usleep(2000);
    }
    support_close(store);
    free(items);
    free(texts);
    sqlite3 *sqlite;
    sqlite3_stmt *count;
    CHECK_INT(sqlite3_open(support_path("journal"), &sqlite), SQLITE_OK);
    sqlite3_prepare_v2(sqlite, "SELECT count(*) FROM dedupe", -1, &count, NULL);
    CHECK_INT(sqlite3_step(count), SQLITE_ROW);
    CHECK(sqlite3_column_int(count, 0) >= KEYS);
    CHECK(sqlite3_column_int(count, 0) < 2 * KEYS - KEYS / 2);
    sqlite3_finalize(count);
    sqlite3_close(sqlite);
}

/* ------------------------------------------------------------ what it refuses */

static void two_may_not_open_one(void) {
    nh_store *store = fresh((nh_store_options){0});
    char pid[32], link[160];
    snprintf(pid, sizeof pid, "process %ld ", (long)getpid());
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}), pid));
    snprintf(link, sizeof link, "%s-link", support_path("journal"));
    CHECK(symlink(support_path("journal"), link) == 0);
    CHECK(says(refusal(link, (nh_store_options){0}), pid));
    pid_t child = fork();
    if (child == 0) { /* not a fork of the store's: another process */
        execl("/proc/self/exe", "journal_test", "open", support_path("journal"), pid, (char *)NULL);
        _exit(9);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(support_fill(store, 1, 1, NH_NORMAL, false), NH_OK);
    support_close(store);
    CHECK_STR(refusal(link, (nh_store_options){0}), "");
    unlink(link);
}

static void a_forked_child_may_do_nothing(void) {
    nh_store *store = fresh((nh_store_options){0});
    CHECK_INT(support_fill(store, 1, 1, NH_NORMAL, false), NH_OK);
    pid_t child = fork();
    if (child == 0) {
        nh_row row = 1;
        bool ok = support_fill(store, 2, 1, NH_NORMAL, false) == NH_E_CLOSED &&
                  ops->ack(store, &row, 1) == NH_E_CLOSED &&
                  ops->sync(store, NULL) == NH_E_CLOSED && ops->close(store, NULL) == NH_E_CLOSED;
        _exit(ok ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(support_fill(store, 2, 1, NH_NORMAL, false), NH_OK);
    CHECK_INT(support_stats(store).depth, 2);
    support_close(store);
}

static void a_newer_or_foreign_file_is_refused(void) {
    support_close(fresh((nh_store_options){0}));
    sql("PRAGMA user_version = 2");
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}),
               "is of version 2, this program knows 1"));
    sql("PRAGMA user_version = 1; PRAGMA application_id = 77");
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}), "another program"));
    sql("PRAGMA application_id = 0");
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}), "another program"));
}

/* Version 0 of ours: the file was made, and the process ended before the first migration. */
static void an_older_file_is_migrated(void) {
    support_forget("journal");
    sql("PRAGMA application_id = 1313360433");
    nh_store *store = again();
    CHECK_INT(support_fill(store, 1, 1, NH_NORMAL, false), NH_OK);
    support_close(store);
    sql("SELECT 1 FROM dead");
}

static void fill_file(const char *bytes, size_t count) {
    int fd = open(support_path("journal"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    for (size_t i = 0; i < count; i++)
        CHECK(write(fd, bytes, strlen(bytes)) > 0);
    close(fd);
}

static long long size_of(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? (long long)status.st_size : -1;
}

static void garbage_is_refused_and_left_alone(void) {
    support_forget("journal");
    fill_file("this is no database. ", 1000);
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}), "is not a journal"));
    CHECK_INT(size_of(support_path("journal")), 21000);
}

static void a_truncated_file_is_refused_and_left_alone(void) {
    nh_store *store = fresh((nh_store_options){0});
    CHECK_INT(support_fill(store, 1, 5000, NH_NORMAL, false), NH_OK);
    support_close(store);
    long long size = size_of(support_path("journal"));
    CHECK(size > 100000);
    CHECK(truncate(support_path("journal"), size / 8192 * 4096) == 0);
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}), "damaged"));
    CHECK_INT(size_of(support_path("journal")), size / 8192 * 4096);
}

/* A page of a b-tree that makes no sense, found on a dirty open before anything is written. */
static void damage_is_found_after_a_crash(void) {
    char log[192];
    nh_store *store = fresh((nh_store_options){0});
    CHECK_INT(support_fill(store, 1, 5000, NH_NORMAL, false), NH_OK);
    support_close(store);
    int fd = open(support_path("journal"), O_WRONLY);
    char rubbish[64];
    memset(rubbish, 0x5a, sizeof rubbish);
    CHECK(pwrite(fd, rubbish, sizeof rubbish, 4096 * 20) == sizeof rubbish);
    close(fd);
    snprintf(log, sizeof log, "%s-wal", support_path("journal"));
    fd = open(log, O_WRONLY | O_CREAT, 0600);
    CHECK(write(fd, rubbish, sizeof rubbish) == sizeof rubbish);
    close(fd);
    CHECK(says(refusal(support_path("journal"), (nh_store_options){0}), "damaged"));
}

static void options_are_checked(void) {
    CHECK(says(refusal("/nowhere/at/all", (nh_store_options){0}), "/nowhere/at/all"));
    CHECK(says(refusal(support_directory, (nh_store_options){0}), "is not a file"));
    CHECK(says(refusal("", (nh_store_options){0}), "needs a path"));
    CHECK(says(refusal(support_path("x"), (nh_store_options){.bytes = 1000}), "too little"));
    struct stat status;
    support_close(fresh((nh_store_options){0}));
    CHECK(stat(support_path("journal"), &status) == 0);
    CHECK_INT(status.st_mode & 0777, 0600); /* what is in there is nobody else's business */
}

/* ------------------------------------------------------------- unreadable rows */

static void note_reason(void *context, const nh_store_dead *dead) {
    snprintf(context, 256, "%s", dead->reason);
}

static void a_row_that_cannot_be_read_becomes_a_dead_letter(void) {
    static const char *const bad[] = {
        "X''",           "X'c1'",           "X'81'", "X'dfffffffff'",    "X'c6ffffffff'",
        "X'81a16e'",     "X'01'",           "X'90'", "zeroblob(100000)", "X'81a16ece00000001ff'",
        "randomblob(8)", "randomblob(300)",
    };
    enum { BAD = sizeof bad / sizeof *bad };
    support_row rows[BAD + 2];
    char update[160], reason[256] = "";
    nh_store *store = fresh((nh_store_options){0});
    CHECK_INT(support_fill(store, 1, BAD + 2, NH_LOW, false), NH_OK);
    support_close(store);
    for (int i = 0; i < BAD; i++) {
        snprintf(update, sizeof update, "UPDATE q SET payload = %s WHERE id = %d", bad[i], i + 2);
        sql(update);
    }
    sql("UPDATE q SET attempts = -5, crashes = 1 << 40, lane = x'ff' || 'x' WHERE id = 1");
    store = again();
    CHECK_INT(support_lease(store, rows, BAD + 2, NULL), 2);
    CHECK_INT(rows[0].number, 1);
    CHECK_INT(rows[0].attempts, 0);
    CHECK_INT(rows[1].number, BAD + 2);
    nh_store_stats stats = support_stats(store);
    CHECK_INT(stats.dead, BAD);
    CHECK_INT(stats.depth, 2);
    CHECK_INT(ops->dead_get(store, 1, note_reason, reason, NULL), NH_OK);
    CHECK(says(reason, "cannot be read"));
    CHECK_INT(ops->dead_retry(store, 0, NULL, NULL), NH_OK); /* and so it goes round */
    CHECK_INT(support_lease(store, rows, BAD, NULL), 0);
    CHECK_INT(support_stats(store).dead, BAD);
    support_close(store);
}

static void random_payloads_never_crash(void) {
    support_row rows[512];
    nh_store *store = fresh((nh_store_options){0});
    CHECK_INT(support_fill(store, 1, 500, NH_NORMAL, false), NH_OK);
    support_close(store);
    sql("UPDATE q SET payload = randomblob(1 + abs(random() % 200)) WHERE id % 3 = 0;"
        "UPDATE q SET payload = CAST(substr(payload, 1, abs(random() % 8)) || randomblob(3)"
        " AS BLOB) WHERE id % 3 = 1");
    store = again();
    size_t read = support_lease(store, rows, 512, NULL);
    nh_store_stats stats = support_stats(store);
    CHECK_INT(stats.depth, (long long)read);
    CHECK_INT(stats.dead + read, 500);
    support_close(store);
}

/* ------------------------------------------------------------------- poison */

/* Opens the journal in a child, leases a row, enters it, and dies. */
static void crash_inside(unsigned worker) {
    pid_t child = fork();
    if (child == 0) {
        support_row row;
        nh_store *store = again();
        if (support_lease(store, &row, 1, NULL) == 1)
            ops->enter(store, worker, row.row);
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
}

static void a_message_that_crashes_the_process_thrice_dies(void) {
    support_row rows[4];
    char reason[256] = "";
    nh_store *store = fresh((nh_store_options){0});
    CHECK_INT(support_fill(store, 1, 2, NH_NORMAL, false), NH_OK);
    support_close(store);
    for (unsigned i = 0; i < 2; i++)
        crash_inside(i);
    store = again();
    CHECK_INT(support_lease(store, rows, 4, NULL), 2);
    CHECK_INT(rows[0].crashes, 2);
    CHECK_INT(rows[1].crashes, 0);
    ops->enter(store, 3, rows[1].row); /* in and out again is no crash */
    ops->leave(store, 3);
    support_close(store);
    crash_inside(255);
    store = again();
    CHECK_INT(support_lease(store, rows, 4, NULL), 1);
    CHECK_INT(rows[0].number, 2);
    CHECK_INT(rows[0].crashes, 0);
    CHECK_INT(support_stats(store).dead, 1);
    CHECK_INT(ops->dead_get(store, 1, note_reason, reason, NULL), NH_OK);
    CHECK(says(reason, "ended 3 times while a script had this message"));
    ops->enter(store, NH_STORE_WORKERS_MAX, rows[0].row); /* nobody: ignored */
    support_close(store);
}

/* -------------------------------------------------------------- failing disks */

static void await_trouble(nh_store *store, bool trouble) {
    nh_store_stats stats;
    uint64_t until = nh_monotonic() + 60 * NH_SECOND;
    do {
        usleep(1000);
        ops->stats(store, &stats);
    } while ((stats.trouble != NH_OK) != trouble && nh_monotonic() < until);
    CHECK((stats.trouble != NH_OK) == trouble);
}

static void a_failed_sync_ends_accepting_and_nothing_is_called_durable(void) {
    support_row rows[8];
    nh_store *store = fresh((nh_store_options){.vfs = "powerloss"});
    nh_store_stats stats;
    CHECK_INT(support_fill(store, 1, 2, NH_NORMAL, false), NH_OK);
    powerloss.sync_fails = 1;
    CHECK_INT(support_fill(store, 3, 2, NH_NORMAL, false), NH_E_JOURNAL);
    CHECK(says(support_why, "the disk failed"));
    CHECK_INT(support_fill(store, 5, 1, NH_NORMAL, false), NH_E_JOURNAL); /* the disk works again */
    ops->stats(store, &stats);
    CHECK(stats.broken && stats.trouble == NH_E_JOURNAL);
    CHECK_INT(stats.refused, 3);
    CHECK_INT(support_lease(store, rows, 8, NULL), 2); /* deliveries go on */
    CHECK_INT(ops->ack(store, &rows[0].row, 1), NH_OK);
    CHECK_INT(ops->sync(store, NULL), NH_E_JOURNAL);
    CHECK_INT(ops->dead_retry(store, 0, NULL, NULL), NH_E_JOURNAL);
    CHECK_INT(ops->set(store, "a", 1, "b", 1, 0, NULL), NH_E_JOURNAL);
    CHECK_INT(ops->close(store, NULL), NH_E_JOURNAL);
    store = again();
    size_t left = support_lease(store, rows, 8, NULL);
    CHECK(left >= 2 && left <= 4); /* what was refused may be there, what was accepted is */
    CHECK_INT(rows[0].number, 1);
    CHECK_INT(rows[1].number, 2);
    support_close(store);
    check_scorecard(left >= 2, "R3", "messages that were durable before, at the next open",
                    left < 2 ? (long long)left : 2, 2, "all");
}

/* {"n": 7, "b": so many zeros}: more than the log may hold before it is moved. */
static nh_err fill_log(nh_store *store, unsigned char *packed, size_t zeros) {
    static const unsigned char head[] = {0x82, 0xa1, 'n', 7, 0xa1, 'b', 0xc6};
    memcpy(packed, head, sizeof head);
    for (size_t i = 0; i < 4; i++)
        packed[sizeof head + i] = (unsigned char)(zeros >> (24 - 8 * i));
    nh_store_item item = {.id = "m7",
                          .payload = packed,
                          .length = sizeof head + 4 + zeros,
                          .created_at = nh_wall(),
                          .priority = NH_NORMAL};
    return support_enqueue(store, &item, 1);
}

/* The log was synced, and what it holds is durable; its file was not. */
static void a_sync_that_fails_while_the_log_is_moved_ends_accepting(void) {
    enum { ZEROS = 18 << 20 };
    support_row rows[8];
    unsigned char *packed = calloc(1, ZEROS + 64);
    nh_store *store = fresh((nh_store_options){.vfs = "powerloss"});
    nh_store_stats stats;
    CHECK_INT(support_fill(store, 1, 2, NH_NORMAL, false), NH_OK);
    powerloss.main_fails = 1;
    CHECK_INT(fill_log(store, packed, ZEROS), NH_OK);
    await_trouble(store, true);
    CHECK_INT(powerloss.main_fails, 0);
    CHECK_INT(support_fill(store, 3, 2, NH_NORMAL, false), NH_E_JOURNAL);
    CHECK(says(support_why, "the disk failed"));
    ops->stats(store, &stats);
    CHECK(stats.broken);
    CHECK_INT(support_lease(store, rows, 8, NULL), 3); /* deliveries go on */
    support_close(store);
    store = again();
    CHECK_INT(support_lease(store, rows, 8, NULL), 3);
    CHECK_INT(rows[2].number, 7);
    support_close(store);
    free(packed);
}

/* Without waiting for what is being written. */
static nh_store_stats as_it_is(nh_store *store) {
    nh_store_stats stats;
    ops->stats(store, &stats);
    return stats;
}

static void a_full_disk_refuses_at_once_keeps_acks_and_recovers(void) {
    support_row rows[8];
    nh_store *store = fresh((nh_store_options){.vfs = "powerloss"});
    CHECK_INT(support_fill(store, 1, 3, NH_NORMAL, false), NH_OK);
    CHECK_INT(support_lease(store, rows, 2, NULL), 2);
    powerloss.full = true;
    CHECK_INT(support_fill(store, 9, 1, NH_NORMAL, false), NH_E_JOURNAL);
    CHECK(says(support_why, "the disk is full"));
    CHECK_INT(ops->ack(store, &rows[0].row, 1), NH_OK);
    CHECK_INT(ops->nack(store, rows[1].row, &(nh_store_nack){.attempts = 1}), NH_OK);
    CHECK_INT(support_lease(store, rows, 8, NULL), 1); /* deliveries go on */
    CHECK_INT(rows[0].number, 3);
    await_trouble(store, true);
    CHECK(as_it_is(store).full);
    powerloss.full = false;
    await_trouble(store, false); /* by itself */
    CHECK(!as_it_is(store).full);
    CHECK_INT(support_lease_wait(store, rows, 8), 1);
    CHECK_INT(rows[0].number, 2);
    CHECK_INT(rows[0].attempts, 1);
    CHECK_INT(support_fill(store, 10, 1, NH_NORMAL, false), NH_OK);
    CHECK_INT(support_stats(store).depth, 3);
    support_close(store);
}

static void tells_how_long_a_commit_took_and_that_one_is_under_way(void) {
    nh_store *store = fresh((nh_store_options){.vfs = "powerloss"});
    powerloss.sync_ms = 60;
    uint64_t began = nh_monotonic();
    CHECK_INT(support_fill(store, 1, 1, NH_NORMAL, false), NH_OK);
    nh_store_stats stats = support_stats(store);
    CHECK(stats.commit_seconds >= 0.06 && stats.written_at >= began);
    CHECK_INT(stats.writing_since, 0);
    support_row row;
    CHECK_INT(support_lease(store, &row, 1, NULL), 1);
    powerloss.sync_ms = 300;
    CHECK_INT(ops->ack(store, &row.row, 1), NH_OK); /* nobody waits for that one */
    for (int i = 0; i < 1000 && !as_it_is(store).writing_since; i++)
        usleep(1000);
    CHECK(as_it_is(store).writing_since > began);
    powerloss.sync_ms = 0;
    support_close(store);
}

/* More than one transaction takes, and not in the order of its rows. */
static void what_piled_up_while_the_disk_was_full_is_written_in_parts(void) {
    enum { ROWS = 10000, DEAD = 300 };
    support_row *leased = malloc(ROWS * sizeof *leased);
    nh_row *rows = malloc(ROWS * sizeof *rows);
    nh_store *store = fresh((nh_store_options){.vfs = "powerloss"});
    CHECK_INT(support_fill(store, 1, ROWS, NH_NORMAL, false), NH_OK);
    CHECK_INT(support_lease(store, leased, ROWS, NULL), ROWS);
    for (size_t i = 0; i < ROWS; i++)
        rows[ROWS - 1 - i] = leased[i].row;
    powerloss.full = true;
    for (size_t i = 0; i < DEAD; i++)
        CHECK_INT(ops->dead(store, rows[i], &(nh_store_death){.code = NH_E_REJECTED}), NH_OK);
    CHECK_INT(ops->ack(store, rows + DEAD, ROWS - DEAD), NH_OK);
    await_trouble(store, true);
    CHECK_INT(support_fill(store, 20000, 1, NH_NORMAL, false), NH_E_JOURNAL);
    powerloss.full = false;
    CHECK_INT(ops->sync(store, NULL), NH_OK);
    CHECK_INT(support_stats(store).depth, 0);
    support_close(store);
    store = again();
    CHECK_INT(support_stats(store).depth, 0);
    CHECK_INT(support_stats(store).dead, DEAD);
    support_close(store);
    free(rows);
    free(leased);
}

/* A full disk that is a real one: a tmpfs of 1 MiB, where mounting is allowed. */
static void a_full_file_system_refuses_and_recovers(void) {
    char place[128], ballast[160];
    snprintf(place, sizeof place, "%s", support_path("small"));
    CHECK(mkdir(place, 0700) == 0);
    if (mount("tmpfs", place, "tmpfs", 0, "size=1m") != 0) {
        printf("# skipped: no tmpfs may be mounted here\n");
        return;
    }
    nh_store *store = support_open("small/journal", (nh_store_options){0});
    support_row rows[8];
    unsigned accepted = 0;
    while (accepted < 100000 && !support_fill(store, accepted, 100, NH_NORMAL, false))
        accepted += 100;
    CHECK(accepted > 0 && accepted < 100000);
    CHECK(says(support_why, "full"));
    CHECK_INT(support_lease(store, rows, 8, NULL), 8);
    CHECK_INT(rows[7].number, 7);
    CHECK_INT(ops->ack(store, &rows[0].row, 1), NH_OK);
    CHECK(mount("tmpfs", place, "tmpfs", MS_REMOUNT, "size=8m") == 0); /* somebody made room */
    await_trouble(store, false);
    CHECK_INT(support_fill(store, 200000, 1, NH_NORMAL, false), NH_OK);
    CHECK_INT(support_stats(store).depth, accepted);
    support_close(store);
    snprintf(ballast, sizeof ballast, "%s/journal", place);
    CHECK(size_of(ballast) > 0);
    CHECK(umount(place) == 0);
}

/* ---------------------------------------------------------------------- main */

/* Another process that tries to open the journal: exit code 0 when it is told what is expected. */
static int other_process(const char *path, const char *expected) {
    return says(refusal(path, (nh_store_options){0}), expected) ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count == 4 && strcmp(arguments[1], "open") == 0)
        return other_process(arguments[2], arguments[3]);
    support_begin();
    powerloss_register(false);
    RUN(all_is_there_when_it_is_opened_again);
    RUN(keys_that_expired_are_pruned);
    RUN(two_may_not_open_one);
    RUN(a_forked_child_may_do_nothing);
    RUN(a_newer_or_foreign_file_is_refused);
    RUN(an_older_file_is_migrated);
    RUN(garbage_is_refused_and_left_alone);
    RUN(a_truncated_file_is_refused_and_left_alone);
    RUN(damage_is_found_after_a_crash);
    RUN(options_are_checked);
    RUN(a_row_that_cannot_be_read_becomes_a_dead_letter);
    RUN(random_payloads_never_crash);
    RUN(a_message_that_crashes_the_process_thrice_dies);
    RUN(a_failed_sync_ends_accepting_and_nothing_is_called_durable);
    RUN(a_sync_that_fails_while_the_log_is_moved_ends_accepting);
    RUN(a_full_disk_refuses_at_once_keeps_acks_and_recovers);
    RUN(tells_how_long_a_commit_took_and_that_one_is_under_way);
    RUN(what_piled_up_while_the_disk_was_full_is_written_in_parts);
    RUN(a_full_file_system_refuses_and_recovers);
    support_remove();
    return check_end();
}
