/* store_memory.h — the inside of the store in memory, for its own files. */
#ifndef NH_STORE_STORE_MEMORY_H
#define NH_STORE_STORE_MEMORY_H

#include <pthread.h>

#include "runtime/store/store.h"

enum { NH_MEMORY_OVERHEAD = 200 }; /* bytes that a row, a key or a value costs beside its own */

/* A message: a row, later perhaps a dead letter. Counted, so that it can be shown without the lock.
 */
typedef struct nh_memory_row nh_memory_row;
struct nh_memory_row {
    atomic_uint refs;
    nh_row row;
    nh_doc *document;
    size_t length;
    char *id, *lane; /* one allocation */
    double created_at, expires_at;
    uint8_t priority;

    /* Under the lock. */
    double due;
    uint32_t attempts;
    nh_memory_row *next, *prev; /* in a ring while it waits for nothing but a lease */
    size_t place;               /* in the heap, 0 = not there */

    /* Of a dead letter. */
    uint64_t number;
    nh_err code;
    double died_at;
    char *reason, *answer; /* one allocation */
};

/* A key and what it holds: a value, or with a dedupe key the id of its message. */
typedef struct nh_memory_pair {
    size_t key_length, length;
    double expires_at;
    struct nh_memory_pair *next; /* dedupe keys, in the order of coming */
    char id[NH_ID_MAX + 1];
    char bytes[];
} nh_memory_pair;

typedef struct nh_memory {
    nh_store store; /* first */
    unsigned fork_generation;
    void (*notify)(void *context);
    void *context;
    uint64_t dead_most;
    pthread_t timer;

    pthread_mutex_t lock;
    pthread_cond_t due;
    void *rows, *keys, *values;         /* trees */
    nh_memory_row rings[NH_PRIORITIES]; /* heads; only next and prev are used */
    nh_memory_row **heap;               /* heap[1…count], the earliest first */
    size_t heap_count, heap_room;
    nh_memory_row **letters; /* by number; room for dead_most */
    nh_memory_pair *first_key, **last_key;
    nh_row last;
    uint64_t number;
    nh_store_stats stats;
    bool quiet; /* the caller knows that rows may be leased */
    bool stopping;
} nh_memory;

static inline nh_memory *nh_memory_of(nh_store *store) {
    return (nh_memory *)store;
}

bool nh_memory_forked(const nh_memory *m);
nh_err nh_memory_refuse_child(nh_error *error);

/* Rows (store_memory_rows.c). The lock is held, but for the first two. */
void nh_memory_drop(nh_memory_row *e);
nh_memory_row *nh_memory_share(nh_memory_row *e);
uint64_t nh_memory_cost(const nh_memory_row *e);
nh_memory_row *nh_memory_find(nh_memory *m, nh_row row);
int nh_memory_by_row(const void *a, const void *b);
/* Takes one item in. Errors: NH_E_INTERNAL. */
nh_err nh_memory_put(nh_memory *m, nh_store_item *item, double now);
void nh_memory_remove(nh_memory *m, nh_memory_row *e);
void nh_memory_stop_waiting(nh_memory *m, nh_memory_row *e);
void nh_memory_wait_from(nh_memory *m, nh_memory_row *e, double due, double now);
void nh_memory_link_before(nh_memory_row *e, nh_memory_row *where);
bool nh_memory_waiting(const nh_memory *m, int priority);
bool nh_memory_ready(const nh_memory *m);
/* Gives the lock back, and tells the caller when rows may be leased. */
void nh_memory_unlock(nh_memory *m);

/* Dead letters (store_memory_dead.c): functions of the vtable. */
nh_err nh_memory_dead(nh_store *store, nh_row row, const nh_store_death *death);
nh_err nh_memory_dead_list(nh_store *store, uint64_t after, size_t most,
                           void (*each)(void *context, const nh_store_dead *dead), void *context,
                           nh_error *error);
nh_err nh_memory_dead_get(nh_store *store, uint64_t number,
                          void (*each)(void *context, const nh_store_dead *dead), void *context,
                          nh_error *error);
nh_err nh_memory_dead_retry(nh_store *store, uint64_t number, uint64_t *count, nh_error *error);
nh_err nh_memory_dead_discard(nh_store *store, uint64_t number, uint64_t *count, nh_error *error);

/* Keys (store_memory_value.c). The lock is held for the first three. */
nh_memory_pair *nh_memory_find_pair(void **tree, const void *key, size_t length);
void nh_memory_forget_keys(nh_memory *m, double now);
/* Finds out whether an item is the second with its key; else it is the first from now on. False
 * when out of memory. */
bool nh_memory_claim_key(nh_memory *m, nh_store_item *item, double now);
nh_err nh_memory_dedupe(nh_store *store, const void *key, size_t length, char id[NH_ID_MAX + 1],
                        nh_error *error);
nh_err nh_memory_set(nh_store *store, const void *key, size_t key_length, const void *value,
                     size_t length, double expires_at, nh_error *error);
nh_err nh_memory_values(nh_store *store, const void *after, size_t after_length, size_t most,
                        void (*each)(void *context, const void *key, size_t key_length,
                                     const void *value, size_t length, double expires_at),
                        void *context, nh_error *error);

#endif
