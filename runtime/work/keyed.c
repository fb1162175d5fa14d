/* keyed.c — sixteen shards, each a mutex, a hash of fixed size and a list by last use.
 *
 * Any thread. enter → leave, never two at once by one thread. Keys come from messages, so their
 * number is bounded: a full shard gives up the idlest of its oldest entries, and looks at no more
 * than SCAN of them unless all of these are pinned. The hash is seeded by the table's own address
 * and the clock. An entry is one allocation; entering costs a hash of the key, an uncontended mutex
 * and some pointer moves.
 */
#include "runtime/work/keyed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/hash.h"

enum {
    SHARDS_MOST = 16,
    SHARD_LEAST = 64, /* keys; a small table has fewer shards, so that its bound is exact enough */
    SCAN = 8,
    TAIL = 17, /* '#' and the hash of a key that was cut */
};

typedef struct shard {
    pthread_mutex_t lock;
    nh_entry **buckets;
    nh_entry *newest, *oldest;
    size_t count, most;
    uint64_t evicted, refused;
} shard;

struct nh_keyed {
    const nh_keyed_kind *kind;
    void *user;
    uint64_t seed;
    size_t shard_count, mask; /* mask: of a shard's buckets */
    shard shards[SHARDS_MOST];
};

static shard *shard_of(nh_keyed *table, uint64_t hash) {
    return &table->shards[(hash >> 48) % table->shard_count];
}

static nh_entry **bucket_of(const nh_keyed *table, const shard *home, uint64_t hash) {
    return &home->buckets[hash & table->mask];
}

static char *key_of(const nh_keyed *table, nh_entry *entry) {
    return (char *)entry + table->kind->size;
}

const char *nh_keyed_key(const nh_keyed *table, const nh_entry *entry) {
    return (const char *)entry + table->kind->size;
}

nh_keyed *nh_keyed_create(const nh_keyed_kind *kind, void *user, size_t keys) {
    nh_keyed *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    if (keys == 0)
        keys = NH_KEYED_KEYS;
    table->kind = kind;
    table->user = user;
    table->seed = nh_hash_mix((uint64_t)(uintptr_t)table ^ nh_monotonic());
    table->shard_count = keys / SHARD_LEAST;
    table->shard_count = table->shard_count > SHARDS_MOST ? SHARDS_MOST : table->shard_count;
    table->shard_count += table->shard_count == 0;
    size_t most = (keys + table->shard_count - 1) / table->shard_count, buckets = 16;
    while (buckets < most)
        buckets *= 2;
    table->mask = buckets - 1;
    for (size_t i = 0; i < table->shard_count; i++) {
        shard *each = &table->shards[i];
        each->most = most;
        each->buckets = calloc(buckets, sizeof(nh_entry *));
        if (!each->buckets || pthread_mutex_init(&each->lock, NULL) != 0) {
            free(each->buckets);
            table->shard_count = i;
            nh_keyed_destroy(table);
            return NULL;
        }
    }
    return table;
}

void nh_keyed_destroy(nh_keyed *table) {
    if (!table)
        return;
    for (size_t i = 0; i < table->shard_count; i++) {
        shard *each = &table->shards[i];
        while (each->newest) {
            nh_entry *gone = each->newest;
            each->newest = gone->older;
            free(gone);
        }
        free(each->buckets);
        pthread_mutex_destroy(&each->lock);
    }
    free(table);
}

/* ------------------------------------------------------------------- lists */

static void put_first(shard *home, nh_entry *entry) {
    entry->newer = NULL;
    entry->older = home->newest;
    *(home->newest ? &home->newest->newer : &home->oldest) = entry;
    home->newest = entry;
}

static void take_out(shard *home, nh_entry *entry) {
    *(entry->newer ? &entry->newer->older : &home->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &home->oldest) = entry->newer;
}

/* Makes room for one more; false when every entry is pinned. */
static bool evict(nh_keyed *table, shard *home, uint64_t now) {
    nh_entry *victim = NULL;
    size_t scanned = 0;
    for (nh_entry *each = home->oldest; each && !(victim && scanned >= SCAN); each = each->newer) {
        nh_entry_worth worth = table->kind->worth(each, now);
        scanned++;
        if (worth == NH_ENTRY_SPARE && !victim)
            victim = each;
        if (worth == NH_ENTRY_IDLE) {
            victim = each;
            break;
        }
    }
    if (!victim)
        return false;
    nh_entry **at = bucket_of(table, home, victim->hash);
    while (*at != victim)
        at = &(*at)->next;
    *at = victim->next;
    take_out(home, victim);
    if (table->kind->gone)
        table->kind->gone(victim, table->user);
    free(victim);
    home->count--;
    home->evicted++;
    return true;
}

static nh_entry *add(nh_keyed *table, shard *home, const char *key, size_t length, uint64_t hash,
                     uint64_t now) {
    nh_entry *entry = NULL;
    if (home->count < home->most || evict(table, home, now))
        entry = calloc(1, table->kind->size + length + 1);
    if (!entry) {
        home->refused++;
        return NULL;
    }
    nh_entry **bucket = bucket_of(table, home, hash);
    entry->hash = hash;
    entry->length = (uint32_t)length;
    memcpy(key_of(table, entry), key, length);
    entry->next = *bucket;
    *bucket = entry;
    put_first(home, entry);
    home->count++;
    if (table->kind->born)
        table->kind->born(entry, table->user);
    return entry;
}

/* ------------------------------------------------------------------- calls */

nh_entry *nh_keyed_enter(nh_keyed *table, const char *key, size_t length, bool make, uint64_t now) {
    char cut[NH_KEYED_KEY_MAX];
    uint64_t hash = nh_hash(table->seed, key, length);
    if (length > sizeof cut) { /* two long keys with one beginning stay two */
        static const char digits[] = "0123456789abcdef";
        length = sizeof cut;
        memcpy(cut, key, length - TAIL);
        cut[length - TAIL] = '#';
        for (size_t i = 1; i < TAIL; i++)
            cut[length - i] = digits[hash >> 4 * (i - 1) & 15];
        key = cut;
    }
    shard *home = shard_of(table, hash);
    pthread_mutex_lock(&home->lock);
    nh_entry *entry = *bucket_of(table, home, hash);
    while (entry && !(entry->hash == hash && entry->length == length &&
                      memcmp(key_of(table, entry), key, length) == 0))
        entry = entry->next;
    if (entry && home->newest != entry) {
        take_out(home, entry);
        put_first(home, entry);
    } else if (!entry && make) {
        entry = add(table, home, key, length, hash, now);
    }
    if (!entry)
        pthread_mutex_unlock(&home->lock);
    return entry;
}

nh_entry *nh_keyed_find(nh_keyed *table, uint64_t hash) {
    shard *home = shard_of(table, hash);
    pthread_mutex_lock(&home->lock);
    nh_entry *entry = *bucket_of(table, home, hash);
    while (entry && entry->hash != hash)
        entry = entry->next;
    if (!entry)
        pthread_mutex_unlock(&home->lock);
    return entry;
}

void nh_keyed_reenter(nh_keyed *table, nh_entry *entry) {
    pthread_mutex_lock(&shard_of(table, entry->hash)->lock);
}

void nh_keyed_leave(nh_keyed *table, nh_entry *entry) {
    pthread_mutex_unlock(&shard_of(table, entry->hash)->lock);
}

void nh_keyed_each(nh_keyed *table, bool (*visit)(nh_entry *entry, void *user), void *user) {
    bool on = true;
    for (size_t i = 0; i < table->shard_count && on; i++) {
        shard *each = &table->shards[i];
        pthread_mutex_lock(&each->lock);
        for (nh_entry *entry = each->newest; entry && on; entry = entry->older)
            on = visit(entry, user);
        pthread_mutex_unlock(&each->lock);
    }
}

void nh_keyed_read(nh_keyed *table, nh_keyed_figures *figures) {
    *figures = (nh_keyed_figures){0};
    for (size_t i = 0; i < table->shard_count; i++) {
        shard *each = &table->shards[i];
        pthread_mutex_lock(&each->lock);
        figures->keys += each->count;
        figures->most += each->most;
        figures->evicted += each->evicted;
        figures->refused += each->refused;
        pthread_mutex_unlock(&each->lock);
    }
}
