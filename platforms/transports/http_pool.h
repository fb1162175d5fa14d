/* http_pool.h — the connections of one instance, by origin: what makes two of them interchangeable.
 */
#ifndef NH_TRANSPORTS_HTTP_POOL_H
#define NH_TRANSPORTS_HTTP_POOL_H

#include "platforms/transports/http_connection.h"
#include "platforms/transports/http_plan.h"

typedef struct nh_http_pool nh_http_pool;

nh_http_pool *nh_http_pool_create(nh_http *http); /* NULL when out of memory */
/* Closes those that are idle; there are no others. NULL is allowed. */
void nh_http_pool_destroy(nh_http_pool *pool);

/* Replaces `out` by all that tells a request's connections from others. False when out of memory.
 */
bool nh_http_origin_name(nh_text *out, const nh_http_request *request, const nh_http_url *url);
/* The origin of a request, made when it is new; to be left with nh_http_pool_leave. It stays while
 * it has connections, too. NULL and an error: NH_E_INVALID (its guard), NH_E_INTERNAL. */
nh_http_origin *nh_http_pool_origin(nh_http_pool *pool, const nh_http_plan *plan, nh_error *error);
void nh_http_pool_leave(nh_http_pool *pool, nh_http_origin *origin);
/* The guard of all its connections, or NULL; borrowed. A number that few origins share. */
const nh_guard *nh_http_origin_guard(const nh_http_origin *origin);
/* Where its connections go, when that takes neither a name, nor a proxy, nor TLS; else NULL.
 * Borrowed. */
const struct sockaddr_in *nh_http_origin_address(const nh_http_origin *origin);
uint32_t nh_http_origin_hash(const nh_http_origin *origin);

/* An idle connection of the origin that rests, the last used first; NULL when there is none. */
nh_http_connection *nh_http_pool_take(nh_http_pool *pool, nh_http_origin *origin);
/* A new one, not open yet, in the origin's line of those that wait for a place. NULL when out of
 * memory. */
nh_http_connection *nh_http_pool_add(nh_http_origin *origin);
/* It has got its place. No-op for one that is not in the line. */
void nh_http_pool_started(nh_http_connection *connection);

/* A connection that has nothing to do takes the exchange that waits longest for its origin; false
 * when there is none, or when somebody else has waited for a place for too long. */
bool nh_http_pool_relieve(nh_http_pool *pool, nh_http_connection *connection);
/* It is idle from now on; or closed, when others wait for its place. */
void nh_http_pool_put(nh_http_pool *pool, nh_http_connection *connection);
/* Closes and frees it, whatever its state; the exchange is not ended. */
void nh_http_pool_close(nh_http_pool *pool, nh_http_connection *connection);

#endif
