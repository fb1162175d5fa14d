/* address_test.c — which addresses a guard lets through: its rules one by one, then the transports
 * that ask it, against real servers on loopback. */
#include "platforms/transports/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "spec/unit/transports/harness.h"

/* ------------------------------------------------------------------- rules */

/* A guard from JSON text; NULL when the list is wrong. */
static nh_guard *guard_of(const char *list, bool proxied, nh_error *error) {
    nh_guard *guard = NULL;
    nh_doc *doc = document("%s", list);
    nh_guard_create(nh_doc_root(doc), proxied, &guard, error);
    nh_doc_unref(doc);
    return guard;
}

static const char *refuses(const nh_guard *guard, const char *address, int port) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const char *words = nh_guard_refuses_text(guard, address, port), *same = "no address";
    if (inet_pton(AF_INET, address, &four.sin_addr) == 1)
        same = nh_guard_refuses(guard, (struct sockaddr *)&four);
    else if (inet_pton(AF_INET6, address, &six.sin6_addr) == 1)
        same = nh_guard_refuses(guard, (struct sockaddr *)&six);
    CHECK_STR(words, same);
    return words;
}

static void knows_what_is_not_public(void) {
    static const struct {
        const char *address, *part; /* NULL: allowed */
    } cases[] = {
        {"8.8.8.8", NULL},
        {"1.1.1.1", NULL},
        {"9.255.255.255", NULL},
        {"11.0.0.0", NULL},
        {"172.15.255.255", NULL},
        {"172.32.0.0", NULL},
        {"100.63.255.255", NULL},
        {"100.128.0.0", NULL},
        {"192.167.255.255", NULL},
        {"192.0.1.1", NULL},
        {"198.17.255.255", NULL},
        {"198.20.0.0", NULL},
        {"223.255.255.255", NULL},
        {"2606:4700::1111", NULL},
        {"2001:4860:4860::8888", NULL},
        {"2001:200::1", NULL},
        {"0.0.0.0", "this host"},
        {"0.1.2.3", "this host"},
        {"127.0.0.1", "loopback"},
        {"127.255.255.254", "loopback"},
        {"10.0.0.1", "private"},
        {"172.16.0.1", "private"},
        {"172.31.255.255", "private"},
        {"192.168.1.1", "private"},
        {"100.64.0.1", "carrier"},
        {"100.127.255.255", "carrier"},
        {"169.254.1.1", "link-local"},
        {"169.254.169.254", "metadata"},
        {"100.100.100.200", "metadata"},
        {"168.63.129.16", "metadata"},
        {"192.0.0.8", "reserved"},
        {"192.0.2.7", "documentation"},
        {"198.51.100.7", "documentation"},
        {"203.0.113.7", "documentation"},
        {"198.18.0.1", "benchmarks"},
        {"198.19.255.255", "benchmarks"},
        {"224.0.0.1", "multicast"},
        {"239.255.255.255", "multicast"},
        {"240.0.0.1", "reserved"},
        {"255.255.255.255", "broadcast"},
        {"::", "this host"},
        {"::1", "loopback"},
        {"::127.0.0.1", "reserved"},
        {"::8.8.8.8", "reserved"},
        {"fe80::1", "link-local"},
        {"febf::1", "link-local"},
        {"fec0::1", "private"},
        {"fc00::1", "private"},
        {"fdff::1", "private"},
        {"fd00:ec2::254", "metadata"},
        {"ff02::1", "multicast"},
        {"100::1", "reserved"},
        {"2001:db8::1", "documentation"},
        {"3fff::1", "documentation"},
        {"2001:2::1", "benchmarks"},
        {"2001:10::1", "reserved"},
        {"4000::1", "reserved"},
        {"5f00::1", "reserved"},
        {"64:ff9b:1::1", "private"},
        /* IPv4 in IPv6 clothes */
        {"::ffff:127.0.0.1", "loopback"},
        {"::ffff:8.8.8.8", NULL},
        {"::ffff:a9fe:a9fe", "metadata"},
        {"64:ff9b::7f00:1", "loopback"},
        {"64:ff9b::8.8.8.8", NULL},
        {"64:ff9b::169.254.169.254", "metadata"},
        {"2002:7f00:1::", "loopback"},
        {"2002:a00:1::1", "private"},
        {"2002:808:808::1", NULL},
        {"2001:0:808:808::f7f7:f7f7", NULL},       /* Teredo: 8.8.8.8 behind 8.8.8.8 */
        {"2001:0:808:808::80ff:fffe", "loopback"}, /* ~127.0.0.1 */
        {"2001:0:7f00:1::f7f7:f7f7", "loopback"},  /* its server */
        {"nowhere", "not an IP address"},
        {"", "not an IP address"},
        {"2130706433", "not an IP address"},
    };
    nh_guard *guard = guard_of("[]", false, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct in6_addr any;
        bool address = strchr(cases[i].address, '.') || strchr(cases[i].address, ':');
        const char *words = address ? refuses(guard, cases[i].address, 443)
                                    : nh_guard_refuses_text(guard, cases[i].address, 443);
        if (!(cases[i].part ? words && strstr(words, cases[i].part) : !words))
            printf("# %s: %s\n", cases[i].address, words ? words : "allowed");
        CHECK(cases[i].part ? words && strstr(words, cases[i].part) : !words);
        CHECK(!address || strchr(cases[i].address, '.') ||
              inet_pton(AF_INET6, cases[i].address, &any) == 1);
    }
    const struct sockaddr unix_socket = {.sa_family = AF_UNIX};
    CHECK_STR(nh_guard_refuses(guard, &unix_socket), "not an IP address");
    CHECK_STR(nh_guard_refuses_text(guard, NULL, 0), "not an IP address");
    nh_guard_destroy(guard);
}

static void opens_what_the_list_names(void) {
    nh_error error = {NH_OK, ""};
    nh_guard *guard = guard_of("['10.0.0.0/8', '192.168.7.9:8080', '172.16.0.0/12:443', "
                               "'fd12::/16', '[fd00::1]:443', '[fd34::]/32:25']",
                               false, &error);
    CHECK_STR(error.message, "");
    CHECK(!refuses(guard, "10.1.2.3", 1));
    CHECK(!refuses(guard, "::ffff:10.1.2.3", 1));
    CHECK(!refuses(guard, "64:ff9b::10.1.2.3", 1));
    CHECK(refuses(guard, "11.0.0.1", 1) == NULL); /* public all the same */
    CHECK(!refuses(guard, "192.168.7.9", 8080));
    CHECK(refuses(guard, "192.168.7.9", 8081));
    CHECK(refuses(guard, "192.168.7.8", 8080));
    CHECK(!refuses(guard, "172.31.9.9", 443));
    CHECK(refuses(guard, "172.31.9.9", 80));
    CHECK(!refuses(guard, "fd12:3::4", 9));
    CHECK(refuses(guard, "fd13::4", 9));
    CHECK(!refuses(guard, "fd00::1", 443));
    CHECK(refuses(guard, "fd00::1", 80));
    CHECK(refuses(guard, "fd00::2", 443));
    CHECK(!refuses(guard, "fd34::9", 25));
    CHECK(refuses(guard, "127.0.0.1", 443));
    nh_guard_destroy(guard);

    /* Metadata only by its own name, whatever is open around it. */
    guard = guard_of("['0.0.0.0/0', '::/0']", false, &error);
    CHECK(!refuses(guard, "127.0.0.1", 80));
    CHECK(!refuses(guard, "::1", 80));
    CHECK(refuses(guard, "169.254.169.254", 80));
    CHECK(refuses(guard, "::ffff:169.254.169.254", 80));
    CHECK(refuses(guard, "fd00:ec2::254", 80));
    nh_guard_destroy(guard);
    guard = guard_of("['169.254.169.254:80', 'fd00:ec2::254']", false, &error);
    CHECK(!refuses(guard, "169.254.169.254", 80));
    CHECK(refuses(guard, "169.254.169.254", 81));
    CHECK(!refuses(guard, "fd00:ec2::254", 80));
    nh_guard_destroy(guard);

    guard = guard_of("['::/0']", false, &error); /* IPv6 only */
    CHECK(refuses(guard, "127.0.0.1", 80));
    CHECK(refuses(guard, "::ffff:127.0.0.1", 80));
    nh_guard_destroy(guard);
}

static void lets_only_named_proxies_through(void) {
    nh_guard *guard = guard_of("['10.0.0.1:3128']", true, NULL);
    CHECK(!refuses(guard, "10.0.0.1", 3128));
    CHECK(refuses(guard, "10.0.0.1", 80));
    CHECK(has(refuses(guard, "8.8.8.8", 3128), "proxy"));
    nh_guard_destroy(guard);
}

static void refuses_wrong_lists(void) {
    static const char *const wrong[] = {
        "",
        "localhost",
        "*.example.com",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/8/8",
        "10.0.0.0/08x",
        "10.0.0.1/8", /* which net was meant? */
        "10.0.0.0:0",
        "10.0.0.0:65536",
        "10.0.0.0:",
        "10.0.0",
        "0x0a.0.0.0/8",
        "::ffff:10.0.0.0/104",
        "fd00::/129",
        "fd00::1:443/128:5",
        "[fd00::1",
        "[fd00::1]443",
        "[fd00::1]x:443",
        "[10.0.0.1]",
        "[]",
        "fe80::1%%eth0",
        " 10.0.0.0/8",
        "10.0.0.0/8 ",
        "10.0.0.0/8\\u0000",
        "0000000000000000000000000000000000000000000000000000000000000010.0.0.0/8",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char list[200];
        nh_error error = {NH_OK, ""};
        snprintf(list, sizeof list, "['127.0.0.0/8', '%s']", wrong[i]);
        CHECK(!guard_of(list, false, &error));
        if (error.code == NH_OK)
            printf("# %s\n", wrong[i]);
        CHECK_INT(error.code, NH_E_INVALID);
        CHECK(has(error.message, "guard_allow[2]"));
    }
    nh_error error = {NH_OK, ""};
    CHECK(!guard_of("[7]", false, &error));
    CHECK_INT(error.code, NH_E_INVALID);
    char many[2000] = "[";
    for (int i = 0; i < NH_GUARD_RULES + 1; i++)
        strcat(many, i ? ",'10.0.0.0/8'" : "'10.0.0.0/8'");
    strcat(many, "]");
    CHECK(!guard_of(many, false, &error));
    CHECK(has(error.message, "at most 64"));
}

/* -------------------------------------------------------------------- http */

static peer server;

static const nh_value *get(const char *host, const char *more) {
    return ask(document("{'url':'http://%s:%d/echo','guard':true%s}", host, server.port, more));
}

static long long server_count(const char *what) {
    const nh_value *response = ask(document("{'url':'http://127.0.0.1:%d/count'}", server.port));
    const char *text = field(response, "body");
    nh_doc *body = nh_doc_from_json(text ? text : "{}", text ? strlen(text) : 2, NULL);
    long long count = number(nh_doc_root(body), what);
    nh_doc_unref(body);
    return count;
}

static void refuses_this_host_in_any_spelling(void) {
    static const char *const hosts[] = {
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0x7f000001",
        "017700000001",
        "127.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "127.0.0.1.",
        "user@127.0.0.1",
        "8.8.8.8@127.0.0.1",
        "LOCALHOST",
    };
    transport_open(&nh_http_transport, default_limits());
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        const nh_value *response = get(hosts[i], "");
        const char *code = field(response, "error"), *message = field(response, "message");
        /* Some libcurl does not even take; none may be sent. */
        bool refused = code && (strcmp(code, "invalid") == 0 || strcmp(code, "network") == 0);
        if (!refused)
            printf("# %s: %s %s\n", hosts[i], code ? code : "(sent)", message ? message : "");
        CHECK(refused);
        CHECK(!nh_value_bool(nh_value_get(response, "sent")));
        CHECK(!nh_value_bool(nh_value_get(response, "retryable")) || strcmp(code, "network") == 0);
    }
    CHECK_INT(server_count("requests"), 0);
    transport_close();
}

static void tells_the_rule_and_not_the_address(void) {
    transport_open(&nh_http_transport, default_limits());
    const nh_value *response = get("localhost", "");
    CHECK_ERROR(response, "invalid", "localhost:");
    CHECK(has(field(response, "message"), "the guard refuses a loopback address"));
    CHECK(has(field(response, "message"), "guard_allow"));
    CHECK(!strstr(field(response, "message"), "127."));
    CHECK(!strstr(field(response, "message"), "::1"));
    /* Nor whether anybody listens there. */
    response = ask(document("{'url':'http://localhost:1/','guard':true}"));
    CHECK_ERROR(response, "invalid", "loopback");
    CHECK_ERROR(ask(document("{'url':'http://[fe80::1%%251]/','guard':true}")), "invalid",
                "link-local");
    CHECK_ERROR(ask(document("{'url':'http://169.254.169.254/latest','guard':true}")), "invalid",
                "cloud metadata");
    CHECK_ERROR(ask(document("{'url':'http://10.0.0.1/','guard_allow':[]}")), "invalid",
                "guard_allow: needs guard");
    CHECK_ERROR(get("127.0.0.1", ",'guard_allow':['localhost']"), "invalid", "guard_allow[1]");
    CHECK_ERROR(get("127.0.0.1", ",'guard_allow':'10.0.0.0/8'"), "invalid", "guard_allow");
    transport_close();
}

static void goes_where_it_is_allowed(void) {
    char allow[64];
    transport_open(&nh_http_transport, default_limits());
    snprintf(allow, sizeof allow, ",'guard_allow':['127.0.0.1:%d']", server.port);
    CHECK_INT(number(get("127.0.0.1", allow), "status"), 200);
    CHECK_INT(number(get("127.0.0.1", allow), "status"), 200); /* over the same connection */
    CHECK_INT(number(get("127.0.0.1", ",'guard_allow':['127.0.0.0/8']"), "status"), 200);
    CHECK_ERROR(get("127.0.0.1", ",'guard_allow':['127.0.0.1:1']"), "invalid", "loopback");
    transport_close();
}

/* A connection that another request opened is no way around the guard. */
static void guards_connections_that_are_open(void) {
    transport_open(&nh_http_transport, default_limits());
    long long before = server_count("requests");
    CHECK_ERROR(get("127.0.0.1", ""), "invalid", "loopback");
    CHECK_INT(number(ask(document("{'url':'http://127.0.0.1:%d/echo'}", server.port)), "status"),
              200);
    CHECK_ERROR(get("127.0.0.1", ""), "invalid", "loopback");
    CHECK_INT(server_count("requests"), before + 1);
    transport_close();
}

static void guards_proxies(void) {
    char more[160];
    transport_open(&nh_http_transport, default_limits());
    long long before = server_count("requests");
    snprintf(more, sizeof more, ",'proxy':'http://127.0.0.1:%d'", server.port);
    nh_doc *request = document("{'url':'http://example.com/echo','guard':true%s}", more);
    CHECK_ERROR(ask(request), "invalid", "a proxy that the list does not name");
    CHECK_INT(server_count("requests"), before);
    request = document("{'url':'http://example.com/echo','guard':true%s,"
                       "'guard_allow':['127.0.0.1:%d']}",
                       more, server.port);
    CHECK(number(ask(request), "status") > 0); /* whatever this server makes of it */
    transport_close();
}

/* -------------------------------------------------------------------- smtp */

static int connections(const char *dir) {
    char path[160];
    int count = -1;
    snprintf(path, sizeof path, "%s/connections", dir);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%d", &count) != 1)
        count = 0;
    if (file)
        fclose(file);
    return count;
}

#define MAIL                                                                                       \
    "{'host':'%s','port':%d,'security':'none','from':'a@example.com',"                             \
    "'recipients':['b@example.com'],'text':'x'%s}"

static void guards_mail(void) {
    static const char *const hosts[] = {"127.0.0.1", "localhost",        "2130706433",
                                        "0x7f.1",    "::ffff:127.0.0.1", "[::1]"};
    const char *dir = scratch_dir();
    peer mail = peer_start("smtp_peer.py", "--dir", dir, NULL);
    transport_open(&nh_smtp_transport, default_limits());
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        const nh_value *response = ask(document(MAIL, hosts[i], mail.port, ",'guard':true"));
        CHECK_ERROR(response, "invalid", "the guard refuses a loopback address");
        CHECK(!nh_value_bool(nh_value_get(response, "sent")));
    }
    CHECK_INT(connections(dir), 0);
    CHECK_INT(number(ask(document(MAIL, "127.0.0.1", mail.port, "")), "status"), 250);
    /* The connection is open now, for those who may use it. */
    CHECK_ERROR(ask(document(MAIL, "127.0.0.1", mail.port, ",'guard':true")), "invalid",
                "the guard refuses a loopback address");
    CHECK_INT(number(ask(document(MAIL, "127.0.0.1", mail.port,
                                  ",'guard':true,'guard_allow':['127.0.0.0/8']")),
                     "status"),
              250);
    CHECK_ERROR(ask(document(MAIL, "127.0.0.1", mail.port, ",'guard_allow':[]")), "invalid",
                "guard_allow: needs guard");
    CHECK_ERROR(ask(document(MAIL, "127.0.0.1", mail.port, ",'guard':true,'guard_allow':['x']")),
                "invalid", "guard_allow[1]");
    transport_close();
    peer_stop(&mail);
}

int main(void) {
    RUN(knows_what_is_not_public);
    RUN(opens_what_the_list_names);
    RUN(lets_only_named_proxies_through);
    RUN(refuses_wrong_lists);
    server = peer_start("http_peer.py", NULL);
    RUN(refuses_this_host_in_any_spelling);
    RUN(tells_the_rule_and_not_the_address);
    RUN(goes_where_it_is_allowed);
    RUN(guards_connections_that_are_open);
    RUN(guards_proxies);
    peer_stop(&server);
    RUN(guards_mail);
    scratch_remove();
    return check_end();
}
