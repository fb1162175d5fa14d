/* journal_db.c — one connection, its statements and its transactions.
 *
 * Owned by the writer thread; the opener has it before that thread runs. Statements are prepared
 * once, bound with memory that the caller keeps, and always reset, so that no read stays open
 * behind a commit. The log is checkpointed here and not by SQLite, since a sync that fails then
 * must be seen too.
 */
#include "runtime/store/journal_db.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

/* Pages of the log before it is moved: rows that come and go in between are never moved at all. */
enum { LOG_PAGES = 4000 };

#define ROW "id, message, lane, created, due, expires, attempts, crashes, payload"
#define LETTER                                                                                     \
    "number, message, lane, code, reason, answer, created, died, expires, attempts, crashes, "     \
    "priority, length(payload)"

static const char *const texts[SQL_STATEMENTS] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_PAGES] = "PRAGMA page_count",
    [SQL_FREE_PAGES] = "PRAGMA freelist_count",
    [SQL_PUT] =
        "INSERT INTO q(id, due, created, expires, attempts, crashes, lane, message, payload)"
        " VALUES(?1, ?2, ?3, ?4, 0, 0, ?5, ?6, ?7)",
    [SQL_REMOVE] = "DELETE FROM q WHERE id = ?1",
    [SQL_DELAY] = "UPDATE q SET due = ?2, attempts = ?3 WHERE id = ?1",
    [SQL_ATTEMPTS] = "UPDATE q SET attempts = ?2 WHERE id = ?1",
    [SQL_CRASH] = "UPDATE q SET crashes = crashes + 1 WHERE id = ?1 RETURNING crashes",
    [SQL_FRESH] =
        "SELECT " ROW " FROM q WHERE id > ?1 AND id <= ?2 AND due = 0 ORDER BY id LIMIT ?3",
    [SQL_DUE] = "SELECT " ROW " FROM q INDEXED BY q_due WHERE due > 0 AND (due, id) > (?1, ?2)"
                " AND due <= ?3 ORDER BY due, id LIMIT ?4",
    [SQL_NEXT_DUE] = "SELECT due FROM q INDEXED BY q_due WHERE due > 0 AND (due, id) > (?1, ?2)"
                     " ORDER BY due, id LIMIT 1",
    [SQL_LAST] = "SELECT max(id) FROM q WHERE id >= ?1 AND id <= ?2",
    [SQL_OLDEST] = "SELECT created FROM q WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT 1",
    [SQL_DEPTH] = "SELECT count(*) FROM q",
    [SQL_DIE] =
        "INSERT INTO dead(died, priority, created, expires, attempts, crashes, lane, message, code,"
        " reason, answer, payload) SELECT ?2, ?3, created, expires, max(attempts, ?4), crashes, "
        "lane,"
        " message, ?5, ?6, ?7, payload FROM q WHERE id = ?1",
    [SQL_DEAD_COUNT] = "SELECT count(*) FROM dead",
    [SQL_DEAD_LIST] = "SELECT " LETTER " FROM dead WHERE number > ?1 ORDER BY number LIMIT ?2",
    [SQL_DEAD_GET] = "SELECT " LETTER ", payload FROM dead WHERE number = ?1",
    [SQL_DEAD_NEXT] =
        "SELECT number, priority FROM dead WHERE number >= ?1 ORDER BY number LIMIT 1",
    [SQL_DEAD_REVIVE] =
        "INSERT INTO q(id, due, created, expires, attempts, crashes, lane, message, payload)"
        " SELECT ?2, 0, created, expires, 0, 0, lane, message, payload FROM dead WHERE number = ?1",
    [SQL_DEAD_REMOVE] = "DELETE FROM dead WHERE number = ?1",
    [SQL_DEAD_TRIM] = "DELETE FROM dead WHERE number IN"
                      " (SELECT number FROM dead ORDER BY number LIMIT ?1)",
    [SQL_DEDUPE_FIND] = "SELECT id FROM dedupe WHERE k = ?1 AND expires > ?2",
    [SQL_DEDUPE_PUT] = "INSERT OR REPLACE INTO dedupe(k, id, expires) VALUES(?1, ?2, ?3)",
    [SQL_DEDUPE_STEP] = "SELECT k FROM dedupe WHERE k > ?1 ORDER BY k LIMIT 1 OFFSET ?2",
    [SQL_DEDUPE_PRUNE] = "DELETE FROM dedupe WHERE k > ?1 AND k <= ?2 AND expires <= ?3",
    [SQL_VALUE_PUT] = "INSERT OR REPLACE INTO value(k, v, expires) VALUES(?1, ?2, ?3)",
    [SQL_VALUE_REMOVE] = "DELETE FROM value WHERE k = ?1",
    [SQL_VALUE_LIST] = "SELECT k, v, expires FROM value WHERE k > ?1 AND (expires = 0 OR"
                       " expires > ?2) ORDER BY k LIMIT ?3",
    [SQL_VALUE_STEP] = "SELECT k FROM value WHERE k > ?1 ORDER BY k LIMIT 1 OFFSET ?2",
    [SQL_VALUE_PRUNE] =
        "DELETE FROM value WHERE k > ?1 AND k <= ?2 AND expires > 0 AND expires <= ?3",
};

/* What an operator can do about a failure. */
static const struct {
    int code; /* a primary result code */
    const char *advice;
} advices[] = {
    {SQLITE_FULL, "the disk is full, or the journal's limit is reached: make room, or raise "
                  "queue.journal_bytes"},
    {SQLITE_IOERR, "the disk failed: check the file system, then start again"},
    {SQLITE_CORRUPT, "the journal is damaged; nothing was changed: move it away to start anew, "
                     "`sqlite3 FILE .recover` may save its rows"},
    {SQLITE_NOTADB, "is not a journal, or is damaged; nothing was changed: give queue.journal "
                    "another path, or move it away"},
    {SQLITE_BUSY, "another program has the journal open; end that one first"},
    {SQLITE_CANTOPEN, "cannot be opened: check that the directory exists and may be written"},
    {SQLITE_READONLY, "may not be written: check the permissions of the file and its directory"},
};

nh_err nh_journal_explain(sqlite3 *sqlite, int code, const char *path, nh_error *error) {
    const char *advice = NULL;
    for (size_t i = 0; i < sizeof advices / sizeof *advices && !advice; i++)
        if (advices[i].code == (code & 0xff))
            advice = advices[i].advice;
    if ((code & 0xff) == SQLITE_NOMEM)
        return nh_fail_memory(error);
    const char *text = sqlite && (sqlite3_extended_errcode(sqlite) & 0xff) == (code & 0xff)
                           ? sqlite3_errmsg(sqlite)
                           : sqlite3_errstr(code);
    return nh_fail(error, NH_E_JOURNAL, "%s: %s (SQLite: %s, %d)", path,
                   advice ? advice : "the journal cannot be used", text, code);
}

bool nh_journal_fatal(int code) {
    return code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC ||
           (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

int nh_journal_bind_text(sqlite3_stmt *statement, int at, const char *text) {
    return sqlite3_bind_text(statement, at, text ? text : "", -1, SQLITE_STATIC);
}

int nh_journal_run(sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);
    while (code == SQLITE_ROW)
        code = sqlite3_step(statement);
    int reset = sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : reset ? reset : code;
}

int nh_journal_number(sqlite3_stmt *statement, int64_t *number) {
    int code = sqlite3_step(statement);
    *number = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    int reset = sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : reset ? reset : code;
}

/* ------------------------------------------------------------------- time */

int64_t nh_journal_ms(double seconds) {
    return seconds <= 0 ? 0 : seconds >= 9e15 ? INT64_MAX / 2 : (int64_t)(seconds * 1000);
}

/* Leases of delayed rows are a place in the order of time (journal_rows.c), so time must not go
 * back. When the clock is set back ours goes on from where it was, until the clock is set forward
 * again. */
int64_t nh_journal_now(nh_journal_db *db) {
    int64_t wall = nh_journal_ms(nh_wall());
    uint64_t monotonic = nh_monotonic();
    int64_t jump = wall - db->wall - (int64_t)((monotonic - db->monotonic) / 1000000);
    if (db->wall && (wall < db->wall || db->skew > 0)) {
        db->skew -= jump;
        if (db->skew < 0)
            db->skew = 0;
    }
    db->wall = wall;
    db->monotonic = monotonic;
    return wall + db->skew;
}

/* ------------------------------------------------------------ transactions */

int nh_journal_begin(nh_journal_db *db) {
    db->before = db->now;
    return nh_journal_run(db->statements[SQL_BEGIN]);
}

int nh_journal_commit(nh_journal_db *db) {
    return nh_journal_run(db->statements[SQL_COMMIT]);
}

/* SQLite has rolled back by itself after some failures. */
void nh_journal_rollback(nh_journal_db *db) {
    if (!sqlite3_get_autocommit(db->sqlite))
        nh_journal_run(db->statements[SQL_ROLLBACK]);
    db->now = db->before;
}

static int count_pages(void *context, sqlite3 *sqlite, const char *name, int pages) {
    nh_journal_db *db = context;
    (void)sqlite;
    (void)name;
    db->wal_pages = pages;
    return SQLITE_OK;
}

int nh_journal_checkpoint(nh_journal_db *db) {
    if (db->wal_pages < LOG_PAGES)
        return SQLITE_OK;
    int code = sqlite3_wal_checkpoint_v2(db->sqlite, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (!code)
        db->wal_pages = 0;
    return code;
}

int nh_journal_used(nh_journal_db *db, uint64_t *pages) {
    int64_t all, unused;
    int code = nh_journal_number(db->statements[SQL_PAGES], &all);
    if (!code)
        code = nh_journal_number(db->statements[SQL_FREE_PAGES], &unused);
    if (!code)
        *pages = (uint64_t)(all - unused);
    return code;
}

/* -------------------------------------------------------------- life cycle */

nh_err nh_journal_db_open(nh_journal_db *db, const char *path, const nh_store_options *options,
                          nh_error *error) {
    uint64_t bytes = options->bytes ? options->bytes : NH_STORE_BYTES_DEFAULT;
    *db = (nh_journal_db){.dead_most =
                              options->dead_most ? options->dead_most : NH_STORE_DEAD_DEFAULT};
    int64_t number;
    int code = SQLITE_OK;
    db->path = strdup(path);
    if (!db->path)
        return nh_fail_memory(error);
    if (nh_journal_schema_open(&db->sqlite, path, options->vfs, bytes, error))
        goto fail;
    sqlite3_wal_hook(db->sqlite, count_pages, db);
    for (int i = 0; i < SQL_STATEMENTS && !code; i++)
        code = sqlite3_prepare_v3(db->sqlite, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                  &db->statements[i], NULL);
    if (!code)
        code = nh_journal_rows_load(db);
    if (!code)
        code = nh_journal_number(db->statements[SQL_DEAD_COUNT], &number);
    if (code) {
        nh_journal_explain(db->sqlite, code, path, error);
        goto fail;
    }
    db->now.dead = (uint64_t)number;
    db->page_size = 4096;
    sqlite3_stmt *page = NULL;
    if (sqlite3_prepare_v2(db->sqlite, "PRAGMA page_size", -1, &page, NULL) == SQLITE_OK &&
        sqlite3_step(page) == SQLITE_ROW)
        db->page_size = (uint64_t)sqlite3_column_int64(page, 0);
    sqlite3_finalize(page);
    /* What acks, attempts and dead letters may take beyond what messages may: SQLite cannot even
     * delete without a page to spare. */
    db->pages_most = bytes / db->page_size;
    db->pages_reserved = 32 + db->pages_most / 64;
    return NH_OK;
fail:
    nh_journal_db_close(db, false);
    return NH_E_JOURNAL;
}

void nh_journal_db_close(nh_journal_db *db, bool intact) {
    for (int i = 0; i < SQL_STATEMENTS; i++)
        sqlite3_finalize(db->statements[i]);
    if (db->sqlite && !intact)
        sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(db->sqlite);
    free(db->path);
    *db = (nh_journal_db){0};
}
