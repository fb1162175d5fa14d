/* parked_test.c — who may take a parked handle when several want it: a lease, a cancel, a close,
 * and the program that drops it. The linker puts the wrappers of malloc and its like in their
 * place. */
#include "runtime/work/parked.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "spec/unit/check.h"
#include "spec/unit/work/owner.h"

enum { COUNT = 300 };

/* ------------------------------------------------------------------ memory */

static bool dry; /* no memory is left */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size) {
    return dry ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return dry ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return dry ? NULL : __real_realloc(memory, size);
}

/* ------------------------------------------------------------------- fakes */

static nh_parked *table;
static sem_t leaving, may_leave;
static bool leaves_slowly;

static void forget(nh_owner *unused, nh_handle *handle) {
    (void)unused;
    if (leaves_slowly) {
        sem_post(&leaving);
        sem_wait(&may_leave);
    }
    nh_parked_forget(table, handle);
}

static nh_row acked[COUNT + 1];
static nh_err ack_fails;

static nh_err ack(nh_store *store, const nh_row *rows, size_t count) {
    (void)store;
    for (size_t i = 0; i < count && !ack_fails; i++)
        acked[rows[i]]++;
    return ack_fails;
}

static const nh_store_ops store_ops = {.ack = ack};
static nh_store store = {&store_ops};

/* The program's reference is returned. */
static nh_handle *park(nh_row row) {
    nh_error error;
    nh_doc *doc = nh_doc_from_json("{\"body\":\"x\"}", strlen("{\"body\":\"x\"}"), &error);
    nh_handle *handle = nh_handle_create(
        &owner, nh_message_create(nh_doc_read(doc), 1000, nh_wall(), NULL, &error), NULL, 0);
    nh_doc_unref(doc);
    handle->row = row;
    CHECK(nh_parked_reserve(table, 1));
    nh_parked_put(table, handle);
    return handle;
}

static void end(nh_handle *handle) {
    CHECK(nh_handle_settle(handle, NULL, NH_E_CANCELLED));
}

static void open_table(void) {
    memset(acked, 0, sizeof acked);
    ack_fails = NH_OK;
    leaves_slowly = false;
    table = nh_parked_create();
}

/* ------------------------------------------------------------------- tests */

static void a_cancel_needs_no_memory_and_a_lease_knows_of_it(void) {
    static nh_handle *handles[COUNT + 1];
    nh_handle *found;
    open_table();
    for (nh_row row = 1; row <= COUNT; row++)
        handles[row] = park(row);
    nh_parked_begin_lease(table);
    dry = true;
    for (nh_row row = 2; row <= COUNT; row += 2)
        CHECK(nh_parked_cancel(table, handles[row], &store));
    dry = false;
    CHECK_INT(nh_parked_count(table), COUNT / 2);
    for (nh_row row = 2; row <= COUNT; row += 2) {
        end(handles[row]);
        nh_handle_unref(handles[row]);
        CHECK_INT(acked[row], 1);
    }
    for (nh_row row = 1; row <= COUNT; row++) {
        CHECK_INT(nh_parked_take(table, row, &found),
                  row % 2 ? NH_PARKED_HANDLE : NH_PARKED_CANCELLED);
        CHECK(found == (row % 2 ? handles[row] : NULL));
    }
    nh_parked_end_lease(table);
    CHECK_INT(nh_parked_take(table, 2, &found), NH_PARKED_NONE); /* no later lease gives it out */
    for (nh_row row = 1; row <= COUNT; row += 2) {
        end(handles[row]);
        nh_handle_unref(handles[row]);
    }
    CHECK(nh_parked_take_any(table) == NULL);
    nh_parked_destroy(table);
}

static void a_handle_is_cancelled_once(void) {
    open_table();
    for (int leasing = 0; leasing < 2; leasing++) {
        nh_handle *handle = park(1), *found;
        if (leasing)
            nh_parked_begin_lease(table);
        CHECK(nh_parked_cancel(table, handle, &store));
        CHECK(!nh_parked_cancel(table, handle, &store));
        CHECK(atomic_load(&handle->stays)); /* the hub need not ack it */
        CHECK_INT(nh_parked_take(table, 1, &found), leasing ? NH_PARKED_CANCELLED : NH_PARKED_NONE);
        CHECK_INT(nh_parked_count(table), 0);
        end(handle);
        if (leasing)
            nh_parked_end_lease(table);
        nh_handle_unref(handle);
    }
    CHECK_INT(acked[1], 2);
    nh_parked_destroy(table);
}

static void a_row_whose_ack_found_no_memory_is_acked_by_who_settles_it(void) {
    open_table();
    nh_handle *handle = park(1);
    ack_fails = NH_E_INTERNAL;
    CHECK(nh_parked_cancel(table, handle, &store));
    CHECK(!atomic_load(&handle->stays));
    end(handle);
    nh_handle_unref(handle);
    nh_parked_destroy(table);
}

static void *drop(void *handle) {
    nh_handle_unref(handle);
    return NULL;
}

/* Takes all but the one that is being dropped; returns how many. */
static void *take_all(void *taken) {
    for (nh_handle *handle; (handle = nh_parked_take_any(table));) {
        end(handle);
        ++*(int *)taken;
    }
    return NULL;
}

static void a_close_takes_all_while_one_is_being_dropped(void) {
    nh_handle *handles[4];
    for (size_t dropped = 0; dropped < 4; dropped++) {
        pthread_t dropper, closer;
        int taken = 0;
        open_table();
        for (nh_row row = 0; row < 4; row++)
            handles[row] = park(row + 1);
        leaves_slowly = true;
        pthread_create(&dropper, NULL, drop, handles[dropped]);
        sem_wait(&leaving);
        pthread_create(&closer, NULL, take_all, &taken);
        for (int i = 0; i < 5000 && nh_parked_count(table) > 1; i++)
            usleep(1000);
        CHECK_INT(nh_parked_count(table), 1);
        sem_post(&may_leave);
        pthread_join(dropper, NULL);
        pthread_join(closer, NULL);
        CHECK_INT(taken, 3);
        leaves_slowly = false;
        for (size_t i = 0; i < 4; i++)
            if (i != dropped)
                nh_handle_unref(handles[i]);
        nh_parked_destroy(table);
    }
}

int main(void) {
    owner.forget = forget;
    sem_init(&leaving, 0, 0);
    sem_init(&may_leave, 0, 0);
    RUN(a_cancel_needs_no_memory_and_a_lease_knows_of_it);
    RUN(a_handle_is_cancelled_once);
    RUN(a_row_whose_ack_found_no_memory_is_acked_by_who_settles_it);
    RUN(a_close_takes_all_while_one_is_being_dropped);
    return check_end();
}
