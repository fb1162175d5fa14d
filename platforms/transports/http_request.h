/* http_request.h — a request document of the http transport, read and checked.
 */
#ifndef NH_TRANSPORTS_HTTP_REQUEST_H
#define NH_TRANSPORTS_HTTP_REQUEST_H

#include "platforms/transports/fields.h"

/* Spans and values are borrowed from the document; the body of a bodied one is each transfer's. */
typedef struct nh_http_request {
    nh_span url, method, body, user, password, bearer, ca_file, client_cert, client_key, proxy;
    const nh_value *headers, *form, *multipart, *guard_allow;
    double timeout, connect_timeout; /* 0: not named */
    bool verify, http2, guard;
} nh_http_request;

/* Errors: NH_E_INVALID naming the field. */
nh_err nh_http_request_read(const nh_request *asked, nh_http_request *request, nh_error *error);

/* Headers that somebody has to know. */
typedef enum nh_http_name {
    NH_HTTP_OTHER,
    NH_HTTP_ACCEPT,
    NH_HTTP_AUTHORIZATION,
    NH_HTTP_CONTENT_TYPE,
    NH_HTTP_EXPECT,
    NH_HTTP_HOST,
    NH_HTTP_USER_AGENT,
    NH_HTTP_HOP, /* about the connection, not the request: Connection, TE, Upgrade … */
} nh_http_name;

/* The header of this index, checked. Errors: NH_E_INVALID naming it. */
nh_err nh_http_request_header(const nh_http_request *request, size_t index, nh_pair *pair,
                              nh_http_name *name, nh_error *error);

/* Whether it has a body, be it empty; a multipart form is none. */
bool nh_http_request_has_body(const nh_http_request *request);
/* The body of a transfer: bytes NULL when there is none. `form` takes an encoded one. Errors:
 * NH_E_INVALID naming the form's field, NH_E_INTERNAL. */
nh_err nh_http_request_body(const nh_http_request *request, const nh_transfer *transfer,
                            nh_text *form, nh_span *body, nh_error *error);
/* What a request is that names no method. */
const char *nh_http_request_method(const nh_http_request *request);

#endif
