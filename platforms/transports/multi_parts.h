/* multi_parts.h — the inside of nh_multi, for its own files: multi.c has the jobs and the CURLMs,
 * multi_socket.c what libcurl calls and what the loop calls for libcurl, multi_error.c the words.
 */
#ifndef NH_TRANSPORTS_MULTI_PARTS_H
#define NH_TRANSPORTS_MULTI_PARTS_H

#include "platforms/transports/dial.h"
#include "platforms/transports/multi.h"

enum { SHARDS_MOST = 64 };

/* One CURLM. */
typedef struct nh_multi_shard {
    nh_multi *multi;
    CURLM *curl;    /* NULL until needed */
    nh_timer timer; /* libcurl's one timeout */
    bool untimed;   /* it could not be armed */
    size_t running;
} nh_multi_shard;

struct nh_multi_slot {
    CURL *easy; /* NULL: the connection is a dialled one */
    nh_multi_shard *shard;
    nh_multi_slot *next; /* of the spare ones */
    nh_multi_job *job;   /* whose it is, when it is dialled; since when */
    uint64_t started;
    nh_dial dial;
    const char *refused;            /* the rule of the guard that an address broke */
    bool unwatched;                 /* one of its sockets could not be armed */
    struct nh_multi_socket *opened; /* by libcurl for it, for a connection that may not stand yet */
    char detail[CURL_ERROR_SIZE];
};

struct nh_multi {
    nh_loop *loop;
    nh_transport_limits limits;
    CURLSH *names; /* looked up once for all shards */
    nh_multi_shard shards[SHARDS_MOST];
    size_t shard_count;
    size_t shard_places; /* transfers, and connections kept, of each shard */
    nh_deferred pump;    /* starts those that wait */
    nh_deferred mend;    /* looks after what could not be armed */
    nh_multi_job *first; /* those that wait, oldest first */
    nh_multi_job *last;
    nh_multi_job *running; /* those that have a handle; no order */
    size_t running_count;
    unsigned inside;             /* loops over jobs under way, whose users may not close this now */
    bool (*give_up)(void *user); /* closes a connection that nobody uses */
    void *giver;
    nh_multi_slot *spare;
    size_t spare_count;
    struct nh_multi_socket **sockets; /* by descriptor; records live until close */
    size_t sockets_size;
};

/* multi_socket.c */

/* Has libcurl tell a shard which sockets and which timeout it cares about. */
void nh_multi_socket_serve(nh_multi_shard *shard);
/* Has the job's sockets opened and closed by us, and its guard asked. */
void nh_multi_socket_set(nh_multi_job *job, CURL *easy);
/* Whether the guard let an address pass; of several of a name the first that it refused is told. */
bool nh_multi_socket_passes(nh_multi_job *job, const char *refused);
/* The slot's connection is the user's: its socket is watched no more. */
void nh_multi_socket_hand_over(nh_multi_slot *slot, curl_socket_t fd);
/* A transfer ends, and libcurl still has its handle. */
void nh_multi_socket_leave(nh_multi_slot *slot);
void nh_multi_socket_end_input(nh_multi *multi); /* of all: they find the end of their streams */
void nh_multi_socket_free(nh_multi *multi);

/* multi.c: takes the finished transfers out of libcurl. */
void nh_multi_drain(nh_multi_shard *shard);

#endif
