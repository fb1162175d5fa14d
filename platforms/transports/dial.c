/* Connects without blocking. Thread: the worker's. Costs a handful of system calls, and nothing
 * that grows with the number of connections; libcurl takes some ten thousand instructions and
 * kilobytes of memory for the same.
 */
#include "platforms/transports/dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_ready(nh_watch *watch, unsigned events) {
    (void)events;
    nh_dial *dial = (nh_dial *)(void *)((char *)watch - offsetof(nh_dial, watch));
    int fault = 0;
    socklen_t size = sizeof fault;
    if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &fault, &size) != 0)
        fault = errno;
    nh_watch_stop(dial->loop, &dial->watch);
    nh_timer_stop(dial->loop, &dial->timer);
    dial->done(dial, fault);
}

static void on_timeout(nh_timer *timer) {
    nh_dial *dial = (nh_dial *)(void *)((char *)timer - offsetof(nh_dial, timer));
    nh_watch_stop(dial->loop, &dial->watch);
    dial->done(dial, ETIMEDOUT);
}

int nh_dial_start(nh_dial *dial, nh_loop *loop, const struct sockaddr_in *address, double seconds) {
    int on = 1;
    dial->loop = loop;
    dial->watch = (nh_watch){.ready = on_ready, .fd = -1};
    dial->timer = (nh_timer){.fire = on_timeout};
    dial->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (dial->fd < 0)
        return errno;
    setsockopt(dial->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* One that stands at once is told by the loop, too. */
    if (connect(dial->fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
        errno != EINPROGRESS)
        return errno;
    return nh_watch_start(loop, &dial->watch, dial->fd, NH_WRITABLE) == NH_OK &&
                   nh_timer_start(loop, &dial->timer, seconds) == NH_OK
               ? 0
               : ENOMEM;
}

void nh_dial_stop(nh_dial *dial) {
    if (!dial->loop)
        return;
    nh_watch_stop(dial->loop, &dial->watch);
    nh_timer_stop(dial->loop, &dial->timer);
    if (dial->fd >= 0)
        close(dial->fd);
    dial->fd = -1;
    dial->loop = NULL;
}
