/* multi.h — libcurl transfers, and plain connections, on a worker's loop: the transports' places.
 *
 * A job is one transfer, embedded in its user's structure. nh_multi_submit takes it; it ends by one
 * call of `finish`, or by nh_multi_cancel. Everything runs in the worker's thread; nothing blocks,
 * but for what libcurl itself reads from disk.
 */
#ifndef NH_TRANSPORTS_MULTI_H
#define NH_TRANSPORTS_MULTI_H

#include <netinet/in.h>

#include "platforms/transports/address.h"
#include "platforms/transports/curl.h"
#include "runtime/work/transport.h"

typedef struct nh_multi nh_multi;
typedef struct nh_multi_job nh_multi_job;
typedef struct nh_multi_slot nh_multi_slot; /* what a transfer has that is under way */

/* How a job ended. */
typedef struct nh_multi_end {
    bool started; /* else `error` tells why not */
    CURL *easy;   /* to ask for figures; NULL also for a dialled connection */
    CURLcode code;
    const char *detail; /* libcurl's own words, "" when it had none; see nh_multi_text */
    nh_error error;     /* NH_OK when it started */
    bool refused;       /* the guard refused where it was going; `detail` says why */
} nh_multi_end;

struct nh_multi_job {
    /* Sets the options of a clean handle. An error (written) ends the job without a transfer. */
    nh_err (*prepare)(nh_multi_job *job, CURL *easy, nh_error *error);
    /* Makes the response; the handle is still this job's. */
    nh_doc *(*respond)(nh_multi_job *job, const nh_multi_end *end);
    /* Takes the response. The handle is no longer the job's, whose memory may go. May submit. */
    void (*finish)(nh_multi_job *job, nh_doc *response);
    /* NULL: a transfer. Else the job is a connection: `prepare` sets CURLOPT_CONNECT_ONLY, and when
     * it stands this is called instead of the two above. The descriptor is the user's to watch,
     * read and write; handle and place stay the job's until nh_multi_cancel, which closes it. */
    void (*opened)(nh_multi_job *job, CURL *easy, int fd);
    /* NULL: libcurl finds out where to. Else, of a connection: it needs neither a proxy nor TLS,
     * and is opened without libcurl; `prepare` and `opened` get no handle. Borrowed until the end.
     */
    const struct sockaddr_in *address;
    double connect_timeout; /* seconds; set by `prepare`, of a connection with an address */
    double timeout;         /* seconds from submit to end, waiting for a place included */
    /* Its handle is not used again. For what reads HTTP headers: libcurl up to 7.88 remembers the
     * last header of the transfer before, which is freed, and writes to it when the first header
     * begins with a blank (fixed in 8.0). */
    bool once;
    uint32_t origin; /* jobs with the same number are likely to share connections */
    /* Set by `prepare`; NULL: any address. Borrowed until the end. */
    const nh_guard *guard;

    /* nh_multi's own. */
    nh_multi *multi;     /* NULL unless submitted */
    nh_multi_slot *slot; /* NULL while it waits */
    nh_multi_job *next, *prev;
    nh_timer timer; /* the timeout of a job that waits */
    uint64_t due;   /* when the timeout ends, in the loop's time */
    uint64_t since; /* when it was submitted */
};

/* Errors: NH_E_INTERNAL. The limits are copied. */
nh_err nh_multi_open(nh_loop *loop, const nh_transport_limits *limits, nh_multi **out,
                     nh_error *error);
/* No job is submitted any more. NULL is allowed. */
void nh_multi_close(nh_multi *multi);

/* Starts the job, or lets it wait for a place behind those that wait. `finish` may be called before
 * this returns. */
void nh_multi_submit(nh_multi *multi, nh_multi_job *job);
/* Has `give_up` called when a job finds no place: it may close a connection that nobody uses, and
 * says whether it did. NULL ends it. */
void nh_multi_on_full(nh_multi *multi, bool (*give_up)(void *user), void *user);
/* The job that has waited longest for a place; NULL when none waits. */
const nh_multi_job *nh_multi_first_waiting(const nh_multi *multi);
/* Whether a job submitted now starts at once; otherwise its `prepare` comes later. */
bool nh_multi_has_place(const nh_multi *multi);
/* Stops a job: `finish` will not be called. No-op for a job that is not submitted. */
void nh_multi_cancel(nh_multi_job *job);
bool nh_multi_idle(const nh_multi *multi); /* it may be closed now */

/* Lets the peer's half of the connections that this job uses end now, so that libcurl does not wait
 * for another reply there. May be called from libcurl's callbacks. */
void nh_multi_hang_up(const nh_multi_job *job);

/* How an open connection broke: words for it may be put where nh_multi_detail points
 * (CURL_ERROR_SIZE bytes), as libcurl does. */
nh_multi_end nh_multi_broken(const nh_multi_job *job, CURLcode code);
char *nh_multi_detail(const nh_multi_job *job);

/* The code of a libcurl failure, and words for it that never hold a URL, path, user or password. */
nh_err nh_multi_error(const nh_multi_end *end);
const char *nh_multi_text(const nh_multi_end *end);

#endif
