/* news.c — a ring of documents, numbered from 0 on, and the inboxes that want to hear of it.
 *
 * Any thread. Who adds never waits for who reads: what is not read in time is forgotten, the oldest
 * first, and a reader sees it by the numbers. Watchers are told under the lock (lock order: news →
 * inbox), merged as all events are. Adding costs the lock and a post for each watcher.
 */
#include "runtime/core/news.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/inbox.h"

struct nh_news {
    pthread_mutex_t lock;
    nh_watcher *watchers;
    uint64_t added; /* items so far: the number of the next one */
    size_t most;
    nh_doc *items[]; /* item n is at n % most */
};

nh_news *nh_news_create(size_t most) {
    nh_news *news = calloc(1, sizeof *news + most * sizeof news->items[0]);
    if (!news || pthread_mutex_init(&news->lock, NULL) != 0) {
        free(news);
        return NULL;
    }
    news->most = most;
    return news;
}

void nh_news_destroy(nh_news *news) {
    if (!news)
        return;
    while (news->watchers) {
        nh_watcher *watcher = news->watchers;
        news->watchers = watcher->sibling;
        nh_watcher_post(watcher, NH_EVENT_COMPLETE);
    }
    for (size_t i = 0; i < news->most; i++)
        nh_doc_unref(news->items[i]);
    pthread_mutex_destroy(&news->lock);
    free(news);
}

nh_err nh_news_watch(nh_news *news, nh_inbox *inbox, uint64_t tag) {
    nh_watcher *watcher = nh_watcher_create(inbox, tag, NH_EVENT_NEWS);
    if (!watcher)
        return NH_E_INTERNAL;
    pthread_mutex_lock(&news->lock);
    watcher->sibling = news->watchers;
    news->watchers = watcher;
    if (news->added > 0)
        nh_watcher_post(watcher, NH_EVENT_NEWS);
    pthread_mutex_unlock(&news->lock);
    return NH_OK;
}

void nh_news_add(nh_news *news, nh_doc *item) {
    pthread_mutex_lock(&news->lock);
    nh_doc **place = &news->items[news->added++ % news->most];
    nh_doc *forgotten = *place;
    *place = item;
    for (nh_watcher *watcher = news->watchers; watcher; watcher = watcher->sibling)
        nh_watcher_post(watcher, NH_EVENT_NEWS);
    pthread_mutex_unlock(&news->lock);
    nh_doc_unref(forgotten);
}

nh_doc *nh_news_next(nh_news *news, uint64_t *cursor) {
    nh_doc *item = NULL;
    pthread_mutex_lock(&news->lock);
    uint64_t at = *cursor;
    if (news->added > news->most && at < news->added - news->most)
        at = news->added - news->most;
    while (at < news->added && !item) {
        item = news->items[at++ % news->most];
        if (item)
            nh_doc_ref(item);
    }
    *cursor = at;
    pthread_mutex_unlock(&news->lock);
    return item;
}
