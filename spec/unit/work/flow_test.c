/* flow_test.c — turns between flows, and flows that are held because enough of them waits outside.
 */
#include "runtime/work/queue.h"

#include <stdlib.h>

#include "runtime/core/clock.h"
#include "runtime/core/direction.h"
#include "runtime/core/doc.h"
#include "spec/unit/check.h"
#include "spec/unit/work/owner.h"

enum { BURST = 2000 };

static nh_handle *make(const char *target, const char *priority) {
    char json[160];
    nh_error error;
    snprintf(json, sizeof json, "{\"body\":\"x\",\"priority\":\"%s\",\"targets\":[\"%s\"]}",
             priority, target);
    nh_doc *doc = nh_doc_from_json(json, strlen(json), &error);
    nh_handle *handle = nh_handle_create(
        &owner, nh_message_create(nh_doc_read(doc), 1000, nh_wall(), NULL, &error), NULL, 0);
    nh_doc_unref(doc);
    nh_handle_unref(handle); /* only its own reference is left, which the queue gets */
    return handle;
}

static void push(nh_queue *queue, const char *target, const char *priority, int count) {
    for (int i = 0; i < count; i++) {
        nh_handle *handle = make(target, priority);
        CHECK_INT(nh_queue_push(queue, &handle, 1, NULL), NH_OK);
    }
}

static uint32_t flow_named(const char *target) {
    nh_handle *handle = make(target, "low");
    uint32_t flow = nh_message_of(handle)->flow;
    nh_handle_settle(handle, NULL, NH_E_CANCELLED);
    return flow;
}

/* Takes one; returns its flow, 0 when there was none. */
static uint32_t take(nh_queue *queue) {
    nh_handle *handle;
    size_t left;
    if (nh_queue_take(queue, NULL, &handle, 1, &left) == 0)
        return 0;
    uint32_t flow = nh_message_of(handle)->flow;
    CHECK_INT(left, nh_queue_ready(queue));
    nh_handle_settle(handle, NULL, NH_E_CANCELLED);
    return flow;
}

static void empty_and_destroy(nh_queue *queue) {
    nh_handle *handle;
    while (nh_queue_drain(queue, 0, &handle, 1) > 0)
        nh_handle_settle(handle, NULL, NH_E_CANCELLED);
    CHECK_INT(nh_queue_ready(queue), 0);
    nh_queue_destroy(queue);
}

static void a_direction_is_what_targets_lead_to(void) {
    static const struct {
        const char *one, *other;
        bool same;
    } pairs[] = {
        {"json://host:80/a", "json://host:80/b?c=d", true},
        {"json://u:p@host/a", "json://host", true},
        {"json://host:80/a", "json://host:81/a", false},
        {"slack://host/a", "json://host/a", false},
        {"a@example.org", "b@example.net", true},
        {"+4912345", "+331", true},
        {"oncall", "oncall2", false},
        {"#ops", "#dev", false},
        {"oncall", "oncall", true},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        CHECK_INT(flow_named(pairs[i].one) == flow_named(pairs[i].other), pairs[i].same);
    CHECK(flow_named("a") < UINT32_C(1) << NH_DIRECTION_BITS);
    CHECK(flow_named("a\", \"b") !=
          flow_named("a")); /* told with another one: not the same place */
}

static void a_message_of_another_flow_does_not_wait_for_a_burst(void) {
    nh_queue *queue = nh_queue_create(10000, 1 << 24, 0, NULL);
    push(queue, "burst", "normal", BURST);
    push(queue, "other", "normal", 3);
    push(queue, "third", "normal", 1);
    uint32_t other = flow_named("other"), third = flow_named("third");
    int others = 0, thirds = 0;
    for (int i = 0; i < 9; i++) { /* three flows: three turns of each */
        uint32_t flow = take(queue);
        others += flow == other;
        thirds += flow == third;
    }
    CHECK_INT(others, 3);
    CHECK_INT(thirds, 1);
    push(queue, "other", "normal", 1); /* one that has been away is behind each flow once */
    CHECK(take(queue) == other || take(queue) == other);
    empty_and_destroy(queue);
}

static void priorities_keep_their_weights_whatever_the_flows(void) {
    nh_queue *queue = nh_queue_create(10000, 1 << 24, 0, NULL);
    nh_handle *out[150];
    size_t left, counts[NH_PRIORITIES] = {0};
    for (int i = 0; i < 100; i++) {
        push(queue, "a", "urgent", 1), push(queue, i % 2 ? "b" : "c", "high", 1);
        push(queue, "d", "normal", 1), push(queue, "a", "low", 1);
    }
    CHECK_INT(nh_queue_take(queue, NULL, out, 150, &left), 150);
    for (int i = 0; i < 150; i++) {
        counts[nh_message_of(out[i])->priority]++;
        nh_handle_settle(out[i], NULL, NH_E_CANCELLED);
    }
    CHECK_INT(counts[NH_URGENT], 80);
    CHECK_INT(counts[NH_HIGH], 40);
    CHECK_INT(counts[NH_NORMAL], 20);
    CHECK_INT(counts[NH_LOW], 10);
    empty_and_destroy(queue);
}

static void a_flow_that_waits_outside_is_held_and_no_other(void) {
    nh_queue *queue = nh_queue_create(10000, 1 << 24, 5000, NULL);
    uint32_t dead = flow_named("dead"), well = flow_named("well");
    nh_flow *waiting[NH_FLOW_HELD];
    for (unsigned i = 0; i < NH_FLOW_HELD; i++) {
        CHECK(i == 0 || nh_queue_ready(queue) == 10);
        if (i == 0)
            push(queue, "dead", "normal", 10);
        CHECK((waiting[i] = nh_queue_wait(queue, dead, NH_NORMAL)));
    }
    CHECK_INT(nh_queue_ready(queue), 0);
    CHECK_INT(take(queue), 0);
    push(queue, "dead", "normal", 5);
    CHECK_INT(nh_queue_ready(queue), 0);
    push(queue, "well", "normal", 1);
    push(queue, "dead", "urgent", 1); /* has a number of its own */
    CHECK_INT(nh_queue_ready(queue), 2);
    CHECK_INT(take(queue), dead);
    CHECK_INT(take(queue), well);
    nh_queue_figures figures;
    nh_queue_read(queue, &figures);
    CHECK_INT(figures.ready[NH_NORMAL], 15);
    for (unsigned i = NH_FLOW_HELD; i-- > 0;) { /* the one that frees it says so, and only that */
        CHECK_INT(nh_queue_go(queue, waiting[i], NH_NORMAL), i == NH_FLOW_FREE);
        CHECK_INT(nh_queue_ready(queue), i <= NH_FLOW_FREE ? 15 : 0);
    }
    for (int i = 0; i < 15; i++)
        CHECK_INT(take(queue), dead);
    CHECK_INT(take(queue), 0);
    empty_and_destroy(queue);
}

static void held_ones_do_not_fill_the_queue(void) {
    nh_queue *queue = nh_queue_create(100, 1 << 20, 50, NULL);
    nh_flow *waiting[NH_FLOW_HELD];
    for (unsigned i = 0; i < NH_FLOW_HELD; i++)
        waiting[i] = nh_queue_wait(queue, flow_named("dead"), NH_NORMAL);
    push(queue, "dead", "normal", 50);
    CHECK_INT(nh_queue_ready(queue), 0);
    push(queue, "dead", "normal", 1); /* one too many: they go to the workers as before */
    CHECK_INT(nh_queue_ready(queue), 51);
    nh_handle *held = make("dead", "low"); /* and can be cancelled */
    CHECK_INT(nh_queue_push(queue, &held, 1, NULL), NH_OK);
    CHECK(nh_queue_remove(queue, held) && !nh_queue_remove(queue, held));
    nh_handle_settle(held, NULL, NH_E_CANCELLED);
    for (unsigned i = 0; i < NH_FLOW_HELD; i++)
        nh_queue_go(queue, waiting[i], NH_NORMAL);
    empty_and_destroy(queue);
}

static void draining_takes_held_ones_and_flows_beyond_their_number(void) {
    nh_queue *queue = nh_queue_create(10000, 1 << 24, 5000, NULL);
    nh_flow *waiting[NH_FLOW_HELD];
    for (unsigned i = 0; i < NH_FLOW_HELD; i++)
        waiting[i] = nh_queue_wait(queue, flow_named("dead"), NH_HIGH);
    push(queue, "dead", "high", 20);
    char name[16];
    for (unsigned i = 0; i < NH_FLOWS_MOST + 100; i++) { /* the last ones share one */
        snprintf(name, sizeof name, "t%u", i);
        push(queue, name, "normal", 1);
    }
    CHECK(!nh_queue_wait(queue, flow_named("one more"), NH_LOW));
    CHECK_INT(nh_queue_ready(queue), NH_FLOWS_MOST + 100);
    nh_handle *handle;
    int drained = 0;
    while (nh_queue_drain(queue, 0, &handle, 1) > 0) {
        nh_handle_settle(handle, NULL, NH_E_CANCELLED);
        drained++;
    }
    CHECK_INT(drained, NH_FLOWS_MOST + 120);
    for (unsigned i = 0; i < NH_FLOW_HELD; i++)
        nh_queue_go(queue, waiting[i], NH_HIGH);
    empty_and_destroy(queue);
}

int main(void) {
    RUN(a_direction_is_what_targets_lead_to);
    RUN(a_message_of_another_flow_does_not_wait_for_a_burst);
    RUN(priorities_keep_their_weights_whatever_the_flows);
    RUN(a_flow_that_waits_outside_is_held_and_no_other);
    RUN(held_ones_do_not_fill_the_queue);
    RUN(draining_takes_held_ones_and_flows_beyond_their_number);
    return check_end();
}
