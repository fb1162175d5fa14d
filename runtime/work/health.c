/* health.c — figures of one account or target in less than a kilobyte, in two tables.
 *
 * Any thread; note after each attempt, the rest at any time. Two memories: ten buckets of thirty
 * seconds for the last five minutes, and counts that are halved every ten minutes for the rates and
 * latencies that are shown. Halving is done when an entry is next looked at, whatever time has
 * passed; a call counts UNIT there, so that four halvings leave something of a single one.
 *
 * Latencies go into buckets of a quarter of an octave from 65 µs to 18 minutes, so a quantile is
 * within an eighth of the truth. Noting costs a table's lock and a few additions.
 */
#include "runtime/work/health.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"

enum {
    BUCKETS = 96,
    SPANS = 10,
    SPAN_SECONDS = 30,
    HALF_LIFE = 600, /* seconds */
    UNIT = 16,
    HALVINGS_MOST = 63,
    DOWN_ROW = 3,
    DOWN_CALLS = 10, /* of the last five minutes, before half of them matters */
};
#define HEALTHY_RATE   0.95
#define DOWN_RATE      0.5
#define SLOW_SECONDS   5.0   /* from here on latency earns nothing */
#define LATENCY_LEAST  65536 /* ns */
#define UNKNOWN_SCORE  0.5
#define WEIGHT_STATE   0.4
#define WEIGHT_RATE    0.3
#define WEIGHT_LATENCY 0.2
#define WEIGHT_ROW     0.1

typedef struct span {
    uint64_t number; /* which thirty seconds of the clock */
    uint32_t ok, failed;
} span;

typedef struct subject {
    nh_entry base;
    uint64_t ok, failed, refused; /* in all */
    uint64_t good, bad;           /* decayed, UNIT a call */
    uint64_t age;                 /* which half-life of the clock they are of */
    uint64_t lane;                /* the last attempt's */
    double success_at, error_at;
    uint32_t latency[BUCKETS]; /* decayed, UNIT a call */
    uint32_t row;
    nh_err error_code;
    span spans[SPANS];
    char error_text[NH_HEALTH_TEXT_MAX + 1];
} subject;

_Static_assert(sizeof(subject) < 1024, "an entry is to be less than a kilobyte");

struct nh_health {
    nh_keyed *tables[NH_HEALTH_KINDS];
};

/* What an attempt's code says about where it went. */
enum meaning { NOTHING, SUCCESS, FAILURE, REFUSAL };

static enum meaning meaning_of(nh_err code) {
    /* What is not listed never reached the platform, or was our doing. */
    static const uint8_t meanings[] = {
        [NH_OK] = SUCCESS,
        [NH_E_TIMEOUT] = FAILURE,
        [NH_E_NETWORK] = FAILURE,
        [NH_E_TLS] = FAILURE,
        [NH_E_AUTH] = FAILURE,
        [NH_E_RATE_LIMITED] = FAILURE,
        [NH_E_UNAVAILABLE] = FAILURE,
        [NH_E_REJECTED] = REFUSAL,
        [NH_E_UNKNOWN_TARGET] = REFUSAL,
        [NH_E_TOO_LARGE] = REFUSAL,
        [NH_E_INTERNAL] = NOTHING, /* the last of the list */
    };
    return (size_t)code < sizeof meanings ? meanings[code] : NOTHING;
}

const char *nh_health_state_name(nh_health_state state) {
    static const char *const names[NH_HEALTH_STATES] = {
        [NH_HEALTH_UNKNOWN] = "unknown",
        [NH_HEALTH_HEALTHY] = "healthy",
        [NH_HEALTH_DEGRADED] = "degraded",
        [NH_HEALTH_DOWN] = "down",
    };
    return names[state];
}

/* ----------------------------------------------------------------- latency */

static size_t bucket_of(double seconds) {
    if (!(seconds > 0))
        return 0;
    uint64_t units = seconds < 3600 ? (uint64_t)(seconds * 1e9) / LATENCY_LEAST : UINT64_MAX;
    if (units == 0)
        return 0;
    unsigned octave = 63 - (unsigned)__builtin_clzll(units);
    uint64_t quarter = (octave >= 2 ? units >> (octave - 2) : units << (2 - octave)) & 3;
    size_t index = octave * 4 + (size_t)quarter;
    return index < BUCKETS ? index : BUCKETS - 1;
}

/* The middle of a bucket, in seconds. */
static double middle_of(size_t index) {
    double octave = (double)(UINT64_C(1) << index / 4) * LATENCY_LEAST / 1e9;
    return octave * (1 + ((double)(index % 4) + 0.5) / 4);
}

static double quantile(const subject *s, double share) {
    uint64_t all = 0, below = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        all += s->latency[i];
    if (all == 0)
        return -1;
    for (size_t i = 0; i < BUCKETS; i++) {
        below += s->latency[i];
        if ((double)below >= share * (double)all)
            return middle_of(i);
    }
    return middle_of(BUCKETS - 1);
}

/* ------------------------------------------------------------------ counts */

static void decay(subject *s, uint64_t now) {
    uint64_t age = now / NH_SECOND / HALF_LIFE, halvings = age > s->age ? age - s->age : 0;
    if (halvings == 0)
        return;
    s->age = age;
    halvings = halvings < HALVINGS_MOST ? halvings : HALVINGS_MOST;
    s->good >>= halvings;
    s->bad >>= halvings;
    for (size_t i = 0; i < BUCKETS; i++)
        s->latency[i] = (uint32_t)((uint64_t)s->latency[i] >> halvings);
}

static void count_recent(subject *s, bool ok, uint64_t now) {
    uint64_t number = now / NH_SECOND / SPAN_SECONDS;
    span *at = &s->spans[number % SPANS];
    if (at->number != number)
        *at = (span){.number = number};
    at->ok += ok;
    at->failed += !ok;
}

static void recent_of(const subject *s, uint64_t now, uint64_t *ok, uint64_t *failed) {
    uint64_t number = now / NH_SECOND / SPAN_SECONDS;
    *ok = *failed = 0;
    for (size_t i = 0; i < SPANS; i++) {
        if (s->spans[i].number + SPANS <= number)
            continue;
        *ok += s->spans[i].ok;
        *failed += s->spans[i].failed;
    }
}

static double share(uint64_t good, uint64_t bad) {
    return good + bad > 0 ? (double)good / (double)(good + bad) : -1;
}

/* -------------------------------------------------------------------- view */

static nh_health_state state_of(const nh_health_view *view, uint64_t calls) {
    double rate = view->recent >= 0 ? view->recent : view->rate;
    if (view->ok + view->failed == 0)
        return NH_HEALTH_UNKNOWN;
    if (view->row >= DOWN_ROW || (calls >= DOWN_CALLS && view->recent < DOWN_RATE))
        return NH_HEALTH_DOWN;
    if (view->row > 0 || (rate >= 0 && rate < HEALTHY_RATE))
        return NH_HEALTH_DEGRADED;
    return NH_HEALTH_HEALTHY;
}

static double score_of(const nh_health_view *view) {
    static const double states[NH_HEALTH_STATES] = {
        [NH_HEALTH_HEALTHY] = 1, [NH_HEALTH_DEGRADED] = 0.5, [NH_HEALTH_DOWN] = 0};
    if (view->state == NH_HEALTH_UNKNOWN)
        return UNKNOWN_SCORE;
    /* What has been forgotten, or never answered, earns nothing and costs nothing. */
    double rate = view->rate >= 0 ? view->rate : states[view->state];
    double latency = view->p50 >= 0 ? 1 - view->p50 / SLOW_SECONDS : states[view->state];
    return WEIGHT_STATE * states[view->state] + WEIGHT_RATE * rate +
           WEIGHT_LATENCY * (latency > 0 ? latency : 0) + WEIGHT_ROW / (view->row + 1.0);
}

static void view_of(subject *s, uint64_t now, nh_health_view *view) {
    uint64_t ok, failed;
    decay(s, now);
    recent_of(s, now, &ok, &failed);
    *view = (nh_health_view){
        .rate = share(s->good, s->bad),
        .recent = share(ok, failed),
        .p50 = quantile(s, 0.5),
        .p90 = quantile(s, 0.9),
        .p99 = quantile(s, 0.99),
        .ok = s->ok,
        .failed = s->failed,
        .refused = s->refused,
        .row = s->row,
        .lane = s->lane,
        .success_at = s->success_at,
        .error_at = s->error_at,
        .error_code = s->error_code,
    };
    memcpy(view->error_text, s->error_text, sizeof view->error_text);
    view->state = state_of(view, ok + failed);
    view->score = score_of(view);
}

/* ------------------------------------------------------------------- table */

static nh_entry_worth worth(const nh_entry *entry, uint64_t now) {
    (void)entry, (void)now;
    return NH_ENTRY_IDLE; /* nothing is wrong when figures are forgotten: the oldest go */
}

static const nh_keyed_kind kind_of_table = {sizeof(subject), NULL, NULL, worth};

nh_health *nh_health_create(size_t keys) {
    nh_health *health = calloc(1, sizeof *health);
    if (!health)
        return NULL;
    for (int kind = 0; kind < NH_HEALTH_KINDS; kind++) {
        health->tables[kind] = nh_keyed_create(&kind_of_table, NULL, keys);
        if (!health->tables[kind]) {
            nh_health_destroy(health);
            return NULL;
        }
    }
    return health;
}

void nh_health_destroy(nh_health *health) {
    if (!health)
        return;
    for (int kind = 0; kind < NH_HEALTH_KINDS; kind++)
        nh_keyed_destroy(health->tables[kind]);
    free(health);
}

/* ------------------------------------------------------------------- calls */

/* Keeps the beginning, whole characters of it. */
static void keep_text(subject *s, const char *text, size_t length) {
    if (!text)
        length = 0;
    if (length > NH_HEALTH_TEXT_MAX) {
        length = NH_HEALTH_TEXT_MAX;
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
            length--;
    }
    if (length > 0)
        memcpy(s->error_text, text, length);
    s->error_text[length] = '\0';
}

void nh_health_note(nh_health *health, nh_health_kind kind, const char *key, size_t length,
                    const nh_health_attempt *attempt, uint64_t now, double wall) {
    enum meaning meaning = meaning_of(attempt->code);
    if (meaning == NOTHING)
        return;
    subject *s = (subject *)nh_keyed_enter(health->tables[kind], key, length, true, now);
    if (!s)
        return;
    decay(s, now);
    s->lane = attempt->lane;
    if (meaning == SUCCESS) {
        s->ok++;
        s->good += UNIT;
        s->success_at = wall;
    } else {
        s->error_at = wall;
        s->error_code = attempt->code;
        keep_text(s, attempt->text, attempt->length);
    }
    if (meaning == FAILURE) {
        s->failed++;
        s->bad += UNIT;
    } else {
        uint32_t *bucket = &s->latency[bucket_of(attempt->seconds)];
        *bucket += *bucket <= UINT32_MAX - UNIT ? UNIT : 0;
    }
    s->refused += meaning == REFUSAL;
    if (meaning != REFUSAL) {
        s->row = meaning == FAILURE ? s->row + 1 : 0;
        count_recent(s, meaning == SUCCESS, now);
    }
    nh_keyed_leave(health->tables[kind], &s->base);
}

bool nh_health_look(nh_health *health, nh_health_kind kind, const char *key, size_t length,
                    uint64_t now, nh_health_view *view) {
    *view = (nh_health_view){
        .score = UNKNOWN_SCORE, .rate = -1, .recent = -1, .p50 = -1, .p90 = -1, .p99 = -1};
    subject *s = (subject *)nh_keyed_enter(health->tables[kind], key, length, false, now);
    if (!s)
        return false;
    view_of(s, now, view);
    nh_keyed_leave(health->tables[kind], &s->base);
    return true;
}

double nh_health_score(nh_health *health, nh_health_kind kind, const char *key, size_t length,
                       uint64_t now) {
    nh_health_view view;
    nh_health_look(health, kind, key, length, now, &view);
    return view.score;
}

void nh_health_read(nh_health *health, nh_health_kind kind, nh_keyed_figures *figures) {
    nh_keyed_read(health->tables[kind], figures);
}

/* ----------------------------------------------------------------- writing */

void nh_health_write_view(const nh_health_view *view, const nh_lane_view *lane, nh_writer *writer) {
    const struct {
        const char *name;
        double value; /* negative: absent */
    } reals[] = {
        {"score", view->score},
        {"success_rate", view->rate},
        {"success_rate_5m", view->recent},
        {"p50", view->p50},
        {"p90", view->p90},
        {"p99", view->p99},
        {"last_success_at", view->success_at > 0 ? view->success_at : -1},
        {"last_error_at", view->error_at > 0 ? view->error_at : -1},
    };
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"delivered", view->ok},
        {"failed", view->failed},
        {"refused", view->refused},
        {"consecutive_failures", view->row},
    };
    enum { REALS = sizeof reals / sizeof *reals, COUNTS = sizeof counts / sizeof *counts };
    size_t known = 0;
    for (size_t i = 0; i < REALS; i++)
        known += reals[i].value >= 0;
    bool error = view->error_code != NH_OK;
    nh_writer_map(writer, 1 + known + COUNTS + (error ? 2 : 0) + (lane ? NH_LANE_VIEW_PAIRS : 0));
    nh_writer_cstring(writer, "state");
    nh_writer_cstring(writer, nh_health_state_name(view->state));
    for (size_t i = 0; i < REALS; i++) {
        if (reals[i].value < 0)
            continue;
        nh_writer_cstring(writer, reals[i].name);
        nh_writer_real(writer, reals[i].value);
    }
    for (size_t i = 0; i < COUNTS; i++) {
        nh_writer_cstring(writer, counts[i].name);
        nh_writer_int(writer, (int64_t)counts[i].value);
    }
    if (error) {
        nh_writer_cstring(writer, "last_error_code");
        nh_writer_cstring(writer, nh_err_name(view->error_code));
        nh_writer_cstring(writer, "last_error");
        nh_writer_cstring(writer, view->error_text);
    }
    if (lane)
        nh_lane_write_view(lane, writer);
}

typedef struct shown {
    char key[NH_KEYED_KEY_MAX + 1];
    nh_health_view view;
} shown;

typedef struct list {
    const nh_keyed *table;
    shown *at;
    size_t count, room, left_out;
    uint64_t now;
} list;

static bool collect(nh_entry *entry, void *user) {
    list *found = user;
    if (found->count == found->room) {
        found->left_out++;
        return true;
    }
    shown *one = &found->at[found->count++];
    memcpy(one->key, nh_keyed_key(found->table, entry), entry->length + 1);
    view_of((subject *)entry, found->now, &one->view);
    return true;
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const shown *)a)->key, ((const shown *)b)->key);
}

/* Writes one kind; returns how many entries it left out. The entries are copied first: their number
 * stands before them, and no lock is held while a writer grows. */
static size_t write_kind(nh_keyed *table, nh_lanes *lanes, nh_writer *writer, uint64_t now) {
    nh_keyed_figures figures;
    nh_keyed_read(table, &figures);
    list found = {.table = table, .now = now};
    found.room = figures.keys < NH_HEALTH_SHOWN ? figures.keys : NH_HEALTH_SHOWN;
    if (found.room > 0 && !(found.at = malloc(found.room * sizeof *found.at)))
        found.room = 0;
    nh_keyed_each(table, collect, &found);
    if (found.count > 0)
        qsort(found.at, found.count, sizeof *found.at, by_key);
    nh_writer_map(writer, found.count);
    for (size_t i = 0; i < found.count; i++) {
        const nh_health_view *view = &found.at[i].view;
        nh_lane_view lane;
        bool known = lanes && view->lane && nh_lane_look_named(lanes, view->lane, now, &lane);
        nh_writer_cstring(writer, found.at[i].key);
        nh_health_write_view(view, known ? &lane : NULL, writer);
    }
    free(found.at);
    return found.left_out;
}

void nh_health_write(nh_health *health, nh_lanes *lanes, nh_writer *writer, uint64_t now) {
    static const char *const names[NH_HEALTH_KINDS] = {
        [NH_HEALTH_PLATFORM] = "platforms",
        [NH_HEALTH_TARGET] = "targets",
    };
    size_t left_out = 0;
    nh_writer_map(writer, NH_HEALTH_KINDS + 1);
    for (int kind = 0; kind < NH_HEALTH_KINDS; kind++) {
        nh_writer_cstring(writer, names[kind]);
        left_out += write_kind(health->tables[kind], lanes, writer, now);
    }
    nh_writer_cstring(writer, "left_out");
    nh_writer_int(writer, (int64_t)left_out);
}
