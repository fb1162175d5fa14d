/* hub_figures.c — what a hub says about itself: stats, health and metrics.
 *
 * Thread: any. Each figure is read by itself, so two of one answer may be some messages apart.
 */
#include "runtime/hub_parts.h"

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"

enum { HOSTS_SHOWN = 1000 };
#define SLOW_COMMIT NH_SECOND        /* what accepts a message in less is not slow */
#define SLOW_FOR    (10 * NH_SECOND) /* after such a commit */

/* What hosts and platforms are asked for; zeros of what the configuration has turned off. */
typedef struct gates {
    nh_breaker_figures breakers;
    nh_limiter_figures limiter;
    nh_lane_figures lanes;
} gates;

static gates read_gates(nh_hub *hub) {
    gates figures = {.breakers = {.open = 0}};
    nh_limiter_read(hub->work.limiter, &figures.limiter);
    if (hub->work.gate.breakers)
        nh_breaker_read(hub->work.gate.breakers, &figures.breakers);
    if (hub->work.gate.lanes)
        nh_lanes_read(hub->work.gate.lanes, &figures.lanes);
    return figures;
}

static void put(nh_writer *writer, const char *name, uint64_t value) {
    nh_writer_cstring(writer, name);
    nh_writer_int(writer, (int64_t)value);
}

/* Three pairs of an open map. */
static void write_gates(nh_writer *writer, gates figures) {
    nh_writer_cstring(writer, "lanes");
    nh_writer_map(writer, 4);
    put(writer, "count", figures.lanes.table.keys);
    put(writer, "in_flight", figures.lanes.held);
    put(writer, "waiting", figures.lanes.waiting);
    put(writer, "backoffs", figures.lanes.backoffs);
    nh_writer_cstring(writer, "rates");
    nh_writer_map(writer, 3);
    put(writer, "waiting", figures.limiter.waiting);
    put(writer, "delayed", figures.limiter.delayed);
    put(writer, "pauses", figures.limiter.pauses);
    nh_writer_cstring(writer, "breakers");
    nh_writer_map(writer, 4);
    put(writer, "open", figures.breakers.open);
    put(writer, "half_open", figures.breakers.half_open);
    put(writer, "opened", figures.breakers.opened);
    put(writer, "refused", figures.breakers.refused);
}

/* Seconds since a time of the wall clock, which may have been set back; 0 when there is none. */
static double age_of(double time) {
    double age = time > 0 ? nh_wall() - time : 0;
    return age > 0 ? age : 0;
}

/* {depth, …}: what the journal says, or said last. */
static void put_journal(nh_hub *hub, nh_writer *writer) {
    nh_store_stats stats;
    nh_hub_journal_stats(hub, &stats);
    nh_writer_cstring(writer, "journal");
    nh_writer_map(writer, 13);
    put(writer, "depth", stats.depth);
    put(writer, "bytes", stats.bytes);
    put(writer, "most", stats.most);
    put(writer, "dead", stats.dead);
    put(writer, "dead_lost", stats.dead_lost);
    put(writer, "commits", stats.commits);
    put(writer, "refused", stats.refused);
    put(writer, "values_lost", atomic_load(&hub->journal.values_lost));
    put(writer, "writing", atomic_load(&hub->journal.writing));
    put(writer, "parked", nh_parked_count(hub->journal.parked));
    nh_writer_cstring(writer, "oldest");
    nh_writer_real(writer, age_of(stats.oldest));
    nh_writer_cstring(writer, "state");
    nh_writer_cstring(writer, stats.broken ? "broken" : stats.trouble ? "trouble" : "ok");
    nh_writer_cstring(writer, "why");
    nh_writer_cstring(writer, stats.trouble ? stats.why : "");
}

/* What becomes of a message that is handed to the journal now, in a word. */
static const char *journal_state(const nh_store_stats *stats, uint64_t now) {
    uint64_t since = stats->writing_since;
    bool slow = (since > 0 && now > since && now - since >= SLOW_COMMIT) ||
                (stats->commit_seconds * (double)NH_SECOND >= (double)SLOW_COMMIT &&
                 now < stats->written_at + SLOW_FOR);
    return stats->broken    ? "broken"
           : stats->full    ? "full"
           : stats->trouble ? "trouble"
           : slow           ? "slow"
                            : "ok";
}

/* {state, …}: how the journal is doing. */
static void put_journal_health(nh_hub *hub, nh_writer *writer, uint64_t now) {
    nh_store_stats stats;
    nh_hub_journal_stats(hub, &stats);
    bool error = stats.why[0] != '\0';
    nh_writer_cstring(writer, "journal");
    nh_writer_map(writer, error ? 8 : 7);
    nh_writer_cstring(writer, "state");
    nh_writer_cstring(writer, journal_state(&stats, now));
    put(writer, "rows", stats.depth);
    nh_writer_cstring(writer, "oldest");
    nh_writer_real(writer, age_of(stats.oldest));
    put(writer, "bytes", stats.bytes);
    put(writer, "most", stats.most);
    put(writer, "dead", stats.dead);
    nh_writer_cstring(writer, "commit_seconds");
    nh_writer_real(writer, stats.commit_seconds);
    if (error) {
        nh_writer_cstring(writer, "last_error");
        nh_writer_cstring(writer, stats.why);
    }
}

nh_doc *nh_hub_stats(nh_hub *hub) {
    nh_queue_figures queue;
    nh_pool_figures pool;
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_queue_read(hub->work.queue, &queue);
    nh_pool_read(hub->pool, &pool);
    nh_writer_map(writer, (hub->journal.store ? 13 : 12) + NH_HUB_STATUSES);
    nh_writer_cstring(writer, "version");
    nh_writer_cstring(writer, nh_version());
    nh_writer_cstring(writer, "uptime");
    nh_writer_real(writer, (double)(nh_monotonic() - hub->opened) / (double)NH_SECOND);
    put(writer, "accepted", atomic_load(&hub->accepted));
    put(writer, "pending", atomic_load(&hub->pending));
    put(writer, "retries", atomic_load(&hub->work.retries));
    for (int status = 0; status < NH_HUB_STATUSES; status++)
        put(writer, nh_status_name((nh_status)status), atomic_load(&hub->settled[status]));
    nh_writer_cstring(writer, "queue");
    nh_writer_map(writer, 7);
    put(writer, "capacity", hub->capacity);
    put(writer, "low", queue.ready[NH_LOW]);
    put(writer, "normal", queue.ready[NH_NORMAL]);
    put(writer, "high", queue.ready[NH_HIGH]);
    put(writer, "urgent", queue.ready[NH_URGENT]);
    put(writer, "scheduled", queue.scheduled);
    put(writer, "bytes", queue.bytes);
    nh_writer_cstring(writer, "workers");
    nh_writer_map(writer, 6);
    put(writer, "count", pool.workers);
    put(writer, "in_flight", pool.in_flight);
    put(writer, "asleep", pool.asleep);
    put(writer, "memory", pool.memory);
    put(writer, "grown", pool.grown);
    put(writer, "shrunk", pool.shrunk);
    nh_writer_cstring(writer, "http");
    nh_writer_map(writer, 3);
    put(writer, "direct", atomic_load(&hub->work.counts.http_direct));
    put(writer, "multi", atomic_load(&hub->work.counts.http_multi));
    put(writer, "opened", atomic_load(&hub->work.counts.http_opened));
    write_gates(writer, read_gates(hub));
    if (hub->journal.store)
        put_journal(hub, writer);
    nh_writer_cstring(writer, "generations");
    hub->work.ops->generations(hub->work.engine, writer);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return doc;
}

nh_doc *nh_hub_health(nh_hub *hub) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    uint64_t now = nh_monotonic();
    nh_writer_map(writer, hub->journal.store ? 4 : 3);
    if (hub->journal.store)
        put_journal_health(hub, writer, now);
    nh_writer_cstring(writer, "seen");
    nh_health_write(hub->health, hub->work.gate.lanes, writer, now);
    nh_writer_cstring(writer, "breakers");
    if (hub->work.gate.breakers)
        nh_breaker_write(hub->work.gate.breakers, writer, HOSTS_SHOWN, now);
    else
        nh_writer_map(writer, 0);
    nh_writer_cstring(writer, "lanes");
    if (hub->work.gate.lanes)
        nh_lanes_write(hub->work.gate.lanes, writer, HOSTS_SHOWN, now);
    else
        nh_writer_map(writer, 0);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return doc;
}

char *nh_hub_metrics(nh_hub *hub, size_t *length) {
    nh_queue_figures queue;
    nh_pool_figures pool;
    gates figures = read_gates(hub);
    nh_store_stats journal = {0};
    nh_queue_read(hub->work.queue, &queue);
    nh_pool_read(hub->pool, &pool);
    if (hub->journal.store)
        nh_hub_journal_stats(hub, &journal);
    const nh_gauges gauges = {.in_flight = pool.in_flight,
                              .queue_low = queue.ready[NH_LOW],
                              .queue_normal = queue.ready[NH_NORMAL],
                              .queue_high = queue.ready[NH_HIGH],
                              .queue_urgent = queue.ready[NH_URGENT],
                              .queue_scheduled = queue.scheduled,
                              .queue_bytes = queue.bytes,
                              .workers = pool.workers,
                              .breakers_open = figures.breakers.open,
                              .breakers_half_open = figures.breakers.half_open,
                              .breaker_opened = figures.breakers.opened,
                              .breaker_refused = figures.breakers.refused,
                              .limiter_waiting = figures.limiter.waiting,
                              .limiter_delayed = figures.limiter.delayed,
                              .limiter_pauses = figures.limiter.pauses,
                              .lane_held = figures.lanes.held,
                              .lane_waiting = figures.lanes.waiting,
                              .lane_backoffs = figures.lanes.backoffs,
                              .http_direct = atomic_load(&hub->work.counts.http_direct),
                              .http_multi = atomic_load(&hub->work.counts.http_multi),
                              .http_opened = atomic_load(&hub->work.counts.http_opened),
                              .journal_depth = journal.depth,
                              .journal_bytes = journal.bytes,
                              .journal_oldest = (uint64_t)age_of(journal.oldest),
                              .journal_dead = journal.dead,
                              .journal_commits = journal.commits,
                              .journal_refused = journal.refused,
                              .journal_trouble = journal.broken    ? 2
                                                 : journal.trouble ? 1
                                                                   : 0};
    return nh_metrics_text(hub->metrics, &gauges, length);
}
