/* receive.c — `notifyhub receive`: takes HTTP requests and mail on loopback, shows them, counts
 * them, and answers as a platform would, or as a failing one.
 *
 * One thread, one epoll: the descriptor of libmicrohttpd (its own epoll), the SMTP sockets and a
 * signalfd. Every arrival goes receiver_judge → receiver_show → receiver_delay → the answer →
 * receiver_answered. Output is buffered and flushed before the loop sleeps, so that a flood costs a
 * write per turn, not one per arrival. What is kept is bounded: connections, the bytes of a body,
 * and the number of paths that are told apart.
 */
#include "runtime/cli/receive.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/cli/command.h"
#include "runtime/cli/term.h"

#define PATH_SLOTS      2048 /* a power of two; a quarter is left empty */
#define PATHS_MAX       1536 /* more paths are counted together */
#define EVENTS_A_TURN   128
#define COUNTER_SECONDS 0.2 /* between two rewritings of the counter line */
#define LINGER_SECONDS  1.0 /* for the last answers and goodbyes, once the limit is reached */
#define BACKLOG         1024
#define FDS_WANTED      65536

/* How often each path was asked for: an open hash table that never forgets. */
typedef struct path_counts {
    struct path_count {
        char *path; /* NULL: free */
        uint64_t count;
    } slots[PATH_SLOTS];
    size_t used;
    uint64_t others; /* arrivals on paths beyond PATHS_MAX */
} path_counts;

struct receiver {
    receiver_settings settings;
    int epoll;
    receiver_source signals;
    http_sink *http;
    smtp_sink *smtp;

    receiver_wait waits; /* the head of a ring, oldest first */

    uint64_t arrivals, requests, mails, failed;
    uint64_t unanswered; /* judged, and the answer is not out */
    path_counts paths;

    uint64_t started, counter_at, linger_until; /* nanoseconds; 0: not yet */
    uint64_t counter_arrivals;
    bool stopping;
};

/* ------------------------------------------------------------------ the counts */

static void count_path(path_counts *paths, const char *path) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *at = path; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    for (size_t slot = hash;; slot++) {
        struct path_count *entry = &paths->slots[slot & (PATH_SLOTS - 1)];
        if (!entry->path) {
            entry->path = paths->used < PATHS_MAX ? strdup(path) : NULL;
            if (!entry->path) {
                paths->others++;
                return;
            }
            paths->used++;
        } else if (strcmp(entry->path, path) != 0) {
            continue;
        }
        entry->count++;
        return;
    }
}

char *receiver_stats(const receiver *owner) {
    json_t *by_path = json_object();
    for (size_t i = 0; i < PATH_SLOTS; i++) {
        const struct path_count *entry = &owner->paths.slots[i];
        if (entry->path)
            json_object_set_new(by_path, entry->path, json_integer((json_int_t)entry->count));
    }
    if (owner->paths.others)
        json_object_set_new(by_path, "*", json_integer((json_int_t)owner->paths.others));
    json_t *stats = json_pack("{s:I, s:I, s:I, s:I, s:o}", "arrivals", (json_int_t)owner->arrivals,
                              "http", (json_int_t)owner->requests, "mail", (json_int_t)owner->mails,
                              "failed", (json_int_t)owner->failed, "by_path", by_path);
    char *text = stats ? json_dumps(stats, JSON_COMPACT) : NULL;
    json_decref(stats);
    return text;
}

/* The share that fails is spread evenly, so that "--fail-rate 0.1" is one in ten of any ten. */
static bool fails(const receiver *owner) {
    uint64_t first = (uint64_t)owner->settings.fail;
    if (owner->arrivals <= first)
        return true;
    double nth = (double)(owner->arrivals - first);
    return floor(nth * owner->settings.fail_rate) > floor((nth - 1) * owner->settings.fail_rate);
}

bool receiver_full(const receiver *owner) {
    return owner->settings.limit > 0 && owner->arrivals >= (uint64_t)owner->settings.limit;
}

bool receiver_judge(receiver *owner, const char *path) {
    owner->arrivals++;
    owner->unanswered++;
    if (path) {
        owner->requests++;
        count_path(&owner->paths, path);
    } else {
        owner->mails++;
    }
    bool failing = fails(owner);
    if (failing)
        owner->failed++;
    return !failing;
}

void receiver_answered(receiver *owner) {
    owner->unanswered--;
}

bool receiver_shows(const receiver *owner) {
    return !owner->settings.count;
}

void receiver_show(receiver *owner, const arrival *arrived) {
    if (owner->settings.json)
        receive_view_json(arrived);
    else if (!owner->settings.count)
        receive_view_text(arrived);
}

const receiver_settings *receiver_get_settings(const receiver *owner) {
    return &owner->settings;
}

/* -------------------------------------------------------------------- the loop */

static bool control(receiver *owner, int operation, receiver_source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(owner->epoll, operation, source->fd, &event) == 0;
}

bool receiver_watch(receiver *owner, receiver_source *source, uint32_t events) {
    return control(owner, EPOLL_CTL_ADD, source, events);
}

void receiver_rewatch(receiver *owner, receiver_source *source, uint32_t events) {
    control(owner, EPOLL_CTL_MOD, source, events); /* cannot fail for a descriptor that is in */
}

void receiver_unwatch(receiver *owner, receiver_source *source) {
    control(owner, EPOLL_CTL_DEL, source, 0);
}

void receiver_delay(receiver *owner, receiver_wait *wait) {
    if (owner->settings.delay <= 0) {
        wait->due(wait);
        return;
    }
    wait->at = cli_clock() + (uint64_t)(owner->settings.delay * 1e9);
    wait->prev = owner->waits.prev;
    wait->next = &owner->waits;
    wait->prev->next = wait->next->prev = wait;
}

void receiver_undelay(receiver *owner, receiver_wait *wait) {
    (void)owner;
    if (!wait->at)
        return;
    wait->prev->next = wait->next;
    wait->next->prev = wait->prev;
    wait->at = 0;
}

static void run_waits(receiver *owner, bool all) {
    uint64_t now = cli_clock();
    receiver_wait *head = &owner->waits;
    while (head->next != head && (all || head->next->at <= now)) {
        receiver_wait *wait = head->next;
        receiver_undelay(owner, wait);
        wait->due(wait);
    }
}

/* Milliseconds until `due`, rounded up, as epoll_wait wants them; the smaller of it and `sooner`.
 */
static int until(uint64_t due, uint64_t now, int sooner) {
    uint64_t left = due > now ? (due - now + 999999) / 1000000 : 0;
    int milliseconds = left > 3600000 ? 3600000 : (int)left;
    return sooner >= 0 && sooner < milliseconds ? sooner : milliseconds;
}

static int sooner_of(int a, int b) {
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

static void on_signal(receiver_source *source, uint32_t events) {
    receiver *owner = (receiver *)((char *)source - offsetof(receiver, signals));
    struct signalfd_siginfo what;
    (void)events;
    if (read(source->fd, &what, sizeof what) == sizeof what)
        owner->stopping = true;
}

static bool counts_on_terminal(const receiver *owner) {
    return owner->settings.count && isatty(STDOUT_FILENO);
}

static void rewrite_counter(receiver *owner, uint64_t now) {
    char arrivals[CLI_NUMBER_MAX], rate[CLI_NUMBER_MAX], failed[CLI_NUMBER_MAX];
    double seconds = (double)(now - owner->counter_at) / 1e9;
    double a_second = (double)(owner->arrivals - owner->counter_arrivals) / seconds;
    printf("\r%s arrivals  %s/s  %s failed\033[K", cli_number(arrivals, owner->arrivals),
           cli_number(rate, (uint64_t)a_second), cli_number(failed, owner->failed));
    owner->counter_at = now;
    owner->counter_arrivals = owner->arrivals;
}

/* Once the limit is reached: are the last answers out and the mail clients gone, or out of time? */
static bool limit_done(receiver *owner, uint64_t now) {
    if (!receiver_full(owner))
        return false;
    if (!owner->linger_until) {
        double seconds = LINGER_SECONDS + owner->settings.delay;
        owner->linger_until = now + (uint64_t)(seconds * 1e9);
    }
    bool quiet = owner->unanswered == 0 && (!owner->smtp || smtp_sink_idle(owner->smtp));
    return quiet || now >= owner->linger_until;
}

static void turn(receiver *owner) {
    struct epoll_event events[EVENTS_A_TURN];
    run_waits(owner, false);
    int timeout = owner->http ? http_sink_turn(owner->http) : -1;
    if (owner->smtp)
        timeout = sooner_of(timeout, smtp_sink_turn(owner->smtp));

    uint64_t now = cli_clock();
    if (limit_done(owner, now)) {
        owner->stopping = true;
        return;
    }
    if (owner->linger_until)
        timeout = until(owner->linger_until, now, timeout);
    if (owner->waits.next != &owner->waits)
        timeout = until(owner->waits.next->at, now, timeout);
    if (counts_on_terminal(owner)) {
        uint64_t due = owner->counter_at + (uint64_t)(COUNTER_SECONDS * 1e9);
        if (now >= due) {
            rewrite_counter(owner, now);
            due = now + (uint64_t)(COUNTER_SECONDS * 1e9);
        }
        timeout = until(due, now, timeout);
    }
    if (fflush(stdout) != 0)
        owner->stopping = true; /* nobody reads any more */

    int count = epoll_wait(owner->epoll, events, EVENTS_A_TURN, timeout);
    for (int i = 0; i < count; i++) {
        receiver_source *source = events[i].data.ptr;
        source->ready(source, events[i].events);
    }
}

/* --------------------------------------------------------------- opening, closing */

/* Binds and listens on a numeric address; writes the port that it got. -1 after a complaint. */
static int listen_on(const char *address, int64_t *port, bool *ipv6) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[16];
    int fd = -1;
    const int on = 1;

    snprintf(service, sizeof service, "%d", (int)*port);
    int failure = getaddrinfo(address, service, &hints, &found);
    if (failure) {
        cli_complain("receive", "--address %s: %s", address, gai_strerror(failure));
        return -1;
    }
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        goto fail;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        goto fail;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {.v6 = {0}};
    socklen_t length = sizeof bound;
    if (getsockname(fd, &bound.any, &length) != 0)
        goto fail;
    *ipv6 = bound.any.sa_family == AF_INET6;
    *port = ntohs(*ipv6 ? bound.v6.sin6_port : bound.v4.sin_port);
    freeaddrinfo(found);
    return fd;

fail:
    cli_complain("receive", "cannot listen on %s port %s: %s", address, service, strerror(errno));
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
    return -1;
}

static bool open_servers(receiver *owner) {
    receiver_settings *settings = &owner->settings;
    bool neither = settings->http_port < 0 && settings->smtp_port < 0;
    bool ipv6 = false;
    int fd;

    if (neither)
        settings->http_port = settings->smtp_port = 0;
    if (settings->http_port >= 0) {
        if ((fd = listen_on(settings->address, &settings->http_port, &ipv6)) < 0)
            return false;
        if (!(owner->http = http_sink_open(owner, fd, ipv6))) {
            cli_complain("receive", "the HTTP server could not start");
            return false;
        }
    }
    if (settings->smtp_port >= 0) {
        if ((fd = listen_on(settings->address, &settings->smtp_port, &ipv6)) < 0)
            return false;
        if (!(owner->smtp = smtp_sink_open(owner, fd))) {
            cli_complain("receive", "the SMTP server could not start");
            return false;
        }
    }
    const char *open = ipv6 ? "[" : "", *shut = ipv6 ? "]" : "";
    fputs("listening", stdout);
    if (owner->http)
        printf(" http=%s%s%s:%d", open, settings->address, shut, (int)settings->http_port);
    if (owner->smtp)
        printf(" smtp=%s%s%s:%d", open, settings->address, shut, (int)settings->smtp_port);
    putchar('\n');
    return true;
}

static bool open_loop(receiver *owner) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);

    /* As many connections as the system lets us have: a load test opens thousands. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FDS_WANTED) {
        files.rlim_cur = files.rlim_max < FDS_WANTED ? files.rlim_max : FDS_WANTED;
        setrlimit(RLIMIT_NOFILE, &files);
    }

    owner->waits.next = owner->waits.prev = &owner->waits;
    owner->started = owner->counter_at = cli_clock();
    owner->epoll = epoll_create1(EPOLL_CLOEXEC);
    owner->signals =
        (receiver_source){.ready = on_signal, .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
    if (owner->epoll >= 0 && owner->signals.fd >= 0 &&
        receiver_watch(owner, &owner->signals, EPOLLIN))
        return true;
    cli_complain("receive", "no event loop: %s", strerror(errno));
    return false;
}

static void close_all(receiver *owner) {
    run_waits(owner, true); /* libmicrohttpd must not be stopped while it holds an answer back */
    if (owner->http)
        http_sink_close(owner->http);
    if (owner->smtp)
        smtp_sink_close(owner->smtp);
    if (owner->signals.fd >= 0)
        close(owner->signals.fd);
    if (owner->epoll >= 0)
        close(owner->epoll);
    for (size_t i = 0; i < PATH_SLOTS; i++)
        free(owner->paths.slots[i].path);
}

/* Goes to stderr when stdout carries JSON. */
static void summarize(const receiver *owner) {
    char arrivals[CLI_NUMBER_MAX], requests[CLI_NUMBER_MAX], mails[CLI_NUMBER_MAX];
    char failed[CLI_NUMBER_MAX];
    if (counts_on_terminal(owner))
        fputs("\r\033[K", stdout);
    fprintf(owner->settings.json ? stderr : stdout,
            "received %s: %s by HTTP, %s by mail, %s failed as asked, in %.1f s\n",
            cli_number(arrivals, owner->arrivals), cli_number(requests, owner->requests),
            cli_number(mails, owner->mails), cli_number(failed, owner->failed),
            (double)(cli_clock() - owner->started) / 1e9);
}

/* ------------------------------------------------------------------ the command */

#define FIELD(name) offsetof(receiver_settings, name)

static const cli_option options[] = {
    {"http", 0, CLI_INT, FIELD(http_port), "PORT",
     "take HTTP on this port, 0: any that is free (the default for both when neither is named)", 0,
     65535},
    {"smtp", 0, CLI_INT, FIELD(smtp_port), "PORT", "take mail on this port", 0, 65535},
    {"address", 0, CLI_TEXT, FIELD(address), "ADDRESS",
     "listen on this numeric address (default 127.0.0.1)", 0, 0},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL, "print each arrival as one line of JSON", 0, 0},
    {"count", 'c', CLI_FLAG, FIELD(count), NULL,
     "print no arrivals, only how many there were: for load", 0, 0},
    {"limit", 'n', CLI_INT, FIELD(limit), "N", "end after this many arrivals", 0, 1e15},
    {"delay", 0, CLI_REAL, FIELD(delay), "SECONDS", "wait this long before each answer", 0, 86400},
    {"status", 0, CLI_INT, FIELD(status), "CODE", "answer HTTP with this status", 200, 599},
    {"body", 0, CLI_TEXT, FIELD(body), "TEXT",
     "answer HTTP with this body; without it, the path decides: what Slack, Feishu, Lark and "
     "DingTalk answer, else {\"ok\":true}",
     0, 0},
    {"fail", 0, CLI_INT, FIELD(fail), "N", "fail the first N arrivals: HTTP 503, SMTP 451", 0,
     1e15},
    {"fail-rate", 0, CLI_REAL, FIELD(fail_rate), "SHARE",
     "fail this share (0 to 1) of the others, evenly spread", 0, 1},
    {"retry-after", 0, CLI_INT, FIELD(retry_after), "SECONDS",
     "send Retry-After with each HTTP answer that is not a success", 0, 1e9},
    {"max-body", 0, CLI_INT, FIELD(max_body), "BYTES",
     "refuse larger bodies and mails: HTTP 413, SMTP 552 (default 33554432)", 1, 1e9},
    {0},
};

static int run_receive(const cli_command *self, int argc, char **argv) {
    receiver *owner = calloc(1, sizeof *owner);
    if (!owner) {
        cli_complain(self->name, "out of memory");
        return CLI_FAILED;
    }
    owner->epoll = owner->signals.fd = -1;
    owner->settings = (receiver_settings){.address = "127.0.0.1",
                                          .http_port = -1,
                                          .smtp_port = -1,
                                          .retry_after = -1,
                                          .max_body = 32 << 20};
    int status = cli_options_parse(self, argc, argv, &owner->settings, NULL);
    if (status == CLI_GO && owner->settings.json && owner->settings.count) {
        cli_complain(self->name, "--json and --count exclude each other");
        status = CLI_USAGE;
    }
    if (status != CLI_GO)
        goto done;

    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    status = CLI_FAILED;
    if (!open_loop(owner) || !open_servers(owner))
        goto close;
    while (!owner->stopping)
        turn(owner);
    summarize(owner);
    status = CLI_OK;

close:
    close_all(owner);
done:
    free(owner);
    return status;
}

const cli_command cli_receive = {
    .name = "receive",
    .summary = "take HTTP requests and mail on this machine and show them",
    .operands = "",
    .options = options,
    .about =
        "A receiver for first steps, demonstrations and tests. It shows what arrives and answers "
        "as the platforms do, or fails as often as asked. The first line of output names the "
        "addresses:\n"
        "  listening http=127.0.0.1:40123 smtp=127.0.0.1:40124\n"
        "With --json each arrival is one line: time, protocol, status (what was answered); for "
        "HTTP method, target, path, query, headers and body; for mail from, recipients, headers "
        "and raw. A body or raw that is not UTF-8 is in base64, and \"base64\" is true.\n"
        "GET /stats answers with the counts and is not counted. SIGINT and SIGTERM end the "
        "receiver, which then tells how much arrived.",
    .exits = (const cli_exit[]){{CLI_OK, "ended by a signal or by --limit"},
                                {CLI_FAILED, "could not listen"},
                                {CLI_USAGE, "a mistake in the command line"},
                                {0}},
    .run = run_receive,
};
