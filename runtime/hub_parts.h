/* hub_parts.h — what the files of a hub share: its structure, and what each has of the others. */
#ifndef NH_HUB_PARTS_H
#define NH_HUB_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/core/handle.h"
#include "runtime/core/log.h"
#include "runtime/core/metrics.h"
#include "runtime/core/news.h"
#include "runtime/hub.h"
#include "runtime/hubs.h"
#include "runtime/work/health.h"
#include "runtime/work/parked.h"
#include "runtime/work/pool.h"
#include "runtime/work/recent.h"

enum { NH_HUB_STATUSES = NH_EXPIRED + 1 };

/* What a hub has to do with its journal; all of it zero when there is none. */
typedef struct nh_hub_journal {
    nh_store *store;       /* constant from the opening on; freed by the close */
    pthread_rwlock_t lock; /* held to read by those who call the store, see nh_hub_store_enter */
    bool closing;          /* under the lock: nobody may begin to call it any more */
    bool closed;           /* the close is over */
    nh_store_stats last;   /* of a closed store */
    nh_parked *parked;
    size_t window, window_bytes; /* the most that is leased and waits for a worker */
    nh_store_lease lease;        /* there is one at a time: */
    atomic_bool leasing;
    atomic_bool more;             /* rows wait that could be leased */
    atomic_bool stopped;          /* none are leased (any more) */
    nh_err trouble;               /* as it was logged last; the store's thread's */
    _Atomic size_t asked;         /* rows that are to be leased as they are written */
    _Atomic uint64_t values_lost; /* durable values of scripts that could not be handed in */
    _Atomic size_t writing, writing_bytes; /* messages whose write is under way */
} nh_hub_journal;

struct nh_hub {
    nh_owner owner; /* first: handles know only this */
    nh_hubs_place place;
    atomic_uint users;
    atomic_uint memory;
    uint64_t opened;      /* monotonic ns */
    size_t message_bytes; /* most of one message */
    nh_work work;
    nh_pool *pool;
    nh_log *log;
    nh_news *news;
    nh_health *health;
    nh_metrics *metrics;
    nh_pages *pages; /* of batches; those of messages that outlive the hub keep it */
    size_t capacity, bytes;
    double dedupe_window; /* seconds */

    _Atomic uint64_t accepted;
    _Atomic uint64_t settled[NH_HUB_STATUSES];
    _Atomic size_t pending; /* accepted and not settled */
    atomic_bool closing;

    nh_recent *recent;
    nh_owner aside; /* of handles that stand for a duplicate: nothing is counted for them */
    nh_hub_journal journal;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* pending fell to 0 while closing, or the hub is closed */
    bool closed;
};

bool nh_hub_forked(const nh_hub *hub);
/* Errors: NH_E_CLOSED. */
nh_err nh_hub_refuse_closed(const nh_hub *hub, nh_error *error);
/* Makes the log and the news. Errors: NH_E_INTERNAL. */
nh_err nh_hub_open_log(nh_hub *hub, const nh_doc *config, nh_error *error);
/* Tells a breaker's change to both. */
void nh_hub_breaker_changed(void *hub, const nh_breaker_change *change);
/* Tells the log of a message that ended without a task. */
void nh_hub_tell_ended(nh_hub *hub, const nh_handle *handle, nh_err reason);
/* `count` messages are no longer pending; the last one ends the wait of a close. */
void nh_hub_leave(nh_hub *hub, size_t count);

/* hub_accept.c */

nh_err nh_hub_recent_open(nh_hub *hub, const nh_doc *config, nh_error *error);
/* The two clocks, read together. */
typedef struct nh_moment {
    double wall;        /* seconds since the epoch */
    uint64_t monotonic; /* ns */
} nh_moment;
nh_moment nh_hub_moment(void);
/* Turns the message's times into monotonic ones. */
void nh_hub_set_times(nh_handle *handle, nh_moment now);
/* The key of a message that has one; borrowed from the message's document, which is returned and
 * the caller's. */
nh_doc *nh_hub_dedupe_key(const nh_message *message, const char **key, size_t *length);
/* Settles the second message of a key. Takes `first`, which may be NULL. */
void nh_hub_settle_duplicate(nh_handle *handle, const char *id, nh_handle *first);

/* hub_durable.c */

/* Has the journal write them; returns when it has, or at once with `later`. The handles are in the
 * state NH_ACCEPTING until then. Errors, all or none: NH_E_JOURNAL, NH_E_QUEUE_FULL when too much
 * is being written, NH_E_CLOSED, NH_E_INTERNAL. */
nh_err nh_hub_write(nh_hub *hub, nh_handle *const *handles, size_t count, bool later,
                    nh_error *error);

/* hub_values.c: gives the durable values of scripts back, and keeps them from then on. Errors:
 * NH_E_JOURNAL, NH_E_TOO_LARGE (limits.store_bytes, limits.store_entries). */
nh_err nh_hub_values_open(nh_hub *hub, nh_error *error);

/* hub_journal.c */

/* Opens the journal that the configuration names, if it does, and what keeps its handles. Errors:
 * NH_E_CONFIG, NH_E_JOURNAL, NH_E_INTERNAL. */
nh_err nh_hub_journal_open(nh_hub *hub, const nh_doc *config, nh_error *error);
void nh_hub_journal_start(nh_hub *hub); /* the workers are there: rows may be leased */
void nh_hub_journal_stop(nh_hub *hub);  /* no more rows are leased */
/* Writes what is left and settles parked handles as closed; returns how many. The workers have
 * ended. Blocks: on the disk. */
size_t nh_hub_journal_close(nh_hub *hub);
void nh_hub_journal_destroy(nh_hub *hub);
/* Whether rows wait that will be leased. */
bool nh_hub_journal_busy(const nh_hub *hub);
/* Leases rows when there is room and there are some. Thread: a worker's or the store's. */
void nh_hub_journal_refill(nh_hub *hub);
/* Hands messages with rows to the workers; takes their own references. */
void nh_hub_journal_run(nh_hub *hub, nh_handle *const *handles, size_t count);
/* Takes a message that waits in the journal out of it; false when it does not. */
bool nh_hub_journal_cancel(nh_hub *hub, nh_handle *handle);
/* The row of a message that has settled goes, becomes a dead letter, or stays. */
void nh_hub_journal_settled(nh_hub *hub, nh_handle *handle);
/* Settles a message with a row as closed: the row stays. */
void nh_hub_journal_keep(nh_handle *handle);
void nh_hub_journal_stats(nh_hub *hub, nh_store_stats *stats); /* of one that is closed: its last */
/* The store, for a call that a close may not overtake; NULL, and nothing to leave, when there is
 * none or it closes. Thread: any but the workers and the store's, which need not ask. */
nh_store *nh_hub_store_enter(nh_hub *hub);
void nh_hub_store_leave(nh_hub *hub);

#endif
