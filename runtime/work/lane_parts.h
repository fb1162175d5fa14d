/* lane_parts.h — a lane as lane.c and lane_view.c see it. */
#ifndef NH_WORK_LANE_PARTS_H
#define NH_WORK_LANE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/work/lane.h"

enum phase { IDLE, WAITING, HELD };
enum kind { FIRST, AGAIN, KINDS };

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
    unsigned hasty;      /* of those that wait */
    struct lane *behind; /* in that line */
    uint64_t shut;       /* until then it gives none; 0: it is not shut */
    uint64_t since;      /* that its target does not work */

    /* Under the lock of the lists. */
    struct lane *listed; /* the next one in the list of those that were shut */
    uint64_t wake;       /* when somebody is to be let go; 0: it is not in the list */
} lane;

struct nh_lanes {
    nh_keyed *table;
    nh_lane_options options;
    _Atomic size_t held, waiting, starved; /* starved: lanes */
    _Atomic uint64_t backoffs;
    void (*alarm)(void *user);
    void *user;

    pthread_mutex_t lock; /* of the lists of lanes */
    lane *first, *last;   /* those that starve */
    lane *shut;
    uint64_t next; /* when tick is to be called, as far as its caller knows */
};

#endif
