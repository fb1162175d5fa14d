/* loop.h — a worker's event loop: descriptors, timers, deferred calls and a wake-up from other
 * threads.
 *
 * One loop belongs to one thread (its owner); only nh_loop_wake may be called from elsewhere.
 * Watches and timers are embedded in their users' structures: starting one never allocates, except
 * that the timer heap grows by doubling.
 */
#ifndef NH_WORK_LOOP_H
#define NH_WORK_LOOP_H

#include <stdint.h>

#include "runtime/notifyhub.h"

typedef struct nh_loop nh_loop;

enum {
    NH_READABLE = 1,
    NH_WRITABLE = 2,
    NH_HANGUP = 4
}; /* HANGUP is reported with either of the others */

/* A descriptor in the loop. The user sets `ready` and may read `fd` and `events`; the loop owns the
 * rest. */
typedef struct nh_watch nh_watch;
struct nh_watch {
    void (*ready)(nh_watch *watch, unsigned events);
    int fd;
    unsigned events; /* what is asked for now */
};

/* A one-shot timer. `fire` may start it again. Zeroed memory is a stopped timer. */
typedef struct nh_timer nh_timer;
struct nh_timer {
    void (*fire)(nh_timer *timer);
    uint64_t due;    /* nanoseconds of CLOCK_MONOTONIC */
    size_t position; /* place in the heap, from 1; 0 = stopped */
};

/* A call to be made after the events of this turn, in the order of deferral. Zeroed memory is idle.
 */
typedef struct nh_deferred nh_deferred;
struct nh_deferred {
    void (*call)(nh_deferred *deferred);
    nh_deferred *next, *prev; /* NULL while idle */
};

nh_loop *nh_loop_create(nh_error *error);
void nh_loop_destroy(nh_loop *loop);

/* Waits at most until the next timer (or `seconds`, negative = no limit), then runs what is ready,
 * due and deferred. */
void nh_loop_turn(nh_loop *loop, double seconds);
/* Makes the current or next nh_loop_turn return soon. Thread: any. */
void nh_loop_wake(nh_loop *loop);
/* Nanoseconds of CLOCK_MONOTONIC, read once a turn. */
uint64_t nh_loop_now(const nh_loop *loop);
/* Nanoseconds since the descriptors were looked at and all that was ready was told; UINT64_MAX when
 * there was more than one turn tells. */
uint64_t nh_loop_age(const nh_loop *loop);

/* Adds, changes (events may be 0) and removes a descriptor; level-triggered. Removing drops events
 * of the current turn that were not handled yet, and is a no-op for a watch that is not in the
 * loop. Zeroed memory with fd -1 is idle. */
nh_err nh_watch_start(nh_loop *loop, nh_watch *watch, int fd, unsigned events);
nh_err nh_watch_change(nh_loop *loop, nh_watch *watch, unsigned events);
void nh_watch_stop(nh_loop *loop, nh_watch *watch);
/* The same for a descriptor that is closed: its number is not touched, which may be another's. */
void nh_watch_forget(nh_loop *loop, nh_watch *watch);

/* Starts or moves a timer to `seconds` from now (0: in the next turn). Errors: NH_E_INTERNAL when
 * out of memory. */
nh_err nh_timer_start(nh_loop *loop, nh_timer *timer, double seconds);
void nh_timer_stop(nh_loop *loop, nh_timer *timer);

void nh_loop_defer(nh_loop *loop, nh_deferred *deferred); /* no-op when already deferred */
/* The same until the loop is about to look for events again, in the order of deferral: for what
 * costs less when it is done for many together. */
void nh_loop_defer_last(nh_loop *loop, nh_deferred *deferred);
void nh_loop_undefer(nh_deferred *deferred); /* takes either back; no-op for an idle one */
static inline bool nh_is_deferred(const nh_deferred *deferred) {
    return deferred->next;
}

#endif
