/* journal_writer.h — the journal's thread: what is handed to it, and how it takes that. */
#ifndef NH_STORE_JOURNAL_WRITER_H
#define NH_STORE_JOURNAL_WRITER_H

#include <pthread.h>

#include "runtime/store/journal_db.h"
#include "runtime/store/journal_poison.h"

enum {
    NH_JOURNAL_ACKS = 256,    /* so many rows to be written, or so many ms of the first, make a */
    NH_JOURNAL_FLUSH_MS = 10, /* commit of their own */
};

typedef struct nh_journal nh_journal;

/* Something to write that nobody waits for: it rides along, and stays until it is written. */
typedef struct nh_journal_note nh_journal_note;
struct nh_journal_note {
    nh_journal_note *next;
    int (*apply)(nh_journal_db *db, const nh_journal_note *note);
    nh_row row;
    uint32_t attempts;
    nh_err code;
    double time;        /* nack: delay in seconds; value: expires_at */
    const char *reason; /* into `bytes`, as the next three; NULL = none */
    const char *answer;
    const void *key, *value;
    size_t key_length, length;
    char bytes[];
};

/* Something that its caller waits for, on the caller's stack. `run` is called with all that was
 * handed in before written, or not (then `unwritten` says why). */
typedef struct nh_journal_call nh_journal_call;
struct nh_journal_call {
    nh_journal_call *next;
    nh_err (*run)(nh_journal_db *db, nh_journal_call *call);
    nh_error *error;
    nh_err failed;
    bool ended;
    const char *unwritten; /* NULL when all is written */
    uint64_t number, *count;
    const void *key;
    size_t key_length, most;
    char *id;
    void (*letter)(void *context, const nh_store_dead *dead);
    void (*value)(void *context, const void *key, size_t key_length, const void *value,
                  size_t length, double expires_at);
    void *context;
};

typedef struct nh_journal_acks {
    nh_row *rows;
    size_t count, room;
} nh_journal_acks;

/* What the writer has to do, under the lock until it takes it. */
typedef struct nh_journal_work {
    nh_store_batch *batches, **batches_tail;
    nh_store_lease *leases, **leases_tail;
    nh_journal_call *calls, **calls_tail;
    nh_journal_note *notes, **notes_tail;
    nh_journal_acks acks;
    size_t note_count;
} nh_journal_work;

struct nh_journal {
    nh_store store; /* first */
    unsigned fork_generation;
    void (*notify)(void *context);
    void *context;
    int lock_fd;
    nh_journal_poison *poison;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t filled; /* the writer waits for work */
    pthread_cond_t served; /* callers wait for their call */
    nh_journal_work inbox;
    uint64_t inbox_since; /* monotonic ns of its first ack or note */
    uint64_t unwritten;   /* bytes of durable values that are not written yet */
    bool stopping, asleep;
    nh_store_stats stats;

    /* The writer's own. */
    nh_journal_db db;
    nh_journal_work kept; /* acks and notes that are not written yet */
    uint64_t kept_since;  /* monotonic ns; 0 = nothing is kept */
    uint64_t retry_at;    /* after a failure: not before */
    uint64_t move_at;     /* the log is not moved before, after it could not be */
    uint64_t told_at;     /* when stats.oldest was read */
    bool quiet;           /* the caller knows that rows may be leased */
    bool stale;           /* stats.oldest may be wrong */
    uint64_t prune_at;
    uint64_t used;    /* pages, after the last commit */
    uint64_t crowded; /* so many were used when a batch found no room; UINT64_MAX: none has */
    bool disk_full;   /* the last commit met a full disk */
    size_t keys_new;  /* dedupe keys since the last step of pruning */
    nh_err unflushed; /* what was left when it stopped */
};

/* Empties the lists; the acks are left alone. */
void nh_journal_work_init(nh_journal_work *work);
/* Lock held: makes room in the acks. */
bool nh_journal_acks_reserve(nh_journal_acks *acks, size_t more);
/* Lock held: wakes the writer. */
void nh_journal_wake(nh_journal *journal);
/* Lock held, after so many acks or notes were put into the inbox: wakes the writer if that is due.
 */
void nh_journal_added(nh_journal *journal, size_t count);

nh_err nh_journal_writer_start(nh_journal *journal, nh_error *error);
/* Has it end what is in the inbox, and joins it. */
void nh_journal_writer_stop(nh_journal *journal);

#endif
