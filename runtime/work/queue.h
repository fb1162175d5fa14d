/* queue.h — accepted messages on their way to a worker: bounded, by priority and by turns between
 * flows (flow.h), with the times they wait for. */
#ifndef NH_WORK_QUEUE_H
#define NH_WORK_QUEUE_H

#include "runtime/work/flow.h"

typedef struct nh_queue nh_queue;

typedef struct nh_queue_figures {
    size_t ready[NH_PRIORITIES]; /* waiting for a worker, those that are held included */
    size_t scheduled;            /* waiting for their deliver_at */
    size_t bytes;
} nh_queue_figures;

/* Holds at most `capacity` messages and `bytes` of them, and keeps at most `held_most` of these
 * from the workers because others of their flow wait already. */
nh_queue *nh_queue_create(size_t capacity, size_t bytes, size_t held_most, nh_error *error);
void nh_queue_destroy(nh_queue *queue); /* it must be empty */

/* Thread: any, for all of these. Blocks: never. While a handle is in the queue its own reference
 * belongs to the queue; whoever gets it out must settle it. */

/* All or none. Errors: NH_E_QUEUE_FULL, NH_E_CLOSED, NH_E_INTERNAL. */
nh_err nh_queue_push(nh_queue *queue, nh_handle *const *handles, size_t count, nh_error *error);
/* Those that were accepted before, by a journal: however full or closed the queue is. Errors:
 * NH_E_INTERNAL. */
nh_err nh_queue_return(nh_queue *queue, nh_handle *const *handles, size_t count);
/* Hands at most `most` to a worker, by weight and turn, marked running there. `left` tells how many
 * more are ready. */
size_t nh_queue_take(nh_queue *queue, void *worker, nh_handle **out, size_t most, size_t *left);
/* Takes one out; false when it is not in the queue (any more). */
bool nh_queue_remove(nh_queue *queue, nh_handle *handle);
/* Makes scheduled messages ready whose time has come, and takes out at most `most` whose deadline
 * is over. `next` is the time of the next such event (monotonic ns, UINT64_MAX: none), `ready`
 * whether something became ready. */
size_t nh_queue_tick(nh_queue *queue, uint64_t now, nh_handle **out, size_t most, uint64_t *next,
                     bool *ready);
/* A message that was taken waits for a place outside, and nothing else of it is under way: what
 * else there is of its flow need not be taken. NULL: it is not counted; else nh_queue_go is owed.
 */
nh_flow *nh_queue_wait(nh_queue *queue, uint32_t flow, nh_priority priority);
/* It waits no more. True: some became ready by that. */
bool nh_queue_go(nh_queue *queue, nh_flow *flow, nh_priority priority);
/* From now on push answers NH_E_CLOSED. */
void nh_queue_close(nh_queue *queue);
/* Takes out at most `most`: scheduled ones that wait beyond `horizon`, or with horizon 0 just
 * anything. */
size_t nh_queue_drain(nh_queue *queue, uint64_t horizon, nh_handle **out, size_t most);
/* How many may be taken; a load, without the lock. */
size_t nh_queue_ready(const nh_queue *queue);
void nh_queue_read(nh_queue *queue, nh_queue_figures *figures);

#endif
