/* journal_schema.c — opens a journal's file: whose it is, in which shape, and whether it is whole.
 *
 * The opener's thread. Nothing is written before the file is known to be ours (or empty), so a
 * wrong path or a damaged file is never made worse. A version is one step of SQL; an older file
 * goes through those that it lacks in one transaction, a newer one is refused. The connection is
 * exclusive and the only one: SQLite then needs no shared memory, and what its 3.40 may do to a log
 * that two connections reset cannot happen. After a crash the whole file is read once (quick_check)
 * unless it is larger than CHECK_BYTES_MOST; damage beyond that is found when it is read.
 */
#include <sys/stat.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/store/journal_db.h"

#define CHECK_BYTES_MOST (UINT64_C(256) << 20)

/* What each version adds to the one before. A row's id is its priority's range and a number in it
 * (journal_rows.c). Times are ms since the epoch; `due` is 0 for a row that was never delayed, so
 * that it costs no index entry. */
static const char *const steps[NH_JOURNAL_VERSION] = {
    "CREATE TABLE q(id INTEGER PRIMARY KEY, due INTEGER NOT NULL, created INTEGER NOT NULL,"
    " expires INTEGER NOT NULL, attempts INTEGER NOT NULL, crashes INTEGER NOT NULL,"
    " lane TEXT NOT NULL, message TEXT NOT NULL, payload BLOB NOT NULL) STRICT;"
    "CREATE INDEX q_due ON q(due) WHERE due > 0;"
    "CREATE TABLE dead(number INTEGER PRIMARY KEY AUTOINCREMENT, died INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, crashes INTEGER NOT NULL, lane TEXT NOT NULL,"
    " message TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, answer TEXT NOT NULL,"
    " payload BLOB NOT NULL) STRICT;"
    "CREATE TABLE dedupe(k BLOB PRIMARY KEY, id TEXT NOT NULL, expires INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE value(k BLOB PRIMARY KEY, v BLOB NOT NULL, expires INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID;",
};

/* secure_delete=FAST wipes what was delivered where that costs no extra page. */
static const char settings[] = "PRAGMA synchronous = FULL;"
                               "PRAGMA wal_autocheckpoint = 0;"
                               "PRAGMA mmap_size = 0;"
                               "PRAGMA cache_size = -8192;"
                               "PRAGMA temp_store = MEMORY;"
                               "PRAGMA secure_delete = FAST;"
                               "PRAGMA cell_size_check = ON;"
                               "PRAGMA journal_size_limit = 67108864;";

typedef struct answer {
    int rows;
    char text[128];
} answer;

static int keep_first(void *context, int columns, char **values, char **names) {
    answer *a = context;
    (void)names;
    if (columns > 0 && a->rows++ == 0)
        snprintf(a->text, sizeof a->text, "%s", values[0] ? values[0] : "");
    return 0;
}

/* The first value that some SQL gives, "" when it gives none. */
static int ask(sqlite3 *sqlite, const char *sql, answer *a) {
    *a = (answer){0};
    return sqlite3_exec(sqlite, sql, keep_first, a, NULL);
}

static int ask_number(sqlite3 *sqlite, const char *sql, long long *number) {
    answer a;
    int code = ask(sqlite, sql, &a);
    *number = 0;
    if (!code)
        sscanf(a.text, "%lld", number);
    return code;
}

/* Whose file it is; `version` is 0 for an empty one. */
static nh_err identify(sqlite3 *sqlite, const char *path, long long *version, nh_error *error) {
    long long application, tables;
    int code = ask_number(sqlite, "PRAGMA application_id", &application);
    if (!code)
        code = ask_number(sqlite, "PRAGMA user_version", version);
    if (!code)
        code = ask_number(sqlite, "SELECT count(*) FROM sqlite_schema", &tables);
    if (code)
        return nh_journal_explain(sqlite, code, path, error);
    if (application == NH_JOURNAL_APPLICATION && *version > NH_JOURNAL_VERSION)
        return nh_fail(error, NH_E_JOURNAL,
                       "%s: the journal is of version %lld, this program knows %d; use the "
                       "newer program, or give this one a journal of its own",
                       path, *version, NH_JOURNAL_VERSION);
    if (application != NH_JOURNAL_APPLICATION && (application != 0 || tables > 0))
        return nh_fail(error, NH_E_JOURNAL,
                       "%s: is a database of another program; give queue.journal another path",
                       path);
    if (*version < 0)
        return nh_fail(error, NH_E_JOURNAL, "%s: has no version (%lld)", path, *version);
    return NH_OK;
}

static nh_err configure(sqlite3 *sqlite, const char *path, uint64_t bytes, nh_error *error) {
    answer mode;
    long long page;
    char sql[64];
    int code = ask(sqlite, "PRAGMA journal_mode = WAL", &mode);
    if (!code && strcmp(mode.text, "wal") != 0)
        return nh_fail(error, NH_E_JOURNAL,
                       "%s: SQLite cannot keep a write-ahead log here (mode '%s'); use a local "
                       "file system",
                       path, mode.text);
    if (!code)
        code = sqlite3_exec(sqlite, settings, NULL, NULL, NULL);
    if (!code)
        code = ask_number(sqlite, "PRAGMA page_size", &page);
    if (!code) {
        snprintf(sql, sizeof sql, "PRAGMA max_page_count = %llu",
                 (unsigned long long)bytes / (unsigned long long)page);
        code = sqlite3_exec(sqlite, sql, NULL, NULL, NULL);
    }
    return code ? nh_journal_explain(sqlite, code, path, error) : NH_OK;
}

static nh_err check(sqlite3 *sqlite, const char *path, nh_error *error) {
    answer result;
    int code = ask(sqlite, "PRAGMA quick_check(1)", &result);
    if (code)
        return nh_journal_explain(sqlite, code, path, error);
    if (strcmp(result.text, "ok") != 0)
        return nh_fail(error, NH_E_JOURNAL,
                       "%s: the journal is damaged (%s); nothing was changed: move it away to "
                       "start anew, `sqlite3 FILE .recover` may save its rows",
                       path, result.text);
    return NH_OK;
}

static nh_err migrate(sqlite3 *sqlite, const char *path, long long version, nh_error *error) {
    char stamp[96];
    if (version == NH_JOURNAL_VERSION)
        return NH_OK;
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
             NH_JOURNAL_APPLICATION, NH_JOURNAL_VERSION);
    int code = sqlite3_exec(sqlite, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (; !code && version < NH_JOURNAL_VERSION; version++)
        code = sqlite3_exec(sqlite, steps[version], NULL, NULL, NULL);
    if (!code)
        code = sqlite3_exec(sqlite, stamp, NULL, NULL, NULL);
    return code ? nh_journal_explain(sqlite, code, path, error) : NH_OK;
}

/* A log that was left behind: the last process did not close the journal. */
static bool dirty(const char *path) {
    char log[PATH_MAX + 8];
    struct stat status, whole;
    snprintf(log, sizeof log, "%s-wal", path);
    return stat(log, &status) == 0 && status.st_size > 0 && stat(path, &whole) == 0 &&
           (uint64_t)whole.st_size <= CHECK_BYTES_MOST;
}

nh_err nh_journal_schema_open(sqlite3 **out, const char *path, const char *vfs, uint64_t bytes,
                              nh_error *error) {
    sqlite3 *sqlite = NULL;
    bool was_dirty = dirty(path);
    long long version = 0;
    int code = sqlite3_open_v2(path, &sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, vfs);
    if (!code)
        code = sqlite3_extended_result_codes(sqlite, 1);
    if (!code)
        code = sqlite3_db_config(sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (!code)
        code = sqlite3_db_config(sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (!code)
        code = sqlite3_exec(sqlite, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
    if (code) {
        nh_journal_explain(sqlite, code, path, error);
        goto fail;
    }
    if (identify(sqlite, path, &version, error) || configure(sqlite, path, bytes, error) ||
        (was_dirty && check(sqlite, path, error)) || migrate(sqlite, path, version, error))
        goto fail;
    *out = sqlite;
    return NH_OK;
fail:
    sqlite3_db_config(sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(sqlite);
    return NH_E_JOURNAL;
}
