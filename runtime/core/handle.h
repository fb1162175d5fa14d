/* handle.h — the life of one accepted message: scheduled → queued → running → settled, the last one
 * once and for ever; before that it is being accepted while a journal writes it.
 *
 * A message that waits in the journal needs no memory: its handle is parked, which means that only
 * the program's references (and those of watchers) keep it, and that it goes when they go. */
#ifndef NH_CORE_HANDLE_H
#define NH_CORE_HANDLE_H

#include <stdatomic.h>

#include "runtime/core/inbox.h"
#include "runtime/core/message.h"
#include "runtime/core/receipt.h"

/* What a hub does for its handles. Valid as long as one of them has not settled. */
typedef struct nh_owner nh_owner;
struct nh_owner {
    unsigned fork_generation;
    /* Keeps the owner's memory for a call that comes from outside, and lets it go. */
    void (*hold)(nh_owner *owner);
    void (*drop)(nh_owner *owner);
    /* Takes the message out of the queue or stops its task. */
    void (*cancel)(nh_owner *owner, nh_handle *handle);
    /* A parked handle has lost its last reference: when this returns it is freed. */
    void (*forget)(nh_owner *owner, nh_handle *handle);
    /* Counts a message that settles; called before anybody can see it. Blocks: never. */
    void (*count)(nh_owner *owner, nh_handle *handle, nh_status status);
    /* A message has settled and everybody has been told; called without locks. `reason` is NH_OK
     * when its task made the receipt, else why there was none. */
    void (*settled)(nh_owner *owner, nh_handle *handle, nh_err reason);
};

enum { NH_PARKED = 0x80 }; /* a bit of the state, set and cleared under the stripe lock */

struct nh_handle {
    atomic_uint refs;
    _Atomic uint8_t state; /* nh_state, and NH_PARKED; leaves NH_SETTLED never */
    _Atomic uint8_t aside; /* nh_err: why it was not accepted although its sender has it, a
                              duplicate or refused late; it settles, but nothing is counted */
    atomic_bool cancelled; /* somebody asked, once */
    atomic_bool stays;     /* stopped by a close: its row is not touched */
    uint32_t batch_index;
    unsigned fork_generation; /* of its owner, which it may outlive */
    nh_owner *owner;
    uint64_t row;    /* in the journal; 0 = in none. Constant once accepted */
    nh_batch *batch; /* counted, unless it is parked: then the batch clears it when it goes */

    /* How far it is; written by its worker. */
    _Atomic uint32_t done, total, retries;
    uint32_t attempts; /* that failed, those of earlier runs, too, as far as the journal knows */

    /* Under the handle's stripe lock. */
    nh_receipt *receipt;
    nh_watcher *watchers; /* the list has a reference while there are some */

    /* The queue's, under its lock. */
    nh_handle *next;
    union {
        nh_handle *prev;
        /* In a worker's mailbox, under its lock, once the worker has it; or among the cancelled
         * ones of the parked, under theirs. */
        nh_handle *mail_next;
    };

    /* The worker's: set by it while it has the message. */
    _Atomic(void *) worker;
    union {
        void *task;
        struct nh_flow *flow; /* the queue's, while it is there */
        nh_handle *first; /* of a duplicate: the handle whose it is, with a reference, or NULL */
    };
};

static inline nh_message *nh_message_of(const nh_handle *handle) {
    return (nh_message *)(void *)((char *)handle + NH_MESSAGE_FRONT);
}

static inline const nh_times *nh_times_of(const nh_handle *handle) {
    return nh_message_times(nh_message_of(handle));
}

/* One reference for the caller; the one that keeps an unsettled handle alive is its own until
 * nh_handle_settle. Takes message, in whose memory it stands; refs batch when given. */
nh_handle *nh_handle_create(nh_owner *owner, nh_message *message, nh_batch *batch, uint32_t index);
/* For a handle that was never accepted: drops its own reference without settling. */
void nh_handle_discard(nh_handle *handle);

/* Settles: takes the receipt (NULL: one is made for `reason`), wakes and tells everybody, drops the
 * handle's own reference. The first call wins; a later one only drops its receipt. Returns whether
 * it was the first. Thread: any, no lock held. */
bool nh_handle_settle(nh_handle *handle, nh_receipt *receipt, nh_err reason);
/* Settles one that was not accepted although its sender has it: a duplicate of `first` (taken;
 * NULL: that is not known any more), or one that the journal refused. */
void nh_handle_settle_aside(nh_handle *handle, nh_err reason, const char *text, nh_handle *first);
/* A receipt for it, where those of its batch stand. NULL: out of memory. Thread: the worker that
 * has it. */
nh_receipt *nh_handle_make_receipt(nh_handle *handle, nh_status status, const nh_packed *packed);
/* What its deadline means when it passes: NH_E_EXPIRED (its expires_at) or NH_E_TIMEOUT. */
nh_err nh_handle_deadline_reason(const nh_handle *handle);
void nh_handle_set_state(nh_handle *handle, nh_state state); /* not NH_SETTLED */

/* Starts as NH_ACCEPTING. Thread: its maker, before anybody else sees it. */
void nh_handle_begin_accepting(nh_handle *handle);
/* It is accepted: wakes and tells who waited for that. To be called when its state is another one.
 */
void nh_handle_accepted(nh_handle *handle);

/* Makes it one that only its program keeps: the caller, who has noted where it is, drops its own
 * reference and that of its batch, which is returned (or NULL). Thread: any, as the next, under the
 * lock that `forget` takes too. */
nh_batch *nh_handle_park(nh_handle *handle);
/* Takes these back; false when the program has let go of it meanwhile. */
bool nh_handle_unpark(nh_handle *handle);
bool nh_handle_is_parked(const nh_handle *handle);
/* The batch goes: a parked handle is in none any more. */
void nh_handle_leave_parked_batch(nh_handle *handle);
/* Tells the watchers. Thread: the worker that has it. */
void nh_handle_tell(nh_handle *handle, nh_event_kind kind);

#endif
