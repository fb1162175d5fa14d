/* worker_host.c — what a task asks of its worker, but for what it waits for (operation.c), and how
 * it settles. Thread: the worker's.
 */
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/metrics.h"
#include "runtime/work/health.h"
#include "runtime/work/worker_parts.h"

static task *task_of(nh_task *base) {
    return (task *)base;
}

static nh_err host_deadline(nh_task *base, double seconds, nh_error *error) {
    task *t = task_of(base);
    nh_loop *loop = t->worker->loop;
    uint64_t now = nh_loop_now(loop), own = t->handle ? nh_times_of(t->handle)->deadline : 0;
    if (own <= now || (own != UINT64_MAX && (double)(own - now) / NH_SECOND <= seconds))
        return NH_OK;
    t->routed = true;
    return nh_timer_start(loop, &t->deadline, seconds) == NH_OK ? NH_OK : nh_fail_memory(error);
}

static void host_progress(nh_task *base, uint32_t done, uint32_t total) {
    nh_handle *handle = task_of(base)->handle;
    if (!handle)
        return;
    atomic_store_explicit(&handle->done, done, memory_order_relaxed);
    atomic_store_explicit(&handle->total, total, memory_order_relaxed);
    nh_handle_tell(handle, NH_EVENT_PROGRESS);
}

static void host_retrying(nh_task *base, const char *platform, uint32_t attempts) {
    task *t = task_of(base);
    nh_store *store = t->worker->work->store;
    if (t->worker->work->metrics)
        nh_metrics_retry(t->worker->work->metrics, platform, strlen(platform));
    atomic_fetch_add_explicit(&t->worker->work->retries, 1, memory_order_relaxed);
    if (!t->handle)
        return;
    if (t->handle->row && attempts > t->handle->attempts) {
        t->handle->attempts = attempts;
        store->ops->nack(store, t->handle->row,
                         &(nh_store_nack){.delay = -1, .attempts = attempts});
    }
    atomic_fetch_add_explicit(&t->handle->retries, 1, memory_order_relaxed);
    nh_handle_tell(t->handle, NH_EVENT_RETRY);
}

static void host_attempted(nh_task *base, const nh_attempt *attempt) {
    nh_worker *worker = task_of(base)->worker;
    const nh_health_attempt note = {.code = attempt->code,
                                    .text = attempt->text,
                                    .length = attempt->text ? strlen(attempt->text) : 0,
                                    .seconds = attempt->seconds,
                                    .lane = attempt->lane};
    uint64_t now = nh_loop_now(worker->loop);
    double wall = nh_wall();
    if (worker->work->health) {
        nh_health_note(worker->work->health, NH_HEALTH_PLATFORM, attempt->account,
                       strlen(attempt->account), &note, now, wall);
        nh_health_note(worker->work->health, NH_HEALTH_TARGET, attempt->target,
                       strlen(attempt->target), &note, now, wall);
    }
    if (worker->work->metrics)
        nh_metrics_attempt(worker->work->metrics, attempt->platform, strlen(attempt->platform),
                           attempt->code, attempt->seconds);
}

static double host_score(nh_task *base, const char *account) {
    nh_worker *worker = task_of(base)->worker;
    return worker->work->health ? nh_health_score(worker->work->health, NH_HEALTH_PLATFORM, account,
                                                  strlen(account), nh_loop_now(worker->loop))
                                : 0.5;
}

void nh_worker_settle(task *t, nh_receipt *receipt, nh_err reason) {
    nh_handle *handle = t->handle;
    nh_timer_stop(t->worker->loop, &t->deadline);
    t->handle = NULL;
    handle->task = NULL;
    nh_handle_settle(handle, receipt, reason);
}

void nh_worker_forget(task *t) {
    nh_worker *worker = t->worker;
    t->prev->next = t->next;
    t->next->prev = t->prev;
    t->next = worker->free_tasks;
    worker->free_tasks = t;
    t->generation->tasks--;
    nh_actor_end(&t->actor);
}

static void host_settle(nh_task *base, nh_status status, const nh_packed *packed, bool more) {
    task *t = task_of(base);
    nh_receipt *receipt = packed ? nh_handle_make_receipt(t->handle, status, packed) : NULL;
    if (more)
        t->worker->work->linger(t->worker->work, 1);
    nh_worker_settle(t, receipt, NH_E_INTERNAL);
    if (!more)
        nh_worker_forget(t);
}

static void host_end(nh_task *base) {
    nh_work *work = task_of(base)->worker->work;
    nh_worker_forget(task_of(base));
    work->linger(work, -1);
}

const nh_host nh_worker_host = {
    .request = nh_operation_request,
    .drop = nh_request_unref,
    .transfer = nh_operation_transfer,
    .sleep = nh_operation_sleep,
    .deadline = host_deadline,
    .op_cancel = nh_operation_cancel,
    .admit = nh_operation_admit,
    .pause = nh_operation_pause,
    .progress = host_progress,
    .retrying = host_retrying,
    .attempted = host_attempted,
    .score = host_score,
    .settle = host_settle,
    .end = host_end,
};
