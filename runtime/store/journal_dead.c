/* journal_dead.c — dead letters: messages that will not be delivered unless somebody says so.
 *
 * The writer thread's. They are bounded in number: the oldest goes when one more comes, and is
 * counted. A letter's number is never used again, so a list that is read page by page misses none.
 */
#include <limits.h>
#include <stdio.h>

#include "runtime/core/doc.h"
#include "runtime/store/journal_db.h"

static int trim(nh_journal_db *db) {
    if (db->now.dead <= db->dead_most)
        return SQLITE_OK;
    sqlite3_bind_int64(db->statements[SQL_DEAD_TRIM], 1, (int64_t)(db->now.dead - db->dead_most));
    int code = nh_journal_run(db->statements[SQL_DEAD_TRIM]);
    if (!code) {
        uint64_t gone = (uint64_t)sqlite3_changes(db->sqlite);
        db->now.dead -= gone;
        db->now.dead_lost += gone;
    }
    return code;
}

int nh_journal_die(nh_journal_db *db, nh_row row, nh_err code, int64_t attempts, const char *reason,
                   const char *answer) {
    sqlite3_stmt *die = db->statements[SQL_DIE];
    sqlite3_bind_int64(die, 1, (int64_t)row);
    sqlite3_bind_int64(die, 2, nh_journal_now(db));
    sqlite3_bind_int64(die, 3, nh_journal_priority(row));
    sqlite3_bind_int64(die, 4, attempts);
    nh_journal_bind_text(die, 5, nh_err_name(code));
    nh_journal_bind_text(die, 6, reason);
    nh_journal_bind_text(die, 7, answer);
    int result = nh_journal_run(die);
    if (result || sqlite3_changes(db->sqlite) == 0)
        return result;
    db->now.dead++;
    result = nh_journal_remove(db, row);
    return result ? result : trim(db);
}

/* ------------------------------------------------------------------ reading */

static const char *text_at(sqlite3_stmt *statement, int column) {
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return text ? text : "";
}

static double time_at(sqlite3_stmt *statement, int column) {
    return (double)sqlite3_column_int64(statement, column) / 1000;
}

/* The letter that a statement is at (the columns of LETTER). */
static nh_store_dead letter_at(sqlite3_stmt *row) {
    int64_t priority = sqlite3_column_int64(row, 11);
    return (nh_store_dead){.number = (uint64_t)sqlite3_column_int64(row, 0),
                           .id = text_at(row, 1),
                           .lane = text_at(row, 2),
                           .code = nh_err_from_name(text_at(row, 3)),
                           .reason = text_at(row, 4),
                           .answer = text_at(row, 5),
                           .created_at = time_at(row, 6),
                           .died_at = time_at(row, 7),
                           .expires_at = time_at(row, 8),
                           .attempts = (uint32_t)sqlite3_column_int64(row, 9),
                           .crashes = (uint32_t)sqlite3_column_int64(row, 10),
                           .priority = priority >= 0 && priority < NH_PRIORITIES ? (uint8_t)priority
                                                                                 : NH_NORMAL,
                           .length = (size_t)sqlite3_column_int64(row, 12)};
}

int nh_journal_dead_list(nh_journal_db *db, uint64_t after, size_t most,
                         void (*each)(void *context, const nh_store_dead *dead), void *context) {
    sqlite3_stmt *list = db->statements[SQL_DEAD_LIST];
    sqlite3_bind_int64(list, 1, after > INT64_MAX ? INT64_MAX : (int64_t)after);
    sqlite3_bind_int64(list, 2, most > INT_MAX ? INT_MAX : (int64_t)most);
    int code;
    while ((code = sqlite3_step(list)) == SQLITE_ROW) {
        nh_store_dead dead = letter_at(list);
        each(context, &dead);
    }
    sqlite3_reset(list);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

int nh_journal_dead_get(nh_journal_db *db, uint64_t number,
                        void (*each)(void *context, const nh_store_dead *dead), void *context,
                        bool *found) {
    sqlite3_stmt *get = db->statements[SQL_DEAD_GET];
    sqlite3_bind_int64(get, 1, (int64_t)number);
    int code = sqlite3_step(get);
    *found = code == SQLITE_ROW;
    if (*found) {
        nh_store_dead dead = letter_at(get);
        const void *payload = sqlite3_column_blob(get, 13);
        dead.document =
            nh_doc_from_bytes(payload ? payload : "", (size_t)sqlite3_column_bytes(get, 13), NULL);
        each(context, &dead);
        nh_doc_unref(dead.document);
    }
    sqlite3_reset(get);
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
}

/* ------------------------------------------------------------------ changing */

static int remove_letter(nh_journal_db *db, uint64_t number, uint8_t priority) {
    (void)priority;
    sqlite3_bind_int64(db->statements[SQL_DEAD_REMOVE], 1, (int64_t)number);
    int code = nh_journal_run(db->statements[SQL_DEAD_REMOVE]);
    if (!code && sqlite3_changes(db->sqlite) > 0)
        db->now.dead--;
    return code;
}

static int revive_letter(nh_journal_db *db, uint64_t number, uint8_t priority) {
    sqlite3_stmt *revive = db->statements[SQL_DEAD_REVIVE];
    sqlite3_bind_int64(revive, 1, (int64_t)number);
    sqlite3_bind_int64(revive, 2, (int64_t)++db->now.last[priority]);
    int code = nh_journal_run(revive);
    if (code)
        return code;
    db->now.depth++;
    return remove_letter(db, number, priority);
}

/* Does something to one letter, or to at most `most` from this number on. */
static int change(nh_journal_db *db, uint64_t number, bool all, size_t most, uint64_t *count,
                  int (*act)(nh_journal_db *db, uint64_t number, uint8_t priority)) {
    sqlite3_stmt *next = db->statements[SQL_DEAD_NEXT];
    int code = SQLITE_OK;
    for (size_t i = 0; i < most && !code; i++) {
        sqlite3_bind_int64(next, 1, number > INT64_MAX ? INT64_MAX : (int64_t)number);
        int found = sqlite3_step(next);
        uint64_t at = found == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(next, 0) : 0;
        int64_t priority = found == SQLITE_ROW ? sqlite3_column_int64(next, 1) : NH_NORMAL;
        sqlite3_reset(next);
        if (found != SQLITE_ROW)
            return found == SQLITE_DONE ? SQLITE_OK : found;
        if (!all && at != number)
            return SQLITE_OK;
        code =
            act(db, at, priority >= 0 && priority < NH_PRIORITIES ? (uint8_t)priority : NH_NORMAL);
        number = at + 1;
        *count += !code;
    }
    return code;
}

int nh_journal_dead_revive(nh_journal_db *db, uint64_t number, bool all, size_t most,
                           uint64_t *count) {
    return change(db, number, all, most, count, revive_letter);
}

int nh_journal_dead_remove(nh_journal_db *db, uint64_t number, bool all, size_t most,
                           uint64_t *count) {
    return change(db, number, all, most, count, remove_letter);
}
