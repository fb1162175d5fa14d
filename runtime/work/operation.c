/* operation.c — transfers and sleeps, each of which becomes a `pending`.
 *
 * The worker's own thread, except that a slot may be granted in any. A pending ends by a deferred
 * call, so that neither a transport nor the engine is ever re-entered. Pendings come from a free
 * list, bounded by the tasks and what each may have under way. A transfer goes: gate (a slot of its
 * host's lane, the host's breaker) → transport → gate; who waits for the gate or a rate is asleep,
 * not in flight: a host that does not answer keeps no place of other messages.
 */
#include "runtime/work/operation.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

enum { TRANSPORTS_MOST = 8 };
#define REFUSED_SHARE 0.5 /* of what a breaker's refusal says is added by chance, at most */

typedef struct pending {
    nh_op *op; /* NULL: it was cancelled, and only its grant is still to come */
    nh_operations *operations;
    nh_deferred ended;
    nh_request *request; /* kept for the transport, as the body is */
    char *body;
    nh_doc *response; /* once it is there */
    int status;       /* or this instead */
    union {
        nh_transfer transfer;
        nh_timer timer;
    };
    union {
        nh_pass pass; /* a transfer's way through the gate */
        struct {      /* an admission's place in a rate */
            nh_ticket ticket;
            const char *key; /* borrowed */
        };
    };
    struct pending *next; /* in the free list, or in `grants` */
    nh_flow *flow;        /* counted in the queue as one that waits */
    int transport;        /* -1 for a sleep */
    bool waits;           /* for the gate */
    bool admits;          /* sleeps for a rate */
    bool started;         /* the transport or the timer still has it */
} pending;

struct nh_operations {
    nh_work *work;
    unsigned place; /* of the worker */
    nh_loop *loop;
    nh_transport *transports[TRANSPORTS_MOST];
    pending *free;
    size_t owed; /* grants of cancelled transfers that are still to come */
    uint64_t chance;
    _Atomic size_t in_flight, asleep;

    pthread_mutex_t lock;
    /* Got their slot; changed under the lock, which also keeps the loop for who wakes it. */
    _Atomic(pending *) grants;
};

static nh_actor *actor_of(const nh_op *op) {
    return (nh_actor *)op->task;
}

static void add(_Atomic size_t *counter, size_t change) {
    atomic_fetch_add_explicit(counter, change, memory_order_relaxed);
}

/* ---------------------------------------------------------------- pendings */

/* A task has begun or ended an operation: moves it between those in flight and those asleep. */
static void count_rest(nh_actor *actor) {
    bool asleep = actor->sleeps > 0 && actor->transfers == 0;
    if (asleep == actor->asleep)
        return;
    actor->asleep = asleep;
    add(&actor->operations->asleep, asleep ? 1 : (size_t)-1);
    add(&actor->operations->in_flight, asleep ? (size_t)-1 : 1);
}

static void count_operation(nh_op *op, int transport, uint32_t change) {
    nh_actor *actor = actor_of(op);
    *(transport < 0 ? &actor->sleeps : &actor->transfers) += change;
    count_rest(actor);
}

/* It waits for a place: the queue need not give out more of its kind. */
static void begin_wait(pending *p) {
    const nh_actor *actor = actor_of(p->op);
    if (p->op->sole)
        p->flow = nh_queue_wait(p->operations->work->queue, actor->flow, actor->priority);
}

static void end_wait(pending *p) {
    nh_work *work = p->operations->work;
    nh_flow *flow = p->flow;
    p->flow = NULL;
    if (flow && nh_queue_go(work->queue, flow, actor_of(p->op)->priority))
        work->more(work);
}

static pending *take_pending(nh_operations *operations, nh_op *op, int transport) {
    pending *p = operations->free;
    if (p)
        operations->free = p->next;
    else if (!(p = malloc(sizeof *p)))
        return NULL;
    memset(p, 0, sizeof *p);
    p->op = op;
    p->operations = operations;
    p->transport = transport;
    op->pending = p;
    op->status = 0;
    count_operation(op, transport, 1);
    return p;
}

/* Nobody's any more. */
static void recycle(pending *p) {
    nh_operations *operations = p->operations;
    nh_request_unref(p->request);
    free(p->body);
    p->next = operations->free;
    operations->free = p;
}

static void free_pending(pending *p) {
    end_wait(p);
    p->op->pending = NULL;
    count_operation(p->op, p->waits ? -1 : p->transport, (uint32_t)-1);
    nh_doc_unref(p->response);
    recycle(p);
}

static void pending_ended(nh_deferred *deferred) {
    pending *p = (pending *)((char *)deferred - offsetof(pending, ended));
    nh_operations *operations = p->operations;
    nh_op *op = p->op;
    nh_doc *response = p->response;
    int status = p->status;
    p->response = NULL;
    free_pending(p);
    op->status = status;
    nh_operations_enter(operations, actor_of(op));
    operations->work->ops->op_done(actor_of(op)->vm, op, response);
    nh_operations_left(operations);
    nh_doc_unref(response);
}

static bool is_network_failure(const nh_value *response) {
    const char *name = nh_err_name(NH_E_NETWORK);
    size_t length;
    const char *error = nh_value_bytes(nh_value_get(response, "error"), &length);
    return error && length == strlen(name) && memcmp(error, name, length) == 0;
}

static void transfer_done(nh_transfer *transfer, nh_doc *response) {
    pending *p = (pending *)((char *)transfer - offsetof(pending, transfer));
    p->op->fresh = is_network_failure(nh_doc_root(response));
    p->response = response;
    p->status = transfer->status;
    p->started = false;
    nh_gate_leave(&p->operations->work->gate, &p->pass, transfer->status, nh_doc_root(response),
                  nh_loop_now(p->operations->loop));
    nh_loop_defer(p->operations->loop, &p->ended);
}

static void sleep_over(nh_timer *timer) {
    pending *p = (pending *)((char *)timer - offsetof(pending, timer));
    p->started = false;
    nh_operations *operations = p->operations;
    if (p->admits) {
        double more = nh_limiter_redeem(operations->work->limiter, p->key, strlen(p->key),
                                        nh_loop_now(operations->loop), &p->ticket);
        p->started = more > 0 && nh_timer_start(operations->loop, &p->timer, more) == NH_OK;
        if (p->started)
            return;
    }
    nh_loop_defer(operations->loop, &p->ended);
}

/* The worker's instance of a transport, opened at its first use; -1 and an error otherwise. */
static int find_transport(nh_operations *operations, const char *name, nh_error *error) {
    const nh_transport_ops *const *all = operations->work->transports;
    for (int i = 0; i < TRANSPORTS_MOST && all[i]; i++) {
        if (strcmp(all[i]->name, name) != 0)
            continue;
        if (!operations->transports[i] && all[i]->open(operations->loop, &operations->work->limits,
                                                       &operations->transports[i], error) != NH_OK)
            return -1;
        return i;
    }
    nh_fail(error, NH_E_CONFIG, "there is no transport named '%s'", name);
    return -1;
}

/* Thousands may be refused at once. Came they back at once, too, every other message of the worker
 * would wait for them. */
static double scatter(nh_operations *operations, double seconds) {
    operations->chance = operations->chance * UINT64_C(6364136223846793005) + 1;
    double share = (double)(operations->chance >> 11) / (double)(UINT64_C(1) << 53);
    return seconds * (1 + REFUSED_SHARE * share);
}

/* A transfer that the breaker refuses has its answer at once. With lanes it has waited as long as
 * it wants, and its sender is to be told so; without, it is to be made again. */
static void refuse(pending *p, const nh_refusal *refusal) {
    nh_writer *writer = nh_writer_create();
    if (writer) {
        char text[384];
        double since = (double)(nh_loop_now(p->operations->loop) - refusal->since) / NH_SECOND;
        snprintf(text, sizeof text,
                 "%.*s has not answered for %.0f s (its circuit breaker is open); it is left alone "
                 "for %.0f s more",
                 (int)(p->pass.place.length < 256 ? p->pass.place.length : 256), p->pass.place.host,
                 since, refusal->seconds);
        nh_writer_map(writer, 6);
        nh_writer_cstring(writer, "error");
        nh_writer_cstring(writer, nh_err_name(NH_E_UNAVAILABLE));
        nh_writer_cstring(writer, "message");
        nh_writer_cstring(writer, text);
        nh_writer_cstring(writer, "retryable");
        nh_writer_bool(writer, true);
        nh_writer_cstring(writer, "sent");
        nh_writer_bool(writer, false);
        nh_writer_cstring(writer, "retry_after");
        nh_writer_real(writer, scatter(p->operations, refusal->seconds));
        nh_writer_cstring(writer, "final");
        nh_writer_bool(writer, p->operations->work->gate.lanes != NULL);
        p->response = nh_writer_finish(writer, NULL);
        nh_writer_destroy(writer);
    }
    nh_loop_defer(p->operations->loop, &p->ended);
}

/* Counts it as what it is now: waiting, or under way. */
static void set_waits(pending *p, bool waits) {
    if (p->waits == waits)
        return;
    nh_actor *actor = actor_of(p->op);
    actor->transfers -= waits ? 1u : (uint32_t)-1;
    actor->sleeps += waits ? 1u : (uint32_t)-1;
    p->waits = waits;
    count_rest(actor);
    if (waits)
        begin_wait(p);
    else
        end_wait(p);
}

/* The transfer has its slot. */
static void go(pending *p) {
    nh_operations *operations = p->operations;
    nh_refusal refusal;
    switch (
        nh_gate_go(&operations->work->gate, &p->pass, nh_loop_now(operations->loop), &refusal)) {
    case NH_WAITS_OUTSIDE:
        set_waits(p, true);
        return;
    case NH_TURNED_AWAY:
        set_waits(p, false);
        refuse(p, &refusal);
        return;
    case NH_PASSED:
        break;
    }
    set_waits(p, false);
    p->started = true;
    operations->work->transports[p->transport]->start(operations->transports[p->transport],
                                                      &p->transfer);
}

static pending *of_slot(nh_slot *slot) {
    return (pending *)((char *)slot - offsetof(pending, pass.slot));
}

/* Called in whichever thread freed the slot. */
static void granted(nh_slot *slot) {
    pending *p = of_slot(slot);
    nh_operations *operations = p->operations;
    pthread_mutex_lock(&operations->lock);
    p->next = atomic_load_explicit(&operations->grants, memory_order_relaxed);
    atomic_store_explicit(&operations->grants, p, memory_order_relaxed);
    nh_loop_wake(operations->loop);
    pthread_mutex_unlock(&operations->lock);
}

void nh_operations_take_grants(nh_operations *operations) {
    if (!atomic_load_explicit(&operations->grants, memory_order_relaxed))
        return;
    pthread_mutex_lock(&operations->lock);
    pending *grants = atomic_exchange_explicit(&operations->grants, NULL, memory_order_relaxed);
    pthread_mutex_unlock(&operations->lock);
    while (grants) {
        pending *p = grants;
        grants = p->next;
        if (p->op) {
            go(p);
        } else { /* cancelled since */
            nh_gate_leave(&operations->work->gate, &p->pass, 0, NULL,
                          nh_loop_now(operations->loop));
            recycle(p);
            operations->owed--;
        }
    }
}

nh_request *nh_operation_request(nh_task *task, const char *name, nh_doc *doc, bool bodied,
                                 nh_error *error) {
    nh_request *request = nh_request_create(doc, bodied, error);
    if (!request)
        return NULL;
    request->transport = find_transport(((nh_actor *)task)->operations, name, error);
    if (request->transport < 0) {
        nh_request_unref(request);
        return NULL;
    }
    request->place = nh_gate_place(nh_doc_root(doc));
    return request;
}

/* A pending that has what its transfer needs until the end; NULL when out of memory. */
static pending *take_transfer(nh_op *op, nh_request *request, const char *body, size_t length) {
    char *copy = body ? malloc(length + 1) : NULL;
    pending *p =
        body && !copy ? NULL : take_pending(actor_of(op)->operations, op, request->transport);
    if (!p) {
        free(copy);
        return NULL;
    }
    request->refs++;
    p->request = p->transfer.request = request;
    if (body)
        p->transfer.body = p->body = memcpy(copy, body, length);
    p->transfer.body_length = length;
    return p;
}

nh_err nh_operation_transfer(nh_op *op, nh_request *request, const char *body, size_t length,
                             nh_error *error) {
    nh_actor *actor = actor_of(op);
    nh_operations *operations = actor->operations;
    if (length > NH_DOC_BYTES_MAX)
        return nh_fail(error, NH_E_TOO_LARGE, "a body of more than %zu bytes", NH_DOC_BYTES_MAX);
    pending *p = take_transfer(op, request, body, length);
    if (!p)
        return nh_fail_memory(error);
    p->ended.call = pending_ended;
    p->transfer.done = transfer_done;
    p->transfer.fresh = op->fresh;
    p->transfer.brief = op->brief;
    p->pass.place = request->place;
    p->pass.slot.granted = granted;
    p->pass.slot.again = op->again;
    p->pass.slot.hasty = op->hasty;
    p->pass.slot.ready = actor->ready;
    bool ready = nh_gate_enter(&operations->work->gate, &p->pass, op->account, actor->priority,
                               nh_loop_now(operations->loop));
    op->lane = nh_lane_name(&p->pass.slot);
    if (ready)
        go(p);
    else
        set_waits(p, true);
    return NH_OK;
}

nh_err nh_operation_sleep(nh_op *op, double seconds, nh_error *error) {
    nh_operations *operations = actor_of(op)->operations;
    pending *p = take_pending(operations, op, -1);
    if (!p)
        return nh_fail_memory(error);
    p->ended.call = pending_ended;
    p->timer.fire = sleep_over;
    p->started = true;
    /* From now on, not from the beginning of the turn: no sleep is shorter than what was asked. */
    seconds += (double)(nh_monotonic() - nh_loop_now(operations->loop)) / (double)NH_SECOND;
    if (nh_timer_start(operations->loop, &p->timer, seconds) != NH_OK) {
        free_pending(p);
        return nh_fail_memory(error);
    }
    return NH_OK;
}

nh_err nh_operation_admit(nh_op *op, const char *key, const nh_rate_limit *limit, double most,
                          double *wait, nh_error *error) {
    nh_operations *operations = actor_of(op)->operations;
    nh_limiter *limiter = operations->work->limiter;
    uint64_t now = nh_loop_now(operations->loop);
    size_t length = strlen(key);
    nh_ticket ticket = {.waiting = false};
    nh_rate rate;
    if (limit && nh_rate_make(limit->tokens, limit->per, limit->burst, &rate, error) != NH_OK)
        return NH_E_CONFIG;
    *wait = limiter
                ? nh_limiter_take(limiter, key, length, limit ? &rate : NULL, 1, most, now, &ticket)
                : 0;
    if (*wait <= 0)
        return NH_OK;
    if (!ticket.waiting)
        return nh_fail(error, NH_E_RATE_LIMITED,
                       "its rate limit would let it go in %.0f s, which is more than it may wait",
                       *wait);
    pending *p = take_pending(operations, op, -1);
    if (p) {
        p->ended.call = pending_ended;
        p->timer.fire = sleep_over;
        p->admits = p->started = true;
        p->ticket = ticket;
        p->key = key;
        begin_wait(p);
        if (nh_timer_start(operations->loop, &p->timer, *wait) == NH_OK)
            return NH_OK;
        free_pending(p);
    }
    nh_limiter_cancel(limiter, key, length, &ticket);
    return nh_fail_memory(error);
}

void nh_operation_pause(nh_task *base, const char *key, double seconds) {
    nh_operations *operations = ((nh_actor *)base)->operations;
    if (operations->work->limiter)
        nh_limiter_pause(operations->work->limiter, key, strlen(key), seconds,
                         nh_loop_now(operations->loop));
}

void nh_operation_cancel(nh_op *op) {
    pending *p = op->pending;
    if (!p)
        return;
    nh_operations *operations = p->operations;
    if (p->waits && !nh_gate_cancel(&operations->work->gate, &p->pass)) {
        count_operation(op, -1, (uint32_t)-1); /* its grant is on the way, and is freed with that */
        end_wait(p);
        op->pending = NULL;
        p->op = NULL;
        operations->owed++;
        return;
    }
    if (p->started && p->transport >= 0) {
        operations->work->transports[p->transport]->cancel(operations->transports[p->transport],
                                                           &p->transfer);
        nh_gate_leave(&operations->work->gate, &p->pass, 0, NULL, nh_loop_now(operations->loop));
    } else if (p->started) {
        nh_timer_stop(operations->loop, &p->timer);
    }
    if (p->admits)
        nh_limiter_cancel(operations->work->limiter, p->key, strlen(p->key), &p->ticket);
    nh_loop_undefer(&p->ended);
    free_pending(p);
}

/* -------------------------------------------------------------- life cycle */

nh_operations *nh_operations_create(nh_work *work, unsigned place) {
    nh_operations *operations = calloc(1, sizeof *operations);
    if (!operations || pthread_mutex_init(&operations->lock, NULL) != 0) {
        free(operations);
        return NULL;
    }
    operations->work = work;
    operations->place = place;
    return operations;
}

void nh_operations_destroy(nh_operations *operations) {
    if (!operations)
        return;
    pthread_mutex_destroy(&operations->lock);
    free(operations);
}

void nh_operations_open(nh_operations *operations, nh_loop *loop) {
    operations->loop = loop;
}

void nh_operations_close(nh_operations *operations) {
    for (int i = 0; i < TRANSPORTS_MOST; i++)
        if (operations->transports[i]) {
            operations->work->transports[i]->close(operations->transports[i]);
            operations->transports[i] = NULL;
        }
    while (operations->free) {
        pending *p = operations->free;
        operations->free = p->next;
        free(p);
    }
    /* Whoever gave the last slot may still be waking the loop, which goes after this. */
    pthread_mutex_lock(&operations->lock);
    operations->loop = NULL;
    pthread_mutex_unlock(&operations->lock);
}

bool nh_operations_owed(const nh_operations *operations) {
    return operations->owed > 0;
}

/* ------------------------------------------------------------------- scripts */

void nh_operations_enter(nh_operations *operations, const nh_actor *actor) {
    nh_store *store = operations->work->store;
    if (store && actor->row)
        store->ops->enter(store, operations->place, actor->row);
}

void nh_operations_left(nh_operations *operations) {
    nh_store *store = operations->work->store;
    if (store)
        store->ops->leave(store, operations->place);
}

/* ----------------------------------------------------------------- figures */

void nh_actor_begin(nh_actor *actor) {
    add(&actor->operations->in_flight, 1);
}

void nh_actor_end(nh_actor *actor) {
    nh_operations *operations = actor->operations;
    add(actor->asleep ? &operations->asleep : &operations->in_flight, (size_t)-1);
}

size_t nh_operations_in_flight(const nh_operations *operations) {
    return atomic_load_explicit(&operations->in_flight, memory_order_relaxed);
}

size_t nh_operations_asleep(const nh_operations *operations) {
    return atomic_load_explicit(&operations->asleep, memory_order_relaxed);
}
