/* gate_test.c — where a request goes, and what its answer tells of that host. */
#include "runtime/work/gate.h"

#include <string.h>

#include "spec/unit/check.h"

static nh_doc *parse(const char *json) {
    nh_error error = {NH_OK, ""};
    nh_doc *doc = nh_doc_from_json(json, strlen(json), &error);
    CHECK_STR(error.message, "");
    return doc;
}

static void finds_the_host_of_a_request(void) {
    static const struct {
        const char *request, *key;
        bool mail;
    } cases[] = {
        {"{\"url\":\"https://hooks.example.com/a?b\"}", "hooks.example.com", false},
        {"{\"url\":\"http://joe:pa@ss@example.com:8080#x\"}", "example.com:8080", false},
        {"{\"url\":\"http://[::1]:80?x@y\"}", "[::1]:80", false},
        {"{\"url\":\"example.com/x\"}", "example.com", false},
        {"{\"host\":\"mail.example.com\",\"port\":25}", "mail.example.com", true},
        {"{\"text\":\"hello\"}", "", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nh_doc *request = parse(cases[i].request);
        nh_pass pass = {.key = ""};
        nh_gate_address(&pass, nh_doc_root(request));
        CHECK_INT((long long)pass.length, (long long)strlen(cases[i].key));
        CHECK(pass.length == 0 || memcmp(pass.key, cases[i].key, pass.length) == 0);
        CHECK_INT(pass.mail, cases[i].mail);
        nh_doc_unref(request);
    }
}

static void granted(nh_slot *slot) {
    (void)slot;
}

/* What a host of four slots has after five of these answers: the state of its breaker, its limit.
 */
static void after(const char *request, const char *response, nh_breaker_state state,
                  unsigned limit) {
    nh_gate gate = {
        .lanes = nh_lanes_create((nh_lane_options){.least = 1, .start = 4, .most = 4}, 0, NULL),
        .breakers = nh_breaker_create(0, 1, NULL, NULL)};
    nh_doc *asked = parse(request), *answer = parse(response);
    nh_lane_view view;
    nh_pass pass = {.slot = {.granted = granted}};
    double seconds;
    nh_gate_address(&pass, nh_doc_root(asked));
    for (int i = 0; i < 5; i++) {
        CHECK(nh_gate_enter(&gate, &pass, NH_NORMAL, 1));
        CHECK(nh_gate_go(&gate, &pass, 1, &seconds));
        nh_gate_leave(&gate, &pass, nh_doc_root(answer), 1);
    }
    CHECK_INT(nh_breaker_look(gate.breakers, pass.key, pass.length, 1, NULL), state);
    nh_lane_look(gate.lanes, pass.key, pass.length, 1, &view);
    CHECK_INT(view.limit, limit);
    CHECK_INT(view.held, 0);
    nh_doc_unref(asked);
    nh_doc_unref(answer);
    nh_lanes_destroy(gate.lanes);
    nh_breaker_destroy(gate.breakers);
}

static void hears_what_an_answer_says_of_its_host(void) {
    static const char web[] = "{\"url\":\"http://h/\"}", mail[] = "{\"host\":\"h\"}";
    after(web, "{\"status\":200}", NH_BREAKER_CLOSED, 4);
    after(web, "{\"status\":404}", NH_BREAKER_CLOSED, 4);
    after(web, "{\"status\":429}", NH_BREAKER_CLOSED, 1);
    after(web, "{\"status\":408}", NH_BREAKER_OPENED, 1);
    after(web, "{\"status\":500}", NH_BREAKER_OPENED, 4);
    after(web, "{\"status\":503}", NH_BREAKER_OPENED, 1);
    after(web, "{\"error\":\"timeout\"}", NH_BREAKER_OPENED, 1);
    after(web, "{\"error\":\"network\"}", NH_BREAKER_OPENED, 4);
    after(web, "{\"error\":\"tls\"}", NH_BREAKER_CLOSED, 4);
    after(web, "{\"error\":\"invalid\"}", NH_BREAKER_CLOSED, 4);
    after(mail, "{\"status\":250}", NH_BREAKER_CLOSED, 4);
    after(mail, "{\"status\":550}", NH_BREAKER_CLOSED, 4);
    after(mail, "{\"status\":451}", NH_BREAKER_CLOSED, 4);
    after(mail, "{\"status\":421}", NH_BREAKER_OPENED, 1);
    after(mail, "{\"error\":\"network\"}", NH_BREAKER_OPENED, 4);
}

static void gives_back_what_a_cancelled_one_holds(void) {
    nh_gate gate = {
        .lanes = nh_lanes_create((nh_lane_options){.least = 1, .start = 1, .most = 1}, 0, NULL),
        .breakers = nh_breaker_create(0, 1, NULL, NULL)};
    nh_pass first = {.slot = {.granted = granted}, .key = "h", .length = 1}, second = first;
    double seconds;
    CHECK(nh_gate_enter(&gate, &first, NH_NORMAL, 1));
    CHECK(!nh_gate_enter(&gate, &second, NH_NORMAL, 1));
    CHECK(nh_gate_cancel(&gate, &second));
    CHECK(nh_gate_go(&gate, &first, 1, &seconds));
    nh_gate_leave(&gate, &first, NULL, 1);
    nh_gate_leave(&gate, &first, NULL, 1); /* nothing is owed any more */
    nh_lane_figures figures;
    nh_lanes_read(gate.lanes, &figures);
    CHECK_INT((long long)(figures.held + figures.waiting), 0);
    nh_lanes_destroy(gate.lanes);
    nh_breaker_destroy(gate.breakers);
}

int main(void) {
    RUN(finds_the_host_of_a_request);
    RUN(hears_what_an_answer_says_of_its_host);
    RUN(gives_back_what_a_cancelled_one_holds);
    return check_end();
}
