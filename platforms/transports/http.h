/* http.h — what the two ways of the http transport have in common.
 */
#ifndef NH_TRANSPORTS_HTTP_H
#define NH_TRANSPORTS_HTTP_H

#include "platforms/transports/http_reply.h"
#include "platforms/transports/http_request.h"
#include "platforms/transports/multi.h"

/* One instance, a worker's. */
typedef struct nh_http {
    nh_loop *loop;
    nh_multi *multi;
    nh_transport_limits limits;
    nh_writer *writer; /* of responses */
    nh_text scratch;   /* one text at a time */
    nh_text head;      /* of the request that is being written */
    nh_text agent;     /* User-Agent */
} nh_http;

typedef struct nh_http_plan nh_http_plan;

/* A transfer under way: the beginning of what either way has for it. */
typedef struct nh_http_transfer nh_http_transfer;
struct nh_http_transfer {
    nh_http *http;
    nh_transfer *transfer;
    const nh_http_plan *plan;              /* of its request, which has it */
    void (*cancel)(nh_http_transfer *own); /* stops it and frees it */
};

/* The response of a reply that is whole; or NULL, and the transfer has its status. */
nh_doc *nh_http_answer(const nh_http_transfer *own, nh_http_reply *reply);
/* The response that tells a failure, as libcurl's end has it, or as the reply, which may be NULL.
 */
nh_doc *nh_http_failure(const nh_http_transfer *own, const nh_multi_end *end, bool sent,
                        const nh_http_reply *reply);
double nh_http_timeout(const nh_http *http, const nh_http_request *request); /* seconds */
double nh_http_connect_timeout(const nh_http *http, const nh_http_request *request);

/* Sets what the connection of a request is made with, from the URL to certificates. The guard is
 * the caller's. Errors: NH_E_INVALID naming the field. */
nh_err nh_http_set_connection(nh_http *http, const nh_http_request *request, CURL *easy,
                              nh_error *error);

#endif
