/* fake.h — an engine without a script language and a transport without a network: a message's title
 * says what is to happen to it.
 *
 *     done    settles at once, delivered
 *     fail    settles at once, failed
 *     busy    holds its worker for a millisecond, then settles
 *     nap     sleeps for 20 ms, then settles
 *     tell    tells progress and a retry, sleeps for 20 ms, then settles
 *     send    hands a request to the transport, which answers after 20 ms, then settles
 *     hold    hands a request to the transport, which never answers
 *     stuck   tells a retry, then as hold
 *     die     ends the process
 */
#ifndef NH_SPEC_FAKE_H
#define NH_SPEC_FAKE_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/receipt.h"
#include "runtime/hub.h"
#include "spec/unit/check.h"

/* ------------------------------------------------------------------ engine */

struct nh_engine {
    nh_doc *config;
};

struct nh_vm {
    const nh_host *host;
    size_t tasks;
};

typedef struct fake_task {
    nh_op op; /* first */
    nh_vm *vm;
    char id[64];
    bool asleep;
} fake_task;

static atomic_int fake_started, fake_vms, fake_transfers, fake_cancels;
static atomic_int fake_attempts; /* remembered of the last message that was started */
static _Atomic uint64_t fake_generation = 1;
static void (*fake_published)(void *context); /* under the lock */
static void *fake_published_to;
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static char fake_order[4096][32]; /* ids as their tasks started, under the lock */

static nh_err fake_open(const nh_doc *config, struct nh_log *log, nh_engine **out,
                        nh_error *error) {
    (void)error, (void)log;
    *out = calloc(1, sizeof **out);
    (*out)->config = config ? nh_doc_ref((nh_doc *)config) : nh_doc_from_json("{}", 2, NULL);
    return NH_OK;
}

static void fake_close(nh_engine *engine) {
    nh_doc_unref(engine->config);
    free(engine);
}

static const nh_doc *fake_config(const nh_engine *engine) {
    return engine->config;
}

static nh_doc *fake_platforms(const nh_engine *engine, nh_error *error) {
    (void)engine;
    return nh_doc_from_json("[]", 2, error);
}

static nh_err fake_vm_open(nh_engine *engine, const nh_host *host, nh_vm **out, nh_error *error) {
    (void)engine, (void)error;
    *out = calloc(1, sizeof **out);
    (*out)->host = host;
    atomic_fetch_add(&fake_vms, 1);
    return NH_OK;
}

static void fake_vm_close(nh_vm *vm) {
    CHECK_INT(vm->tasks, 0);
    free(vm);
    atomic_fetch_sub(&fake_vms, 1);
}

static size_t fake_vm_memory(const nh_vm *vm) {
    return sizeof *vm;
}

static void fake_end(nh_task *base, nh_err reason) {
    fake_task *own = base->script;
    nh_vm *vm = own->vm;
    nh_status status = reason ? nh_status_for(reason) : NH_DELIVERED;
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 2);
    nh_writer_cstring(writer, "id");
    nh_writer_cstring(writer, own->id);
    nh_writer_cstring(writer, "code");
    nh_writer_cstring(writer, reason ? nh_err_name(reason) : "ok");
    nh_packed receipt;
    nh_err failed = nh_writer_packed(writer, &receipt, NULL);
    vm->tasks--;
    free(own);
    vm->host->settle(base, status, failed ? NULL : &receipt, false);
    nh_writer_destroy(writer);
}

static void fake_send(fake_task *own, nh_doc *doc) {
    const nh_host *host = own->vm->host;
    nh_request *request = host->request(own->op.task, "wire", nh_doc_ref(doc), false, NULL);
    CHECK(request);
    CHECK_INT(host->transfer(&own->op, request, NULL, 0, NULL), NH_OK);
    host->drop(request);
}

static void fake_task_start(nh_vm *vm, nh_task *base, const nh_task_message *message) {
    fake_task *own = calloc(1, sizeof *own);
    nh_doc *doc = nh_doc_from_bytes(message->bytes, message->length, NULL);
    const nh_value *what = nh_value_get(nh_doc_root(doc), "title");
    base->script = own;
    own->op.task = base;
    own->vm = vm;
    vm->tasks++;
    snprintf(own->id, sizeof own->id, "%s", message->id);
    atomic_store(&fake_attempts, (int)message->attempts);
    pthread_mutex_lock(&fake_lock);
    int nth = atomic_fetch_add(&fake_started, 1);
    snprintf(fake_order[nth % 4096], sizeof *fake_order, "%.31s", message->id);
    pthread_mutex_unlock(&fake_lock);
    if (nh_value_is(what, "die"))
        kill(getpid(), SIGKILL);
    if (nh_value_is(what, "busy"))
        usleep(1000);
    if (nh_value_is(what, "tell")) {
        vm->host->progress(base, 1, 2);
        vm->host->retrying(base, "fake", 1);
    }
    if (nh_value_is(what, "stuck"))
        vm->host->retrying(base, "fake", 1);
    if (nh_value_is(what, "send") || nh_value_is(what, "hold") || nh_value_is(what, "stuck"))
        fake_send(own, doc);
    else if (nh_value_is(what, "nap") || nh_value_is(what, "tell"))
        CHECK_INT(vm->host->sleep(&own->op, 0.02, NULL), NH_OK);
    else
        fake_end(base, nh_value_is(what, "fail") ? NH_E_REJECTED : NH_OK);
    nh_doc_unref(doc);
}

static void fake_task_stop(nh_vm *vm, nh_task *base, nh_err reason) {
    fake_task *own = base->script;
    vm->host->op_cancel(&own->op);
    fake_end(base, reason);
}

static void fake_op_done(nh_vm *vm, nh_op *op, const nh_doc *response) {
    (void)vm, (void)response;
    fake_end(op->task, NH_OK);
}

static nh_doc *fake_load_config(const char *path, nh_error *error) {
    (void)path;
    return nh_doc_from_json("{}", 2, error);
}

static nh_err fake_reload(nh_engine *engine, nh_error *error) {
    (void)engine, (void)error;
    atomic_fetch_add(&fake_generation, 1);
    pthread_mutex_lock(&fake_lock);
    if (fake_published)
        fake_published(fake_published_to);
    pthread_mutex_unlock(&fake_lock);
    return NH_OK;
}

static void fake_subscribe(nh_engine *engine, void (*published)(void *context), void *context) {
    (void)engine;
    pthread_mutex_lock(&fake_lock);
    fake_published = published;
    fake_published_to = context;
    pthread_mutex_unlock(&fake_lock);
}

static uint64_t fake_newest(const nh_engine *engine) {
    (void)engine;
    return atomic_load(&fake_generation);
}

static void fake_generations(nh_engine *engine, nh_writer *writer) {
    (void)engine;
    nh_writer_array(writer, 0);
}

static bool fake_vm_worn(nh_vm *vm) {
    (void)vm;
    return false;
}

static const nh_engine_ops fake_engine = {
    .abi = NH_ENGINE_ABI,
    .open = fake_open,
    .close = fake_close,
    .config = fake_config,
    .platforms = fake_platforms,
    .load_config = fake_load_config,
    .reload = fake_reload,
    .subscribe = fake_subscribe,
    .generation = fake_newest,
    .generations = fake_generations,
    .vm_worn = fake_vm_worn,
    .vm_open = fake_vm_open,
    .vm_close = fake_vm_close,
    .vm_memory = fake_vm_memory,
    .task_start = fake_task_start,
    .task_stop = fake_task_stop,
    .op_done = fake_op_done,
};

/* --------------------------------------------------------------- transport */

struct nh_transport {
    nh_loop *loop;
    size_t transfers;
};

typedef struct fake_transfer {
    nh_timer timer; /* first */
    nh_transport *transport;
    nh_transfer *transfer;
} fake_transfer;

static nh_err wire_open(nh_loop *loop, const nh_transport_limits *limits, nh_transport **out,
                        nh_error *error) {
    (void)limits, (void)error;
    *out = calloc(1, sizeof **out);
    (*out)->loop = loop;
    return NH_OK;
}

static void wire_answer(nh_timer *timer) {
    fake_transfer *own = (fake_transfer *)timer;
    nh_transfer *transfer = own->transfer;
    own->transport->transfers--;
    free(own);
    transfer->state = NULL;
    transfer->done(transfer, nh_doc_from_json("{\"status\":200}", 14, NULL));
}

static void wire_start(nh_transport *transport, nh_transfer *transfer) {
    fake_transfer *own = calloc(1, sizeof *own);
    own->timer.fire = wire_answer;
    own->transport = transport;
    own->transfer = transfer;
    transfer->state = own;
    transport->transfers++;
    atomic_fetch_add(&fake_transfers, 1);
    if (nh_value_is(nh_value_get(nh_doc_root(transfer->request->doc), "title"), "send"))
        nh_timer_start(transport->loop, &own->timer, 0.02);
}

static void wire_cancel(nh_transport *transport, nh_transfer *transfer) {
    fake_transfer *own = transfer->state;
    nh_timer_stop(transport->loop, &own->timer);
    transport->transfers--;
    free(own);
    atomic_fetch_add(&fake_cancels, 1);
}

static void wire_close(nh_transport *transport) {
    CHECK_INT(transport->transfers, 0);
    free(transport);
}

static const nh_transport_ops fake_wire = {.name = "wire",
                                           .open = wire_open,
                                           .start = wire_start,
                                           .cancel = wire_cancel,
                                           .close = wire_close};
static const nh_transport_ops *const fake_transports[] = {&fake_wire, NULL};

/* ------------------------------------------------------------------- short */

static inline nh_doc *json(const char *text) {
    nh_error error;
    nh_doc *doc = nh_doc_from_json(text, strlen(text), &error);
    if (!CHECK(doc))
        printf("# %s: %s\n", text, error.message);
    return doc;
}

static inline nh_hub *open_hub(const char *config) {
    nh_error error;
    nh_doc *doc = json(config);
    atomic_store(&fake_started, 0);
    atomic_store(&fake_transfers, 0);
    atomic_store(&fake_cancels, 0);
    nh_hub *hub = nh_hub_open_with(doc, &fake_engine, fake_transports, &error);
    if (!CHECK(hub))
        printf("# %s\n", error.message);
    nh_doc_unref(doc);
    return hub;
}

static inline nh_handle *send_json(nh_hub *hub, const char *text) {
    nh_error error;
    nh_doc *doc = json(text);
    nh_handle *handle = nh_hub_send_async(hub, doc, &error);
    if (!CHECK(handle))
        printf("# %s: %s\n", text, error.message);
    nh_doc_unref(doc);
    return handle;
}

/* The receipt's code once it is there; "" when it does not come. Drops the handle. */
static inline const char *code_of(nh_handle *handle) {
    static _Thread_local char code[32];
    nh_receipt *receipt = nh_handle_wait(handle, 10, NULL);
    code[0] = '\0';
    if (receipt) {
        nh_doc *doc = nh_receipt_doc(receipt);
        size_t length;
        const char *text = nh_value_bytes(nh_value_get(nh_doc_root(doc), "code"), &length);
        snprintf(code, sizeof code, "%.*s", (int)length, text ? text : "");
        nh_doc_unref(doc);
    }
    nh_receipt_unref(receipt);
    nh_handle_unref(handle);
    return code;
}

static inline bool reaches(nh_handle *handle, nh_state state) {
    for (int i = 0; i < 5000 && nh_handle_state(handle) != state; i++)
        usleep(1000);
    return nh_handle_state(handle) == state;
}

static inline int64_t figure(nh_hub *hub, const char *group, const char *name) {
    nh_doc *stats = nh_hub_stats(hub);
    const nh_value *root = nh_doc_root(stats);
    int64_t number =
        nh_value_int(nh_value_get(*group ? nh_value_get(root, group) : root, name), -1);
    nh_doc_unref(stats);
    return number;
}

#endif
