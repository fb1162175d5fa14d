/* lane.h — how many calls one target has under way at once: a limit by name, found by trial (AIMD),
 * and those who wait for a slot of it, by priority. Shared by all workers.
 *
 * A caller embeds an nh_slot where its call is. acquire → (granted at once, or later through
 * `granted`) → release; or cancel while it waits. Who finds with its slot that the target must not
 * be called for a while shuts the lane: all wait there, which costs nothing, and one is let go to
 * try again when the time has come.
 */
#ifndef NH_WORK_LANE_H
#define NH_WORK_LANE_H

#include "runtime/core/message.h"
#include "runtime/work/keyed.h"

/* Why these: a batch of 1000 to a target that answers in 50 ms and can take all of it needs 250 ms
 * from a start of 64, 350 ms from 16, 500 ms from 2, and 750 ms if the limit grew by one a window
 * from the first (spec/unit/work/lane_test.c prints them); one refusal halves it, whatever it was.
 * Usual HTTP servers queue some hundred connections before they accept them, so 64 that come at
 * once are no flood; above, the target is asked, by doubling. */
#define NH_LANE_LEAST 1u
#define NH_LANE_START 64u
#define NH_LANE_MOST  1024u

/* One in so many slots of a lane, at least one, goes to attempts that are repeated as long as first
 * ones wait for it: a target that fails is not kept busy with the same messages. What nobody else
 * waits for they may have. */
#define NH_LANE_AGAIN 5u

#define NH_LANE_TOTAL 10000u

typedef struct nh_lane_options {
    unsigned least, start, most; /* 1 ≤ least ≤ start ≤ most; a zero is its default */
    unsigned total;              /* slots of all lanes together; 0: NH_LANE_TOTAL */
    uint64_t patience;           /* ns that one waits in a lane that is shut */
} nh_lane_options;

typedef struct nh_slot nh_slot;
struct nh_slot {
    /* The slot is the caller's now. Called once for an acquire that answered false, without any
     * lock, in whichever thread freed a slot, maybe before that acquire has returned: it should
     * only send word to the caller's own. */
    void (*granted)(nh_slot *slot);
    bool again; /* the caller's: it repeats an attempt that failed; see NH_LANE_AGAIN */
    bool hasty; /* the caller's: it has its slot at once where the lane is shut, to be refused */
    uint64_t ready; /* the caller's: when its message could first have gone, monotonic ns */

    /* The lanes' own. */
    nh_slot *next, *prev;
    struct lane *lane; /* NULL: none, or one that found no room and is not counted */
    uint64_t since;    /* when it was asked for */
    uint32_t epoch;    /* the lane's, when the slot was granted */
    uint8_t priority;
    uint8_t phase;
};

/* What a call tells about its target's capacity. */
typedef enum nh_load {
    NH_LOAD_NONE,    /* nothing: cancelled, never sent, refused for what it said */
    NH_LOAD_FINE,    /* it could take one */
    NH_LOAD_TOO_MUCH /* it asks for less, or did not manage: 429, 503, no answer in time */
} nh_load;

nh_load nh_lane_load(nh_err code); /* by a result's code */

typedef struct nh_lane_figures {
    nh_keyed_figures table;
    size_t held, waiting; /* slots */
    uint64_t backoffs;    /* times a limit was halved */
} nh_lane_figures;

typedef struct nh_lane_view {
    unsigned limit, held, waiting[NH_PRIORITIES];
    unsigned again; /* of those that are held */
    double oldest;  /* seconds that the longest has waited */
} nh_lane_view;

typedef struct nh_lanes nh_lanes;

/* At most `keys` (0: NH_KEYED_KEYS) lanes; a target that finds no room, because each lane is in
 * use, is not limited. Errors: NH_E_CONFIG, NH_E_INTERNAL. */
nh_lanes *nh_lanes_create(nh_lane_options options, size_t keys, nh_error *error);
void nh_lanes_destroy(nh_lanes *lanes); /* no slot is held; NULL is allowed */

/* Thread: any, for all of these. Blocks: never. */

/* True: the slot is the caller's. False: it waits; `granted` will be called. The lane borrows the
 * slot until it is released or its cancel returned true. */
bool nh_lane_acquire(nh_lanes *lanes, const char *key, size_t length, nh_priority priority,
                     nh_slot *slot, uint64_t now);
/* Stops waiting: true, and `granted` is not called. False: the slot was granted already; `granted`
 * was called or is about to be, and release is owed after it. */
bool nh_lane_cancel(nh_lanes *lanes, nh_slot *slot);
/* Gives a slot back, and slots to those who wait. */
void nh_lane_release(nh_lanes *lanes, nh_slot *slot, nh_load load);

/* The target of this slot has not worked since `since` and must not be called before `until`. True:
 * the slot waits again, ahead of the others, and none is given until then; after that one at a
 * time, until calls succeed. False: it is hasty, or has waited for `patience` since the later of
 * its `ready` and `since`, or is in no lane; it still has its slot. */
bool nh_lane_shut(nh_lanes *lanes, nh_slot *slot, uint64_t until, uint64_t since, uint64_t now);
/* Lets one go in each lane that was shut and whose time has come, and those whose patience is over.
 * Returns when to call it again, UINT64_MAX: not before `alarm`. Thread: one at a time. */
uint64_t nh_lanes_tick(nh_lanes *lanes, uint64_t now);
/* `alarm` is called, without a lock, when nh_lanes_tick is to be called sooner than it said. Before
 * the first slot is asked for. */
void nh_lanes_watch(nh_lanes *lanes, void (*alarm)(void *user), void *user);

/* What a target's lane is at; all zeros when it has none. */
void nh_lane_look(nh_lanes *lanes, const char *key, size_t length, uint64_t now,
                  nh_lane_view *view);
/* A name of the lane that a slot is or waits in, for those who ask later; 0: none. */
uint64_t nh_lane_name(const nh_slot *slot);
/* As nh_lane_look; false when there is no such lane any more. */
bool nh_lane_look_named(nh_lanes *lanes, uint64_t name, uint64_t now, nh_lane_view *view);
/* Writes a map of the lanes, at most `most`: {target = {limit, in_flight, waiting, oldest}}. */
void nh_lanes_write(nh_lanes *lanes, nh_writer *writer, size_t most, uint64_t now);
/* Writes the pairs of a view, NH_LANE_VIEW_PAIRS of them, into a map that is open. */
void nh_lane_write_view(const nh_lane_view *view, nh_writer *writer);
#define NH_LANE_VIEW_PAIRS 4
void nh_lanes_read(nh_lanes *lanes, nh_lane_figures *figures);

#endif
