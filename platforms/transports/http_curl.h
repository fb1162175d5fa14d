/* http_curl.h — a request through libcurl's multi interface: all that there is, at libcurl's price.
 */
#ifndef NH_TRANSPORTS_HTTP_CURL_H
#define NH_TRANSPORTS_HTTP_CURL_H

#include "platforms/transports/http.h"

typedef struct nh_http_curl nh_http_curl; /* what its exchanges share */

nh_http_curl *nh_http_curl_create(nh_http *http); /* NULL when out of memory */
void nh_http_curl_destroy(nh_http_curl *curl);    /* NULL is allowed; no transfer is under way */
/* Starts the transfer. Its end may come before this returns. */
void nh_http_curl_start(nh_http_curl *curl, nh_transfer *transfer, const nh_http_plan *plan);

#endif
