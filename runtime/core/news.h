/* news.h — what a hub has to tell its program beside receipts: a bounded list of documents, which
 * any number of readers follow, each at its own pace.
 */
#ifndef NH_CORE_NEWS_H
#define NH_CORE_NEWS_H

#include "runtime/notifyhub.h"

typedef struct nh_news nh_news;

/* Keeps the last `most` items. NULL when out of memory. */
nh_news *nh_news_create(size_t most);
/* Ends its watches (NH_EVENT_COMPLETE). Nobody else may be using it. NULL is allowed. */
void nh_news_destroy(nh_news *news);

/* Thread: any, for all of these. Blocks: never. */

/* Posts NH_EVENT_NEWS for each item from now on, and at once when there are some. Errors:
 * NH_E_INTERNAL when out of memory. */
nh_err nh_news_watch(nh_news *news, nh_inbox *inbox, uint64_t tag);
/* Adds an item (taken); NULL is one that memory ran out for: it is counted and never read. */
void nh_news_add(nh_news *news, nh_doc *item);
/* The first item that is kept from number *cursor on, with a reference for the caller, and its
 * number + 1 in *cursor; NULL when there is none. */
nh_doc *nh_news_next(nh_news *news, uint64_t *cursor);

#endif
