/* store_memory_rows.c — rows in memory: found by a tree (search.h), waiting in a ring for each
 * priority or in a heap by their time.
 *
 * Any thread, with the store's lock. O(log n) each. A row is counted, so that it can be shown
 * without the lock.
 */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/store/store_memory.h"

/* ------------------------------------------------------------------ entries */

void nh_memory_drop(nh_memory_row *e) {
    if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
        return;
    nh_doc_unref(e->document);
    free(e->id);
    free(e->reason);
    free(e);
}

nh_memory_row *nh_memory_share(nh_memory_row *e) {
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

static nh_memory_row *make(const nh_store_item *item) {
    size_t id = strlen(item->id) + 1, lane = item->lane ? strlen(item->lane) + 1 : 1;
    nh_memory_row *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    atomic_init(&e->refs, 1);
    e->id = calloc(1, id + lane);
    e->document = nh_doc_from_bytes(item->payload, item->length, NULL);
    if (!e->id || !e->document) {
        nh_memory_drop(e);
        return NULL;
    }
    memcpy(e->id, item->id, id);
    e->lane = e->id + id;
    if (item->lane)
        memcpy(e->lane, item->lane, lane);
    e->length = item->length;
    e->created_at = item->created_at;
    e->expires_at = item->expires_at;
    e->due = item->due;
    e->priority = item->priority;
    return e;
}

int nh_memory_by_row(const void *a, const void *b) {
    const nh_memory_row *left = a, *right = b;
    return left->row < right->row ? -1 : left->row > right->row;
}

nh_memory_row *nh_memory_find(nh_memory *m, nh_row row) {
    nh_memory_row key = {.row = row};
    nh_memory_row **node = tfind(&key, &m->rows, nh_memory_by_row);
    return node ? *node : NULL;
}

/* ------------------------------------------------------------ where they wait */

static void put_at(nh_memory *m, nh_memory_row *e, size_t place) {
    m->heap[place] = e;
    e->place = place;
}

static void sift(nh_memory *m, nh_memory_row *e, size_t place) {
    for (; place > 1 && m->heap[place / 2]->due > e->due; place /= 2)
        put_at(m, m->heap[place / 2], place);
    for (size_t child; (child = 2 * place) <= m->heap_count; place = child) {
        child += child < m->heap_count && m->heap[child + 1]->due < m->heap[child]->due;
        if (m->heap[child]->due >= e->due)
            break;
        put_at(m, m->heap[child], place);
    }
    put_at(m, e, place);
}

/* Room in the heap for one that is in the store already costs nothing: there is a place for each.
 */
static bool reserve_heap(nh_memory *m, size_t more) {
    size_t wanted = m->stats.depth + m->stats.dead + more + 1;
    if (wanted <= m->heap_room)
        return true;
    size_t room = m->heap_room ? 2 * m->heap_room : 64;
    while (room < wanted)
        room *= 2;
    nh_memory_row **heap = realloc(m->heap, room * sizeof(nh_memory_row *));
    if (!heap)
        return false;
    m->heap = heap;
    m->heap_room = room;
    return true;
}

void nh_memory_stop_waiting(nh_memory *m, nh_memory_row *e) {
    if (e->next) {
        e->next->prev = e->prev;
        e->prev->next = e->next;
        e->next = e->prev = NULL;
    } else if (e->place) {
        size_t place = e->place;
        nh_memory_row *last = m->heap[m->heap_count--];
        if (last != e)
            sift(m, last, place);
        e->place = 0;
    }
}

/* Puts it before `where` in a ring. */
void nh_memory_link_before(nh_memory_row *e, nh_memory_row *where) {
    e->next = where;
    e->prev = where->prev;
    e->prev->next = e;
    where->prev = e;
}

void nh_memory_wait_from(nh_memory *m, nh_memory_row *e, double due, double now) {
    e->due = due > now ? due : 0;
    if (e->due == 0) {
        nh_memory_link_before(e, &m->rings[e->priority]);
        return;
    }
    sift(m, e, ++m->heap_count);
    pthread_cond_signal(&m->due);
}

bool nh_memory_waiting(const nh_memory *m, int priority) {
    return m->rings[priority].next != &m->rings[priority];
}

bool nh_memory_ready(const nh_memory *m) {
    bool any = m->heap_count > 0 && m->heap[1]->due <= nh_wall();
    for (int priority = 0; priority < NH_PRIORITIES; priority++)
        any |= nh_memory_waiting(m, priority);
    return any;
}

/* Lock held: whether the caller is to be told, which it does without the lock. */
static bool announce(nh_memory *m) {
    bool tell = !m->quiet && nh_memory_ready(m) && m->notify;
    m->quiet |= tell;
    return tell;
}

void nh_memory_unlock(nh_memory *m) {
    bool tell = announce(m);
    pthread_mutex_unlock(&m->lock);
    if (tell)
        m->notify(m->context);
}

uint64_t nh_memory_cost(const nh_memory_row *e) {
    return e->length + NH_MEMORY_OVERHEAD;
}

void nh_memory_remove(nh_memory *m, nh_memory_row *e) {
    nh_memory_stop_waiting(m, e);
    tdelete(e, &m->rows, nh_memory_by_row);
    m->stats.depth--;
    m->stats.bytes -= nh_memory_cost(e);
    nh_memory_drop(e);
}

/* Takes one item in. Errors: NH_E_INTERNAL. */
nh_err nh_memory_put(nh_memory *m, nh_store_item *item, double now) {
    item->row = 0;
    item->leased = item->duplicate = false;
    if (item->key && !nh_memory_claim_key(m, item, now))
        return NH_E_INTERNAL;
    if (item->duplicate)
        return NH_OK;
    nh_memory_row *e = make(item);
    if (e)
        e->row = m->last + 1;
    if (!e || !reserve_heap(m, 1) || !tsearch(e, &m->rows, nh_memory_by_row)) {
        nh_memory_drop(e);
        return NH_E_INTERNAL;
    }
    item->row = ++m->last;
    item->leased = item->take && item->due <= now && !nh_memory_waiting(m, item->priority);
    m->stats.depth++;
    m->stats.bytes += nh_memory_cost(e);
    if (!item->leased)
        nh_memory_wait_from(m, e, item->due, now);
    return NH_OK;
}
