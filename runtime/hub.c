/* hub.c — the composition root: opens, wires and closes all the rest.
 *
 * Opening goes engine → queue → pool; closing goes the other way, after the messages. Two counts
 * keep a hub: `users` are the program's references, the last of which closes it; `memory` also
 * counts calls that came through a handle and are still under way. The hub accepts until
 * nh_hub_close; from then on the queue refuses, and everything accepted before is settled before
 * the close returns. Any thread may call anything here.
 */
#include "runtime/hub_parts.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "platforms/transports/transports.h"
#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/fork.h"
#include "runtime/hubs.h"
#include "runtime/work/engine_load.h"

enum { SETTLE_AT_ONCE = 256 };

const char *nh_version(void) {
    return NH_VERSION;
}

/* ---------------------------------------------------------------- for handles */

static nh_hub *hub_of(nh_owner *owner) {
    return (nh_hub *)((char *)owner - offsetof(nh_hub, owner));
}

static void hold(nh_owner *owner) {
    atomic_fetch_add_explicit(&hub_of(owner)->memory, 1, memory_order_relaxed);
}

static void drop(nh_owner *owner) {
    nh_hub *hub = hub_of(owner);
    if (atomic_fetch_sub_explicit(&hub->memory, 1, memory_order_acq_rel) != 1)
        return;
    nh_pool_destroy(hub->pool);
    nh_hub_journal_destroy(hub);
    nh_recent_destroy(hub->recent);
    nh_queue_destroy(hub->work.queue);
    if (hub->work.engine)
        hub->work.ops->close(hub->work.engine);
    nh_limiter_destroy(hub->work.limiter);
    nh_lanes_destroy(hub->work.gate.lanes);
    nh_breaker_destroy(hub->work.gate.breakers);
    nh_health_destroy(hub->health);
    nh_metrics_destroy(hub->metrics);
    nh_pages_unref(hub->pages);
    nh_log_destroy(hub->log);
    nh_news_destroy(hub->news);
    pthread_cond_destroy(&hub->changed);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

static void cancel(nh_owner *owner, nh_handle *handle) {
    nh_hub *hub = hub_of(owner);
    if (nh_queue_remove(hub->work.queue, handle) || nh_hub_journal_cancel(hub, handle)) {
        nh_handle_settle(handle, NULL, NH_E_CANCELLED);
        return;
    }
    nh_worker *worker = atomic_load_explicit(&handle->worker, memory_order_relaxed);
    if (worker)
        nh_worker_cancel(worker, handle);
}

void nh_hub_leave(nh_hub *hub, size_t count) {
    if (atomic_fetch_sub_explicit(&hub->pending, count, memory_order_seq_cst) != count ||
        !atomic_load_explicit(&hub->closing, memory_order_seq_cst))
        return;
    pthread_mutex_lock(&hub->lock);
    pthread_cond_broadcast(&hub->changed);
    pthread_mutex_unlock(&hub->lock);
}

static void count(nh_owner *owner, nh_handle *handle, nh_status status) {
    if (atomic_load_explicit(&handle->aside, memory_order_relaxed))
        return;
    atomic_fetch_add_explicit(&hub_of(owner)->settled[status], 1, memory_order_relaxed);
    nh_metrics_settled(hub_of(owner)->metrics, status);
}

static void settled(nh_owner *owner, nh_handle *handle, nh_err reason) {
    nh_hub *hub = hub_of(owner);
    if (atomic_load_explicit(&handle->aside, memory_order_relaxed))
        return;
    if (reason != NH_OK)
        nh_hub_tell_ended(hub, handle, reason);
    if (handle->row)
        nh_hub_journal_settled(hub, handle);
    nh_hub_leave(hub, 1);
}

static void forget(nh_owner *owner, nh_handle *handle) {
    nh_parked_forget(hub_of(owner)->journal.parked, handle);
}

/* nh_work's callback: a close waits for callbacks, too. */
static void linger(nh_work *work, int change) {
    nh_hub *hub = (nh_hub *)((char *)work - offsetof(nh_hub, work));
    if (change > 0)
        atomic_fetch_add_explicit(&hub->pending, 1, memory_order_seq_cst);
    else
        nh_hub_leave(hub, 1);
}

/* The engine's callback. */
static void published(void *context) {
    nh_pool_renew(context);
}

/* ------------------------------------------------------------------ opening */

static size_t option(const nh_doc *config, const char *group, const char *name, size_t otherwise) {
    const nh_value *value = nh_value_get(nh_value_get(nh_doc_root(config), group), name);
    int64_t number = nh_value_int(value, (int64_t)otherwise);
    return number > 0 ? (size_t)number : otherwise;
}

static double seconds_option(const nh_doc *config, const char *group, const char *name,
                             double otherwise) {
    return nh_value_real(nh_value_get(nh_value_get(nh_doc_root(config), group), name), otherwise);
}

/* Every connection is a descriptor: what the process may open is shared out, with some left for the
 * program. */
static size_t connections_for(size_t wanted, size_t workers) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return wanted;
    size_t spare = (size_t)limit.rlim_cur > 256 ? (size_t)limit.rlim_cur - 128 : 128;
    size_t share = spare / workers > 8 ? spare / workers : 8;
    return share < wanted ? share : wanted;
}

static nh_pool_options pool_options(const nh_doc *config) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t cores = processors < 1                 ? 1
                   : processors > NH_WORKERS_MOST ? NH_WORKERS_MOST
                                                  : (size_t)processors;
    nh_pool_options options = {.idle = seconds_option(config, "workers", "idle", 10)};
    options.min = option(config, "workers", "min", 1);
    options.max = option(config, "workers", "max", options.min > cores ? options.min : cores);
    options.start = option(config, "workers", "start", options.min);
    return options;
}

static nh_transport_limits transport_limits(const nh_doc *config, size_t workers) {
    const nh_value *http = nh_value_get(nh_value_get(nh_doc_root(config), "transport"), "http");
    size_t connections = option(config, "transport", "connections", 1024);
    return (nh_transport_limits){
        .response_bytes = option(config, "transport", "response_bytes", 64 << 10),
        .header_bytes = option(config, "transport", "header_bytes", 64 << 10),
        .connect_timeout = seconds_option(config, "transport", "connect_timeout", 5),
        .timeout = seconds_option(config, "transport", "timeout", 30),
        .connections = connections_for(connections, workers),
        .http_multi = nh_value_is(http, "multi"),
    };
}

/* Rates, lanes and breakers, each of which the configuration may turn off. */
static nh_err open_gate(nh_hub *hub, const nh_doc *config, nh_error *error) {
    const nh_value *lanes = nh_value_get(nh_doc_root(config), "lanes");
    const nh_value *breaker = nh_value_get(nh_doc_root(config), "breaker");
    double patience = seconds_option(config, "breaker", "wait", 60);
    const nh_lane_options options = {.patience = nh_after(0, patience),
                                     .start = (unsigned)option(config, "lanes", "start", 0),
                                     .most = (unsigned)option(config, "lanes", "most", 0),
                                     .total = (unsigned)option(config, "lanes", "total", 0)};
    hub->work.limiter = nh_limiter_create(0);
    if (!hub->work.limiter)
        return nh_fail_memory(error);
    if (nh_value_kind(nh_value_get(lanes, "enabled")) == NH_NIL ||
        nh_value_bool(nh_value_get(lanes, "enabled"))) {
        hub->work.gate.lanes = nh_lanes_create(options, 0, error);
        if (!hub->work.gate.lanes)
            return NH_E_CONFIG;
    }
    if (nh_value_kind(nh_value_get(breaker, "enabled")) == NH_NIL ||
        nh_value_bool(nh_value_get(breaker, "enabled"))) {
        hub->work.gate.breakers = nh_breaker_create(0, nh_monotonic(), nh_hub_breaker_changed, hub);
        if (!hub->work.gate.breakers)
            return nh_fail_memory(error);
    }
    return NH_OK;
}

static nh_err check_workers(const nh_pool_options *options, nh_error *error) {
    if (options->min <= options->start && options->start <= options->max &&
        options->max <= NH_WORKERS_MOST)
        return NH_OK;
    return nh_fail(error, NH_E_CONFIG,
                   "workers: needs min <= start <= max <= %d, has %zu, %zu, %zu", NH_WORKERS_MOST,
                   options->min, options->start, options->max);
}

nh_hub *nh_hub_open_with(const nh_doc *config, const nh_engine_ops *engine,
                         const nh_transport_ops *const *transports, nh_error *error) {
    nh_hub *hub = calloc(1, sizeof *hub);
    if (!hub || pthread_mutex_init(&hub->lock, NULL) != 0) {
        free(hub);
        nh_fail_memory(error);
        return NULL;
    }
    nh_cond_init(&hub->changed);
    hub->owner = (nh_owner){.fork_generation = nh_fork_generation(),
                            .hold = hold,
                            .drop = drop,
                            .cancel = cancel,
                            .forget = forget,
                            .count = count,
                            .settled = settled};
    atomic_init(&hub->users, 1);
    atomic_init(&hub->memory, 1);
    hub->opened = nh_monotonic();
    hub->work.ops = engine;
    hub->work.transports = transports;
    hub->work.linger = linger;
    if (nh_hub_open_log(hub, config, error) != NH_OK)
        goto fail;
    hub->work.log = hub->log;
    if (open_gate(hub, config, error) != NH_OK)
        goto fail;
    hub->work.health = hub->health = nh_health_create(0);
    hub->work.metrics = hub->metrics = nh_metrics_create();
    hub->pages = nh_pages_create();
    if (!hub->health || !hub->metrics || !hub->pages) {
        nh_fail_memory(error);
        goto fail;
    }
    if (engine->open(config, hub->log, &hub->work.engine, error) != NH_OK) {
        hub->work.engine = NULL;
        goto fail;
    }
    const nh_doc *whole = engine->config(hub->work.engine);
    nh_pool_options options = pool_options(whole);
    if (check_workers(&options, error) != NH_OK)
        goto fail;
    hub->work.limits = transport_limits(whole, options.max);
    hub->work.limits.counts = &hub->work.counts;
    hub->work.in_flight = option(whole, "workers", "in_flight", 2048);
    hub->work.sleepers = option(whole, "limits", "sleepers", 100000);
    hub->work.drain = seconds_option(whole, "reload", "drain", 3600);
    hub->message_bytes = option(whole, "queue", "message_bytes", 32 << 20);
    hub->capacity = option(whole, "queue", "capacity", 100000);
    hub->bytes = option(whole, "queue", "bytes", 256 << 20);
    /* With a journal none are held: they would fill the window before those on the disk. */
    const nh_value *queue = nh_value_get(nh_doc_root(whole), "queue");
    bool durable = nh_value_kind(nh_value_get(queue, "journal")) != NH_NIL;
    hub->work.queue =
        nh_queue_create(hub->capacity, hub->bytes, durable ? 0 : hub->capacity / 2, error);
    if (!hub->work.queue)
        goto fail;
    if (nh_hub_recent_open(hub, whole, error) != NH_OK ||
        nh_hub_journal_open(hub, whole, error) != NH_OK || nh_hub_values_open(hub, error) != NH_OK)
        goto fail;
    hub->pool = nh_pool_create(&hub->work, &options, error);
    if (!hub->pool)
        goto fail;
    nh_hub_journal_start(hub);
    engine->subscribe(hub->work.engine, published, hub->pool);
    nh_hubs_enter(&hub->place, &hub->owner);
    return hub;
fail:
    drop(&hub->owner);
    return NULL;
}

nh_hub *nh_hub_open(const nh_doc *config, nh_error *error) {
    const nh_engine_ops *engine = nh_engine_load(error);
    return engine ? nh_hub_open_with(config, engine, nh_transports, error) : NULL;
}

nh_doc *nh_config_load(const char *path, nh_error *error) {
    const nh_engine_ops *engine = nh_engine_load(error);
    return engine ? engine->load_config(path, error) : NULL;
}

nh_err nh_hub_reload(nh_hub *hub, nh_error *error) {
    nh_err failed = nh_hub_refuse_closed(hub, error);
    return failed ? failed : hub->work.ops->reload(hub->work.engine, error);
}

nh_doc *nh_hub_platforms(nh_hub *hub, nh_error *error) {
    return hub->work.ops->platforms(hub->work.engine, error);
}

/* ------------------------------------------------------------------ closing */

bool nh_hub_forked(const nh_hub *hub) {
    return hub->owner.fork_generation != nh_fork_generation();
}

nh_err nh_hub_refuse_closed(const nh_hub *hub, nh_error *error) {
    if (nh_hub_forked(hub))
        return nh_fail(error, NH_E_CLOSED,
                       "the hub belongs to the process that this one was forked from");
    if (atomic_load_explicit(&hub->closing, memory_order_acquire))
        return nh_fail(error, NH_E_CLOSED, "the hub is closed");
    return NH_OK;
}

/* Settles as closed what waits in the queue beyond `horizon` (0: all). */
static size_t settle_queued(nh_hub *hub, uint64_t horizon) {
    nh_handle *handles[SETTLE_AT_ONCE];
    size_t count, total = 0;
    while ((count = nh_queue_drain(hub->work.queue, horizon, handles, SETTLE_AT_ONCE)) > 0) {
        for (size_t i = 0; i < count; i++)
            if (handles[i]->row)
                nh_hub_journal_keep(handles[i]);
            else
                nh_handle_settle(handles[i], NULL, NH_E_CLOSED);
        total += count;
    }
    return total;
}

/* From now on nothing is accepted. False: somebody has said so before, and closes it. */
static bool stop_accepting(nh_hub *hub) {
    pthread_mutex_lock(&hub->lock); /* who waits for `closed` looks at `closing` under it */
    bool first = !atomic_exchange_explicit(&hub->closing, true, memory_order_seq_cst);
    pthread_mutex_unlock(&hub->lock);
    if (first)
        nh_queue_close(hub->work.queue);
    return first;
}

/* The rest of a close, for whom stop_accepting told that it was the first. */
static size_t finish(nh_hub *hub, uint64_t due) {
    size_t left = due == UINT64_MAX ? 0 : settle_queued(hub, due);
    bool late = false;
    pthread_mutex_lock(&hub->lock);
    while ((atomic_load_explicit(&hub->pending, memory_order_seq_cst) > 0 ||
            nh_hub_journal_busy(hub)) &&
           !late)
        late = nh_cond_wait(&hub->changed, &hub->lock, due) == ETIMEDOUT;
    pthread_mutex_unlock(&hub->lock);
    nh_hub_journal_stop(hub);
    left += settle_queued(hub, 0);
    hub->work.ops->subscribe(hub->work.engine, NULL, NULL);
    left += nh_pool_stop(hub->pool);
    left += nh_hub_journal_close(hub);
    left += settle_queued(hub, 0); /* what the journal wrote last */
    nh_recent_clear(hub->recent);

    pthread_mutex_lock(&hub->lock);
    hub->closed = true;
    pthread_cond_broadcast(&hub->changed);
    pthread_mutex_unlock(&hub->lock);
    return left;
}

/* While somebody else closes it. */
static void wait_until_closed(nh_hub *hub, uint64_t due) {
    bool late = false;
    pthread_mutex_lock(&hub->lock);
    while (!hub->closed && !late)
        late = nh_cond_wait(&hub->changed, &hub->lock, due) == ETIMEDOUT;
    pthread_mutex_unlock(&hub->lock);
}

size_t nh_hub_close(nh_hub *hub, double seconds) {
    if (nh_hub_forked(hub))
        return 0;
    uint64_t due = nh_after(nh_monotonic(), seconds);
    if (stop_accepting(hub))
        return finish(hub, due);
    wait_until_closed(hub, UINT64_MAX);
    return 0;
}

nh_hub *nh_hub_ref(nh_hub *hub) {
    atomic_fetch_add_explicit(&hub->users, 1, memory_order_relaxed);
    return hub;
}

void nh_hub_unref(nh_hub *hub) {
    if (!hub || atomic_fetch_sub_explicit(&hub->users, 1, memory_order_acq_rel) != 1)
        return;
    if (nh_hub_forked(hub))
        return; /* its threads are not here; its memory is the parent's picture */
    nh_hub_close(hub, 0);
    nh_hubs_leave(&hub->place);
    drop(&hub->owner);
}

/* --------------------------------------------------- all hubs of the process */

size_t nh_hubs_close(double seconds) {
    uint64_t due = nh_after(nh_monotonic(), seconds);
    size_t count, left = 0;
    nh_owner **owners = nh_hubs_all(&count);
    bool *mine = calloc(count + 1, sizeof *mine);
    for (size_t i = 0; mine && i < count; i++) /* all of them, before any is waited for */
        mine[i] = stop_accepting(hub_of(owners[i]));
    for (size_t i = 0; i < count; i++) {
        nh_hub *hub = hub_of(owners[i]);
        if (mine ? mine[i] : stop_accepting(hub))
            left += finish(hub, due);
        else
            wait_until_closed(hub, due);
        drop(owners[i]);
    }
    free(mine);
    free(owners);
    return left;
}

size_t nh_hubs_reload(void (*failed)(const nh_error *error, void *user), void *user) {
    size_t count, loaded = 0;
    nh_owner **owners = nh_hubs_all(&count);
    for (size_t i = 0; i < count; i++) {
        nh_error error;
        if (nh_hub_reload(hub_of(owners[i]), &error) == NH_OK)
            loaded++;
        else if (error.code != NH_E_CLOSED)
            failed(&error, user);
        drop(owners[i]);
    }
    free(owners);
    return loaded;
}
