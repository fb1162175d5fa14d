/* lane.c — a limit of concurrent calls for each target, found by additive increase and
 * multiplicative decrease.
 *
 * Any thread; acquire → release, or acquire → cancel. A window is as many successes as the limit
 * is; after one in which the lane was full the limit grows by one. Until the target first objects
 * it grows by one a success, that is doubles a window: a batch to a healthy target should not wait
 * for a limit to be learned. A call that tells of too much halves the limit, once for all the calls
 * that were under way when it was halved (the epoch). From then on the lane grows by windows.
 *
 * Slots are given by weight, 8:4:2:1: a round gives each priority its credit, and a new round
 * begins when no one who waits has credit left. As each call costs one, that is deficit round robin
 * with the weights as quanta. Attempts that are repeated stand in lists of their own: they are
 * served first, being older, but hold no more than their share while others wait. Who waits is a
 * list threaded through the callers' own slots, so nothing is allocated for a wait. A call costs a
 * table's lock and a few pointer moves.
 *
 * A lane that was shut gives nothing; it stands in a list with the time at which somebody has to be
 * let go, and tick does that. A target that comes back gets one call, and then as many as its
 * answers allow: who waited is not sent at once.
 *
 * All lanes together hold no more than `total` slots. A lane that has room and somebody who waits,
 * but finds none left of these, stands in the line of those that starve, and they get one slot a
 * turn. Who puts a lane there looks once more whether a slot is free, and who frees one looks
 * whether a lane starves, so one of the two always sees the other. Lock order: table → the
 * lists of lanes.
 */
#include "runtime/work/lane_parts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

enum { GIVE_UP_AT_ONCE = 64 }; /* of a lane, before the next GIVE_UP_PAUSE */
#define GIVE_UP_PAUSE (NH_SECOND / 200)

static const unsigned weights[NH_PRIORITIES] = {
    [NH_LOW] = 1, [NH_NORMAL] = 2, [NH_HIGH] = 4, [NH_URGENT] = 8};

nh_load nh_lane_load(nh_err code) {
    /* What is not listed never reached the target, or was about the message. */
    static const uint8_t loads[] = {
        [NH_OK] = NH_LOAD_FINE,
        [NH_E_RATE_LIMITED] = NH_LOAD_TOO_MUCH,
        [NH_E_UNAVAILABLE] = NH_LOAD_TOO_MUCH,
        [NH_E_TIMEOUT] = NH_LOAD_TOO_MUCH,
        [NH_E_INTERNAL] = NH_LOAD_NONE, /* the last of the list: makes the table whole */
    };
    return (size_t)code < sizeof loads ? loads[code] : NH_LOAD_NONE;
}

/* ------------------------------------------------------------------- table */

static unsigned waiting(const lane *l) {
    return l->lines[FIRST].waiting + l->lines[AGAIN].waiting;
}

static nh_entry_worth worth(const nh_entry *entry, uint64_t now) {
    const lane *l = (const lane *)entry;
    (void)now;
    if (l->held > 0 || waiting(l) > 0 || l->starved || l->shut)
        return NH_ENTRY_PINNED;
    return l->learned ? NH_ENTRY_SPARE : NH_ENTRY_IDLE;
}

static void born(nh_entry *entry, void *user) {
    const nh_lanes *lanes = user;
    lane *l = (lane *)entry;
    l->limit = l->window = lanes->options.start;
}

static const nh_keyed_kind kind = {sizeof(lane), born, NULL, worth};

nh_lanes *nh_lanes_create(nh_lane_options options, size_t keys, nh_error *error) {
    options.least = options.least ? options.least : NH_LANE_LEAST;
    options.most = options.most ? options.most : NH_LANE_MOST;
    options.total = options.total ? options.total : NH_LANE_TOTAL;
    if (!options.start) { /* the default, as far as the other two allow */
        options.start = NH_LANE_START < options.most ? NH_LANE_START : options.most;
        options.start = options.start > options.least ? options.start : options.least;
    }
    if (options.least > options.start || options.start > options.most) {
        nh_error_set(error, NH_E_CONFIG,
                     "lanes: least, start and most are %u, %u and %u and must be in this order",
                     options.least, options.start, options.most);
        return NULL;
    }
    nh_lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes || pthread_mutex_init(&lanes->lock, NULL) != 0)
        goto fail;
    lanes->options = options;
    lanes->next = UINT64_MAX;
    lanes->table = nh_keyed_create(&kind, lanes, keys);
    if (lanes->table)
        return lanes;
    pthread_mutex_destroy(&lanes->lock);
fail:
    free(lanes);
    nh_fail_memory(error);
    return NULL;
}

void nh_lanes_destroy(nh_lanes *lanes) {
    if (!lanes)
        return;
    nh_keyed_destroy(lanes->table);
    pthread_mutex_destroy(&lanes->lock);
    free(lanes);
}

static void add(_Atomic size_t *gauge, size_t change) {
    atomic_fetch_add_explicit(gauge, change, memory_order_relaxed);
}

/* ----------------------------------------------------------------- waiting */

static line *line_of(lane *l, const nh_slot *slot) {
    return &l->lines[slot->again ? AGAIN : FIRST];
}

static void append(nh_lanes *lanes, lane *l, nh_slot *slot) {
    line *to = line_of(l, slot);
    slot->phase = WAITING;
    slot->next = NULL;
    slot->prev = to->last[slot->priority];
    *(slot->prev ? &slot->prev->next : &to->first[slot->priority]) = slot;
    to->last[slot->priority] = slot;
    to->waiting++;
    to->counts[slot->priority]++;
    l->hasty += slot->hasty;
    l->full |= l->held >= l->limit;
    add(&lanes->waiting, 1);
}

/* As append, but ahead of all others of its line. */
static void prepend(nh_lanes *lanes, lane *l, nh_slot *slot) {
    line *to = line_of(l, slot);
    slot->phase = WAITING;
    slot->prev = NULL;
    slot->next = to->first[slot->priority];
    *(slot->next ? &slot->next->prev : &to->last[slot->priority]) = slot;
    to->first[slot->priority] = slot;
    to->waiting++;
    to->counts[slot->priority]++;
    l->hasty += slot->hasty;
    add(&lanes->waiting, 1);
}

static void take_out(nh_lanes *lanes, lane *l, nh_slot *slot) {
    line *from = line_of(l, slot);
    *(slot->prev ? &slot->prev->next : &from->first[slot->priority]) = slot->next;
    *(slot->next ? &slot->next->prev : &from->last[slot->priority]) = slot->prev;
    slot->next = slot->prev = NULL;
    from->waiting--;
    from->counts[slot->priority]--;
    l->hasty -= slot->hasty;
    add(&lanes->waiting, (size_t)-1);
}

/* Whether the next slot goes to an attempt that is repeated. */
static bool is_for_again(const lane *l) {
    unsigned share = l->limit / NH_LANE_AGAIN;
    return l->lines[AGAIN].waiting > 0 &&
           (l->lines[FIRST].waiting == 0 || l->again < (share > 0 ? share : 1));
}

/* Who is next: the most urgent that has credit. Somebody waits. */
static nh_slot *choose(lane *l) {
    line *from = &l->lines[is_for_again(l) ? AGAIN : FIRST];
    for (;;) {
        for (int priority = NH_URGENT; priority >= NH_LOW; priority--)
            if (from->first[priority] && from->credits[priority] > 0) {
                from->credits[priority]--;
                return from->first[priority];
            }
        for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
            from->credits[priority] = weights[priority];
    }
}

static void hold(lane *l, nh_slot *slot) {
    slot->phase = HELD;
    slot->epoch = l->epoch;
    l->held++;
    l->again += slot->again;
    l->full |= l->held >= l->limit;
}

/* Takes a slot of the whole; false when none is left. */
static bool reserve(nh_lanes *lanes) {
    size_t held = atomic_load_explicit(&lanes->held, memory_order_seq_cst);
    do {
        if (held >= lanes->options.total)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&lanes->held, &held, held + 1,
                                                    memory_order_seq_cst, memory_order_seq_cst));
    return true;
}

/* Lock held. Puts the lane into the line. */
static void starve(nh_lanes *lanes, lane *l) {
    if (l->starved)
        return;
    l->starved = true;
    l->behind = NULL;
    pthread_mutex_lock(&lanes->lock);
    *(lanes->first ? &lanes->last->behind : &lanes->first) = l;
    lanes->last = l;
    pthread_mutex_unlock(&lanes->lock);
    atomic_fetch_add_explicit(&lanes->starved, 1, memory_order_seq_cst);
}

static lane *take_starved(nh_lanes *lanes) {
    pthread_mutex_lock(&lanes->lock);
    lane *l = lanes->first;
    if (l)
        lanes->first = l->behind;
    pthread_mutex_unlock(&lanes->lock);
    if (l)
        atomic_fetch_sub_explicit(&lanes->starved, 1, memory_order_seq_cst);
    return l;
}

static bool wants(const lane *l) {
    return !l->shut && l->held < l->limit && waiting(l) > 0;
}

/* Lock held. Gives out at most so many of what is free; returns those who got it, linked by `next`,
 * to be told without the lock. */
static nh_slot *give(nh_lanes *lanes, lane *l, unsigned most) {
    nh_slot *granted = NULL, **end = &granted;
    for (; wants(l); most--) {
        if (most == 0 || !reserve(lanes)) {
            starve(lanes, l);
            break;
        }
        nh_slot *slot = choose(l);
        take_out(lanes, l, slot);
        hold(l, slot);
        *end = slot;
        end = &slot->next;
    }
    return granted;
}

static void tell(nh_slot *granted) {
    while (granted) {
        nh_slot *next = granted->next; /* its owner may be gone after the call */
        granted->next = NULL;
        granted->granted(granted);
        granted = next;
    }
}

/* No lock held. Gives what is left of the whole to the lanes that starve, one each a turn. */
static void feed(nh_lanes *lanes) {
    while (atomic_load_explicit(&lanes->starved, memory_order_seq_cst) > 0 &&
           atomic_load_explicit(&lanes->held, memory_order_seq_cst) < lanes->options.total) {
        lane *l = take_starved(lanes);
        if (!l)
            return; /* somebody else feeds it */
        nh_keyed_reenter(lanes->table, &l->base);
        l->starved = false;
        nh_slot *granted = give(lanes, l, 1);
        nh_keyed_leave(lanes->table, &l->base);
        tell(granted);
    }
}

/* -------------------------------------------------------------------- AIMD */

static void grow(const nh_lanes *lanes, lane *l) {
    bool ended = --l->window == 0;
    if (l->full && l->limit < lanes->options.most && (ended || !l->learned))
        l->limit++;
    if (ended) {
        l->window = l->limit;
        l->full = l->held >= l->limit;
    }
}

static void back_off(nh_lanes *lanes, lane *l, const nh_slot *slot) {
    if (slot->epoch != l->epoch)
        return;
    l->limit = l->limit / 2 > lanes->options.least ? l->limit / 2 : lanes->options.least;
    l->epoch++;
    l->learned = true;
    l->window = l->limit;
    l->full = false;
    atomic_fetch_add_explicit(&lanes->backoffs, 1, memory_order_relaxed);
}

/* -------------------------------------------------------------------- shut */

/* When this one has waited long enough in a lane that is shut. */
static uint64_t patience_end(const nh_lanes *lanes, const lane *l, const nh_slot *slot) {
    uint64_t from = slot->ready > l->since ? slot->ready : l->since;
    return from < UINT64_MAX - lanes->options.patience ? from + lanes->options.patience
                                                       : UINT64_MAX;
}

/* Lock of the lane held. Puts it into the list of those that were shut, or there to an earlier
 * time. True: `alarm` is to be called, without the lock. */
static bool enlist(nh_lanes *lanes, lane *l, uint64_t wake) {
    pthread_mutex_lock(&lanes->lock);
    if (l->wake == 0) {
        l->listed = lanes->shut;
        lanes->shut = l;
        l->wake = UINT64_MAX;
    }
    l->wake = wake < l->wake ? wake : l->wake;
    bool sooner = l->wake < lanes->next && lanes->alarm;
    lanes->next = sooner ? l->wake : lanes->next; /* it is rung once */
    pthread_mutex_unlock(&lanes->lock);
    return sooner;
}

/* Lock of the lane held. */
static void delist(nh_lanes *lanes, lane *l) {
    pthread_mutex_lock(&lanes->lock);
    for (lane **at = &lanes->shut; l->wake > 0 && *at; at = &(*at)->listed)
        if (*at == l) {
            *at = l->listed;
            l->wake = 0;
            break;
        }
    pthread_mutex_unlock(&lanes->lock);
}

/* Takes one whose time has come out of the list; `next` is the time of the first other one. */
static lane *take_due(nh_lanes *lanes, uint64_t now, uint64_t *next) {
    lane *due = NULL, **at;
    *next = UINT64_MAX;
    pthread_mutex_lock(&lanes->lock);
    for (at = &lanes->shut; *at && !due;) {
        if ((*at)->wake <= now) {
            due = *at;
            *at = due->listed;
            due->wake = 0;
        } else {
            *next = (*at)->wake < *next ? (*at)->wake : *next;
            at = &(*at)->listed;
        }
    }
    lanes->next = due ? 0 : *next; /* 0: no alarm while this goes on */
    pthread_mutex_unlock(&lanes->lock);
    return due;
}

/* Lock held. Gives a slot beyond all limits: for one who tries, or who gives up. */
static void hold_beyond(nh_lanes *lanes, lane *l, nh_slot *slot) {
    hold(l, slot);
    atomic_fetch_add_explicit(&lanes->held, 1, memory_order_seq_cst);
}

static void let_go(nh_lanes *lanes, lane *l, nh_slot *slot, nh_slot **granted) {
    take_out(lanes, l, slot);
    hold_beyond(lanes, l, slot);
    slot->next = *granted;
    *granted = slot;
}

/* Lock held. Lets those go whose patience is over; returns when the next one's is. */
static uint64_t give_up(nh_lanes *lanes, lane *l, uint64_t now, nh_slot **granted) {
    uint64_t next = UINT64_MAX;
    int left = GIVE_UP_AT_ONCE;
    for (int i = 0; i < KINDS * NH_PRIORITIES; i++) {
        nh_slot **first = &l->lines[i / NH_PRIORITIES].first[i % NH_PRIORITIES];
        for (; *first && left > 0 && patience_end(lanes, l, *first) <= now; left--)
            let_go(lanes, l, *first, granted);
        uint64_t end = *first ? patience_end(lanes, l, *first) : UINT64_MAX;
        end = end <= now ? now + GIVE_UP_PAUSE : end;
        next = end < next ? end : next;
    }
    return next;
}

/* Lock held. Lets those go who would rather be refused than wait. */
static void let_hasty_go(nh_lanes *lanes, lane *l, nh_slot **granted) {
    for (int i = 0; i < KINDS * NH_PRIORITIES && l->hasty > 0; i++)
        for (nh_slot *each = l->lines[i / NH_PRIORITIES].first[i % NH_PRIORITIES]; each;) {
            nh_slot *next = each->next;
            if (each->hasty)
                let_go(lanes, l, each, granted);
            each = next;
        }
}

uint64_t nh_lanes_tick(nh_lanes *lanes, uint64_t now) {
    uint64_t next;
    for (lane *l; (l = take_due(lanes, now, &next));) {
        nh_slot *granted = NULL;
        nh_keyed_reenter(lanes->table, &l->base); /* it is pinned: it is shut */
        if (l->shut > now) {
            uint64_t end = give_up(lanes, l, now, &granted);
            enlist(lanes, l, end < l->shut ? end : l->shut);
        } else {
            delist(lanes, l); /* somebody may have put it back since */
            l->shut = 0;
            if (waiting(l) > 0)
                let_go(lanes, l, choose(l), &granted);
        }
        nh_keyed_leave(lanes->table, &l->base);
        tell(granted);
    }
    return next;
}

void nh_lanes_watch(nh_lanes *lanes, void (*alarm)(void *user), void *user) {
    lanes->alarm = alarm;
    lanes->user = user;
}

bool nh_lane_shut(nh_lanes *lanes, nh_slot *slot, uint64_t until, uint64_t since, uint64_t now) {
    lane *l = slot->lane;
    if (!l)
        return false;
    nh_keyed_reenter(lanes->table, &l->base);
    l->since = since;
    uint64_t end = patience_end(lanes, l, slot);
    nh_slot *granted = NULL;
    /* A slot may be ready later than `now`, which is of the loop's turn. */
    if (end <= now || lanes->options.patience == 0 || slot->hasty) {
        nh_keyed_leave(lanes->table, &l->base);
        return false;
    }
    l->held--;
    l->again -= slot->again;
    l->epoch++;
    l->limit = l->window = lanes->options.least;
    l->learned = l->full = false;
    l->shut = until > l->shut ? until : l->shut;
    prepend(lanes, l, slot);
    atomic_fetch_sub_explicit(&lanes->held, 1, memory_order_seq_cst);
    let_hasty_go(lanes, l, &granted);
    bool sooner = enlist(lanes, l, end < l->shut ? end : l->shut);
    nh_keyed_leave(lanes->table, &l->base);
    tell(granted);
    feed(lanes);
    if (sooner)
        lanes->alarm(lanes->user);
    return true;
}

/* ------------------------------------------------------------------- calls */

bool nh_lane_acquire(nh_lanes *lanes, const char *key, size_t length, nh_priority priority,
                     nh_slot *slot, uint64_t now) {
    lane *l = (lane *)nh_keyed_enter(lanes->table, key, length, true, now);
    slot->lane = l;
    slot->next = slot->prev = NULL;
    slot->priority = (uint8_t)priority;
    slot->since = now;
    slot->phase = HELD;
    if (!l)
        return true;
    bool room = !l->shut && l->held < l->limit && waiting(l) == 0;
    bool got = room && reserve(lanes), hasty = l->shut && slot->hasty;
    if (hasty)
        hold_beyond(lanes, l, slot);
    else if (got)
        hold(l, slot);
    else
        append(lanes, l, slot);
    if (room && !got)
        starve(lanes, l);
    bool sooner = l->shut && !hasty && enlist(lanes, l, patience_end(lanes, l, slot));
    nh_keyed_leave(lanes->table, &l->base);
    if (room && !got)
        feed(lanes);
    if (sooner)
        lanes->alarm(lanes->user);
    return got || hasty;
}

bool nh_lane_cancel(nh_lanes *lanes, nh_slot *slot) {
    lane *l = slot->lane;
    if (!l)
        return false;
    nh_keyed_reenter(lanes->table, &l->base);
    bool waited = slot->phase == WAITING;
    if (waited) {
        take_out(lanes, l, slot);
        slot->phase = IDLE;
        slot->lane = NULL;
    }
    nh_keyed_leave(lanes->table, &l->base);
    return waited;
}

void nh_lane_release(nh_lanes *lanes, nh_slot *slot, nh_load load) {
    lane *l = slot->lane;
    if (!l)
        return;
    nh_keyed_reenter(lanes->table, &l->base);
    if (load == NH_LOAD_FINE)
        grow(lanes, l);
    else if (load == NH_LOAD_TOO_MUCH)
        back_off(lanes, l, slot);
    l->held--;
    l->again -= slot->again;
    slot->phase = IDLE;
    slot->lane = NULL;
    atomic_fetch_sub_explicit(&lanes->held, 1, memory_order_seq_cst);
    /* Where others starve it goes to the end of the line. */
    bool starving = atomic_load_explicit(&lanes->starved, memory_order_seq_cst) > 0;
    nh_slot *granted = give(lanes, l, starving ? 0 : UINT_MAX);
    nh_keyed_leave(lanes->table, &l->base);
    tell(granted);
    feed(lanes);
}

uint64_t nh_lane_name(const nh_slot *slot) {
    return slot->lane ? slot->lane->base.hash : 0;
}
