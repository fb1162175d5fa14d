/* The pool of the http transport's direct way: which connections are kept, shared and given up,
 * what is repeated and what is not, and which requests go the other way. */
#include "spec/unit/transports/harness.h"
#include "spec/unit/transports/script_peer.h"

static peer plain;
static nh_transport_counts counts;

#define COUNT(name) ((int)atomic_load(&counts.http_##name))
#define OK          "HTTP/1.1 200 OK\r\n"
#define ANSWER      OK "Content-Length: 2\r\n\r\nok"

static const char answer[] = ANSWER, twice[] = ANSWER OK "Content-Length: 3\r\n\r\nbad";

static void open_with(size_t connections) {
    nh_transport_limits limits = default_limits();
    limits.connections = connections;
    limits.counts = &counts;
    atomic_store(&counts.http_opened, 0);
    transport_open(&nh_http_transport, limits);
}

static bool is_loaded(const char *library) {
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        found |= strstr(line, library) != NULL;
    if (maps)
        fclose(maps);
    return found;
}

static int status_of(nh_doc *request) {
    return (int)number(ask(request), "status");
}

static void opens_no_more_than_it_needs(void) {
    open_with(100);
    for (int i = 0; i < 10; i++)
        CHECK_INT(status_of(document("{'url':'http://127.0.0.1:%d/status/200'}", plain.port)), 200);
    CHECK_INT(COUNT(opened), 1);
    transport_close();
}

/* The first of all: libcurl stays loaded. */
static void needs_no_libcurl_for_an_address(void) {
    open_with(100);
    CHECK_INT(status_of(document("{'url':'http://127.0.0.1:%d/status/200'}", plain.port)), 200);
    CHECK_ERROR(ask(document("{'url':'http://127.0.0.1:1/'}")), "network", "port 1 after");
    CHECK_ERROR(ask(document("{'url':'http://127.0.0.1:%d/status/200','guard':true}", plain.port)),
                "invalid", "the guard refuses a loopback address");
    CHECK_INT(COUNT(opened), 1);
    CHECK(!is_loaded("/libcurl"));
    CHECK_INT(status_of(document("{'url':'http://localhost:%d/status/200'}", plain.port)), 200);
    CHECK(is_loaded("/libcurl"));
    transport_close();
}

/* Whatever the connection was made with makes it another one. */
static void shares_only_what_is_the_same(void) {
    static const char *const options[] = {"", ",'verify':false",
                                          ",'guard':true,'guard_allow':['127.0.0.0/8']",
                                          ",'guard':true,'guard_allow':['127.0.0.1']"};
    open_with(100);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 4; i++)
            CHECK_INT(status_of(document("{'url':'http://127.0.0.1:%d/status/200'%s}", plain.port,
                                         options[i])),
                      200);
    CHECK_INT(COUNT(opened), 4);
    /* What belongs to the request does not. */
    CHECK_INT(status_of(document("{'url':'http://127.0.0.1:%d/status/201','bearer':'b',"
                                 "'headers':{'X':'y'},'method':'PUT','timeout':9}",
                                 plain.port)),
              201);
    CHECK_INT(COUNT(opened), 4);
    transport_close();
}

static void keeps_only_what_the_answer_allows(void) {
    static const char *const closing[] = {
        OK "Connection: close\r\nContent-Length: 2\r\n\r\nok",
        OK "Connection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK "Content-Length: 2\r\n\r\nok and more",
        OK "Content-Length: 2\n\r\nok",
        OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    };
    open_with(100);
    for (size_t i = 0; i < sizeof closing / sizeof *closing; i++) {
        char host[32];
        strcpy(host, player_host());
        player_play((script){.bytes = closing[i], .length = strlen(closing[i]), .patient = true});
        int before = COUNT(opened);
        for (int round = 0; round < 2; round++)
            CHECK_INT(status_of(document("{'url':'http://%s:%d/'}", host, player.port)), 200);
        CHECK_INT(COUNT(opened) - before, 2);
    }
    transport_close();
}

/* Two places, three hosts: the one that rested longest makes room. */
static void gives_up_the_oldest(void) {
    open_with(2);
    for (int round = 0; round < 3; round++)
        for (int host = 1; host <= 3; host++)
            CHECK_INT(
                status_of(document("{'url':'http://127.0.0.%d:%d/status/200'}", host, plain.port)),
                200);
    CHECK_INT(COUNT(opened), 9);
    /* The other way needs a place, too. */
    CHECK_INT(status_of(document("{'url':'http://127.0.0.1:%d/status/200','headers':{'Host':'x'}}",
                                 plain.port)),
              200);
    transport_close();
}

/* Many requests for one host over two connections: those that wait are served as these become free,
 * and a request for another host has its turn. */
static void serves_those_who_wait(void) {
    enum { MANY = 40 };
    exchange each[MANY + 1];
    open_with(2);
    for (int i = 0; i < MANY; i++)
        exchange_start(&each[i],
                       document("{'url':'http://127.0.0.1:%d/delay/0.02','body':'x'}", plain.port));
    exchange_start(&each[MANY], document("{'url':'http://127.0.0.2:%d/status/200'}", plain.port));
    ops->cancel(transport, &each[MANY - 1].transfer);
    turn_until(&each[MANY], 60);
    int left = 0;
    for (int i = 0; i < MANY; i++)
        left += !each[i].done;
    printf("# %d were left when the other host had its turn\n", left);
    for (int i = 0; i < MANY - 1; i++)
        turn_until(&each[i], 60);
    for (int i = 0; i < MANY - 1; i++)
        CHECK_INT(each[i].done && number(nh_doc_root(each[i].response), "status") == 200, 1);
    CHECK_INT(each[MANY].done, 1);
    CHECK_INT(each[MANY - 1].done, 0);
    CHECK(COUNT(opened) <= 6);
    for (int i = 0; i <= MANY; i++)
        exchange_free(&each[i]);
    transport_close();
}

/* A kept connection that ends after the request was written and before any answer: the platform may
 * have acted on it, so it is not sent again. */
static void does_not_repeat_what_may_have_arrived(void) {
    char host[32];
    strcpy(host, player_host());
    open_with(100);
    player_play((script){.bytes = answer, .length = sizeof answer - 1, .then = true});
    CHECK_INT(status_of(document("{'url':'http://%s:%d/'}", host, player.port)), 200);
    int before = atomic_load(&player.accepted);
    const nh_value *response =
        ask(document("{'url':'http://%s:%d/','body':'x'}", host, player.port));
    CHECK_ERROR(response, "network", "127.");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    CHECK(nh_value_bool(nh_value_get(response, "retryable")));
    CHECK_INT(atomic_load(&player.accepted), before);
    CHECK_INT(COUNT(opened), 1);
    transport_close();
}

static void tells_that_nothing_was_sent(void) {
    open_with(100);
    const nh_value *response = ask(document("{'url':'http://127.0.0.1:1/','body':'x'}"));
    CHECK_ERROR(response, "network", "127.0.0.1:1");
    CHECK(nh_value_get(response, "sent") && !nh_value_bool(nh_value_get(response, "sent")));
    transport_close();
}

/* An answer that nobody asked for is not the answer to the next request. */
static void drops_a_connection_that_speaks_unasked(void) {
    char host[32];
    strcpy(host, player_host());
    open_with(100);
    player_play((script){.bytes = twice, .length = sizeof twice - 1, .split = sizeof answer - 1});
    for (int i = 0; i < 3; i++) {
        const nh_value *response = ask(document("{'url':'http://%s:%d/'}", host, player.port));
        CHECK_STR(field(response, "body"), "ok");
        while (atomic_load(&player.closed) < atomic_load(&player.accepted))
            turn(0.01);
        turn(0.01);
    }
    transport_close();
}

static void cancels_at_every_stage(void) {
    static const char bytes[] = OK "Content-Length: 5\r\n\r\nhello";
    for (size_t turns = 0; turns < 12; turns++) {
        exchange one;
        open_with(100);
        player_play((script){.bytes = bytes, .length = sizeof bytes - 1, .trickle = 200});
        exchange_start(&one,
                       document("{'url':'http://%s:%d/','body':'x'}", player_host(), player.port));
        for (size_t i = 0; i < turns && !one.done; i++)
            turn(0.002);
        if (!one.done)
            ops->cancel(transport, &one.transfer);
        bool done = one.done;
        turn_for(0.01);
        CHECK_INT(one.done, done);
        exchange_free(&one);
        transport_close();
    }
}

/* What the direct way does not speak. The answers are the same. */
static void leaves_the_unusual_to_libcurl(void) {
    static const char *const unusual[] = {
        "'url':'http://127.0.0.1:%d/status/200','http2':true",
        "'url':'http://127.0.0.1:%d/status/200','multipart':[{'name':'a','content':'b'}]",
        "'url':'http://127.0.0.1:%d/status/200','headers':{'Expect':'100-continue'},'body':'x'",
        "'url':'http://127.0.0.1:%d/status/200','headers':{'Connection':'close'}",
        "'url':'http://127.0.0.1:%d/status/200','headers':{'Host':'example.org'}",
        "'url':'http://user:word@127.0.0.1:%d/status/200'",
        "'url':'http://127.0.0.1:%d/a/../status/200'",
        "'url':'http://127.0.0.1:%d/status/200#part'",
        "'url':'HTTP://LOCALHOST:%d/status/200'",
        "'url':'http://127.1:%d/status/200'",
    };
    open_with(100);
    for (size_t i = 0; i < sizeof unusual / sizeof *unusual; i++) {
        char text[256];
        int before = COUNT(multi);
        snprintf(text, sizeof text, "{%s}", unusual[i]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        CHECK_INT(status_of(document(text, plain.port)), 200);
#pragma GCC diagnostic pop
        CHECK_INT(COUNT(multi) - before, 1);
    }
    int before = COUNT(direct);
    CHECK_INT(status_of(document("{'url':'http://localhost:%d/status/200?a=/../b','method':'PATCH',"
                                 "'headers':{'Accept':'a/b','User-Agent':'me'}}",
                                 plain.port)),
              200);
    CHECK_INT(COUNT(direct) - before, 1);
    transport_close();
}

int main(void) {
    plain = peer_start("http_peer.py", "--host", "0.0.0.0", NULL);
    player_start();
    RUN(needs_no_libcurl_for_an_address);
    RUN(opens_no_more_than_it_needs);
    RUN(shares_only_what_is_the_same);
    RUN(keeps_only_what_the_answer_allows);
    RUN(gives_up_the_oldest);
    RUN(serves_those_who_wait);
    RUN(does_not_repeat_what_may_have_arrived);
    RUN(tells_that_nothing_was_sent);
    RUN(drops_a_connection_that_speaks_unasked);
    RUN(cancels_at_every_stage);
    RUN(leaves_the_unusual_to_libcurl);
    player_stop();
    peer_stop(&plain);
    return check_end();
}
