/* health.h — how platform accounts and targets are doing, from their own attempts: what `health()`
 * shows and `healthiest` chooses by. Shared by all workers.
 */
#ifndef NH_WORK_HEALTH_H
#define NH_WORK_HEALTH_H

#include "runtime/notifyhub.h"
#include "runtime/work/keyed.h"
#include "runtime/work/lane.h"

#define NH_HEALTH_TEXT_MAX 159            /* bytes kept of the last error */
#define NH_HEALTH_SHOWN    ((size_t)1000) /* most entries of a kind in a document */

typedef enum nh_health_kind {
    NH_HEALTH_PLATFORM,
    NH_HEALTH_TARGET,
    NH_HEALTH_KINDS
} nh_health_kind;

typedef enum nh_health_state {
    NH_HEALTH_UNKNOWN,  /* nothing was tried, or nothing that says something */
    NH_HEALTH_HEALTHY,  /* its last attempt succeeded, and 95 % of the last five minutes */
    NH_HEALTH_DEGRADED, /* less than that */
    NH_HEALTH_DOWN,     /* three failures in a row, or less than half of at least ten */
    NH_HEALTH_STATES
} nh_health_state;

const char *nh_health_state_name(nh_health_state state);

/* One attempt that has ended. */
typedef struct nh_health_attempt {
    nh_err code;
    const char *text; /* of the error, redacted; NULL allowed */
    size_t length;
    double seconds; /* it took */
    uint64_t lane;  /* it went through; 0: none */
} nh_health_attempt;

typedef struct nh_health_view {
    nh_health_state state;
    double score;         /* 0 to 1; 0.5 while unknown */
    double rate;          /* of success, decayed with a half-life of ten minutes; -1: none */
    double recent;        /* the same over the last five minutes; -1: none */
    double p50, p90, p99; /* seconds an answered attempt takes, decayed too; -1: none */
    uint64_t ok, failed;  /* attempts, in all */
    uint64_t refused;     /* the platform answered, and did not like the message */
    uint32_t row;         /* failures in a row */
    double success_at;    /* seconds since the epoch; 0: never */
    double error_at;      /* the same of the last failure or refusal */
    uint64_t lane;        /* that the last attempt went through; 0: none */
    nh_err error_code;
    char error_text[NH_HEALTH_TEXT_MAX + 1];
} nh_health_view;

typedef struct nh_health nh_health;

/* At most `keys` (0: NH_KEYED_KEYS) of each kind; those that were not used for longest go. NULL
 * when out of memory. */
nh_health *nh_health_create(size_t keys);
void nh_health_destroy(nh_health *health); /* NULL is allowed */

/* Thread: any, for all of these; `now` is monotonic ns, `wall` seconds since the epoch. Blocks:
 * never. */

void nh_health_note(nh_health *health, nh_health_kind kind, const char *key, size_t length,
                    const nh_health_attempt *attempt, uint64_t now, double wall);
/* False, and what is known of the unknown, when the key has no figures. */
bool nh_health_look(nh_health *health, nh_health_kind kind, const char *key, size_t length,
                    uint64_t now, nh_health_view *view);
/* How good a choice it is:
 *     0.4 · state (healthy 1, degraded 0.5, down 0) + 0.3 · rate
 *     + 0.2 · max(0, 1 − p50 / 5 s) + 0.1 / (failures in a row + 1)
 * and 0.5 while unknown: before what is failing, behind what works. */
double nh_health_score(nh_health *health, nh_health_kind kind, const char *key, size_t length,
                       uint64_t now);
/* Writes one view as a map; what is not known is absent. `lane` is what its lane is at, NULL when
 * it has none. */
void nh_health_write_view(const nh_health_view *view, const nh_lane_view *lane, nh_writer *writer);
/* Writes a map {platforms = {key = view}, targets = {key = view}, left_out = entries over
 * NH_HEALTH_SHOWN}. `lanes` may be NULL. */
void nh_health_write(nh_health *health, nh_lanes *lanes, nh_writer *writer, uint64_t now);
void nh_health_read(nh_health *health, nh_health_kind kind, nh_keyed_figures *figures);

#endif
