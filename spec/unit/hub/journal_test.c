/* journal_test.c — what a hub with a journal promises, with an engine and a transport that are
 * fakes and a disk that may be one, too. */
#include <sys/wait.h>

#include "spec/unit/hub/fake.h"
#include "spec/unit/store/journal_support.h"
#include "spec/unit/store/powerloss_vfs.h"

static nh_hub *open_journal(const char *workers, const char *queue) {
    char config[512];
    snprintf(config, sizeof config, "{\"workers\":{%s},\"queue\":{\"journal\":\"%s\"%s%s}}",
             workers, support_path("hub.db"), *queue ? "," : "", queue);
    return open_hub(config);
}

static bool settles(nh_hub *hub, const char *figure_name, int64_t count) {
    for (int i = 0; i < 5000 && figure(hub, "", figure_name) != count; i++)
        usleep(1000);
    return CHECK_INT(figure(hub, "", figure_name), count);
}

static bool journal_has(nh_hub *hub, const char *name, int64_t count) {
    for (int i = 0; i < 5000 && figure(hub, "journal", name) != count; i++)
        usleep(1000);
    return CHECK_INT(figure(hub, "journal", name), count);
}

static void what_a_close_stops_goes_on_at_the_next_open(void) {
    nh_hub *hub = open_journal("\"max\":1,\"in_flight\":2", "");
    nh_handle *running = send_json(hub, "{\"title\":\"hold\",\"id\":\"a\"}");
    nh_handle *held = send_json(hub, "{\"title\":\"hold\",\"id\":\"b\"}");
    nh_handle *queued = send_json(hub, "{\"title\":\"done\",\"id\":\"c\"}");
    nh_handle *later = send_json(hub, "{\"title\":\"done\",\"id\":\"d\",\"deliver_at\":9e9}");
    CHECK(reaches(running, NH_RUNNING) && reaches(held, NH_RUNNING));
    CHECK_INT(nh_handle_state(later), NH_SCHEDULED);
    CHECK_INT(nh_hub_close(hub, 0), 4);
    nh_receipt *receipt = nh_handle_receipt(queued);
    nh_doc *doc = nh_receipt_doc(receipt);
    size_t length;
    const char *text = nh_value_bytes(nh_value_get(nh_doc_root(doc), "error"), &length);
    CHECK(text && memmem(text, length, "kept in the journal", strlen("kept in the journal")));
    nh_doc_unref(doc);
    nh_receipt_unref(receipt);
    CHECK_STR(code_of(running), "closed");
    CHECK_STR(code_of(held), "closed");
    CHECK_STR(code_of(queued), "closed");
    CHECK_STR(code_of(later), "closed");
    CHECK_INT(figure(hub, "journal", "depth"), 4); /* told after the close, too */
    nh_hub_unref(hub);

    hub = open_journal("\"max\":1", "");
    settles(hub, "delivered", 1); /* c; the others are held again, or wait */
    journal_has(hub, "depth", 3);
    CHECK(strstr(fake_order[0], "a") && strstr(fake_order[1], "b"));
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void what_was_accepted_outlives_a_crash(void) {
    enum { COUNT = 500 };
    pid_t child = fork();
    if (child == 0) {
        nh_hub *hub = open_journal("\"max\":1,\"in_flight\":8", "\"window\":16");
        nh_doc *doc = json("{\"title\":\"hold\"}");
        const nh_doc *docs[COUNT];
        for (int i = 0; i < COUNT; i++)
            docs[i] = doc;
        nh_error error;
        nh_batch *batch = nh_hub_send_batch(hub, docs, COUNT, &error);
        kill(getpid(), batch ? SIGKILL : SIGTERM);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    nh_hub *hub = open_journal("\"max\":1", "\"window\":16");
    journal_has(hub, "depth", COUNT);
    for (int i = 0; i < 5000 && atomic_load(&fake_started) < COUNT; i++)
        usleep(1000);
    CHECK_INT(atomic_load(&fake_started), COUNT); /* leased a window at a time */
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void memory_keeps_a_window_and_no_handle_that_nobody_holds(void) {
    enum { COUNT = 1000 };
    nh_hub *hub = open_journal("\"max\":1,\"in_flight\":1", "\"window\":16");
    nh_doc *docs[COUNT];
    char text[64];
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "{\"title\":\"%s\",\"id\":\"%03d\"}", i ? "done" : "hold", i);
        docs[i] = json(text);
    }
    nh_batch *batch = nh_hub_send_batch(hub, (const nh_doc *const *)docs, COUNT, NULL);
    CHECK(batch != NULL);
    CHECK_INT(figure(hub, "journal", "depth"), COUNT);
    CHECK_INT(figure(hub, "journal", "parked"), COUNT - 16);
    nh_handle *some = nh_handle_ref(nh_batch_handle(batch, 500));
    CHECK_INT(nh_handle_state(some), NH_QUEUED);
    nh_handle *first = nh_handle_ref(nh_batch_handle(batch, 0));
    CHECK(reaches(first, NH_RUNNING));
    nh_batch_unref(batch); /* 15 that wait for the worker keep it */
    CHECK(nh_handle_cancel(first));
    CHECK_STR(code_of(first), "cancelled");
    settles(hub, "delivered", COUNT - 1);
    CHECK_STR(code_of(some), "ok");
    CHECK_INT(figure(hub, "journal", "parked"), 0);
    journal_has(hub, "depth", 0);
    pthread_mutex_lock(&fake_lock);
    for (int i = 1; i < COUNT; i++)
        if (strcmp(fake_order[i - 1], fake_order[i]) >= 0) {
            CHECK_STR(fake_order[i], "in order");
            break;
        }
    pthread_mutex_unlock(&fake_lock);
    for (int i = 0; i < COUNT; i++)
        nh_doc_unref(docs[i]);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void a_batch_that_waits_on_the_disk_is_told_to_the_end(void) {
    enum { COUNT = 200 };
    nh_hub *hub = open_journal("\"max\":1,\"in_flight\":1", "\"window\":16");
    nh_doc *doc = json("{\"title\":\"busy\"}");
    const nh_doc *docs[COUNT];
    for (int i = 0; i < COUNT; i++)
        docs[i] = doc;
    nh_inbox *inbox = nh_inbox_create();
    nh_batch *batch = nh_hub_send_batch(hub, docs, COUNT, NULL);
    CHECK_INT(nh_inbox_watch_batch_for(inbox, batch, 7, 0), NH_OK);
    nh_handle *last = nh_batch_handle(batch, COUNT - 1);
    CHECK_INT(nh_inbox_watch_handle_for(inbox, last, 8, 0), NH_OK);
    nh_batch_unref(batch); /* the watches keep what they need */
    nh_event event;
    unsigned seen = 0;
    for (int i = 0; i < 2; i++)
        if (CHECK_INT(nh_inbox_next(inbox, 10, &event), NH_OK))
            seen |= 1u << (event.tag - 7);
    CHECK_INT(seen, 3);
    nh_inbox_unref(inbox);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void a_cancelled_message_leaves_the_journal_wherever_it_is(void) {
    nh_hub *hub = open_journal("\"max\":1,\"in_flight\":1", "\"window\":16");
    nh_handle *running = send_json(hub, "{\"title\":\"hold\"}");
    CHECK(reaches(running, NH_RUNNING));
    nh_handle *handles[40];
    for (int i = 0; i < 40; i++)
        handles[i] = send_json(hub, "{\"title\":\"done\"}");
    nh_handle *later = send_json(hub, "{\"title\":\"done\",\"deliver_at\":9e9}");
    CHECK_INT(figure(hub, "journal", "parked"), 25);
    CHECK(nh_handle_cancel(later));
    for (int i = 0; i < 40; i += 2)
        CHECK(nh_handle_cancel(handles[i]) && !nh_handle_cancel(handles[i]));
    journal_has(hub, "depth", 21);
    CHECK(nh_handle_cancel(running));
    CHECK_STR(code_of(running), "cancelled");
    CHECK_STR(code_of(later), "cancelled");
    for (int i = 0; i < 40; i++)
        CHECK_STR(code_of(handles[i]), i % 2 ? "ok" : "cancelled");
    journal_has(hub, "depth", 0);
    CHECK_INT(atomic_load(&fake_started), 21);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void times_hold_over_a_restart(void) {
    nh_hub *hub = open_journal("", "");
    double now = nh_wall();
    char text[128];
    snprintf(text, sizeof text, "{\"title\":\"done\",\"deliver_at\":%f,\"expires_at\":%f}",
             now + 0.3, now + 0.4);
    nh_handle_unref(send_json(hub, text));
    snprintf(text, sizeof text, "{\"title\":\"done\",\"deliver_at\":%f}", now + 0.6);
    nh_handle_unref(send_json(hub, text));
    nh_hub_unref(hub);
    usleep(450000); /* the first one's time is over */
    hub = open_journal("", "");
    settles(hub, "expired", 1);
    settles(hub, "delivered", 1);
    CHECK(nh_wall() >= now + 0.598);
    CHECK_INT(atomic_load(&fake_started), 1);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void attempts_are_remembered(void) {
    nh_hub *hub = open_journal("", "");
    nh_handle *handle = send_json(hub, "{\"title\":\"stuck\"}"); /* tells a retry, then holds */
    CHECK(reaches(handle, NH_RUNNING));
    nh_handle_unref(handle);
    nh_hub_unref(hub);
    CHECK_INT(atomic_load(&fake_attempts), 0);
    hub = open_journal("", "");
    for (int i = 0; i < 5000 && atomic_load(&fake_started) == 0; i++)
        usleep(1000);
    CHECK_INT(atomic_load(&fake_attempts), 1);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void a_message_that_failed_is_a_dead_letter(void) {
    nh_hub *hub = open_journal("", "");
    nh_error error;
    CHECK_STR(code_of(send_json(hub, "{\"title\":\"fail\",\"id\":\"x\"}")), "rejected");
    CHECK_STR(code_of(send_json(hub, "{\"title\":\"done\"}")), "ok");
    journal_has(hub, "dead", 1);
    nh_doc *letters = nh_hub_dead_letters(hub, 0, 10, &error);
    const nh_value *letter = nh_value_at(nh_doc_root(letters), 0);
    CHECK_INT(nh_value_count(nh_doc_root(letters)), 1);
    CHECK(nh_value_is(nh_value_get(letter, "id"), "x"));
    CHECK(nh_value_is(nh_value_get(letter, "code"), "rejected"));
    uint64_t number = (uint64_t)nh_value_int(nh_value_get(letter, "number"), 0), count;
    nh_doc *one = nh_hub_dead_letter(hub, number, &error);
    CHECK(nh_value_is(nh_value_get(nh_value_get(nh_doc_root(one), "message"), "title"), "fail"));
    nh_doc_unref(one);
    nh_doc_unref(letters);
    CHECK(!nh_hub_dead_letter(hub, number + 1, &error));
    CHECK_INT(error.code, NH_E_INVALID);
    CHECK_INT(nh_hub_retry_dead(hub, number, &count, &error), NH_OK);
    settles(hub, "failed", 2); /* and so it died again */
    journal_has(hub, "dead", 1);
    CHECK_INT(nh_hub_discard_dead(hub, 0, &count, &error), NH_OK);
    CHECK_INT(count, 1);
    journal_has(hub, "dead", 0);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void without_a_journal_there_are_no_dead_letters(void) {
    nh_hub *hub = open_hub("{}");
    nh_error error;
    CHECK(!nh_hub_dead_letters(hub, 0, 10, &error));
    CHECK_INT(error.code, NH_E_CONFIG);
    nh_hub_unref(hub);
}

static void a_message_that_ends_the_process_three_times_is_buried(void) {
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            nh_hub *hub = open_journal("\"max\":1", "");
            if (i == 0)
                nh_handle_unref(send_json(hub, "{\"title\":\"die\",\"id\":\"poison\"}"));
            usleep(5000000);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    nh_hub *hub = open_journal("\"max\":1", "");
    journal_has(hub, "dead", 1);
    CHECK_STR(code_of(send_json(hub, "{\"title\":\"done\"}")), "ok");
    CHECK_INT(atomic_load(&fake_started), 1);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

/* -------------------------------------------------------------- acceptance */

static nh_handle *send_later(nh_hub *hub, const char *text) {
    nh_doc *doc = json(text);
    const nh_send_options options = {.later = true};
    nh_handle *handle = nh_hub_send_with(hub, doc, &options, NULL);
    CHECK(handle != NULL);
    nh_doc_unref(doc);
    return handle;
}

static void a_sender_need_not_wait_until_it_is_written(void) {
    nh_hub *hub = open_journal("", "");
    nh_inbox *inbox = nh_inbox_create();
    nh_error error;
    nh_event event;
    nh_handle *handle = send_later(hub, "{\"title\":\"hold\"}");
    CHECK_INT(nh_inbox_watch_accepted(inbox, handle, 5), NH_OK);
    CHECK_INT(nh_handle_wait_accepted(handle, 10, &error), NH_OK);
    CHECK_INT(nh_inbox_next(inbox, 10, &event), NH_OK);
    CHECK_INT(event.tag, 5);
    CHECK(nh_handle_state(handle) != NH_ACCEPTING);
    CHECK(nh_handle_cancel(handle));
    CHECK_STR(code_of(handle), "cancelled");
    nh_inbox_unref(inbox);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void a_full_disk_refuses_senders_and_nothing_else(void) {
    nh_hub *hub = open_journal("\"max\":1,\"in_flight\":1", "");
    nh_error error;
    nh_handle *running = send_json(hub, "{\"title\":\"hold\"}");
    nh_handle *queued = send_json(hub, "{\"title\":\"done\"}");
    CHECK(reaches(running, NH_RUNNING));
    atomic_store(&powerloss.full, true);
    nh_doc *doc = json("{\"title\":\"done\"}");
    uint64_t start = nh_monotonic();
    CHECK(!nh_hub_send_async(hub, doc, &error));
    CHECK_INT(error.code, NH_E_JOURNAL);
    CHECK(nh_monotonic() - start < NH_SECOND);
    nh_handle *refused = send_later(hub, "{\"title\":\"done\"}");
    CHECK_INT(nh_handle_wait_accepted(refused, 10, &error), NH_E_JOURNAL);
    CHECK_STR(code_of(refused), "journal");
    CHECK(nh_handle_cancel(running)); /* deliveries go on */
    CHECK_STR(code_of(running), "cancelled");
    CHECK_STR(code_of(queued), "ok");
    CHECK_INT(figure(hub, "", "failed"), 0);
    CHECK_INT(figure(hub, "", "accepted"), 2);
    atomic_store(&powerloss.full, false);
    const nh_send_options patient = {.wait = 10};
    nh_handle *handle = nh_hub_send_with(hub, doc, &patient, &error); /* recovers unaided */
    CHECK(handle != NULL);
    CHECK_STR(code_of(handle), "ok");
    journal_has(hub, "depth", 0);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void after_a_failed_sync_nothing_is_called_durable(void) {
    enum { SENDS = 3 };
    int refused = 0;
    nh_hub *hub = open_journal("\"max\":1", "");
    nh_error error;
    CHECK_STR(code_of(send_json(hub, "{\"title\":\"done\"}")), "ok");
    atomic_store(&powerloss.sync_fails, 1);
    nh_doc *doc = json("{\"title\":\"done\"}");
    for (int i = 0; i < SENDS; i++) {
        nh_handle *handle = nh_hub_send_async(hub, doc, &error);
        refused += !handle && error.code == NH_E_JOURNAL;
        nh_handle_unref(handle);
    }
    CHECK_INT(refused, SENDS);
    nh_doc *stats = nh_hub_stats(hub);
    const nh_value *journal = nh_value_get(nh_doc_root(stats), "journal");
    bool told = nh_value_is(nh_value_get(journal, "state"), "broken");
    CHECK(told);
    check_scorecard(refused == SENDS && told, "R3",
                    "sends after a sync failed that are refused with `journal`, and told", refused,
                    SENDS, "all");
    CHECK(nh_value_get(journal, "why") != NULL);
    nh_doc_unref(stats);
    atomic_store(&powerloss.sync_fails, 0);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

/* -------------------------------------------------------------- duplicates */

static void the_same_key_is_one_message(const char *queue) {
    char config[256];
    snprintf(config, sizeof config, "{\"queue\":{%s}}", queue);
    nh_hub *hub = open_hub(config);
    bool duplicate;
    const nh_send_options options = {.duplicate = &duplicate};
    nh_doc *doc = json("{\"title\":\"nap\",\"dedupe_key\":\"k\"}");
    nh_handle *first = nh_hub_send_with(hub, doc, &options, NULL);
    CHECK(!duplicate);
    nh_handle *second = nh_hub_send_with(hub, doc, &options, NULL);
    CHECK(duplicate);
    CHECK(second == first);
    nh_handle_unref(second);
    CHECK_STR(code_of(nh_handle_ref(first)), "ok");
    second = nh_hub_send_with(hub, doc, &options, NULL);
    CHECK(duplicate && second == first); /* ended long ago, and still the one */
    nh_handle_unref(second);
    const nh_doc *docs[] = {doc, doc};
    nh_batch *batch = nh_hub_send_batch(hub, docs, 2, NULL);
    CHECK_INT(nh_batch_wait(batch, 10), NH_OK);
    for (size_t i = 0; i < 2; i++) {
        nh_handle *one = nh_batch_handle(batch, i);
        CHECK_STR(code_of(nh_handle_ref(one)), "duplicate");
        nh_handle *known = nh_handle_first(one);
        CHECK(known == first);
        nh_handle_unref(known);
    }
    nh_batch_unref(batch);
    nh_doc *other = json("{\"title\":\"done\",\"dedupe_key\":\"l\"}");
    docs[0] = docs[1] = other;
    batch = nh_hub_send_batch(hub, docs, 2, NULL); /* within one batch */
    CHECK_STR(code_of(nh_handle_ref(nh_batch_handle(batch, 0))), "ok");
    CHECK_STR(code_of(nh_handle_ref(nh_batch_handle(batch, 1))), "duplicate");
    CHECK_INT(nh_batch_wait(batch, 10), NH_OK);
    nh_batch_unref(batch);
    CHECK_INT(figure(hub, "", "accepted"), 2);
    CHECK_INT(figure(hub, "", "delivered"), 2);
    CHECK_INT(figure(hub, "", "failed"), 0);
    settles(hub, "pending", 0);
    nh_doc_unref(other);
    nh_doc_unref(doc);
    nh_handle_unref(first);
    nh_hub_unref(hub);
}

static void a_key_holds_in_memory(void) {
    the_same_key_is_one_message("");
}

static void a_key_holds_in_the_journal(void) {
    char queue[256];
    snprintf(queue, sizeof queue, "\"journal\":\"%s\"", support_path("hub.db"));
    the_same_key_is_one_message(queue);
    nh_hub *hub = open_journal("", ""); /* another run */
    bool duplicate;
    const nh_send_options options = {.duplicate = &duplicate};
    nh_doc *doc = json("{\"title\":\"done\",\"dedupe_key\":\"k\"}");
    nh_handle *handle = nh_hub_send_with(hub, doc, &options, NULL);
    CHECK(duplicate);
    CHECK_STR(code_of(handle), "duplicate");
    CHECK_INT(atomic_load(&fake_started), 0);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

static void a_key_is_free_again_after_its_window_or_a_refusal(void) {
    nh_hub *hub =
        open_hub("{\"queue\":{\"dedupe_window\":0.05,\"capacity\":1},\"workers\":{\"max\":1,"
                 "\"in_flight\":1}}");
    nh_error error;
    nh_handle *running = send_json(hub, "{\"title\":\"hold\"}");
    CHECK(reaches(running, NH_RUNNING));
    nh_handle *queued = send_json(hub, "{\"title\":\"done\"}");
    nh_doc *doc = json("{\"title\":\"done\",\"dedupe_key\":\"k\"}");
    CHECK(!nh_hub_send_async(hub, doc, &error));
    CHECK_INT(error.code, NH_E_QUEUE_FULL);
    nh_handle_cancel(running);
    CHECK_STR(code_of(running), "cancelled");
    CHECK_STR(code_of(queued), "ok");
    CHECK_STR(code_of(nh_hub_send_async(hub, doc, &error)), "ok");
    usleep(60000);
    CHECK_STR(code_of(nh_hub_send_async(hub, doc, &error)), "ok");
    CHECK_INT(figure(hub, "", "delivered"), 3);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
}

static void a_sender_may_wait_for_room(void) {
    nh_hub *hub = open_hub("{\"queue\":{\"capacity\":1},\"workers\":{\"max\":1,\"in_flight\":1}}");
    nh_error error;
    nh_handle *running = send_json(hub, "{\"title\":\"nap\"}");
    CHECK(reaches(running, NH_RUNNING));
    nh_handle *queued = send_json(hub, "{\"title\":\"done\"}");
    nh_doc *doc = json("{\"title\":\"done\"}");
    const nh_send_options brief = {.wait = 0.001}, patient = {.wait = 10};
    nh_handle *hasty = nh_hub_send_with(hub, doc, &brief, &error);
    CHECK(hasty || error.code == NH_E_QUEUE_FULL);
    nh_handle_unref(hasty);
    CHECK_STR(code_of(nh_hub_send_with(hub, doc, &patient, &error)), "ok");
    CHECK_STR(code_of(running), "ok");
    CHECK_STR(code_of(queued), "ok");
    nh_doc_unref(doc);
    nh_hub_unref(hub);
}

/* ------------------------------------------------------------------ opening */

static void two_hubs_cannot_have_one_journal(void) {
    nh_hub *hub = open_journal("", "");
    nh_error error;
    char config[256];
    snprintf(config, sizeof config, "{\"queue\":{\"journal\":\"%s\"}}", support_path("hub.db"));
    nh_doc *doc = json(config);
    CHECK(!nh_hub_open_with(doc, &fake_engine, fake_transports, &error));
    CHECK_INT(error.code, NH_E_JOURNAL);
    CHECK(strstr(error.message, "has this journal open") != NULL);
    CHECK(!nh_letters_open(support_path("hub.db"), &error));
    CHECK_INT(error.code, NH_E_JOURNAL);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    nh_letters *letters = nh_letters_open(support_path("hub.db"), &error);
    CHECK(letters != NULL);
    CHECK_INT(nh_letters_close(letters, &error), NH_OK);
    support_forget("hub.db");
    CHECK(!nh_letters_open(support_path("hub.db"), &error));
    CHECK(access(support_path("hub.db"), F_OK) != 0);
}

/* Senders, cancellers, holders and droppers at once: nothing is lost, and every handle ends. */
static void *send_many(void *argument) {
    nh_hub *hub = argument;
    nh_doc *doc = json("{\"title\":\"done\"}");
    const nh_doc *docs[20];
    for (int i = 0; i < 20; i++)
        docs[i] = doc;
    for (int i = 0; i < 50; i++) {
        nh_batch *batch = nh_hub_send_batch(hub, docs, 20, NULL);
        if (batch && i % 3 == 0)
            nh_batch_cancel(batch);
        nh_handle *one = batch ? nh_handle_ref(nh_batch_handle(batch, 19)) : NULL;
        if (batch && i % 3 == 1)
            CHECK_INT(nh_batch_wait(batch, 30), NH_OK);
        nh_batch_unref(batch);
        if (one)
            CHECK(*code_of(one));
    }
    nh_doc_unref(doc);
    return NULL;
}

static void many_threads_may_send_and_let_go(void) {
    nh_hub *hub = open_journal("\"max\":2", "\"window\":32");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, send_many, hub);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    journal_has(hub, "depth", 0);
    CHECK_INT(figure(hub, "", "accepted"), 4000);
    CHECK_INT(figure(hub, "", "delivered") + figure(hub, "", "cancelled"), 4000);
    CHECK_INT(figure(hub, "journal", "parked"), 0);
    settles(hub, "pending", 0);
    nh_hub_unref(hub);
    support_forget("hub.db");
}

int main(void) {
    support_begin();
    powerloss_register(true);
    RUN(what_a_close_stops_goes_on_at_the_next_open);
    RUN(what_was_accepted_outlives_a_crash);
    RUN(memory_keeps_a_window_and_no_handle_that_nobody_holds);
    RUN(a_batch_that_waits_on_the_disk_is_told_to_the_end);
    RUN(a_cancelled_message_leaves_the_journal_wherever_it_is);
    RUN(times_hold_over_a_restart);
    RUN(attempts_are_remembered);
    RUN(a_message_that_failed_is_a_dead_letter);
    RUN(without_a_journal_there_are_no_dead_letters);
    RUN(a_message_that_ends_the_process_three_times_is_buried);
    RUN(a_sender_need_not_wait_until_it_is_written);
    RUN(a_full_disk_refuses_senders_and_nothing_else);
    RUN(after_a_failed_sync_nothing_is_called_durable);
    RUN(a_key_holds_in_memory);
    RUN(a_key_holds_in_the_journal);
    RUN(a_key_is_free_again_after_its_window_or_a_refusal);
    RUN(a_sender_may_wait_for_room);
    RUN(two_hubs_cannot_have_one_journal);
    RUN(many_threads_may_send_and_let_go);
    support_remove();
    return check_end();
}
