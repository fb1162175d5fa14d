/* store.h — the one interface to what keeps accepted messages until they are done with: memory, the
 * journal on disk, later a distributed engine.
 *
 * A stored message is a row. Its life:
 *
 *     enqueue ──> waiting ──lease──> leased ──ack──> gone
 *                    ^                 │ ├──dead──> a dead letter ──dead_retry──> waiting
 *                    └──when due───────┴─┘nack
 *
 * A lease is held by the process and never written down: when the store is opened anew every row
 * waits. So a row is delivered at least once, and the attempts that nack wrote are remembered.
 *
 * A store works in a thread of its own (the writer) or in the caller's; what it calls back, it
 * calls from there: such a function must be short, must not block and may call only functions here
 * that never block. It may be called before the function that caused it returns. One that is
 * waited for runs while its caller waits.
 */
#ifndef NH_STORE_STORE_H
#define NH_STORE_STORE_H

#include "runtime/core/id.h"
#include "runtime/core/message.h"
#include "runtime/notifyhub.h"

typedef struct nh_store_ops nh_store_ops;

/* An engine's own structure begins with this one. */
typedef struct nh_store {
    const nh_store_ops *ops;
} nh_store;

/* Names a row for as long as the store is open; 0 is none. */
typedef uint64_t nh_row;

enum {
    NH_STORE_LANE_MAX = 256,           /* bytes of a lane's name; the same for the next two */
    NH_STORE_KEY_MAX = 512,            /* of a dedupe_key, and of a key of the durable values */
    NH_STORE_TEXT_MAX = 1024,          /* of a reason or an answer; more is cut */
    NH_STORE_VALUE_MAX = 1 << 20,      /* of one durable value */
    NH_STORE_UNWRITTEN_MAX = 16 << 20, /* of durable values that wait to be written */
    NH_STORE_CRASHES_MAX = 3,          /* as often may the process end while a script has a row */
    NH_STORE_WORKERS_MAX = 256,        /* who can enter */
};

/* ---------------------------------------------------------------- options */

typedef struct nh_store_options {
    const char *path;   /* of the journal; NULL for a store that has none */
    uint64_t bytes;     /* the most it may hold, dead letters included; 0 = 1 GiB */
    uint64_t dead_most; /* dead letters; the oldest goes when one more comes; 0 = 10,000 */
    const char *vfs;    /* of SQLite, by name, for tests; NULL = the system's */
    /* Told when rows may be leased that could not be before, and when stats().trouble changes.
     * NULL = nobody. */
    void (*notify)(void *context);
    void *context;
} nh_store_options;

#define NH_STORE_BYTES_DEFAULT (UINT64_C(1) << 30)
#define NH_STORE_BYTES_MIN     (UINT64_C(1) << 20)
#define NH_STORE_DEAD_DEFAULT  UINT64_C(10000)

enum {
    NH_STORE_DURABLE = 1, /* what was accepted outlives the process */
    NH_STORE_SHARED = 2,  /* several processes may work on it: a lease can be lost */
};

/* ---------------------------------------------------------------- enqueue */

/* One message on its way in; all pointers are borrowed until done. Times are seconds since the
 * epoch, 0 = none. */
typedef struct nh_store_item {
    const char *id;      /* at most NH_ID_MAX bytes */
    const char *lane;    /* what it will be counted with; NULL = "" */
    const void *payload; /* the document, packed */
    size_t length;
    double created_at, due, expires_at;
    uint8_t priority;
    bool take; /* lease it to the caller at once. Granted when it is not due later and nothing older
                  of its priority waits */

    const void *key; /* the same key within its window is one message; NULL = none */
    size_t key_length;
    double window; /* seconds from now */

    /* What came of it, when done. */
    nh_row row;     /* 0 when it is a duplicate */
    bool leased;    /* as `take` asked */
    bool duplicate; /* a message with this key was accepted before, whose id is written to: */
    char *first;    /* room for NH_ID_MAX + 1 bytes, with a key; the caller's */
} nh_store_item;

/* Accepted whole or not at all. The caller owns it, and leaves it alone until done. */
typedef struct nh_store_batch nh_store_batch;
struct nh_store_batch {
    nh_store_item *items;
    size_t count;
    /* Once: with NH_OK when all of it is as durable as the store can make it, else with
     * NH_E_JOURNAL and why. */
    void (*done)(nh_store_batch *batch, nh_err failed, const char *why);
    void *context;
    nh_store_batch *next; /* the store's */
};

/* ------------------------------------------------------------------ lease */

/* A row as it is leased; pointers are borrowed for the call. */
typedef struct nh_store_row {
    nh_row row;
    const char *id, *lane;
    nh_doc *document; /* take a reference to keep it */
    double created_at, due, expires_at;
    uint32_t attempts, crashes;
    uint8_t priority;
} nh_store_row;

/* A wish for rows. The caller owns it, and leaves it alone until done. Those that came due go
 * first, then each priority by its weight, the oldest first. */
typedef struct nh_store_lease nh_store_lease;
struct nh_store_lease {
    size_t most;  /* rows */
    size_t bytes; /* of their documents; the one that passes this is the last */
    /* Once a row. False: it was not taken and waits on, and no more may come now. */
    bool (*take)(nh_store_lease *lease, const nh_store_row *row);
    /* Once. `more`: rows are left that could be leased now. Errors: NH_E_JOURNAL. */
    void (*done)(nh_store_lease *lease, size_t count, bool more, nh_err failed, const char *why);
    void *context;
    nh_store_lease *next; /* the store's */
};

/* ------------------------------------------------------------------- ends */

typedef struct nh_store_nack {
    double delay; /* seconds until it may be leased again; negative: the lease goes on, only the
                     attempts are written */
    uint32_t attempts; /* all that were made */
} nh_store_nack;

typedef struct nh_store_death {
    nh_err code;
    uint32_t attempts;
    const char *reason; /* redacted, as the answer; both are copied */
    const char *answer; /* the platform's last; NULL = none */
} nh_store_death;

/* A dead letter; pointers are borrowed for the call. */
typedef struct nh_store_dead {
    uint64_t number; /* in the order of dying; names it for ever */
    const char *id, *lane;
    nh_err code;
    const char *reason, *answer;
    double created_at, died_at, expires_at;
    uint32_t attempts, crashes;
    uint8_t priority;
    size_t length;    /* of the document */
    nh_doc *document; /* NULL in a list, and when it cannot be read */
} nh_store_dead;

/* ------------------------------------------------------------------ stats */

typedef struct nh_store_stats {
    uint64_t depth;            /* rows, leased ones too */
    uint64_t bytes, most;      /* used, of how many */
    uint64_t dead, dead_lost;  /* dead letters; how many went to make room since it was opened */
    uint64_t commits, refused; /* group commits; messages refused, since it was opened */
    double oldest;             /* created_at of the oldest row; 0 = no row */
    nh_err trouble;            /* NH_OK, or NH_E_JOURNAL when the last write failed: */
    bool broken;               /* and nothing is written until it is opened anew */
    bool full;                 /* messages found no room, on the disk or below `most` */
    uint64_t writing_since; /* monotonic ns at which a commit began that is under way; 0 = none */
    uint64_t written_at;    /* monotonic ns at which the last one ended; 0 = there was none */
    double commit_seconds;  /* that it took */
    char why[256];
} nh_store_stats;

/* -------------------------------------------------------------- operations */

/* Thread: any, for all but open's result before it is shared. Errors: NH_E_CLOSED in a forked
 * child, beside what is named. */
struct nh_store_ops {
    const char *name;
    unsigned caps;

    /* Blocks: on the disk; seconds after a crash with a large journal. Errors: NH_E_CONFIG for an
     * option, NH_E_JOURNAL for a file that is in use, damaged, newer than this program or none of
     * ours, each naming it and what to do; NH_E_INTERNAL. */
    nh_store *(*open)(const nh_store_options *options, nh_error *error);
    /* Ends what was handed in before and frees it; nobody may be inside or call later. Blocks: on
     * the disk. Errors: NH_E_JOURNAL when not all could be written: then rows that were acked last
     * come again. */
    nh_err (*close)(nh_store *store, nh_error *error);

    /* Blocks: never. Errors, and then done is not called: NH_E_INVALID for an item over a limit,
     * NH_E_JOURNAL while the store is broken. */
    nh_err (*enqueue)(nh_store *store, nh_store_batch *batch, nh_error *error);
    /* Rows that were acked before are not among them. Blocks: never. */
    void (*lease)(nh_store *store, nh_store_lease *lease);
    /* Done with: the rows go, leased or not; unknown ones are ignored. The same holds for nack and
     * dead. Blocks: never. Errors: NH_E_INTERNAL when out of memory: the rows come again after the
     * next open. */
    nh_err (*ack)(nh_store *store, const nh_row *rows, size_t count);
    nh_err (*nack)(nh_store *store, nh_row row, const nh_store_nack *nack);
    nh_err (*dead)(nh_store *store, nh_row row, const nh_store_death *death);

    /* Dead letters with a number above `after`, at most `most`, without documents. Blocks: on the
     * writer, as all to the end of this group. Errors: NH_E_JOURNAL. */
    nh_err (*dead_list)(nh_store *store, uint64_t after, size_t most,
                        void (*each)(void *context, const nh_store_dead *dead), void *context,
                        nh_error *error);
    /* One, with its document. Errors: NH_E_INVALID when there is none of this number. */
    nh_err (*dead_get)(nh_store *store, uint64_t number,
                       void (*each)(void *context, const nh_store_dead *dead), void *context,
                       nh_error *error);
    /* Makes it wait again with no attempts, or drops it. Number 0: all of them. `count` (or NULL)
     * is how many it were. */
    nh_err (*dead_retry)(nh_store *store, uint64_t number, uint64_t *count, nh_error *error);
    nh_err (*dead_discard)(nh_store *store, uint64_t number, uint64_t *count, nh_error *error);

    /* The id of the message that has this dedupe key now, or "". */
    nh_err (*dedupe)(nh_store *store, const void *key, size_t length, char id[NH_ID_MAX + 1],
                     nh_error *error);

    /* Durable values of scripts. `set` copies and writes soon, NULL deletes; expires_at 0 = never.
     * `set` blocks never. Errors: NH_E_INVALID over a limit, NH_E_JOURNAL while too much waits to
     * be written. */
    nh_err (*set)(nh_store *store, const void *key, size_t key_length, const void *value,
                  size_t length, double expires_at, nh_error *error);
    /* Those with a key above `after` (NULL: from the first) in their order, at most `most`, without
     * expired ones. */
    nh_err (*values)(nh_store *store, const void *after, size_t after_length, size_t most,
                     void (*each)(void *context, const void *key, size_t key_length,
                                  const void *value, size_t length, double expires_at),
                     void *context, nh_error *error);
    /* Returns when all that was handed in before is written. Errors: NH_E_JOURNAL. */
    nh_err (*sync)(nh_store *store, nh_error *error);

    /* Blocks: never. */
    void (*stats)(nh_store *store, nh_store_stats *stats);

    /* A worker (from 0, below NH_STORE_WORKERS_MAX) lets a script go on with a row, and has it
     * back. A process that ends in between has the row's crashes counted; with
     * NH_STORE_CRASHES_MAX of them it becomes a dead letter. Thread: the worker's. Costs a store to
     * memory. */
    void (*enter)(nh_store *store, unsigned worker, nh_row row);
    void (*leave)(nh_store *store, unsigned worker);
};

extern const nh_store_ops nh_store_memory, nh_store_journal;

/* For the engines: what they all refuse, and how much of a text they keep. */
nh_err nh_store_check_batch(const nh_store_batch *batch, nh_error *error);
nh_err nh_store_check_value(size_t key_length, size_t length, nh_error *error);
size_t nh_store_text_length(const char *text);

#endif
