/* store_memory_value.c — what is found by a key: dedupe keys, and what scripts keep.
 *
 * Any thread. Two trees (search.h); dedupe keys are in a list besides, from whose head a few that
 * have expired go with every batch. O(log n); a page of values looks at all of them.
 */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/store/store_memory.h"

enum { DEDUPE_DROPPED = 4 };

static int by_key(const void *a, const void *b) {
    const nh_memory_pair *left = a, *right = b;
    size_t shorter = left->key_length < right->key_length ? left->key_length : right->key_length;
    int order = memcmp(left->bytes, right->bytes, shorter);
    return order                                  ? order
           : left->key_length < right->key_length ? -1
                                                  : left->key_length > right->key_length;
}

static nh_memory_pair *pair_make(const void *key, size_t key_length, const void *value,
                                 size_t length) {
    nh_memory_pair *p = calloc(1, sizeof *p + key_length + length + 1);
    if (!p)
        return NULL;
    memcpy(p->bytes, key, key_length);
    if (length)
        memcpy(p->bytes + key_length, value, length);
    p->key_length = key_length;
    p->length = length;
    return p;
}

nh_memory_pair *nh_memory_find_pair(void **tree, const void *key, size_t length) {
    nh_memory_pair *wanted = pair_make(key, length, NULL, 0);
    if (!wanted)
        return NULL;
    nh_memory_pair **node = tfind(wanted, tree, by_key);
    free(wanted);
    return node ? *node : NULL;
}

/* Dedupe keys whose time is over, a few at a time, the oldest first. */
void nh_memory_forget_keys(nh_memory *m, double now) {
    for (int i = 0; i < DEDUPE_DROPPED && m->first_key && m->first_key->expires_at <= now; i++) {
        nh_memory_pair *p = m->first_key;
        if (!(m->first_key = p->next))
            m->last_key = &m->first_key;
        tdelete(p, &m->keys, by_key);
        m->stats.bytes -= p->key_length + NH_MEMORY_OVERHEAD;
        free(p);
    }
}

/* Finds out whether an item is the second with its key; else it is the first from now on. */
bool nh_memory_claim_key(nh_memory *m, nh_store_item *item, double now) {
    nh_memory_pair *mine = pair_make(item->key, item->key_length, NULL, 0);
    nh_memory_pair **node = mine ? tsearch(mine, &m->keys, by_key) : NULL;
    if (!node) {
        free(mine);
        return false;
    }
    nh_memory_pair *there = *node;
    if (there == mine) {
        *m->last_key = mine;
        m->last_key = &mine->next;
        m->stats.bytes += mine->key_length + NH_MEMORY_OVERHEAD;
    } else {
        free(mine);
    }
    item->duplicate = there->expires_at > now;
    if (item->duplicate) {
        memcpy(item->first, there->id, sizeof there->id);
    } else {
        there->expires_at = now + item->window;
        snprintf(there->id, sizeof there->id, "%s", item->id);
    }
    return true;
}

nh_err nh_memory_dedupe(nh_store *store, const void *key, size_t length, char id[NH_ID_MAX + 1],
                        nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    pthread_mutex_lock(&m->lock);
    nh_memory_pair *p = nh_memory_find_pair(&m->keys, key, length);
    snprintf(id, NH_ID_MAX + 1, "%s", p && p->expires_at > nh_wall() ? p->id : "");
    pthread_mutex_unlock(&m->lock);
    return NH_OK;
}

static void remove_value(nh_memory *m, nh_memory_pair *p) {
    tdelete(p, &m->values, by_key);
    m->stats.bytes -= p->key_length + p->length + NH_MEMORY_OVERHEAD;
    free(p);
}

nh_err nh_memory_set(nh_store *store, const void *key, size_t key_length, const void *value,
                     size_t length, double expires_at, nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    nh_err failed = nh_store_check_value(key_length, length, error);
    if (failed)
        return failed;
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    nh_memory_pair *mine = pair_make(key, key_length, value, value ? length : 0);
    if (!mine)
        return nh_fail_memory(error);
    mine->expires_at = expires_at;
    pthread_mutex_lock(&m->lock);
    nh_memory_pair **node = tfind(mine, &m->values, by_key);
    uint64_t size = key_length + mine->length + NH_MEMORY_OVERHEAD;
    if (value && size > m->stats.most - m->stats.bytes)
        failed = nh_fail(error, NH_E_JOURNAL, "the store is full: %llu of %llu bytes",
                         (unsigned long long)m->stats.bytes, (unsigned long long)m->stats.most);
    if (!failed && node)
        remove_value(m, *node);
    if (!failed && value && !tsearch(mine, &m->values, by_key))
        failed = nh_fail_memory(error);
    if (!failed && value) {
        m->stats.bytes += size;
        mine = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    free(mine);
    return failed;
}

typedef struct page {
    const nh_memory_pair *after;
    nh_memory_pair **pairs;
    size_t count, most;
    double now;
} page;

static void collect(const void *node, VISIT visit, void *closure) {
    page *p = closure;
    nh_memory_pair *at = *(nh_memory_pair *const *)node;
    bool live = at->expires_at <= 0 || at->expires_at > p->now;
    if ((visit == postorder || visit == leaf) && live && p->count < p->most &&
        by_key(at, p->after) > 0)
        p->pairs[p->count++] = at;
}

/* Copies the page, so that it can be shown without the lock. */
nh_err nh_memory_values(nh_store *store, const void *after, size_t after_length, size_t most,
                        void (*each)(void *context, const void *key, size_t key_length,
                                     const void *value, size_t length, double expires_at),
                        void *context, nh_error *error) {
    enum { PAGE = 1024 };
    nh_memory *m = nh_memory_of(store);
    nh_memory_pair *found[PAGE];
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    nh_memory_pair *from = pair_make(after ? after : "", after ? after_length : 0, NULL, 0);
    size_t shown = 0;
    nh_err failed = NH_OK;
    for (size_t count = PAGE; from && count == PAGE && shown < most && !failed; shown += count) {
        page p = {.after = from,
                  .pairs = found,
                  .most = most - shown < PAGE ? most - shown : PAGE,
                  .now = nh_wall()};
        pthread_mutex_lock(&m->lock);
        twalk_r(m->values, collect, &p);
        for (size_t i = 0; i < p.count; i++) {
            nh_memory_pair *live = found[i];
            found[i] = pair_make(live->bytes, live->key_length, live->bytes + live->key_length,
                                 live->length);
            if (found[i])
                found[i]->expires_at = live->expires_at;
            else
                failed = NH_E_INTERNAL;
        }
        pthread_mutex_unlock(&m->lock);
        count = p.count;
        for (size_t i = 0; i < count; i++) {
            nh_memory_pair *one = found[i];
            if (one && !failed)
                each(context, one->bytes, one->key_length, one->bytes + one->key_length,
                     one->length, one->expires_at);
            if (one && i + 1 == count) {
                free(from);
                from = one;
            } else {
                free(one);
            }
        }
    }
    bool memory_left = from && !failed;
    free(from);
    return memory_left ? NH_OK : nh_fail_memory(error);
}
