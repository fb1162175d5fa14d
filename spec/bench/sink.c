/* sink.c — the other side of every benchmark: takes HTTP and SMTP, answers at once or after a fixed
 * delay, fails a fixed part, counts, and costs as little as can be, so that the client is what is
 * measured.
 *
 *     sink [--http PORT] [--smtp PORT] [--delay MS] [--fail PERCENT] [--status CODE] [--body TEXT]
 *          [--ids NAME]
 *
 * It prints `listening http=HOST:PORT smtp=HOST:PORT` (what was asked for; port 0: the system
 * chooses), and its figures, one line of JSON, when SIGTERM or SIGINT ends it.
 *
 * One thread, one epoll. A request costs a recv, a send and no allocation: it is read into one
 * buffer that all connections share, and only the beginning of one that came in pieces is kept.
 * Answers that wait are a ring, in the order of their time, since the delay is the same for all. A
 * client that does not take an answer loses its connection.
 */
#include "spec/bench/sink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MOST = 65536, EVENTS_A_TURN = 512, BACKLOG = 16384, OUT_BYTES = 64 << 10 };

typedef struct waiting {
    uint64_t due; /* nanoseconds of the monotonic clock */
    const char *text;
    uint32_t length, generation;
    int fd;
} waiting;

struct sink {
    int epoll, http, smtp, signals;
    uint64_t delay, now; /* now: of this turn, and only when there is a delay */
    unsigned fail;       /* of a hundred */
    int status;
    const char *body;
    sink_ids *ids; /* NULL: not counted */
    char id_name[64];
    sink_answers answers;
    sink_connection *connections; /* by descriptor */
    waiting *ring;
    size_t ring_size, ring_first, ring_count;
    char in[SINK_BUFFER], out[OUT_BYTES];
    size_t out_length;
    char told[512];
    struct {
        size_t messages, failed, distinct, repeated, opened, dropped, waiting_most;
    } figures;
};

static void stop(const char *what) {
    fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ----------------------------------------------------------------- answers */

void sink_say(sink *s, const char *text, size_t length) {
    if (length > sizeof s->out - s->out_length)
        return; /* hundreds of pipelined requests: the client sees that answers are missing */
    memcpy(s->out + s->out_length, text, length);
    s->out_length += length;
}

static void grow_ring(sink *s) {
    size_t size = s->ring_size ? s->ring_size * 2 : 4096;
    waiting *ring = malloc(size * sizeof *ring);
    if (!ring)
        stop("memory");
    for (size_t i = 0; i < s->ring_count; i++)
        ring[i] = s->ring[(s->ring_first + i) & (s->ring_size - 1)];
    free(s->ring);
    s->ring = ring;
    s->ring_size = size;
    s->ring_first = 0;
}

static void say_later(sink *s, const sink_connection *c, const char *text, size_t length) {
    if (s->ring_count == s->ring_size)
        grow_ring(s);
    s->ring[(s->ring_first + s->ring_count++) & (s->ring_size - 1)] =
        (waiting){.due = s->now + s->delay,
                  .text = text,
                  .length = (uint32_t)length,
                  .generation = c->generation,
                  .fd = (int)(c - s->connections)};
    if (s->ring_count > s->figures.waiting_most)
        s->figures.waiting_most = s->ring_count;
}

void sink_count(sink *s, sink_connection *c, const sink_answers *answers, const char *id,
                size_t length) {
    size_t number = ++s->figures.messages;
    bool fails = number * s->fail / 100 != (number - 1) * s->fail / 100;
    s->figures.failed += fails;
    if (id && !fails) {
        bool fresh = sink_ids_add(s->ids, id, length);
        s->figures.distinct += fresh;
        s->figures.repeated += !fresh;
    }
    const char *text = fails ? answers->bad : answers->good;
    size_t text_length = fails ? answers->bad_length : answers->good_length;
    if (s->delay > 0)
        say_later(s, c, text, text_length);
    else
        sink_say(s, text, text_length);
}

const char *sink_find_id(const sink *s, const char *bytes, size_t length, const char *before,
                         char end, size_t *id_length) {
    if (!s->ids)
        return NULL;
    const char *at = memmem(bytes, length, before, strlen(before));
    if (!at)
        return NULL;
    at += strlen(before);
    const char *to = memchr(at, end, length - (size_t)(at - bytes));
    *id_length = to ? (size_t)(to - at) : 0;
    return to ? at : NULL;
}

const sink_answers *sink_http_answers(const sink *s) {
    return &s->answers;
}

const char *sink_id_name(const sink *s) {
    return s->id_name;
}

const char *sink_figures(sink *s) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    snprintf(s->told, sizeof s->told,
             "{\"messages\":%zu,\"failed\":%zu,\"distinct\":%zu,\"repeated\":%zu,\"opened\":%zu,"
             "\"dropped\":%zu,\"waiting_most\":%zu,\"cpu\":%.6f}",
             s->figures.messages, s->figures.failed, s->figures.distinct, s->figures.repeated,
             s->figures.opened, s->figures.dropped, s->figures.waiting_most, cpu);
    return s->told;
}

void sink_forget(sink *s) {
    memset(&s->figures, 0, sizeof s->figures);
    if (s->ids)
        sink_ids_clear(s->ids);
}

/* ------------------------------------------------------------- connections */

static void watch(sink *s, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        stop("epoll");
}

static void end(sink *s, int fd) {
    sink_connection *c = &s->connections[fd];
    free(c->kept);
    *c = (sink_connection){.generation = c->generation + 1};
    close(fd);
}

static void drop(sink *s, int fd) {
    s->figures.dropped++;
    end(s, fd);
}

static bool deliver(sink *s, int fd, const char *text, size_t length) {
    if (send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)length)
        return true;
    drop(s, fd);
    return false;
}

static void take_connections(sink *s, int listener, const sink_protocol *protocol) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= CONNECTIONS_MOST) {
            close(fd);
            s->figures.dropped++;
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        s->connections[fd].protocol = protocol;
        s->figures.opened++;
        watch(s, fd);
        if (protocol->greeting)
            deliver(s, fd, protocol->greeting, strlen(protocol->greeting));
    }
}

static bool keep(sink_connection *c, const char *bytes, size_t length) {
    char *kept = length > 0 ? malloc(length) : NULL;
    if (kept)
        memcpy(kept, bytes, length);
    free(c->kept);
    c->kept = kept;
    c->kept_length = kept ? length : 0;
    return kept || length == 0;
}

static void take_bytes(sink *s, int fd) {
    sink_connection *c = &s->connections[fd];
    if (!c->protocol)
        return; /* it ended in this turn */
    if (c->kept_length > 0)
        memcpy(s->in, c->kept, c->kept_length);
    ssize_t got = recv(fd, s->in + c->kept_length, sizeof s->in - c->kept_length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        end(s, fd);
        return;
    }
    size_t length = c->kept_length + (size_t)got;
    s->out_length = 0;
    long used = c->protocol->feed(s, c, s->in, length);
    if (s->out_length > 0 && !deliver(s, fd, s->out, s->out_length))
        return;
    bool full = used == 0 && length == sizeof s->in;
    if (used == SINK_REFUSED || full)
        drop(s, fd);
    else if (c->close_after && s->delay == 0)
        end(s, fd);
    else if ((size_t)used < length || c->kept)
        if (!keep(c, s->in + used, length - (size_t)used))
            drop(s, fd);
}

/* -------------------------------------------------------------------- loop */

static void deliver_due(sink *s) {
    while (s->ring_count > 0) {
        waiting *w = &s->ring[s->ring_first & (s->ring_size - 1)];
        if (w->due > s->now)
            return;
        s->ring_first = (s->ring_first + 1) & (s->ring_size - 1);
        s->ring_count--;
        sink_connection *c = &s->connections[w->fd];
        if (c->generation != w->generation || !c->protocol)
            continue; /* the client did not wait */
        if (deliver(s, w->fd, w->text, w->length) && c->close_after)
            end(s, w->fd);
    }
}

static int wait_for_events(sink *s, struct epoll_event *events) {
    if (s->ring_count == 0)
        return epoll_wait(s->epoll, events, EVENTS_A_TURN, -1);
    uint64_t due = s->ring[s->ring_first & (s->ring_size - 1)].due, at = now();
    uint64_t left = due > at ? due - at : 0;
    struct timespec most = {.tv_sec = (time_t)(left / 1000000000u),
                            .tv_nsec = (long)(left % 1000000000u)};
    return epoll_pwait2(s->epoll, events, EVENTS_A_TURN, &most, NULL);
}

static void run(sink *s) {
    struct epoll_event events[EVENTS_A_TURN];
    for (;;) {
        int count = wait_for_events(s, events);
        if (s->delay > 0)
            s->now = now();
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == s->signals)
                return;
            if (fd == s->http)
                take_connections(s, fd, &sink_http);
            else if (fd == s->smtp)
                take_connections(s, fd, &sink_smtp);
            else
                take_bytes(s, fd);
        }
        deliver_due(s);
    }
}

/* ------------------------------------------------------------------- start */

static int listen_on(sink *s, long port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, BACKLOG) != 0)
        stop("listen");
    watch(s, fd);
    return fd;
}

static void tell_address(const char *name, int fd) {
    struct sockaddr_in address = {0};
    socklen_t length = sizeof address;
    if (fd < 0)
        return;
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf(" %s=127.0.0.1:%u", name, ntohs(address.sin_port));
}

static char *http_answer(int status, const char *reason, const char *body, size_t *length) {
    char *text;
    int printed = asprintf(&text,
                           "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n%s",
                           status, reason, strlen(body), body);
    if (printed < 0)
        stop("memory");
    *length = (size_t)printed;
    return text;
}

static void open_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* A signal becomes a readable descriptor: then ending needs no global. */
static void open_signals(sink *s) {
    signal(SIGINT, SIG_DFL); /* a shell starts what is in the background with it ignored */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC);
    watch(s, s->signals);
}

static long number(const char *text, long most) {
    char *end_of;
    long value = strtol(text, &end_of, 10);
    if (!*text || *end_of || value < 0 || value > most) {
        fprintf(stderr, "sink: '%s' is not a number from 0 to %ld\n", text, most);
        exit(2);
    }
    return value;
}

static void read_options(sink *s, int argc, char **argv, long *http, long *smtp) {
    static const struct option options[] = {
        {"http", 1, NULL, 'h'},   {"smtp", 1, NULL, 's'},
        {"delay", 1, NULL, 'd'},  {"fail", 1, NULL, 'f'},
        {"status", 1, NULL, 'c'}, {"body", 1, NULL, 'b'},
        {"ids", 1, NULL, 'i'},    {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'h':
            *http = number(optarg, 65535);
            break;
        case 's':
            *smtp = number(optarg, 65535);
            break;
        case 'd':
            s->delay = (uint64_t)number(optarg, 3600000) * 1000000u;
            break;
        case 'f':
            s->fail = (unsigned)number(optarg, 100);
            break;
        case 'c':
            s->status = (int)number(optarg, 999);
            break;
        case 'b':
            s->body = optarg;
            break;
        case 'i':
            s->ids = sink_ids_create();
            snprintf(s->id_name, sizeof s->id_name, "\"%s\":\"", optarg);
            break;
        default:
            fprintf(stderr, "usage: sink [--http PORT] [--smtp PORT] [--delay MS] [--fail PERCENT] "
                            "[--status CODE] [--body TEXT] [--ids NAME]\n");
            exit(2);
        }
}

int main(int argc, char **argv) {
    sink *s = calloc(1, sizeof *s);
    sink_connection *connections = calloc(CONNECTIONS_MOST, sizeof *connections);
    if (!s || !connections)
        stop("memory");
    long http = -1, smtp = -1;
    s->connections = connections;
    s->status = 200;
    s->body = "{\"ok\":true,\"code\":0}";
    s->http = s->smtp = -1;
    read_options(s, argc, argv, &http, &smtp);
    open_descriptors();
    char *good =
        http_answer(s->status, s->status < 300 ? "OK" : "No", s->body, &s->answers.good_length);
    char *bad = http_answer(503, "Service Unavailable", "{\"ok\":false}", &s->answers.bad_length);
    s->answers.good = good;
    s->answers.bad = bad;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    open_signals(s);
    s->http = http < 0 && smtp >= 0 ? -1 : listen_on(s, http < 0 ? 0 : http);
    s->smtp = smtp < 0 ? -1 : listen_on(s, smtp);
    printf("listening");
    tell_address("http", s->http);
    tell_address("smtp", s->smtp);
    printf("\n");
    fflush(stdout);
    run(s);
    printf("%s\n", sink_figures(s));
    for (int fd = 0; fd < CONNECTIONS_MOST; fd++)
        if (connections[fd].protocol)
            end(s, fd);
    sink_ids_destroy(s->ids);
    free(s->ring);
    free(connections);
    free(good);
    free(bad);
    free(s);
    return 0;
}
