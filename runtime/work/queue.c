/* queue.c — the flows of those that may be taken (flow.c), and two heaps, for deliver_at and for
 * deadlines.
 *
 * Any thread; one mutex, held for a few pointer moves. Lists and heaps are threaded through the
 * handles, so nothing here allocates for a message except when a heap doubles, which push does
 * before it takes anything. Push, remove and take cost O(1) a message, plus O(log n) in the heap of
 * deadlines for those that have one. The heaps keep the times beside the pointers: with a million
 * messages every handle that is looked at is a cache miss.
 */
#include "runtime/work/queue.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#include "runtime/core/error.h"

enum { RELEASED_AT_ONCE = 1024 }; /* in one hold of the lock */

/* Handles ordered by one of their times; at[1…count], earliest first, four children each. */
typedef struct entry {
    uint64_t time;
    nh_handle *handle;
} entry;

typedef struct heap {
    entry *at;
    size_t count, room;
    size_t position; /* offset of the field in nh_times */
} heap;

struct nh_queue {
    size_t capacity, bytes_most;
    pthread_mutex_t lock;
    bool closed;
    nh_flows *flows;
    size_t bytes;
    heap releases, deadlines;
    size_t count;         /* in the flows */
    _Atomic size_t ready; /* what the flows give, readable without the lock */
};

/* ------------------------------------------------------------------- heap */

/* Of one that is in the heap, or was. */
static uint32_t *position_of(const heap *h, nh_handle *handle) {
    return (uint32_t *)(void *)((char *)nh_message_own_times(nh_message_of(handle)) + h->position);
}

static void place(heap *h, entry e, size_t position) {
    h->at[position] = e;
    *position_of(h, e.handle) = (uint32_t)position;
}

static size_t parent(size_t position) {
    return (position + 2) / 4;
}

/* The earliest child; `first` is there. */
static size_t earliest(const heap *h, size_t first) {
    size_t best = first, last = first + 3 < h->count ? first + 3 : h->count;
    for (size_t child = first + 1; child <= last; child++)
        if (h->at[child].time < h->at[best].time)
            best = child;
    return best;
}

static void sift(heap *h, entry e, size_t position) {
    for (; position > 1 && h->at[parent(position)].time > e.time; position = parent(position))
        place(h, h->at[parent(position)], position);
    for (size_t child; (child = 4 * position - 2) <= h->count; position = child) {
        child = earliest(h, child);
        if (h->at[child].time >= e.time)
            break;
        place(h, h->at[child], position);
    }
    place(h, e, position);
}

/* Room for `more`, so that adding them cannot fail. */
static bool heap_reserve(heap *h, size_t more) {
    if (h->count + more + 1 <= h->room)
        return true;
    size_t room = h->room ? h->room : 64;
    while (room < h->count + more + 1)
        room *= 2;
    entry *at = realloc(h->at, room * sizeof *at);
    if (!at)
        return false;
    h->at = at;
    h->room = room;
    return true;
}

static void heap_add(heap *h, nh_handle *handle, uint64_t time) {
    sift(h, (entry){.time = time, .handle = handle}, ++h->count);
}

static void heap_remove(heap *h, nh_handle *handle) {
    if (!nh_message_of(handle)->timed)
        return;
    uint32_t *position = position_of(h, handle);
    if (*position == 0)
        return;
    entry last = h->at[h->count--];
    if (last.handle != handle)
        sift(h, last, *position);
    *position = 0;
}

/* When the first is due. */
static uint64_t heap_first(const heap *h) {
    return h->count > 0 ? h->at[1].time : UINT64_MAX;
}

/* ------------------------------------------------------------------- flows */

/* Who appends or takes out tells count_ready, once for all. */
static void append(nh_queue *queue, nh_handle *handle) {
    nh_flows_add(queue->flows, handle);
    queue->count++;
    nh_handle_set_state(handle, NH_QUEUED);
}

/* Lock held. Whether there are more than before. */
static bool count_ready(nh_queue *queue) {
    size_t ready = nh_flows_ready(queue->flows);
    return ready > atomic_exchange_explicit(&queue->ready, ready, memory_order_seq_cst);
}

/* Out of wherever it is; it must be in the queue. */
static void take_out(nh_queue *queue, nh_handle *handle) {
    if (nh_times_of(handle)->release_position) {
        heap_remove(&queue->releases, handle);
    } else {
        nh_flows_remove(queue->flows, handle);
        queue->count--;
        count_ready(queue);
    }
    heap_remove(&queue->deadlines, handle);
    queue->bytes -= nh_message_size(nh_message_of(handle));
}

static size_t held(const nh_queue *queue) {
    return queue->count + queue->releases.count;
}

/* -------------------------------------------------------------- life cycle */

nh_queue *nh_queue_create(size_t capacity, size_t bytes, size_t held_most, nh_error *error) {
    nh_queue *queue = calloc(1, sizeof *queue);
    nh_flows *flows = nh_flows_create(held_most);
    if (!queue || !flows || pthread_mutex_init(&queue->lock, NULL) != 0) {
        nh_flows_destroy(flows);
        free(queue);
        nh_fail_memory(error);
        return NULL;
    }
    queue->flows = flows;
    queue->capacity = capacity;
    queue->bytes_most = bytes;
    queue->releases.position = offsetof(nh_times, release_position);
    queue->deadlines.position = offsetof(nh_times, deadline_position);
    return queue;
}

void nh_queue_destroy(nh_queue *queue) {
    if (!queue)
        return;
    pthread_mutex_destroy(&queue->lock);
    nh_flows_destroy(queue->flows);
    free(queue->releases.at);
    free(queue->deadlines.at);
    free(queue);
}

/* `returned`: they were accepted before. */
static nh_err push(nh_queue *queue, nh_handle *const *handles, size_t count, bool returned,
                   nh_error *error) {
    size_t bytes = 0, timed = 0, scheduled = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += nh_message_size(nh_message_of(handles[i]));
        timed += nh_times_of(handles[i])->deadline != UINT64_MAX;
        scheduled += nh_times_of(handles[i])->release > 0;
    }
    nh_err failed = NH_OK;
    pthread_mutex_lock(&queue->lock);
    if (returned)
        ; /* there is always room */
    else if (queue->closed)
        failed = nh_fail(error, NH_E_CLOSED, "the hub is closed");
    else if (count > queue->capacity - held(queue))
        failed =
            nh_fail(error, NH_E_QUEUE_FULL, "the queue is full: %zu of %zu messages%s", held(queue),
                    queue->capacity,
                    count > queue->capacity ? "; the batch is larger than the whole queue" : "");
    else if (bytes > queue->bytes_most - queue->bytes)
        failed = nh_fail(error, NH_E_QUEUE_FULL, "the queue is full: %zu of %zu bytes",
                         queue->bytes, queue->bytes_most);
    if (!failed &&
        (!heap_reserve(&queue->deadlines, timed) || !heap_reserve(&queue->releases, scheduled)))
        failed = nh_fail_memory(error);
    for (size_t i = 0; i < count && !failed; i++) {
        nh_handle *handle = handles[i];
        const nh_times *times = nh_times_of(handle);
        if (times->deadline != UINT64_MAX)
            heap_add(&queue->deadlines, handle, times->deadline);
        if (times->release > 0) {
            nh_handle_set_state(handle, NH_SCHEDULED);
            heap_add(&queue->releases, handle, times->release);
        } else {
            append(queue, handle);
        }
    }
    if (!failed) {
        queue->bytes += bytes;
        count_ready(queue);
    }
    pthread_mutex_unlock(&queue->lock);
    return failed;
}

nh_err nh_queue_push(nh_queue *queue, nh_handle *const *handles, size_t count, nh_error *error) {
    return push(queue, handles, count, false, error);
}

nh_err nh_queue_return(nh_queue *queue, nh_handle *const *handles, size_t count) {
    return push(queue, handles, count, true, NULL);
}

size_t nh_queue_take(nh_queue *queue, void *worker, nh_handle **out, size_t most, size_t *left) {
    size_t taken = 0;
    nh_handle *handle;
    pthread_mutex_lock(&queue->lock);
    for (; taken < most && (handle = nh_flows_next(queue->flows)); taken++) {
        heap_remove(&queue->deadlines, handle);
        queue->bytes -= nh_message_size(nh_message_of(handle));
        /* Under the lock: who finds a handle gone from the queue finds its worker. */
        atomic_store_explicit(&handle->worker, worker, memory_order_relaxed);
        nh_handle_set_state(handle, NH_RUNNING);
        out[taken] = handle;
    }
    queue->count -= taken;
    count_ready(queue);
    *left = nh_flows_ready(queue->flows);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

bool nh_queue_remove(nh_queue *queue, nh_handle *handle) {
    pthread_mutex_lock(&queue->lock);
    bool inside = nh_times_of(handle)->release_position > 0 || nh_flows_has(handle);
    if (inside)
        take_out(queue, handle);
    pthread_mutex_unlock(&queue->lock);
    return inside;
}

size_t nh_queue_tick(nh_queue *queue, uint64_t now, nh_handle **out, size_t most, uint64_t *next,
                     bool *ready) {
    size_t taken = 0, released = 0;
    heap *releases = &queue->releases, *deadlines = &queue->deadlines;
    pthread_mutex_lock(&queue->lock);
    while (heap_first(deadlines) <= now && taken < most) {
        out[taken] = deadlines->at[1].handle;
        take_out(queue, out[taken++]);
    }
    while (heap_first(releases) <= now && released < RELEASED_AT_ONCE) {
        nh_handle *handle = releases->at[1].handle;
        heap_remove(releases, handle);
        append(queue, handle);
        released++;
    }
    *ready = count_ready(queue);
    *next = heap_first(deadlines);
    if (heap_first(releases) < *next)
        *next = heap_first(releases);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

void nh_queue_close(nh_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_mutex_unlock(&queue->lock);
}

size_t nh_queue_drain(nh_queue *queue, uint64_t horizon, nh_handle **out, size_t most) {
    size_t taken = 0;
    pthread_mutex_lock(&queue->lock);
    /* Taking one out moves others, so one pass may overlook some: callers ask until none comes. */
    for (size_t i = queue->releases.count; i > 0 && taken < most; i--)
        if (i <= queue->releases.count && queue->releases.at[i].time > horizon) {
            out[taken] = queue->releases.at[i].handle;
            take_out(queue, out[taken++]);
        }
    while (horizon == 0 && taken < most && (out[taken] = nh_flows_any(queue->flows)))
        take_out(queue, out[taken++]);
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

nh_flow *nh_queue_wait(nh_queue *queue, uint32_t flow, nh_priority priority) {
    pthread_mutex_lock(&queue->lock);
    nh_flow *counted = nh_flows_wait(queue->flows, flow, priority);
    count_ready(queue);
    pthread_mutex_unlock(&queue->lock);
    return counted;
}

bool nh_queue_go(nh_queue *queue, nh_flow *flow, nh_priority priority) {
    pthread_mutex_lock(&queue->lock);
    nh_flows_go(queue->flows, flow, priority);
    bool more = count_ready(queue);
    pthread_mutex_unlock(&queue->lock);
    return more;
}

/* In one order with a worker's `sleeping`: see worker.c. */
size_t nh_queue_ready(const nh_queue *queue) {
    return atomic_load_explicit(&queue->ready, memory_order_seq_cst);
}

void nh_queue_read(nh_queue *queue, nh_queue_figures *figures) {
    pthread_mutex_lock(&queue->lock);
    for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
        figures->ready[priority] = nh_flows_count(queue->flows, (nh_priority)priority);
    figures->scheduled = queue->releases.count;
    figures->bytes = queue->bytes;
    pthread_mutex_unlock(&queue->lock);
}
