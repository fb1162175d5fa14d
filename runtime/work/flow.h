/* flow.h — whose turn it is: messages that wait for a worker, by priority and, within one, by turns
 * between flows. A flow is what seems to go to one place; message.c guesses it from the targets,
 * before any rule was asked (nh_message.flow).
 *
 *     add ──> next (its turn) or remove
 *     wait ──> go: a message of a flow, taken, waits for its place outside, and waits no more
 *
 * A flow of which enough messages wait outside is held: its others stay here, where one costs its
 * bytes and nothing else, and no worker is woken for them.
 */
#ifndef NH_WORK_FLOW_H
#define NH_WORK_FLOW_H

#include "runtime/core/handle.h"

#define NH_FLOWS_MOST 1024u /* at once; what finds no room shares one flow, which is never held */

/* Messages of a flow and priority that wait outside: a flow is held from the first number on, until
 * there are no more than the second. Enough to fill places as fast as they become free. */
#define NH_FLOW_HELD 256u
#define NH_FLOW_FREE 128u

typedef struct nh_flow nh_flow;
typedef struct nh_flows nh_flows;

/* Holds at most `held_most` messages back. NULL when out of memory. */
nh_flows *nh_flows_create(size_t held_most);
void nh_flows_destroy(nh_flows *flows); /* nothing is in it; NULL is allowed */

/* Thread: any, one at a time: the caller has a lock. Each is O(1). */

/* Appends it to its flow. Cannot fail. */
void nh_flows_add(nh_flows *flows, nh_handle *handle);
bool nh_flows_has(const nh_handle *handle);
void nh_flows_remove(nh_flows *flows, nh_handle *handle);
/* Takes out the one whose turn it is; NULL when all that there are are held. */
nh_handle *nh_flows_next(nh_flows *flows);
/* Any one, held or not, which stays in; NULL when there is none. */
nh_handle *nh_flows_any(const nh_flows *flows);

/* A message of this flow waits outside. Returns the flow, for nh_flows_go; NULL when it is not
 * counted. */
nh_flow *nh_flows_wait(nh_flows *flows, uint32_t flow, nh_priority priority);
/* It waits no more. */
void nh_flows_go(nh_flows *flows, nh_flow *flow, nh_priority priority);

/* Messages that may be taken now, and all of a priority. */
size_t nh_flows_ready(const nh_flows *flows);
size_t nh_flows_count(const nh_flows *flows, nh_priority priority);

#endif
