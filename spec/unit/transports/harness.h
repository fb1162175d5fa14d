/* harness.h — drives a transport on a real loop against a server that is a child process.
 */
#ifndef NH_SPEC_HARNESS_H
#define NH_SPEC_HARNESS_H

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platforms/transports/transports.h"
#include "spec/unit/check.h"

/* ------------------------------------------------------------------ server */

typedef struct peer {
    pid_t pid;
    int port;
} peer;

/* Starts spec/support/SCRIPT with the given arguments (NULL ends them) and reads its port. */
static inline peer peer_start(const char *script, ...) {
    const char *arguments[32] = {"/usr/bin/python3"};
    char path[512];
    int count = 2, out[2];
    peer started = {-1, 0};
    snprintf(path, sizeof path, "%s/spec/support/%s", NH_SOURCE_DIR, script);
    arguments[1] = path;
    va_list list;
    va_start(list, script);
    while (count < 31 && (arguments[count] = va_arg(list, const char *)))
        count++;
    va_end(list);
    if (pipe(out) != 0)
        abort();
    started.pid = fork();
    if (started.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        unsetenv("LD_PRELOAD");
        execv(arguments[0], (char *const *)(void *)arguments);
        _exit(127);
    }
    close(out[1]);
    FILE *lines = fdopen(out[0], "r");
    if (!lines || fscanf(lines, "%d", &started.port) != 1)
        printf("# %s did not start\n", script);
    if (lines)
        fclose(lines);
    return started;
}

static inline void peer_stop(peer *what) {
    if (what->pid > 0) {
        kill(what->pid, SIGKILL);
        waitpid(what->pid, NULL, 0);
    }
    what->pid = -1;
}

/* A directory of this process, removed by its end. */
static inline const char *scratch_dir(void) {
    static char path[64];
    if (!path[0]) {
        snprintf(path, sizeof path, "/tmp/notifyhub-spec-%d", (int)getpid());
        char command[128];
        snprintf(command, sizeof command, "mkdir -p %s", path);
        if (system(command) != 0)
            abort();
    }
    return path;
}

static inline void scratch_remove(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", scratch_dir());
    if (system(command) != 0)
        printf("# %s stays\n", scratch_dir());
}

/* A certificate for 127.0.0.1 that nobody signed: scratch_dir()/cert.pem and key.pem. */
static inline void make_certificate(char *cert, char *key, size_t size) {
    char command[640];
    snprintf(cert, size, "%s/cert.pem", scratch_dir());
    snprintf(key, size, "%s/key.pem", scratch_dir());
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
             "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout %s -out %s "
             "2>/dev/null",
             key, cert);
    if (system(command) != 0)
        printf("# openssl failed\n");
}

/* --------------------------------------------------------------- transport */

static nh_loop *loop;
static nh_transport *transport;
static const nh_transport_ops *ops;
static double longest_turn; /* seconds, not counting the wait for events */

static inline double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline nh_transport_limits default_limits(void) {
    return (nh_transport_limits){
        .response_bytes = 65536,
        .header_bytes = 65536,
        .connect_timeout = 5,
        .timeout = 30,
        .connections = 1024,
    };
}

static inline void transport_open(const nh_transport_ops *which, nh_transport_limits limits) {
    nh_error error = {NH_OK, ""};
    ops = which;
    loop = nh_loop_create(&error);
    if (!loop || ops->open(loop, &limits, &transport, &error) != NH_OK)
        printf("# %s\n", error.message);
}

static inline void transport_close(void) {
    ops->close(transport);
    nh_loop_destroy(loop);
    transport = NULL;
    loop = NULL;
}

typedef struct exchange {
    nh_transfer transfer; /* first */
    nh_request request;   /* not checked: what a transport sees to itself is to be seen */
    nh_doc *response;
    int done; /* how often */
} exchange;

static inline void exchange_done(nh_transfer *transfer, nh_doc *response) {
    exchange *what = (exchange *)(void *)transfer;
    what->done++;
    nh_doc_unref(what->response);
    what->response = response;
}

/* Starts a request (taken) with a body beside it (borrowed until the end), or NULL. */
static inline void exchange_start_with(exchange *what, nh_doc *request, const char *body,
                                       size_t length) {
    nh_error error;
    *what = (exchange){.transfer = {.done = exchange_done, .body = body, .body_length = length},
                       .request = {.doc = request, .bodied = body}};
    what->transfer.request = &what->request;
    if (request)
        ops->start(transport, &what->transfer);
    else
        printf("# no request %d\n", nh_request_check(NULL, &error));
}

static inline void exchange_start(exchange *what, nh_doc *request) {
    exchange_start_with(what, request, NULL, 0);
}

/* One that has not ended yet is cancelled: the transport reads its request until then. */
static inline void exchange_free(exchange *what) {
    if (transport && !what->done && what->transfer.state)
        ops->cancel(transport, &what->transfer);
    if (what->request.read)
        what->request.forget(what->request.read);
    nh_doc_unref(what->request.doc);
    nh_doc_unref(what->response);
}

static inline void turn(double seconds) {
    /* What a turn takes beyond its longest wait was spent working, or blocked. */
    double before = seconds_now();
    nh_loop_turn(loop, seconds);
    double spent = seconds_now() - before - seconds;
    longest_turn = spent > longest_turn ? spent : longest_turn;
}

static inline void turn_until(const exchange *what, double seconds) {
    double end = seconds_now() + seconds;
    while (!what->done && seconds_now() < end)
        turn(0.02);
}

static inline void turn_for(double seconds) {
    for (double end = seconds_now() + seconds; seconds_now() < end;)
        turn(0.01);
}

/* JSON in which ' stands for ". */
__attribute__((format(printf, 1, 2))) static inline nh_doc *document(const char *format, ...) {
    static char text[1 << 20];
    nh_error error = {NH_OK, ""};
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    nh_doc *doc = nh_doc_from_json(text, strlen(text), &error);
    if (!doc)
        printf("# %s in %s\n", error.message, text);
    return doc;
}

/* Sends a request (taken) and returns its response, which stays until the next call. */
static inline const nh_value *ask(nh_doc *request) {
    static exchange last;
    exchange_free(&last);
    exchange_start(&last, request);
    turn_until(&last, 100);
    CHECK_INT(last.done, 1);
    return nh_doc_root(last.response);
}

/* A string field as a C string (of a small ring of buffers); NULL when it is absent. */
static inline const char *field(const nh_value *map, const char *name) {
    static char texts[8][70000];
    static int next;
    size_t length = 0;
    const char *bytes = nh_value_bytes(nh_value_get(map, name), &length);
    if (!bytes || length >= sizeof texts[0])
        return NULL;
    char *text = texts[next++ % 8];
    memcpy(text, bytes, length);
    text[length] = '\0';
    return text;
}

static inline long long number(const nh_value *map, const char *name) {
    return nh_value_int(nh_value_get(map, name), -1);
}

static inline int has(const char *text, const char *part) {
    int found = text && strstr(text, part);
    if (!found)
        printf("# no \"%s\" in: %s\n", part, text ? text : "(null)");
    return found;
}

/* A failure of the transport with this code, whose text holds `part`. */
#define CHECK_ERROR(response, code, part)                                                          \
    do {                                                                                           \
        const nh_value *failed_ = (response);                                                      \
        CHECK_STR(field(failed_, "error"), code);                                                  \
        CHECK(has(field(failed_, "message"), part));                                               \
    } while (0)

#endif
