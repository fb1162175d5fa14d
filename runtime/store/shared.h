/* shared.h — the dictionary that all workers of a hub share: what a script wants to remember from
 * message to message, whichever worker has it, and across reloads of the scripts.
 *
 * A value is a copy of a document, a number, or a list of documents. Each operation is atomic. All
 * is bounded and nothing is thrown out to make room: what does not fit is an error, because a
 * script that finds a key gone that it has set would send twice. What has a time to live ends by
 * itself.
 *
 * Keys are 1 to limits.key bytes of any kind. Thread of all functions but create and destroy: any.
 * Blocks: never for long (a short lock that one key in 64 shares).
 */
#ifndef NH_STORE_SHARED_H
#define NH_STORE_SHARED_H

#include "runtime/notifyhub.h"

typedef struct nh_shared nh_shared;

/* 0 stands for the default. */
typedef struct nh_shared_limits {
    size_t entries; /* 100,000 */
    size_t bytes;   /* 64 MiB, of all keys and values and what it takes to keep them */
    size_t value;   /* 64 KiB, of one value or one item of a list, packed */
    size_t key;     /* 256 bytes */
    size_t list;    /* 10,000 items */
} nh_shared_limits;

/* Who keeps the durable keys. */
typedef struct nh_shared_journal {
    /* A durable key has a new value (packed), or NULL: it is durable no more. `expires_at` is
     * seconds since the epoch, 0 for never; an expiry itself is not told. All borrowed. Called
     * while the key is locked, so that the changes of a key come in their order: it must only copy
     * and queue, and must not call the dictionary. */
    void (*changed)(void *context, const char *key, size_t length, const void *value,
                    size_t value_length, double expires_at);
    void *context;
} nh_shared_journal;

/* How a key lives on after a write. */
typedef struct nh_shared_life {
    double ttl;   /* seconds, 0 = for ever */
    bool durable; /* NH_E_CONFIG without a journal */
} nh_shared_life;

typedef struct nh_number {
    bool integral;
    union {
        int64_t integer;
        double real;
    };
} nh_number;

typedef struct nh_shared_figures {
    size_t entries, bytes;
} nh_shared_figures;

/* `limits` and `journal` may be NULL. Errors: NH_E_INTERNAL. */
nh_shared *nh_shared_create(const nh_shared_limits *limits, const nh_shared_journal *journal,
                            nh_error *error);
/* Has the journal told from now on. Thread: nobody else uses it yet. */
void nh_shared_keep(nh_shared *shared, const nh_shared_journal *journal);
void nh_shared_destroy(nh_shared *shared); /* nobody uses it any more; NULL is allowed */

/* Errors of all that follow: NH_E_INVALID for a key or value that cannot be, or for a key that
 * holds a value of another kind; of those that write also NH_E_TOO_LARGE (a limit; the dictionary
 * is full), NH_E_CONFIG, NH_E_INTERNAL. After an error nothing has changed. */

/* The value, owned by the caller; NULL when the key is not there. */
nh_err nh_shared_get(nh_shared *shared, const char *key, size_t length, nh_doc **value,
                     nh_error *error);
/* Replaces whatever the key held, and its life. */
nh_err nh_shared_set(nh_shared *shared, const char *key, size_t length, const nh_doc *value,
                     nh_shared_life life, nh_error *error);
/* Sets only a key that is not there. */
nh_err nh_shared_add(nh_shared *shared, const char *key, size_t length, const nh_doc *value,
                     nh_shared_life life, bool *added, nh_error *error);
nh_err nh_shared_delete(nh_shared *shared, const char *key, size_t length, bool *deleted,
                        nh_error *error);
/* Adds to a number; a key that is not there is 0 and gets `life`, one that is keeps its own.
 * Integers stay integers; more than they hold is NH_E_INVALID. */
nh_err nh_shared_incr(nh_shared *shared, const char *key, size_t length, nh_number by,
                      nh_shared_life life, nh_number *result, nh_error *error);
/* Sets the key to `value` (NULL: deletes it) if it holds just `expected` (NULL: is not there).
 * Numbers are compared by value, tables by content. */
nh_err nh_shared_cas(nh_shared *shared, const char *key, size_t length, const nh_doc *expected,
                     const nh_doc *value, nh_shared_life life, bool *swapped, nh_error *error);

/* Lists. Push puts an item at the end and tells how many there are; it makes the list if need be,
 * which then lives for `ttl` seconds. Pop takes the first, NULL when there is none; with its last
 * item a list goes. A list cannot be durable. */
nh_err nh_shared_push(nh_shared *shared, const char *key, size_t length, const nh_doc *value,
                      double ttl, size_t *count, nh_error *error);
nh_err nh_shared_pop(nh_shared *shared, const char *key, size_t length, nh_doc **value,
                     nh_error *error);
/* All items as an array, oldest first; an empty one when there is no list. */
nh_err nh_shared_pop_all(nh_shared *shared, const char *key, size_t length, nh_doc **list,
                         nh_error *error);
nh_err nh_shared_length(nh_shared *shared, const char *key, size_t length, size_t *count,
                        nh_error *error);

/* Seconds that are left: INFINITY for ever, below 0 when the key is not there. */
nh_err nh_shared_ttl(nh_shared *shared, const char *key, size_t length, double *seconds,
                     nh_error *error);

/* Up to `most` keys that begin with `prefix`, as an array in their order of bytes. Walks the whole
 * dictionary: for tests and tools. Those that begin with a zero byte are the runtime's own (turns
 * of choices) and are listed only when the prefix asks for them. Which ones are left out when there
 * are more is not said. */
nh_doc *nh_shared_keys(nh_shared *shared, const char *prefix, size_t length, size_t most,
                       nh_error *error);
void nh_shared_read(nh_shared *shared, nh_shared_figures *figures);

/* Puts back what the journal kept, without telling it. What has expired is left out. */
nh_err nh_shared_load(nh_shared *shared, const char *key, size_t length, const void *value,
                      size_t value_length, double expires_at, nh_error *error);

#endif
