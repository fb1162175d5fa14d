/* limiter.h — how fast something may be sent: token buckets by name, shared by all workers.
 *
 * take answers how long to wait and has reserved the place by then, so a caller sleeps once; after
 * the sleep it asks redeem, which knows whether the platform has asked for a pause meanwhile. Each
 * ticket that waits ends by a redeem that answers 0, or by cancel.
 */
#ifndef NH_WORK_LIMITER_H
#define NH_WORK_LIMITER_H

#include "runtime/notifyhub.h"
#include "runtime/work/keyed.h"

#define NH_RATE_MOST  1000000 /* tokens, and burst */
#define NH_PAUSE_MOST 3600.0  /* seconds; a longer pause is this long */

/* `tokens` each `period`, at most `burst` at once. Zeros mean no limit. */
typedef struct nh_rate {
    uint32_t tokens, burst;
    uint64_t period; /* ns */
} nh_rate;

/* Checks a rate as it was configured: 20 tokens each 60 seconds, burst 5. Errors: NH_E_CONFIG
 * naming the part and its bounds. */
nh_err nh_rate_make(double tokens, double seconds, double burst, nh_rate *rate, nh_error *error);

/* A place in a bucket's schedule; plain data, owned by who took it. */
typedef struct nh_ticket {
    bool waiting; /* redeem or cancel is owed */
    uint32_t tokens;
    uint32_t carry;  /* of `end` */
    uint64_t at;     /* when to go */
    uint64_t end;    /* when the bucket would be full again */
    uint64_t moved;  /* the bucket's own, at that time */
    uint64_t bucket; /* which one it was: they come and go */
} nh_ticket;

typedef struct nh_limiter_figures {
    nh_keyed_figures table;
    uint64_t taken, delayed, pauses;
    uint64_t waiting; /* tickets now */
} nh_limiter_figures;

typedef struct nh_limiter nh_limiter;

/* At most `keys` (0: NH_KEYED_KEYS) buckets. A key that finds no room is not limited; the figures
 * count it as `table.refused`. NULL when out of memory. */
nh_limiter *nh_limiter_create(size_t keys);
void nh_limiter_destroy(nh_limiter *limiter); /* NULL is allowed */

/* Thread: any, for all of these; `now` is monotonic ns. Blocks: never. */

/* Takes n tokens (more than the burst counts as the burst) and returns 0, or the seconds to wait.
 * More than `most` seconds (negative: any) means that nothing was taken and the ticket is not
 * waiting. Who comes first goes first. `rate` is the key's from now on; NULL leaves it as it
 * is, which for a new key is without limit: it knows pauses only. */
double nh_limiter_take(nh_limiter *limiter, const char *key, size_t length, const nh_rate *rate,
                       uint32_t n, double most, uint64_t now, nh_ticket *ticket);
/* After the wait: 0 to go, else the seconds by which a pause has put the ticket off. */
double nh_limiter_redeem(nh_limiter *limiter, const char *key, size_t length, uint64_t now,
                         nh_ticket *ticket);
/* Gives a waiting ticket back. No-op for another one. */
void nh_limiter_cancel(nh_limiter *limiter, const char *key, size_t length, nh_ticket *ticket);
/* Nothing of this key goes for so many seconds; who waits is put off, in the same order. */
void nh_limiter_pause(nh_limiter *limiter, const char *key, size_t length, double seconds,
                      uint64_t now);
/* How long one token would take now, without taking it. */
double nh_limiter_wait(nh_limiter *limiter, const char *key, size_t length, uint64_t now);
void nh_limiter_read(nh_limiter *limiter, nh_limiter_figures *figures);

#endif
