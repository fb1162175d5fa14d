/* breaker.h — a circuit breaker for each target host, shared by all workers.
 *
 * closed: calls go. Opens at FAILURES in a row, or at half of at least CALLS within WINDOW. open:
 * calls are refused for a while that doubles from NH_BREAKER_OPEN to NH_BREAKER_OPEN_MOST.
 * half-open: one call at a time goes as a probe; PROBES that succeed close it, one that fails opens
 * it again.
 */
#ifndef NH_WORK_BREAKER_H
#define NH_WORK_BREAKER_H

#include "runtime/notifyhub.h"
#include "runtime/work/keyed.h"

#define NH_BREAKER_FAILURES  5u  /* in a row */
#define NH_BREAKER_CALLS     20u /* in a window, before half of them matters */
#define NH_BREAKER_WINDOW    10u /* seconds */
#define NH_BREAKER_PROBES    3u
#define NH_BREAKER_OPEN      5.0   /* seconds, the first time */
#define NH_BREAKER_OPEN_MOST 300.0 /* seconds */

typedef enum nh_breaker_state {
    NH_BREAKER_CLOSED,
    NH_BREAKER_OPENED,
    NH_BREAKER_HALF_OPEN,
    NH_BREAKER_STATES
} nh_breaker_state;

typedef enum nh_verdict {
    NH_GO,
    NH_PROBE,   /* go, and be the one that is watched */
    NH_REFUSED, /* do not go */
} nh_verdict;

/* What is to be known of a refusal. */
typedef struct nh_refusal {
    double seconds; /* ask again after these */
    uint64_t since; /* when its breaker opened first, and has not closed since: monotonic ns */
} nh_refusal;

typedef enum nh_outcome {
    NH_OUTCOME_NONE,    /* cancelled, or never sent: gives a probe back */
    NH_OUTCOME_SUCCESS, /* the host answered, whatever it said */
    NH_OUTCOME_FAILURE, /* no connection, no answer in time, or it cannot serve */
} nh_outcome;

/* What a result's code says about the host. */
nh_outcome nh_breaker_counts(nh_err code);
const char *nh_breaker_state_name(nh_breaker_state state); /* "closed" "open" "half-open" */

/* A host's state changed: told once for each change, without any lock, in the thread whose call
 * made it. `key` is borrowed; `seconds` is how long it stays open (0 unless it opened). */
typedef struct nh_breaker_change {
    const char *key;
    nh_breaker_state from, to;
    double seconds;
} nh_breaker_change;
typedef void nh_breaker_changed(void *user, const nh_breaker_change *change);

typedef struct nh_breaker_figures {
    nh_keyed_figures table;
    size_t open, half_open;   /* hosts now */
    uint64_t opened, refused; /* in all: times a breaker opened, calls refused */
} nh_breaker_figures;

typedef struct nh_breaker nh_breaker;

/* At most `keys` (0: NH_KEYED_KEYS) hosts; a host that finds no room is never refused. `seed` is
 * for the jitter of the open times. `changed` may be NULL. NULL when out of memory. */
nh_breaker *nh_breaker_create(size_t keys, uint64_t seed, nh_breaker_changed *changed, void *user);
void nh_breaker_destroy(nh_breaker *breaker); /* NULL is allowed */

/* Thread: any, for all of these; `now` is monotonic ns. Blocks: never. */

/* Asks whether a call may go; after NH_GO and NH_PROBE nh_breaker_after is owed with this token.
 * `refusal` is written for NH_REFUSED. */
nh_verdict nh_breaker_before(nh_breaker *breaker, const char *key, size_t length, uint64_t now,
                             uint64_t *token, nh_refusal *refusal);
/* Tells what came of the call. What began before the last change of state says nothing. Returns
 * whether the breaker is closed then. */
bool nh_breaker_after(nh_breaker *breaker, const char *key, size_t length, uint64_t token,
                      nh_outcome outcome, uint64_t now);
/* The state; `seconds` (NULL allowed) until an open one lets a probe through, else 0. */
nh_breaker_state nh_breaker_look(nh_breaker *breaker, const char *key, size_t length, uint64_t now,
                                 double *seconds);
void nh_breaker_read(nh_breaker *breaker, nh_breaker_figures *figures);
/* Writes a map of the hosts that are not closed, at most `most`: {host = {state, retry_in,
 * failures}}. */
void nh_breaker_write(nh_breaker *breaker, nh_writer *writer, size_t most, uint64_t now);

#endif
