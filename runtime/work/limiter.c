/* limiter.c — token buckets as schedules.
 *
 * Any thread. A bucket is one point in time: when it will be full again. Taking moves it later by a
 * token's interval; it may not be further from now than a full bucket's worth, and how much it is,
 * is the wait. So tokens are never counted, and never drift: an interval that is no whole number of
 * nanoseconds (a period by seven) carries its remainder along.
 *
 * A pause moves the whole schedule later, those who wait included: their tickets remember how far
 * it had been moved when they were made. Cancelling the last ticket of a schedule gives its tokens
 * back; the tokens of one in the middle are lost, since those behind it sleep already, until nobody
 * waits at all: then the schedule ends with the last ticket that was used.
 *
 * A call costs a table's lock and a few additions.
 */
#include "runtime/work/limiter.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

#define SECONDS_MOST 86400.0         /* a rate's period */
#define FILL_MOST    (366 * 86400.0) /* seconds from an empty bucket to a full one */

/* A time with the fraction of a nanosecond that is carry / rate.tokens. */
typedef struct moment {
    uint64_t ns;
    uint32_t carry;
} moment;

typedef struct bucket {
    nh_entry base;
    uint64_t id;
    nh_rate rate;
    moment full;     /* when there are `burst` tokens again */
    moment used;     /* the same if nobody waited */
    uint64_t paused; /* until then */
    uint64_t moved;  /* by all pauses, ns */
    uint32_t waiting;
} bucket;

struct nh_limiter {
    nh_keyed *table;
    _Atomic uint64_t ids, taken, delayed, pauses, waiting;
};

static void count(_Atomic uint64_t *figure, uint64_t n) {
    atomic_fetch_add_explicit(figure, n, memory_order_relaxed);
}

nh_err nh_rate_make(double tokens, double seconds, double burst, nh_rate *rate, nh_error *error) {
    *rate = (nh_rate){0, 0, 0};
    if (!(tokens >= 1 && tokens <= NH_RATE_MOST) || tokens != floor(tokens))
        return nh_fail(error, NH_E_CONFIG,
                       "rate: tokens must be a whole number from 1 to %d; say 1 in 2 seconds for "
                       "half a one a second",
                       NH_RATE_MOST);
    if (!(seconds >= 1e-3 && seconds <= SECONDS_MOST))
        return nh_fail(error, NH_E_CONFIG, "rate: seconds must be from 0.001 to %.0f",
                       SECONDS_MOST);
    if (!(burst >= 1 && burst <= NH_RATE_MOST) || burst != floor(burst))
        return nh_fail(error, NH_E_CONFIG, "rate: burst must be a whole number from 1 to %d",
                       NH_RATE_MOST);
    if (burst / tokens * seconds > FILL_MOST)
        return nh_fail(error, NH_E_CONFIG, "rate: burst takes more than a year to come back");
    *rate = (nh_rate){(uint32_t)tokens, (uint32_t)burst, (uint64_t)(seconds * 1e9 + 0.5)};
    return NH_OK;
}

/* ------------------------------------------------------------------- time */

static bool later(moment a, moment b) {
    return a.ns > b.ns || (a.ns == b.ns && a.carry > b.carry);
}

static bool same(moment a, moment b) {
    return a.ns == b.ns && a.carry == b.carry;
}

/* How long n tokens take. Cannot overflow: n is at most the burst, which nh_rate_make has bounded.
 */
static moment span_of(const nh_rate *rate, uint32_t n) {
    uint64_t rest = rate->period % rate->tokens * n;
    return (moment){rate->period / rate->tokens * n + rest / rate->tokens,
                    (uint32_t)(rest % rate->tokens)};
}

static moment plus(const nh_rate *rate, moment a, moment b) {
    uint64_t carry = (uint64_t)a.carry + b.carry;
    return (moment){a.ns + b.ns + carry / rate->tokens, (uint32_t)(carry % rate->tokens)};
}

/* a − b, or 0 when that was before the clock began. */
static moment minus(const nh_rate *rate, moment a, moment b) {
    if (later(b, a))
        return (moment){0, 0};
    bool borrow = a.carry < b.carry;
    return (moment){a.ns - b.ns - borrow, a.carry + (borrow ? rate->tokens : 0) - b.carry};
}

static double seconds_until(uint64_t at, uint64_t now) {
    return at > now ? (double)(at - now) / (double)NH_SECOND : 0;
}

/* ---------------------------------------------------------------- buckets */

static nh_entry_worth worth(const nh_entry *entry, uint64_t now) {
    const bucket *b = (const bucket *)entry;
    if (b->waiting > 0)
        return NH_ENTRY_PINNED;
    return b->full.ns <= now && b->paused <= now ? NH_ENTRY_IDLE : NH_ENTRY_SPARE;
}

static void renew(bucket *b, nh_limiter *limiter) {
    count(&limiter->waiting, -(uint64_t)b->waiting);
    b->waiting = 0;
    b->id = atomic_fetch_add_explicit(&limiter->ids, 1, memory_order_relaxed) + 1;
}

static void born(nh_entry *entry, void *user) {
    renew((bucket *)entry, user);
}

static const nh_keyed_kind kind = {sizeof(bucket), born, NULL, worth};

nh_limiter *nh_limiter_create(size_t keys) {
    nh_limiter *limiter = calloc(1, sizeof *limiter);
    if (limiter && !(limiter->table = nh_keyed_create(&kind, limiter, keys))) {
        free(limiter);
        return NULL;
    }
    return limiter;
}

void nh_limiter_destroy(nh_limiter *limiter) {
    if (!limiter)
        return;
    nh_keyed_destroy(limiter->table);
    free(limiter);
}

static bucket *enter(nh_limiter *limiter, const char *key, size_t length, bool make, uint64_t now) {
    return (bucket *)nh_keyed_enter(limiter->table, key, length, make, now);
}

static void leave(nh_limiter *limiter, bucket *b) {
    nh_keyed_leave(limiter->table, &b->base);
}

/* A new rate begins with what the old one had reserved; the tickets of the old one stand alone. */
static void set_rate(nh_limiter *limiter, bucket *b, const nh_rate *rate) {
    if (b->rate.tokens == rate->tokens && b->rate.burst == rate->burst &&
        b->rate.period == rate->period)
        return;
    b->rate = *rate;
    b->full.carry = b->used.carry = 0;
    renew(b, limiter);
}

/* When n tokens may go, and when the bucket is full after that. */
static uint64_t schedule(const bucket *b, uint32_t n, uint64_t now, moment *full) {
    uint64_t at = b->paused > now ? b->paused : now;
    *full = b->full;
    if (b->rate.tokens == 0)
        return at;
    if (full->ns < now)
        *full = (moment){now, 0};
    *full = plus(&b->rate, *full, span_of(&b->rate, n));
    moment go = minus(&b->rate, *full, span_of(&b->rate, b->rate.burst));
    uint64_t up = go.ns + (go.carry > 0); /* never early */
    return up > at ? up : at;
}

/* Whether the ticket counts among those that wait here: not when the rate has changed since. */
static bool holds(const bucket *b, const nh_ticket *ticket) {
    return b && b->id == ticket->bucket && b->waiting > 0;
}

static void end_ticket(nh_limiter *limiter, bucket *b, nh_ticket *ticket) {
    ticket->waiting = false;
    if (holds(b, ticket)) {
        b->waiting--;
        count(&limiter->waiting, -(uint64_t)1);
    }
}

/* ------------------------------------------------------------------ calls */

double nh_limiter_take(nh_limiter *limiter, const char *key, size_t length, const nh_rate *rate,
                       uint32_t n, double most, uint64_t now, nh_ticket *ticket) {
    *ticket = (nh_ticket){.waiting = false};
    bool limited = rate && rate->tokens > 0;
    bucket *b = enter(limiter, key, length, limited, now);
    if (!b)
        return 0;
    if (limited)
        set_rate(limiter, b, rate);
    n = n > b->rate.burst ? b->rate.burst : n;
    moment full;
    uint64_t at = schedule(b, n, now, &full);
    double wait = seconds_until(at, now);
    if (most < 0 || wait <= most) {
        count(&limiter->taken, 1);
        b->full = full;
        if (wait > 0) {
            *ticket = (nh_ticket){true, n, full.carry, at, full.ns, b->moved, b->id};
            b->waiting++;
            count(&limiter->delayed, 1);
            count(&limiter->waiting, 1);
        } else {
            b->used = full;
        }
    }
    leave(limiter, b);
    return wait;
}

double nh_limiter_redeem(nh_limiter *limiter, const char *key, size_t length, uint64_t now,
                         nh_ticket *ticket) {
    if (!ticket->waiting)
        return 0;
    bucket *b = enter(limiter, key, length, false, now);
    double wait = 0;
    if (holds(b, ticket)) {
        uint64_t moved = b->moved - ticket->moved;
        moment end = {ticket->end + moved, ticket->carry};
        wait = seconds_until(ticket->at + moved, now);
        if (wait == 0 && later(end, b->used))
            b->used = end;
    }
    if (wait == 0)
        end_ticket(limiter, b, ticket);
    if (b)
        leave(limiter, b);
    return wait;
}

void nh_limiter_cancel(nh_limiter *limiter, const char *key, size_t length, nh_ticket *ticket) {
    if (!ticket->waiting)
        return;
    bucket *b = enter(limiter, key, length, false, 0);
    bool held = holds(b, ticket);
    end_ticket(limiter, b, ticket);
    if (held && b->rate.tokens > 0) {
        moment end = {ticket->end + (b->moved - ticket->moved), ticket->carry};
        if (b->waiting == 0)
            b->full = b->used;
        else if (same(end, b->full))
            b->full = minus(&b->rate, b->full, span_of(&b->rate, ticket->tokens));
    }
    if (b)
        leave(limiter, b);
}

void nh_limiter_pause(nh_limiter *limiter, const char *key, size_t length, double seconds,
                      uint64_t now) {
    if (!(seconds > 0))
        return;
    uint64_t until = nh_after(now, seconds < NH_PAUSE_MOST ? seconds : NH_PAUSE_MOST);
    bucket *b = enter(limiter, key, length, true, now);
    if (!b)
        return;
    uint64_t since = b->paused > now ? b->paused : now;
    if (until > since) {
        b->paused = until;
        b->moved += until - since;
        if (b->rate.tokens > 0) {
            /* One goes when the pause ends, the next an interval later: a burst would only be
             * refused again. */
            moment empty = plus(&b->rate, (moment){now, 0}, span_of(&b->rate, b->rate.burst - 1));
            if (later(empty, b->full))
                b->full = empty;
            if (later(empty, b->used))
                b->used = empty;
            b->full.ns += until - since;
            b->used.ns += until - since;
        }
        count(&limiter->pauses, 1);
    }
    leave(limiter, b);
}

double nh_limiter_wait(nh_limiter *limiter, const char *key, size_t length, uint64_t now) {
    bucket *b = enter(limiter, key, length, false, now);
    if (!b)
        return 0;
    moment full;
    uint64_t at = schedule(b, 1, now, &full);
    leave(limiter, b);
    return seconds_until(at, now);
}

void nh_limiter_read(nh_limiter *limiter, nh_limiter_figures *figures) {
    nh_keyed_read(limiter->table, &figures->table);
    figures->taken = atomic_load_explicit(&limiter->taken, memory_order_relaxed);
    figures->delayed = atomic_load_explicit(&limiter->delayed, memory_order_relaxed);
    figures->pauses = atomic_load_explicit(&limiter->pauses, memory_order_relaxed);
    figures->waiting = atomic_load_explicit(&limiter->waiting, memory_order_relaxed);
}
