/* inbox.c — a queue of watchers that have something to tell.
 *
 * Any thread posts, one consumer at a time reads (several may: each event goes to one of them). Two
 * counts keep it: `users` are the program's references; when the last goes the inbox is closed and
 * keeps nothing more, while `memory` also counts the watchers that still hang on unsettled handles.
 * The eventfd exists only once somebody asked for it, so a consumer that blocks in nh_inbox_next
 * pays no system call for it.
 */
#include "runtime/core/inbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/core/clock.h"

struct nh_inbox {
    atomic_uint users;
    atomic_uint memory;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    nh_watcher *head, **tail;
    unsigned waiting; /* readers inside nh_inbox_next */
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
    if (nh_cond_init(&inbox->filled) != 0)
        goto fail_lock;
    return inbox;
fail_lock:
    pthread_mutex_destroy(&inbox->lock);
fail:
    free(inbox);
    return NULL;
}

static void release_memory(nh_inbox *inbox) {
    if (atomic_fetch_sub_explicit(&inbox->memory, 1, memory_order_acq_rel) != 1)
        return;
    if (inbox->fd >= 0)
        close(inbox->fd);
    pthread_cond_destroy(&inbox->filled);
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

nh_watcher *nh_watcher_create(nh_inbox *inbox, uint64_t tag) {
    nh_watcher *watcher = calloc(1, sizeof *watcher);
    if (!watcher)
        return NULL;
    atomic_fetch_add_explicit(&inbox->memory, 1, memory_order_relaxed);
    watcher->inbox = inbox;
    watcher->tag = tag;
    return watcher;
}

void nh_watcher_post(nh_watcher *watcher, nh_event_kind kind) {
    nh_inbox *inbox = watcher->inbox;
    pthread_mutex_lock(&inbox->lock);
    bool closed = inbox->closed;
    if (!closed) {
        watcher->kinds |= kind;
        if (!watcher->queued) {
            watcher->queued = true;
            *inbox->tail = watcher;
            inbox->tail = &watcher->next;
            if (inbox->waiting > 0)
                pthread_cond_signal(&inbox->filled);
            show(inbox);
        }
    }
    pthread_mutex_unlock(&inbox->lock);
    if (closed && kind == NH_EVENT_COMPLETE)
        free_watcher(watcher);
}

nh_err nh_inbox_next(nh_inbox *inbox, double seconds, nh_event *event) {
    uint64_t due = seconds == 0 ? 0 : nh_after(nh_monotonic(), seconds);
    nh_err result = NH_OK;
    nh_watcher *spent = NULL;
    pthread_mutex_lock(&inbox->lock);
    inbox->waiting++;
    while (!inbox->head && !inbox->interrupted && result == NH_OK)
        if (seconds == 0 || nh_cond_wait(&inbox->filled, &inbox->lock, due) == ETIMEDOUT)
            result = NH_E_TIMEOUT;
    inbox->waiting--;
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
    pthread_mutex_unlock(&inbox->lock);
    if (spent)
        free_watcher(spent);
    return result;
}

void nh_inbox_interrupt(nh_inbox *inbox) {
    pthread_mutex_lock(&inbox->lock);
    inbox->interrupted = true;
    pthread_cond_signal(&inbox->filled);
    show(inbox);
    pthread_mutex_unlock(&inbox->lock);
}
