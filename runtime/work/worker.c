/* worker.c — the thread between the queue and the network.
 *
 * A turn of a worker: read its mailbox (cancellations) → take messages while there is room → start
 * a task for each → let the loop handle descriptors, timers and what is deferred, which resumes
 * tasks. Everything but the mailbox and a few atomic figures belongs to the worker's own thread.
 *
 * What a task waits for is operation.c's. Tasks come from a free list, bounded by the in-flight
 * limit. A task that only sleeps (a script's sleep, a retry's backoff) is not in flight: it holds
 * no socket and keeps no other message waiting, and has a limit of its own. Sleeping: the worker
 * raises `sleeping`, looks at the queue once more and only then waits, while a sender puts its
 * message in and then looks for `sleeping`; so one of the two always sees the other. One without
 * room does the same with `full`, and has the pool look for others.
 *
 * The scripts are replaced while messages flow: a new generation is opened between two turns and
 * gets all messages from then on; the one before lives until its last task has ended or its time to
 * drain is over.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/log.h"
#include "runtime/work/worker_parts.h"

enum { TAKE_MOST = 32 };

/* ------------------------------------------------------------------- tasks */

static void stop_task(task *t, nh_err reason) {
    nh_operations *operations = t->worker->operations;
    if (t->handle && reason == NH_E_CLOSED)
        atomic_store_explicit(&t->handle->stays, true, memory_order_relaxed);
    nh_operations_enter(operations, &t->actor);
    t->worker->work->ops->task_stop(t->generation->vm, &t->actor.base, reason);
    nh_operations_left(operations);
}

static void deadline_passed(nh_timer *timer) {
    task *t = (task *)((char *)timer - offsetof(task, deadline));
    stop_task(t, t->routed ? NH_E_TIMEOUT : nh_handle_deadline_reason(t->handle));
}

/* When a message could first have gone. `zero` is the wall clock's time at monotonic 0. */
static uint64_t ready_at(const nh_message *message, double zero) {
    double due = nh_message_times(message)->deliver_at;
    double at = due > message->created_at ? due : message->created_at;
    return at > zero ? (uint64_t)((at - zero) * (double)NH_SECOND) : 0;
}

static void start_task(nh_worker *worker, nh_handle *handle, double zero) {
    task *t = worker->free_tasks;
    if (t)
        worker->free_tasks = t->next;
    else if (!(t = malloc(sizeof *t))) {
        nh_handle_settle(handle, NULL, NH_E_INTERNAL);
        return;
    }
    const nh_message *message = nh_message_of(handle);
    *t = (task){.actor = {.operations = worker->operations,
                          .vm = worker->current->vm,
                          .priority = message->priority,
                          .flow = message->flow,
                          .ready = ready_at(message, zero),
                          .row = handle->row},
                .worker = worker,
                .generation = worker->current,
                .handle = handle};
    t->message = (nh_task_message){.id = nh_message_id(message),
                                   .bytes = message->bytes,
                                   .length = message->length,
                                   .created_at = message->created_at,
                                   .attempts = handle->attempts,
                                   .durable = handle->row != 0};
    t->next = &worker->tasks;
    t->prev = worker->tasks.prev;
    t->prev->next = t->next->prev = t;
    handle->task = t;
    t->deadline.fire = deadline_passed;
    t->generation->tasks++;
    nh_actor_begin(&t->actor);
    uint64_t deadline = nh_times_of(handle)->deadline;
    if (deadline != UINT64_MAX) {
        uint64_t now = nh_loop_now(worker->loop);
        double left = deadline > now ? (double)(deadline - now) / NH_SECOND : 0;
        if (nh_timer_start(worker->loop, &t->deadline, left) != NH_OK) {
            nh_worker_settle(t, NULL, NH_E_INTERNAL);
            nh_worker_forget(t);
            return;
        }
    }
    nh_operations_enter(worker->operations, &t->actor);
    worker->work->ops->task_start(t->generation->vm, &t->actor.base, &t->message);
    nh_operations_left(worker->operations);
}

static size_t room(const nh_worker *worker) {
    size_t in_flight = nh_operations_in_flight(worker->operations);
    return in_flight < worker->work->in_flight &&
                   nh_operations_asleep(worker->operations) < worker->work->sleepers
               ? worker->work->in_flight - in_flight
               : 0;
}

/* ------------------------------------------------------------- generations */

/* Ends what still runs in a replaced generation: it had its time. */
static void drain_over(nh_timer *timer) {
    generation *old = (generation *)((char *)timer - offsetof(generation, drain));
    task *head = &old->worker->tasks;
    for (task *t = head->next; old->tasks > 0 && t != head;)
        if (t->generation == old) {
            stop_task(t, NH_E_SCRIPT);
            t = head->next; /* what a stop calls may have changed the ring */
        } else
            t = t->next;
}

/* What older scripts still run has until `drain`. A vm that was replaced only because it was worn
 * has all the time that it wants. */
static void limit_drain(nh_worker *worker) {
    for (generation *old = worker->replaced; old; old = old->next)
        if (old->number != worker->current->number && old->tasks > 0 && old->drain.position == 0)
            /* without memory for the timer it would only live longer */
            nh_timer_start(worker->loop, &old->drain, worker->work->drain);
}

static nh_err open_generation(nh_worker *worker, nh_error *error) {
    const nh_engine_ops *ops = worker->work->ops;
    generation *made = calloc(1, sizeof *made);
    if (!made)
        return nh_fail_memory(error);
    made->number = ops->generation(worker->work->engine);
    made->worker = worker;
    made->drain.fire = drain_over;
    nh_err failed = ops->vm_open(worker->work->engine, &nh_worker_host, &made->vm, error);
    if (failed) {
        free(made);
        return failed;
    }
    if (worker->current) {
        worker->current->next = worker->replaced;
        worker->replaced = worker->current;
    }
    worker->current = made;
    limit_drain(worker);
    return NH_OK;
}

static void close_generation(nh_worker *worker, generation *old) {
    nh_timer_stop(worker->loop, &old->drain);
    worker->work->ops->vm_close(old->vm);
    free(old);
}

static bool is_outdated(const nh_worker *worker) {
    return worker->work->ops->generation(worker->work->engine) != worker->current->number;
}

/* Opens the generation that was published last. One that cannot be opened is told once, not each
 * turn: the one that runs goes on. */
static void follow_newest(nh_worker *worker) {
    uint64_t newest = worker->work->ops->generation(worker->work->engine);
    nh_error error;
    if (newest == worker->broken || open_generation(worker, &error) == NH_OK)
        return;
    worker->broken = newest;
    nh_log_write(worker->work->log, NH_LOG_ERROR, "a worker could not load the rules",
                 nh_log_text("error", error.message));
}

/* Opens a generation that was published, or a fresh vm for a worn one, and closes those that have
 * drained. */
static void renew(nh_worker *worker) {
    if (is_outdated(worker) || worker->work->ops->vm_worn(worker->current->vm))
        follow_newest(worker);
    for (generation **link = &worker->replaced; *link;) {
        generation *old = *link;
        if (old->tasks > 0) {
            link = &old->next;
            continue;
        }
        *link = old->next;
        close_generation(worker, old);
    }
}

/* ------------------------------------------------------------------ taking */

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
    if (count > 0 && worker->work->store && left <= worker->work->low)
        worker->work->refill(worker->work);
    if (count > 0 && is_outdated(worker)) /* who reloads and then sends means the new rules */
        follow_newest(worker);
    double zero = count > 0 ? nh_wall() - (double)nh_monotonic() / (double)NH_SECOND : 0;
    for (size_t i = 0; i < count; i++)
        start_task(worker, handles[i], zero);
}

/* ----------------------------------------------------------------- mailbox */

static void read_mail(nh_worker *worker) {
    if (!atomic_load_explicit(&worker->mail, memory_order_relaxed))
        return;
    pthread_mutex_lock(&worker->lock);
    nh_handle *mail = atomic_exchange_explicit(&worker->mail, NULL, memory_order_relaxed);
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
    handle->mail_next = atomic_load_explicit(&worker->mail, memory_order_relaxed);
    atomic_store_explicit(&worker->mail, handle, memory_order_relaxed);
    nh_loop *loop =
        worker->loop; /* NULL once the thread has gone, and then the handle has settled */
    if (loop)
        nh_loop_wake(loop);
    pthread_mutex_unlock(&worker->lock);
}

void nh_worker_wake(nh_worker *worker) {
    pthread_mutex_lock(&worker->lock);
    if (worker->loop)
        nh_loop_wake(worker->loop);
    pthread_mutex_unlock(&worker->lock);
}

bool nh_worker_full(const nh_worker *worker) {
    return atomic_load_explicit(&worker->full, memory_order_seq_cst);
}

bool nh_worker_offer(nh_worker *worker) {
    if (!atomic_load_explicit(&worker->sleeping, memory_order_seq_cst) ||
        !atomic_exchange_explicit(&worker->sleeping, false, memory_order_seq_cst))
        return false;
    nh_worker_wake(worker);
    return true;
}

/* ------------------------------------------------------------------ thread */

static void rest(nh_worker *worker) {
    bool idle = worker->tasks.next == &worker->tasks;
    uint64_t since = atomic_load_explicit(&worker->idle_since, memory_order_relaxed);
    if (idle != (since != UINT64_MAX))
        atomic_store_explicit(&worker->idle_since, idle ? nh_loop_now(worker->loop) : UINT64_MAX,
                              memory_order_relaxed);
    double seconds = -1;
    /* One that ends takes nothing more: an offer to it would be one that nobody else gets. */
    if (room(worker) > 0 && atomic_load_explicit(&worker->stopping, memory_order_acquire) == 0) {
        atomic_store_explicit(&worker->sleeping, true, memory_order_seq_cst);
        if (nh_queue_ready(worker->work->queue) > 0)
            seconds = 0;
    } else {
        atomic_store_explicit(&worker->full, true, memory_order_seq_cst);
        if (nh_queue_ready(worker->work->queue) > 0)
            worker->work->more(worker->work);
    }
    nh_loop_turn(worker->loop, seconds);
    atomic_store_explicit(&worker->sleeping, false, memory_order_seq_cst);
    atomic_store_explicit(&worker->full, false, memory_order_relaxed);
    /* Here, where the worker is about to look for messages and need not be woken for them: who
     * sends and waits has often sent the next by then. */
    nh_wakes_give();
}

static void run(nh_worker *worker) {
    for (;;) {
        int stopping = atomic_load_explicit(&worker->stopping, memory_order_acquire);
        nh_operations_take_grants(worker->operations);
        read_mail(worker);
        renew(worker);
        if (stopping == 0)
            take_messages(worker);
        while (stopping == 2 && worker->tasks.next != &worker->tasks) {
            worker->closed += worker->tasks.next->handle != NULL;
            stop_task(worker->tasks.next, NH_E_CLOSED);
        }
        if (stopping > 0 && worker->tasks.next == &worker->tasks &&
            !nh_operations_owed(worker->operations)) {
            if (nh_queue_ready(worker->work->queue) > 0)
                worker->work->more(worker->work); /* an offer may have come to us in vain */
            return;
        }
        rest(worker);
        size_t memory = worker->work->ops->vm_memory(worker->current->vm);
        for (generation *old = worker->replaced; old; old = old->next)
            memory += worker->work->ops->vm_memory(old->vm);
        atomic_store_explicit(&worker->memory, memory, memory_order_relaxed);
    }
}

static nh_err come_up(nh_worker *worker, nh_error *error) {
    nh_loop *loop = nh_loop_create(error);
    if (!loop)
        return NH_E_INTERNAL;
    worker->broken = 0;
    nh_err failed = open_generation(worker, error);
    if (failed) {
        nh_loop_destroy(loop);
        return failed;
    }
    nh_operations_open(worker->operations, loop);
    pthread_mutex_lock(&worker->lock);
    worker->loop = loop;
    pthread_mutex_unlock(&worker->lock);
    return NH_OK;
}

static void go_down(nh_worker *worker) {
    nh_operations_close(worker->operations);
    while (worker->replaced) {
        generation *old = worker->replaced;
        worker->replaced = old->next;
        close_generation(worker, old);
    }
    close_generation(worker, worker->current);
    worker->current = NULL;
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

nh_worker *nh_worker_create(nh_work *work, unsigned place, nh_error *error) {
    nh_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        goto fail;
    worker->work = work;
    worker->tasks.next = worker->tasks.prev = &worker->tasks;
    atomic_init(&worker->idle_since, UINT64_MAX);
    worker->operations = nh_operations_create(work, place);
    if (!worker->operations || pthread_mutex_init(&worker->lock, NULL) != 0)
        goto fail_operations;
    if (nh_cond_init(&worker->changed) != 0)
        goto fail_lock;
    return worker;
fail_lock:
    pthread_mutex_destroy(&worker->lock);
fail_operations:
    nh_operations_destroy(worker->operations);
fail:
    free(worker);
    nh_fail_memory(error);
    return NULL;
}

void nh_worker_destroy(nh_worker *worker) {
    if (!worker)
        return;
    for (nh_handle *mail = atomic_load(&worker->mail); mail;) {
        nh_handle *handle = mail;
        mail = handle->mail_next;
        nh_handle_unref(handle);
    }
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    nh_operations_destroy(worker->operations);
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
    nh_worker_wake(worker);
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
    return nh_operations_in_flight(worker->operations);
}

size_t nh_worker_asleep(const nh_worker *worker) {
    return nh_operations_asleep(worker->operations);
}

uint64_t nh_worker_idle_since(const nh_worker *worker) {
    return atomic_load_explicit(&worker->idle_since, memory_order_relaxed);
}

size_t nh_worker_memory(const nh_worker *worker) {
    return atomic_load_explicit(&worker->memory, memory_order_relaxed);
}
