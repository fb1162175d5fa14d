/* queue_test.c — order, bounds and times of the queue, without threads: what it gives out is up to
 * nobody's schedule. */
#include "runtime/work/queue.h"

#include <stdlib.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "spec/unit/check.h"
#include "spec/unit/work/owner.h"

static nh_handle *make_with(nh_priority priority, const char *more) {
    static const char *const names[] = {"low", "normal", "high", "urgent"};
    char json[96];
    nh_error error;
    snprintf(json, sizeof json, "{\"body\":\"x\",\"priority\":\"%s\"%s}", names[priority], more);
    nh_doc *doc = nh_doc_from_json(json, strlen(json), &error);
    nh_handle *handle = nh_handle_create(
        &owner, nh_message_create(nh_doc_read(doc), 1000, nh_wall(), NULL, &error), NULL, 0);
    nh_doc_unref(doc);
    nh_handle_unref(handle); /* only its own reference is left, which the queue gets */
    return handle;
}

static nh_handle *make(nh_priority priority) {
    return make_with(priority, "");
}

static nh_handle *timed(uint64_t release, uint64_t deadline) {
    nh_handle *handle = make_with(NH_NORMAL, ",\"deliver_at\":9e9");
    nh_times *times = nh_message_own_times(nh_message_of(handle));
    times->release = release;
    times->deadline = deadline;
    return handle;
}

static nh_err push(nh_queue *queue, nh_handle *handle) {
    return nh_queue_push(queue, &handle, 1, NULL);
}

static void settle(nh_handle *handle) {
    CHECK(nh_handle_settle(handle, NULL, NH_E_CANCELLED));
}

static void empty_and_destroy(nh_queue *queue) {
    nh_handle *out[64];
    size_t count;
    nh_queue_figures figures;
    while ((count = nh_queue_drain(queue, 0, out, 64)) > 0)
        for (size_t i = 0; i < count; i++)
            settle(out[i]);
    nh_queue_read(queue, &figures);
    CHECK_INT(figures.bytes, 0);
    CHECK_INT(figures.scheduled, 0);
    CHECK_INT(nh_queue_ready(queue), 0);
    nh_queue_destroy(queue);
}

static void priorities_get_8_4_2_1_of_15(void) {
    nh_queue *queue = nh_queue_create(1000, 1 << 20, 0, NULL);
    for (int i = 0; i < 100; i++)
        for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
            CHECK_INT(push(queue, make((nh_priority)priority)), NH_OK);
    for (int round = 0; round < 10; round++) {
        size_t counts[NH_PRIORITIES] = {0}, left;
        for (int i = 0; i < 15; i++) {
            nh_handle *handle;
            CHECK_INT(nh_queue_take(queue, &owner, &handle, 1, &left), 1);
            CHECK_INT(nh_handle_state(handle), NH_RUNNING);
            if (i < 8)
                CHECK_INT(nh_message_of(handle)->priority, NH_URGENT); /* most urgent first */
            counts[nh_message_of(handle)->priority]++;
            settle(handle);
        }
        CHECK_INT(left, 400 - 15 * (round + 1));
        CHECK_INT(counts[NH_URGENT], 8);
        CHECK_INT(counts[NH_HIGH], 4);
        CHECK_INT(counts[NH_NORMAL], 2);
        CHECK_INT(counts[NH_LOW], 1);
    }
    empty_and_destroy(queue);
}

static void low_moves_while_urgent_keeps_coming(void) {
    nh_queue *queue = nh_queue_create(1000, 1 << 20, 0, NULL);
    nh_handle *low = make(NH_LOW), *out;
    int taken = 0;
    size_t left;
    push(queue, low);
    do {
        push(queue, make(NH_URGENT));
        push(queue, make(NH_URGENT));
        CHECK_INT(nh_queue_take(queue, NULL, &out, 1, &left), 1);
        taken++;
        if (out != low)
            settle(out);
    } while (out != low && taken < 100);
    CHECK(out == low && taken <= 9);
    if (out == low)
        settle(low);
    empty_and_destroy(queue);
}

static void one_priority_is_first_in_first_out(void) {
    nh_queue *queue = nh_queue_create(100, 1 << 20, 0, NULL);
    nh_handle *in[50], *out[50];
    size_t left;
    for (int i = 0; i < 50; i++)
        push(queue, in[i] = make(NH_NORMAL));
    CHECK_INT(nh_queue_take(queue, NULL, out, 50, &left), 50);
    CHECK_INT(left, 0);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK_INT(nh_queue_take(queue, NULL, out, 50, &left), 0);
    for (int i = 0; i < 50; i++)
        settle(in[i]);
    empty_and_destroy(queue);
}

static void it_is_bounded_by_count_and_bytes_and_takes_all_or_none(void) {
    nh_error error;
    nh_handle *more[3] = {make(NH_LOW), make(NH_URGENT), make(NH_NORMAL)};
    size_t size = nh_message_size(nh_message_of(more[0]));
    nh_queue *queue = nh_queue_create(4, 1 << 20, 0, NULL);
    push(queue, make(NH_NORMAL));
    push(queue, timed(1000, UINT64_MAX)); /* scheduled ones count */
    CHECK_INT(nh_queue_push(queue, more, 3, &error), NH_E_QUEUE_FULL);
    CHECK_STR(error.message, "the queue is full: 2 of 4 messages");
    CHECK_INT(nh_queue_ready(queue), 1);
    CHECK_INT(nh_queue_push(queue, more, 2, &error), NH_OK);
    CHECK_INT(nh_queue_push(queue, more + 2, 1, &error), NH_E_QUEUE_FULL);
    CHECK(nh_queue_remove(queue, more[0]));
    settle(more[0]);
    CHECK_INT(nh_queue_push(queue, more + 2, 1, &error), NH_OK);
    nh_handle *batch[5];
    for (int i = 0; i < 5; i++)
        batch[i] = make(NH_NORMAL);
    CHECK_INT(nh_queue_push(queue, batch, 5, &error), NH_E_QUEUE_FULL);
    CHECK_STR(error.message,
              "the queue is full: 4 of 4 messages; the batch is larger than the whole queue");
    empty_and_destroy(queue);

    size_t bytes = 0;
    for (int i = 0; i < 5; i++)
        bytes += nh_message_size(nh_message_of(batch[i]));
    CHECK(size > 0);
    queue = nh_queue_create(100, bytes - 1, 0, NULL);
    CHECK_INT(nh_queue_push(queue, batch, 5, &error), NH_E_QUEUE_FULL);
    CHECK(strstr(error.message, "0 of ") && strstr(error.message, " bytes"));
    CHECK_INT(nh_queue_ready(queue), 0);
    CHECK_INT(nh_queue_push(queue, batch, 4, &error), NH_OK);
    CHECK_INT(nh_queue_push(queue, batch + 4, 1, &error), NH_E_QUEUE_FULL);
    settle(batch[4]);
    empty_and_destroy(queue);
}

static void what_is_removed_is_in_it_once(void) {
    nh_queue *queue = nh_queue_create(10, 1 << 20, 0, NULL);
    nh_handle *ready = make(NH_HIGH), *later = timed(500, 900), *taken = make(NH_LOW), *out;
    size_t left;
    uint64_t next;
    bool any;
    push(queue, taken);
    CHECK_INT(nh_queue_take(queue, NULL, &out, 1, &left), 1);
    push(queue, ready);
    push(queue, later);
    CHECK_INT(nh_handle_state(ready), NH_QUEUED);
    CHECK_INT(nh_handle_state(later), NH_SCHEDULED);
    CHECK(!nh_queue_remove(queue, taken));
    CHECK(nh_queue_remove(queue, ready) && !nh_queue_remove(queue, ready));
    CHECK(nh_queue_remove(queue, later) && !nh_queue_remove(queue, later));
    CHECK_INT(nh_queue_tick(queue, 10000, &out, 1, &next, &any), 0); /* its deadline went as well */
    CHECK(next == UINT64_MAX && !any);
    settle(taken), settle(ready), settle(later);
    empty_and_destroy(queue);
}

static void messages_are_released_in_the_order_of_deliver_at(void) {
    enum { COUNT = 200 };
    nh_queue *queue = nh_queue_create(1000, 1 << 20, 0, NULL);
    nh_handle *out[COUNT];
    uint64_t next, last = 0;
    bool ready;
    size_t left;
    srand(3);
    for (int i = 0; i < COUNT; i++)
        push(queue, timed(1000 + (uint64_t)(rand() % 1000), UINT64_MAX));
    CHECK_INT(nh_queue_tick(queue, 999, out, COUNT, &next, &ready), 0);
    CHECK(!ready && next >= 1000 && next < 1100);
    CHECK_INT(nh_queue_take(queue, NULL, out, COUNT, &left), 0);
    CHECK_INT(nh_queue_tick(queue, 1500, out, COUNT, &next, &ready), 0);
    CHECK(ready && next > 1500);
    CHECK_INT(nh_queue_tick(queue, 3000, out, COUNT, &next, &ready), 0);
    CHECK(ready && next == UINT64_MAX);
    CHECK_INT(nh_queue_take(queue, NULL, out, COUNT, &left), COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK(nh_times_of(out[i])->release >= last);
        last = nh_times_of(out[i])->release;
        settle(out[i]);
    }
    empty_and_destroy(queue);
}

static void deadlines_end_messages_queued_or_scheduled(void) {
    nh_queue *queue = nh_queue_create(100, 1 << 20, 0, NULL);
    nh_handle *out[10], *late = timed(0, 300), *never = timed(0, UINT64_MAX);
    nh_handle *scheduled = timed(5000, 200), *both = timed(250, 250);
    uint64_t next;
    bool ready;
    push(queue, late), push(queue, never), push(queue, scheduled), push(queue, both);
    CHECK_INT(nh_queue_tick(queue, 199, out, 10, &next, &ready), 0);
    CHECK_INT(next, 200);
    CHECK_INT(nh_queue_tick(queue, 400, out, 2, &next, &ready), 2); /* at most what is asked */
    CHECK(out[0] == scheduled && out[1] == both && !ready);
    CHECK_INT(nh_queue_tick(queue, 400, out + 2, 8, &next, &ready), 1);
    CHECK(out[2] == late && next == UINT64_MAX);
    CHECK_INT(nh_queue_ready(queue), 1);
    for (int i = 0; i < 3; i++)
        settle(out[i]);
    empty_and_destroy(queue);
}

static void draining_takes_what_lies_beyond_the_horizon(void) {
    enum { COUNT = 300 };
    nh_queue *queue = nh_queue_create(1000, 1 << 20, 0, NULL);
    nh_handle *out[7];
    size_t beyond = 0, drained = 0, count;
    nh_queue_figures figures;
    srand(11);
    for (int i = 0; i < COUNT; i++) {
        uint64_t release = 1 + (uint64_t)(rand() % 1000);
        beyond += release > 600;
        push(queue, timed(release, i % 2 ? 2000 : UINT64_MAX));
    }
    push(queue, make(NH_LOW));
    while ((count = nh_queue_drain(queue, 600, out, 7)) > 0)
        for (size_t i = 0; i < count; i++, drained++) {
            CHECK(nh_times_of(out[i])->release > 600);
            settle(out[i]);
        }
    nh_queue_read(queue, &figures);
    CHECK_INT(drained, beyond);
    CHECK_INT(figures.scheduled, COUNT - beyond);
    CHECK_INT(figures.ready[NH_LOW], 1);
    settled_count = 0;
    empty_and_destroy(queue);
    CHECK_INT(settled_count, COUNT - beyond + 1);
}

static void a_closed_queue_refuses_and_still_gives(void) {
    nh_queue *queue = nh_queue_create(10, 1 << 20, 0, NULL);
    nh_handle *in = make(NH_NORMAL), *refused = make(NH_NORMAL), *out;
    nh_error error;
    size_t left;
    push(queue, in);
    nh_queue_close(queue);
    CHECK_INT(nh_queue_push(queue, &refused, 1, &error), NH_E_CLOSED);
    CHECK_STR(error.message, "the hub is closed");
    CHECK_INT(nh_queue_take(queue, NULL, &out, 1, &left), 1);
    CHECK(out == in);
    settle(in), settle(refused);
    empty_and_destroy(queue);
}

int main(void) {
    RUN(priorities_get_8_4_2_1_of_15);
    RUN(low_moves_while_urgent_keeps_coming);
    RUN(one_priority_is_first_in_first_out);
    RUN(it_is_bounded_by_count_and_bytes_and_takes_all_or_none);
    RUN(what_is_removed_is_in_it_once);
    RUN(messages_are_released_in_the_order_of_deliver_at);
    RUN(deadlines_end_messages_queued_or_scheduled);
    RUN(draining_takes_what_lies_beyond_the_horizon);
    RUN(a_closed_queue_refuses_and_still_gives);
    return check_end();
}
