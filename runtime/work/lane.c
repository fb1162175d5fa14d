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
 * All lanes together hold no more than `total` slots. A lane that has room and somebody who waits,
 * but finds none left of these, stands in the line of those that starve, and they get one slot a
 * turn. Who puts a lane there looks once more whether a slot is free, and who frees one looks
 * whether a lane starves, so one of the two always sees the other. Lock order: table → line.
 */
#include "runtime/work/lane.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"

enum phase { IDLE, WAITING, HELD };
enum kind { FIRST, AGAIN, KINDS };

static const unsigned weights[NH_PRIORITIES] = {
    [NH_LOW] = 1, [NH_NORMAL] = 2, [NH_HIGH] = 4, [NH_URGENT] = 8};

/* Who waits, of one kind. */
typedef struct line {
    unsigned waiting;
    unsigned credits[NH_PRIORITIES], counts[NH_PRIORITIES];
    nh_slot *first[NH_PRIORITIES], *last[NH_PRIORITIES];
} line;

typedef struct lane {
    nh_entry base;
    unsigned limit, held;
    unsigned again;  /* held by attempts that are repeated */
    unsigned window; /* successes until it ends */
    bool full;       /* it was, in this window: then the limit is what holds it back */
    bool learned;    /* it has backed off, and grows slowly from now on */
    bool starved;    /* stands in the line for slots of the whole */
    uint32_t epoch;  /* how often it has backed off */
    line lines[KINDS];
    struct lane *behind; /* in that line */
} lane;

struct nh_lanes {
    nh_keyed *table;
    nh_lane_options options;
    _Atomic size_t held, waiting, starved; /* starved: lanes */
    _Atomic uint64_t backoffs;
    pthread_mutex_t lock; /* of the line of lanes that starve */
    lane *first, *last;
};

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
    if (l->held > 0 || waiting(l) > 0 || l->starved)
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
    l->full |= l->held >= l->limit;
    add(&lanes->waiting, 1);
}

static void take_out(nh_lanes *lanes, lane *l, nh_slot *slot) {
    line *from = line_of(l, slot);
    *(slot->prev ? &slot->prev->next : &from->first[slot->priority]) = slot->next;
    *(slot->next ? &slot->next->prev : &from->last[slot->priority]) = slot->prev;
    slot->next = slot->prev = NULL;
    from->waiting--;
    from->counts[slot->priority]--;
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
    return l->held < l->limit && waiting(l) > 0;
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
    bool room = l->held < l->limit && waiting(l) == 0, got = room && reserve(lanes);
    if (got)
        hold(l, slot);
    else
        append(lanes, l, slot);
    if (room && !got)
        starve(lanes, l);
    nh_keyed_leave(lanes->table, &l->base);
    if (room && !got)
        feed(lanes);
    return got;
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

/* Lock held. */
static nh_lane_view view_of(const lane *l, uint64_t now) {
    nh_lane_view view = {.limit = l->limit, .held = l->held, .again = l->again};
    for (int i = 0; i < KINDS * NH_PRIORITIES; i++) {
        const line *each = &l->lines[i / NH_PRIORITIES];
        int priority = i % NH_PRIORITIES;
        const nh_slot *first = each->first[priority];
        double age = first && now > first->since ? (double)(now - first->since) / 1e9 : 0;
        view.waiting[priority] += each->counts[priority];
        view.oldest = age > view.oldest ? age : view.oldest;
    }
    return view;
}

static bool look(nh_lanes *lanes, nh_entry *entry, uint64_t now, nh_lane_view *view) {
    *view = (nh_lane_view){0};
    if (!entry)
        return false;
    *view = view_of((lane *)entry, now);
    nh_keyed_leave(lanes->table, entry);
    return true;
}

void nh_lane_look(nh_lanes *lanes, const char *key, size_t length, uint64_t now,
                  nh_lane_view *view) {
    look(lanes, nh_keyed_enter(lanes->table, key, length, false, now), now, view);
}

uint64_t nh_lane_name(const nh_slot *slot) {
    return slot->lane ? slot->lane->base.hash : 0;
}

bool nh_lane_look_named(nh_lanes *lanes, uint64_t name, uint64_t now, nh_lane_view *view) {
    return look(lanes, nh_keyed_find(lanes->table, name), now, view);
}

void nh_lanes_read(nh_lanes *lanes, nh_lane_figures *figures) {
    nh_keyed_read(lanes->table, &figures->table);
    figures->held = atomic_load_explicit(&lanes->held, memory_order_relaxed);
    figures->waiting = atomic_load_explicit(&lanes->waiting, memory_order_relaxed);
    figures->backoffs = atomic_load_explicit(&lanes->backoffs, memory_order_relaxed);
}

/* ----------------------------------------------------------------- writing */

void nh_lane_write_view(const nh_lane_view *view, nh_writer *writer) {
    unsigned all = 0;
    for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
        all += view->waiting[priority];
    nh_writer_cstring(writer, "limit");
    nh_writer_int(writer, view->limit);
    nh_writer_cstring(writer, "in_flight");
    nh_writer_int(writer, view->held);
    nh_writer_cstring(writer, "waiting");
    nh_writer_int(writer, all);
    nh_writer_cstring(writer, "oldest");
    nh_writer_real(writer, view->oldest);
}

typedef struct shown {
    char key[NH_KEYED_KEY_MAX + 1];
    nh_lane_view view;
} shown;

typedef struct list {
    const nh_keyed *table;
    shown *at;
    size_t count, most;
    uint64_t now;
} list;

static bool collect(nh_entry *entry, void *user) {
    list *found = user;
    shown *one = &found->at[found->count++];
    memcpy(one->key, nh_keyed_key(found->table, entry), entry->length + 1);
    one->view = view_of((lane *)entry, found->now);
    return found->count < found->most;
}

/* The lanes are copied first: their number stands before them, and no lock is held while a writer
 * grows. */
void nh_lanes_write(nh_lanes *lanes, nh_writer *writer, size_t most, uint64_t now) {
    nh_keyed_figures figures;
    nh_keyed_read(lanes->table, &figures);
    list found = {.table = lanes->table, .now = now};
    found.most = figures.keys < most ? figures.keys : most;
    if (found.most > 0 && (found.at = malloc(found.most * sizeof *found.at)))
        nh_keyed_each(lanes->table, collect, &found);
    nh_writer_map(writer, found.count);
    for (size_t i = 0; i < found.count; i++) {
        nh_writer_cstring(writer, found.at[i].key);
        nh_writer_map(writer, NH_LANE_VIEW_PAIRS);
        nh_lane_write_view(&found.at[i].view, writer);
    }
    free(found.at);
}
