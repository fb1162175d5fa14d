/* receive.h — what the parts of `notifyhub receive` know of each other.
 *
 * receive.c owns the loop, the counts and the verdict; receive_http.c and receive_smtp.c turn what
 * comes over a socket into an arrival and carry the verdict back; receive_view.c prints. All of it
 * runs in the one thread of the command.
 */
#ifndef NH_CLI_RECEIVE_H
#define NH_CLI_RECEIVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct receiver receiver;

/* A descriptor in the receiver's loop. */
typedef struct receiver_source receiver_source;
struct receiver_source {
    void (*ready)(receiver_source *source, uint32_t events); /* EPOLLIN, EPOLLOUT, … */
    int fd;
};

/* An answer that is held back. All are held for the same time, so they fall due in order. */
typedef struct receiver_wait receiver_wait;
struct receiver_wait {
    void (*due)(receiver_wait *wait);
    uint64_t at; /* nanoseconds of CLOCK_MONOTONIC; 0 while not waiting */
    receiver_wait *next, *prev;
};

typedef struct receiver_settings {
    const char *address;
    int64_t http_port, smtp_port; /* -1: not asked for; 0: any that is free */
    bool json, count;
    double delay;        /* seconds before an answer */
    int64_t status;      /* what HTTP answers, 0: by the path */
    const char *body;    /* what HTTP answers, NULL: by the path and the status */
    int64_t fail;        /* this many answers at first are failures */
    double fail_rate;    /* and this share of the rest */
    int64_t retry_after; /* seconds, -1: no such header */
    int64_t limit;       /* arrivals after which to end, 0: none */
    int64_t max_body;    /* bytes of one body or mail */
} receiver_settings;

/* What arrived. The strings and values are borrowed; those of the other protocol are NULL. */
typedef struct arrival {
    double time;     /* seconds since the epoch */
    unsigned status; /* what is answered: of HTTP or SMTP */
    /* http */
    const char *method;
    const char *target; /* as in the request line */
    const char *path;   /* decoded, without the query */
    json_t *query, *headers;
    /* mail */
    const char *from;
    json_t *recipients; /* a list of strings */
    /* both: the HTTP body or the whole mail */
    const char *bytes;
    size_t length;
} arrival;

const receiver_settings *receiver_get_settings(const receiver *owner);
/* Whether an arrival's headers and body are looked at; if not, they need not be kept. */
bool receiver_shows(const receiver *owner);

/* Whether the limit is reached: what still comes is turned away, neither counted nor shown. */
bool receiver_full(const receiver *owner);

/* Counts an arrival and decides its fate: true = take it, false = fail it. */
bool receiver_judge(receiver *owner, const char *path);
/* Prints an arrival that has been judged. */
void receiver_show(receiver *owner, const arrival *arrived);
/* The answer to an arrival is on its way, or its client is gone. */
void receiver_answered(receiver *owner);

/* Adds, changes and removes a descriptor. False when the kernel refuses. */
bool receiver_watch(receiver *owner, receiver_source *source, uint32_t events);
void receiver_rewatch(receiver *owner, receiver_source *source, uint32_t events);
void receiver_unwatch(receiver *owner, receiver_source *source);

/* Calls wait->due after the delay of the settings; at once, before it returns, when that is 0. */
void receiver_delay(receiver *owner, receiver_wait *wait);
void receiver_undelay(receiver *owner, receiver_wait *wait);

/* What /stats answers: owned by the caller, freed with free. NULL when out of memory. */
char *receiver_stats(const receiver *owner);

/* The two servers. `fd` is a listening socket, taken. NULL when out of memory. */
typedef struct http_sink http_sink;
http_sink *http_sink_open(receiver *owner, int fd, bool ipv6);
/* Runs what is due and returns the milliseconds until it wants to run again, -1: not before its
 * descriptor is ready. */
int http_sink_turn(http_sink *sink);
void http_sink_close(http_sink *sink);

typedef struct smtp_sink smtp_sink;
smtp_sink *smtp_sink_open(receiver *owner, int fd);
int smtp_sink_turn(smtp_sink *sink);        /* as http_sink_turn */
bool smtp_sink_idle(const smtp_sink *sink); /* no client is connected */
void smtp_sink_close(smtp_sink *sink);

void receive_view_json(const arrival *arrived);
void receive_view_text(const arrival *arrived);

#endif
