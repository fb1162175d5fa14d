/* script_peer.h — a server that plays bytes: it accepts, reads a request, writes what it is told
 * to, in two pieces if that is wanted, and ends the connection. It listens on all of 127.0.0.0/8,
 * so that a test can have as many hosts as it likes.
 */
#ifndef NH_SPEC_SCRIPT_PEER_H
#define NH_SPEC_SCRIPT_PEER_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct script {
    const char *bytes;
    size_t length;
    size_t split;     /* where the second piece begins; 0: in one */
    bool reset;       /* ends with a RST instead of a FIN */
    bool deaf;        /* does not read the request first */
    bool then;        /* reads one more request, and ends the connection without an answer to it */
    bool patient;     /* reads on until the other side ends the connection */
    unsigned trickle; /* microseconds between single bytes; 0: all at once */
} script;

static struct {
    int listener, port;
    pthread_t thread;
    pthread_mutex_t lock;
    script now;
    char bytes[1 << 16]; /* of `now`: a copy, for the test goes on while it is played */
    atomic_int accepted, closed;
} player = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A whole request: up to the empty line, and as much behind it as it says. */
static inline bool player_read(int fd) {
    char request[4096];
    size_t length = 0;
    while (length < sizeof request - 1) {
        ssize_t count = recv(fd, request + length, sizeof request - 1 - length, 0);
        if (count <= 0)
            return false;
        length += (size_t)count;
        request[length] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        const char *field = strcasestr(request, "\r\nContent-Length:");
        size_t body = field ? strtoul(field + 17, NULL, 10) : 0;
        if (end && length >= (size_t)(end + 4 - request) + body)
            return true;
    }
    return false;
}

static inline void player_write(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t count = send(fd, bytes, length, MSG_NOSIGNAL);
        if (count <= 0)
            return;
        bytes += count;
        length -= (size_t)count;
    }
}

static inline void player_answer(int fd, const script *now) {
    size_t first = now->trickle ? 1 : now->split ? now->split : now->length;
    for (size_t at = 0; at < now->length;) {
        size_t count = first < now->length - at ? first : now->length - at;
        player_write(fd, now->bytes + at, count);
        at += count;
        if (!now->trickle)
            first = now->length;
        if (at <
            now->length) /* for the other side to read it alone; if it does not, less is tested */
            usleep(now->trickle ? now->trickle : 500);
    }
}

static inline void player_serve(int fd) {
    static char bytes[sizeof player.bytes];
    pthread_mutex_lock(&player.lock);
    script now = player.now;
    now.bytes = memcpy(bytes, player.bytes, now.length);
    pthread_mutex_unlock(&player.lock);
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (now.deaf || player_read(fd))
        player_answer(fd, &now);
    if (now.then)
        player_read(fd);
    char unused[4096];
    while (now.patient && recv(fd, unused, sizeof unused, 0) > 0)
        ;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (now.reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    atomic_fetch_add(&player.closed, 1);
}

static inline void *player_main(void *unused) {
    (void)unused;
    for (int fd; (fd = accept(player.listener, NULL, NULL)) >= 0;) {
        atomic_fetch_add(&player.accepted, 1);
        player_serve(fd);
    }
    return NULL;
}

static inline void player_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    player.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(player.listener, (struct sockaddr *)(void *)&address, sizeof address) != 0 ||
        listen(player.listener, 128) != 0 ||
        getsockname(player.listener, (struct sockaddr *)(void *)&address, &size) != 0 ||
        pthread_create(&player.thread, NULL, player_main, NULL) != 0)
        abort();
    player.port = ntohs(address.sin_port);
}

static inline void player_stop(void) {
    shutdown(player.listener, SHUT_RDWR);
    pthread_join(player.thread, NULL);
    close(player.listener);
}

static inline void player_play(script what) {
    if (what.length > sizeof player.bytes)
        abort();
    pthread_mutex_lock(&player.lock);
    player.now = what;
    memcpy(player.bytes, what.bytes, what.length);
    pthread_mutex_unlock(&player.lock);
}

/* A host that was not used before: no connection of another request can be taken for it. */
static inline const char *player_host(void) {
    static unsigned count;
    static char text[32];
    count++;
    snprintf(text, sizeof text, "127.%u.%u.%u", 1 + count / 62500 % 250, 1 + count / 250 % 250,
             1 + count % 250);
    return text;
}

#endif
