/* journal_db.h — the journal's file as tables: what the writer thread does with SQLite. */
#ifndef NH_STORE_JOURNAL_DB_H
#define NH_STORE_JOURNAL_DB_H

#include <sqlite3.h>

#include "runtime/store/store.h"

enum { NH_JOURNAL_APPLICATION = 0x4e484a31, NH_JOURNAL_VERSION = 1 }; /* "NHJ1" */

/* Every statement, prepared once. */
typedef enum nh_journal_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_PAGES,
    SQL_FREE_PAGES,
    SQL_PUT,
    SQL_REMOVE,
    SQL_DELAY,
    SQL_ATTEMPTS,
    SQL_CRASH,
    SQL_FRESH,
    SQL_DUE,
    SQL_NEXT_DUE,
    SQL_LAST,
    SQL_OLDEST,
    SQL_DEPTH,
    SQL_DIE,
    SQL_DEAD_COUNT,
    SQL_DEAD_LIST,
    SQL_DEAD_GET,
    SQL_DEAD_NEXT,
    SQL_DEAD_REVIVE,
    SQL_DEAD_REMOVE,
    SQL_DEAD_TRIM,
    SQL_DEDUPE_FIND,
    SQL_DEDUPE_PUT,
    SQL_DEDUPE_STEP,
    SQL_DEDUPE_PRUNE,
    SQL_VALUE_PUT,
    SQL_VALUE_REMOVE,
    SQL_VALUE_LIST,
    SQL_VALUE_STEP,
    SQL_VALUE_PRUNE,
    SQL_STATEMENTS
} nh_journal_sql;

/* What is known of the tables without asking; put back when a transaction fails. */
typedef struct nh_journal_ledger {
    uint64_t last[NH_PRIORITIES];   /* the newest row of each priority */
    uint64_t leased[NH_PRIORITIES]; /* rows that were never delayed are leased up to this one */
    int64_t due_leased;             /* delayed ones up to this time (ms) and, at it, this row */
    uint64_t due_row;
    int64_t due_next; /* the time of the next delayed one that is not leased; INT64_MAX: none */
    uint64_t depth, dead, dead_lost;
} nh_journal_ledger;

typedef struct nh_journal_db {
    sqlite3 *sqlite;
    sqlite3_stmt *statements[SQL_STATEMENTS];
    char *path;
    nh_journal_ledger now, before; /* `before`: at the begin of the transaction */
    uint64_t page_size, pages_most, pages_reserved;
    uint64_t dead_most;
    int wal_pages;      /* written since the last checkpoint */
    int64_t wall, skew; /* ms: the clock as it was read last, how far ours is ahead of it */
    uint64_t monotonic; /* ns, at the same moment */
    struct {
        unsigned char key[NH_STORE_KEY_MAX];
        int length;
    } pruned[2]; /* how far pruning is: dedupe, values */
} nh_journal_db;

/* Opens or makes the file, migrates it, prepares everything. Blocks: on the disk. Errors:
 * NH_E_JOURNAL, NH_E_INTERNAL. */
nh_err nh_journal_db_open(nh_journal_db *db, const char *path, const nh_store_options *options,
                          nh_error *error);
/* `intact`: the file may be tidied up; otherwise it is left as it is. */
void nh_journal_db_close(nh_journal_db *db, bool intact);
/* The file alone: its pragmas, its identity, its version (journal_schema.c). */
nh_err nh_journal_schema_open(sqlite3 **out, const char *path, const char *vfs, uint64_t bytes,
                              nh_error *error);

/* All from here: thread: the writer's (or the opener's, before it runs). An int is a result code of
 * SQLite; SQLITE_OK (or SQLITE_ROW, SQLITE_DONE where rows come) is success. */

/* A code and what it means for the operator, as NH_E_JOURNAL. */
nh_err nh_journal_explain(sqlite3 *sqlite, int code, const char *path, nh_error *error);
/* Nothing may be written after it: what reached the disk is not known, or the file is damaged. */
bool nh_journal_fatal(int code);

/* Binds text or bytes that stay until the statement is reset. NULL is "". */
int nh_journal_bind_text(sqlite3_stmt *statement, int at, const char *text);
/* Runs a statement that gives no rows (or one that nobody wants) and resets it. */
int nh_journal_run(sqlite3_stmt *statement);
/* The same for one that gives a number; 0 for no row. */
int nh_journal_number(sqlite3_stmt *statement, int64_t *number);

/* The journal's time, ms since the epoch: never goes back while it is open. */
int64_t nh_journal_now(nh_journal_db *db);
int64_t nh_journal_ms(double seconds);

int nh_journal_begin(nh_journal_db *db);
int nh_journal_commit(nh_journal_db *db);
void nh_journal_rollback(nh_journal_db *db);
/* Moves what the log holds into the file once it is long. */
int nh_journal_checkpoint(nh_journal_db *db);
int nh_journal_used(nh_journal_db *db, uint64_t *pages);

/* Messages (journal_rows.c) */
uint8_t nh_journal_priority(nh_row row);
uint64_t nh_journal_batch_pages(const nh_journal_db *db, const nh_store_batch *batch);
int nh_journal_put(nh_journal_db *db, nh_store_item *item);
int nh_journal_remove(nh_journal_db *db, nh_row row);
int nh_journal_delay(nh_journal_db *db, nh_row row, int64_t due, uint32_t attempts);
int nh_journal_note_attempts(nh_journal_db *db, nh_row row, uint32_t attempts);
int nh_journal_note_crash(nh_journal_db *db, nh_row row);
/* What a lease asks about rows that it comes across. */
typedef struct nh_journal_look {
    bool (*gone)(void *context, nh_row row); /* it was acked, which is not written yet */
    void (*unreadable)(void *context, nh_row row, const char *why); /* has it die */
    void *context;
} nh_journal_look;
int nh_journal_lease(nh_journal_db *db, nh_store_lease *lease, const nh_journal_look *look,
                     size_t *count, bool *more);
/* Whether rows could be leased now. */
bool nh_journal_ready(nh_journal_db *db, int64_t now);
int nh_journal_rows_load(nh_journal_db *db);
int nh_journal_oldest(nh_journal_db *db, double *created_at);

/* Dead letters (journal_dead.c) */
int nh_journal_die(nh_journal_db *db, nh_row row, nh_err code, int64_t attempts, const char *reason,
                   const char *answer);
int nh_journal_dead_list(nh_journal_db *db, uint64_t after, size_t most,
                         void (*each)(void *context, const nh_store_dead *dead), void *context);
int nh_journal_dead_get(nh_journal_db *db, uint64_t number,
                        void (*each)(void *context, const nh_store_dead *dead), void *context,
                        bool *found);
/* One, or with `all` at most `most` from `number` on; `count` grows. Within a transaction. */
int nh_journal_dead_revive(nh_journal_db *db, uint64_t number, bool all, size_t most,
                           uint64_t *count);
int nh_journal_dead_remove(nh_journal_db *db, uint64_t number, bool all, size_t most,
                           uint64_t *count);

/* Dedupe keys and durable values (journal_value.c) */
int nh_journal_dedupe_find(nh_journal_db *db, const void *key, size_t length, int64_t now,
                           char id[NH_ID_MAX + 1]);
int nh_journal_dedupe_put(nh_journal_db *db, const nh_store_item *item, int64_t now);
int nh_journal_value_put(nh_journal_db *db, const void *key, size_t key_length, const void *value,
                         size_t length, int64_t expires);
int nh_journal_value_list(nh_journal_db *db, const void *after, size_t after_length, size_t most,
                          void (*each)(void *context, const void *key, size_t key_length,
                                       const void *value, size_t length, double expires_at),
                          void *context);
/* Looks at some hundred keys of each and drops those that have expired. */
int nh_journal_prune(nh_journal_db *db);

#endif
