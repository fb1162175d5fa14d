/* Connections by origin: scheme, host, port, and every option that the connection was made with.
 * Thread: the worker's. Costs a comparison of keys and some links a request.
 *
 *     add ──(a place)──> started ──> open ──> put ──> idle ──> take ──> …
 *
 * A connection has a place among limits.connections from its start to its end, idle or not; the
 * places are nh_multi's, which also keeps those that wait for one in line, together with the
 * transfers of the other path. When one waits there, the connection that was idle longest gives up
 * its own. An origin's waiting exchanges are served by its connections as these become free; but
 * the first in the whole line gets the place when it has waited for PATIENCE.
 *
 * Idle connections are closed after IDLE_SECONDS, by one timer that looks at the oldest. What the
 * peer does to an idle one, the loop tells; a look at the socket before it is used again finds what
 * the loop has not told yet, unless the loop has only just looked.
 */
#include "platforms/transports/http_pool.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 256, IDLE_SECONDS = 60 };

static const uint64_t PATIENCE = 250000000; /* ns */
/* ns: what a peer has done since then is not looked for. It is less than a close is under way on
 * most networks, where no look could find it either. */
static const uint64_t SEEN = 100000;

struct nh_http_origin {
    nh_http_origin *next;             /* in its bucket */
    nh_http_connection *idle;         /* the last used first */
    nh_http_connection *first, *last; /* waiting for a place */
    nh_guard *guard;
    struct sockaddr_in address; /* where to connect, when nothing is to be resolved or encrypted */
    size_t users;               /* its connections, in any state, and who holds it */
    uint32_t hash;
    size_t length;
    char key[];
};

struct nh_http_pool {
    nh_http *http;
    nh_timer timer; /* looks at the oldest idle connection */
    nh_http_connection *newest, *oldest;
    nh_http_origin *buckets[BUCKETS];
};

/* ---------------------------------------------------------------- origins */

static void put_span(nh_text *key, nh_span span) {
    nh_text_put(key, span.bytes, span.length);
    nh_text_putc(key, span.bytes ? '\n' : '\0'); /* no string of a request holds these bytes */
}

bool nh_http_origin_name(nh_text *out, const nh_http_request *request, const nh_http_url *url) {
    char flags = (char)('0' + (url->tls | request->verify << 1 | request->guard << 2));
    nh_text_clear(out);
    nh_text_putc(out, flags);
    put_span(out, url->host);
    put_span(out, url->port);
    put_span(out, request->proxy);
    put_span(out, request->ca_file);
    put_span(out, request->client_cert);
    put_span(out, request->client_key);
    for (size_t i = 0; request->guard && i < nh_value_count(request->guard_allow); i++)
        put_span(out, nh_span_of(nh_value_at(request->guard_allow, i)));
    return !out->failed;
}

static bool is_origin(const nh_http_origin *origin, const nh_http_plan *plan) {
    return origin->hash == plan->hash && origin->length == plan->origin.length &&
           memcmp(origin->key, plan->origin.bytes, plan->origin.length) == 0;
}

/* Whether its connections are plain TCP. Files for TLS are libcurl's to complain about. */
static bool is_plain(const nh_http_request *request, const nh_http_url *url) {
    return !url->tls && !request->proxy.bytes && !request->ca_file.bytes &&
           !request->client_cert.bytes && !request->client_key.bytes;
}

static nh_http_origin *make_origin(nh_http_pool *pool, const nh_http_plan *plan, nh_error *error) {
    const nh_http_request *request = &plan->request;
    nh_http_origin *origin = calloc(1, sizeof *origin + plan->origin.length);
    if (!origin) {
        nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
        return NULL;
    }
    if (request->guard && nh_guard_create(request->guard_allow, request->proxy.length > 0,
                                          &origin->guard, error) != NH_OK) {
        free(origin);
        return NULL;
    }
    if (is_plain(request, &plan->url))
        nh_http_url_address(&plan->url, &origin->address);
    origin->hash = plan->hash;
    origin->length = plan->origin.length;
    memcpy(origin->key, plan->origin.bytes, plan->origin.length);
    origin->next = pool->buckets[plan->hash % BUCKETS];
    pool->buckets[plan->hash % BUCKETS] = origin;
    return origin;
}

void nh_http_pool_leave(nh_http_pool *pool, nh_http_origin *origin) {
    if (--origin->users > 0)
        return;
    nh_http_origin **at = &pool->buckets[origin->hash % BUCKETS];
    while (*at != origin)
        at = &(*at)->next;
    *at = origin->next;
    nh_guard_destroy(origin->guard);
    free(origin);
}

nh_http_origin *nh_http_pool_origin(nh_http_pool *pool, const nh_http_plan *plan, nh_error *error) {
    nh_http_origin *origin = pool->buckets[plan->hash % BUCKETS];
    while (origin && !is_origin(origin, plan))
        origin = origin->next;
    if (!origin)
        origin = make_origin(pool, plan, error);
    if (origin)
        origin->users++;
    return origin;
}

uint32_t nh_http_origin_hash(const nh_http_origin *origin) {
    return origin->hash;
}

const nh_guard *nh_http_origin_guard(const nh_http_origin *origin) {
    return origin->guard;
}

const struct sockaddr_in *nh_http_origin_address(const nh_http_origin *origin) {
    return origin->address.sin_family == AF_INET ? &origin->address : NULL;
}

/* --------------------------------------------------------------- the idle */

static void unlink_idle(nh_http_pool *pool, nh_http_connection *own) {
    *(own->prev ? &own->prev->next : &own->origin->idle) = own->next;
    if (own->next)
        own->next->prev = own->prev;
    *(own->newer ? &own->newer->older : &pool->newest) = own->older;
    *(own->older ? &own->older->newer : &pool->oldest) = own->newer;
    own->next = own->prev = own->newer = own->older = NULL;
    own->idle = false;
}

static void link_idle(nh_http_pool *pool, nh_http_connection *own) {
    own->idle = true;
    own->next = own->origin->idle;
    if (own->next)
        own->next->prev = own;
    own->origin->idle = own;
    own->older = pool->newest;
    *(own->older ? &own->older->newer : &pool->oldest) = own;
    pool->newest = own;
}

static void close_old(nh_timer *timer) {
    nh_http_pool *pool = (nh_http_pool *)(void *)((char *)timer - offsetof(nh_http_pool, timer));
    uint64_t now = nh_loop_now(pool->http->loop), most = (uint64_t)IDLE_SECONDS * 1000000000u;
    while (pool->oldest && now - pool->oldest->since >= most)
        nh_http_pool_close(pool, pool->oldest);
    if (pool->oldest)
        nh_timer_start(pool->http->loop, &pool->timer,
                       (double)(most - (now - pool->oldest->since)) / 1e9);
}

/* Asked by nh_multi when a job finds no place. */
static bool give_up_oldest(void *user) {
    nh_http_pool *pool = user;
    if (!pool->oldest)
        return false;
    nh_http_pool_close(pool, pool->oldest);
    return true;
}

nh_http_connection *nh_http_pool_take(nh_http_pool *pool, nh_http_origin *origin) {
    uint64_t now = nh_loop_now(pool->http->loop);
    bool seen = origin->idle && nh_loop_age(pool->http->loop) < SEEN;
    while (origin->idle) {
        nh_http_connection *own = origin->idle;
        /* One that has answered in this very turn needs no look. */
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a closed one is out of the list */
        if (seen || own->since == now || nh_http_connection_rests(own)) {
            unlink_idle(pool, own);
            return own;
        }
        nh_http_pool_close(pool, own);
    }
    return NULL;
}

void nh_http_pool_put(nh_http_pool *pool, nh_http_connection *own) {
    if (nh_multi_first_waiting(pool->http->multi)) {
        nh_http_pool_close(pool, own);
        return;
    }
    own->since = nh_loop_now(pool->http->loop);
    link_idle(pool, own);
    if (pool->timer.position == 0 &&
        nh_timer_start(pool->http->loop, &pool->timer, IDLE_SECONDS) != NH_OK)
        nh_http_pool_close(pool, own);
}

/* ---------------------------------------------------- those without a place */

nh_http_connection *nh_http_pool_add(nh_http_origin *origin) {
    nh_http_connection *own = calloc(1, sizeof *own);
    if (!own)
        return NULL;
    own->origin = origin;
    own->watch.fd = -1;
    nh_text_init(&own->out, SIZE_MAX);
    own->prev = origin->last;
    *(own->prev ? &own->prev->next : &origin->first) = own;
    origin->last = own;
    origin->users++;
    return own;
}

void nh_http_pool_started(nh_http_connection *own) {
    nh_http_origin *origin = own->origin;
    if (own->idle || (!own->prev && origin->first != own))
        return;
    *(own->prev ? &own->prev->next : &origin->first) = own->next;
    *(own->next ? &own->next->prev : &origin->last) = own->prev;
    own->next = own->prev = NULL;
}

bool nh_http_pool_relieve(nh_http_pool *pool, nh_http_connection *own) {
    nh_http_connection *waiting = own->origin->first;
    const nh_multi_job *first = nh_multi_first_waiting(pool->http->multi);
    if (!waiting || !first)
        return false;
    if (first != &waiting->job && nh_loop_now(pool->http->loop) - first->since > PATIENCE)
        return false;
    own->exchange = waiting->exchange;
    nh_http_pool_close(pool, waiting);
    return true;
}

void nh_http_pool_close(nh_http_pool *pool, nh_http_connection *own) {
    nh_http_origin *origin = own->origin;
    if (own->idle)
        unlink_idle(pool, own);
    nh_http_pool_started(own);
    nh_watch_stop(pool->http->loop, &own->watch); /* before its number is free */
    nh_timer_stop(pool->http->loop, &own->timer);
    nh_loop_undefer(&own->turn);
    nh_multi_cancel(&own->job);
    nh_text_term(&own->out);
    free(own);
    nh_http_pool_leave(pool, origin);
}

/* --------------------------------------------------------- open and close */

nh_http_pool *nh_http_pool_create(nh_http *http) {
    nh_http_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->http = http;
    pool->timer.fire = close_old;
    nh_multi_on_full(http->multi, give_up_oldest, pool);
    return pool;
}

void nh_http_pool_destroy(nh_http_pool *pool) {
    if (!pool)
        return;
    while (pool->oldest)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a closed one is out of the list */
        nh_http_pool_close(pool, pool->oldest);
    nh_multi_on_full(pool->http->multi, NULL, NULL);
    nh_timer_stop(pool->http->loop, &pool->timer);
    free(pool);
}
