/* inbox.h — watchers: the link between a handle or batch and an inbox.
 *
 * A watcher is owned by the list of what it watches (a handle's or batch's, guarded by that one's
 * lock) until COMPLETE is posted; from then on by its inbox, which frees it once the event was
 * read, or at once when the inbox is closed.
 */
#ifndef NH_CORE_INBOX_H
#define NH_CORE_INBOX_H

#include "runtime/notifyhub.h"

typedef struct nh_watcher nh_watcher;
struct nh_watcher {
    nh_watcher *sibling; /* next of the same handle or batch; its lock guards this */
    nh_watcher *next;    /* next in the inbox; the inbox's lock guards this and all below */
    nh_inbox *inbox;     /* a counted reference to its memory */
    uint64_t tag;
    unsigned wanted; /* the kinds it is for; constant */
    unsigned kinds;  /* what waits to be read */
    bool queued;     /* stands in the inbox's queue */
};

enum {
    NH_EVENTS_ALL = NH_EVENT_PROGRESS | NH_EVENT_RETRY | NH_EVENT_COMPLETE,
    NH_WATCH_ACCEPTANCE = 1 << 8, /* wanted: COMPLETE comes when the handle is accepted */
};

/* NULL when out of memory. */
nh_watcher *nh_watcher_create(nh_inbox *inbox, uint64_t tag, unsigned kinds);
/* Queues an event for the watcher, merged with one that waits; nothing when it is not for this
 * kind. With NH_EVENT_COMPLETE takes the watcher. Thread: any, holding the lock of what is watched.
 * Blocks: never. */
void nh_watcher_post(nh_watcher *watcher, nh_event_kind kind);

/* A thread that posts many events in a row may gather the wake-ups: from nh_wakes_gather on, events
 * are queued at once as ever, and readers that wait are woken at the thread's next nh_wakes_give
 * (or every WAKES_MOST posts). The thread must give before it sleeps and before it ends.
 * Cost of a give without wake-ups: a load. Thread: each for itself. */
void nh_wakes_gather(void);
void nh_wakes_give(void);
void nh_wakes_end(void); /* gives, and wakes at once from then on */

#endif
