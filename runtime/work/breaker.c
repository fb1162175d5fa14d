/* breaker.c — the state machine of one host, in a table of hosts.
 *
 * Any thread. before → after, for every call. A call's token is the number of its host's last
 * change of state, so what a call tells about a state that is over is not heard: a late success
 * does not close what has opened since. A probe whose caller never comes back lapses after
 * PROBE_SECONDS, so that no host stays shut by an accident.
 *
 * Failures of the last ten seconds are counted in ten buckets of one second, reused in a ring. A
 * call costs a table's lock and a handful of comparisons; only a failure sums the ring up.
 */
#include "runtime/work/breaker.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"

enum {
    PROBE_SECONDS = 120,
    DOUBLINGS_MOST = 6, /* 5 s · 2⁶ is over the most */
};
#define PROBE_PAUSE  1.0  /* seconds to wait while another call is the probe */
#define JITTER_SHARE 0.25 /* an open time is up to this share shorter */

typedef struct second {
    uint64_t number; /* of the clock's seconds, which this bucket is about */
    uint32_t calls, failures;
} second;

typedef struct host {
    nh_entry base;
    nh_breaker_state state;
    uint64_t token;        /* grows with each change of state */
    uint32_t row;          /* failures in a row */
    uint32_t opens;        /* in a row, without closing between */
    uint32_t probed;       /* successes while half-open */
    uint64_t since;        /* when it was closed last, unless it is */
    uint64_t until;        /* open: when a probe may go */
    uint64_t probe_lapses; /* half-open: 0, or when the probe under way is given up */
    second seconds[NH_BREAKER_WINDOW];
} host;

struct nh_breaker {
    nh_keyed *table;
    uint64_t seed;
    nh_breaker_changed *changed;
    void *user;
    _Atomic uint64_t opened, refused, tokens;
    _Atomic size_t open, half_open;
};

nh_outcome nh_breaker_counts(nh_err code) {
    /* What is not listed says nothing about the host: our own limits, a message that was never
     * sent, a certificate that will not be better in five seconds. */
    static const uint8_t outcomes[] = {
        [NH_OK] = NH_OUTCOME_SUCCESS,
        [NH_E_AUTH] = NH_OUTCOME_SUCCESS,
        [NH_E_REJECTED] = NH_OUTCOME_SUCCESS,
        [NH_E_UNKNOWN_TARGET] = NH_OUTCOME_SUCCESS,
        [NH_E_RATE_LIMITED] = NH_OUTCOME_SUCCESS,
        [NH_E_NETWORK] = NH_OUTCOME_FAILURE,
        [NH_E_TIMEOUT] = NH_OUTCOME_FAILURE,
        [NH_E_UNAVAILABLE] = NH_OUTCOME_FAILURE,
        [NH_E_INTERNAL] = NH_OUTCOME_NONE, /* the last of the list: makes the table whole */
    };
    return (size_t)code < sizeof outcomes ? outcomes[code] : NH_OUTCOME_NONE;
}

const char *nh_breaker_state_name(nh_breaker_state state) {
    static const char *const names[NH_BREAKER_STATES] = {
        [NH_BREAKER_CLOSED] = "closed",
        [NH_BREAKER_OPENED] = "open",
        [NH_BREAKER_HALF_OPEN] = "half-open",
    };
    return names[state];
}

/* ------------------------------------------------------------------ window */

static void note(host *h, bool failed, uint64_t now) {
    uint64_t number = now / NH_SECOND;
    second *at = &h->seconds[number % NH_BREAKER_WINDOW];
    if (at->number != number)
        *at = (second){.number = number};
    at->calls++;
    at->failures += failed;
    h->row = failed ? h->row + 1 : 0;
}

static void sum(const host *h, uint64_t now, uint64_t *calls, uint64_t *failures) {
    uint64_t number = now / NH_SECOND;
    *calls = *failures = 0;
    for (size_t i = 0; i < NH_BREAKER_WINDOW; i++) {
        if (h->seconds[i].number + NH_BREAKER_WINDOW <= number)
            continue;
        *calls += h->seconds[i].calls;
        *failures += h->seconds[i].failures;
    }
}

static bool too_many(const host *h, uint64_t now) {
    uint64_t calls, failures;
    if (h->row >= NH_BREAKER_FAILURES)
        return true;
    sum(h, now, &calls, &failures);
    return calls >= NH_BREAKER_CALLS && failures * 2 >= calls;
}

/* ------------------------------------------------------------------ states */

static uint64_t scatter(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* How long to stay open; each time another one, so that senders do not come back together. */
static double open_time(const nh_breaker *breaker, const host *h) {
    double seconds = NH_BREAKER_OPEN;
    for (uint32_t i = 1; i < h->opens && i <= DOUBLINGS_MOST; i++)
        seconds *= 2;
    if (seconds > NH_BREAKER_OPEN_MOST)
        seconds = NH_BREAKER_OPEN_MOST;
    double share = (double)(scatter(breaker->seed ^ h->token) >> 11) / (double)(UINT64_C(1) << 53);
    return seconds * (1 - JITTER_SHARE * share);
}

static _Atomic size_t *gauge(nh_breaker *breaker, nh_breaker_state state) {
    return state == NH_BREAKER_OPENED      ? &breaker->open
           : state == NH_BREAKER_HALF_OPEN ? &breaker->half_open
                                           : NULL;
}

/* A change and its host's name, to be told when the lock is free. */
typedef struct news {
    nh_breaker_change change;
    char key[NH_KEYED_KEY_MAX + 1];
} news;

static void change(nh_breaker *breaker, host *h, nh_breaker_state to, uint64_t now, news *told) {
    nh_breaker_state from = h->state;
    double seconds = 0;
    _Atomic size_t *left = gauge(breaker, from), *entered = gauge(breaker, to);
    if (left)
        atomic_fetch_sub_explicit(left, 1, memory_order_relaxed);
    if (entered)
        atomic_fetch_add_explicit(entered, 1, memory_order_relaxed);
    h->state = to;
    h->token = atomic_fetch_add_explicit(&breaker->tokens, 1, memory_order_relaxed) + 1;
    h->probed = 0;
    h->probe_lapses = 0;
    if (to == NH_BREAKER_OPENED) {
        if (h->opens++ == 0)
            h->since = now;
        seconds = open_time(breaker, h);
        h->until = nh_after(now, seconds);
        atomic_fetch_add_explicit(&breaker->opened, 1, memory_order_relaxed);
    } else if (to == NH_BREAKER_CLOSED) {
        h->opens = h->row = 0;
        memset(h->seconds, 0, sizeof h->seconds);
    }
    const char *key = nh_keyed_key(breaker->table, &h->base);
    memcpy(told->key, key, h->base.length + 1);
    told->change = (nh_breaker_change){told->key, from, to, seconds};
}

static void leave_and_tell(nh_breaker *breaker, host *h, const news *told) {
    nh_keyed_leave(breaker->table, &h->base);
    if (told->change.key && breaker->changed)
        breaker->changed(breaker->user, &told->change);
}

/* ------------------------------------------------------------------- table */

static nh_entry_worth worth(const nh_entry *entry, uint64_t now) {
    const host *h = (const host *)entry;
    uint64_t calls, failures;
    if (h->state != NH_BREAKER_CLOSED)
        return NH_ENTRY_SPARE; /* or hosts that nobody asks for again would fill the table */
    sum(h, now, &calls, &failures);
    return failures == 0 && h->row == 0 ? NH_ENTRY_IDLE : NH_ENTRY_SPARE;
}

static void born(nh_entry *entry, void *user) {
    nh_breaker *breaker = user;
    ((host *)entry)->token = atomic_load_explicit(&breaker->tokens, memory_order_relaxed);
}

static void gone(nh_entry *entry, void *user) {
    _Atomic size_t *left = gauge(user, ((host *)entry)->state);
    if (left)
        atomic_fetch_sub_explicit(left, 1, memory_order_relaxed);
}

static const nh_keyed_kind kind = {sizeof(host), born, gone, worth};

nh_breaker *nh_breaker_create(size_t keys, uint64_t seed, nh_breaker_changed *changed, void *user) {
    nh_breaker *breaker = calloc(1, sizeof *breaker);
    if (!breaker)
        return NULL;
    breaker->seed = seed;
    breaker->changed = changed;
    breaker->user = user;
    breaker->table = nh_keyed_create(&kind, breaker, keys);
    if (!breaker->table) {
        free(breaker);
        return NULL;
    }
    return breaker;
}

void nh_breaker_destroy(nh_breaker *breaker) {
    if (!breaker)
        return;
    nh_keyed_destroy(breaker->table);
    free(breaker);
}

/* ------------------------------------------------------------------- calls */

static host *enter(nh_breaker *breaker, const char *key, size_t length, bool make, uint64_t now) {
    return (host *)nh_keyed_enter(breaker->table, key, length, make, now);
}

static double seconds_until(uint64_t at, uint64_t now) {
    return at > now ? (double)(at - now) / (double)NH_SECOND : 0;
}

nh_verdict nh_breaker_before(nh_breaker *breaker, const char *key, size_t length, uint64_t now,
                             uint64_t *token, nh_refusal *refusal) {
    news told;
    told.change.key = NULL;
    nh_verdict verdict = NH_GO;
    *token = 0;
    host *h = enter(breaker, key, length, true, now);
    if (!h)
        return NH_GO;
    if (h->state == NH_BREAKER_OPENED && now >= h->until)
        change(breaker, h, NH_BREAKER_HALF_OPEN, now, &told);
    if (h->state == NH_BREAKER_OPENED) {
        verdict = NH_REFUSED;
        *refusal = (nh_refusal){seconds_until(h->until, now), h->since};
    } else if (h->state == NH_BREAKER_HALF_OPEN && now < h->probe_lapses) {
        verdict = NH_REFUSED;
        *refusal = (nh_refusal){PROBE_PAUSE, h->since};
    } else if (h->state == NH_BREAKER_HALF_OPEN) {
        verdict = NH_PROBE;
        /* A probe's token is its own: one that lapsed is not heard any more. */
        h->token = atomic_fetch_add_explicit(&breaker->tokens, 1, memory_order_relaxed) + 1;
        h->probe_lapses = now + PROBE_SECONDS * NH_SECOND;
    }
    *token = h->token;
    leave_and_tell(breaker, h, &told);
    if (verdict == NH_REFUSED)
        atomic_fetch_add_explicit(&breaker->refused, 1, memory_order_relaxed);
    return verdict;
}

bool nh_breaker_after(nh_breaker *breaker, const char *key, size_t length, uint64_t token,
                      nh_outcome outcome, uint64_t now) {
    news told;
    told.change.key = NULL;
    host *h = enter(breaker, key, length, false, now);
    if (!h)
        return true;
    if (token == h->token && h->state == NH_BREAKER_CLOSED && outcome != NH_OUTCOME_NONE) {
        note(h, outcome == NH_OUTCOME_FAILURE, now);
        if (outcome == NH_OUTCOME_FAILURE && too_many(h, now))
            change(breaker, h, NH_BREAKER_OPENED, now, &told);
    } else if (token == h->token && h->state == NH_BREAKER_HALF_OPEN) {
        h->probe_lapses = 0;
        h->row += outcome == NH_OUTCOME_FAILURE;
        h->probed += outcome == NH_OUTCOME_SUCCESS;
        if (outcome == NH_OUTCOME_FAILURE)
            change(breaker, h, NH_BREAKER_OPENED, now, &told);
        else if (h->probed >= NH_BREAKER_PROBES)
            change(breaker, h, NH_BREAKER_CLOSED, now, &told);
    }
    bool closed = h->state == NH_BREAKER_CLOSED;
    leave_and_tell(breaker, h, &told);
    return closed;
}

nh_breaker_state nh_breaker_look(nh_breaker *breaker, const char *key, size_t length, uint64_t now,
                                 double *seconds) {
    nh_breaker_state state = NH_BREAKER_CLOSED;
    host *h = enter(breaker, key, length, false, now);
    if (seconds)
        *seconds = h && h->state == NH_BREAKER_OPENED ? seconds_until(h->until, now) : 0;
    if (h) {
        state = h->state;
        nh_keyed_leave(breaker->table, &h->base);
    }
    return state;
}

void nh_breaker_read(nh_breaker *breaker, nh_breaker_figures *figures) {
    nh_keyed_read(breaker->table, &figures->table);
    figures->open = atomic_load_explicit(&breaker->open, memory_order_relaxed);
    figures->half_open = atomic_load_explicit(&breaker->half_open, memory_order_relaxed);
    figures->opened = atomic_load_explicit(&breaker->opened, memory_order_relaxed);
    figures->refused = atomic_load_explicit(&breaker->refused, memory_order_relaxed);
}

/* ----------------------------------------------------------------- writing */

typedef struct shown {
    char key[NH_KEYED_KEY_MAX + 1];
    nh_breaker_state state;
    uint32_t row;
    uint64_t until;
} shown;

typedef struct list {
    const nh_breaker *breaker;
    shown *at;
    size_t count, most;
} list;

static bool collect(nh_entry *entry, void *user) {
    list *found = user;
    const host *h = (const host *)entry;
    if (h->state == NH_BREAKER_CLOSED)
        return true;
    shown *one = &found->at[found->count++];
    memcpy(one->key, nh_keyed_key(found->breaker->table, entry), entry->length + 1);
    one->state = h->state;
    one->row = h->row;
    one->until = h->until;
    return found->count < found->most;
}

void nh_breaker_write(nh_breaker *breaker, nh_writer *writer, size_t most, uint64_t now) {
    nh_breaker_figures figures;
    nh_breaker_read(breaker, &figures);
    size_t there = figures.open + figures.half_open;
    list found = {breaker, NULL, 0, there < most ? there : most};
    if (found.most > 0 && (found.at = malloc(found.most * sizeof *found.at)))
        nh_keyed_each(breaker->table, collect, &found);
    nh_writer_map(writer, found.count);
    for (size_t i = 0; i < found.count; i++) {
        const shown *one = &found.at[i];
        nh_writer_cstring(writer, one->key);
        nh_writer_map(writer, 3);
        nh_writer_cstring(writer, "state");
        nh_writer_cstring(writer, nh_breaker_state_name(one->state));
        nh_writer_cstring(writer, "retry_in");
        nh_writer_real(writer,
                       one->state == NH_BREAKER_OPENED ? seconds_until(one->until, now) : 0);
        nh_writer_cstring(writer, "failures");
        nh_writer_int(writer, one->row);
    }
    free(found.at);
}
