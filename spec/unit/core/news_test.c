/* news_test.c — items, who reads them, and what is forgotten. */
#include "runtime/core/news.h"

#include <pthread.h>

#include "spec/unit/check.h"

static nh_doc *number(int64_t value) {
    nh_writer *writer = nh_writer_create();
    nh_writer_int(writer, value);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return doc;
}

static int64_t next(nh_news *news, uint64_t *cursor) {
    nh_doc *doc = nh_news_next(news, cursor);
    int64_t value = doc ? nh_value_int(nh_doc_root(doc), -2) : -1;
    nh_doc_unref(doc);
    return value;
}

static void each_reader_reads_all_of_it(void) {
    nh_news *news = nh_news_create(10);
    uint64_t a = 0, b = 0;
    CHECK_INT(next(news, &a), -1);
    for (int i = 0; i < 3; i++)
        nh_news_add(news, number(i));
    for (int i = 0; i < 3; i++)
        CHECK_INT(next(news, &a), i);
    CHECK_INT(next(news, &a), -1);
    CHECK_INT(next(news, &b), 0);
    nh_news_add(news, number(3));
    CHECK_INT(next(news, &a), 3);
    CHECK_INT(next(news, &b), 1);
    CHECK_INT((long long)a, 4);
    nh_news_destroy(news);
}

static void forgets_the_oldest_and_shows_it(void) {
    nh_news *news = nh_news_create(4);
    uint64_t cursor = 0;
    for (int i = 0; i < 3; i++)
        nh_news_add(news, number(i));
    CHECK_INT(next(news, &cursor), 0);
    for (int i = 3; i < 10; i++)
        nh_news_add(news, number(i));
    CHECK_INT(next(news, &cursor), 6);
    CHECK_INT((long long)cursor, 7);
    nh_news_add(news, NULL); /* memory ran out for number 10 */
    nh_news_add(news, number(11));
    for (int i = 8; i < 10; i++)
        CHECK_INT(next(news, &cursor), i);
    CHECK_INT(next(news, &cursor), 11);
    CHECK_INT(next(news, &cursor), -1);
    CHECK_INT((long long)cursor, 12);
    nh_news_destroy(news);
}

static void comes_to_inboxes_merged_and_ends_with_the_hub(void) {
    nh_news *news = nh_news_create(4);
    nh_inbox *early = nh_inbox_create(), *late = nh_inbox_create(), *gone = nh_inbox_create();
    nh_event event;
    CHECK_INT(nh_news_watch(news, early, 7), NH_OK);
    CHECK_INT(nh_news_watch(news, gone, 9), NH_OK);
    nh_inbox_unref(gone);
    CHECK_INT(nh_inbox_next(early, 0, &event), NH_E_TIMEOUT);
    nh_news_add(news, number(1));
    nh_news_add(news, number(2));
    CHECK_INT(nh_news_watch(news, late, 8), NH_OK); /* what was there before is told at once */
    CHECK_INT(nh_inbox_next(early, 0, &event), NH_OK);
    CHECK(event.kinds == NH_EVENT_NEWS && event.tag == 7);
    CHECK_INT(nh_inbox_next(early, 0, &event), NH_E_TIMEOUT);
    CHECK_INT(nh_inbox_next(late, 0, &event), NH_OK);
    CHECK(event.kinds == NH_EVENT_NEWS && event.tag == 8);
    nh_news_destroy(news);
    CHECK_INT(nh_inbox_next(early, 0, &event), NH_OK);
    CHECK(event.kinds == NH_EVENT_COMPLETE && event.tag == 7);
    nh_inbox_unref(early);
    nh_inbox_unref(late); /* with an event that nobody read */
}

enum { THREADS = 3, ITEMS = 2000 };

static void *add_many(void *user) {
    for (int i = 0; i < ITEMS; i++)
        nh_news_add(user, number(i));
    return NULL;
}

static void is_shared_by_threads(void) {
    nh_news *news = nh_news_create(16);
    nh_inbox *inbox = nh_inbox_create();
    pthread_t threads[THREADS];
    CHECK_INT(nh_news_watch(news, inbox, 1), NH_OK);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, add_many, news);
    uint64_t cursor = 0;
    nh_event event;
    while (cursor < THREADS * ITEMS) { /* an event comes for whatever was added last */
        CHECK_INT(nh_inbox_next(inbox, 60, &event), NH_OK);
        while (next(news, &cursor) >= 0)
            ;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT((long long)cursor, THREADS * ITEMS);
    nh_news_destroy(news);
    nh_inbox_unref(inbox);
}

int main(void) {
    RUN(each_reader_reads_all_of_it);
    RUN(forgets_the_oldest_and_shows_it);
    RUN(comes_to_inboxes_merged_and_ends_with_the_hub);
    RUN(is_shared_by_threads);
    return check_end();
}
