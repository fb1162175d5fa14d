/* metrics.h — counters of a hub, and their text for Prometheus.
 */
#ifndef NH_CORE_METRICS_H
#define NH_CORE_METRICS_H

#include "runtime/notifyhub.h"

#define NH_METRICS_PLATFORMS 64 /* a further platform is counted as "other" */

/* What is read from others at the moment of writing: name, Prometheus type, its one label, help.
 * Lines of one name stand together. */
#define NH_GAUGES(X)                                                                               \
    X(in_flight, "in_flight", "gauge", "", "messages that workers have under way")                 \
    X(queue_low, "queue_messages", "gauge", "priority=\"low\"", "messages that wait for a worker") \
    X(queue_normal, "queue_messages", "gauge", "priority=\"normal\"", "")                          \
    X(queue_high, "queue_messages", "gauge", "priority=\"high\"", "")                              \
    X(queue_urgent, "queue_messages", "gauge", "priority=\"urgent\"", "")                          \
    X(queue_scheduled, "queue_scheduled", "gauge", "", "messages that wait for their deliver_at")  \
    X(queue_bytes, "queue_bytes", "gauge", "", "bytes of all messages that wait")                  \
    X(workers, "workers", "gauge", "", "worker threads")                                           \
    X(breakers_open, "breakers", "gauge", "state=\"open\"", "hosts whose breaker is not closed")   \
    X(breakers_half_open, "breakers", "gauge", "state=\"half-open\"", "")                          \
    X(breaker_opened, "breaker_opened_total", "counter", "", "times that a breaker opened")        \
    X(breaker_refused, "breaker_refused_total", "counter", "", "calls that a breaker refused")     \
    X(limiter_waiting, "limiter_waiting", "gauge", "", "attempts that wait for their rate limit")  \
    X(limiter_delayed, "limiter_delayed_total", "counter", "", "attempts that a limit put off")    \
    X(limiter_pauses, "limiter_pauses_total", "counter", "", "pauses that platforms asked for")    \
    X(lane_held, "lane_held", "gauge", "", "slots of lanes that are in use")                       \
    X(lane_waiting, "lane_waiting", "gauge", "", "attempts that wait for a slot of their lane")    \
    X(lane_backoffs, "lane_backoffs_total", "counter", "", "times that a lane's limit was halved") \
    X(http_direct, "http_requests_total", "counter", "path=\"direct\"", "HTTP requests by path")   \
    X(http_multi, "http_requests_total", "counter", "path=\"multi\"", "")                          \
    X(http_opened, "http_opened_total", "counter", "", "connections of the direct path")           \
    X(journal_depth, "journal_messages", "gauge", "", "messages in the journal")                   \
    X(journal_bytes, "journal_bytes", "gauge", "", "bytes that the journal uses")                  \
    X(journal_oldest, "journal_oldest_seconds", "gauge", "", "age of the oldest of them")          \
    X(journal_dead, "journal_dead_letters", "gauge", "", "dead letters")                           \
    X(journal_commits, "journal_commits_total", "counter", "", "group commits")                    \
    X(journal_refused, "journal_refused_total", "counter", "",                                     \
      "messages that the journal could not take")                                                  \
    X(journal_trouble, "journal_trouble", "gauge", "",                                             \
      "1 while the journal cannot be written, 2 when it has to be opened anew")

typedef struct nh_gauges {
#define NH_X(field, name, type, label, help) uint64_t field;
    NH_GAUGES(NH_X)
#undef NH_X
} nh_gauges;

typedef struct nh_metrics nh_metrics;

nh_metrics *nh_metrics_create(void);          /* NULL when out of memory */
void nh_metrics_destroy(nh_metrics *metrics); /* NULL is allowed */

/* Thread: any, for all of these. Blocks: never. */
void nh_metrics_accepted(nh_metrics *metrics, size_t messages);
void nh_metrics_settled(nh_metrics *metrics, nh_status status);
/* One attempt at a platform, how it ended (NH_OK: well) and how long it took. */
void nh_metrics_attempt(nh_metrics *metrics, const char *platform, size_t length, nh_err code,
                        double seconds);
void nh_metrics_retry(nh_metrics *metrics, const char *platform, size_t length);

/* All of it in the text format of Prometheus (version 0.0.4), to be freed with nh_free; `length`
 * may be NULL. NULL only when out of memory. */
char *nh_metrics_text(const nh_metrics *metrics, const nh_gauges *gauges, size_t *length);

#endif
