/* http_plan.h — what the http transport reads out of a request, once, whatever is sent with it.
 */
#ifndef NH_TRANSPORTS_HTTP_PLAN_H
#define NH_TRANSPORTS_HTTP_PLAN_H

#include "platforms/transports/http.h"
#include "platforms/transports/http_url.h"

struct nh_http_plan {
    nh_http_request request;
    bool direct; /* our own HTTP/1.1 can carry it; the rest is for that */
    nh_http_url url;
    nh_span head;   /* see nh_http_write_head */
    nh_span origin; /* see nh_http_origin_name */
    uint32_t hash;  /* of that */
};

/* The plan of a request, made when it has none, which stays with it. NULL and an error:
 * NH_E_INVALID naming the field, NH_E_INTERNAL. */
const nh_http_plan *nh_http_plan_of(nh_http *http, nh_request *request, nh_error *error);

#endif
