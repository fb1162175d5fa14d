/* hub_parts.h — what the files of a hub share: its structure, and what each has of the others. */
#ifndef NH_HUB_PARTS_H
#define NH_HUB_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/core/handle.h"
#include "runtime/core/log.h"
#include "runtime/core/metrics.h"
#include "runtime/core/news.h"
#include "runtime/hub.h"
#include "runtime/hubs.h"
#include "runtime/work/health.h"
#include "runtime/work/pool.h"

enum { NH_HUB_STATUSES = NH_EXPIRED + 1 };

struct nh_hub {
    nh_owner owner; /* first: handles know only this */
    nh_hubs_place place;
    atomic_uint users;
    atomic_uint memory;
    uint64_t opened;      /* monotonic ns */
    size_t message_bytes; /* most of one message */
    nh_work work;
    nh_pool *pool;
    nh_log *log;
    nh_news *news;
    nh_health *health;
    nh_metrics *metrics;
    size_t capacity;

    _Atomic uint64_t accepted;
    _Atomic uint64_t settled[NH_HUB_STATUSES];
    _Atomic size_t pending; /* accepted and not settled */
    atomic_bool closing;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* pending fell to 0 while closing, or the hub is closed */
    bool closed;
};

bool nh_hub_forked(const nh_hub *hub);
/* Errors: NH_E_CLOSED. */
nh_err nh_hub_refuse_closed(const nh_hub *hub, nh_error *error);
/* Makes the log and the news. Errors: NH_E_INTERNAL. */
nh_err nh_hub_open_log(nh_hub *hub, const nh_doc *config, nh_error *error);
/* Tells a breaker's change to both. */
void nh_hub_breaker_changed(void *hub, const nh_breaker_change *change);
/* Tells the log of a message that ended without a task. */
void nh_hub_tell_ended(nh_hub *hub, const nh_handle *handle, nh_err reason);
/* `count` messages are no longer pending; the last one ends the wait of a close. */
void nh_hub_leave(nh_hub *hub, size_t count);

#endif
