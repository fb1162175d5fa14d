/* conformance_test.c — what every store must do, run on each. */
#include "spec/unit/store/journal_support.h"

static const nh_store_ops *ops;
static atomic_int notified;

static void notify(void *context) {
    (void)context;
    notified++;
}

static nh_store *fresh_with(nh_store_options options) {
    nh_error error = {.message = ""};
    support_forget("conformance");
    notified = 0;
    options.path = support_path("conformance");
    options.notify = notify;
    nh_store *store = ops->open(&options, &error);
    if (!CHECK(store != NULL))
        printf("# %s\n", error.message), exit(1);
    return store;
}

static nh_store *fresh(void) {
    return fresh_with((nh_store_options){0});
}

static void wait_for_notify(int than) {
    uint64_t until = nh_monotonic() + 60 * NH_SECOND;
    while (notified <= than && nh_monotonic() < until)
        usleep(1000);
    CHECK(notified > than);
}

static void a_row_is_leased_once_and_acked_away(void) {
    nh_store *store = fresh();
    support_row rows[16];
    bool more;
    CHECK_INT(support_fill(store, 1, 5, NH_NORMAL, false), NH_OK);
    wait_for_notify(0);
    CHECK_INT(support_stats(store).depth, 5);
    CHECK_INT(support_lease(store, rows, 3, &more), 3);
    CHECK(more);
    CHECK_INT(rows[0].number, 1);
    CHECK_INT(rows[2].number, 3);
    CHECK_STR(rows[2].id, "m3");
    CHECK_INT(support_lease(store, rows + 3, 13, &more), 2);
    CHECK(!more);
    CHECK_INT(support_lease(store, rows + 5, 11, &more), 0);
    for (int i = 0; i < 5; i++)
        CHECK_INT(ops->ack(store, &rows[i].row, 1), NH_OK);
    CHECK_INT(ops->ack(store, &rows[0].row, 1), NH_OK); /* once more does nothing */
    CHECK_INT(support_stats(store).depth, 0);
    support_close(store);
}

static void the_sender_may_keep_what_nothing_older_waits_for(void) {
    nh_store *store = fresh();
    support_row rows[4];
    support_text texts[4];
    nh_store_item items[4];
    for (unsigned i = 0; i < 4; i++) {
        support_message(&texts[i], i);
        items[i] = support_item(&texts[i], NH_NORMAL);
        items[i].take = i != 1;
    }
    items[3].priority = NH_URGENT;
    CHECK_INT(support_enqueue(store, items, 4), NH_OK);
    CHECK(items[0].leased && items[0].row);
    CHECK(!items[1].leased);
    CHECK(!items[2].leased); /* 1 is older */
    CHECK(items[3].leased);  /* and of another priority */
    CHECK_INT(support_lease(store, rows, 4, NULL), 2);
    CHECK_INT(rows[0].number, 1);
    CHECK_INT(rows[1].number, 2);
    items[0].take = true;
    CHECK_INT(support_enqueue(store, items, 1), NH_OK);
    CHECK(items[0].leased);
    support_close(store);
}

static void urgent_goes_first_and_low_still_moves(void) {
    nh_store *store = fresh();
    support_row rows[30];
    unsigned counts[NH_PRIORITIES] = {0};
    for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
        CHECK_INT(support_fill(store, 1000u * (unsigned)priority, 100, (nh_priority)priority, 0),
                  NH_OK);
    CHECK_INT(support_lease(store, rows, 30, NULL), 30);
    for (int i = 0; i < 30; i++)
        counts[rows[i].priority]++;
    CHECK(counts[NH_URGENT] > counts[NH_HIGH] && counts[NH_HIGH] > counts[NH_NORMAL]);
    CHECK(counts[NH_NORMAL] > counts[NH_LOW] && counts[NH_LOW] > 0);
    support_close(store);
}

static void a_lease_that_is_not_taken_waits_on(void) {
    nh_store *store = fresh();
    support_row out[4];
    support_rows rows = {.wait = SUPPORT_WAIT, .rows = out, .refuse_after = 1};
    nh_store_lease lease = {.most = 4,
                            .bytes = SIZE_MAX,
                            .take = support_take,
                            .done = support_leased,
                            .context = &rows};
    CHECK_INT(support_fill(store, 1, 3, NH_NORMAL, false), NH_OK);
    ops->lease(store, &lease);
    CHECK_INT(support_await(&rows.wait), NH_OK);
    CHECK_INT(rows.count, 1);
    CHECK(rows.more);
    CHECK_INT(support_lease(store, out, 4, NULL), 2);
    CHECK_INT(out[0].number, 2);
    support_close(store);
}

static void a_lease_is_bounded_by_bytes(void) {
    nh_store *store = fresh();
    support_row out[4];
    support_rows rows = {.wait = SUPPORT_WAIT, .rows = out, .refuse_after = 4};
    nh_store_lease lease = {
        .most = 4, .bytes = 9, .take = support_take, .done = support_leased, .context = &rows};
    CHECK_INT(support_fill(store, 1, 4, NH_NORMAL, false), NH_OK);
    ops->lease(store, &lease);
    CHECK_INT(support_await(&rows.wait), NH_OK);
    CHECK_INT(rows.count, 2); /* 8 bytes each: the one that passes the bound is the last */
    support_close(store);
}

static void a_nack_brings_it_back_with_its_attempts(void) {
    nh_store *store = fresh();
    support_row row;
    CHECK_INT(support_fill(store, 7, 1, NH_HIGH, false), NH_OK);
    CHECK_INT(support_lease(store, &row, 1, NULL), 1);
    CHECK_INT(ops->nack(store, row.row, &(nh_store_nack){.delay = 0.01, .attempts = 3}), NH_OK);
    CHECK_INT(support_lease_wait(store, &row, 1), 1);
    CHECK_INT(row.number, 7);
    CHECK_INT(row.attempts, 3);
    CHECK_INT(ops->nack(store, row.row, &(nh_store_nack){.delay = -1, .attempts = 4}), NH_OK);
    CHECK_INT(support_stats(store).depth, 1);
    CHECK_INT(support_lease(store, &row, 1, NULL), 0); /* it kept the lease */
    support_close(store);
}

static void what_is_due_later_comes_then_and_is_told(void) {
    nh_store *store = fresh();
    support_text texts[3];
    support_row rows[3];
    nh_store_item items[3];
    double now = nh_wall();
    for (unsigned i = 0; i < 3; i++) {
        support_message(&texts[i], i);
        items[i] = support_item(&texts[i], NH_NORMAL);
        items[i].take = true;
    }
    items[0].due = now + 3600;
    items[1].due = now + 0.2;
    items[2].due = now - 5;
    CHECK_INT(support_enqueue(store, items, 3), NH_OK);
    CHECK(!items[0].leased && !items[1].leased && items[2].leased);
    wait_for_notify(0);
    CHECK(nh_wall() >= now + 0.199);
    CHECK_INT(support_lease_wait(store, rows, 3), 1);
    CHECK_INT(rows[0].number, 1);
    CHECK_INT(support_stats(store).depth, 3);
    CHECK_INT(ops->ack(store, &items[0].row, 1), NH_OK); /* cancelled before its time */
    CHECK_INT(support_stats(store).depth, 2);
    support_close(store);
}

static void the_same_key_is_one_message(void) {
    nh_store *store = fresh();
    support_text texts[3];
    nh_store_item items[3];
    char id[NH_ID_MAX + 1], firsts[3][NH_ID_MAX + 1];
    for (unsigned i = 0; i < 3; i++) {
        support_message(&texts[i], i);
        items[i] = support_item(&texts[i], NH_NORMAL);
        items[i].key = "deploy";
        items[i].key_length = 6;
        items[i].window = 3600;
        items[i].first = firsts[i];
    }
    CHECK_INT(support_enqueue(store, items, 2), NH_OK); /* within one batch */
    CHECK(!items[0].duplicate && items[1].duplicate && !items[1].row);
    CHECK_STR(items[1].first, "m0");
    CHECK_INT(support_enqueue(store, items + 2, 1), NH_OK);
    CHECK(items[2].duplicate);
    CHECK_STR(items[2].first, "m0");
    CHECK_INT(support_stats(store).depth, 1);
    CHECK_INT(ops->dedupe(store, "deploy", 6, id, NULL), NH_OK);
    CHECK_STR(id, "m0");
    CHECK_INT(ops->dedupe(store, "deplo", 5, id, NULL), NH_OK);
    CHECK_STR(id, "");
    items[2].key = "short";
    items[2].key_length = 5;
    items[2].window = 0.001;
    CHECK_INT(support_enqueue(store, items + 2, 1), NH_OK);
    usleep(3000);
    items[1].key = "short";
    items[1].key_length = 5;
    CHECK_INT(support_enqueue(store, items + 1, 1), NH_OK);
    CHECK(!items[1].duplicate);
    support_close(store);
}

/* ------------------------------------------------------------- dead letters */

typedef struct letters {
    unsigned count;
    uint64_t last;
    nh_store_dead dead;
    char id[32], reason[NH_STORE_TEXT_MAX + 8], answer[64];
    unsigned number;
} letters;

static void note_letter(void *context, const nh_store_dead *dead) {
    letters *l = context;
    CHECK(dead->number > l->last);
    l->count++;
    l->last = dead->number;
    l->dead = *dead;
    snprintf(l->id, sizeof l->id, "%s", dead->id);
    snprintf(l->reason, sizeof l->reason, "%s", dead->reason);
    snprintf(l->answer, sizeof l->answer, "%s", dead->answer);
    l->number = dead->document ? support_number(dead->document) : 0;
}

static void kill_rows(nh_store *store, unsigned count) {
    support_row row;
    for (unsigned i = 0; i < count; i++) {
        CHECK_INT(support_lease_wait(store, &row, 1), 1);
        CHECK_INT(ops->dead(store, row.row,
                            &(nh_store_death){.code = NH_E_REJECTED,
                                              .attempts = 2,
                                              .reason = "no such channel",
                                              .answer = "{\"ok\":false}"}),
                  NH_OK);
    }
}

static void a_dead_letter_is_listed_shown_retried_and_discarded(void) {
    nh_store *store = fresh();
    letters l = {0};
    uint64_t count;
    nh_error error;
    support_row rows[8];
    CHECK_INT(support_fill(store, 1, 4, NH_LOW, false), NH_OK);
    kill_rows(store, 4);
    CHECK_INT(support_stats(store).dead, 4);
    CHECK_INT(support_stats(store).depth, 0);
    CHECK_INT(ops->dead_list(store, 0, 3, note_letter, &l, NULL), NH_OK);
    CHECK_INT(l.count, 3);
    CHECK_INT(ops->dead_list(store, l.last, 3, note_letter, &l, NULL), NH_OK);
    CHECK_INT(l.count, 4);
    CHECK_STR(l.id, "m4");
    CHECK_STR(l.reason, "no such channel");
    CHECK_STR(l.answer, "{\"ok\":false}");
    CHECK_INT(l.dead.code, NH_E_REJECTED);
    CHECK_INT(l.dead.attempts, 2);
    CHECK_INT(l.dead.priority, NH_LOW);
    CHECK_INT(l.number, 0); /* a list has no documents */
    uint64_t last = l.last;
    l.last = 0;
    CHECK_INT(ops->dead_get(store, last, note_letter, &l, NULL), NH_OK);
    CHECK_INT(l.number, 4);
    CHECK_INT(ops->dead_retry(store, last, &count, NULL), NH_OK);
    CHECK_INT(count, 1);
    CHECK_INT(ops->dead_get(store, last, note_letter, &l, &error), NH_E_INVALID);
    CHECK(strstr(error.message, "no dead letter") != NULL);
    CHECK_INT(support_lease_wait(store, rows, 8), 1);
    CHECK_INT(rows[0].number, 4);
    CHECK_INT(rows[0].attempts, 0);
    CHECK_INT(rows[0].priority, NH_LOW);
    CHECK_INT(ops->dead_discard(store, last, &count, &error), NH_E_INVALID);
    CHECK_INT(ops->dead_discard(store, 0, &count, NULL), NH_OK);
    CHECK_INT(count, 3);
    CHECK_INT(ops->dead_retry(store, 0, &count, NULL), NH_OK);
    CHECK_INT(count, 0);
    CHECK_INT(support_stats(store).dead, 0);
    support_close(store);
}

static void many_letters_are_retried_in_steps(void) {
    nh_store *store = fresh();
    static support_row rows[3000];
    uint64_t count;
    CHECK_INT(support_fill(store, 1, 3000, NH_NORMAL, false), NH_OK);
    CHECK_INT(support_lease(store, rows, 3000, NULL), 3000);
    for (int i = 0; i < 3000; i++)
        CHECK_INT(ops->dead(store, rows[i].row, &(nh_store_death){.code = NH_E_NETWORK}), NH_OK);
    CHECK_INT(ops->dead_retry(store, 0, &count, NULL), NH_OK);
    CHECK_INT(count, 3000);
    CHECK_INT(support_stats(store).depth, 3000);
    CHECK_INT(support_lease(store, rows, 3000, NULL), 3000);
    support_close(store);
}

static void dead_letters_are_bounded_and_texts_cut(void) {
    nh_store *store = fresh_with((nh_store_options){.dead_most = 3});
    letters l = {0};
    support_row row;
    char *longest = malloc(5000);
    CHECK_INT(support_fill(store, 1, 6, NH_NORMAL, false), NH_OK);
    kill_rows(store, 5);
    memset(longest, 'x', 4999);
    memcpy(longest + NH_STORE_TEXT_MAX - 1, "é", 2);
    longest[4999] = '\0';
    CHECK_INT(support_lease_wait(store, &row, 1), 1);
    CHECK_INT(ops->dead(store, row.row, &(nh_store_death){.code = NH_E_SCRIPT, .reason = longest}),
              NH_OK);
    CHECK_INT(support_stats(store).dead, 3);
    CHECK_INT(support_stats(store).dead_lost, 3);
    CHECK_INT(ops->dead_list(store, 0, 10, note_letter, &l, NULL), NH_OK);
    CHECK_INT(l.count, 3);
    CHECK_INT(strlen(l.reason), NH_STORE_TEXT_MAX - 1); /* not within a character */
    CHECK_STR(l.answer, "");
    free(longest);
    support_close(store);
}

/* -------------------------------------------------------------------- values */

typedef struct shown {
    unsigned count;
    char keys[128], last[16];
    double expires_at;
} shown;

static void note_value(void *context, const void *key, size_t key_length, const void *value,
                       size_t length, double expires_at) {
    shown *s = context;
    s->count++;
    snprintf(s->last, sizeof s->last, "%.*s", (int)key_length, (const char *)key);
    size_t at = strlen(s->keys);
    snprintf(s->keys + at, sizeof s->keys - at, "%s=%.*s ", s->last, (int)length,
             (const char *)value);
    s->expires_at = expires_at;
}

static void put(nh_store *store, const char *key, const char *value, double expires_at) {
    CHECK_INT(ops->set(store, key, strlen(key), value, value ? strlen(value) : 0, expires_at, NULL),
              NH_OK);
}

static void values_are_kept_replaced_and_paged_in_order(void) {
    nh_store *store = fresh();
    shown s = {0};
    put(store, "b", "1", 0);
    put(store, "a", "2", nh_wall() + 3600);
    put(store, "c", "", 0);
    put(store, "b", "3", 0);
    put(store, "d", "4", 0);
    put(store, "d", NULL, 0);
    put(store, "none", NULL, 0);
    put(store, "old", "5", nh_wall() - 1);
    CHECK_INT(ops->values(store, NULL, 0, 2, note_value, &s, NULL), NH_OK);
    CHECK_STR(s.keys, "a=2 b=3 ");
    CHECK_INT(ops->values(store, s.last, 1, 10, note_value, &s, NULL), NH_OK);
    CHECK_STR(s.keys, "a=2 b=3 c= ");
    support_close(store);
}

static void limits_are_told(void) {
    nh_store *store = fresh();
    nh_error error;
    support_text text;
    support_message(&text, 1);
    nh_store_item item = support_item(&text, NH_NORMAL);
    char name[600];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    nh_store_item bad[] = {item, item, item, item, item, item};
    bad[0].id = name;
    bad[1].id = "";
    bad[2].lane = name;
    bad[3].length = 0;
    bad[4].priority = NH_PRIORITIES;
    bad[5].key = name;
    bad[5].key_length = sizeof name;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nh_store_item both[] = {item, bad[i]};
        CHECK_INT(support_enqueue(store, both, 2), NH_E_INVALID);
    }
    CHECK_INT(support_enqueue(store, NULL, 0), NH_E_INVALID);
    CHECK_INT(ops->set(store, "", 0, "x", 1, 0, &error), NH_E_INVALID);
    CHECK_INT(ops->set(store, name, sizeof name, "x", 1, 0, &error), NH_E_INVALID);
    CHECK_INT(ops->set(store, "k", 1, name, NH_STORE_VALUE_MAX + 1, 0, &error), NH_E_INVALID);
    CHECK_INT(support_stats(store).depth, 0);
    support_close(store);
}

static void a_full_store_refuses_and_takes_again_when_there_is_room(void) {
    nh_store *store = fresh_with((nh_store_options){.bytes = NH_STORE_BYTES_MIN});
    enum { BIG = 20000 };
    static unsigned char big[BIG] = {0x81, 0xa1, 'n', 0xc5, (BIG - 6) >> 8, (BIG - 6) & 0xff};
    nh_store_item item = {.id = "big", .payload = big, .length = BIG, .priority = NH_NORMAL};
    support_row rows[100];
    nh_err failed = NH_OK;
    unsigned accepted = 0;
    while (accepted < 100 && !(failed = support_enqueue(store, &item, 1)))
        accepted++;
    CHECK_INT(failed, NH_E_JOURNAL);
    CHECK(strstr(support_why, "full") != NULL);
    CHECK(accepted > 10);
    nh_store_stats stats = support_stats(store);
    CHECK(stats.bytes <= stats.most);
    CHECK_INT(stats.refused, 1);
    CHECK_INT(support_lease(store, rows, 100, NULL), accepted);
    for (unsigned i = 0; i < accepted; i++) /* its reserve lets it go on */
        CHECK_INT(ops->dead(store, rows[i].row, &(nh_store_death){.code = NH_E_NETWORK}), NH_OK);
    CHECK_INT(support_stats(store).dead, accepted);
    CHECK_INT(support_enqueue(store, &item, 1), NH_E_JOURNAL);
    CHECK_INT(ops->dead_discard(store, 0, NULL, NULL), NH_OK);
    CHECK_INT(support_enqueue(store, &item, 1), NH_OK);
    support_close(store);
}

/* ------------------------------------------------------------------- threads */

enum { THREADS = 4, BATCHES = 50, BATCH = 20 };

static nh_store *shared_store;
static atomic_uint seen[THREADS * BATCHES * BATCH];
static atomic_uint acked;

static void *sender(void *argument) {
    unsigned thread = (unsigned)(size_t)argument;
    for (unsigned i = 0; i < BATCHES; i++)
        CHECK_INT(support_fill(shared_store, (thread * BATCHES + i) * BATCH, BATCH,
                               (nh_priority)(i % NH_PRIORITIES), false),
                  NH_OK);
    return NULL;
}

static void *worker(void *argument) {
    support_row rows[64];
    (void)argument;
    while (acked < THREADS * BATCHES * BATCH) {
        size_t count = support_lease(shared_store, rows, 64, NULL);
        for (size_t i = 0; i < count; i++) {
            if (rows[i].attempts == 0 && rows[i].number % 7 == 0) {
                CHECK_INT(ops->nack(shared_store, rows[i].row,
                                    &(nh_store_nack){.delay = 0.001, .attempts = 1}),
                          NH_OK);
                continue;
            }
            seen[rows[i].number]++;
            acked++;
            CHECK_INT(ops->ack(shared_store, &rows[i].row, 1), NH_OK);
        }
        if (count == 0)
            usleep(1000);
    }
    return NULL;
}

static void every_message_comes_once_with_many_threads(void) {
    pthread_t threads[2 * THREADS];
    shared_store = fresh();
    acked = 0;
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, sender, (void *)i) == 0);
        CHECK(pthread_create(&threads[THREADS + i], NULL, worker, NULL) == 0);
    }
    for (size_t i = 0; i < 2 * THREADS; i++)
        pthread_join(threads[i], NULL);
    unsigned wrong = 0;
    for (size_t i = 0; i < THREADS * BATCHES * BATCH; i++)
        wrong += seen[i] != 1;
    CHECK_INT(wrong, 0);
    CHECK_INT(support_stats(shared_store).depth, 0);
    support_close(shared_store);
}

int main(void) {
    static const nh_store_ops *const engines[] = {&nh_store_memory, &nh_store_journal};
    support_begin();
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        ops = engines[i];
        printf("# %s\n", ops->name);
        RUN(a_row_is_leased_once_and_acked_away);
        RUN(the_sender_may_keep_what_nothing_older_waits_for);
        RUN(urgent_goes_first_and_low_still_moves);
        RUN(a_lease_that_is_not_taken_waits_on);
        RUN(a_lease_is_bounded_by_bytes);
        RUN(a_nack_brings_it_back_with_its_attempts);
        RUN(what_is_due_later_comes_then_and_is_told);
        RUN(the_same_key_is_one_message);
        RUN(a_dead_letter_is_listed_shown_retried_and_discarded);
        RUN(many_letters_are_retried_in_steps);
        RUN(dead_letters_are_bounded_and_texts_cut);
        RUN(values_are_kept_replaced_and_paged_in_order);
        RUN(limits_are_told);
        RUN(a_full_store_refuses_and_takes_again_when_there_is_room);
        RUN(every_message_comes_once_with_many_threads);
    }
    support_remove();
    return check_end();
}
