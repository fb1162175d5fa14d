/* settled_test.c — receipts after their batch, and the readers of one inbox. */
#include "runtime/core/id.h"
#include "spec/unit/hub/fake.h"

enum { READERS = 3, MANY = 400 };

static nh_batch *send_batch(nh_hub *hub, const char *text, size_t count) {
    nh_doc *doc = json(text);
    nh_draft *draft = nh_hub_draft(hub, count, NULL);
    for (size_t i = 0; i < count; i++)
        CHECK_INT(nh_draft_add(draft, doc, NULL), NH_OK);
    nh_batch *batch = nh_draft_send(draft, NULL);
    CHECK(batch);
    nh_doc_unref(doc);
    return batch;
}

static void a_receipt_outlives_its_batch(void) {
    nh_hub *hub = open_hub("{}");
    nh_batch *batch = send_batch(hub, "{\"title\":\"done\"}", MANY);
    CHECK_INT(nh_batch_wait(batch, 10), NH_OK);
    char id[NH_ID_MAX + 1];
    snprintf(id, sizeof id, "%s", nh_handle_id(nh_batch_handle(batch, MANY / 2)));
    nh_receipt *receipt = nh_handle_receipt(nh_batch_handle(batch, MANY / 2));
    nh_batch_unref(batch);
    batch = send_batch(hub, "{\"title\":\"done\"}", MANY); /* would use its memory again */
    CHECK_INT(nh_batch_wait(batch, 10), NH_OK);
    nh_batch_unref(batch);
    nh_hub_unref(hub);
    nh_doc *doc = nh_receipt_doc(receipt);
    CHECK_INT(nh_receipt_status(receipt), NH_DELIVERED);
    CHECK(nh_value_is(nh_value_get(nh_doc_root(doc), "id"), id));
    CHECK(nh_value_is(nh_value_get(nh_doc_root(doc), "code"), "ok"));
    nh_receipt_unref(receipt);
    CHECK(nh_value_is(nh_value_get(nh_doc_root(doc), "id"), id)); /* the document is its own */
    nh_doc_unref(doc);
}

typedef struct reader {
    pthread_t thread;
    nh_inbox *inbox;
    pthread_barrier_t *all;
    nh_err result;
} reader;

static void *read_one(void *argument) {
    reader *own = argument;
    nh_event event;
    own->result = nh_inbox_next(own->inbox, 5, &event);
    pthread_barrier_wait(own->all); /* none reads a second time for another */
    return NULL;
}

static void each_of_several_readers_is_woken(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"min\":1,\"max\":1}}");
    nh_inbox *inbox = nh_inbox_create();
    pthread_barrier_t all;
    reader readers[READERS];
    pthread_barrier_init(&all, NULL, READERS);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (reader){.inbox = inbox, .all = &all};
        pthread_create(&readers[i].thread, NULL, read_one, &readers[i]);
    }
    usleep(30000); /* they sleep */
    nh_batch *batch = send_batch(hub, "{\"title\":\"nap\"}", READERS);
    for (size_t i = 0; i < READERS; i++)
        CHECK_INT(nh_inbox_watch_handle(inbox, nh_batch_handle(batch, i), i), NH_OK);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        CHECK_INT(readers[i].result, NH_OK);
    }
    pthread_barrier_destroy(&all);
    nh_batch_unref(batch);
    nh_inbox_unref(inbox);
    nh_hub_unref(hub);
}

/* Readers give up at the very time at which they are woken; nothing is lost and nobody sleeps on.
 */
static void a_reader_that_gives_up_loses_nothing(void) {
    nh_hub *hub = open_hub("{}");
    nh_inbox *inbox = nh_inbox_create();
    nh_batch *batch = send_batch(hub, "{\"title\":\"busy\"}", MANY);
    size_t told = 0, late = 0;
    nh_event event;
    for (size_t i = 0; i < MANY; i++)
        CHECK_INT(nh_inbox_watch_handle(inbox, nh_batch_handle(batch, i), i), NH_OK);
    for (uint64_t until = nh_monotonic() + 20 * NH_SECOND; told < MANY && nh_monotonic() < until;)
        if (nh_inbox_next(inbox, 0.0003 * (double)(1 + late % 5), &event) == NH_OK)
            told++;
        else
            late++;
    CHECK_INT(told, MANY);
    printf("# %zu waits ended too early\n", late);
    CHECK_INT(nh_inbox_next(inbox, 0.01, &event), NH_E_TIMEOUT);
    nh_batch_unref(batch);
    nh_inbox_unref(inbox);
    nh_hub_unref(hub);
}

int main(void) {
    RUN(a_receipt_outlives_its_batch);
    RUN(each_of_several_readers_is_woken);
    RUN(a_reader_that_gives_up_loses_nothing);
    return check_end();
}
