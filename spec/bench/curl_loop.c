/* curl_loop.c — a peer for the benchmark: what libcurl's multi interface costs alone.
 *
 * POSTs a body of 300 bytes COUNT times to URL with IN_FLIGHT transfers under way, on epoll with
 * sockets that stay registered for their life, easy handles that are reused without a reset, and
 * every option that makes libcurl cheaper. Twice IN_FLIGHT requests go before, unmeasured: they
 * open the connections. Prints requests a second and microseconds of processor time a request. One
 * thread, and no check but for the status.
 *
 *     curl_loop URL COUNT IN_FLIGHT
 */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SOCKETS_MOST = 65536, EVENTS_A_TURN = 256, BODY_BYTES = 300 };

static CURLM *multi;
static int epoll;
static double due; /* of libcurl's timeout; 0: none */
static struct {
    bool added;
    uint32_t events, wanted;
} sockets[SOCKETS_MOST];
static size_t left_to_start, left_to_end, failed;

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static size_t ignore(char *bytes, size_t size, size_t count, void *user) {
    (void)bytes, (void)user;
    return size * count;
}

/* Reading stays armed when libcurl asks for nothing. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *unused) {
    (void)easy, (void)user, (void)unused;
    sockets[fd].wanted = what == CURL_POLL_REMOVE ? 0
                         : what == CURL_POLL_IN   ? EPOLLIN
                         : what == CURL_POLL_OUT  ? EPOLLOUT
                                                  : EPOLLIN | EPOLLOUT;
    uint32_t events = sockets[fd].wanted | EPOLLIN;
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (sockets[fd].added && sockets[fd].events == events)
        return 0;
    epoll_ctl(epoll, sockets[fd].added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    sockets[fd].added = true;
    sockets[fd].events = events;
    return 0;
}

static int on_close(void *user, curl_socket_t fd) {
    (void)user;
    sockets[fd].added = false;
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    return close(fd);
}

static int on_timer(CURLM *curl, long ms, void *user) {
    (void)curl, (void)user;
    due = ms < 0 ? 0 : now(CLOCK_MONOTONIC) + (double)ms / 1e3;
    return 0;
}

static void start(CURL *easy) {
    left_to_start--;
    curl_multi_add_handle(multi, easy);
}

static void drain(void) {
    CURLMsg *message;
    int queued;
    while ((message = curl_multi_info_read(multi, &queued))) {
        CURL *easy = message->easy_handle;
        long status = 0;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        failed += message->data.result != CURLE_OK || status >= 300;
        curl_multi_remove_handle(multi, easy);
        left_to_end--;
        if (left_to_start > 0)
            start(easy);
    }
}

static void run(void) {
    struct epoll_event events[EVENTS_A_TURN];
    int running;
    while (left_to_end > 0) {
        double left = due > 0 ? due - now(CLOCK_MONOTONIC) : 1;
        int count = epoll_wait(epoll, events, EVENTS_A_TURN, left > 0 ? (int)(left * 1e3) + 1 : 0);
        if (due > 0 && due <= now(CLOCK_MONOTONIC)) {
            due = 0;
            curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            uint32_t got = events[i].events;
            if (got & (EPOLLHUP | EPOLLERR))
                got |= sockets[fd].wanted;
            if (!sockets[fd].added)
                continue;
            if (!sockets[fd].wanted) { /* the peer closed an idle connection */
                epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
                sockets[fd].added = false;
            }
            if (!(sockets[fd].wanted & got)) /* else: told before libcurl changed its mind */
                continue;
            curl_multi_socket_action(multi, fd,
                                     (got & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                         (got & EPOLLOUT ? CURL_CSELECT_OUT : 0),
                                     &running);
        }
        drain();
    }
}

/* Runs `count` transfers, the handles that `easies` are at once. */
static void run_all(CURL **easies, size_t in_flight, size_t count) {
    left_to_start = left_to_end = count;
    for (size_t i = 0; i < in_flight && left_to_start > 0; i++)
        start(easies[i]);
    run();
}

static CURL *make(const char *url, const char *body, struct curl_slist *headers) {
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)BODY_BYTES);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    return easy;
}

int main(int argc, char **argv) {
    size_t count = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    size_t in_flight = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    char body[BODY_BYTES];
    CURL **easies = in_flight > 0 ? calloc(in_flight, sizeof *easies) : NULL;
    if (count == 0 || !easies) {
        fprintf(stderr, "usage: curl_loop URL COUNT IN_FLIGHT\n");
        free(easies);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    memset(body, 'x', sizeof body);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)in_flight);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    for (size_t i = 0; i < in_flight; i++)
        easies[i] = make(argv[1], body, headers);
    run_all(easies, in_flight, in_flight * 2);
    double started = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    run_all(easies, in_flight, count);
    double seconds = now(CLOCK_MONOTONIC) - started;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%.0f %.2f\n", (double)count / seconds, cpu / (double)count * 1e6);
    free(easies);
    return failed > 0;
}
