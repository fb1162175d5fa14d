/* keyed.h — a bounded table of entries by text, shared by all workers: what the limiter, the
 * breaker, the lanes and the health figures keep for each account, host or target.
 */
#ifndef NH_WORK_KEYED_H
#define NH_WORK_KEYED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NH_KEYED_KEYS    ((size_t)10000) /* default bound of a table */
#define NH_KEYED_KEY_MAX ((size_t)256)   /* a longer key is cut and gets its hash as a tail */

typedef struct nh_keyed nh_keyed;

/* The first member of a user's entry. */
typedef struct nh_entry nh_entry;
struct nh_entry {
    nh_entry *next;          /* in its bucket */
    nh_entry *newer, *older; /* in its shard, by last use */
    uint64_t hash;
    uint32_t length; /* of the key, which stands behind the user's structure */
};

/* What is lost when an entry goes to make room for a new one. */
typedef enum nh_entry_worth {
    NH_ENTRY_IDLE,   /* nothing */
    NH_ENTRY_SPARE,  /* what was learned; goes when nothing idle is among the oldest */
    NH_ENTRY_PINNED, /* somebody holds it: it never goes */
} nh_entry_worth;

typedef struct nh_keyed_kind {
    size_t size; /* of the user's structure; a new entry is zeros behind its nh_entry */
    /* Under the lock; NULL allowed. `gone` is of entries that make room, not of the table's end. */
    void (*born)(nh_entry *entry, void *user);
    void (*gone)(nh_entry *entry, void *user);
    nh_entry_worth (*worth)(const nh_entry *entry, uint64_t now);
} nh_keyed_kind;

typedef struct nh_keyed_figures {
    size_t keys, most; /* entries now, and the bound */
    uint64_t evicted;  /* entries that made room */
    uint64_t refused;  /* keys that found no room, because all entries were pinned */
} nh_keyed_figures;

/* Holds at most `keys` (0: NH_KEYED_KEYS) entries. `kind` must outlive it. NULL when out of memory.
 */
nh_keyed *nh_keyed_create(const nh_keyed_kind *kind, void *user, size_t keys);
void nh_keyed_destroy(nh_keyed *table); /* NULL is allowed */

/* Thread: any, for all of these. Blocks: never for long; the lock is one shard's. */

/* The entry of a key, with its shard locked until nh_keyed_leave. `make`: a new one when there is
 * none. NULL, with nothing locked, when there is none or no room for it. */
nh_entry *nh_keyed_enter(nh_keyed *table, const char *key, size_t length, bool make, uint64_t now);
/* The same by an entry's hash, for who keeps no key; it never makes one. */
nh_entry *nh_keyed_find(nh_keyed *table, uint64_t hash);
/* The same for an entry that is pinned. */
void nh_keyed_reenter(nh_keyed *table, nh_entry *entry);
void nh_keyed_leave(nh_keyed *table, nh_entry *entry);
const char *nh_keyed_key(const nh_keyed *table, const nh_entry *entry); /* NUL-terminated */

/* Visits all, a locked shard at a time, the most recently used of a shard first; `visit` may not
 * enter and ends the walk by returning false. */
void nh_keyed_each(nh_keyed *table, bool (*visit)(nh_entry *entry, void *user), void *user);
void nh_keyed_read(nh_keyed *table, nh_keyed_figures *figures);

#endif
