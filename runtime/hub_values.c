/* hub_values.c — the durable values of scripts: from the dictionary into the journal, and back when
 * a hub is opened.
 *
 * A value is written soon after it was set, within some 10 ms; a script does not wait for that.
 * Threads: the workers' (a change), the opener's.
 */
#include "runtime/hub_parts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"

enum { PAGE = 1000 };

/* The engine's callback, with the key locked: only hands it over. */
static void changed(void *context, const char *key, size_t length, const void *value,
                    size_t value_length, double expires_at) {
    nh_hub_journal *journal = context;
    if (journal->store->ops->set(journal->store, key, length, value, value_length, expires_at,
                                 NULL) != NH_OK)
        atomic_fetch_add_explicit(&journal->values_lost, 1, memory_order_relaxed);
}

/* Gives one page of values to the engine, and remembers where the next one begins. */
typedef struct page {
    nh_hub *hub;
    size_t count, length; /* of what came; of the last key */
    char last[NH_STORE_KEY_MAX];
    nh_error fault; /* the first that could not be given back */
} page;

static void restore(void *context, const void *key, size_t length, const void *value,
                    size_t value_length, double expires_at) {
    page *p = context;
    nh_error error;
    p->count++;
    p->length = length;
    memcpy(p->last, key, length);
    if (p->hub->work.ops->restore(p->hub->work.engine, key, length, value, value_length, expires_at,
                                  &error) != NH_OK &&
        !p->fault.code)
        p->fault = error;
}

nh_err nh_hub_values_open(nh_hub *hub, nh_error *error) {
    nh_hub_journal *journal = &hub->journal;
    if (!journal->store || !hub->work.ops->keep)
        return NH_OK;
    page p = {.hub = hub};
    do {
        p.count = 0;
        nh_err failed = journal->store->ops->values(journal->store, p.length ? p.last : NULL,
                                                    p.length, PAGE, restore, &p, error);
        if (failed)
            return failed;
    } while (p.count == PAGE);
    hub->work.ops->keep(hub->work.engine, changed, journal);
    if (p.fault.code)
        return nh_fail(error, p.fault.code,
                       "what scripts stored in the journal could not be restored: %.900s",
                       p.fault.message);
    return NH_OK;
}
