/* dial.h — a TCP connection to an address, for what needs nothing of libcurl: no name to be
 * resolved, no proxy, no TLS.
 *
 * Embedded in its user's structure; start → done, or stop. Everything runs in the worker's thread;
 * nothing blocks.
 */
#ifndef NH_TRANSPORTS_DIAL_H
#define NH_TRANSPORTS_DIAL_H

#include <netinet/in.h>

#include "runtime/work/loop.h"

typedef struct nh_dial nh_dial;
struct nh_dial {
    /* 0: the connection stands, and is watched no more. Else errno; ETIMEDOUT when its time is
     * over.
     */
    void (*done)(nh_dial *dial, int fault);
    int fd; /* closed by nh_dial_stop, whoever reads and writes it meanwhile */

    /* The dial's own. */
    nh_loop *loop;
    nh_watch watch;
    nh_timer timer;
};

/* Begins to connect. Returns 0, or errno: then `done` is not called. To be stopped in any case. */
int nh_dial_start(nh_dial *dial, nh_loop *loop, const struct sockaddr_in *address, double seconds);
/* Closes it, in any state; no-op for zeroed memory. */
void nh_dial_stop(nh_dial *dial);

#endif
