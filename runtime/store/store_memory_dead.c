/* store_memory_dead.c — dead letters in memory: an array by number, bounded, the oldest goes first.
 *
 * Any thread. A letter is shown without the lock, by a reference.
 */
#include <stdlib.h>
#include <string.h>

#include <search.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/store/store_memory.h"

static void remove_letter(nh_memory *m, size_t at) {
    nh_memory_row *e = m->letters[at];
    m->stats.dead--;
    m->stats.bytes -= nh_memory_cost(e);
    memmove(m->letters + at, m->letters + at + 1, (m->stats.dead - at) * sizeof(nh_memory_row *));
    nh_memory_drop(e);
}

nh_err nh_memory_dead(nh_store *store, nh_row row, const nh_store_death *death) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return NH_E_CLOSED;
    size_t reason = nh_store_text_length(death->reason);
    size_t answer = nh_store_text_length(death->answer);
    char *text = calloc(1, reason + answer + 2);
    if (!text)
        return NH_E_INTERNAL;
    if (reason)
        memcpy(text, death->reason, reason);
    if (answer)
        memcpy(text + reason + 1, death->answer, answer);
    pthread_mutex_lock(&m->lock);
    nh_memory_row *e = nh_memory_find(m, row);
    if (e) {
        if (m->stats.dead == m->dead_most) {
            remove_letter(m, 0);
            m->stats.dead_lost++;
        }
        nh_memory_stop_waiting(m, e);
        tdelete(e, &m->rows, nh_memory_by_row);
        m->stats.depth--;
        e->number = ++m->number;
        e->code = death->code;
        e->died_at = nh_wall();
        if (death->attempts > e->attempts)
            e->attempts = death->attempts;
        e->reason = text;
        e->answer = text + reason + 1;
        m->letters[m->stats.dead++] = e;
        text = NULL;
    }
    nh_memory_unlock(m);
    free(text);
    return NH_OK;
}

/* The first letter with this number or a later one. */
static size_t letter_from(const nh_memory *m, uint64_t number) {
    size_t low = 0, high = m->stats.dead;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->letters[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void show(const nh_memory_row *e, bool whole,
                 void (*each)(void *context, const nh_store_dead *dead), void *context) {
    nh_store_dead letter = {.number = e->number,
                            .id = e->id,
                            .lane = e->lane,
                            .code = e->code,
                            .reason = e->reason,
                            .answer = e->answer,
                            .created_at = e->created_at,
                            .died_at = e->died_at,
                            .expires_at = e->expires_at,
                            .attempts = e->attempts,
                            .priority = e->priority,
                            .length = e->length,
                            .document = whole ? e->document : NULL};
    each(context, &letter);
}

/* The letter at or after a number, with a reference; NULL when there is none. */
static nh_memory_row *letter_at(nh_memory *m, uint64_t number) {
    pthread_mutex_lock(&m->lock);
    size_t at = letter_from(m, number);
    nh_memory_row *e = at < m->stats.dead ? nh_memory_share(m->letters[at]) : NULL;
    pthread_mutex_unlock(&m->lock);
    return e;
}

static nh_err no_letter(uint64_t number, nh_error *error) {
    return nh_fail(error, NH_E_INVALID, "there is no dead letter %llu", (unsigned long long)number);
}

nh_err nh_memory_dead_list(nh_store *store, uint64_t after, size_t most,
                           void (*each)(void *context, const nh_store_dead *dead), void *context,
                           nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    nh_memory_row *e;
    for (; most > 0 && after < UINT64_MAX && (e = letter_at(m, after + 1)); most--) {
        after = e->number;
        show(e, false, each, context);
        nh_memory_drop(e);
    }
    return NH_OK;
}

nh_err nh_memory_dead_get(nh_store *store, uint64_t number,
                          void (*each)(void *context, const nh_store_dead *dead), void *context,
                          nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    nh_memory_row *e = letter_at(m, number);
    bool found = e && e->number == number;
    if (found)
        show(e, true, each, context);
    nh_memory_drop(e);
    return found ? NH_OK : no_letter(number, error);
}

/* Lock held: puts a new row in the letter's place; somebody may be looking at the letter. */
static bool revive(nh_memory *m, size_t at) {
    const nh_memory_row *letter = m->letters[at];
    nh_store_item item = {.id = letter->id,
                          .lane = letter->lane,
                          .created_at = letter->created_at,
                          .expires_at = letter->expires_at,
                          .priority = letter->priority};
    item.payload = nh_doc_bytes(letter->document, &item.length);
    if (nh_memory_put(m, &item, nh_wall()) != NH_OK)
        return false;
    remove_letter(m, at);
    return true;
}

static nh_err change_letters(nh_store *store, uint64_t number, uint64_t *count, bool retry,
                             nh_error *error) {
    nh_memory *m = nh_memory_of(store);
    uint64_t changed = 0;
    bool memory_left = true;
    if (nh_memory_forked(m))
        return nh_memory_refuse_child(error);
    pthread_mutex_lock(&m->lock);
    size_t at = letter_from(m, number);
    while (at < m->stats.dead && memory_left && (number == 0 || m->letters[at]->number == number)) {
        if (retry)
            memory_left = revive(m, at);
        else
            remove_letter(m, at);
        changed += memory_left;
    }
    nh_memory_unlock(m);
    if (count)
        *count = changed;
    if (!memory_left)
        return nh_fail_memory(error);
    return number == 0 || changed ? NH_OK : no_letter(number, error);
}

nh_err nh_memory_dead_retry(nh_store *store, uint64_t number, uint64_t *count, nh_error *error) {
    return change_letters(store, number, count, true, error);
}

nh_err nh_memory_dead_discard(nh_store *store, uint64_t number, uint64_t *count, nh_error *error) {
    return change_letters(store, number, count, false, error);
}
