/* journal_value.c — keys that expire: dedupe keys of messages, and what scripts keep for good.
 *
 * The writer thread's. Nothing orders them by their time, since an index would cost each insert a
 * second page: pruning walks the keys in their order, some hundred a step, round and round, and the
 * writer steps the faster the more come in.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/store/journal_db.h"

enum { STEP = 256 };

int nh_journal_dedupe_find(nh_journal_db *db, const void *key, size_t length, int64_t now,
                           char id[NH_ID_MAX + 1]) {
    sqlite3_stmt *find = db->statements[SQL_DEDUPE_FIND];
    sqlite3_bind_blob64(find, 1, key, length, SQLITE_STATIC);
    sqlite3_bind_int64(find, 2, now);
    int code = sqlite3_step(find);
    const char *text = code == SQLITE_ROW ? (const char *)sqlite3_column_text(find, 0) : NULL;
    snprintf(id, NH_ID_MAX + 1, "%s", text ? text : "");
    sqlite3_reset(find);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

int nh_journal_dedupe_put(nh_journal_db *db, const nh_store_item *item, int64_t now) {
    sqlite3_stmt *put = db->statements[SQL_DEDUPE_PUT];
    sqlite3_bind_blob64(put, 1, item->key, item->key_length, SQLITE_STATIC);
    nh_journal_bind_text(put, 2, item->id);
    sqlite3_bind_int64(put, 3, now + nh_journal_ms(item->window));
    return nh_journal_run(put);
}

int nh_journal_value_put(nh_journal_db *db, const void *key, size_t key_length, const void *value,
                         size_t length, int64_t expires) {
    sqlite3_stmt *put = db->statements[value ? SQL_VALUE_PUT : SQL_VALUE_REMOVE];
    sqlite3_bind_blob64(put, 1, key, key_length, SQLITE_STATIC);
    if (value) {
        sqlite3_bind_blob64(put, 2, value, length, SQLITE_STATIC);
        sqlite3_bind_int64(put, 3, expires);
    }
    return nh_journal_run(put);
}

int nh_journal_value_list(nh_journal_db *db, const void *after, size_t after_length, size_t most,
                          void (*each)(void *context, const void *key, size_t key_length,
                                       const void *value, size_t length, double expires_at),
                          void *context) {
    sqlite3_stmt *list = db->statements[SQL_VALUE_LIST];
    sqlite3_bind_blob64(list, 1, after ? after : "", after ? after_length : 0, SQLITE_STATIC);
    sqlite3_bind_int64(list, 2, nh_journal_now(db));
    sqlite3_bind_int64(list, 3, most > INT32_MAX ? INT32_MAX : (int64_t)most);
    int code;
    while ((code = sqlite3_step(list)) == SQLITE_ROW) {
        const void *key = sqlite3_column_blob(list, 0), *value = sqlite3_column_blob(list, 1);
        each(context, key, (size_t)sqlite3_column_bytes(list, 0), value ? value : "",
             (size_t)sqlite3_column_bytes(list, 1), (double)sqlite3_column_int64(list, 2) / 1000);
    }
    sqlite3_reset(list);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* One table's next step. The end of the table is a key above all that may be. */
static int prune(nh_journal_db *db, int table, nh_journal_sql find, nh_journal_sql drop) {
    unsigned char from[NH_STORE_KEY_MAX], to[NH_STORE_KEY_MAX + 1];
    int from_length = db->pruned[table].length, to_length = sizeof to;
    memcpy(from, db->pruned[table].key, sizeof from);
    memset(to, 0xff, sizeof to);

    sqlite3_stmt *step = db->statements[find], *remove = db->statements[drop];
    sqlite3_bind_blob(step, 1, from, from_length, SQLITE_STATIC);
    sqlite3_bind_int64(step, 2, STEP - 1);
    int code = sqlite3_step(step);
    db->pruned[table].length = 0;
    if (code == SQLITE_ROW && sqlite3_column_bytes(step, 0) <= NH_STORE_KEY_MAX) {
        to_length = sqlite3_column_bytes(step, 0);
        memcpy(to, sqlite3_column_blob(step, 0), (size_t)to_length);
        memcpy(db->pruned[table].key, to, (size_t)to_length);
        db->pruned[table].length = to_length;
    }
    sqlite3_reset(step);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return code;
    sqlite3_bind_blob(remove, 1, from, from_length, SQLITE_STATIC);
    sqlite3_bind_blob(remove, 2, to, to_length, SQLITE_STATIC);
    sqlite3_bind_int64(remove, 3, nh_journal_now(db));
    return nh_journal_run(remove);
}

int nh_journal_prune(nh_journal_db *db) {
    int code = prune(db, 0, SQL_DEDUPE_STEP, SQL_DEDUPE_PRUNE);
    return code ? code : prune(db, 1, SQL_VALUE_STEP, SQL_VALUE_PRUNE);
}
