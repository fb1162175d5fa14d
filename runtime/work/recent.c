/* recent.c — a hash table of keys, and a list of them in the order of coming, which is the order of
 * ending, since all live equally long.
 *
 * Any thread; one mutex. Only messages with a dedupe_key come here. What is over its time goes when
 * something is added; when the table is full the oldest goes before its time. A handle keeps its
 * message and receipt in memory, so only the newest HANDLES keys keep theirs: from `holder` on.
 * Cost: O(1) each.
 */
#include "runtime/work/recent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/hash.h"

enum { HANDLES = 4096, BUCKETS_LEAST = 64 };

typedef struct entry {
    struct entry *next;          /* in its bucket */
    struct entry *newer, *older; /* by coming */
    uint64_t hash, until;        /* monotonic ns */
    nh_handle *handle;           /* with a reference; NULL: not kept */
    size_t length;
    char id[NH_ID_MAX + 1];
    char key[];
} entry;

struct nh_recent {
    size_t most;
    double seconds;
    pthread_mutex_t lock;
    entry **buckets;
    size_t size, count, held; /* size: a power of two */
    entry *oldest, *newest;
    entry *holder; /* the oldest that has its handle */
};

static uint64_t hash_of(const nh_recent *recent, const char *key, size_t length) {
    return nh_hash((uint64_t)(uintptr_t)recent, key, length);
}

static entry **place_of(nh_recent *recent, const char *key, size_t length, uint64_t hash) {
    entry **place = &recent->buckets[hash & (recent->size - 1)];
    while (*place && ((*place)->hash != hash || (*place)->length != length ||
                      memcmp((*place)->key, key, length) != 0))
        place = &(*place)->next;
    return place;
}

static void let_go(nh_recent *recent, entry *e) {
    if (!e->handle)
        return;
    if (recent->holder == e)
        recent->holder = e->newer;
    nh_handle_unref(e->handle);
    e->handle = NULL;
    recent->held--;
}

static void drop(nh_recent *recent, entry **place) {
    entry *e = *place;
    if (!e)
        return;
    *place = e->next;
    let_go(recent, e);
    *(e->older ? &e->older->newer : &recent->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &recent->newest) = e->older;
    recent->count--;
    free(e);
}

static void drop_oldest(nh_recent *recent) {
    entry *e = recent->oldest;
    drop(recent, place_of(recent, e->key, e->length, e->hash));
}

/* Twice as many buckets when there is a key for each; without memory the chains grow instead. */
static void grow(nh_recent *recent) {
    if (recent->count < recent->size)
        return;
    entry **buckets = calloc(recent->size * 2, sizeof *buckets);
    if (!buckets)
        return;
    free(recent->buckets);
    recent->buckets = buckets;
    recent->size *= 2;
    for (entry *e = recent->oldest; e; e = e->newer) {
        entry **bucket = &buckets[e->hash & (recent->size - 1)];
        e->next = *bucket;
        *bucket = e;
    }
}

nh_recent *nh_recent_create(size_t keys, double seconds) {
    nh_recent *recent = calloc(1, sizeof *recent);
    if (!recent)
        return NULL;
    recent->most = keys;
    recent->seconds = seconds;
    recent->size = BUCKETS_LEAST;
    recent->buckets = calloc(recent->size, sizeof *recent->buckets);
    if (recent->buckets && pthread_mutex_init(&recent->lock, NULL) == 0)
        return recent;
    free(recent->buckets);
    free(recent);
    return NULL;
}

void nh_recent_destroy(nh_recent *recent) {
    if (!recent)
        return;
    while (recent->oldest)
        drop_oldest(recent);
    pthread_mutex_destroy(&recent->lock);
    free(recent->buckets);
    free(recent);
}

void nh_recent_lock(nh_recent *recent) {
    pthread_mutex_lock(&recent->lock);
}

void nh_recent_unlock(nh_recent *recent) {
    pthread_mutex_unlock(&recent->lock);
}

bool nh_recent_find(nh_recent *recent, const char *key, size_t length, nh_handle **first,
                    char id[NH_ID_MAX + 1]) {
    entry *e = *place_of(recent, key, length, hash_of(recent, key, length));
    if (!e || e->until <= nh_monotonic())
        return false;
    *first = e->handle ? nh_handle_ref(e->handle) : NULL;
    memcpy(id, e->id, sizeof e->id);
    return true;
}

void nh_recent_add(nh_recent *recent, const char *key, size_t length, nh_handle *handle) {
    uint64_t now = nh_monotonic(), hash = hash_of(recent, key, length);
    entry **place = place_of(recent, key, length, hash);
    if (*place)
        drop(recent, place);
    while (recent->oldest && (recent->oldest->until <= now || recent->count >= recent->most))
        drop_oldest(recent);
    grow(recent);
    entry *e = calloc(1, sizeof *e + length);
    if (!e)
        return;
    e->hash = hash;
    e->until = nh_after(now, recent->seconds);
    e->length = length;
    e->handle = nh_handle_ref(handle);
    snprintf(e->id, sizeof e->id, "%s", nh_handle_id(handle));
    memcpy(e->key, key, length);
    place = place_of(recent, key, length, hash);
    e->next = *place;
    *place = e;
    e->older = recent->newest;
    *(recent->newest ? &recent->newest->newer : &recent->oldest) = e;
    recent->newest = e;
    if (!recent->holder)
        recent->holder = e;
    recent->count++;
    if (++recent->held > HANDLES)
        let_go(recent, recent->holder);
}

void nh_recent_remove(nh_recent *recent, const char *key, size_t length) {
    entry **place = place_of(recent, key, length, hash_of(recent, key, length));
    if (*place)
        drop(recent, place);
}

void nh_recent_clear(nh_recent *recent) {
    pthread_mutex_lock(&recent->lock);
    while (recent->oldest)
        drop_oldest(recent);
    pthread_mutex_unlock(&recent->lock);
}
