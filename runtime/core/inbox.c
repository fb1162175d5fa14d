/* inbox.c — a queue of watchers that have something to tell.
 *
 * Any thread posts, one consumer at a time reads (several may: each event goes to one of them). Two
 * counts keep it: `users` are the program's references; when the last goes the inbox is closed and
 * keeps nothing more, while `memory` also counts the watchers that still hang on unsettled handles.
 * The eventfd exists only once somebody asked for it, so a consumer that blocks in nh_inbox_next
 * pays no system call for it.
 *
 * A wake-up costs more than all else here together, and a reader on another processor would be
 * woken for each event and sleep again before the next. So a worker gathers: it notes the inboxes
 * whose readers are to be woken and wakes each once, before it sleeps itself. Readers sleep at a
 * semaphore, not at a condition: with that the woken thread takes the lock as one that others wait
 * for, so giving it back is one more system call a message.
 */
#include "runtime/core/inbox.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/core/clock.h"

enum { WAKES_INBOXES = 8, WAKES_MOST = 64 };

/* What a thread has gathered. */
static _Thread_local struct {
    bool on;
    unsigned posts; /* since the last give */
    size_t count;
    nh_inbox *inboxes[WAKES_INBOXES]; /* each with a reference to its memory */
} wakes;

struct nh_inbox {
    atomic_uint users;
    atomic_uint memory;
    pthread_mutex_t lock;
    sem_t wakes; /* one for each reader that was taken off `waiting` */
    nh_watcher *head, **tail;
    unsigned waiting; /* readers that sleep, or are about to, and were not woken */
    bool interrupted;
    bool closed;
    bool signalled; /* the eventfd is readable */
    int fd;         /* -1 until asked for */
};

nh_inbox *nh_inbox_create(void) {
    nh_inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox)
        return NULL;
    atomic_init(&inbox->users, 1);
    atomic_init(&inbox->memory, 1);
    inbox->tail = &inbox->head;
    inbox->fd = -1;
    if (pthread_mutex_init(&inbox->lock, NULL) != 0)
        goto fail;
    sem_init(&inbox->wakes, 0, 0);
    return inbox;
fail:
    free(inbox);
    return NULL;
}

static void release_memory(nh_inbox *inbox) {
    if (atomic_fetch_sub_explicit(&inbox->memory, 1, memory_order_acq_rel) != 1)
        return;
    if (inbox->fd >= 0)
        close(inbox->fd);
    sem_destroy(&inbox->wakes);
    pthread_mutex_destroy(&inbox->lock);
    free(inbox);
}

static void free_watcher(nh_watcher *watcher) {
    nh_inbox *inbox = watcher->inbox;
    free(watcher);
    release_memory(inbox);
}

nh_inbox *nh_inbox_ref(nh_inbox *inbox) {
    atomic_fetch_add_explicit(&inbox->users, 1, memory_order_relaxed);
    return inbox;
}

/* Lock held. Keeps the eventfd in step with the queue. */
static void show(nh_inbox *inbox) {
    bool ready = inbox->head || inbox->interrupted;
    if (inbox->fd < 0 || ready == inbox->signalled)
        return;
    uint64_t count = 1;
    ssize_t done =
        ready ? write(inbox->fd, &count, sizeof count) : read(inbox->fd, &count, sizeof count);
    if (done == sizeof count)
        inbox->signalled = ready;
}

/* Lock held. Whether a reader has yet to learn that there is something to read. */
static bool is_awaited(const nh_inbox *inbox) {
    return inbox->waiting > 0 || (inbox->fd >= 0 && !inbox->signalled);
}

/* Lock held. Takes a reader off those that sleep, for the caller to wake; false when none does. */
static bool take_waiting(nh_inbox *inbox) {
    if (inbox->waiting == 0)
        return false;
    inbox->waiting--;
    return true;
}

/* Wakes a reader if there still is something to read, and drops the gathered reference. */
static void give(nh_inbox *inbox) {
    pthread_mutex_lock(&inbox->lock);
    show(inbox);
    bool wake = inbox->head && take_waiting(inbox);
    pthread_mutex_unlock(&inbox->lock);
    if (wake)
        sem_post(&inbox->wakes);
    release_memory(inbox);
}

void nh_wakes_gather(void) {
    wakes.on = true;
}

void nh_wakes_give(void) {
    wakes.posts = 0;
    while (wakes.count > 0)
        give(wakes.inboxes[--wakes.count]);
}

void nh_wakes_end(void) {
    nh_wakes_give();
    wakes.on = false;
}

/* Lock held. Notes the inbox for the next give; false when its reader is to be woken at once. */
static bool gather(nh_inbox *inbox) {
    if (!wakes.on)
        return false;
    if (++wakes.posts > WAKES_MOST) {
        wakes.posts = 0;
        return false;
    }
    for (size_t i = 0; i < wakes.count; i++)
        if (wakes.inboxes[i] == inbox)
            return true;
    if (wakes.count == WAKES_INBOXES)
        return false;
    atomic_fetch_add_explicit(&inbox->memory, 1, memory_order_relaxed);
    wakes.inboxes[wakes.count++] = inbox;
    return true;
}

static nh_watcher *take(nh_inbox *inbox) {
    nh_watcher *watcher = inbox->head;
    inbox->head = watcher->next;
    if (!inbox->head)
        inbox->tail = &inbox->head;
    watcher->next = NULL;
    watcher->queued = false;
    return watcher;
}

void nh_inbox_unref(nh_inbox *inbox) {
    if (!inbox || atomic_fetch_sub_explicit(&inbox->users, 1, memory_order_acq_rel) != 1)
        return;
    nh_watcher *complete = NULL;
    pthread_mutex_lock(&inbox->lock);
    inbox->closed = true;
    while (inbox->head) {
        nh_watcher *watcher = take(inbox);
        if (watcher->kinds & NH_EVENT_COMPLETE) {
            watcher->next = complete;
            complete = watcher;
        }
    }
    pthread_mutex_unlock(&inbox->lock);
    while (complete) {
        nh_watcher *next = complete->next;
        free_watcher(complete);
        complete = next;
    }
    release_memory(inbox);
}

int nh_inbox_fd(nh_inbox *inbox) {
    pthread_mutex_lock(&inbox->lock);
    if (inbox->fd < 0)
        inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    show(inbox);
    int fd = inbox->fd;
    pthread_mutex_unlock(&inbox->lock);
    return fd;
}

nh_watcher *nh_watcher_create(nh_inbox *inbox, uint64_t tag, unsigned kinds) {
    nh_watcher *watcher = calloc(1, sizeof *watcher);
    if (!watcher)
        return NULL;
    atomic_fetch_add_explicit(&inbox->memory, 1, memory_order_relaxed);
    watcher->inbox = inbox;
    watcher->tag = tag;
    watcher->wanted = kinds | NH_EVENT_COMPLETE;
    return watcher;
}

void nh_watcher_post(nh_watcher *watcher, nh_event_kind kind) {
    nh_inbox *inbox = watcher->inbox;
    if (!(watcher->wanted & kind))
        return;
    pthread_mutex_lock(&inbox->lock);
    bool closed = inbox->closed;
    if (!closed) {
        watcher->kinds |= kind;
        if (!watcher->queued) {
            watcher->queued = true;
            *inbox->tail = watcher;
            inbox->tail = &watcher->next;
            if (is_awaited(inbox) && !gather(inbox)) {
                if (take_waiting(inbox))
                    sem_post(&inbox->wakes); /* under the lock: behind it the inbox may be gone */
                show(inbox);
            }
        }
    }
    pthread_mutex_unlock(&inbox->lock);
    if (closed && kind == NH_EVENT_COMPLETE)
        free_watcher(watcher);
}

/* Lock held, given back meanwhile. Sleeps until woken or `due`; false when it is too late. */
static bool sleep_until(nh_inbox *inbox, uint64_t due) {
    inbox->waiting++;
    pthread_mutex_unlock(&inbox->lock);
    bool woken = nh_sem_wait(&inbox->wakes, due);
    pthread_mutex_lock(&inbox->lock);
    /* When nobody is left to be taken off, a wake-up is on its way to this one after all. */
    if (!woken && !take_waiting(inbox)) {
        pthread_mutex_unlock(&inbox->lock);
        nh_sem_wait(&inbox->wakes, UINT64_MAX);
        pthread_mutex_lock(&inbox->lock);
    }
    return woken;
}

nh_err nh_inbox_next(nh_inbox *inbox, double seconds, nh_event *event) {
    uint64_t due = seconds == 0 ? 0 : nh_after(nh_monotonic(), seconds);
    nh_err result = NH_OK;
    nh_watcher *spent = NULL;
    pthread_mutex_lock(&inbox->lock);
    while (!inbox->head && !inbox->interrupted && result == NH_OK)
        if (seconds == 0 || !sleep_until(inbox, due))
            result = NH_E_TIMEOUT;
    if (inbox->head) {
        nh_watcher *watcher = take(inbox);
        *event = (nh_event){.kinds = watcher->kinds, .tag = watcher->tag};
        watcher->kinds = 0;
        if (event->kinds & NH_EVENT_COMPLETE)
            spent = watcher;
        result = NH_OK;
    } else if (inbox->interrupted) {
        inbox->interrupted = false;
        result = NH_E_CANCELLED;
    }
    show(inbox);
    bool others = inbox->head && take_waiting(inbox); /* who wakes, wakes one for all there is */
    pthread_mutex_unlock(&inbox->lock);
    if (others)
        sem_post(&inbox->wakes);
    if (spent)
        free_watcher(spent);
    return result;
}

void nh_inbox_interrupt(nh_inbox *inbox) {
    pthread_mutex_lock(&inbox->lock);
    inbox->interrupted = true;
    if (take_waiting(inbox))
        sem_post(&inbox->wakes);
    show(inbox);
    pthread_mutex_unlock(&inbox->lock);
}
