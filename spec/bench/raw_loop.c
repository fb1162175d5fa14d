/* raw_loop.c — a peer for the benchmark: what the sockets alone cost. The limit of any client.
 *
 * POSTs a body of 300 bytes COUNT times to http://HOST:PORT/… over IN_FLIGHT connections, on epoll,
 * with a request that was written beforehand and answers of which only status and length are looked
 * at: every answer is as long as the first. Twice IN_FLIGHT requests go before, unmeasured. Prints
 * requests a second and microseconds of processor time a request. One thread.
 *
 *     raw_loop URL COUNT IN_FLIGHT
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_A_TURN = 256, BODY_BYTES = 300, ANSWER_BYTES = 4096 };

typedef struct loop {
    int epoll;
    char request[1024];
    size_t request_length, answer_length; /* of an answer; 0: none has come */
    size_t left_to_start, left_to_end;
    size_t *come; /* bytes of the answer that is coming, by connection */
    int *fds;
} loop;

static void stop(const char *what) {
    perror(what);
    exit(1);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct sockaddr_in read_url(loop *l, const char *url) {
    char host[64], path[256] = "/", body[BODY_BYTES + 1];
    unsigned port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(url, "http://%63[0-9.]:%u%255s", host, &port, path) < 2 ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "raw_loop: the URL must be http://IPV4:PORT/…\n");
        exit(2);
    }
    address.sin_port = htons((uint16_t)port);
    memset(body, 'x', BODY_BYTES);
    body[BODY_BYTES] = '\0';
    l->request_length =
        (size_t)snprintf(l->request, sizeof l->request,
                         "POST %s HTTP/1.1\r\nHost: %s:%u\r\nAccept: */*\r\n"
                         "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                         path, host, port, BODY_BYTES, body);
    return address;
}

static void connect_all(loop *l, const struct sockaddr_in *address, size_t in_flight) {
    for (size_t i = 0; i < in_flight; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0)
            stop("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            stop("epoll");
        l->fds[i] = fd;
    }
}

static void start(loop *l, size_t i) {
    l->left_to_start--;
    l->come[i] = 0;
    if (send(l->fds[i], l->request, l->request_length, MSG_NOSIGNAL) != (ssize_t)l->request_length)
        stop("send");
}

/* The first answer tells how long they are: it came whole. */
static size_t length_of(char *answer, size_t length) {
    answer[length] = '\0';
    const char *end = strstr(answer, "\r\n\r\n"), *field = strstr(answer, "Content-Length: ");
    if (!end || !field) {
        fprintf(stderr, "raw_loop: not an answer that it understands\n");
        exit(1);
    }
    return (size_t)(end - answer) + 4 + strtoul(field + 16, NULL, 10);
}

static void take(loop *l, size_t i) {
    char answer[ANSWER_BYTES];
    ssize_t got = recv(l->fds[i], answer, sizeof answer - 1, MSG_DONTWAIT);
    if (got <= 0)
        stop("recv");
    if (l->answer_length == 0)
        l->answer_length = length_of(answer, (size_t)got);
    if (l->come[i] == 0 && memcmp(answer, "HTTP/1.1 2", 10) != 0)
        exit(1);
    l->come[i] += (size_t)got;
    if (l->come[i] < l->answer_length)
        return;
    l->left_to_end--;
    if (l->left_to_start > 0)
        start(l, i);
}

static void run(loop *l, size_t count, size_t in_flight) {
    struct epoll_event events[EVENTS_A_TURN];
    l->left_to_start = l->left_to_end = count;
    for (size_t i = 0; i < in_flight && l->left_to_start > 0; i++)
        start(l, i);
    while (l->left_to_end > 0) {
        int ready = epoll_wait(l->epoll, events, EVENTS_A_TURN, -1);
        for (int i = 0; i < ready; i++)
            take(l, events[i].data.u64);
    }
}

int main(int argc, char **argv) {
    size_t count = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    size_t in_flight = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    loop l = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (count == 0 || in_flight == 0) {
        fprintf(stderr, "usage: raw_loop URL COUNT IN_FLIGHT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    l.fds = calloc(in_flight, sizeof *l.fds);
    l.come = calloc(in_flight, sizeof *l.come);
    if (!l.fds || !l.come)
        stop("memory");
    struct sockaddr_in address = read_url(&l, argv[1]);
    connect_all(&l, &address, in_flight);
    run(&l, in_flight * 2, in_flight);
    double started = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    run(&l, count, in_flight);
    double seconds = now(CLOCK_MONOTONIC) - started;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%.0f %.2f\n", (double)count / seconds, cpu / (double)count * 1e6);
    for (size_t i = 0; i < in_flight; i++)
        close(l.fds[i]);
    free(l.fds);
    free(l.come);
    return 0;
}
