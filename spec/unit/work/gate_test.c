/* gate_test.c — where a request goes, and what its answer tells of that host. */
#include "runtime/work/gate.h"

#include <string.h>

#include "runtime/core/clock.h"
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
        nh_place place = nh_gate_place(nh_doc_root(request));
        CHECK_INT((long long)place.length, (long long)strlen(cases[i].key));
        CHECK(place.length == 0 || memcmp(place.host, cases[i].key, place.length) == 0);
        CHECK_INT(place.mail, cases[i].mail);
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
    nh_refusal refusal;
    pass.place = nh_gate_place(nh_doc_root(asked));
    for (int i = 0; i < 5; i++) {
        CHECK(nh_gate_enter(&gate, &pass, NULL, NH_NORMAL, 1));
        CHECK_INT(nh_gate_go(&gate, &pass, 1, &refusal), NH_PASSED);
        nh_gate_leave(&gate, &pass, 0, nh_doc_root(answer), 1);
    }
    CHECK_INT(nh_breaker_look(gate.breakers, pass.place.host, pass.place.length, 1, NULL), state);
    nh_lane_look(gate.lanes, pass.place.host, pass.place.length, 1, &view);
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
    nh_pass first = {.slot = {.granted = granted}, .place = {.host = "h", .length = 1}},
            second = first;
    nh_refusal refusal;
    CHECK(nh_gate_enter(&gate, &first, NULL, NH_NORMAL, 1));
    CHECK(!nh_gate_enter(&gate, &second, NULL, NH_NORMAL, 1));
    CHECK(nh_gate_cancel(&gate, &second));
    CHECK_INT(nh_gate_go(&gate, &first, 1, &refusal), NH_PASSED);
    nh_gate_leave(&gate, &first, 0, NULL, 1);
    nh_gate_leave(&gate, &first, 0, NULL, 1); /* nothing is owed any more */
    nh_lane_figures figures;
    nh_lanes_read(gate.lanes, &figures);
    CHECK_INT((long long)(figures.held + figures.waiting), 0);
    nh_lanes_destroy(gate.lanes);
    nh_breaker_destroy(gate.breakers);
}

/* A host that has failed five times, and passes that wait for it. */
enum { WAITING = 100, PATIENCE = 60 };
static const char host[] = "h:1";
static nh_doc *fine, *failed;
static nh_pass waiting[WAITING];
static int calls[4 * WAITING], called, alarms;

static void note(nh_slot *slot) {
    calls[called++ % (4 * WAITING)] = (int)((nh_pass *)(void *)slot - waiting);
}

static void ring(void *user) {
    (void)user;
    alarms++;
}

static uint64_t at(double seconds) {
    return (uint64_t)((1000 + seconds) * (double)NH_SECOND);
}

static nh_pass pass_to(const char *key) {
    return (nh_pass){.slot = {.granted = note}, .place = {.host = key, .length = strlen(key)}};
}

static nh_gate open_gate(void) {
    nh_gate gate = {
        .lanes = nh_lanes_create((nh_lane_options){.patience = PATIENCE * NH_SECOND}, 0, NULL),
        .breakers = nh_breaker_create(0, 1, NULL, NULL)};
    nh_refusal refusal;
    fine = parse("{\"status\":200}");
    failed = parse("{\"error\":\"network\"}");
    called = alarms = 0;
    nh_lanes_watch(gate.lanes, ring, NULL);
    CHECK(nh_lanes_tick(gate.lanes, at(0)) == UINT64_MAX);
    for (int i = 0; i < 5; i++) {
        nh_pass pass = pass_to(host);
        CHECK(nh_gate_enter(&gate, &pass, "a", NH_NORMAL, at(0)));
        CHECK_INT(nh_gate_go(&gate, &pass, at(0), &refusal), NH_PASSED);
        nh_gate_leave(&gate, &pass, 0, nh_doc_root(failed), at(0));
    }
    return gate;
}

static void close_gate(nh_gate *gate) {
    nh_lane_figures figures;
    nh_lanes_read(gate->lanes, &figures);
    CHECK_INT((long long)figures.held, 0);
    CHECK_INT((long long)figures.waiting, 0);
    nh_lanes_destroy(gate->lanes);
    nh_breaker_destroy(gate->breakers);
    nh_doc_unref(fine);
    nh_doc_unref(failed);
}

/* All of them want to go; the first finds the breaker open. */
static void queue_up(nh_gate *gate, int count, double when) {
    nh_refusal refusal;
    for (int i = 0; i < count; i++) {
        waiting[i] = pass_to(host);
        waiting[i].slot.ready = at(when);
        CHECK_INT(nh_gate_enter(gate, &waiting[i], "a", NH_NORMAL, at(when)), i == 0);
        if (i == 0)
            CHECK_INT(nh_gate_go(gate, &waiting[i], at(when), &refusal), NH_WAITS_OUTSIDE);
    }
    CHECK_INT(called, 0);
    CHECK_INT(alarms, 1);
}

static void lets_one_try_a_host_that_is_left_alone_and_then_more_and_more(void) {
    nh_gate gate = open_gate();
    nh_refusal refusal;
    queue_up(&gate, WAITING, 1);
    uint64_t next = nh_lanes_tick(gate.lanes, at(1));
    CHECK(next > at(3) && next <= at(5)); /* the breaker's time */
    CHECK(nh_lanes_tick(gate.lanes, next - 1) == next);
    CHECK_INT(called, 0);
    CHECK(nh_lanes_tick(gate.lanes, next) == UINT64_MAX);
    CHECK_INT(called, 1);
    CHECK_INT(calls[0], 0); /* who tried first goes first */
    int done = 0, at_once[8];
    for (int round = 0; round < 8; round++) { /* each answers, and those who follow go */
        at_once[round] = called - done;
        for (int end = called; done < end; done++) {
            nh_pass *pass = &waiting[calls[done]];
            CHECK_INT(calls[done], done); /* in order */
            CHECK_INT(nh_gate_go(&gate, pass, next, &refusal), NH_PASSED);
            nh_gate_leave(&gate, pass, 0, nh_doc_root(fine), next);
        }
    }
    static const int wanted[] = {1, 1, 1, 2, 4, 8, 16, 32}; /* three probes, then twice as many */
    CHECK(memcmp(at_once, wanted, sizeof wanted) == 0);
    for (; done < called; done++)
        nh_gate_leave(&gate, &waiting[calls[done]], 0, nh_doc_root(fine), next);
    CHECK_INT(called, WAITING);
    close_gate(&gate);
}

static void a_probe_that_fails_keeps_the_others_where_they_are(void) {
    nh_gate gate = open_gate();
    nh_refusal refusal;
    queue_up(&gate, 3, 1);
    uint64_t now = nh_lanes_tick(gate.lanes, at(1));
    nh_lanes_tick(gate.lanes, now);
    CHECK_INT(nh_gate_go(&gate, &waiting[0], now, &refusal), NH_PASSED);
    nh_gate_leave(&gate, &waiting[0], 0, nh_doc_root(failed), now);
    CHECK_INT(called, 2); /* one asks, and knows for all */
    CHECK_INT(nh_gate_go(&gate, &waiting[1], now, &refusal), NH_WAITS_OUTSIDE);
    uint64_t next = nh_lanes_tick(gate.lanes, now);
    CHECK(next > now + 7 * NH_SECOND && next <= now + 10 * NH_SECOND);
    CHECK_INT(called, 2);
    CHECK(nh_gate_cancel(&gate, &waiting[1]) && nh_gate_cancel(&gate, &waiting[2]));
    CHECK(nh_lanes_tick(gate.lanes, next) == UINT64_MAX); /* nobody is left */
    CHECK_INT(called, 2);
    close_gate(&gate);
}

static void who_has_waited_long_enough_is_turned_away(void) {
    nh_gate gate = open_gate();
    nh_refusal refusal;
    queue_up(&gate, WAITING, 1);
    uint64_t now = at(1);
    int done = 0, ended = 0, turned_away = 0;
    while (ended < WAITING && now < at(200)) {
        int before = called;
        uint64_t next = nh_lanes_tick(gate.lanes, now);
        CHECK(called - before <= 65); /* not all at once */
        for (; done < called; done++) {
            nh_pass *pass = &waiting[calls[done]];
            nh_passage passage = nh_gate_go(&gate, pass, now, &refusal);
            if (passage == NH_PASSED)
                nh_gate_leave(&gate, pass, 0, nh_doc_root(failed),
                              now); /* a probe, as all before */
            ended += passage != NH_WAITS_OUTSIDE;
            if (passage != NH_TURNED_AWAY)
                continue;
            turned_away++;
            CHECK(now >= at(PATIENCE + 1) && now < at(PATIENCE + 2));
            CHECK(refusal.since == at(0) && refusal.seconds > 0);
        }
        next = called > before ? nh_lanes_tick(gate.lanes, now) : next;
        now = next > now && next != UINT64_MAX ? next : now;
    }
    CHECK_INT(ended, WAITING);
    CHECK(turned_away > WAITING - 10);
    while (nh_lanes_tick(gate.lanes, now) != UINT64_MAX)
        now += NH_SECOND;
    close_gate(&gate);
}

static void who_has_another_way_does_not_wait(void) {
    nh_gate gate = open_gate();
    nh_refusal refusal;
    nh_pass hasty = pass_to(host), late = hasty;
    hasty.slot.hasty = late.slot.hasty = true;
    CHECK(nh_gate_enter(&gate, &hasty, "a", NH_NORMAL, at(1)));
    CHECK_INT(nh_gate_go(&gate, &hasty, at(1), &refusal), NH_TURNED_AWAY);
    queue_up(&gate, 1, 1);
    CHECK(nh_gate_enter(&gate, &late, "a", NH_NORMAL, at(1)));
    CHECK_INT(nh_gate_go(&gate, &late, at(1), &refusal), NH_TURNED_AWAY);
    CHECK(nh_gate_cancel(&gate, &waiting[0]));
    while (nh_lanes_tick(gate.lanes, at(10)) != UINT64_MAX)
        ;
    close_gate(&gate);
}

static void accounts_of_one_host_have_lanes_of_their_own(void) {
    nh_gate gate = {.lanes = nh_lanes_create((nh_lane_options){.start = 1, .most = 1}, 0, NULL)};
    nh_pass first = pass_to(host), second = first, other = first;
    CHECK(nh_gate_enter(&gate, &first, "a", NH_NORMAL, 1));
    CHECK(!nh_gate_enter(&gate, &second, "a", NH_NORMAL, 1));
    CHECK(nh_gate_enter(&gate, &other, "b", NH_NORMAL, 1));
    nh_lane_view view;
    nh_lane_look(gate.lanes, "a h:1", 5, 1, &view);
    CHECK_INT(view.held, 1);
    CHECK_INT(view.waiting[NH_NORMAL], 1);
    CHECK(nh_gate_cancel(&gate, &second));
    nh_gate_leave(&gate, &first, 0, NULL, 1);
    nh_gate_leave(&gate, &other, 0, NULL, 1);
    nh_lanes_destroy(gate.lanes);
}

int main(void) {
    RUN(finds_the_host_of_a_request);
    RUN(hears_what_an_answer_says_of_its_host);
    RUN(gives_back_what_a_cancelled_one_holds);
    RUN(lets_one_try_a_host_that_is_left_alone_and_then_more_and_more);
    RUN(a_probe_that_fails_keeps_the_others_where_they_are);
    RUN(who_has_waited_long_enough_is_turned_away);
    RUN(who_has_another_way_does_not_wait);
    RUN(accounts_of_one_host_have_lanes_of_their_own);
    return check_end();
}
