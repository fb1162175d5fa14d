/* Sockets and timeouts of libcurl on a worker's loop. Thread: the worker's. Its callbacks only
 * write down and arm, they never call libcurl; the loop's events go back through
 * curl_multi_socket_action, and after each such action the finished transfers are taken out.
 *
 * Sockets stay in epoll for their life: libcurl stops asking about a connection after each response
 * and asks again at the next request, which would be two system calls a message. A socket that is
 * not asked about stays armed for reading until an event comes that nobody wants (the peer closed
 * an idle connection). Only sockets that were opened through open_socket are kept so, because only
 * for these libcurl tells the close; its resolver's own pairs come and go at once. And for these it
 * tells it only once the connection stands: one that fails before is closed without a word, and its
 * number may be another thread's the next moment. So a slot lists what was opened for it, and where
 * its transfer ends, all that cannot be a standing connection is forgotten (forget_failed).
 *
 * A CURLM whose callback fails is dead for ever, so these never do: what could not be armed is
 * noted, and a deferred call (multi.c, on_mend) ends the job that would wait in vain.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platforms/transports/multi_parts.h"

enum { SOCKETS_LEAST = 64 };

typedef struct nh_multi_socket {
    nh_watch watch; /* first: the loop hands back its address */
    curl_socket_t fd;
    nh_multi *multi;
    nh_multi_shard *shard; /* whose connection it is */
    CURL *easy;            /* who uses it; NULL while idle. Compared, never called */
    unsigned wanted;       /* what libcurl asks for; may be less than watch.events */
    bool kept;             /* opened by open_socket and not closed */
    nh_multi_slot *opener; /* whose list it is in; NULL once its connection stands */
    struct nh_multi_socket *sibling;
} nh_multi_socket;

static nh_multi_shard *of_timer(nh_timer *timer) {
    return (nh_multi_shard *)(void *)((char *)timer - offsetof(nh_multi_shard, timer));
}

static void on_ready(nh_watch *watch, unsigned events);

static nh_multi_socket *socket_record(nh_multi *multi, curl_socket_t fd) {
    size_t index = (size_t)fd;
    if (index >= multi->sockets_size) {
        size_t size = multi->sockets_size ? multi->sockets_size : SOCKETS_LEAST;
        while (size <= index)
            size *= 2;
        nh_multi_socket **sockets = realloc(multi->sockets, size * sizeof(*sockets));
        if (!sockets)
            return NULL;
        memset(sockets + multi->sockets_size, 0, (size - multi->sockets_size) * sizeof(*sockets));
        multi->sockets = sockets;
        multi->sockets_size = size;
    }
    if (!multi->sockets[index]) {
        nh_multi_socket *socket = calloc(1, sizeof *socket);
        if (!socket)
            return NULL;
        *socket =
            (nh_multi_socket){.watch = {.ready = on_ready, .fd = -1}, .fd = fd, .multi = multi};
        multi->sockets[index] = socket;
    }
    return multi->sockets[index];
}

/* Makes what epoll reports at least what is wanted. Reading may stay armed unasked. */
static nh_err arm(nh_multi_socket *socket, curl_socket_t fd) {
    nh_loop *loop = socket->multi->loop;
    if (socket->watch.fd < 0)
        return socket->wanted ? nh_watch_start(loop, &socket->watch, fd, socket->wanted) : NH_OK;
    if ((socket->watch.events & ~(unsigned)NH_READABLE) == (socket->wanted & NH_WRITABLE) &&
        (socket->wanted & ~socket->watch.events) == 0)
        return NH_OK;
    return nh_watch_change(loop, &socket->watch, socket->wanted);
}

/* Nobody will tell this job that its socket is ready. */
static void leave_unwatched(nh_multi *multi, const CURL *easy) {
    for (nh_multi_job *job = multi->running; job; job = job->next)
        if (job->slot->easy == easy)
            job->slot->unwatched = true;
    nh_loop_defer(multi->loop, &multi->mend);
}

static void disarm(nh_multi_socket *socket) {
    nh_watch_stop(socket->multi->loop, &socket->watch);
    socket->wanted = 0;
    socket->easy = NULL;
}

static void leave_opener(nh_multi_socket *socket) {
    nh_multi_socket **at = socket->opener ? &socket->opener->opened : NULL;
    while (at && *at != socket)
        at = &(*at)->sibling;
    if (at)
        *at = socket->sibling;
    socket->opener = NULL;
    socket->sibling = NULL;
}

/* Its descriptor is closed, and the number perhaps another's. */
static void forget(nh_multi_socket *socket) {
    leave_opener(socket);
    nh_watch_forget(socket->multi->loop, &socket->watch);
    socket->wanted = 0;
    socket->easy = NULL;
    socket->kept = false;
}

/* Of the sockets that were opened for a transfer, keeps that of a connection that `stands`. */
static void forget_failed(nh_multi_slot *slot, bool stands) {
    curl_socket_t active = CURL_SOCKET_BAD;
    if (slot->opened && stands)
        curl_easy_getinfo(slot->easy, CURLINFO_ACTIVESOCKET, &active);
    while (slot->opened) {
        nh_multi_socket *socket = slot->opened;
        leave_opener(socket);
        if (!stands || (socket->fd != active && socket->easy != slot->easy))
            forget(socket);
    }
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *unused) {
    (void)unused;
    nh_multi_shard *shard = user;
    nh_multi_socket *socket = socket_record(shard->multi, fd);
    if (!socket) {
        leave_unwatched(shard->multi, easy);
        return 0;
    }
    socket->shard = shard;
    if (what == CURL_POLL_REMOVE) {
        socket->wanted = 0;
        socket->easy = NULL;
        if (!socket->kept)
            disarm(socket);
        return 0;
    }
    socket->wanted =
        (what & CURL_POLL_IN ? NH_READABLE : 0u) | (what & CURL_POLL_OUT ? NH_WRITABLE : 0u);
    socket->easy = easy;
    if (arm(socket, fd))
        leave_unwatched(shard->multi, easy);
    return 0;
}

bool nh_multi_socket_passes(nh_multi_job *job, const char *refused) {
    if (refused && !job->slot->refused)
        job->slot->refused = refused;
    return !refused;
}

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    nh_multi_job *job = user;
    if (!nh_multi_socket_passes(job,
                                job->guard ? nh_guard_refuses(job->guard, &address->addr) : NULL))
        return CURL_SOCKET_BAD;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    nh_multi_socket *record = socket_record(job->multi, fd);
    if (!record) {
        close(fd);
        return CURL_SOCKET_BAD;
    }
    forget(record); /* another that had this number */
    record->kept = true;
    record->opener = job->slot;
    record->sibling = job->slot->opened;
    job->slot->opened = record;
    return fd;
}

/* Before a request goes, over a connection that may have been opened by one without this guard. */
static int check_connection(void *user, char *address, char *local, int port, int local_port) {
    (void)local, (void)local_port;
    nh_multi_job *job = user;
    return nh_multi_socket_passes(job, nh_guard_refuses_text(job->guard, address, port))
               ? CURL_PREREQFUNC_OK
               : CURL_PREREQFUNC_ABORT;
}

static int close_socket(void *user, curl_socket_t fd) {
    nh_multi *multi = user;
    if ((size_t)fd < multi->sockets_size && multi->sockets[fd]) {
        leave_opener(multi->sockets[fd]);
        disarm(multi->sockets[fd]);
        multi->sockets[fd]->kept = false;
    }
    return close(fd);
}

static void on_ready(nh_watch *watch, unsigned events) {
    nh_multi_socket *socket = (nh_multi_socket *)watch;
    nh_multi *multi = socket->multi;
    curl_socket_t fd = watch->fd;

    if (socket->wanted == 0) { /* an idle connection: libcurl looks at it before it reuses it */
        disarm(socket);
        return;
    }
    /* A hang-up is for libcurl to find out by reading: told as an error it would lose the reply
     * that may still be there. */
    if (events & NH_HANGUP)
        events |= socket->wanted;
    if (events & (NH_READABLE | NH_WRITABLE) & ~socket->wanted)
        nh_watch_change(multi->loop, watch, socket->wanted);
    events &= socket->wanted;
    if (!events)
        return;
    int mask = (events & NH_READABLE ? CURL_CSELECT_IN : 0) |
               (events & NH_WRITABLE ? CURL_CSELECT_OUT : 0);
    int running;
    curl_multi_socket_action(socket->shard->curl, fd, mask, &running);
    nh_multi_drain(socket->shard);
}

void nh_multi_hang_up(const nh_multi_job *job) {
    const nh_multi *multi = job->multi;
    for (size_t fd = 0; fd < multi->sockets_size; fd++) {
        const nh_multi_socket *socket = multi->sockets[fd];
        if (socket && socket->kept && socket->easy == job->slot->easy)
            shutdown((int)fd, SHUT_RD);
    }
}

/* ---------------------------------------------------------------- timeout */

static int on_timer(CURLM *curl, long ms, void *user) {
    (void)curl;
    nh_multi_shard *shard = user;
    nh_loop *loop = shard->multi->loop;
    if (ms < 0) {
        nh_timer_stop(loop, &shard->timer);
        return 0;
    }
    if (nh_timer_start(loop, &shard->timer, (double)ms / 1e3)) {
        shard->untimed = true;
        nh_loop_defer(loop, &shard->multi->mend);
    }
    return 0;
}

static void on_timeout(nh_timer *timer) {
    nh_multi_shard *shard = of_timer(timer);
    int running;
    curl_multi_socket_action(shard->curl, CURL_SOCKET_TIMEOUT, 0, &running);
    nh_multi_drain(shard);
}

/* -------------------------------------------------------- for the other files */

void nh_multi_socket_serve(nh_multi_shard *shard) {
    shard->timer.fire = on_timeout;
    curl_multi_setopt(shard->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(shard->curl, CURLMOPT_SOCKETDATA, shard);
    curl_multi_setopt(shard->curl, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(shard->curl, CURLMOPT_TIMERDATA, shard);
}

void nh_multi_socket_set(nh_multi_job *job, CURL *easy) {
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, job);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, job->multi);
    if (!job->guard)
        return;
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, check_connection);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, job);
}

void nh_multi_socket_leave(nh_multi_slot *slot) {
    curl_off_t requested = 0; /* microseconds until the request: 0 when it did not come so far */
    if (!slot->opened)
        return;
    curl_easy_getinfo(slot->easy, CURLINFO_PRETRANSFER_TIME_T, &requested);
    forget_failed(slot, requested > 0);
}

void nh_multi_socket_hand_over(nh_multi_slot *slot, curl_socket_t fd) {
    nh_multi *multi = slot->shard->multi;
    forget_failed(slot, true);
    if ((size_t)fd < multi->sockets_size && multi->sockets[fd])
        disarm(multi->sockets[fd]);
}

void nh_multi_socket_end_input(nh_multi *multi) {
    for (size_t fd = 0; fd < multi->sockets_size; fd++)
        if (multi->sockets[fd] && multi->sockets[fd]->kept)
            shutdown((int)fd, SHUT_RD);
}

void nh_multi_socket_free(nh_multi *multi) {
    for (size_t fd = 0; fd < multi->sockets_size; fd++) {
        if (multi->sockets[fd]) {
            forget(multi->sockets[fd]); /* libcurl has closed it, or never told */
            free(multi->sockets[fd]);
        }
    }
    free(multi->sockets);
}
