/* http_write.h — the head of a request of HTTP/1.1.
 */
#ifndef NH_TRANSPORTS_HTTP_WRITE_H
#define NH_TRANSPORTS_HTTP_WRITE_H

#include "platforms/transports/http.h"
#include "platforms/transports/http_url.h"

typedef enum nh_http_head {
    NH_HTTP_WRITTEN,
    NH_HTTP_UNSUITED, /* it has a header that changes what is spoken: libcurl knows how */
    NH_HTTP_REFUSED,  /* see the error */
} nh_http_head;

/* Replaces `out` by the request line and the headers, the same that libcurl would send, but for
 * what nh_http_write_body adds. Errors: NH_E_INVALID naming the header, NH_E_INTERNAL. */
nh_http_head nh_http_write_head(nh_http *http, const nh_http_request *request,
                                const nh_http_url *url, nh_text *out, nh_error *error);
/* Appends the body's length and the empty line, and the body where it goes in one piece with them.
 */
void nh_http_write_body(nh_text *out, nh_span body, bool together);

#endif
