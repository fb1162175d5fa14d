/* workers_test.c — who gets a message when one worker ends or is full. */
#include "runtime/hub_parts.h"
#include "runtime/work/worker.h"
#include "spec/unit/hub/fake.h"

/* Whether it refuses offers from now on: it may be in the middle of a turn. */
static bool refuses_offers(nh_worker *worker) {
    int in_a_row = 0;
    for (int i = 0; i < 500 && in_a_row < 10; i++) {
        in_a_row = nh_worker_offer(worker) ? 0 : in_a_row + 1;
        usleep(10000);
    }
    return in_a_row == 10;
}

static void one_that_ends_takes_no_offer_from_others(void) {
    nh_error error;
    nh_hub *hub = open_hub("{\"workers\":{\"max\":1,\"in_flight\":2}}");
    nh_handle *held[3];
    for (int i = 0; i < 2; i++) { /* the pool's own worker is full */
        held[i] = send_json(hub, "{\"title\":\"hold\"}");
        CHECK(reaches(held[i], NH_RUNNING));
    }
    nh_worker *worker = nh_worker_create(&hub->work, 1, &error);
    CHECK_INT(nh_worker_start(worker, &error), NH_OK);
    held[2] = send_json(hub, "{\"title\":\"hold\"}");
    for (int i = 0; i < 5000 && nh_worker_in_flight(worker) == 0; i++) {
        nh_worker_offer(worker);
        usleep(1000);
    }
    CHECK_INT(nh_worker_in_flight(worker), 1);
    nh_worker_stop(worker, false);
    CHECK(refuses_offers(worker));
    nh_handle *waiting = send_json(hub, "{\"title\":\"done\"}");
    CHECK(!nh_worker_ended(worker));
    CHECK(nh_handle_cancel(held[2]));
    CHECK_STR(code_of(held[2]), "cancelled");
    CHECK_INT(nh_worker_join(worker), 0);
    CHECK_INT(nh_handle_state(waiting), NH_QUEUED); /* it was left to the others */
    for (int i = 0; i < 2; i++) {
        CHECK(nh_handle_cancel(held[i]));
        CHECK_STR(code_of(held[i]), "cancelled");
    }
    CHECK_STR(code_of(waiting), "ok");
    nh_worker_destroy(worker);
    nh_hub_unref(hub);
}

static void one_that_is_full_keeps_no_message_from_a_new_one(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"min\":1,\"max\":2,\"in_flight\":2}}");
    nh_handle *held[2];
    for (int i = 0; i < 2; i++) { /* one after the other: none is ever left behind */
        held[i] = send_json(hub, "{\"title\":\"hold\"}");
        CHECK(reaches(held[i], NH_RUNNING));
    }
    usleep(50000); /* it sleeps */
    CHECK_STR(code_of(send_json(hub, "{\"title\":\"done\"}")), "ok");
    for (int i = 0; i < 2; i++) {
        CHECK(nh_handle_cancel(held[i]));
        CHECK_STR(code_of(held[i]), "cancelled");
    }
    nh_hub_unref(hub);
}

int main(void) {
    RUN(one_that_is_full_keeps_no_message_from_a_new_one);
    RUN(one_that_ends_takes_no_offer_from_others);
    return check_end();
}
