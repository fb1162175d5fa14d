/* journal_rows.c — messages in the journal: how they get in, are leased and leave.
 *
 * The writer thread's. A row's id is a range for its priority and a number in it, so that a scan by
 * id is a scan of one priority in the order of arrival and costs no index. Normal messages have the
 * highest range: the commonest inserts then append to the tree, which is what SQLite does best.
 *
 * A lease is a place, not a mark: all rows of a priority up to `leased` are out or gone. A row that
 * is delayed leaves that order for another, by its time, where the same holds for (due_leased,
 * due_row); it is put behind that place. So leasing writes nothing, needs no memory a row, and a
 * journal that is opened anew starts with every row waiting. Enqueue, ack, nack: O(log n) each; a
 * lease: O(log n) and the rows it gives.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/store/journal_db.h"

enum { RANGE_BITS = 60, ROW_OVERHEAD = 96, PAGES_TOUCHED = 8 };

static const uint64_t ranges[NH_PRIORITIES] = {
    [NH_LOW] = UINT64_C(0) << RANGE_BITS,
    [NH_HIGH] = UINT64_C(1) << RANGE_BITS,
    [NH_URGENT] = UINT64_C(2) << RANGE_BITS,
    [NH_NORMAL] = UINT64_C(3) << RANGE_BITS,
};
static const unsigned weights[NH_PRIORITIES] = {
    [NH_LOW] = 1, [NH_NORMAL] = 2, [NH_HIGH] = 4, [NH_URGENT] = 8};

static uint64_t range_end(int priority) {
    return ranges[priority] + (UINT64_C(1) << RANGE_BITS) - 1;
}

uint8_t nh_journal_priority(nh_row row) {
    for (int priority = 0; priority < NH_PRIORITIES; priority++)
        if (row >> RANGE_BITS == ranges[priority] >> RANGE_BITS)
            return (uint8_t)priority;
    return NH_NORMAL;
}

static bool waits(const nh_journal_ledger *ledger, int priority) {
    return ledger->leased[priority] < ledger->last[priority];
}

/* ------------------------------------------------------------------- loading */

static int find_next_due(nh_journal_db *db) {
    sqlite3_stmt *next = db->statements[SQL_NEXT_DUE];
    int64_t due;
    sqlite3_bind_int64(next, 1, db->now.due_leased);
    sqlite3_bind_int64(next, 2, (int64_t)db->now.due_row);
    int code = nh_journal_number(next, &due);
    if (!code)
        db->now.due_next = due ? due : INT64_MAX;
    return code;
}

int nh_journal_rows_load(nh_journal_db *db) {
    sqlite3_stmt *newest = db->statements[SQL_LAST];
    int64_t number = 0;
    int code = SQLITE_OK;
    for (int priority = 0; priority < NH_PRIORITIES && !code; priority++) {
        sqlite3_bind_int64(newest, 1, (int64_t)ranges[priority]);
        sqlite3_bind_int64(newest, 2, (int64_t)range_end(priority));
        code = nh_journal_number(newest, &number);
        db->now.leased[priority] = ranges[priority];
        db->now.last[priority] = number ? (uint64_t)number : ranges[priority];
    }
    if (!code)
        code = nh_journal_number(db->statements[SQL_DEPTH], &number);
    db->now.depth = (uint64_t)number;
    return code ? code : find_next_due(db);
}

int nh_journal_oldest(nh_journal_db *db, double *created_at) {
    sqlite3_stmt *oldest = db->statements[SQL_OLDEST];
    int64_t first = 0, created;
    int code = SQLITE_OK;
    for (int priority = 0; priority < NH_PRIORITIES && !code && db->now.depth > 0; priority++) {
        sqlite3_bind_int64(oldest, 1, (int64_t)ranges[priority]);
        sqlite3_bind_int64(oldest, 2, (int64_t)range_end(priority));
        code = nh_journal_number(oldest, &created);
        if (created && (!first || created < first))
            first = created;
    }
    *created_at = (double)first / 1000;
    return code;
}

/* ---------------------------------------------------------------- in and out */

/* The pages that a batch may take at the very most: rows of a priority that is not the highest
 * range leave theirs half full, and each kind of entry may split some. */
uint64_t nh_journal_batch_pages(const nh_journal_db *db, const nh_store_batch *batch) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const nh_store_item *item = &batch->items[i];
        bytes += item->length + 2 * ROW_OVERHEAD + strlen(item->id) +
                 (item->lane ? strlen(item->lane) : 0);
        if (item->key)
            bytes += item->key_length + ROW_OVERHEAD + strlen(item->id);
    }
    return bytes * 2 / db->page_size + PAGES_TOUCHED;
}

/* The time of a delayed row: behind what is leased of those. */
static int64_t place_due(nh_journal_db *db, int64_t due) {
    if (due <= db->now.due_leased)
        due = db->now.due_leased + 1;
    if (due < db->now.due_next)
        db->now.due_next = due;
    return due;
}

int nh_journal_put(nh_journal_db *db, nh_store_item *item) {
    int64_t now = nh_journal_now(db), due = nh_journal_ms(item->due);
    item->leased = item->duplicate = false;
    item->row = 0;
    int code = SQLITE_OK;
    if (item->key) {
        code = nh_journal_dedupe_find(db, item->key, item->key_length, now, item->first);
        item->duplicate = !code && item->first[0];
        if (!code && !item->duplicate)
            code = nh_journal_dedupe_put(db, item, now);
        if (code || item->duplicate)
            return code;
    }
    nh_journal_ledger *ledger = &db->now;
    bool idle = !waits(ledger, item->priority);
    sqlite3_stmt *put = db->statements[SQL_PUT];
    item->row = ++ledger->last[item->priority];
    due = due > now ? place_due(db, due) : 0;
    sqlite3_bind_int64(put, 1, (int64_t)item->row);
    sqlite3_bind_int64(put, 2, due);
    sqlite3_bind_int64(put, 3, nh_journal_ms(item->created_at));
    sqlite3_bind_int64(put, 4, nh_journal_ms(item->expires_at));
    nh_journal_bind_text(put, 5, item->lane);
    nh_journal_bind_text(put, 6, item->id);
    sqlite3_bind_blob64(put, 7, item->payload, item->length, SQLITE_STATIC);
    code = nh_journal_run(put);
    ledger->depth++;
    item->leased = idle && due == 0 && item->take;
    if (item->leased || (idle && due > 0))
        ledger->leased[item->priority] = item->row;
    return code;
}

int nh_journal_remove(nh_journal_db *db, nh_row row) {
    sqlite3_bind_int64(db->statements[SQL_REMOVE], 1, (int64_t)row);
    int code = nh_journal_run(db->statements[SQL_REMOVE]);
    if (!code && sqlite3_changes(db->sqlite) > 0)
        db->now.depth--;
    return code;
}

int nh_journal_delay(nh_journal_db *db, nh_row row, int64_t due, uint32_t attempts) {
    sqlite3_stmt *delay = db->statements[SQL_DELAY];
    sqlite3_bind_int64(delay, 1, (int64_t)row);
    sqlite3_bind_int64(delay, 2, place_due(db, due));
    sqlite3_bind_int64(delay, 3, attempts);
    return nh_journal_run(delay);
}

int nh_journal_note_attempts(nh_journal_db *db, nh_row row, uint32_t attempts) {
    sqlite3_bind_int64(db->statements[SQL_ATTEMPTS], 1, (int64_t)row);
    sqlite3_bind_int64(db->statements[SQL_ATTEMPTS], 2, attempts);
    return nh_journal_run(db->statements[SQL_ATTEMPTS]);
}

int nh_journal_note_crash(nh_journal_db *db, nh_row row) {
    int64_t crashes;
    sqlite3_bind_int64(db->statements[SQL_CRASH], 1, (int64_t)row);
    int code = nh_journal_number(db->statements[SQL_CRASH], &crashes);
    if (code || crashes < NH_STORE_CRASHES_MAX)
        return code;
    char reason[128];
    snprintf(reason, sizeof reason, "the process ended %lld times while a script had this message",
             (long long)crashes);
    return nh_journal_die(db, row, NH_E_SCRIPT, -1, reason, NULL);
}

/* ------------------------------------------------------------------- leasing */

typedef struct leasing {
    nh_journal_db *db;
    nh_store_lease *lease;
    size_t count, bytes;
    bool full; /* no more may come */
    const nh_journal_look *look;
} leasing;

static uint32_t small(int64_t number) {
    return number < 0 ? 0 : number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

/* Hands out the row that a statement is at (the columns of ROW). False: it waits on. */
static bool hand_out(leasing *l, sqlite3_stmt *row) {
    if (l->full)
        return false;
    size_t length = (size_t)sqlite3_column_bytes(row, 8);
    nh_row id = (nh_row)sqlite3_column_int64(row, 0);
    if (l->look->gone(l->look->context, id))
        return true;
    const void *payload = sqlite3_column_blob(row, 8);
    nh_error error = {.code = NH_E_INVALID};
    nh_doc *document = nh_doc_from_bytes(payload ? payload : "", length, &error);
    if (!document && error.code == NH_E_INTERNAL) {
        l->full = true;
        return false;
    }
    if (!document || nh_value_kind(nh_doc_root(document)) != NH_MAP) {
        nh_doc_unref(document);
        l->look->unreadable(l->look->context, id, document ? "it holds no message" : error.message);
        return true;
    }
    const char *message = (const char *)sqlite3_column_text(row, 1);
    const char *lane = (const char *)sqlite3_column_text(row, 2);
    nh_store_row out = {.row = id,
                        .id = message ? message : "",
                        .lane = lane ? lane : "",
                        .document = document,
                        .created_at = (double)sqlite3_column_int64(row, 3) / 1000,
                        .due = (double)sqlite3_column_int64(row, 4) / 1000,
                        .expires_at = (double)sqlite3_column_int64(row, 5) / 1000,
                        .attempts = small(sqlite3_column_int64(row, 6)),
                        .crashes = small(sqlite3_column_int64(row, 7)),
                        .priority = nh_journal_priority(id)};
    bool taken = l->lease->take(l->lease, &out);
    nh_doc_unref(document);
    if (!taken) {
        l->full = true;
        return false;
    }
    l->bytes += length;
    l->full = ++l->count >= l->lease->most || l->bytes >= l->lease->bytes;
    return true;
}

static int lease_due(leasing *l, size_t most, int64_t now) {
    nh_journal_ledger *ledger = &l->db->now;
    if (ledger->due_next > now)
        return SQLITE_OK;
    sqlite3_stmt *due = l->db->statements[SQL_DUE];
    sqlite3_bind_int64(due, 1, ledger->due_leased);
    sqlite3_bind_int64(due, 2, (int64_t)ledger->due_row);
    sqlite3_bind_int64(due, 3, now);
    sqlite3_bind_int64(due, 4, (int64_t)most);
    int code;
    while ((code = sqlite3_step(due)) == SQLITE_ROW && hand_out(l, due)) {
        ledger->due_leased = sqlite3_column_int64(due, 4);
        ledger->due_row = (uint64_t)sqlite3_column_int64(due, 0);
    }
    sqlite3_reset(due);
    return code == SQLITE_ROW || code == SQLITE_DONE ? find_next_due(l->db) : code;
}

static int lease_fresh(leasing *l, int priority, size_t most) {
    nh_journal_ledger *ledger = &l->db->now;
    sqlite3_stmt *fresh = l->db->statements[SQL_FRESH];
    sqlite3_bind_int64(fresh, 1, (int64_t)ledger->leased[priority]);
    sqlite3_bind_int64(fresh, 2, (int64_t)ledger->last[priority]);
    sqlite3_bind_int64(fresh, 3, (int64_t)most);
    int code;
    size_t count = 0;
    while ((code = sqlite3_step(fresh)) == SQLITE_ROW && hand_out(l, fresh)) {
        ledger->leased[priority] = (uint64_t)sqlite3_column_int64(fresh, 0);
        count++;
    }
    sqlite3_reset(fresh);
    if (code == SQLITE_DONE && count < most) /* none is left, only delayed ones were passed */
        ledger->leased[priority] = ledger->last[priority];
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

bool nh_journal_ready(nh_journal_db *db, int64_t now) {
    bool ready = db->now.due_next <= now;
    for (int priority = 0; priority < NH_PRIORITIES; priority++)
        ready |= waits(&db->now, priority);
    return ready;
}

/* One round gives each priority that has rows its part; what some did not need is for the next. */
int nh_journal_lease(nh_journal_db *db, nh_store_lease *lease, const nh_journal_look *look,
                     size_t *count, bool *more) {
    leasing l = {.db = db, .lease = lease, .look = look};
    int64_t now = nh_journal_now(db);
    l.full = lease->most == 0;
    int code = lease_due(&l, lease->most, now);
    bool some = true;
    while (!code && !l.full && some) {
        unsigned total = 0;
        size_t left = lease->most - l.count;
        some = false;
        for (int priority = 0; priority < NH_PRIORITIES; priority++)
            total += waits(&db->now, priority) ? weights[priority] : 0;
        for (int priority = NH_URGENT; priority >= NH_LOW && !code && !l.full; priority--) {
            if (!waits(&db->now, priority))
                continue;
            code = lease_fresh(&l, priority, 1 + (left - 1) * weights[priority] / total);
            some = true;
        }
    }
    *count = l.count;
    *more = nh_journal_ready(db, now);
    return code;
}
