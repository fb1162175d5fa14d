/* loop.c — epoll, a binary heap of timers, a list of deferred calls, and an eventfd.
 *
 * Owned by one worker thread. A turn is: what was deferred to the last → wait → ready descriptors →
 * due timers → deferred calls.
 * What has come in goes before what is overdue: a process that was held up for longer than a
 * timeout finds the answers that came meanwhile, however many, and not that they are late. A watch
 * that is stopped during a turn is struck from the events still to be handled, so its memory may go
 * at once. A timer costs O(log n) to start, move or stop; a descriptor one system call when it is
 * started, changed or stopped, and none a turn. Readers of inboxes to which the thread posts are
 * woken once a turn, before it sleeps at the latest (nh_wakes_gather).
 */
#include "runtime/work/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/inbox.h"

enum { EVENTS_MOST = 128, LOOKS_MOST = 64, HEAP_LEAST = 64 };

struct nh_loop {
    int epoll;
    int wake;
    atomic_bool awake; /* the eventfd is signalled: spares a write for each further wake-up */
    uint64_t now;
    nh_timer **heap; /* heap[1…timers], earliest first */
    size_t timers, room;
    nh_deferred deferred; /* head of a ring */
    nh_deferred mark;     /* of run_deferred */
    nh_deferred last;     /* head of the ring of those that wait until the loop looks again */
    struct epoll_event events[EVENTS_MOST];
    int event, event_count; /* those of a look, and which is being handled */
    bool all;               /* these were all that was ready */
};

nh_loop *nh_loop_create(nh_error *error) {
    nh_loop *loop = calloc(1, sizeof *loop);
    if (!loop) {
        nh_fail_memory(error);
        return NULL;
    }
    loop->deferred.next = loop->deferred.prev = &loop->deferred;
    loop->last.next = loop->last.prev = &loop->last;
    loop->now = nh_monotonic();
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (loop->epoll < 0 || loop->wake < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) != 0) {
        nh_fail(error, NH_E_INTERNAL, "event loop: %s", strerror(errno));
        nh_loop_destroy(loop);
        return NULL;
    }
    return loop;
}

void nh_loop_destroy(nh_loop *loop) {
    if (!loop)
        return;
    nh_wakes_end();
    if (loop->epoll >= 0)
        close(loop->epoll);
    if (loop->wake >= 0)
        close(loop->wake);
    free(loop->heap);
    free(loop);
}

uint64_t nh_loop_now(const nh_loop *loop) {
    return loop->now;
}

uint64_t nh_loop_age(const nh_loop *loop) {
    return loop->all ? nh_monotonic() - loop->now : UINT64_MAX;
}

/* ----------------------------------------------------------- other threads */

void nh_loop_wake(nh_loop *loop) {
    if (atomic_exchange_explicit(&loop->awake, true, memory_order_acq_rel))
        return;
    uint64_t one = 1;
    while (write(loop->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* The flag falls before the caller looks at its work, so a wake-up that comes in between costs one
 * idle turn and is never lost. An exchange: who found the flag up and wrote nothing is ordered
 * before it, with what it left for the loop's thread. The eventfd is watched by its edges, so it
 * need not be read: each write is one. */
static void woken(nh_loop *loop) {
    atomic_exchange_explicit(&loop->awake, false, memory_order_acq_rel);
}

/* ------------------------------------------------------------------- heap */

static void place(nh_loop *loop, nh_timer *timer, size_t position) {
    loop->heap[position] = timer;
    timer->position = position;
}

/* Moves a timer from a free place to where it belongs. */
static void sift(nh_loop *loop, nh_timer *timer, size_t position) {
    while (position > 1 && loop->heap[position / 2]->due > timer->due) {
        place(loop, loop->heap[position / 2], position);
        position /= 2;
    }
    for (;;) {
        size_t child = 2 * position;
        if (child > loop->timers)
            break;
        if (child < loop->timers && loop->heap[child + 1]->due < loop->heap[child]->due)
            child++;
        if (loop->heap[child]->due >= timer->due)
            break;
        place(loop, loop->heap[child], position);
        position = child;
    }
    place(loop, timer, position);
}

nh_err nh_timer_start(nh_loop *loop, nh_timer *timer, double seconds) {
    if (timer->position == 0) {
        if (loop->timers + 1 >= loop->room) {
            size_t room = loop->room ? 2 * loop->room : HEAP_LEAST;
            nh_timer **heap = realloc(loop->heap, room * sizeof *heap);
            if (!heap)
                return NH_E_INTERNAL;
            loop->heap = heap;
            loop->room = room;
        }
        timer->position = ++loop->timers;
    }
    timer->due = nh_after(loop->now, seconds);
    sift(loop, timer, timer->position);
    return NH_OK;
}

void nh_timer_stop(nh_loop *loop, nh_timer *timer) {
    size_t position = timer->position;
    if (position == 0)
        return;
    timer->position = 0;
    nh_timer *last = loop->heap[loop->timers--];
    if (last != timer)
        sift(loop, last, position);
}

static void fire_timers(nh_loop *loop) {
    /* The budget ends a turn in which timers start themselves anew with 0 seconds. */
    uint64_t now = loop->now;
    for (size_t budget = loop->timers; budget > 0 && loop->timers > 0; budget--) {
        nh_timer *timer = loop->heap[1];
        if (timer->due > now)
            break;
        nh_timer_stop(loop, timer);
        timer->fire(timer);
    }
}

/* --------------------------------------------------------------- deferred */

static void append(nh_deferred *ring, nh_deferred *deferred) {
    if (deferred->next)
        return;
    deferred->next = ring;
    deferred->prev = ring->prev;
    deferred->prev->next = deferred;
    ring->prev = deferred;
}

void nh_loop_defer(nh_loop *loop, nh_deferred *deferred) {
    append(&loop->deferred, deferred);
}

void nh_loop_defer_last(nh_loop *loop, nh_deferred *deferred) {
    append(&loop->last, deferred);
}

void nh_loop_undefer(nh_deferred *deferred) {
    if (!deferred->next)
        return;
    deferred->prev->next = deferred->next;
    deferred->next->prev = deferred->prev;
    deferred->next = deferred->prev = NULL;
}

static void run_first(const nh_deferred *ring) {
    nh_deferred *deferred = ring->next;
    nh_loop_undefer(deferred);
    deferred->call(deferred);
}

/* Runs what was deferred up to now; what these calls defer waits for the next turn, which then does
 * not sleep. */
static void run_deferred(nh_loop *loop) {
    nh_loop_defer(loop, &loop->mark);
    while (loop->deferred.next != &loop->mark)
        run_first(&loop->deferred);
    nh_loop_undefer(&loop->mark);
}

/* ------------------------------------------------------------ descriptors */

static uint32_t epoll_bits(unsigned events) {
    return (events & NH_READABLE ? EPOLLIN | EPOLLRDHUP : 0u) |
           (events & NH_WRITABLE ? EPOLLOUT : 0u);
}

static nh_err control(nh_loop *loop, int operation, nh_watch *watch, unsigned events) {
    struct epoll_event event = {.events = epoll_bits(events), .data.ptr = watch};
    if (epoll_ctl(loop->epoll, operation, watch->fd, &event) != 0)
        return NH_E_INTERNAL;
    watch->events = events;
    return NH_OK;
}

nh_err nh_watch_start(nh_loop *loop, nh_watch *watch, int fd, unsigned events) {
    watch->fd = fd;
    nh_err failed = control(loop, EPOLL_CTL_ADD, watch, events);
    if (failed && errno == EEXIST) /* the number was reused before we saw its close */
        failed = control(loop, EPOLL_CTL_MOD, watch, events);
    if (failed)
        watch->fd = -1;
    return failed;
}

nh_err nh_watch_change(nh_loop *loop, nh_watch *watch, unsigned events) {
    if (watch->fd < 0 || watch->events == events)
        return watch->fd < 0 ? NH_E_INTERNAL : NH_OK;
    nh_err failed = control(loop, EPOLL_CTL_MOD, watch, events);
    if (failed && errno == ENOENT)
        failed = control(loop, EPOLL_CTL_ADD, watch, events);
    return failed;
}

void nh_watch_stop(nh_loop *loop, nh_watch *watch) {
    struct epoll_event unused = {0};
    if (watch->fd >= 0)
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, &unused); /* EBADF: closed before, fine */
    nh_watch_forget(loop, watch);
}

void nh_watch_forget(nh_loop *loop, nh_watch *watch) {
    if (watch->fd < 0)
        return;
    for (int i = loop->event; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = loop;
    watch->fd = -1;
    watch->events = 0;
}

static void run_events(nh_loop *loop) {
    for (loop->event = 0; loop->event < loop->event_count;) {
        struct epoll_event *event = &loop->events[loop->event++];
        nh_watch *watch = event->data.ptr;
        if (!watch) {
            woken(loop);
            continue;
        }
        if (event->data.ptr == loop) /* struck out by nh_watch_stop */
            continue;
        unsigned hangup = event->events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP);
        unsigned events = (event->events & EPOLLIN ? NH_READABLE : 0u) |
                          (event->events & EPOLLOUT ? NH_WRITABLE : 0u) | (hangup ? NH_HANGUP : 0u);
        watch->ready(watch, events);
    }
    loop->event = loop->event_count = 0;
}

/* ------------------------------------------------------------------- turn */

/* Milliseconds to sleep, rounded up: to wake early and spin would cost more than to wake late. */
static int sleep_ms(const nh_loop *loop, double seconds) {
    if (loop->deferred.next != &loop->deferred)
        return 0;
    uint64_t until = nh_after(loop->now, seconds);
    if (loop->timers > 0 && loop->heap[1]->due < until)
        until = loop->heap[1]->due;
    if (until == UINT64_MAX)
        return -1;
    if (until <= loop->now)
        return 0;
    uint64_t ms = (until - loop->now + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}

static void look(nh_loop *loop, int ms) {
    int count = epoll_wait(loop->epoll, loop->events, EVENTS_MOST, ms);
    loop->event_count = count > 0 ? count : 0;
    loop->all = count >= 0 && count < EVENTS_MOST;
}

static bool is_due(const nh_loop *loop) {
    return loop->timers > 0 && loop->heap[1]->due <= loop->now;
}

void nh_loop_turn(nh_loop *loop, double seconds) {
    while (loop->last.next != &loop->last)
        run_first(&loop->last);
    nh_wakes_give();
    nh_wakes_gather();
    look(loop, sleep_ms(loop, seconds));
    loop->now = nh_monotonic();
    run_events(loop);
    for (int looks = 1; !loop->all && is_due(loop) && looks < LOOKS_MOST; looks++) {
        look(loop, 0);
        run_events(loop);
    }
    fire_timers(loop);
    run_deferred(loop);
}
