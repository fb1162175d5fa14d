/* worker.c — the thread between the queue and the network.
 *
 * A turn of a worker: read its mailbox (cancellations) → take messages while there is room → start
 * a task for each → let the loop handle descriptors, timers and what is deferred, which resumes
 * tasks. Everything but the mailbox and a few atomic figures belongs to the worker's own thread.
 *
 * A task asks for operations (nh_host): a transfer or a sleep becomes a `pending`, which ends by a
 * deferred call, so that neither a transport nor the engine is ever re-entered. Tasks and pendings
 * come from free lists, bounded by the in-flight limit. Sleeping: the worker raises `sleeping`,
 * looks at the queue once more and only then waits, while a sender puts its message in and then
 * looks for `sleeping`; so one of the two always sees the other.
 */
#include "runtime/work/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

enum { TAKE_MOST = 32, TRANSPORTS_MOST = 8 };

typedef struct task {
    nh_task base; /* first: the engine sees only this */
    nh_worker *worker;
    nh_handle *handle; /* its own reference is this task's */
    nh_task_message message;
    nh_timer deadline;
    struct task *next, *prev; /* live tasks; `next` in the free list */
} task;

typedef struct pending {
    nh_op *op;
    nh_worker *worker;
    nh_deferred ended;
    nh_doc *request;  /* kept for the transport */
    nh_doc *response; /* once it is there */
    union {
        nh_transfer transfer;
        nh_timer timer;
        struct pending *next; /* in the free list */
    };
    int transport; /* -1 for a sleep */
    bool started;  /* the transport or the timer still has it */
} pending;

struct nh_worker {
    nh_work *work;
    pthread_t thread;
    bool started; /* the owner's view: start and join pair up */

    /* The thread's own. */
    nh_loop *loop;
    nh_vm *vm;
    nh_transport *transports[TRANSPORTS_MOST];
    task tasks; /* head of the ring of live tasks */
    task *free_tasks;
    pending *free_pendings;
    size_t closed; /* messages settled as closed */

    /* The mailbox. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the thread has come up or failed to */
    nh_handle *mail;        /* to cancel; each with a reference */
    bool up;
    nh_error fault;

    atomic_bool sleeping;
    atomic_int stopping; /* 0, 1 patient, 2 now */
    atomic_bool ended;
    _Atomic size_t in_flight;
    _Atomic uint64_t idle_since;
    _Atomic size_t memory;
};

static task *task_of(nh_task *base) {
    return (task *)base;
}

/* ------------------------------------------------------------- operations */

static pending *take_pending(nh_worker *worker, nh_op *op) {
    pending *p = worker->free_pendings;
    if (p)
        worker->free_pendings = p->next;
    else if (!(p = malloc(sizeof *p)))
        return NULL;
    memset(p, 0, sizeof *p);
    p->op = op;
    p->worker = worker;
    op->pending = p;
    return p;
}

static void free_pending(pending *p) {
    nh_worker *worker = p->worker;
    p->op->pending = NULL;
    nh_doc_unref(p->request);
    nh_doc_unref(p->response);
    p->next = worker->free_pendings;
    worker->free_pendings = p;
}

static void pending_ended(nh_deferred *deferred) {
    pending *p = (pending *)((char *)deferred - offsetof(pending, ended));
    nh_worker *worker = p->worker;
    nh_op *op = p->op;
    nh_doc *response = p->response;
    p->response = NULL;
    free_pending(p);
    worker->work->ops->op_done(worker->vm, op, response);
    nh_doc_unref(response);
}

static void transfer_done(nh_transfer *transfer, nh_doc *response) {
    pending *p = (pending *)((char *)transfer - offsetof(pending, transfer));
    p->response = response;
    p->started = false;
    nh_loop_defer(p->worker->loop, &p->ended);
}

static void sleep_over(nh_timer *timer) {
    pending *p = (pending *)((char *)timer - offsetof(pending, timer));
    p->started = false;
    nh_loop_defer(p->worker->loop, &p->ended);
}

/* The worker's instance of a transport, opened at its first use; -1 and an error otherwise. */
static int find_transport(nh_worker *worker, const char *name, nh_error *error) {
    const nh_transport_ops *const *all = worker->work->transports;
    for (int i = 0; i < TRANSPORTS_MOST && all[i]; i++) {
        if (strcmp(all[i]->name, name) != 0)
            continue;
        if (!worker->transports[i] && all[i]->open(worker->loop, &worker->work->limits,
                                                   &worker->transports[i], error) != NH_OK)
            return -1;
        return i;
    }
    nh_fail(error, NH_E_CONFIG, "there is no transport named '%s'", name);
    return -1;
}

static nh_err host_transfer(nh_op *op, const char *name, nh_doc *request, nh_error *error) {
    nh_worker *worker = task_of(op->task)->worker;
    nh_err failed = nh_request_check(nh_doc_root(request), error);
    int index = failed ? -1 : find_transport(worker, name, error);
    pending *p = index < 0 ? NULL : take_pending(worker, op);
    if (!p) {
        nh_doc_unref(request);
        return failed ? failed : index < 0 ? NH_E_CONFIG : nh_fail_memory(error);
    }
    p->request = request;
    p->transport = index;
    p->started = true;
    p->ended.call = pending_ended;
    p->transfer.done = transfer_done;
    worker->work->transports[index]->start(worker->transports[index], &p->transfer,
                                           nh_doc_root(request));
    return NH_OK;
}

static nh_err host_sleep(nh_op *op, double seconds, nh_error *error) {
    nh_worker *worker = task_of(op->task)->worker;
    pending *p = take_pending(worker, op);
    if (!p)
        return nh_fail_memory(error);
    p->transport = -1;
    p->ended.call = pending_ended;
    p->timer.fire = sleep_over;
    p->started = true;
    if (nh_timer_start(worker->loop, &p->timer, seconds) != NH_OK) {
        free_pending(p);
        return nh_fail_memory(error);
    }
    return NH_OK;
}

static void host_op_cancel(nh_op *op) {
    pending *p = op->pending;
    if (!p)
        return;
    nh_worker *worker = p->worker;
    if (p->started && p->transport >= 0)
        worker->work->transports[p->transport]->cancel(worker->transports[p->transport],
                                                       &p->transfer);
    else if (p->started)
        nh_timer_stop(worker->loop, &p->timer);
    nh_loop_undefer(&p->ended);
    free_pending(p);
}

static void host_progress(nh_task *base, uint32_t done, uint32_t total) {
    nh_handle *handle = task_of(base)->handle;
    atomic_store_explicit(&handle->done, done, memory_order_relaxed);
    atomic_store_explicit(&handle->total, total, memory_order_relaxed);
    nh_handle_tell(handle, NH_EVENT_PROGRESS);
}

static void host_retrying(nh_task *base) {
    task *t = task_of(base);
    atomic_fetch_add_explicit(&t->handle->retries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->worker->work->retries, 1, memory_order_relaxed);
    nh_handle_tell(t->handle, NH_EVENT_RETRY);
}

static void end_task(task *t, nh_receipt *receipt, nh_err reason) {
    nh_worker *worker = t->worker;
    nh_handle *handle = t->handle;
    nh_timer_stop(worker->loop, &t->deadline);
    t->prev->next = t->next;
    t->next->prev = t->prev;
    t->next = worker->free_tasks;
    worker->free_tasks = t;
    handle->task = NULL;
    atomic_fetch_sub_explicit(&worker->in_flight, 1, memory_order_relaxed);
    nh_handle_settle(handle, receipt, reason);
}

static void host_settle(nh_task *base, nh_status status, nh_doc *doc) {
    nh_receipt *receipt = doc ? nh_receipt_create(status, doc) : NULL;
    end_task(task_of(base), receipt, NH_E_INTERNAL);
}

static const nh_host host = {
    .transfer = host_transfer,
    .sleep = host_sleep,
    .op_cancel = host_op_cancel,
    .progress = host_progress,
    .retrying = host_retrying,
    .settle = host_settle,
};

/* ------------------------------------------------------------------- tasks */

static void stop_task(task *t, nh_err reason) {
    t->worker->work->ops->task_stop(t->worker->vm, &t->base, reason);
}

static void deadline_passed(nh_timer *timer) {
    task *t = (task *)((char *)timer - offsetof(task, deadline));
    stop_task(t, nh_handle_deadline_reason(t->handle));
}

static void start_task(nh_worker *worker, nh_handle *handle) {
    task *t = worker->free_tasks;
    if (t)
        worker->free_tasks = t->next;
    else if (!(t = malloc(sizeof *t))) {
        nh_handle_settle(handle, NULL, NH_E_INTERNAL);
        return;
    }
    const nh_message *message = handle->message;
    *t = (task){.worker = worker, .handle = handle};
    t->message = (nh_task_message){.id = message->id,
                                   .bytes = message->bytes,
                                   .length = message->length,
                                   .created_at = message->created_at};
    t->next = &worker->tasks;
    t->prev = worker->tasks.prev;
    t->prev->next = t->next->prev = t;
    handle->task = t;
    t->deadline.fire = deadline_passed;
    atomic_fetch_add_explicit(&worker->in_flight, 1, memory_order_relaxed);
    if (handle->deadline != UINT64_MAX) {
        uint64_t now = nh_loop_now(worker->loop);
        double left = handle->deadline > now ? (double)(handle->deadline - now) / NH_SECOND : 0;
        if (nh_timer_start(worker->loop, &t->deadline, left) != NH_OK) {
            end_task(t, NULL, NH_E_INTERNAL);
            return;
        }
    }
    worker->work->ops->task_start(worker->vm, &t->base, &t->message);
}

static size_t room(const nh_worker *worker) {
    size_t in_flight = atomic_load_explicit(&worker->in_flight, memory_order_relaxed);
    return in_flight < worker->work->in_flight ? worker->work->in_flight - in_flight : 0;
}

/* Takes a few at a time: the rest stays for workers that may be less busy, and in the order of its
 * priority. */
static void take_messages(nh_worker *worker) {
    nh_handle *handles[TAKE_MOST];
    size_t most = room(worker) < TAKE_MOST ? room(worker) : TAKE_MOST;
    if (most == 0 || nh_queue_ready(worker->work->queue) == 0)
        return;
    size_t left;
    size_t count = nh_queue_take(worker->work->queue, worker, handles, most, &left);
    if (count > 0) /* tasks that end in this very turn are work, too: rest() tells idleness anew */
        atomic_store_explicit(&worker->idle_since, UINT64_MAX, memory_order_relaxed);
    if (count > 0 && left > 0)
        worker->work->more(worker->work);
    for (size_t i = 0; i < count; i++)
        start_task(worker, handles[i]);
}

/* ----------------------------------------------------------------- mailbox */

static void read_mail(nh_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    nh_handle *mail = worker->mail;
    worker->mail = NULL;
    pthread_mutex_unlock(&worker->lock);
    while (mail) {
        nh_handle *next = mail->mail_next;
        task *t = mail->task;
        if (t && nh_handle_state(mail) == NH_RUNNING)
            stop_task(t, NH_E_CANCELLED);
        nh_handle_unref(mail);
        mail = next;
    }
}

void nh_worker_cancel(nh_worker *worker, nh_handle *handle) {
    nh_handle_ref(handle);
    pthread_mutex_lock(&worker->lock);
    handle->mail_next = worker->mail;
    worker->mail = handle;
    nh_loop *loop =
        worker->loop; /* NULL once the thread has gone, and then the handle has settled */
    if (loop)
        nh_loop_wake(loop);
    pthread_mutex_unlock(&worker->lock);
}

bool nh_worker_offer(nh_worker *worker) {
    if (!atomic_load_explicit(&worker->sleeping, memory_order_seq_cst) ||
        !atomic_exchange_explicit(&worker->sleeping, false, memory_order_seq_cst))
        return false;
    pthread_mutex_lock(&worker->lock);
    if (worker->loop)
        nh_loop_wake(worker->loop);
    pthread_mutex_unlock(&worker->lock);
    return true;
}

/* ------------------------------------------------------------------ thread */

static void rest(nh_worker *worker) {
    bool idle = atomic_load_explicit(&worker->in_flight, memory_order_relaxed) == 0;
    uint64_t since = atomic_load_explicit(&worker->idle_since, memory_order_relaxed);
    if (idle != (since != UINT64_MAX))
        atomic_store_explicit(&worker->idle_since, idle ? nh_loop_now(worker->loop) : UINT64_MAX,
                              memory_order_relaxed);
    double seconds = -1;
    if (room(worker) > 0) {
        atomic_store_explicit(&worker->sleeping, true, memory_order_seq_cst);
        if (nh_queue_ready(worker->work->queue) > 0 &&
            atomic_load_explicit(&worker->stopping, memory_order_acquire) == 0)
            seconds = 0;
    }
    nh_loop_turn(worker->loop, seconds);
    atomic_store_explicit(&worker->sleeping, false, memory_order_seq_cst);
}

static void run(nh_worker *worker) {
    for (;;) {
        int stopping = atomic_load_explicit(&worker->stopping, memory_order_acquire);
        read_mail(worker);
        if (stopping == 0)
            take_messages(worker);
        while (stopping == 2 && worker->tasks.next != &worker->tasks) {
            stop_task(worker->tasks.next, NH_E_CLOSED);
            worker->closed++;
        }
        if (stopping > 0 && worker->tasks.next == &worker->tasks) {
            if (nh_queue_ready(worker->work->queue) > 0)
                worker->work->more(worker->work); /* an offer may have come to us in vain */
            return;
        }
        rest(worker);
        atomic_store_explicit(&worker->memory, worker->work->ops->vm_memory(worker->vm),
                              memory_order_relaxed);
    }
}

static nh_err come_up(nh_worker *worker, nh_error *error) {
    nh_loop *loop = nh_loop_create(error);
    if (!loop)
        return NH_E_INTERNAL;
    nh_err failed = worker->work->ops->vm_open(worker->work->engine, &host, &worker->vm, error);
    if (failed) {
        nh_loop_destroy(loop);
        return failed;
    }
    pthread_mutex_lock(&worker->lock);
    worker->loop = loop;
    pthread_mutex_unlock(&worker->lock);
    return NH_OK;
}

static void go_down(nh_worker *worker) {
    for (int i = 0; i < TRANSPORTS_MOST && worker->work->transports[i]; i++)
        if (worker->transports[i]) {
            worker->work->transports[i]->close(worker->transports[i]);
            worker->transports[i] = NULL;
        }
    worker->work->ops->vm_close(worker->vm);
    worker->vm = NULL;
    pthread_mutex_lock(&worker->lock);
    nh_loop *loop = worker->loop;
    worker->loop = NULL;
    pthread_mutex_unlock(&worker->lock);
    read_mail(worker);
    nh_loop_destroy(loop);
    while (worker->free_tasks) {
        task *t = worker->free_tasks;
        worker->free_tasks = t->next;
        free(t);
    }
    while (worker->free_pendings) {
        pending *p = worker->free_pendings;
        worker->free_pendings = p->next;
        free(p);
    }
}

static void *thread_main(void *argument) {
    nh_worker *worker = argument;
    nh_error error = {0};
    nh_err failed = come_up(worker, &error);
    pthread_mutex_lock(&worker->lock);
    worker->up = true;
    worker->fault = error;
    worker->fault.code = failed;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    if (!failed) {
        run(worker);
        go_down(worker);
    }
    atomic_store_explicit(&worker->idle_since, UINT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&worker->ended, true, memory_order_release);
    return NULL;
}

/* -------------------------------------------------------------- life cycle */

nh_worker *nh_worker_create(nh_work *work, nh_error *error) {
    nh_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        goto fail;
    worker->work = work;
    worker->tasks.next = worker->tasks.prev = &worker->tasks;
    atomic_init(&worker->idle_since, UINT64_MAX);
    if (pthread_mutex_init(&worker->lock, NULL) != 0)
        goto fail;
    if (nh_cond_init(&worker->changed) != 0)
        goto fail_lock;
    return worker;
fail_lock:
    pthread_mutex_destroy(&worker->lock);
fail:
    free(worker);
    nh_fail_memory(error);
    return NULL;
}

void nh_worker_destroy(nh_worker *worker) {
    if (!worker)
        return;
    while (worker->mail) {
        nh_handle *handle = worker->mail;
        worker->mail = handle->mail_next;
        nh_handle_unref(handle);
    }
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

/* A host's signals are the host's: the thread takes none, so that a handler never runs on its
 * stack. */
static int spawn(nh_worker *worker) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&worker->thread, NULL, thread_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

nh_err nh_worker_start(nh_worker *worker, nh_error *error) {
    worker->up = false;
    worker->closed = 0;
    atomic_store(&worker->ended, false);
    atomic_store(&worker->stopping, 0);
    int failed = spawn(worker);
    if (failed)
        return nh_fail(error, NH_E_INTERNAL, "worker thread: %s", strerror(failed));
    pthread_mutex_lock(&worker->lock);
    while (!worker->up)
        pthread_cond_wait(&worker->changed, &worker->lock);
    pthread_mutex_unlock(&worker->lock);
    if (worker->fault.code != NH_OK) {
        pthread_join(worker->thread, NULL);
        return nh_fail(error, worker->fault.code, "%s", worker->fault.message);
    }
    worker->started = true;
    return NH_OK;
}

void nh_worker_stop(nh_worker *worker, bool now) {
    atomic_store_explicit(&worker->stopping, now ? 2 : 1, memory_order_release);
    pthread_mutex_lock(&worker->lock);
    if (worker->loop)
        nh_loop_wake(worker->loop);
    pthread_mutex_unlock(&worker->lock);
}

size_t nh_worker_join(nh_worker *worker) {
    pthread_join(worker->thread, NULL);
    worker->started = false;
    return worker->closed;
}

bool nh_worker_running(const nh_worker *worker) {
    return worker->started;
}

bool nh_worker_ended(const nh_worker *worker) {
    return atomic_load_explicit(&worker->ended, memory_order_acquire);
}

size_t nh_worker_in_flight(const nh_worker *worker) {
    return atomic_load_explicit(&worker->in_flight, memory_order_relaxed);
}

uint64_t nh_worker_idle_since(const nh_worker *worker) {
    return atomic_load_explicit(&worker->idle_since, memory_order_relaxed);
}

size_t nh_worker_memory(const nh_worker *worker) {
    return atomic_load_explicit(&worker->memory, memory_order_relaxed);
}
