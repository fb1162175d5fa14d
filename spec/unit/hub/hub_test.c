/* hub_test.c — the life of messages in a hub whose engine and transport are fakes. */
#include <poll.h>
#include <sys/wait.h>

#include "spec/unit/hub/fake.h"

/* ----------------------------------------------------------------- waiting */

typedef struct waiter {
    pthread_t thread;
    nh_handle *handle;
    nh_receipt *receipt;
} waiter;

static void *wait_for_receipt(void *argument) {
    waiter *own = argument;
    own->receipt = nh_handle_wait(own->handle, -1, NULL);
    return NULL;
}

static void any_number_of_waiters_see_one_receipt(void) {
    nh_hub *hub = open_hub("{}");
    nh_handle *handle = send_json(hub, "{\"title\":\"hold\"}");
    waiter waiters[16];
    nh_error error;
    CHECK(!nh_handle_receipt(handle));
    CHECK(!nh_handle_wait(handle, 0, &error));
    CHECK_INT(error.code, NH_E_TIMEOUT);
    for (int i = 0; i < 16; i++) {
        waiters[i].handle = handle;
        pthread_create(&waiters[i].thread, NULL, wait_for_receipt, &waiters[i]);
    }
    CHECK(reaches(handle, NH_RUNNING));
    CHECK(nh_handle_cancel(handle));
    for (int i = 0; i < 16; i++) {
        pthread_join(waiters[i].thread, NULL);
        CHECK(waiters[i].receipt && waiters[i].receipt == waiters[0].receipt);
    }
    CHECK_INT(nh_receipt_status(waiters[0].receipt), NH_CANCELLED);
    for (int i = 0; i < 16; i++)
        nh_receipt_unref(waiters[i].receipt);
    nh_receipt *late = nh_handle_receipt(handle);
    CHECK(late == waiters[0].receipt);
    nh_receipt_unref(late);
    nh_hub_unref(hub);
    CHECK_STR(code_of(handle), "cancelled"); /* the handle outlives its hub */
}

/* -------------------------------------------------------------- cancelling */

static void cancel_stops_a_message_in_every_state(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"in_flight\":1,\"max\":1}}");
    nh_handle *scheduled = send_json(hub, "{\"title\":\"done\",\"deliver_at\":9e9}");
    nh_handle *running = send_json(hub, "{\"title\":\"hold\"}");
    CHECK(reaches(running, NH_RUNNING));
    nh_handle *queued = send_json(hub, "{\"title\":\"done\"}");
    usleep(5000);
    CHECK_INT(nh_handle_state(scheduled), NH_SCHEDULED);
    CHECK_INT(nh_handle_state(queued), NH_QUEUED);
    CHECK(nh_handle_cancel(scheduled) && !nh_handle_cancel(scheduled));
    CHECK_INT(nh_handle_state(scheduled), NH_SETTLED); /* at once */
    CHECK(nh_handle_cancel(queued));
    CHECK_INT(nh_handle_state(queued), NH_SETTLED);
    CHECK(nh_handle_cancel(running) && !nh_handle_cancel(running));
    CHECK_STR(code_of(running), "cancelled");
    CHECK_STR(code_of(queued), "cancelled");
    CHECK_STR(code_of(scheduled), "cancelled");
    CHECK_INT(atomic_load(&fake_cancels), 1); /* the transfer was aborted */
    CHECK_INT(atomic_load(&fake_started), 1); /* and the two others never sent */
    nh_handle *settled = send_json(hub, "{\"title\":\"done\"}");
    CHECK(reaches(settled, NH_SETTLED));
    CHECK(!nh_handle_cancel(settled));
    CHECK_STR(code_of(settled), "ok");
    CHECK_INT(figure(hub, "", "cancelled"), 3);
    CHECK_INT(figure(hub, "", "pending"), 0);
    nh_hub_unref(hub);
}

/* ------------------------------------------------------------------- times */

static nh_handle *send_with(nh_hub *hub, const char *title, const char *field, double value) {
    char text[128];
    snprintf(text, sizeof text, "{\"title\":\"%s\",\"%s\":%.6f}", title, field, value);
    return send_json(hub, text);
}

static void timeout_and_expires_at_end_it_wherever_it_is(void) {
    static const struct {
        const char *field, *code;
        double base;
    } times[] = {{"timeout", "timeout", 0}, {"expires_at", "expired", 1}};
    for (int i = 0; i < 2; i++) {
        nh_hub *hub = open_hub("{\"workers\":{\"in_flight\":1,\"max\":1}}");
        double base = times[i].base * nh_wall();
        uint64_t start = nh_monotonic();
        nh_handle *running = send_with(hub, "hold", times[i].field, base + 0.15);
        CHECK(reaches(running, NH_RUNNING));
        nh_handle *queued = send_with(hub, "done", times[i].field, base + 0.05);
        CHECK_STR(code_of(queued), times[i].code);
        CHECK(nh_monotonic() - start >= 49 * NH_SECOND / 1000);
        CHECK_STR(code_of(running), times[i].code);
        CHECK(nh_monotonic() - start >= 149 * NH_SECOND / 1000);
        CHECK_INT(atomic_load(&fake_started), 1);
        CHECK_INT(atomic_load(&fake_cancels), 1);
        nh_hub_unref(hub);
    }
}

static void deliver_at_is_kept(void) {
    nh_hub *hub = open_hub("{}");
    double at = nh_wall() + 0.1;
    nh_handle *later = send_with(hub, "done", "deliver_at", at);
    nh_handle *past = send_with(hub, "done", "deliver_at", 1000);
    CHECK_INT(nh_handle_state(later), NH_SCHEDULED);
    CHECK_STR(code_of(past), "ok");
    CHECK_STR(code_of(later), "ok");
    CHECK(nh_wall() >= at - 0.002);
    CHECK(nh_wall() < at + 5);
    nh_hub_unref(hub);
}

/* ----------------------------------------------------------------- closing */

static void close_lets_messages_end(void) {
    nh_hub *hub = open_hub("{}");
    nh_handle *handles[200];
    for (int i = 0; i < 200; i++)
        handles[i] = send_json(hub, i % 2 ? "{\"title\":\"nap\"}" : "{\"title\":\"send\"}");
    CHECK_INT(nh_hub_close(hub, 10), 0);
    CHECK_INT(nh_hub_close(hub, 10), 0);
    for (int i = 0; i < 200; i++) {
        CHECK_INT(nh_handle_state(handles[i]), NH_SETTLED);
        CHECK_STR(code_of(handles[i]), "ok");
    }
    nh_doc *doc = json("{\"title\":\"done\"}");
    nh_error error;
    CHECK(!nh_hub_send_async(hub, doc, &error));
    CHECK_INT(error.code, NH_E_CLOSED);
    CHECK(!nh_hub_send_batch(hub, (const nh_doc *const *)&doc, 1, &error));
    CHECK_INT(error.code, NH_E_CLOSED);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    CHECK_INT(atomic_load(&fake_vms), 0);
}

static void close_settles_what_is_left(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"in_flight\":4,\"max\":1}}");
    nh_handle *handles[12];
    for (int i = 0; i < 10; i++)
        handles[i] = send_json(hub, "{\"title\":\"hold\"}");
    handles[10] = send_json(hub, "{\"title\":\"done\",\"deliver_at\":9e9}");
    handles[11] = send_json(hub, "{\"title\":\"done\",\"deliver_at\":9e9,\"timeout\":1000}");
    CHECK(reaches(handles[3], NH_RUNNING));
    uint64_t start = nh_monotonic();
    CHECK_INT(nh_hub_close(hub, 0.1), 12);
    uint64_t took = nh_monotonic() - start;
    CHECK(took >= 99 * NH_SECOND / 1000 && took < 5 * NH_SECOND);
    for (int i = 0; i < 12; i++)
        CHECK_STR(code_of(handles[i]), "closed");
    nh_hub_unref(hub);
}

enum { SENDERS = 4, EACH = 3000 };

typedef struct sender {
    pthread_t thread;
    nh_hub *hub;
    nh_handle *handles[EACH];
    int count;
    nh_err refused;
} sender;

static void *send_until_closed(void *argument) {
    sender *own = argument;
    nh_doc *doc = json("{\"title\":\"nap\"}");
    nh_error error = {0};
    while (own->count < EACH &&
           (own->handles[own->count] = nh_hub_send_async(own->hub, doc, &error)))
        own->count++;
    own->refused = error.code;
    nh_doc_unref(doc);
    return NULL;
}

static bool accepts(nh_hub *hub) {
    nh_error error;
    nh_doc *message = nh_doc_from_json("{\"title\":\"done\"}", 16, &error);
    nh_handle *handle = nh_hub_send_async(hub, message, &error);
    nh_doc_unref(message);
    nh_handle_unref(handle);
    return handle != NULL;
}

static void not_reloaded(const nh_error *error, void *user) {
    CHECK(error->code != NH_E_CLOSED);
    ++*(int *)user;
}

static void all_hubs_of_the_process_are_closed_within_one_time(void) {
    int failed = 0;
    nh_hub *hubs[3] = {open_hub("{}"), open_hub("{}"), open_hub("{}")};
    nh_hub_close(hubs[2], 0);
    CHECK_INT(nh_hubs_reload(not_reloaded, &failed) + (size_t)failed, 2);
    nh_handle *held[2] = {send_json(hubs[0], "{\"title\":\"hold\"}"),
                          send_json(hubs[1], "{\"title\":\"hold\"}")};
    nh_handle *done = send_json(hubs[1], "{\"title\":\"done\"}");
    uint64_t began = nh_monotonic();
    CHECK_INT(nh_hubs_close(0.5), 2);
    CHECK(nh_monotonic() - began >= NH_SECOND / 2);
    for (int i = 0; i < 2; i++) {
        CHECK_STR(code_of(held[i]), "closed");
        CHECK(!accepts(hubs[i]));
    }
    CHECK_STR(code_of(done), "ok");
    CHECK_INT(nh_hubs_close(0), 0);
    for (int i = 0; i < 3; i++)
        nh_hub_unref(hubs[i]);
    CHECK_INT(nh_hubs_close(0), 0); /* none is left */
}

static void *close_in_a_second(void *hub) {
    nh_hub_close(hub, 1);
    return NULL;
}

static void a_hub_that_is_being_closed_is_waited_for(void) {
    pthread_t closer;
    nh_hub *hub = open_hub("{}");
    nh_handle *held = send_json(hub, "{\"title\":\"hold\"}");
    CHECK(reaches(held, NH_RUNNING));
    pthread_create(&closer, NULL, close_in_a_second, hub);
    while (accepts(hub))
        usleep(1000);
    CHECK_INT(nh_hubs_close(0.05), 0);
    CHECK(!nh_handle_receipt(held)); /* the closer gave it longer */
    CHECK_INT(nh_hubs_close(30), 0);
    CHECK_STR(code_of(held), "closed");
    pthread_join(closer, NULL);
    nh_hub_unref(hub);
}

static void no_handle_is_lost_when_sending_meets_close(void) {
    for (int round = 0; round < 5; round++) {
        nh_hub *hub = open_hub("{\"workers\":{\"max\":4}}");
        sender *senders = calloc(SENDERS, sizeof *senders);
        int unsettled = 0, accepted = 0;
        for (int i = 0; i < SENDERS; i++) {
            senders[i].hub = hub;
            pthread_create(&senders[i].thread, NULL, send_until_closed, &senders[i]);
        }
        usleep((useconds_t)(500 * (round + 1)));
        nh_hub_close(hub, round % 2 ? 0 : 0.005);
        for (int i = 0; i < SENDERS; i++) {
            pthread_join(senders[i].thread, NULL);
            accepted += senders[i].count;
            CHECK(senders[i].refused == NH_E_CLOSED || senders[i].count == EACH);
            for (int k = 0; k < senders[i].count; k++) {
                unsettled += nh_handle_state(senders[i].handles[k]) != NH_SETTLED;
                nh_handle_unref(senders[i].handles[k]);
            }
        }
        CHECK_INT(unsettled, 0);
        CHECK_INT(figure(hub, "", "accepted"), accepted);
        CHECK_INT(figure(hub, "", "pending"), 0);
        free(senders);
        nh_hub_unref(hub);
    }
}

/* ----------------------------------------------------------------- workers */

static void workers_grow_with_a_backlog_and_shrink_when_idle(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"min\":1,\"start\":1,\"max\":4,\"idle\":0.2}}");
    int64_t most = 0;
    CHECK_INT(figure(hub, "workers", "count"), 1);
    for (int i = 0; i < 2000; i++)
        nh_handle_unref(send_json(hub, "{\"title\":\"busy\"}"));
    while (figure(hub, "", "pending") > 0) {
        int64_t count = figure(hub, "workers", "count");
        most = count > most ? count : most;
        usleep(2000);
    }
    CHECK_INT(most, 4);
    for (int i = 0; i < 800 && figure(hub, "workers", "count") > 1; i++)
        usleep(10000);
    CHECK_INT(figure(hub, "workers", "count"), 1);
    CHECK_INT(figure(hub, "workers", "grown"), 3); /* none was let go while there was work */
    CHECK_INT(figure(hub, "workers", "shrunk"), 3);
    CHECK_INT(atomic_load(&fake_vms), 1);
    CHECK_STR(code_of(send_json(hub, "{\"title\":\"done\"}")), "ok");
    nh_hub_unref(hub);
}

static void urgent_goes_before_low(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"in_flight\":1,\"max\":1}}");
    nh_handle *first = send_json(hub, "{\"title\":\"hold\"}");
    char text[96];
    CHECK(reaches(first, NH_RUNNING));
    for (int i = 0; i < 60; i++) {
        snprintf(text, sizeof text, "{\"title\":\"done\",\"id\":\"%c%d\",\"priority\":\"%s\"}",
                 i < 30 ? 'L' : 'U', i, i < 30 ? "low" : "urgent");
        nh_handle_unref(send_json(hub, text));
    }
    nh_handle_cancel(first);
    nh_handle_unref(first);
    CHECK_INT(nh_hub_close(hub, 10), 0);
    CHECK_INT(atomic_load(&fake_started), 61);
    int urgent = 0;
    for (int i = 1; i <= 9; i++) /* 8 urgent ones to each low one */
        urgent += fake_order[i][0] == 'U';
    CHECK_INT(urgent, 8);
    urgent = 0;
    for (int i = 1; i <= 34; i++)
        urgent += fake_order[i][0] == 'U';
    CHECK(urgent >= 30 && fake_order[1][0] == 'U');
    nh_hub_unref(hub);
}

/* ----------------------------------------------------------------- batches */

enum { BATCH = 300 };

static nh_batch *send_batch(nh_hub *hub, const char *title, size_t count) {
    char text[64];
    snprintf(text, sizeof text, "{\"title\":\"%s\"}", title);
    nh_doc *doc = json(text);
    const nh_doc *docs[BATCH];
    nh_error error;
    for (size_t i = 0; i < count; i++)
        docs[i] = doc;
    nh_batch *batch = nh_hub_send_batch(hub, docs, count, &error);
    if (!CHECK(batch))
        printf("# %s\n", error.message);
    nh_doc_unref(doc);
    return batch;
}

typedef struct reader {
    pthread_t thread;
    nh_batch *batch;
    size_t order[BATCH];
    size_t count;
} reader;

static void *read_batch(void *argument) {
    reader *own = argument;
    while (own->count < BATCH &&
           nh_batch_next(own->batch, own->count, 10, &own->order[own->count]) == NH_OK)
        own->count++;
    return NULL;
}

static void each_reader_of_a_batch_sees_all_in_one_order(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"max\":4}}");
    nh_batch *batch = send_batch(hub, "nap", BATCH);
    static reader readers[4];
    bool seen[BATCH] = {false};
    size_t settled, failed, index;
    for (int i = 0; i < 4; i++) {
        readers[i] = (reader){.batch = batch};
        pthread_create(&readers[i].thread, NULL, read_batch, &readers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(readers[i].thread, NULL);
        CHECK_INT(readers[i].count, BATCH);
        CHECK(memcmp(readers[i].order, readers[0].order, sizeof readers[0].order) == 0);
    }
    for (int i = 0; i < BATCH; i++) {
        CHECK(readers[0].order[i] < BATCH && !seen[readers[0].order[i]]);
        seen[readers[0].order[i]] = true;
    }
    CHECK_INT(nh_batch_next(batch, BATCH, 0, &index), NH_E_INVALID); /* the end */
    size_t order[BATCH + 1] = {0};
    CHECK_INT(nh_batch_order(batch, 0, order, BATCH + 1), BATCH);
    CHECK(memcmp(order, readers[0].order, BATCH * sizeof *order) == 0);
    CHECK_INT(nh_batch_order(batch, 1, &index, 1), 1);
    CHECK_INT(index, order[1]);
    CHECK_INT(nh_batch_order(batch, BATCH, order, BATCH), 0);
    CHECK_INT(nh_batch_order(batch, BATCH + 1, order, BATCH), 0);
    CHECK_INT(nh_batch_wait(batch, 0), NH_OK);
    nh_batch_progress(batch, &settled, &failed);
    CHECK_INT(settled, BATCH);
    CHECK_INT(failed, 0);
    CHECK(nh_batch_handle(batch, BATCH - 1) && !nh_batch_handle(batch, BATCH));
    nh_batch_unref(batch);
    nh_hub_unref(hub);
}

static void a_batch_is_taken_whole_or_not_at_all(void) {
    nh_hub *hub = open_hub("{\"queue\":{\"capacity\":2}}");
    nh_doc *good = json("{\"title\":\"done\"}"), *bad = json("{\"titel\":\"done\"}");
    const nh_doc *mixed[] = {good, good, bad}, *many[] = {good, good, good};
    nh_error error;
    CHECK(!nh_hub_send_batch(hub, mixed, 3, &error));
    CHECK_INT(error.code, NH_E_INVALID);
    CHECK_STR(error.message, "messages[3].titel: unknown field (did you mean 'title'?)");
    CHECK(!nh_hub_send_batch(hub, many, 3, &error));
    CHECK_INT(error.code, NH_E_QUEUE_FULL);
    CHECK(!nh_hub_send_batch(hub, many, 0, &error));
    CHECK_INT(error.code, NH_E_INVALID);
    CHECK_INT(figure(hub, "", "accepted"), 0);
    CHECK_INT(atomic_load(&fake_started), 0);
    nh_doc_unref(good);
    nh_doc_unref(bad);
    nh_hub_unref(hub);
}

static void a_draft_queues_nothing_before_it_is_sent(void) {
    nh_hub *hub = open_hub("{}");
    nh_doc *good = json("{\"title\":\"done\"}"), *bad = json("{\"body\":5}");
    nh_error error;
    CHECK(!nh_hub_draft(hub, 0, &error));
    CHECK_INT(error.code, NH_E_INVALID);

    nh_draft *draft = nh_hub_draft(hub, 2, &error);
    CHECK_INT(nh_draft_add(draft, good, &error), NH_OK);
    CHECK_INT(nh_draft_add(draft, bad, &error), NH_E_INVALID);
    CHECK_STR(error.message, "messages[2].body: must be a string, not a number");
    CHECK(!nh_draft_send(draft, &error)); /* one is missing */
    CHECK_INT(error.code, NH_E_INVALID);

    draft = nh_hub_draft(hub, 1, &error);
    CHECK_INT(nh_draft_add(draft, good, &error), NH_OK);
    CHECK_INT(nh_draft_add(draft, good, &error), NH_E_INVALID); /* one too many */
    nh_draft_destroy(draft);
    CHECK_INT(figure(hub, "", "accepted"), 0);

    draft = nh_hub_draft(hub, 2, &error);
    CHECK_INT(nh_draft_add(draft, good, &error), NH_OK);
    CHECK_INT(nh_draft_add(draft, good, &error), NH_OK);
    nh_batch *batch = nh_draft_send(draft, &error);
    CHECK(batch && nh_batch_wait(batch, 10) == NH_OK);
    nh_batch_unref(batch);

    draft = nh_hub_draft(hub, 1, &error);
    CHECK_INT(nh_draft_add(draft, good, &error), NH_OK);
    nh_hub_close(hub, 1);
    CHECK(!nh_draft_send(draft, &error));
    CHECK_INT(error.code, NH_E_CLOSED);
    nh_doc_unref(good);
    nh_doc_unref(bad);
    nh_hub_unref(hub);
}

static void cancelling_a_batch_cancels_each(void) {
    nh_hub *hub = open_hub("{}");
    nh_batch *batch = send_batch(hub, "hold", 20);
    size_t settled, failed;
    CHECK_INT(nh_batch_wait(batch, 0.01), NH_E_TIMEOUT);
    CHECK_INT(nh_batch_cancel(batch), 20);
    CHECK_INT(nh_batch_cancel(batch), 0);
    CHECK_INT(nh_batch_wait(batch, 10), NH_OK);
    nh_batch_progress(batch, &settled, &failed);
    CHECK_INT(failed, 20);
    nh_batch_unref(batch);
    nh_hub_unref(hub);
}

/* ------------------------------------------------------------------- inbox */

static void an_inbox_merges_and_ends_with_complete(void) {
    nh_hub *hub = open_hub("{}");
    nh_inbox *inbox = nh_inbox_create();
    struct pollfd fd = {.fd = nh_inbox_fd(inbox), .events = POLLIN};
    nh_event event;
    CHECK_INT(poll(&fd, 1, 0), 0);
    CHECK_INT(nh_inbox_next(inbox, 0, &event), NH_E_TIMEOUT);
    nh_handle *handle = send_with(hub, "tell", "deliver_at", nh_wall() + 0.03);
    CHECK_INT(nh_inbox_watch_handle(inbox, handle, 7), NH_OK);
    CHECK(reaches(handle, NH_SETTLED));
    CHECK_INT(poll(&fd, 1, 1000), 1);
    CHECK_INT(nh_inbox_next(inbox, 1, &event), NH_OK); /* one entry for all three */
    CHECK_INT(event.kinds, NH_EVENT_PROGRESS | NH_EVENT_RETRY | NH_EVENT_COMPLETE);
    CHECK_INT(event.tag, 7);
    CHECK_INT(nh_inbox_next(inbox, 0, &event), NH_E_TIMEOUT);
    CHECK_INT(poll(&fd, 1, 0), 0);
    CHECK_INT(nh_handle_retries(handle), 1);
    CHECK_INT(nh_inbox_watch_handle(inbox, handle, 8), NH_OK); /* settled: told at once */
    CHECK_INT(nh_inbox_next(inbox, 0, &event), NH_OK);
    CHECK(event.kinds == NH_EVENT_COMPLETE && event.tag == 8);
    nh_handle_unref(handle);

    nh_batch *batch = send_batch(hub, "nap", 50);
    unsigned last = 0;
    CHECK_INT(nh_inbox_watch_batch(inbox, batch, 9), NH_OK);
    while (!(last & NH_EVENT_COMPLETE) && nh_inbox_next(inbox, 10, &event) == NH_OK) {
        CHECK_INT(event.tag, 9);
        last = event.kinds;
    }
    CHECK(last & NH_EVENT_COMPLETE);
    CHECK_INT(nh_inbox_next(inbox, 0.05, &event), NH_E_TIMEOUT);
    nh_batch_unref(batch);
    nh_inbox_unref(inbox);
    nh_hub_unref(hub);
}

static void *interrupt_later(void *inbox) {
    usleep(20000);
    nh_inbox_interrupt(inbox);
    return NULL;
}

static void an_inbox_can_be_interrupted(void) {
    nh_inbox *inbox = nh_inbox_create();
    nh_event event;
    pthread_t thread;
    pthread_create(&thread, NULL, interrupt_later, inbox);
    CHECK_INT(nh_inbox_next(inbox, 10, &event), NH_E_CANCELLED);
    pthread_join(thread, NULL);
    CHECK_INT(nh_inbox_next(inbox, 0, &event), NH_E_TIMEOUT);
    nh_inbox_interrupt(inbox);
    CHECK_INT(nh_inbox_next(inbox, 0, &event), NH_E_CANCELLED);
    nh_inbox_unref(inbox);
}

static void an_inbox_may_go_before_what_it_watches(void) {
    nh_hub *hub = open_hub("{}");
    nh_inbox *inbox = nh_inbox_create();
    nh_batch *batch = send_batch(hub, "tell", 20);
    nh_handle *held = send_json(hub, "{\"title\":\"hold\"}");
    nh_inbox_watch_batch(inbox, batch, 1);
    nh_inbox_watch_handle(inbox, held, 2);
    for (size_t i = 0; i < 20; i++)
        nh_inbox_watch_handle(inbox, nh_batch_handle(batch, i), 3 + i);
    usleep(10000);
    nh_inbox_unref(inbox);
    CHECK_INT(nh_batch_wait(batch, 10), NH_OK);
    nh_batch_unref(batch);
    nh_handle_unref(held);
    nh_hub_unref(hub);
}

/* -------------------------------------------------------------------- fork */

static void after_a_fork_the_child_is_told_and_can_exit(void) {
    nh_hub *hub = open_hub("{}");
    nh_handle *handle = send_json(hub, "{\"title\":\"hold\"}");
    nh_batch *batch = send_batch(hub, "hold", 3);
    nh_handle *ended = send_json(hub, "{\"title\":\"done\"}");
    nh_doc *doc = json("{\"title\":\"done\"}");
    CHECK(reaches(ended, NH_SETTLED));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        nh_error error = {0};
        int wrong = 0;
        alarm(5);
        wrong |= (nh_hub_send_async(hub, doc, &error) || error.code != NH_E_CLOSED) << 0;
        error.code = NH_OK;
        wrong |= (nh_handle_wait(handle, -1, &error) || error.code != NH_E_CLOSED) << 1;
        wrong |= (nh_batch_wait(batch, -1) != NH_E_CLOSED) << 2;
        wrong |= nh_handle_cancel(handle) << 3;
        wrong |= (nh_hub_close(hub, -1) != 0) << 4;
        wrong |= !nh_handle_receipt(ended) << 5; /* what had ended is there */
        nh_handle_unref(handle);
        nh_hub_unref(hub);
        _exit(wrong);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_INT(status, 0);
    CHECK_INT(nh_handle_state(handle), NH_RUNNING); /* and the parent's goes on */
    CHECK(nh_handle_cancel(handle));
    CHECK_STR(code_of(handle), "cancelled");
    nh_handle_unref(ended);
    nh_doc_unref(doc);
    nh_batch_unref(batch);
    nh_hub_unref(hub);
}

int main(void) {
    RUN(any_number_of_waiters_see_one_receipt);
    RUN(cancel_stops_a_message_in_every_state);
    RUN(timeout_and_expires_at_end_it_wherever_it_is);
    RUN(deliver_at_is_kept);
    RUN(close_lets_messages_end);
    RUN(close_settles_what_is_left);
    RUN(all_hubs_of_the_process_are_closed_within_one_time);
    RUN(a_hub_that_is_being_closed_is_waited_for);
    RUN(no_handle_is_lost_when_sending_meets_close);
    RUN(workers_grow_with_a_backlog_and_shrink_when_idle);
    RUN(urgent_goes_before_low);
    RUN(each_reader_of_a_batch_sees_all_in_one_order);
    RUN(a_batch_is_taken_whole_or_not_at_all);
    RUN(a_draft_queues_nothing_before_it_is_sent);
    RUN(cancelling_a_batch_cancels_each);
    RUN(an_inbox_merges_and_ends_with_complete);
    RUN(an_inbox_can_be_interrupted);
    RUN(an_inbox_may_go_before_what_it_watches);
    RUN(after_a_fork_the_child_is_told_and_can_exit);
    return check_end();
}
