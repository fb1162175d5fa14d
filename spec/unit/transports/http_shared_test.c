/* Requests that many transfers share, each with a body of its own, and answers of which only the
 * status is wanted. The suite runs it for each of the http transport's two ways:
 *
 *     unit_transports_http_shared [multi]
 */
#include "spec/unit/transports/harness.h"

static peer plain;
static bool through_multi; /* the way that is tested */

static void open_it(void) {
    nh_transport_limits limits = default_limits();
    limits.http_multi = through_multi;
    transport_open(&nh_http_transport, limits);
}

/* Another transfer of the request that `first` has made. */
static void exchange_share(exchange *what, exchange *first, const char *body, bool brief) {
    *what = (exchange){.transfer = {.done = exchange_done,
                                    .request = &first->request,
                                    .body = body,
                                    .body_length = strlen(body),
                                    .brief = brief}};
    ops->start(transport, &what->transfer);
}

/* What the echo server got. */
static bool was_echoed(const exchange *what, const char *name, const char *text) {
    const char *body = field(nh_doc_root(what->response), "body");
    nh_doc *seen = body ? nh_doc_from_json(body, strlen(body), NULL) : NULL;
    bool same = CHECK_STR(field(nh_doc_root(seen), name), text);
    nh_doc_unref(seen);
    return same;
}

#define URL "'url':'http://127.0.0.1:%d/"

static void sends_each_body_with_one_request(void) {
    enum { MANY = 40 };
    exchange first, each[MANY];
    char bodies[MANY][32];
    exchange_start_with(&first, document("{" URL "echo','headers':{'X-Its':'own'}}", plain.port),
                        "", 0);
    const void *read = first.request.read;
    CHECK(read != NULL);
    for (int i = 0; i < MANY; i++) {
        snprintf(bodies[i], sizeof bodies[i], "body %.*d", i % 7 + 1, i);
        exchange_share(&each[i], &first, bodies[i], false);
    }
    turn_until(&first, 10);
    CHECK(was_echoed(&first, "method", "POST") && was_echoed(&first, "body", ""));
    for (int i = 0; i < MANY; i++) {
        turn_until(&each[i], 10);
        CHECK(was_echoed(&each[i], "method", "POST") && was_echoed(&each[i], "body", bodies[i]));
        nh_doc_unref(each[i].response);
    }
    CHECK(first.request.read == read); /* it was read once */
    exchange_free(&first);
}

/* Larger than what goes in one piece with the head, and than what a socket takes at once. */
static void sends_a_large_body_beside(void) {
    enum { LARGE = 3 << 20 };
    exchange one;
    char *body = malloc(LARGE);
    memset(body, 'x', LARGE);
    exchange_start_with(&one, document("{" URL "status/200','method':'PUT'}", plain.port), body,
                        LARGE);
    turn_until(&one, 20);
    CHECK_INT(number(nh_doc_root(one.response), "status"), 200);
    exchange_free(&one);
    free(body);
}

static void refuses_two_bodies(void) {
    static const char *const more[] = {"'body':'x'", "'form':{'a':'b'}",
                                       "'multipart':[{'name':'a','content':'b'}]"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        exchange one;
        exchange_start_with(&one, document("{" URL "echo',%s}", plain.port, more[i]), "y", 1);
        CHECK_INT(one.done, 1);
        CHECK_ERROR(nh_doc_root(one.response), "invalid", "only one may be given");
        exchange_free(&one);
    }
}

/* Of a success the number, of all else the response. */
static void says_only_the_status_of_a_success(void) {
    static const struct {
        const char *path;
        int status; /* 0: a response */
        const char *body;
    } cases[] = {{"status/200", 200, NULL},       {"status/204", 204, NULL},
                 {"status/299", 299, NULL},       {"status/302", 0, "status 302"},
                 {"status/404", 0, "status 404"}, {"status/503", 0, "status 503"},
                 {"body/1000", 200, NULL},        {"twice", 200, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exchange first, one;
        exchange_start_with(&first, document("{" URL "%s'}", plain.port, cases[i].path), "x", 1);
        exchange_share(&one, &first, "x", true);
        turn_until(&first, 10);
        turn_until(&one, 10);
        CHECK_INT(first.transfer.status, 0);
        CHECK(nh_value_get(nh_doc_root(first.response), "headers") != NULL);
        CHECK_INT(one.transfer.status, cases[i].status);
        CHECK_INT(one.response == NULL, cases[i].status > 0);
        if (cases[i].body)
            CHECK_STR(field(nh_doc_root(one.response), "body"), cases[i].body);
        nh_doc_unref(one.response);
        exchange_free(&first);
    }
}

/* A success that does not end well is none. */
static void minds_the_rest_of_a_success(void) {
    static const struct {
        const char *path, *code, *text;
    } cases[] = {{"cut", "network", ""},
                 {"body/70000", "too_large", "body is over"},
                 {"header/70000", "too_large", "header is over"},
                 {"line/70000", "too_large", "header is over"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exchange first, one;
        exchange_start_with(&first, document("{" URL "%s'}", plain.port, cases[i].path), "x", 1);
        exchange_share(&one, &first, "x", true);
        turn_until(&first, 10);
        turn_until(&one, 10);
        CHECK_INT(one.transfer.status, 0);
        CHECK_ERROR(nh_doc_root(one.response), cases[i].code, cases[i].text);
        CHECK_ERROR(nh_doc_root(first.response), cases[i].code, cases[i].text);
        nh_doc_unref(one.response);
        exchange_free(&first);
    }
}

/* What its request was read into is no part of the transport that read it. */
static void outlives_its_transport(void) {
    exchange first, second;
    exchange_start_with(&first, document("{" URL "echo'}", plain.port), "one", 3);
    turn_until(&first, 10);
    transport_close();
    open_it();
    exchange_share(&second, &first, "two", false);
    turn_until(&second, 10);
    CHECK(was_echoed(&first, "body", "one"));
    CHECK(was_echoed(&second, "body", "two"));
    nh_doc_unref(second.response);
    exchange_free(&first);
}

/* Sharing opens no way around the guard or the checks of a header. */
static void guards_each_transfer(void) {
    static const struct {
        const char *more, *text;
    } cases[] = {{"'guard':true", "the guard refuses"},
                 {"'headers':{'Content-Length':'3'}", "may not be set"},
                 {"'headers':{'A':'b\\r\\nC: d'}", "control characters"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        exchange first, one;
        exchange_start_with(&first, document("{" URL "echo',%s}", plain.port, cases[i].more), "x",
                            1);
        exchange_share(&one, &first, "y", true);
        turn_until(&first, 10);
        turn_until(&one, 10);
        CHECK_ERROR(nh_doc_root(first.response), "invalid", cases[i].text);
        CHECK_ERROR(nh_doc_root(one.response), "invalid", cases[i].text);
        CHECK_INT(one.transfer.status, 0);
        nh_doc_unref(one.response);
        exchange_free(&first);
    }
}

int main(int argc, char **argv) {
    through_multi = argc == 2 && strcmp(argv[1], "multi") == 0;
    plain = peer_start("http_peer.py", NULL);
    open_it();
    RUN(sends_each_body_with_one_request);
    RUN(sends_a_large_body_beside);
    RUN(refuses_two_bodies);
    RUN(says_only_the_status_of_a_success);
    RUN(minds_the_rest_of_a_success);
    RUN(outlives_its_transport);
    RUN(guards_each_transfer);
    transport_close();
    peer_stop(&plain);
    return check_end();
}
