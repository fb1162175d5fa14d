/* transport_loop.c — what the http transport costs, without queue, worker and scripts.
 *
 * POSTs a body of 300 bytes COUNT times to URL with IN_FLIGHT transfers under way, through the
 * transport's own interface on a worker's loop. Prints requests a second and microseconds of
 * processor time a request, to be read beside curl_loop's. One thread.
 *
 *     transport_loop URL COUNT IN_FLIGHT [multi]
 *
 * With `multi` through libcurl's multi interface, as with transport.http = "multi".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platforms/transports/transports.h"

enum { BODY_BYTES = 300 };

typedef struct request {
    nh_transfer transfer; /* first */
    nh_deferred again;    /* a transfer is started outside of the transport's calls */
} request;

static nh_loop *loop;
static nh_transport *transport;
static nh_request *asked;
static size_t left_to_start, left_to_end, failed;

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void start(request *one) {
    left_to_start--;
    nh_http_transport.start(transport, &one->transfer);
}

static void start_again(nh_deferred *deferred) {
    if (left_to_start > 0)
        start((request *)(void *)((char *)deferred - offsetof(request, again)));
}

static void done(nh_transfer *transfer, nh_doc *response) {
    request *one = (request *)(void *)transfer;
    failed += transfer->status == 0;
    nh_doc_unref(response);
    left_to_end--;
    nh_loop_defer(loop, &one->again);
}

static nh_request *make_request(const char *url, nh_error *error) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_writer_map(writer, 3);
    nh_writer_cstring(writer, "url");
    nh_writer_cstring(writer, url);
    nh_writer_cstring(writer, "method");
    nh_writer_cstring(writer, "POST");
    nh_writer_cstring(writer, "headers");
    nh_writer_map(writer, 1);
    nh_writer_cstring(writer, "Content-Type");
    nh_writer_cstring(writer, "application/json");
    nh_doc *doc = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    return doc ? nh_request_create(doc, true, error) : NULL;
}

int main(int argc, char **argv) {
    bool multi = argc == 5 && strcmp(argv[4], "multi") == 0;
    size_t count = argc == 4 + multi ? strtoul(argv[2], NULL, 10) : 0;
    size_t in_flight = argc == 4 + multi ? strtoul(argv[3], NULL, 10) : 0;
    nh_error error = {.message = "usage: transport_loop URL COUNT IN_FLIGHT [multi]"};
    nh_transport_limits limits = {.response_bytes = 65536,
                                  .header_bytes = 65536,
                                  .connect_timeout = 5,
                                  .timeout = 30,
                                  .http_multi = multi,
                                  .connections = in_flight > 1024 ? in_flight : 1024};
    if (count == 0 || in_flight == 0 || !(loop = nh_loop_create(&error)) ||
        nh_http_transport.open(loop, &limits, &transport, &error) != NH_OK ||
        !(asked = make_request(argv[1], &error))) {
        fprintf(stderr, "%s\n", error.message);
        return 2;
    }
    request *requests = calloc(in_flight, sizeof *requests);
    if (!requests)
        return 2;
    char body[BODY_BYTES];
    memset(body, 'x', sizeof body);
    left_to_start = left_to_end = count;
    double started = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < in_flight && left_to_start > 0; i++) {
        requests[i].transfer = (nh_transfer){.done = done,
                                             .request = asked,
                                             .body = body,
                                             .body_length = sizeof body,
                                             .brief = true};
        requests[i].again.call = start_again;
        start(&requests[i]);
    }
    while (left_to_end > 0)
        nh_loop_turn(loop, 1);
    double seconds = now(CLOCK_MONOTONIC) - started;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%.0f %.1f\n", (double)count / seconds, cpu / (double)count * 1e6);
    nh_http_transport.close(transport);
    nh_loop_destroy(loop);
    nh_request_unref(asked);
    free(requests);
    return failed > 0;
}
