/* transport.h — what a protocol must offer to the workers (http, smtp, console …), and what it gets
 * from them.
 *
 * Each worker opens its own instance of a transport the first time a message needs it; everything
 * in an instance runs in that worker's thread and must never block. A request is a document that an
 * adapter built (its fields are the transport's own, described at the top of its file), and maybe a
 * body beside it; a response is a document that the adapter judges.
 *
 * Most messages of an account are one request with another body. So a request is made once,
 * whatever is sent with it: then nh_request_check refuses control characters in every string except
 * payloads (the one choke point against header and command injection), so a transport need not look
 * for them again, and what a transport reads out of it stays with it.
 */
#ifndef NH_WORK_TRANSPORT_H
#define NH_WORK_TRANSPORT_H

#include <stdatomic.h>

#include "runtime/notifyhub.h"
#include "runtime/work/loop.h"

typedef struct nh_transport
    nh_transport; /* one worker's instance; each protocol defines its own body */

/* Where a request goes, as far as the gate before it wants to know. */
typedef struct nh_place {
    const char *host; /* with its port; borrowed from the document */
    size_t length;    /* 0: no gate for this one */
    bool mail;        /* its answer's status is a mail server's */
} nh_place;

/* What is asked, by one transfer or by many. Immutable, but for what its transport reads out of it.
 * Thread: the worker's that made it. */
typedef struct nh_request {
    nh_doc *doc;
    bool bodied; /* each transfer brings a body of its own, and the document has none */
    /* The transport's: what it has read out of the document, of no instance of it, and how that is
     * freed. NULL: nothing yet. */
    void *read;
    void (*forget)(void *read);

    /* The worker's. */
    nh_place place;
    int transport; /* whose it is */
    uint32_t refs;
} nh_request;

/* One request under way. The worker owns it; the transport keeps what it needs in `state`. */
typedef struct nh_transfer nh_transfer;
struct nh_transfer {
    /* Takes response, which may be NULL when `status` is set, and else when there is no memory. */
    void (*done)(nh_transfer *transfer, nh_doc *response);
    void *state;         /* the transport's; NULL when not started */
    nh_request *request; /* until done or cancel, as the body is */
    const char *body;    /* of a bodied request; else NULL */
    size_t body_length;
    /* Over a connection of its own, for the last one it had did not hold, and those that are kept
     * to the same server may not either. */
    bool fresh;
    /* Of a success nothing but its status is wanted: a transport may set `status` then, and make no
     * response. */
    bool brief;
    int status;
};

/* Which way the requests of all workers' instances went: figures, of no consequence. */
typedef struct nh_transport_counts {
    _Atomic uint64_t http_direct; /* over a connection of the http transport's own pool */
    _Atomic uint64_t http_multi;  /* through libcurl's multi interface */
    _Atomic uint64_t http_opened; /* connections of the pool */
} nh_transport_counts;

typedef struct nh_transport_limits {
    size_t response_bytes; /* most of a response body that is kept; the rest is an error (default 64
                              KiB) */
    size_t header_bytes;   /* most of the response's header (default 64 KiB) */
    double connect_timeout; /* seconds, when the request names none (default 5) */
    double timeout; /* seconds for the whole transfer, when the request names none (default 30) */
    size_t connections;          /* most connections kept open by an instance (default 1024) */
    bool http_multi;             /* no http request goes over the transport's own pool */
    nh_transport_counts *counts; /* shared; NULL: nobody asks */
} nh_transport_limits;

typedef struct nh_transport_ops {
    const char *name; /* as an adapter's `transport` names it */

    /* Thread: the worker's, for all of these. */
    nh_err (*open)(nh_loop *loop, const nh_transport_limits *limits, nh_transport **out,
                   nh_error *error);

    /* Starts a transfer, all but its state set. Calls transfer->done exactly once, during the call
     * or later. A failure is a response as well: {error = code name, message = text, retryable =
     * bool, sent = bool}, `sent` telling whether the remote side may have acted on the request. */
    void (*start)(nh_transport *transport, nh_transfer *transfer);

    /* Stops a request that was started and is not done: afterwards nothing of it is sent and done
     * is not called. */
    void (*cancel)(nh_transport *transport, nh_transfer *transfer);

    /* Closes the instance; no transfer is under way. */
    void (*close)(nh_transport *transport);
} nh_transport_ops;

/* A response that tells a failure of the transport itself. Takes nothing; NULL only when out of
 * memory. */
nh_doc *nh_response_error(nh_err code, bool sent, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes a request, checked, of a document (taken, whatever happens), for one reference. `bodied`:
 * each transfer brings a body. Errors: those of nh_request_check, NH_E_INTERNAL. */
nh_request *nh_request_create(nh_doc *doc, bool bodied, nh_error *error);
void nh_request_unref(nh_request *request); /* NULL is allowed */

/* Refuses a request in which a string outside of the payloads holds a byte below 0x20 or 0x7F,
 * names the field, and never prints its content. Payloads are strings under the keys body, content,
 * text, html, and all under form; inside headers there are none. Errors: NH_E_INVALID. */
nh_err nh_request_check(const nh_value *request, nh_error *error);

#endif
