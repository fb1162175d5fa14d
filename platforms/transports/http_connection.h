/* http_connection.h — one connection of the pool: opened by libcurl (resolved, through a proxy,
 * with TLS) or dialled, then read and written by us.
 *
 * It is made for an exchange and carries one at a time. http_pool.h has those that wait and those
 * that rest; http_direct.c lets them work.
 */
#ifndef NH_TRANSPORTS_HTTP_CONNECTION_H
#define NH_TRANSPORTS_HTTP_CONNECTION_H

#include <sys/types.h>

#include "platforms/transports/http.h"

typedef struct nh_http_origin nh_http_origin;
typedef struct nh_http_connection nh_http_connection;

/* A transfer while it has a connection, or waits for one. */
typedef struct nh_http_exchange {
    nh_http_transfer base; /* first; base.transfer NULL: none */
    uint64_t started, due; /* in the loop's time */
    bool patient;          /* it names its timeout: silence alone does not end it */
    bool bodiless;         /* to a HEAD request */
    bool writing;          /* something is left to be written */
    bool sent;             /* the peer may have some of it */
    size_t written;        /* of what is left */
    nh_span body;          /* what goes behind the connection's `out`; borrowed from the request */
    nh_http_reply *reply;  /* NULL until the first byte */
} nh_http_exchange;

struct nh_http_connection {
    nh_multi_job job; /* its libcurl handle, and its place among the connections */
    nh_watch watch;   /* for reading, all its life */
    nh_deferred turn; /* to write its request, after all that the worker has to do now */
    nh_timer timer;   /* never later than what it must not miss; may fire for nothing */
    nh_http_origin *origin;
    struct nh_http_direct *direct; /* whose it is */
    CURL *easy;                    /* NULL until it stands */
    bool tls;                      /* what is read and written has to go through libcurl */
    bool tied;                     /* libcurl knows that it is in use */
    bool used;                     /* it has carried a request */
    bool idle;                     /* the pool has it */
    uint64_t since;                /* the last byte; while idle: since when */
    nh_text out;                   /* what is left to be written, before the exchange's body */
    nh_http_exchange exchange;
    nh_http_connection *next, *prev;   /* in its origin's list of those that wait, or are idle */
    nh_http_connection *newer, *older; /* among all that are idle */
};

/* Bytes written or read; 0 of a read: the peer has closed. -1: `code` is CURLE_AGAIN, or says what
 * broke, with words for nh_multi_broken. What could not be written has to be tried again from the
 * same place. */
ssize_t nh_http_connection_send(nh_http_connection *own, const char *bytes, size_t length,
                                CURLcode *code);
ssize_t nh_http_connection_recv(nh_http_connection *own, char *bytes, size_t size, CURLcode *code);

/* Whether an idle one is still open and nothing has come that nobody asked for. */
bool nh_http_connection_rests(nh_http_connection *own);

#endif
