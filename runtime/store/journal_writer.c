/* journal_writer.c — the thread that alone touches SQLite: takes all that came in, writes it with
 * one commit, tells who waits.
 *
 * Group commit needs no delay of its own: while one commit syncs, the next group gathers. Messages
 * are written at once; acks and notes (attempts, deaths, values) are kept and ride along with them,
 * or are written by themselves after NH_JOURNAL_FLUSH_MS or NH_JOURNAL_ACKS. That bounds what
 * comes twice after a crash.
 *
 * When a commit fails nothing of its group was accepted: its senders are refused at once, what is
 * kept stays kept and is tried again, so a disk that was full goes on by itself. Deliveries go on
 * meanwhile, so what is kept grows; a commit takes a part of it, a small one while commits fail,
 * since the senders of its group wait for all of it. When a sync fails or the file is damaged it is
 * not known what the disk holds (a second sync would say "done" and mean nothing), so nothing is
 * written any more; what was accepted before can still be leased.
 *
 * A turn: batches with what is kept → leases → calls → checkpoint. One group has at most GROUP_ROWS
 * rows or one batch, and as many acks and notes.
 */
#include "runtime/store/journal_writer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

#define MS UINT64_C(1000000)

enum {
    GROUP_ROWS = 4096,
    RETRY_MS = 100,   /* what is kept is tried again after a failure */
    MOVE_MS = 1000,   /* and the log moved: that copies all of it before it fails */
    OLDEST_MS = 100,  /* stats.oldest is at most so old while something goes on */
    PRUNE_MS = 10000, /* a step of pruning when nothing comes in */
    PRUNE_KEYS = 128, /* a step of pruning after so many new keys */
    CLOCK_MS = 1000,  /* how soon a wait for a due time sees that the clock was set */
};

/* -------------------------------------------------------------------- inbox */

void nh_journal_work_init(nh_journal_work *work) {
    *work = (nh_journal_work){.acks = work->acks};
    work->batches_tail = &work->batches;
    work->leases_tail = &work->leases;
    work->calls_tail = &work->calls;
    work->notes_tail = &work->notes;
}

bool nh_journal_acks_reserve(nh_journal_acks *acks, size_t more) {
    if (more <= acks->room - acks->count)
        return true;
    size_t room = acks->room ? acks->room * 2 : 2 * NH_JOURNAL_ACKS;
    while (room < acks->count + more)
        room *= 2;
    nh_row *rows = realloc(acks->rows, room * sizeof *rows);
    if (!rows)
        return false;
    acks->rows = rows;
    acks->room = room;
    return true;
}

void nh_journal_wake(nh_journal *j) {
    if (j->asleep) {
        j->asleep = false;
        pthread_cond_signal(&j->filled);
    }
}

static size_t unhurried(const nh_journal_work *work) {
    return work->acks.count + work->note_count;
}

static size_t kept(const nh_journal *j) {
    return unhurried(&j->kept);
}

/* The writer is woken by the first, to start its wait, and by the one that ends it. */
void nh_journal_added(nh_journal *j, size_t count) {
    size_t after = unhurried(&j->inbox), before = after - count;
    if (before == 0)
        j->inbox_since = nh_monotonic();
    if (before == 0 || (before < NH_JOURNAL_ACKS && after >= NH_JOURNAL_ACKS))
        nh_journal_wake(j);
}

/* When the writer must do something if nothing comes in (monotonic ns). */
static uint64_t next_turn(nh_journal *j, uint64_t now) {
    uint64_t at = j->prune_at;
    size_t held = kept(j), all = held + unhurried(&j->inbox);
    if (all > 0 && !j->stats.broken) {
        uint64_t since = held > 0 ? j->kept_since : j->inbox_since;
        uint64_t flush = all >= NH_JOURNAL_ACKS ? 0 : since + NH_JOURNAL_FLUSH_MS * MS;
        if (flush < j->retry_at)
            flush = j->retry_at;
        at = flush < at ? flush : at;
    }
    if (j->stale && j->told_at + OLDEST_MS * MS < at)
        at = j->told_at + OLDEST_MS * MS;
    if (j->db.now.due_next != INT64_MAX && !j->quiet) {
        int64_t wait = j->db.now.due_next - nh_journal_now(&j->db);
        wait = wait < 0 ? 0 : wait > CLOCK_MS ? CLOCK_MS : wait;
        uint64_t due = now + ((uint64_t)wait) * MS;
        at = due < at ? due : at;
    }
    return at;
}

/* Takes over acks and notes, to be kept until they are written. */
static void keep(nh_journal *j) {
    nh_journal_work *in = &j->inbox, *mine = &j->kept;
    if (kept(j) == 0)
        j->kept_since = j->inbox_since;
    if (in->acks.count == 0) {
        /* nothing to take over, and perhaps no memory to copy from */
    } else if (mine->acks.count == 0) {
        nh_journal_acks swap = mine->acks;
        mine->acks = in->acks;
        in->acks = swap;
    } else if (nh_journal_acks_reserve(&mine->acks, in->acks.count)) {
        memcpy(mine->acks.rows + mine->acks.count, in->acks.rows,
               in->acks.count * sizeof *in->acks.rows);
        mine->acks.count += in->acks.count;
        in->acks.count = 0;
    } /* out of memory: they stay where they are */
    if (in->notes) {
        *mine->notes_tail = in->notes;
        mine->notes_tail = in->notes_tail;
        mine->note_count += in->note_count;
        in->notes = NULL;
        in->note_count = 0;
    }
}

/* Waits for work, takes it. False when it is to stop and there is none. */
static bool gather(nh_journal *j, nh_journal_work *work) {
    pthread_mutex_lock(&j->lock);
    for (;;) {
        uint64_t now = nh_monotonic(), at = next_turn(j, now);
        if (j->inbox.batches || j->inbox.leases || j->inbox.calls || j->stopping || at <= now)
            break;
        j->asleep = true;
        nh_cond_wait(&j->filled, &j->lock, at);
        j->asleep = false;
    }
    keep(j);
    *work = j->inbox;
    nh_journal_work_init(&j->inbox);
    bool more = !j->stopping || work->batches || work->leases || work->calls;
    pthread_mutex_unlock(&j->lock);
    return more;
}

/* -------------------------------------------------------------------- stats */

static void tell(nh_journal *j) {
    if (j->notify)
        j->notify(j->context);
}

/* With the lock held, by the writer. */
static void note_full(nh_journal *j) {
    j->stats.full = j->disk_full || j->used >= j->crowded;
}

/* What the last commit made of it: `code` SQLITE_OK when it went well. */
static void judge(nh_journal *j, int code, char why[NH_ERROR_MESSAGE_MAX]) {
    nh_error error = {.code = NH_OK};
    if (code)
        nh_journal_explain(j->db.sqlite, code, j->db.path, &error);
    j->disk_full = (code & 0xff) == SQLITE_FULL;
    pthread_mutex_lock(&j->lock);
    nh_err before = j->stats.trouble;
    bool was_broken = j->stats.broken;
    j->stats.trouble = code ? NH_E_JOURNAL : NH_OK;
    j->stats.broken = was_broken || nh_journal_fatal(code);
    j->stats.commits += !code;
    note_full(j); /* who sees that the trouble is over sees this, too */
    snprintf(j->stats.why, sizeof j->stats.why, "%.*s", (int)sizeof j->stats.why - 1,
             code ? error.message : "");
    bool changed = before != j->stats.trouble || was_broken != j->stats.broken;
    pthread_mutex_unlock(&j->lock);
    if (code)
        snprintf(why, NH_ERROR_MESSAGE_MAX, "%s", error.message);
    if (changed)
        tell(j);
}

static void publish(nh_journal *j, uint64_t refused) {
    double oldest = 0;
    uint64_t now = nh_monotonic();
    bool look = now >= j->told_at + OLDEST_MS * MS;
    nh_journal_used(&j->db, &j->used); /* stays as it was when it cannot be read */
    if (look)
        nh_journal_oldest(&j->db, &oldest);
    pthread_mutex_lock(&j->lock);
    j->stats.bytes = j->used * j->db.page_size;
    if (look)
        j->stats.oldest = oldest;
    note_full(j);
    j->stats.depth = j->db.now.depth;
    j->stats.dead = j->db.now.dead;
    j->stats.dead_lost = j->db.now.dead_lost;
    j->stats.refused += refused;
    pthread_mutex_unlock(&j->lock);
    j->stale = !look;
    if (look)
        j->told_at = now;
}

/* ------------------------------------------------------------------ writing */

static int compare_rows(const void *a, const void *b) {
    nh_row left = *(const nh_row *)a, right = *(const nh_row *)b;
    return left < right ? -1 : left > right;
}

static void sort_acks(nh_journal *j, size_t count) {
    if (count > 1)
        qsort(j->kept.acks.rows, count, sizeof *j->kept.acks.rows, compare_rows);
}

/* The first of what is kept: so many go into one transaction. */
typedef struct part {
    size_t acks, notes;
} part;

static part next_part(const nh_journal *j) {
    size_t most = j->retry_at ? NH_JOURNAL_ACKS : GROUP_ROWS; /* after a failure it is a trial */
    size_t acks = j->kept.acks.count < most ? j->kept.acks.count : most;
    size_t notes = j->kept.note_count < most - acks ? j->kept.note_count : most - acks;
    return (part){.acks = acks, .notes = notes};
}

/* Acks first: they make room. */
static int apply_kept(nh_journal *j, part kept_part) {
    const nh_journal_note *note = j->kept.notes;
    int code = SQLITE_OK;
    sort_acks(j, kept_part.acks); /* neighbours share pages */
    for (size_t i = 0; i < kept_part.acks && !code; i++)
        code = nh_journal_remove(&j->db, j->kept.acks.rows[i]);
    for (size_t i = 0; i < kept_part.notes && !code; i++, note = note->next)
        code = note->apply(&j->db, note);
    return code;
}

static void forget_kept(nh_journal *j, part written) {
    nh_journal_acks *acks = &j->kept.acks;
    uint64_t bytes = 0;
    for (size_t i = 0; i < written.notes; i++) {
        nh_journal_note *note = j->kept.notes;
        j->kept.notes = note->next;
        bytes += note->key_length + note->length;
        free(note);
    }
    j->kept.note_count -= written.notes;
    if (!j->kept.notes)
        j->kept.notes_tail = &j->kept.notes;
    acks->count -= written.acks;
    if (acks->count > 0)
        memmove(acks->rows, acks->rows + written.acks, acks->count * sizeof *acks->rows);
    pthread_mutex_lock(&j->lock);
    j->unwritten -= bytes;
    pthread_mutex_unlock(&j->lock);
}

/* Writes the batches (a list) with a part of what is kept, in one transaction. */
static void begin_commit(nh_journal *j) {
    pthread_mutex_lock(&j->lock);
    j->stats.writing_since = nh_monotonic();
    pthread_mutex_unlock(&j->lock);
}

static void end_commit(nh_journal *j) {
    uint64_t now = nh_monotonic();
    pthread_mutex_lock(&j->lock);
    j->stats.commit_seconds = (double)(now - j->stats.writing_since) / (double)NH_SECOND;
    j->stats.written_at = now;
    j->stats.writing_since = 0;
    pthread_mutex_unlock(&j->lock);
}

static int write_group(nh_journal *j, nh_store_batch *batches, char why[NH_ERROR_MESSAGE_MAX]) {
    const part kept_part = next_part(j);
    size_t keys = 0;
    begin_commit(j);
    int code = nh_journal_begin(&j->db);
    if (!code)
        code = apply_kept(j, kept_part);
    for (nh_store_batch *batch = batches; batch && !code; batch = batch->next)
        for (size_t i = 0; i < batch->count && !code; i++) {
            code = nh_journal_put(&j->db, &batch->items[i]);
            keys += batch->items[i].key != NULL;
        }
    if (!code && (j->keys_new += keys) >= PRUNE_KEYS) {
        j->keys_new = 0;
        code = nh_journal_prune(&j->db);
    }
    if (!code)
        code = nh_journal_commit(&j->db);
    end_commit(j);
    judge(j, code, why);
    if (code) {
        nh_journal_rollback(&j->db);
        j->retry_at = nh_monotonic() + RETRY_MS * MS;
    } else {
        forget_kept(j, kept_part);
        j->retry_at = 0;
    }
    return code;
}

static uint64_t count_items(const nh_store_batch *batches) {
    uint64_t count = 0;
    for (; batches; batches = batches->next)
        count += batches->count;
    return count;
}

static void finish(nh_store_batch *batches, nh_err failed, const char *why) {
    while (batches) {
        nh_store_batch *batch = batches;
        batches = batch->next;
        batch->next = NULL;
        batch->done(batch, failed, failed ? why : NULL);
    }
}

/* Splits a group off the list, and from it the batches for which there is no room. */
static nh_store_batch *next_group(nh_journal *j, nh_store_batch **list, nh_store_batch **no_room,
                                  uint64_t *used) {
    nh_store_batch *group = NULL, **tail = &group, **out = no_room;
    uint64_t room = j->db.pages_most - j->db.pages_reserved;
    size_t rows = 0;
    *used = j->used;
    *no_room = NULL;
    while (*list && (rows == 0 || rows + (*list)->count <= GROUP_ROWS)) {
        nh_store_batch *batch = *list;
        uint64_t pages = nh_journal_batch_pages(&j->db, batch);
        nh_store_batch ***to = *used + pages > room ? &out : &tail;
        if (to == &tail) {
            *used += pages;
            rows += batch->count;
        }
        *list = batch->next;
        batch->next = NULL;
        **to = batch;
        *to = &batch->next;
    }
    return group;
}

static void write_batches(nh_journal *j, nh_store_batch *list) {
    while (list) {
        char why[NH_ERROR_MESSAGE_MAX], full[NH_ERROR_MESSAGE_MAX];
        nh_store_batch *no_room;
        uint64_t used;
        nh_store_batch *group = next_group(j, &list, &no_room, &used);
        nh_err failed = NH_OK;
        if (j->stats.broken) { /* only this thread writes it */
            failed = NH_E_JOURNAL;
            memcpy(why, j->stats.why, sizeof j->stats.why);
        } else if (group && write_group(j, group, why)) {
            failed = NH_E_JOURNAL;
        }
        if (no_room)
            j->crowded = j->used;
        else if (group && !failed)
            j->crowded = UINT64_MAX;
        /* Who is told finds it in the stats, too. */
        publish(j, (failed ? count_items(group) : 0) + count_items(no_room));
        finish(group, failed, why);
        if (no_room) {
            unsigned long long bytes_used = used * j->db.page_size;
            snprintf(full, sizeof full,
                     "%s: the journal is full: %llu of %llu bytes are used and the rest is kept "
                     "for what is under way; wait, discard dead letters, or raise "
                     "queue.journal_bytes",
                     j->db.path, bytes_used, (unsigned long long)j->stats.most);
            finish(no_room, NH_E_JOURNAL, full);
        }
    }
}

/* Writes a part of what is kept, by itself. False when there is nothing to write, or it failed. */
static bool flush(nh_journal *j) {
    char why[NH_ERROR_MESSAGE_MAX];
    if (kept(j) == 0 || j->stats.broken)
        return false;
    bool written = write_group(j, NULL, why) == SQLITE_OK;
    publish(j, 0);
    return written;
}

static void flush_all(nh_journal *j) {
    while (flush(j))
        ;
}

/* ------------------------------------------------------------------ reading */

static int apply_unreadable(nh_journal_db *db, const nh_journal_note *note) {
    return nh_journal_die(db, note->row, NH_E_INVALID, -1, note->reason, NULL);
}

static void unreadable(void *context, nh_row row, const char *why) {
    nh_journal *j = context;
    enum { REASON = 256 };
    nh_journal_note *note = calloc(1, sizeof *note + REASON);
    if (!note)
        return; /* it is not handed out, and found again by the next open */
    snprintf(note->bytes, REASON, "the message in the journal cannot be read: %s", why);
    note->reason = note->bytes;
    note->row = row;
    note->apply = apply_unreadable;
    if (kept(j) == 0)
        j->kept_since = nh_monotonic();
    *j->kept.notes_tail = note;
    j->kept.notes_tail = &note->next;
    j->kept.note_count++;
}

static bool acked(void *context, nh_row row) {
    const nh_journal_acks *acks = &((nh_journal *)context)->kept.acks;
    return acks->count > 0 &&
           bsearch(&row, acks->rows, acks->count, sizeof *acks->rows, compare_rows);
}

static void serve_leases(nh_journal *j, nh_store_lease *list) {
    const nh_journal_look look = {.gone = acked, .unreadable = unreadable, .context = j};
    if (list)
        sort_acks(j, j->kept.acks.count);
    while (list) {
        nh_store_lease *lease = list;
        list = lease->next;
        nh_error error = {.code = NH_OK};
        size_t count = 0;
        bool more = false;
        int code = nh_journal_lease(&j->db, lease, &look, &count, &more);
        if (code) {
            char why[NH_ERROR_MESSAGE_MAX];
            nh_journal_explain(j->db.sqlite, code, j->db.path, &error);
            if (nh_journal_fatal(code))
                judge(j, code, why);
        }
        j->quiet = more && !code;
        lease->done(lease, count, more, code ? NH_E_JOURNAL : NH_OK, code ? error.message : NULL);
    }
}

static void serve_calls(nh_journal *j, nh_journal_call *list) {
    char why[sizeof j->stats.why];
    memcpy(why, j->stats.why, sizeof why);
    while (list) {
        nh_journal_call *call = list;
        list = call->next;
        call->unwritten = kept(j) > 0 ? why : NULL;
        nh_err failed = call->run(&j->db, call);
        publish(j, 0);
        pthread_mutex_lock(&j->lock);
        call->failed = failed;
        call->ended = true;
        pthread_cond_broadcast(&j->served);
        pthread_mutex_unlock(&j->lock);
    }
}

/* ------------------------------------------------------------------- thread */

static void tidy(nh_journal *j) {
    char why[NH_ERROR_MESSAGE_MAX];
    uint64_t now = nh_monotonic();
    bool prune = now >= j->prune_at;
    if (prune)
        j->prune_at = now + PRUNE_MS * MS;
    if (j->stats.broken)
        return;
    int code = now >= j->move_at ? nh_journal_checkpoint(&j->db) : SQLITE_OK;
    if (code)
        j->move_at = now + MOVE_MS * MS;
    if (!code && prune)
        code = nh_journal_prune(&j->db);
    if (nh_journal_fatal(code)) /* the rest is tried again */
        judge(j, code, why);
}

/* Tells that rows may be leased, once until somebody has leased what there was. */
static void announce(nh_journal *j) {
    if (j->quiet || !nh_journal_ready(&j->db, nh_journal_now(&j->db)))
        return;
    j->quiet = true;
    tell(j);
}

static void *writer_main(void *argument) {
    nh_journal *j = argument;
    nh_journal_work work;
    j->prune_at = nh_monotonic() + PRUNE_MS * MS;
    publish(j, 0);
    announce(j);
    while (gather(j, &work)) {
        write_batches(j, work.batches);
        uint64_t now = nh_monotonic();
        bool due = kept(j) >= NH_JOURNAL_ACKS || now >= j->kept_since + NH_JOURNAL_FLUSH_MS * MS;
        if (work.calls)
            flush_all(j);
        else if (due && now >= j->retry_at)
            flush(j);
        serve_leases(j, work.leases);
        if (work.calls)
            flush_all(j); /* a lease may have found rows that nobody can read */
        serve_calls(j, work.calls);
        if (j->stale && now >= j->told_at + OLDEST_MS * MS)
            publish(j, 0);
        tidy(j);
        announce(j);
    }
    flush_all(j);
    j->unflushed = kept(j) > 0 ? NH_E_JOURNAL : NH_OK;
    return NULL;
}

nh_err nh_journal_writer_start(nh_journal *j, nh_error *error) {
    sigset_t all, before;
    sigfillset(&all); /* a host's signals are the host's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&j->thread, NULL, writer_main, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? nh_fail(error, NH_E_INTERNAL, "journal thread: %s", strerror(failed)) : NH_OK;
}

void nh_journal_writer_stop(nh_journal *j) {
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_signal(&j->filled);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    while (j->kept.notes) {
        nh_journal_note *note = j->kept.notes;
        j->kept.notes = note->next;
        free(note);
    }
    free(j->kept.acks.rows);
    free(j->inbox.acks.rows);
}
