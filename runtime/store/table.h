/* table.h — the entries of the shared dictionary: where they are, when they end, what they weigh.
 *
 * An entry is only touched between nh_table_lock and nh_table_unlock of its place. Legal order:
 * lock, then any number of find, insert, replace, remove and charge for that key, then unlock. No
 * thread locks two places at once.
 */
#ifndef NH_STORE_TABLE_H
#define NH_STORE_TABLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/store/item.h"

enum { NH_TABLE_STRIPES = 64 };

typedef struct nh_entry {
    struct nh_entry *next;
    uint64_t hash;
    uint64_t expires; /* monotonic; UINT64_MAX = never */
    nh_item item;
    bool durable;
    uint32_t key_length;
    char key[];
} nh_entry;

typedef struct nh_stripe {
    pthread_mutex_t lock;
    nh_entry **buckets;
    size_t room, count; /* room: a power of two, or 0 */
    size_t cursor;      /* the bucket that the sweep looks at next */
    uint64_t soonest;   /* nothing here expires before */
} nh_stripe;

typedef struct nh_table {
    size_t most_entries, most_bytes;
    uint64_t seed[2];
    _Atomic size_t entries, bytes;
    nh_stripe stripes[NH_TABLE_STRIPES];
} nh_table;

/* Where a key belongs, and when that was asked; made by lock, valid until unlock. */
typedef struct nh_place {
    nh_stripe *stripe;
    const char *key;
    size_t length;
    uint64_t hash, now;
} nh_place;

nh_err nh_table_init(nh_table *table, size_t entries, size_t bytes, nh_error *error);
void nh_table_term(nh_table *table);

void nh_table_lock(nh_table *table, const char *key, size_t length, nh_place *place);
void nh_table_unlock(nh_place *place);

/* The entry of the place, or NULL; one that has expired is dropped. */
nh_entry *nh_table_find(nh_table *table, nh_place *place);

/* Of these three the item is taken on success only. NH_E_TOO_LARGE: over the entries or bytes;
 * NH_E_INTERNAL: out of memory. */
nh_err nh_table_insert(nh_table *table, nh_place *place, const nh_item *item, uint64_t expires,
                       nh_entry **out);
nh_err nh_table_replace(nh_table *table, nh_place *place, nh_entry *entry, const nh_item *item,
                        uint64_t expires);
nh_err nh_table_append(nh_table *table, nh_entry *entry, nh_blob *blob);
/* Unlinks the first item of a list and returns it; the entry goes with the last one. */
nh_blob *nh_table_shift(nh_table *table, nh_place *place, nh_entry *entry);
void nh_table_remove(nh_table *table, nh_place *place, nh_entry *entry);

/* Drops all that has expired. No place is locked by the caller. Cost: a lock a stripe, and a walk
 * of those in which something may have expired. */
void nh_table_sweep(nh_table *table);
/* Calls for every living entry, under its lock, until `each` returns false. */
void nh_table_each(nh_table *table, bool (*each)(void *context, const nh_entry *entry),
                   void *context);

#endif
