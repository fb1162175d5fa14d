/* store_memory.c — the store for a hub without a journal: the same life of a row, in memory.
 *
 * Any thread; one lock, never held while something is called back, and a thread that tells when a
 * delayed row comes due. What is called back is called in the caller's thread. Rows, dedupe keys
 * and values are found in trees (search.h), rows wait in a ring for each priority or in a heap by
 * their time. Everything is O(log n) but a page of values, which looks at all of them.
 */
#include <errno.h>
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/fork.h"
#include "runtime/store/store.h"

enum { ROW_OVERHEAD = 200, DEDUPE_DROPPED = 4 };

static const unsigned weights[NH_PRIORITIES] = {
    [NH_LOW] = 1, [NH_NORMAL] = 2, [NH_HIGH] = 4, [NH_URGENT] = 8};

/* A message: a row, later perhaps a dead letter. Counted, so that it can be shown without the lock.
 */
typedef struct record record;
struct record {
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
    record *next, *prev; /* in a ring while it waits for nothing but a lease */
    size_t place;        /* in the heap, 0 = not there */

    /* Of a dead letter. */
    uint64_t number;
    nh_err code;
    double died_at;
    char *reason, *answer; /* one allocation */
};

/* A key and what it holds: a value, or with a dedupe key the id of its message. */
typedef struct pair {
    size_t key_length, length;
    double expires_at;
    struct pair *next; /* dedupe keys, in the order of coming */
    char id[NH_ID_MAX + 1];
    char bytes[];
} pair;

typedef struct memory {
    nh_store store; /* first */
    unsigned fork_generation;
    void (*notify)(void *context);
    void *context;
    uint64_t dead_most;
    pthread_t timer;

    pthread_mutex_t lock;
    pthread_cond_t due;
    void *rows, *keys, *values;  /* trees */
    record rings[NH_PRIORITIES]; /* heads; only next and prev are used */
    record **heap;               /* heap[1…count], the earliest first */
    size_t heap_count, heap_room;
    record **letters; /* by number */
    size_t letters_room;
    pair *first_key, **last_key;
    nh_row last;
    uint64_t number;
    nh_store_stats stats;
    bool quiet; /* the caller knows that rows may be leased */
    bool stopping;
} memory;

static memory *memory_of(nh_store *store) {
    return (memory *)store;
}

/* ------------------------------------------------------------------ entries */

static void drop(record *e) {
    if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
        return;
    nh_doc_unref(e->document);
    free(e->id);
    free(e->reason);
    free(e);
}

static record *share(record *e) {
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

static record *make(const nh_store_item *item) {
    size_t id = strlen(item->id) + 1, lane = item->lane ? strlen(item->lane) + 1 : 1;
    record *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    atomic_init(&e->refs, 1);
    e->id = calloc(1, id + lane);
    e->document = nh_doc_from_bytes(item->payload, item->length, NULL);
    if (!e->id || !e->document) {
        drop(e);
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

static int by_row(const void *a, const void *b) {
    const record *left = a, *right = b;
    return left->row < right->row ? -1 : left->row > right->row;
}

static int by_key(const void *a, const void *b) {
    const pair *left = a, *right = b;
    size_t shorter = left->key_length < right->key_length ? left->key_length : right->key_length;
    int order = memcmp(left->bytes, right->bytes, shorter);
    return order                                  ? order
           : left->key_length < right->key_length ? -1
                                                  : left->key_length > right->key_length;
}

static pair *pair_make(const void *key, size_t key_length, const void *value, size_t length) {
    pair *p = calloc(1, sizeof *p + key_length + length + 1);
    if (!p)
        return NULL;
    memcpy(p->bytes, key, key_length);
    if (length)
        memcpy(p->bytes + key_length, value, length);
    p->key_length = key_length;
    p->length = length;
    return p;
}

static record *find(memory *m, nh_row row) {
    record key = {.row = row};
    record **node = tfind(&key, &m->rows, by_row);
    return node ? *node : NULL;
}

static pair *find_pair(void **tree, const void *key, size_t length) {
    pair *wanted = pair_make(key, length, NULL, 0);
    if (!wanted)
        return NULL;
    pair **node = tfind(wanted, tree, by_key);
    free(wanted);
    return node ? *node : NULL;
}

/* ------------------------------------------------------------ where they wait */

static void put_at(memory *m, record *e, size_t place) {
    m->heap[place] = e;
    e->place = place;
}

static void sift(memory *m, record *e, size_t place) {
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
static bool reserve_heap(memory *m, size_t more) {
    size_t wanted = m->stats.depth + m->stats.dead + more + 1;
    if (wanted <= m->heap_room)
        return true;
    size_t room = m->heap_room ? 2 * m->heap_room : 64;
    while (room < wanted)
        room *= 2;
    record **heap = realloc(m->heap, room * sizeof(record *));
    if (!heap)
        return false;
    m->heap = heap;
    m->heap_room = room;
    return true;
}

static void stop_waiting(memory *m, record *e) {
    if (e->next) {
        e->next->prev = e->prev;
        e->prev->next = e->next;
        e->next = e->prev = NULL;
    } else if (e->place) {
        size_t place = e->place;
        record *last = m->heap[m->heap_count--];
        if (last != e)
            sift(m, last, place);
        e->place = 0;
    }
}

/* Puts it before `where` in a ring. */
static void link_before(record *e, record *where) {
    e->next = where;
    e->prev = where->prev;
    e->prev->next = e;
    where->prev = e;
}

static void wait_from(memory *m, record *e, double due, double now) {
    e->due = due > now ? due : 0;
    if (e->due == 0) {
        link_before(e, &m->rings[e->priority]);
        return;
    }
    sift(m, e, ++m->heap_count);
    pthread_cond_signal(&m->due);
}

static bool waiting(const memory *m, int priority) {
    return m->rings[priority].next != &m->rings[priority];
}

static bool ready(const memory *m) {
    bool any = m->heap_count > 0 && m->heap[1]->due <= nh_wall();
    for (int priority = 0; priority < NH_PRIORITIES; priority++)
        any |= waiting(m, priority);
    return any;
}

/* Lock held: whether the caller is to be told, which it does without the lock. */
static bool announce(memory *m) {
    bool tell = !m->quiet && ready(m) && m->notify;
    m->quiet |= tell;
    return tell;
}

static void unlock(memory *m) {
    bool tell = announce(m);
    pthread_mutex_unlock(&m->lock);
    if (tell)
        m->notify(m->context);
}

static void *timer_main(void *argument) {
    memory *m = argument;
    pthread_mutex_lock(&m->lock);
    while (!m->stopping) {
        uint64_t at = UINT64_MAX;
        if (m->heap_count > 0 && !m->quiet) {
            double wait = m->heap[1]->due - nh_wall(); /* the clock may be set: look every second */
            at = nh_after(nh_monotonic(), wait < 0 ? 0 : wait > 1 ? 1 : wait);
        }
        nh_cond_wait(&m->due, &m->lock, at);
        unlock(m);
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---------------------------------------------------------------- messages */

static uint64_t cost(const record *e) {
    return e->length + ROW_OVERHEAD;
}

/* Dedupe keys whose time is over, a few at a time, the oldest first. */
static void forget_keys(memory *m, double now) {
    for (int i = 0; i < DEDUPE_DROPPED && m->first_key && m->first_key->expires_at <= now; i++) {
        pair *p = m->first_key;
        if (!(m->first_key = p->next))
            m->last_key = &m->first_key;
        tdelete(p, &m->keys, by_key);
        m->stats.bytes -= p->key_length + ROW_OVERHEAD;
        free(p);
    }
}

/* Finds out whether an item is the second with its key; else it is the first from now on. */
static bool claim_key(memory *m, nh_store_item *item, double now) {
    pair *mine = pair_make(item->key, item->key_length, NULL, 0);
    pair **node = mine ? tsearch(mine, &m->keys, by_key) : NULL;
    if (!node) {
        free(mine);
        return false;
    }
    pair *there = *node;
    if (there == mine) {
        *m->last_key = mine;
        m->last_key = &mine->next;
        m->stats.bytes += mine->key_length + ROW_OVERHEAD;
    } else {
        free(mine);
    }
    item->duplicate = there->expires_at > now;
    if (item->duplicate) {
        memcpy(item->first, there->id, sizeof item->first);
    } else {
        there->expires_at = now + item->window;
        snprintf(there->id, sizeof there->id, "%s", item->id);
    }
    return true;
}

static void remove_row(memory *m, record *e) {
    stop_waiting(m, e);
    tdelete(e, &m->rows, by_row);
    m->stats.depth--;
    m->stats.bytes -= cost(e);
    drop(e);
}

/* Takes one item in. Errors: NH_E_INTERNAL. */
static nh_err put(memory *m, nh_store_item *item, double now) {
    item->row = 0;
    item->leased = item->duplicate = false;
    if (item->key && !claim_key(m, item, now))
        return NH_E_INTERNAL;
    if (item->duplicate)
        return NH_OK;
    record *e = make(item);
    if (e)
        e->row = m->last + 1;
    if (!e || !reserve_heap(m, 1) || !tsearch(e, &m->rows, by_row)) {
        drop(e);
        return NH_E_INTERNAL;
    }
    item->row = ++m->last;
    item->leased = item->take && item->due <= now && !waiting(m, item->priority);
    m->stats.depth++;
    m->stats.bytes += cost(e);
    if (!item->leased)
        wait_from(m, e, item->due, now);
    return NH_OK;
}

/* What a batch had put in before it failed goes again, its keys with it. */
static void take_back(memory *m, nh_store_batch *batch, size_t count) {
    for (size_t i = 0; i < count; i++) {
        nh_store_item *item = &batch->items[i];
        record *e = item->row ? find(m, item->row) : NULL;
        pair *p =
            item->key && !item->duplicate ? find_pair(&m->keys, item->key, item->key_length) : NULL;
        if (e)
            remove_row(m, e);
        if (p)
            p->expires_at = 0;
    }
}

static nh_err refuse_child(nh_error *error) {
    return nh_fail(error, NH_E_CLOSED, "the store belongs to the process that opened it");
}

static bool forked(const memory *m) {
    return m->fork_generation != nh_fork_generation();
}

static nh_err enqueue(nh_store *store, nh_store_batch *batch, nh_error *error) {
    memory *m = memory_of(store);
    char why[128] = "out of memory";
    nh_err failed = nh_store_check_batch(batch, error);
    if (failed)
        return failed;
    if (forked(m))
        return refuse_child(error);
    double now = nh_wall();
    uint64_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++)
        bytes += batch->items[i].length + batch->items[i].key_length + 2 * ROW_OVERHEAD;
    pthread_mutex_lock(&m->lock);
    forget_keys(m, now);
    if (bytes > m->stats.most || m->stats.bytes > m->stats.most - bytes) {
        snprintf(why, sizeof why, "the store is full: %llu of %llu bytes",
                 (unsigned long long)m->stats.bytes, (unsigned long long)m->stats.most);
        failed = NH_E_JOURNAL;
    }
    for (size_t i = 0; i < batch->count && !failed; i++)
        if ((failed = put(m, &batch->items[i], now)))
            take_back(m, batch, i + 1);
    m->stats.commits += !failed;
    m->stats.refused += failed ? batch->count : 0;
    unlock(m);
    batch->done(batch, failed, failed ? why : NULL);
    return NH_OK;
}

/* The next row that may be leased, taken from where it waits; a reference for the caller. */
static record *next_row(memory *m, double now, unsigned credits[NH_PRIORITIES]) {
    if (m->heap_count > 0 && m->heap[1]->due <= now) {
        record *e = m->heap[1];
        stop_waiting(m, e);
        return share(e);
    }
    for (int round = 0; round < 2; round++) {
        for (int priority = NH_URGENT; priority >= NH_LOW; priority--)
            if (waiting(m, priority) && credits[priority] > 0) {
                record *e = m->rings[priority].next;
                credits[priority]--;
                stop_waiting(m, e);
                return share(e);
            }
        memcpy(credits, weights, sizeof weights);
    }
    return NULL;
}

static void lease(nh_store *store, nh_store_lease *wish) {
    memory *m = memory_of(store);
    unsigned credits[NH_PRIORITIES];
    double now = nh_wall();
    size_t count = 0, bytes = 0;
    if (forked(m)) {
        wish->done(wish, 0, false, NH_E_CLOSED, "the store belongs to another process");
        return;
    }
    memcpy(credits, weights, sizeof weights);
    pthread_mutex_lock(&m->lock);
    record *e = NULL;
    while (count < wish->most && (count == 0 || bytes < wish->bytes) &&
           (e = next_row(m, now, credits))) {
        nh_store_row row = {.row = e->row,
                            .id = e->id,
                            .lane = e->lane,
                            .document = e->document,
                            .created_at = e->created_at,
                            .due = e->due,
                            .expires_at = e->expires_at,
                            .attempts = e->attempts,
                            .priority = e->priority};
        pthread_mutex_unlock(&m->lock);
        bool taken = wish->take(wish, &row);
        pthread_mutex_lock(&m->lock);
        bytes += e->length;
        count += taken;
        if (!taken && find(m, e->row) == e && !e->next && !e->place)
            link_before(e, m->rings[e->priority].next);
        drop(e);
        if (!taken)
            break;
    }
    bool more = ready(m);
    m->quiet = more;
    pthread_cond_signal(&m->due);
    unlock(m);
    wish->done(wish, count, more, NH_OK, NULL);
}

static nh_err ack(nh_store *store, const nh_row *rows, size_t count) {
    memory *m = memory_of(store);
    if (forked(m))
        return NH_E_CLOSED;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < count; i++) {
        record *e = find(m, rows[i]);
        if (e)
            remove_row(m, e);
    }
    unlock(m);
    return NH_OK;
}

static nh_err nack(nh_store *store, nh_row row, const nh_store_nack *what) {
    memory *m = memory_of(store);
    if (forked(m))
        return NH_E_CLOSED;
    double now = nh_wall();
    pthread_mutex_lock(&m->lock);
    record *e = find(m, row);
    if (e) {
        e->attempts = what->attempts;
        if (what->delay >= 0) {
            stop_waiting(m, e);
            wait_from(m, e, now + what->delay, now);
        }
    }
    unlock(m);
    return NH_OK;
}

/* ------------------------------------------------------------- dead letters */

static void remove_letter(memory *m, size_t at) {
    record *e = m->letters[at];
    m->stats.dead--;
    m->stats.bytes -= cost(e);
    memmove(m->letters + at, m->letters + at + 1, (m->stats.dead - at) * sizeof(record *));
    drop(e);
}

static nh_err dead(nh_store *store, nh_row row, const nh_store_death *death) {
    memory *m = memory_of(store);
    if (forked(m))
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
    record *e = find(m, row);
    if (e) {
        if (m->stats.dead == m->dead_most) {
            remove_letter(m, 0);
            m->stats.dead_lost++;
        }
        stop_waiting(m, e);
        tdelete(e, &m->rows, by_row);
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
    unlock(m);
    free(text);
    return NH_OK;
}

/* The first letter with this number or a later one. */
static size_t letter_from(const memory *m, uint64_t number) {
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

static void show(const record *e, bool whole,
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
static record *letter_at(memory *m, uint64_t number) {
    pthread_mutex_lock(&m->lock);
    size_t at = letter_from(m, number);
    record *e = at < m->stats.dead ? share(m->letters[at]) : NULL;
    pthread_mutex_unlock(&m->lock);
    return e;
}

static nh_err no_letter(uint64_t number, nh_error *error) {
    return nh_fail(error, NH_E_INVALID, "there is no dead letter %llu", (unsigned long long)number);
}

static nh_err dead_list(nh_store *store, uint64_t after, size_t most,
                        void (*each)(void *context, const nh_store_dead *dead), void *context,
                        nh_error *error) {
    memory *m = memory_of(store);
    if (forked(m))
        return refuse_child(error);
    record *e;
    for (; most > 0 && after < UINT64_MAX && (e = letter_at(m, after + 1)); most--) {
        after = e->number;
        show(e, false, each, context);
        drop(e);
    }
    return NH_OK;
}

static nh_err dead_get(nh_store *store, uint64_t number,
                       void (*each)(void *context, const nh_store_dead *dead), void *context,
                       nh_error *error) {
    memory *m = memory_of(store);
    if (forked(m))
        return refuse_child(error);
    record *e = letter_at(m, number);
    bool found = e && e->number == number;
    if (found)
        show(e, true, each, context);
    drop(e);
    return found ? NH_OK : no_letter(number, error);
}

/* Lock held: puts a new row in the letter's place; somebody may be looking at the letter. */
static bool revive(memory *m, size_t at) {
    const record *letter = m->letters[at];
    nh_store_item item = {.id = letter->id,
                          .lane = letter->lane,
                          .created_at = letter->created_at,
                          .expires_at = letter->expires_at,
                          .priority = letter->priority};
    item.payload = nh_doc_bytes(letter->document, &item.length);
    if (put(m, &item, nh_wall()) != NH_OK)
        return false;
    remove_letter(m, at);
    return true;
}

static nh_err change_letters(nh_store *store, uint64_t number, uint64_t *count, bool retry,
                             nh_error *error) {
    memory *m = memory_of(store);
    uint64_t changed = 0;
    bool memory_left = true;
    if (forked(m))
        return refuse_child(error);
    pthread_mutex_lock(&m->lock);
    size_t at = letter_from(m, number);
    while (at < m->stats.dead && memory_left && (number == 0 || m->letters[at]->number == number)) {
        if (retry)
            memory_left = revive(m, at);
        else
            remove_letter(m, at);
        changed += memory_left;
    }
    unlock(m);
    if (count)
        *count = changed;
    if (!memory_left)
        return nh_fail_memory(error);
    return number == 0 || changed ? NH_OK : no_letter(number, error);
}

static nh_err dead_retry(nh_store *store, uint64_t number, uint64_t *count, nh_error *error) {
    return change_letters(store, number, count, true, error);
}

static nh_err dead_discard(nh_store *store, uint64_t number, uint64_t *count, nh_error *error) {
    return change_letters(store, number, count, false, error);
}

/* -------------------------------------------------------- keys and values */

static nh_err dedupe(nh_store *store, const void *key, size_t length, char id[NH_ID_MAX + 1],
                     nh_error *error) {
    memory *m = memory_of(store);
    if (forked(m))
        return refuse_child(error);
    pthread_mutex_lock(&m->lock);
    pair *p = find_pair(&m->keys, key, length);
    snprintf(id, NH_ID_MAX + 1, "%s", p && p->expires_at > nh_wall() ? p->id : "");
    pthread_mutex_unlock(&m->lock);
    return NH_OK;
}

static void remove_value(memory *m, pair *p) {
    tdelete(p, &m->values, by_key);
    m->stats.bytes -= p->key_length + p->length + ROW_OVERHEAD;
    free(p);
}

static nh_err set(nh_store *store, const void *key, size_t key_length, const void *value,
                  size_t length, double expires_at, nh_error *error) {
    memory *m = memory_of(store);
    nh_err failed = nh_store_check_value(key_length, length, error);
    if (failed)
        return failed;
    if (forked(m))
        return refuse_child(error);
    pair *mine = pair_make(key, key_length, value, value ? length : 0);
    if (!mine)
        return nh_fail_memory(error);
    mine->expires_at = expires_at;
    pthread_mutex_lock(&m->lock);
    pair **node = tfind(mine, &m->values, by_key);
    uint64_t size = key_length + mine->length + ROW_OVERHEAD;
    if (value && size > m->stats.most - m->stats.bytes)
        failed = nh_fail(error, NH_E_JOURNAL, "the store is full: %llu of %llu bytes",
                         (unsigned long long)m->stats.bytes, (unsigned long long)m->stats.most);
    if (!failed && node)
        remove_value(m, *node);
    if (!failed && value && !tsearch(mine, &m->values, by_key))
        failed = nh_fail_memory(error);
    if (!failed && value) {
        m->stats.bytes += size;
        mine = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    free(mine);
    return failed;
}

typedef struct page {
    const pair *after;
    pair **pairs;
    size_t count, most;
    double now;
} page;

static void collect(const void *node, VISIT visit, void *closure) {
    page *p = closure;
    pair *at = *(pair *const *)node;
    bool live = at->expires_at <= 0 || at->expires_at > p->now;
    if ((visit == postorder || visit == leaf) && live && p->count < p->most &&
        by_key(at, p->after) > 0)
        p->pairs[p->count++] = at;
}

/* Copies the page, so that it can be shown without the lock. */
static nh_err values(nh_store *store, const void *after, size_t after_length, size_t most,
                     void (*each)(void *context, const void *key, size_t key_length,
                                  const void *value, size_t length, double expires_at),
                     void *context, nh_error *error) {
    enum { PAGE = 1024 };
    memory *m = memory_of(store);
    pair *found[PAGE];
    if (forked(m))
        return refuse_child(error);
    pair *from = pair_make(after ? after : "", after ? after_length : 0, NULL, 0);
    size_t shown = 0;
    nh_err failed = NH_OK;
    for (size_t count = PAGE; from && count == PAGE && shown < most && !failed; shown += count) {
        page p = {.after = from,
                  .pairs = found,
                  .most = most - shown < PAGE ? most - shown : PAGE,
                  .now = nh_wall()};
        pthread_mutex_lock(&m->lock);
        twalk_r(m->values, collect, &p);
        for (size_t i = 0; i < p.count; i++) {
            pair *live = found[i];
            found[i] = pair_make(live->bytes, live->key_length, live->bytes + live->key_length,
                                 live->length);
            if (found[i])
                found[i]->expires_at = live->expires_at;
            else
                failed = NH_E_INTERNAL;
        }
        pthread_mutex_unlock(&m->lock);
        count = p.count;
        for (size_t i = 0; i < count; i++) {
            pair *one = found[i];
            if (one && !failed)
                each(context, one->bytes, one->key_length, one->bytes + one->key_length,
                     one->length, one->expires_at);
            if (one && i + 1 == count) {
                free(from);
                from = one;
            } else {
                free(one);
            }
        }
    }
    bool memory_left = from && !failed;
    free(from);
    return memory_left ? NH_OK : nh_fail_memory(error);
}

static nh_err sync_all(nh_store *store, nh_error *error) {
    return forked(memory_of(store)) ? refuse_child(error) : NH_OK;
}

/* ------------------------------------------------------------ any other */

static void find_oldest(const void *node, VISIT visit, void *closure) {
    const record *e = *(record *const *)node;
    double *oldest = closure;
    if ((visit == postorder || visit == leaf) && (*oldest <= 0 || e->created_at < *oldest))
        *oldest = e->created_at;
}

static void stats(nh_store *store, nh_store_stats *out) {
    memory *m = memory_of(store);
    *out = (nh_store_stats){0};
    if (forked(m))
        return;
    pthread_mutex_lock(&m->lock);
    *out = m->stats;
    twalk_r(m->rows, find_oldest, &out->oldest);
    pthread_mutex_unlock(&m->lock);
}

/* What is in memory does not outlive a crash, so there is nobody to count it. */
static void enter(nh_store *store, unsigned worker, nh_row row) {
    (void)store;
    (void)worker;
    (void)row;
}

static void leave(nh_store *store, unsigned worker) {
    (void)store;
    (void)worker;
}

/* -------------------------------------------------------------- life cycle */

static nh_store *open_memory(const nh_store_options *options, nh_error *error) {
    memory *m = calloc(1, sizeof *m);
    sigset_t all, before;
    int failed;
    if (!m) {
        nh_fail_memory(error);
        return NULL;
    }
    m->store.ops = &nh_store_memory;
    m->fork_generation = nh_fork_generation();
    m->notify = options->notify;
    m->context = options->context;
    m->dead_most = options->dead_most ? options->dead_most : NH_STORE_DEAD_DEFAULT;
    m->stats.most = options->bytes ? options->bytes : NH_STORE_BYTES_DEFAULT;
    m->last_key = &m->first_key;
    for (int priority = 0; priority < NH_PRIORITIES; priority++)
        m->rings[priority].next = m->rings[priority].prev = &m->rings[priority];
    m->letters = calloc(m->dead_most, sizeof(record *));
    if (!m->letters || pthread_mutex_init(&m->lock, NULL) != 0) {
        nh_fail_memory(error);
        goto fail;
    }
    if (nh_cond_init(&m->due) != 0) {
        nh_fail_memory(error);
        goto fail_lock;
    }
    sigfillset(&all); /* a host's signals are the host's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&m->timer, NULL, timer_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        nh_error_set(error, NH_E_INTERNAL, "store thread: %s", strerror(failed));
        goto fail_due;
    }
    return &m->store;
fail_due:
    pthread_cond_destroy(&m->due);
fail_lock:
    pthread_mutex_destroy(&m->lock);
fail:
    free(m->letters);
    free(m);
    return NULL;
}

static void drop_node(void *node) {
    drop(node);
}

static nh_err close_memory(nh_store *store, nh_error *error) {
    memory *m = memory_of(store);
    if (forked(m))
        return refuse_child(error);
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    pthread_cond_signal(&m->due);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->timer, NULL);
    tdestroy(m->rows, drop_node);
    tdestroy(m->keys, free);
    tdestroy(m->values, free);
    for (size_t i = 0; i < m->stats.dead; i++)
        drop(m->letters[i]);
    pthread_cond_destroy(&m->due);
    pthread_mutex_destroy(&m->lock);
    free(m->letters);
    free(m->heap);
    free(m);
    return NH_OK;
}

const nh_store_ops nh_store_memory = {
    .name = "memory",
    .caps = 0,
    .open = open_memory,
    .close = close_memory,
    .enqueue = enqueue,
    .lease = lease,
    .ack = ack,
    .nack = nack,
    .dead = dead,
    .dead_list = dead_list,
    .dead_get = dead_get,
    .dead_retry = dead_retry,
    .dead_discard = dead_discard,
    .dedupe = dedupe,
    .set = set,
    .values = values,
    .sync = sync_all,
    .stats = stats,
    .enter = enter,
    .leave = leave,
};
