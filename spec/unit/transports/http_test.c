/* The http transport against real servers on loopback. The suite runs it for each of its two ways:
 *
 *     unit_transports_http [multi]
 */
#include "spec/unit/transports/harness.h"
#include "spec/unit/transports/script_peer.h"

static peer plain, secure;
static char cert[128], key[128];
static bool through_multi; /* the way that is tested */

static nh_transport_limits limits_now(void) {
    nh_transport_limits limits = default_limits();
    limits.http_multi = through_multi;
    limits.connect_timeout = 60; /* reading all trusted certificates takes a busy machine seconds */
    return limits;
}

#define URL "'url':'http://127.0.0.1:%d/"

static long long server_count(const char *what) {
    const nh_value *response = ask(document("{" URL "count'}", plain.port));
    nh_doc *body = nh_doc_from_json(field(response, "body"), strlen(field(response, "body")), NULL);
    long long count = number(nh_doc_root(body), what);
    nh_doc_unref(body);
    return count;
}

/* The echo server's view of a request. */
static nh_doc *echo(nh_doc *request) {
    const nh_value *response = ask(request);
    CHECK_INT(number(response, "status"), 200);
    const char *body = field(response, "body");
    return body ? nh_doc_from_json(body, strlen(body), NULL) : NULL;
}

static const char *echoed_header(const nh_doc *seen, const char *name) {
    const nh_value *headers = nh_value_get(nh_doc_root(seen), "headers");
    for (size_t i = 0; i < nh_value_count(headers); i++) {
        size_t length;
        const nh_value *pair = nh_value_at(headers, i);
        const char *bytes = nh_value_bytes(nh_value_at(pair, 0), &length);
        if (length == strlen(name) && strncasecmp(bytes, name, length) == 0) {
            static char text[512];
            bytes = nh_value_bytes(nh_value_at(pair, 1), &length);
            snprintf(text, sizeof text, "%.*s", (int)length, bytes);
            return text;
        }
    }
    return NULL;
}

static void sends_what_the_request_says(void) {
    nh_doc *seen = echo(
        document("{" URL "echo?a=b','headers':{'Content-Type':'application/json','X-Empty':''},"
                 "'body':'{}\\n','bearer':'sesame'}",
                 plain.port));
    CHECK_STR(field(nh_doc_root(seen), "method"), "POST");
    CHECK_STR(field(nh_doc_root(seen), "path"), "/echo?a=b");
    CHECK_STR(field(nh_doc_root(seen), "body"), "{}\n");
    CHECK_STR(echoed_header(seen, "content-type"), "application/json");
    CHECK_STR(echoed_header(seen, "authorization"), "Bearer sesame");
    CHECK_STR(echoed_header(seen, "x-empty"), "");
    CHECK(has(echoed_header(seen, "user-agent"), "NotifyHub/"));
    nh_doc_unref(seen);

    seen = echo(document("{" URL "echo','form':[{'name':'Body','value':'a b&\xC3\xA9\\n'},"
                         "{'name':'n','value':3}],'user':'me','password':'pw'}",
                         plain.port));
    CHECK_STR(field(nh_doc_root(seen), "body"), "Body=a+b%26%C3%A9%0A&n=3");
    CHECK_STR(echoed_header(seen, "content-type"), "application/x-www-form-urlencoded");
    CHECK_STR(echoed_header(seen, "authorization"), "Basic bWU6cHc=");
    nh_doc_unref(seen);

    seen = echo(document("{" URL "echo'}", plain.port));
    CHECK_STR(field(nh_doc_root(seen), "method"), "GET");
    nh_doc_unref(seen);
    seen = echo(document("{" URL "echo','method':'PUT','body':'x'}", plain.port));
    CHECK_STR(field(nh_doc_root(seen), "method"), "PUT");
    CHECK(echoed_header(seen, "content-type") == NULL);
    nh_doc_unref(seen);
    CHECK_INT(number(ask(document("{" URL "echo','method':'HEAD'}", plain.port)), "status"), 200);
}

static void sends_multipart_with_files(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/note.txt", scratch_dir());
    FILE *file = fopen(path, "w");
    fputs("from the file", file);
    fclose(file);
    nh_doc *seen = echo(document(
        "{" URL "echo','multipart':[{'name':'a','content':'one','content_type':'application/json'},"
        "{'name':'f','filename':'n\xC3\xB6te.txt','path':'%s'}]}",
        plain.port, path));
    const char *body = field(nh_doc_root(seen), "body");
    CHECK(has(body, "name=\"a\"\r\nContent-Type: application/json\r\n\r\none\r\n"));
    CHECK(has(body, "name=\"f\"; filename=\"n\xC3\xB6te.txt\""));
    CHECK(has(body, "from the file"));
    CHECK(echoed_header(seen, "expect") == NULL);
    nh_doc_unref(seen);
    CHECK_ERROR(ask(document("{" URL "echo','multipart':[{'name':'f','path':'/nowhere/x.png'}]}",
                             plain.port)),
                "invalid", "multipart[1].path: /nowhere/x.png");
    CHECK_ERROR(
        ask(document("{" URL "echo','multipart':[{'name':'f','path':'/dev/zero'}]}", plain.port)),
        "invalid", "not a regular file");
}

static void returns_any_status_and_follows_none(void) {
    const nh_value *response = ask(document("{" URL "redirect'}", plain.port));
    CHECK_INT(number(response, "status"), 302);
    CHECK_STR(field(nh_value_get(response, "headers"), "location"), "/echo");
    response = ask(document("{" URL "status/429'}", plain.port));
    CHECK_INT(number(response, "status"), 429);
    CHECK_STR(field(nh_value_get(response, "headers"), "retry-after"), "7");
    CHECK_STR(field(response, "body"), "status 429");
    response = ask(document("{" URL "twice'}", plain.port));
    CHECK_STR(field(nh_value_get(response, "headers"), "x-twice"), "one, two");
    CHECK_STR(field(nh_value_get(response, "headers"), "other"), "");
}

static void caps_what_it_reads(void) {
    const nh_value *response = ask(document("{" URL "body/65536'}", plain.port));
    CHECK_INT(number(response, "status"), 200);
    response = ask(document("{" URL "body/65537'}", plain.port));
    CHECK_ERROR(response, "too_large", "body is over 65536 bytes");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    CHECK_ERROR(ask(document("{" URL "header/70000','timeout':90}", plain.port)), "too_large",
                "header is over");
    CHECK_ERROR(ask(document("{" URL "line/6000000','timeout':90}", plain.port)), "too_large",
                "header is over");
}

static void tells_broken_connections(void) {
    const nh_value *response = ask(document("{" URL "cut'}", plain.port));
    CHECK_ERROR(response, "network", "127.0.0.1:");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    CHECK(nh_value_bool(nh_value_get(response, "retryable")));
    CHECK_ERROR(ask(document("{" URL "slam','body':'x'}", plain.port)), "network", "127.0.0.1:");

    response = ask(document("{'url':'http://127.0.0.1:1/T0KEN?key=T0KEN'}"));
    CHECK_ERROR(response, "network", "127.0.0.1:1: ");
    CHECK(!strstr(field(response, "message"), "T0KEN"));
    CHECK(nh_value_get(response, "sent") && !nh_value_bool(nh_value_get(response, "sent")));
    response = ask(document("{'url':'http://u:T0KEN@nowhere.invalid/T0KEN'}"));
    CHECK(has(field(response, "message"), "nowhere.invalid: ")); /* a resolver may time out */
    CHECK(!strstr(field(response, "message"), "T0KEN"));
}

static void ends_in_time(void) {
    double before = seconds_now();
    const nh_value *response = ask(document("{" URL "delay/5','timeout':0.3}", plain.port));
    CHECK_ERROR(response, "timeout", "127.0.0.1:");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    CHECK(seconds_now() - before < 1);
    /* 192.0.2.0/24 is nobody's; a network that says so at once is fine too. */
    before = seconds_now();
    ask(document("{'url':'http://192.0.2.1/','connect_timeout':0.3}"));
    CHECK(seconds_now() - before < 1.5);
}

static void trusts_only_known_certificates(void) {
    const nh_value *response = ask(document("{'url':'https://127.0.0.1:%d/echo'}", secure.port));
    CHECK_ERROR(response, "tls", "certificate");
    CHECK(nh_value_get(response, "sent") && !nh_value_bool(nh_value_get(response, "sent")));
    CHECK(!nh_value_bool(nh_value_get(response, "retryable")));
    const char *trust[] = {"'verify':false", "'ca_file':'%s'"};
    for (int i = 0; i < 2; i++) {
        char option[256];
        snprintf(option, sizeof option, i ? "'ca_file':'%s'" : "%s", i ? cert : trust[0]);
        response = ask(document("{'url':'https://127.0.0.1:%d/echo',%s}", secure.port, option));
        CHECK_INT(number(response, "status"), 200);
    }
    /* The connection that was made without verification is not used for who wants it. */
    CHECK_ERROR(ask(document("{'url':'https://127.0.0.1:%d/echo'}", secure.port)), "tls", "");
    CHECK_ERROR(
        ask(document("{'url':'https://127.0.0.1:%d/','ca_file':'/nowhere.pem'}", secure.port)),
        "invalid", "ca_file: /nowhere.pem");
    response = ask(
        document("{'url':'https://127.0.0.1:%d/echo','verify':false,'http2':true}", secure.port));
    CHECK_INT(number(response, "status"), 200);
}

static void refuses_bad_requests_unsent(void) {
    static const struct {
        const char *fields, *part;
    } bad[] = {
        {"'url':'ftp://127.0.0.1:%d/'", "url: must begin"},
        {"'url':'http://127.0.0.1:%d/','methd':'GET'", "methd: unknown field"},
        {"'url':'http://127.0.0.1:%d/','timeout':'5'", "timeout: must be"},
        {"'url':'http://127.0.0.1:%d/','method':'GET /x'", "method"},
        {"'url':'http://127.0.0.1:%d/','body':'x','form':{'a':'b'}", "only one"},
        {"'url':'http://127.0.0.1:%d/','headers':{'text':'a\\r\\nX-Evil: 1'}", "headers.text"},
        {"'url':'http://127.0.0.1:%d/','headers':{'X: y':'1'}", "headers[1]"},
        {"'url':'http://127.0.0.1:%d/','headers':{'Content-Length':'3'}", "may not be set"},
    };
    long long before = server_count("requests");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        snprintf(text, sizeof text, "{%s}", bad[i].fields);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        CHECK_ERROR(ask(document(text, plain.port)), "invalid", bad[i].part);
#pragma GCC diagnostic pop
    }
    CHECK_INT(server_count("requests"), before);
}

static void keeps_its_connection(void) {
    ask(document("{" URL "echo'}", plain.port));
    long long before = server_count("connections");
    for (int i = 0; i < 50; i++)
        CHECK_INT(number(ask(document("{" URL "echo','body':'x'}", plain.port)), "status"), 200);
    CHECK_INT(server_count("connections"), before);
}

static void carries_a_thousand_at_once(void) {
    enum { MANY = 1000 };
    static exchange each[MANY];
    long long before = server_count("requests");
    double begin = seconds_now();
    for (int i = 0; i < MANY; i++)
        exchange_start(
            &each[i], document("{" URL "delay/0.5?n=%d','body':'x','timeout':100}", plain.port, i));
    int answered = 0;
    for (int i = 0; i < MANY; i++) {
        turn_until(&each[i], 100);
        answered += each[i].done == 1 && number(nh_doc_root(each[i].response), "status") == 200;
        exchange_free(&each[i]);
    }
    CHECK_INT(answered, MANY);
    CHECK_INT(server_count("requests") - before, MANY);
    printf("# 1000 at once, 0.5 s each: %.2f s\n", seconds_now() - begin);
}

static void keeps_its_tls_connection(void) {
#define SECURE "{'url':'https://127.0.0.1:%d/%s','verify':false}", secure.port
    ask(document(SECURE, "count"));
    const nh_value *response = ask(document(SECURE, "count"));
    nh_doc *first =
        nh_doc_from_json(field(response, "body"), strlen(field(response, "body")), NULL);
    for (int i = 0; i < 20; i++) {
        CHECK_INT(number(ask(document(SECURE, "body/60000")), "status"), 200);
        turn(0); /* tickets of TLS 1.3 may come at any time */
    }
    response = ask(document(SECURE, "count"));
    nh_doc *last = nh_doc_from_json(field(response, "body"), strlen(field(response, "body")), NULL);
    CHECK_INT(number(nh_doc_root(last), "connections"), number(nh_doc_root(first), "connections"));
    nh_doc_unref(first);
    nh_doc_unref(last);
}

static void sends_large_bodies(void) {
    static char text[600000], body[500000];
    memset(body, 'x', sizeof body - 1);
    for (int tls = 0; tls < 2; tls++) {
        snprintf(text, sizeof text,
                 "{\"url\":\"http%s://127.0.0.1:%d/echo\",\"verify\":false,"
                 "\"body\":\"%s\"}",
                 tls ? "s" : "", tls ? secure.port : plain.port, body);
        const nh_value *response = ask(nh_doc_from_json(text, strlen(text), NULL));
        CHECK_ERROR(response, "too_large", "body is over"); /* it is echoed */
        snprintf(text, sizeof text,
                 "{\"url\":\"http%s://127.0.0.1:%d/status/200\",\"verify\":false,"
                 "\"body\":\"%s\"}",
                 tls ? "s" : "", tls ? secure.port : plain.port, body);
        response = ask(nh_doc_from_json(text, strlen(text), NULL));
        CHECK_INT(number(response, "status"), 200);
        CHECK_STR(field(response, "body"), "status 200");
    }
}

static void goes_through_a_proxy(void) {
    peer proxy = peer_start("proxy_peer.py", NULL);
    CHECK_INT(number(ask(document("{" URL "status/201','proxy':'http://127.0.0.1:%d'}", plain.port,
                                  proxy.port)),
                     "status"),
              201);
    for (int i = 0; i < 3; i++)
        CHECK_INT(number(ask(document("{'url':'https://127.0.0.1:%d/status/202','verify':false,"
                                      "'proxy':'http://127.0.0.1:%d'}",
                                      secure.port, proxy.port)),
                         "status"),
                  202);
    peer_stop(&proxy);
    CHECK_ERROR(ask(document("{'url':'https://127.0.0.1:%d/','verify':false,"
                             "'proxy':'http://127.0.0.1:1'}",
                             secure.port)),
                "network", "");
}

/* The response of a server that plays these bytes and ends the connection. */
static const nh_value *play(script what, const char *options) {
    what.length = strlen(what.bytes);
    player_play(what);
    return ask(
        document("{'url':'http://%s:%d/T0KEN','body':'x'%s}", player_host(), player.port, options));
}

static void tells_what_broke(void) {
    const nh_value *response =
        play((script){.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"}, "");
    CHECK_ERROR(response, "network", "127.");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    CHECK(!strstr(field(response, "message"), "T0KEN"));
    response =
        play((script){.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", .reset = true}, "");
    CHECK_ERROR(response, "network", "127.");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    response = play((script){.bytes = "", .reset = true}, "");
    CHECK_ERROR(response, "network", "");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    response = play((script){.bytes = "SSH-2.0-OpenSSH_9.2\r\n"}, "");
    CHECK_ERROR(response, "network", "is not HTTP");
}

/* An answer that comes before the request is whole, or before it was read, is the answer. */
static void hears_early_answers(void) {
    static const char bytes[] = "HTTP/1.1 413 Too Large\r\nConnection: close\r\n"
                                "Content-Length: 3\r\n\r\nbig";
    static char text[1200000], body[1000000];
    memset(body, 'x', sizeof body - 1);
    player_play(
        (script){.bytes = bytes, .length = sizeof bytes - 1, .deaf = true, .patient = true});
    snprintf(text, sizeof text, "{\"url\":\"http://%s:%d/\",\"body\":\"%s\"}", player_host(),
             player.port, body);
    const nh_value *response = ask(nh_doc_from_json(text, strlen(text), NULL));
    CHECK_INT(number(response, "status"), 413);
    CHECK_STR(field(response, "body"), "big");
}

static void ends_a_peer_that_trickles_or_stalls(void) {
    double before = seconds_now();
    const nh_value *response =
        play((script){.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"
                               "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                      .trickle = 20000},
             ",'timeout':0.3");
    CHECK_ERROR(response, "timeout", "timed out after");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    response = play((script){.bytes = "", .patient = true}, ",'timeout':0.2");
    CHECK_ERROR(response, "timeout", "with 0 bytes received");
    CHECK(seconds_now() - before < 20);
}

static void reads_ten_thousand_headers(void) {
    static char bytes[64000];
    size_t length = (size_t)sprintf(bytes, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
    for (int i = 0; length < sizeof bytes - 40; i++)
        length += (size_t)sprintf(bytes + length, "%c: %d\r\n", 'a' + i % 7, i % 10);
    strcpy(bytes + length, "\r\n");
    const nh_value *response = play((script){.bytes = bytes}, "");
    CHECK_INT(number(response, "status"), 200);
    CHECK_INT((int)nh_value_count(nh_value_get(response, "headers")), 8);
    CHECK(strncmp(field(nh_value_get(response, "headers"), "b"), "1, 8, 5, 2", 10) == 0);
}

/* What a server does that closes after each answer and does not say so: the next request goes over
 * another connection, and no answer is lost. */
static void leaves_connections_that_the_peer_closed(void) {
    static const char bytes[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    char host[32];
    strcpy(host, player_host());
    player_play((script){.bytes = bytes, .length = sizeof bytes - 1});
    int before = 0;
    for (int i = 0; i < 5; i++) {
        const nh_value *response =
            ask(document("{'url':'http://%s:%d/','body':'x'}", host, player.port));
        CHECK_INT(number(response, "status"), 200);
        while (atomic_load(&player.closed) < atomic_load(&player.accepted))
            turn(0.01);
        turn(0.01);
        before =
            i == 0 ? atomic_load(&player.accepted) : before; /* those of other tests are gone */
    }
    CHECK_INT(atomic_load(&player.accepted) - before, 4);
}

static void guards_kept_connections_too(void) {
    static const char open[] = "{" URL "status/200'}",
                      guarded[] = "{" URL "status/200','guard':true}",
                      allowed[] = "{" URL "status/200','guard':true,'guard_allow':['127.0.0.0/8']}";
    CHECK_INT(number(ask(document(open, plain.port)), "status"), 200);
    CHECK_ERROR(ask(document(guarded, plain.port)), "invalid", "the guard refuses");
    CHECK_INT(number(ask(document(allowed, plain.port)), "status"), 200);
    CHECK_ERROR(ask(document(guarded, plain.port)), "invalid", "the guard refuses");
    CHECK_ERROR(ask(document("{" URL "','guard':true,'guard_allow':['what']}", plain.port)),
                "invalid", "guard_allow[1]");
}

static void cancels_really(void) {
    exchange one;
    exchange_start(&one, document("{" URL "delay/0.4','body':'x'}", plain.port));
    turn_for(0.1);
    ops->cancel(transport, &one.transfer);
    turn_for(0.5);
    CHECK_INT(one.done, 0);
    CHECK(one.transfer.state == NULL);
    exchange_free(&one);
}

/* One place: the second waits and the third is cancelled while it waits. */
static void waits_in_line(void) {
    nh_transport_limits limits = limits_now();
    nh_loop *outer_loop = loop;
    nh_transport *outer = transport;
    exchange each[4];
    limits.connections = 1;
    transport_open(&nh_http_transport, limits);
    exchange_start(&each[0], document("{" URL "delay/0.5'}", plain.port));
    exchange_start(&each[1], document("{" URL "echo'}", plain.port));
    exchange_start(&each[2], document("{" URL "echo'}", plain.port));
    exchange_start(&each[3], document("{" URL "echo','timeout':0.2}", plain.port));
    turn_for(0.3);
    ops->cancel(transport, &each[2].transfer);
    CHECK_INT(each[0].done + each[1].done + each[2].done, 0);
    CHECK_INT(each[3].done, 1); /* its time was over while it waited */
    CHECK_ERROR(nh_doc_root(each[3].response), "timeout", "no connection became free");
    turn_until(&each[1], 5);
    CHECK_INT(number(nh_doc_root(each[0].response), "status"), 200);
    CHECK_INT(number(nh_doc_root(each[1].response), "status"), 200);
    CHECK_INT(each[2].done, 0);
    for (int i = 0; i < 4; i++)
        exchange_free(&each[i]);
    transport_close();
    loop = outer_loop;
    transport = outer;
}

/* A connection that never stood is closed by libcurl without a word; the number of its descriptor
 * is soon another's, whom the end of the transport must not disturb. */
static void leaves_descriptors_of_others_alone(void) {
    enum { PAIRS = 32, FILL = 4 };
    nh_loop *outer_loop = loop;
    nh_transport *outer = transport;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int full = socket(AF_INET, SOCK_STREAM, 0), fill[FILL], pairs[PAIRS][2];
    CHECK(bind(full, (struct sockaddr *)&address, length) == 0 && listen(full, 0) == 0);
    CHECK(getsockname(full, (struct sockaddr *)&address, &length) == 0);
    for (int i = 0; i < FILL; i++) { /* what listens is full after the first, and answers no more */
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&address, length);
    }
    transport_open(&nh_http_transport, limits_now());
    CHECK_ERROR(ask(document("{'url':'http://localhost:%d/','connect_timeout':0.2}",
                             ntohs(address.sin_port))),
                "timeout", "localhost:");
    for (int i = 0; i < PAIRS; i++)
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pairs[i]) == 0);
    transport_close();
    for (int i = 0; i < PAIRS * 2; i++) {
        char byte = 'x';
        int from = pairs[i / 2][i % 2], to = pairs[i / 2][1 - i % 2];
        CHECK(send(from, &byte, 1, MSG_NOSIGNAL) == 1 && read(to, &byte, 1) == 1);
        if (i % 2)
            close(from), close(to);
    }
    for (int i = 0; i < FILL; i++)
        close(fill[i]);
    close(full);
    loop = outer_loop;
    transport = outer;
}

int main(int argc, char **argv) {
    through_multi = argc == 2 && strcmp(argv[1], "multi") == 0;
    make_certificate(cert, key, sizeof cert);
    plain = peer_start("http_peer.py", NULL);
    secure = peer_start("http_peer.py", "--cert", cert, "--key", key, NULL);
    player_start();
    transport_open(&nh_http_transport, limits_now());
    RUN(sends_what_the_request_says);
    RUN(sends_multipart_with_files);
    RUN(sends_large_bodies);
    RUN(returns_any_status_and_follows_none);
    RUN(caps_what_it_reads);
    RUN(reads_ten_thousand_headers);
    RUN(tells_broken_connections);
    RUN(tells_what_broke);
    RUN(hears_early_answers);
    RUN(ends_in_time);
    RUN(ends_a_peer_that_trickles_or_stalls);
    RUN(trusts_only_known_certificates);
    RUN(refuses_bad_requests_unsent);
    RUN(keeps_its_connection);
    RUN(keeps_its_tls_connection);
    RUN(leaves_connections_that_the_peer_closed);
    RUN(guards_kept_connections_too);
    RUN(goes_through_a_proxy);
    RUN(cancels_really);
    RUN(waits_in_line);
    RUN(carries_a_thousand_at_once);
    RUN(leaves_descriptors_of_others_alone);
    transport_close();
    player_stop();
    peer_stop(&plain);
    peer_stop(&secure);
    scratch_remove();
    return check_end();
}
