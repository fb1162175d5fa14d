/* http_reply.h — a response of HTTP/1.1 as it arrives: bytes in, status, header and body out.
 *
 *     nh_http_reply_init(&reply, 65536, 65536);
 *     nh_http_reply_clear(&reply, false);
 *     do verdict = nh_http_reply_put(&reply, bytes, length, &used); while (verdict ==
 * NH_HTTP_MORE); … the peer closed: verdict = nh_http_reply_end(&reply);
 *     nh_http_reply_term(&reply);
 *
 * The bytes may be cut anywhere. It knows nothing of sockets or libcurl.
 */
#ifndef NH_TRANSPORTS_HTTP_REPLY_H
#define NH_TRANSPORTS_HTTP_REPLY_H

#include <stdint.h>

#include "platforms/transports/http_header.h"

typedef enum nh_http_verdict {
    NH_HTTP_MORE,   /* it is not whole yet */
    NH_HTTP_DONE,   /* it is whole */
    NH_HTTP_BROKEN, /* it cannot be read: see fault, header.too_large and body.over */
} nh_http_verdict;

typedef struct nh_http_reply {
    int status;
    nh_http_header header;
    nh_text body;
    const char *fault; /* what is wrong with it, in words; static */
    bool memory;       /* broken: only for want of it */
    bool keep;         /* done: the connection may carry another request */
    bool brief;        /* set once it is cleared: the header of a success is not kept */

    /* Its own. */
    nh_text line; /* the beginning of one whose end has not come */
    int state;
    int64_t left; /* bytes of the body, or of its chunk, that are to come; -1: until the end */
    bool bodiless, old, chunked, close, alive, doubtful, any;
} nh_http_reply;

/* The caps are of all header bytes, interim responses and chunks' lines included, and of the body.
 */
void nh_http_reply_init(nh_http_reply *reply, size_t header_most, size_t body_most);
void nh_http_reply_term(nh_http_reply *reply);
/* Readies it for the next response; small buffers are kept. `bodiless`: to a HEAD request. */
void nh_http_reply_clear(nh_http_reply *reply, bool bodiless);
bool nh_http_is_success(int status);

/* Takes what has come and says how much of it belongs to this response (all, unless it is done). */
nh_http_verdict nh_http_reply_put(nh_http_reply *reply, const char *bytes, size_t length,
                                  size_t *used);
/* The peer has closed: done, when that is how this response ends. */
nh_http_verdict nh_http_reply_end(nh_http_reply *reply);

#endif
