/* http_direct.h — a request over a connection of the pool, in our own HTTP/1.1: the hot path.
 */
#ifndef NH_TRANSPORTS_HTTP_DIRECT_H
#define NH_TRANSPORTS_HTTP_DIRECT_H

#include "platforms/transports/http.h"

typedef struct nh_http_direct nh_http_direct;

nh_http_direct *nh_http_direct_create(nh_http *http); /* NULL when out of memory */
/* No transfer is under way. NULL is allowed. */
void nh_http_direct_destroy(nh_http_direct *direct);

/* Starts the transfer, whose plan is for this way; its end may come before this returns. */
void nh_http_direct_start(nh_http_direct *direct, nh_transfer *transfer, const nh_http_plan *plan);

#endif
