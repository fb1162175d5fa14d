/* operation.h — what tasks wait for: the transfers and sleeps of one worker, through rates, lanes
 * and breakers to the transports and back. */
#ifndef NH_WORK_OPERATION_H
#define NH_WORK_OPERATION_H

#include "runtime/store/store.h"
#include "runtime/work/engine.h"
#include "runtime/work/loop.h"
#include "runtime/work/worker.h"

typedef struct nh_operations nh_operations; /* one a worker */

/* A task as operations see it; the first part of the worker's. */
typedef struct nh_actor {
    nh_task base; /* first: the engine sees only this */
    nh_operations *operations;
    nh_vm *vm;
    nh_priority priority;
    uint32_t flow;              /* the queue's name of where it goes */
    uint64_t ready;             /* when its message could first have gone, monotonic ns */
    nh_row row;                 /* in the journal; 0 = in none */
    uint32_t transfers, sleeps; /* under way */
    bool asleep;                /* counted there, not in flight */
} nh_actor;

/* `place` is the worker's. NULL when out of memory. */
nh_operations *nh_operations_create(nh_work *work, unsigned place);
void nh_operations_destroy(nh_operations *operations);

/* Thread: the worker's, from here on. */
void nh_operations_open(nh_operations *operations, nh_loop *loop);
/* Closes the transports. No operation is under way and none is owed. */
void nh_operations_close(nh_operations *operations);
/* Starts those whose lane has given them a slot since. */
void nh_operations_take_grants(nh_operations *operations);
/* Whether slots of cancelled transfers are still to come: the worker has to wait for them. */
bool nh_operations_owed(const nh_operations *operations);

/* A task begins, and has ended with nothing under way. */
void nh_actor_begin(nh_actor *actor);
void nh_actor_end(nh_actor *actor);

/* Around all that the engine runs for a task: the journal has to know which message it was if the
 * process does not survive it. Not one inside another. */
void nh_operations_enter(nh_operations *operations, const nh_actor *actor);
void nh_operations_left(nh_operations *operations);

/* The parts of nh_host of these names. */
nh_request *nh_operation_request(nh_task *task, const char *name, nh_doc *doc, bool bodied,
                                 nh_error *error);
nh_err nh_operation_transfer(nh_op *op, nh_request *request, const char *body, size_t length,
                             nh_error *error);
nh_err nh_operation_sleep(nh_op *op, double seconds, nh_error *error);
nh_err nh_operation_admit(nh_op *op, const char *key, const nh_rate_limit *limit, double most,
                          double *wait, nh_error *error);
void nh_operation_cancel(nh_op *op);
void nh_operation_pause(nh_task *task, const char *key, double seconds);

/* How many tasks are in flight and asleep. Thread: any. */
size_t nh_operations_in_flight(const nh_operations *operations);
size_t nh_operations_asleep(const nh_operations *operations);

#endif
