/* table.c — 64 hash tables with a lock each, chained, grown by doubling; two atomic counts keep the
 * bounds for all of them.
 *
 * Keys come from messages, and those from anybody: SipHash under a seed of the process keeps one
 * from choosing keys that all fall into one chain.
 *
 * Nothing runs by itself here. What has expired is dropped when it is met: by a look for its key,
 * by each insert (SWEPT buckets of the same stripe), or by nh_table_sweep when there is no room.
 * The counts are charged before anything is allocated, so they never say less than is held.
 */
#include "runtime/store/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

enum { SWEPT = 4, ROOM_FIRST = 8, BUCKET = 2 * sizeof(nh_entry *) };

/* -------------------------------------------------------------------- hash */

typedef struct sip {
    uint64_t a, b, c, d;
} sip;

static uint64_t rotate(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

static void sip_round(sip *s) {
    s->a += s->b, s->b = rotate(s->b, 13) ^ s->a, s->a = rotate(s->a, 32);
    s->c += s->d, s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d, s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b, s->b = rotate(s->b, 17) ^ s->c, s->c = rotate(s->c, 32);
}

/* SipHash-1-3. */
static uint64_t hash(const uint64_t seed[2], const char *bytes, size_t length) {
    sip s = {seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
             seed[0] ^ UINT64_C(0x6c7967656e657261), seed[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t last = (uint64_t)length << 56;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        s.d ^= word;
        sip_round(&s);
        s.a ^= word;
        bytes += 8, length -= 8;
    }
    for (size_t i = 0; i < length; i++)
        last |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    s.d ^= last;
    sip_round(&s);
    s.a ^= last;
    s.c ^= 0xFF;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}

/* ------------------------------------------------------------------ bounds */

static size_t weight(const nh_item *item) {
    switch (item->kind) {
    case NH_ITEM_VALUE:
        return sizeof *item->value + item->value->length;
    case NH_ITEM_LIST:
        return item->list.bytes + item->list.count * sizeof *item->list.head;
    case NH_ITEM_NUMBER:
        break;
    }
    return 0;
}

static size_t entry_weight(size_t key_length) {
    return sizeof(nh_entry) + key_length + BUCKET;
}

static void release(nh_table *table, size_t entries, size_t bytes) {
    atomic_fetch_sub_explicit(&table->entries, entries, memory_order_relaxed);
    atomic_fetch_sub_explicit(&table->bytes, bytes, memory_order_relaxed);
}

static bool charge(nh_table *table, size_t entries, size_t bytes) {
    size_t had = atomic_fetch_add_explicit(&table->entries, entries, memory_order_relaxed);
    size_t held = atomic_fetch_add_explicit(&table->bytes, bytes, memory_order_relaxed);
    if ((entries == 0 || had + entries <= table->most_entries) &&
        (bytes == 0 || held + bytes <= table->most_bytes))
        return true;
    release(table, entries, bytes);
    return false;
}

/* ------------------------------------------------------------------ chains */

static nh_entry **link_of(nh_stripe *stripe, const nh_entry *entry) {
    nh_entry **link = &stripe->buckets[entry->hash & (stripe->room - 1)];
    while (*link != entry)
        link = &(*link)->next;
    return link;
}

static void drop(nh_table *table, nh_stripe *stripe, nh_entry **link) {
    nh_entry *entry = *link;
    *link = entry->next;
    stripe->count--;
    release(table, 1, entry_weight(entry->key_length) + weight(&entry->item));
    nh_item_free(&entry->item);
    free(entry);
}

/* Drops what has expired in one bucket; returns when the first of the rest will. */
static uint64_t sweep_bucket(nh_table *table, nh_stripe *stripe, nh_entry **link, uint64_t now) {
    uint64_t soonest = UINT64_MAX;
    while (*link) {
        if ((*link)->expires <= now) {
            drop(table, stripe, link);
            continue;
        }
        if ((*link)->expires < soonest)
            soonest = (*link)->expires;
        link = &(*link)->next;
    }
    return soonest;
}

/* A failure leaves the longer chains. */
static void grow(nh_stripe *stripe) {
    size_t room = stripe->room ? 2 * stripe->room : ROOM_FIRST;
    nh_entry **buckets = calloc(room, sizeof(nh_entry *));
    if (!buckets)
        return;
    for (size_t i = 0; i < stripe->room; i++)
        for (nh_entry *entry = stripe->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            entry->next = buckets[entry->hash & (room - 1)];
            buckets[entry->hash & (room - 1)] = entry;
        }
    free(stripe->buckets);
    stripe->buckets = buckets;
    stripe->room = room;
}

static void sweep_some(nh_table *table, nh_place *place) {
    nh_stripe *stripe = place->stripe;
    if (stripe->soonest > place->now)
        return;
    for (size_t i = 0; i < SWEPT && i < stripe->room; i++) {
        stripe->cursor = (stripe->cursor + 1) & (stripe->room - 1);
        sweep_bucket(table, stripe, &stripe->buckets[stripe->cursor], place->now);
    }
}

static void set_expiry(nh_place *place, nh_entry *entry, uint64_t expires) {
    entry->expires = expires;
    if (expires < place->stripe->soonest)
        place->stripe->soonest = expires;
}

/* -------------------------------------------------------------- operations */

void nh_table_lock(nh_table *table, const char *key, size_t length, nh_place *place) {
    place->key = key;
    place->length = length;
    place->hash = hash(table->seed, key, length);
    place->stripe = &table->stripes[place->hash >> 58]; /* the low bits choose the bucket */
    pthread_mutex_lock(&place->stripe->lock);
    place->now = nh_monotonic();
}

void nh_table_unlock(nh_place *place) {
    pthread_mutex_unlock(&place->stripe->lock);
}

nh_entry *nh_table_find(nh_table *table, nh_place *place) {
    nh_stripe *stripe = place->stripe;
    if (stripe->count == 0)
        return NULL;
    nh_entry **link = &stripe->buckets[place->hash & (stripe->room - 1)];
    for (nh_entry *entry; (entry = *link); link = &entry->next) {
        if (entry->hash != place->hash || entry->key_length != place->length ||
            memcmp(entry->key, place->key, place->length) != 0)
            continue;
        if (entry->expires > place->now)
            return entry;
        drop(table, stripe, link);
        return NULL;
    }
    return NULL;
}

nh_err nh_table_insert(nh_table *table, nh_place *place, const nh_item *item, uint64_t expires,
                       nh_entry **out) {
    nh_stripe *stripe = place->stripe;
    size_t bytes = entry_weight(place->length) + weight(item);
    sweep_some(table, place);
    if (!charge(table, 1, bytes))
        return NH_E_TOO_LARGE;
    if (stripe->count >= stripe->room)
        grow(stripe);
    nh_entry *entry = stripe->room ? malloc(sizeof *entry + place->length) : NULL;
    if (!entry) {
        release(table, 1, bytes);
        return NH_E_INTERNAL;
    }
    entry->hash = place->hash;
    entry->item = *item;
    entry->durable = false;
    entry->key_length = (uint32_t)place->length;
    memcpy(entry->key, place->key, place->length);
    set_expiry(place, entry, expires);
    nh_entry **bucket = &stripe->buckets[place->hash & (stripe->room - 1)];
    entry->next = *bucket;
    *bucket = entry;
    stripe->count++;
    *out = entry;
    return NH_OK;
}

nh_err nh_table_replace(nh_table *table, nh_place *place, nh_entry *entry, const nh_item *item,
                        uint64_t expires) {
    size_t before = weight(&entry->item), after = weight(item);
    if (after > before && !charge(table, 0, after - before))
        return NH_E_TOO_LARGE;
    if (after < before)
        release(table, 0, before - after);
    nh_item_free(&entry->item);
    entry->item = *item;
    set_expiry(place, entry, expires);
    return NH_OK;
}

nh_err nh_table_append(nh_table *table, nh_entry *entry, nh_blob *blob) {
    nh_list *list = &entry->item.list;
    if (!charge(table, 0, sizeof *blob + blob->length))
        return NH_E_TOO_LARGE;
    list->tail->next = blob;
    list->tail = blob;
    list->count++;
    list->bytes += blob->length;
    return NH_OK;
}

nh_blob *nh_table_shift(nh_table *table, nh_place *place, nh_entry *entry) {
    nh_list *list = &entry->item.list;
    nh_blob *blob = list->head;
    list->head = blob->next;
    list->count--;
    list->bytes -= blob->length;
    release(table, 0, sizeof *blob + blob->length);
    if (list->count == 0)
        nh_table_remove(table, place, entry);
    blob->next = NULL;
    return blob;
}

void nh_table_remove(nh_table *table, nh_place *place, nh_entry *entry) {
    drop(table, place->stripe, link_of(place->stripe, entry));
}

void nh_table_sweep(nh_table *table) {
    uint64_t now = nh_monotonic();
    for (nh_stripe *stripe = table->stripes; stripe < table->stripes + NH_TABLE_STRIPES; stripe++) {
        pthread_mutex_lock(&stripe->lock);
        if (stripe->soonest <= now) {
            stripe->soonest = UINT64_MAX;
            for (size_t i = 0; i < stripe->room; i++) {
                uint64_t next = sweep_bucket(table, stripe, &stripe->buckets[i], now);
                if (next < stripe->soonest)
                    stripe->soonest = next;
            }
        }
        pthread_mutex_unlock(&stripe->lock);
    }
}

void nh_table_each(nh_table *table, bool (*each)(void *context, const nh_entry *entry),
                   void *context) {
    uint64_t now = nh_monotonic();
    bool more = true;
    for (size_t s = 0; s < NH_TABLE_STRIPES && more; s++) {
        nh_stripe *stripe = &table->stripes[s];
        pthread_mutex_lock(&stripe->lock);
        for (size_t i = 0; i < stripe->room && more; i++)
            for (nh_entry *entry = stripe->buckets[i]; entry && more; entry = entry->next)
                if (entry->expires > now)
                    more = each(context, entry);
        pthread_mutex_unlock(&stripe->lock);
    }
}

/* -------------------------------------------------------------- life cycle */

nh_err nh_table_init(nh_table *table, size_t entries, size_t bytes, nh_error *error) {
    memset(table, 0, sizeof *table);
    table->most_entries = entries;
    table->most_bytes = bytes;
    if (getrandom(table->seed, sizeof table->seed, GRND_NONBLOCK) != sizeof table->seed)
        table->seed[0] = nh_monotonic() ^ (uintptr_t)table; /* too early after boot */
    for (size_t i = 0; i < NH_TABLE_STRIPES; i++) {
        table->stripes[i].soonest = UINT64_MAX;
        if (pthread_mutex_init(&table->stripes[i].lock, NULL) != 0) {
            while (i-- > 0)
                pthread_mutex_destroy(&table->stripes[i].lock);
            return nh_fail_memory(error);
        }
    }
    return NH_OK;
}

void nh_table_term(nh_table *table) {
    for (size_t s = 0; s < NH_TABLE_STRIPES; s++) {
        nh_stripe *stripe = &table->stripes[s];
        for (size_t i = 0; i < stripe->room; i++)
            while (stripe->buckets[i])
                drop(table, stripe, &stripe->buckets[i]);
        free(stripe->buckets);
        pthread_mutex_destroy(&stripe->lock);
    }
}
