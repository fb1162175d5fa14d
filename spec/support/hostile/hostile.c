/* hostile.c — an HTTP server on loopback that does what no server should, as its paths say, for the
 * programs of spec/flow; and the ledger of what reached it.
 *
 *   hostile LEDGER DIRECTORY
 *
 * It prints one line `listening http=PORT http2=PORT … http10=PORT mute=PORT full=PORT good=PORT
 * expired=PORT name=PORT self=PORT` and ends when its stdin, a pipe, does. The first ten are alike,
 * so that there can be ten hosts. mute accepts and says nothing; full has a
 * queue of connections that is full, so that a connect gets no answer; the last four speak TLS with
 * a certificate that is good (for who trusts DIRECTORY/ca.pem), expired, for another name, and
 * signed by itself.
 *
 * Paths; whatever follows is for the reader of the ledger:
 *
 *   /ok  /slow/SECONDS
 *   /fail/STATUS/TIMES/KIND/VALUE   that status to the first TIMES requests of an id, 200 after
 *                                   that; KIND says when to come again: after (a Retry-After as it
 *                                   stands), date (one in so many seconds), discord, telegram (in
 *                                   the body), none
 *   /flaky/STATUS/EACH              that status to each so manyth request
 *   /failed/PLATFORM                200, and a body that says it has failed
 *   /half/reset|close|hang          half an answer, and then
 *   /reset  /stall                  no answer at all
 *   /drip/header|body               a byte a second
 *   /endless/body|unsized|chunks|chunk-extension|header|continue|status
 *   /headers  /garbage              100,000 headers; noise
 *   /end/after|reset|second         ends of a connection that was to be kept
 *   /redirect/HOST:PORT             302 to there
 *
 * An id is what stands between the first two `~` of a body. The ledger has a line for each request,
 * when its answer is known: `SECONDS <TAB> PATH <TAB> ID <TAB> ATTEMPT <TAB> STATUS`, and for each
 * connection that ended while it was being fed `SECONDS end PATH BYTES 0`. It is flushed when
 * nothing comes for 20 ms, and at the end.
 *
 * One thread and an epoll; besides one for each TLS port.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "spec/support/hostile/hostile.h"

enum { FDS = 65536, EVENTS = 256, BACKLOG = 4096, IDLE_MS = 20, HOSTS = 10 };

typedef struct connection {
    int fd; /* -1: there is none */
    bool mute;
    unsigned nth; /* requests so far */
    char *in;
    size_t in_length, in_size;
    answer out; /* bytes NULL: none is under way */
    size_t sent;
    uint64_t total; /* bytes of this answer */
    double due;     /* of the next byte; 0: none waits */
    bool writes;    /* epoll is asked for EPOLLOUT */
    char path[PATH_MOST];
} connection;

typedef struct timer {
    double due;
    int fd;
} timer;

typedef struct seen { /* how often an id came to a path */
    uint64_t hash;    /* 0: free */
    unsigned count;
} seen;

static struct {
    int epoll, http[HOSTS], mute;
    FILE *ledger;
    connection *all[FDS];
    timer *heap;
    size_t timers, timers_size;
    seen *ids;
    size_t ids_used, ids_size; /* a power of two */
} sink;

void hostile_fail(const char *what) {
    fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
    exit(1);
}

double hostile_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now); /* that of /proc/uptime */
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int hostile_listen(int backlog, int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        hostile_fail("listen");
    *port = ntohs(address.sin_port);
    return fd;
}

/* ------------------------------------------------------------------ the ids */

static uint64_t hash_of(const char *path, const char *id) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *at = path; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    for (const char *at = id; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    return hash ? hash : 1;
}

static seen *find(uint64_t hash) {
    size_t at = (size_t)hash & (sink.ids_size - 1);
    while (sink.ids[at].hash && sink.ids[at].hash != hash)
        at = (at + 1) & (sink.ids_size - 1);
    return &sink.ids[at];
}

static void grow_ids(void) {
    seen *before = sink.ids;
    size_t size = sink.ids_size;
    sink.ids_size = size ? size * 2 : 1 << 16;
    sink.ids = calloc(sink.ids_size, sizeof *sink.ids);
    if (!sink.ids)
        hostile_fail("out of memory");
    for (size_t i = 0; i < size; i++)
        if (before[i].hash)
            *find(before[i].hash) = before[i];
    free(before);
}

/* The number of this request among those of its id for this path. */
static unsigned count_attempt(const char *path, const char *id) {
    if (sink.ids_used * 2 >= sink.ids_size)
        grow_ids();
    uint64_t hash = hash_of(path, id);
    seen *entry = find(hash);
    sink.ids_used += entry->hash == 0;
    entry->hash = hash;
    return ++entry->count;
}

/* ------------------------------------------------------------------- timers */

static void add_timer(double due, int fd) {
    if (sink.timers == sink.timers_size) {
        sink.timers_size = sink.timers_size ? sink.timers_size * 2 : 1024;
        sink.heap = realloc(sink.heap, sink.timers_size * sizeof *sink.heap);
        if (!sink.heap)
            hostile_fail("out of memory");
    }
    size_t at = sink.timers++;
    for (; at > 0 && sink.heap[(at - 1) / 2].due > due; at = (at - 1) / 2)
        sink.heap[at] = sink.heap[(at - 1) / 2];
    sink.heap[at] = (timer){due, fd};
}

static timer take_timer(void) {
    timer first = sink.heap[0], last = sink.heap[--sink.timers];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < sink.timers; at = child) {
        child += child + 1 < sink.timers && sink.heap[child + 1].due < sink.heap[child].due;
        if (sink.heap[child].due >= last.due)
            break;
        sink.heap[at] = sink.heap[child];
    }
    sink.heap[at] = last;
    return first;
}

static void wait_for(connection *peer, double seconds) {
    peer->due = hostile_now() + seconds;
    add_timer(peer->due, peer->fd);
}

/* -------------------------------------------------------------- connections */

static void watch(connection *peer, bool writes) {
    struct epoll_event event = {.events = writes ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.fd = peer->fd};
    if (peer->writes != writes)
        epoll_ctl(sink.epoll, EPOLL_CTL_MOD, peer->fd, &event);
    peer->writes = writes;
}

static void end(connection *peer, bool reset) {
    if (peer->out.bytes && (peer->out.then == THEN_REPEAT || peer->out.then == THEN_DRIP))
        fprintf(sink.ledger, "%.6f\tend\t%s\t%llu\t0\n", hostile_now(), peer->path,
                (unsigned long long)peer->total);
    if (reset)
        setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(peer->fd);
    sink.all[peer->fd] = NULL;
    free(peer->out.bytes);
    free(peer->in);
    free(peer);
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        connection *peer = fd < FDS ? calloc(1, sizeof *peer) : NULL;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (!peer) {
            close(fd);
            continue;
        }
        peer->fd = fd;
        peer->mute = listener == sink.mute;
        if (peer->mute)
            event.events = 0; /* it does not even notice that it was left */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        epoll_ctl(sink.epoll, EPOLL_CTL_ADD, fd, &event);
        sink.all[fd] = peer;
    }
}

/* ------------------------------------------------------------------ writing */

static bool serve(connection *peer);

/* All bytes of the answer are out. False: the connection is gone. */
static bool finish(connection *peer) {
    ending then = peer->out.then;
    switch (then) {
    case THEN_REPEAT:
        peer->sent = peer->out.length - peer->out.repeat;
        return true;
    case THEN_HANG:
    case THEN_DRIP:
        watch(peer, false);
        return true;
    case THEN_CLOSE:
    case THEN_RESET:
        end(peer, then == THEN_RESET);
        return false;
    case THEN_READ:
        break;
    }
    free(peer->out.bytes);
    peer->out = (answer){0};
    watch(peer, false);
    return serve(peer);
}

/* Writes what is due. False: the connection is gone. */
static bool feed(connection *peer) {
    for (;;) {
        size_t left = peer->out.length - peer->sent;
        bool drips = peer->out.then == THEN_DRIP;
        if (left == 0)
            return finish(peer);
        ssize_t sent = send(peer->fd, peer->out.bytes + peer->sent, drips ? 1 : left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(peer, true);
            return true;
        }
        if (sent < 0) {
            end(peer, false);
            return false;
        }
        peer->sent += (size_t)sent;
        peer->total += (uint64_t)sent;
        if (drips) {
            wait_for(peer, 1);
            return true;
        }
        if (peer->out.then == THEN_REPEAT && peer->sent == peer->out.length) {
            finish(peer);
            watch(peer, true); /* others have their turn */
            return true;
        }
    }
}

/* ------------------------------------------------------------------ reading */

static void find_id(const char *body, size_t length, char *id) {
    const char *from = memchr(body, '~', length);
    const char *to = from ? memchr(from + 1, '~', length - (size_t)(from + 1 - body)) : NULL;
    size_t size = to ? (size_t)(to - from - 1) : 0;
    snprintf(id, ID_MOST, "%.*s", (int)(size < ID_MOST ? size : 0), from ? from + 1 : "");
}

/* The length of the request at the buffer's start, 0 while it is not whole. */
static size_t request_length(const connection *peer, size_t *head) {
    static const char field[] = "\r\ncontent-length:";
    const char *end = peer->in_length ? memmem(peer->in, peer->in_length, "\r\n\r\n", 4) : NULL;
    if (!end)
        return 0;
    *head = (size_t)(end - peer->in) + 4;
    size_t body = 0;
    for (const char *at = peer->in; at < end; at++)
        if (*at == '\r' && strncasecmp(at, field, sizeof field - 1) == 0)
            body = (size_t)strtoul(at + sizeof field - 1, NULL, 10);
    return peer->in_length >= *head + body ? *head + body : 0;
}

/* Answers the request that the buffer begins with, if it is whole and its turn has come. False: the
 * connection is gone. */
static bool serve(connection *peer) {
    char id[ID_MOST];
    size_t head, length = request_length(peer, &head);
    if (length == 0 || peer->out.bytes || peer->due > 0)
        return true;
    const char *path = memchr(peer->in, ' ', head);
    size_t size = path ? strcspn(path + 1, " \r") : 0;
    snprintf(peer->path, sizeof peer->path, "%.*s", (int)size, path ? path + 1 : "");
    find_id(peer->in + head, length - head, id);
    unsigned attempt = count_attempt(peer->path, id);
    peer->out = hostile_answer(peer->path, attempt, ++peer->nth);
    peer->sent = peer->total = 0;
    memmove(peer->in, peer->in + length, peer->in_length - length);
    peer->in_length -= length;
    fprintf(sink.ledger, "%.6f\t%s\t%s\t%u\t%d\n", hostile_now(), peer->path, id, attempt,
            peer->out.status);
    if (!peer->out.bytes)
        return finish(peer);
    if (peer->out.delay > 0) {
        wait_for(peer, peer->out.delay);
        return true;
    }
    return feed(peer);
}

static void read_some(connection *peer) {
    if (peer->in_size - peer->in_length < 4096) {
        peer->in_size = peer->in_size ? peer->in_size * 2 : 8192;
        peer->in = peer->in_size <= REQUEST_MOST ? realloc(peer->in, peer->in_size) : NULL;
        if (!peer->in)
            hostile_fail("a request is too large");
    }
    /* One byte is left for a NUL, which ends strncasecmp and strtoul. */
    ssize_t got =
        recv(peer->fd, peer->in + peer->in_length, peer->in_size - peer->in_length - 1, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        end(peer, false);
        return;
    }
    peer->in_length += (size_t)got;
    peer->in[peer->in_length] = '\0';
    if (peer->in[0] < 'A' || peer->in[0] > 'Z') { /* no method: it speaks TLS, say */
        static const char bad[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        send(peer->fd, bad, sizeof bad - 1, MSG_NOSIGNAL);
        end(peer, false);
        return;
    }
    serve(peer);
}

/* --------------------------------------------------------------------- loop */

static void run_timers(void) {
    double now = hostile_now();
    while (sink.timers > 0 && sink.heap[0].due <= now) {
        timer due = take_timer();
        connection *peer = sink.all[due.fd];
        if (!peer || peer->due != due.due) /* exactly: it was this timer's */
            continue;
        peer->due = 0;
        feed(peer);
    }
}

static void on_event(const struct epoll_event *event) {
    connection *peer = sink.all[event->data.fd];
    if (!peer)
        return; /* of an event before, in this turn */
    if (event->events & (EPOLLERR | EPOLLHUP)) {
        end(peer, false);
        return;
    }
    if (event->events & EPOLLOUT && peer->due == 0 && !feed(peer))
        return;
    if (event->events & EPOLLIN)
        read_some(peer);
}

static bool is_listener(int fd) {
    for (int i = 0; i < HOSTS; i++)
        if (fd == sink.http[i])
            return true;
    return fd == sink.mute;
}

static void run(void) {
    struct epoll_event events[EVENTS];
    bool flushed = true;
    for (;;) {
        int timeout = flushed ? -1 : IDLE_MS;
        if (sink.timers > 0) {
            double left = (sink.heap[0].due - hostile_now()) * 1e3;
            int wait = left <= 0 ? 0 : (int)left + 1;
            timeout = timeout < 0 || wait < timeout ? wait : timeout;
        }
        int count = epoll_wait(sink.epoll, events, EVENTS, timeout);
        if (count == 0 && !flushed)
            fflush(sink.ledger);
        flushed = count == 0;
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO)
                return;
            if (is_listener(fd))
                accept_all(fd);
            else
                on_event(&events[i]);
        }
        run_timers();
    }
}

/* ------------------------------------------------------------------- start */

static int open_port(int *fd) {
    int port;
    struct epoll_event event = {.events = EPOLLIN};
    *fd = hostile_listen(BACKLOG, &port);
    fcntl(*fd, F_SETFL, O_NONBLOCK);
    event.data.fd = *fd;
    epoll_ctl(sink.epoll, EPOLL_CTL_ADD, *fd, &event);
    return port;
}

/* A port whose queue is full: a further SYN gets no answer. */
static int open_full(void) {
    int port;
    hostile_listen(0, &port);
    for (int i = 0; i < 4; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 ||
            (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS))
            hostile_fail("fill a queue");
    }
    return port;
}

int main(int argc, char **argv) {
    struct rlimit limit = {FDS, FDS};
    if (argc != 3) {
        fputs("usage: hostile LEDGER DIRECTORY\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    sink.ledger = fopen(argv[1], "we");
    sink.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!sink.ledger || sink.epoll < 0)
        hostile_fail(argv[1]);
    setvbuf(sink.ledger, NULL, _IOFBF, 1 << 20);
    struct epoll_event event = {.events = EPOLLIN | EPOLLHUP, .data.fd = STDIN_FILENO};
    if (epoll_ctl(sink.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        hostile_fail("stdin has to be a pipe");
    printf("listening http=%d", open_port(&sink.http[0]));
    for (int i = 1; i < HOSTS; i++)
        printf(" http%d=%d", i + 1, open_port(&sink.http[i]));
    printf(" mute=%d full=%d", open_port(&sink.mute), open_full());
    printf(" good=%d expired=%d name=%d self=%d\n", hostile_tls(argv[2], CERT_GOOD),
           hostile_tls(argv[2], CERT_EXPIRED), hostile_tls(argv[2], CERT_NAME),
           hostile_tls(argv[2], CERT_SELF));
    fflush(stdout);
    run();
    fflush(sink.ledger);
    return 0;
}
