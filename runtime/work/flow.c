/* flow.c — see flow.h. Round robin between flows within weighted round robin between priorities.
 *
 * A line is what waits of one flow and priority: a ring of handles. The lines of a priority that
 * may be taken from are a ring, too; the first of it has its turn, gives one message, and goes to
 * the end. A message costs one, whatever its size, so that is deficit round robin with quantum one.
 * The priority is chosen before: each has a credit (8, 4, 2, 1) that taking spends, and when none
 * that has messages has credit left all get theirs anew. So urgent goes first and low still moves.
 *
 * Flows are found by a hash and live as long as they have messages here or outside; those that have
 * ended are kept for the next ones, so that nothing is allocated for a message. What the queue's
 * lock is held for is a few pointer moves.
 */
#include "runtime/work/flow.h"

#include <stddef.h>
#include <stdlib.h>

static const unsigned weights[NH_PRIORITIES] = {
    [NH_LOW] = 1, [NH_NORMAL] = 2, [NH_HIGH] = 4, [NH_URGENT] = 8};

typedef struct line line;
struct line {
    nh_handle *first;  /* of the ring */
    line *next, *prev; /* in the ring of its priority, when it is neither empty nor held */
    uint32_t count;    /* here */
    uint32_t outside;  /* wait there */
    bool held;
};

struct nh_flow {
    line lines[NH_PRIORITIES];
    uint32_t hash;
    uint32_t users; /* messages here and outside */
    nh_flow *next;  /* in its bucket, or among the spare ones */
};

struct nh_flows {
    nh_flow *buckets[NH_FLOWS_MOST];
    nh_flow *spare;
    size_t made; /* flows in buckets */
    nh_flow rest;
    line *turn[NH_PRIORITIES]; /* the first of the ring */
    size_t counts[NH_PRIORITIES];
    unsigned credits[NH_PRIORITIES];
    size_t ready, held, held_most;
};

nh_flows *nh_flows_create(size_t held_most) {
    nh_flows *flows = calloc(1, sizeof *flows);
    if (flows)
        flows->held_most = held_most;
    return flows;
}

void nh_flows_destroy(nh_flows *flows) {
    if (!flows)
        return;
    while (flows->spare) {
        nh_flow *gone = flows->spare;
        flows->spare = gone->next;
        free(gone);
    }
    free(flows);
}

/* ------------------------------------------------------------------- flows */

static nh_flow **bucket_of(nh_flows *flows, uint32_t hash) {
    return &flows->buckets[hash % NH_FLOWS_MOST];
}

/* The flow, a new one when it is not there; the rest's when there is no room. */
static nh_flow *find(nh_flows *flows, uint32_t hash) {
    nh_flow **bucket = bucket_of(flows, hash), *flow = *bucket;
    while (flow && flow->hash != hash)
        flow = flow->next;
    if (flow)
        return flow;
    if (flows->made == NH_FLOWS_MOST)
        return &flows->rest;
    if ((flow = flows->spare))
        flows->spare = flow->next;
    else if (!(flow = calloc(1, sizeof *flow)))
        return &flows->rest;
    flow->hash = hash;
    flow->next = *bucket;
    *bucket = flow;
    flows->made++;
    return flow;
}

/* One message less; all fields of one that ends are zeros again but for the hash. */
static void drop(nh_flows *flows, nh_flow *flow) {
    if (--flow->users > 0 || flow == &flows->rest)
        return;
    nh_flow **at = bucket_of(flows, flow->hash);
    while (*at != flow)
        at = &(*at)->next;
    *at = flow->next;
    flows->made--;
    flow->next = flows->spare;
    flows->spare = flow;
}

/* ------------------------------------------------------------------- turns */

static void join(nh_flows *flows, line *l, nh_priority priority) {
    line *first = flows->turn[priority];
    if (!first) {
        flows->turn[priority] = l->next = l->prev = l;
        return;
    }
    l->next = first;
    l->prev = first->prev;
    first->prev->next = l;
    first->prev = l;
}

static void leave(nh_flows *flows, line *l, nh_priority priority) {
    l->prev->next = l->next;
    l->next->prev = l->prev;
    if (flows->turn[priority] == l)
        flows->turn[priority] = l->next == l ? NULL : l->next;
    l->next = l->prev = NULL;
}

static void hold(nh_flows *flows, line *l, nh_priority priority) {
    l->held = true;
    flows->held += l->count;
    flows->ready -= l->count;
    if (l->count > 0)
        leave(flows, l, priority);
}

static void let_go(nh_flows *flows, line *l, nh_priority priority) {
    l->held = false;
    flows->held -= l->count;
    flows->ready += l->count;
    if (l->count > 0)
        join(flows, l, priority);
}

/* Holds a line of which enough wait outside, as long as the held ones have room here. */
static void consider(nh_flows *flows, line *l, nh_priority priority) {
    if (l->held && (l->outside <= NH_FLOW_FREE || flows->held > flows->held_most))
        let_go(flows, l, priority);
    else if (!l->held && l->outside >= NH_FLOW_HELD && flows->held + l->count < flows->held_most)
        hold(flows, l, priority);
}

/* ---------------------------------------------------------------- messages */

void nh_flows_add(nh_flows *flows, nh_handle *handle) {
    nh_priority priority = nh_message_of(handle)->priority;
    nh_flow *flow = find(flows, nh_message_of(handle)->flow);
    line *l = &flow->lines[priority];
    handle->flow = flow;
    flow->users++;
    flows->counts[priority]++;
    if (l->first) {
        handle->next = l->first;
        handle->prev = l->first->prev;
        l->first->prev->next = handle;
        l->first->prev = handle;
    } else {
        l->first = handle->next = handle->prev = handle;
        if (!l->held)
            join(flows, l, priority);
    }
    l->count++;
    *(l->held ? &flows->held : &flows->ready) += 1;
    if (l->held)
        consider(flows, l, priority);
}

bool nh_flows_has(const nh_handle *handle) {
    return handle->next != NULL;
}

void nh_flows_remove(nh_flows *flows, nh_handle *handle) {
    nh_priority priority = nh_message_of(handle)->priority;
    nh_flow *flow = handle->flow;
    line *l = &flow->lines[priority];
    handle->prev->next = handle->next;
    handle->next->prev = handle->prev;
    if (l->first == handle)
        l->first = handle->next == handle ? NULL : handle->next;
    handle->next = handle->prev = NULL;
    handle->flow = NULL;
    l->count--;
    flows->counts[priority]--;
    *(l->held ? &flows->held : &flows->ready) -= 1;
    if (l->count == 0 && !l->held)
        leave(flows, l, priority);
    drop(flows, flow);
}

/* The priority to take from: the most urgent that has messages and credit. Some are ready. */
static nh_priority choose(nh_flows *flows) {
    for (;;) {
        for (int priority = NH_URGENT; priority >= NH_LOW; priority--)
            if (flows->turn[priority] && flows->credits[priority] > 0) {
                flows->credits[priority]--;
                return (nh_priority)priority;
            }
        for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
            flows->credits[priority] = weights[priority];
    }
}

nh_handle *nh_flows_next(nh_flows *flows) {
    if (flows->ready == 0)
        return NULL;
    nh_priority priority = choose(flows);
    line *l = flows->turn[priority];
    nh_handle *handle = l->first;
    flows->turn[priority] = l->next;
    nh_flows_remove(flows, handle);
    return handle;
}

nh_handle *nh_flows_any(const nh_flows *flows) {
    for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++) {
        if (flows->counts[priority] == 0)
            continue;
        if (flows->turn[priority])
            return flows->turn[priority]->first;
        for (size_t i = 0; i < NH_FLOWS_MOST; i++) /* all are held: none of them is the rest's */
            for (const nh_flow *flow = flows->buckets[i]; flow; flow = flow->next)
                if (flow->lines[priority].first)
                    return flow->lines[priority].first;
    }
    return NULL;
}

/* ----------------------------------------------------------------- outside */

nh_flow *nh_flows_wait(nh_flows *flows, uint32_t hash, nh_priority priority) {
    nh_flow *flow = find(flows, hash);
    if (flow == &flows->rest)
        return NULL;
    flow->users++;
    flow->lines[priority].outside++;
    consider(flows, &flow->lines[priority], priority);
    return flow;
}

void nh_flows_go(nh_flows *flows, nh_flow *flow, nh_priority priority) {
    flow->lines[priority].outside--;
    consider(flows, &flow->lines[priority], priority);
    drop(flows, flow);
}

/* ----------------------------------------------------------------- figures */

size_t nh_flows_ready(const nh_flows *flows) {
    return flows->ready;
}

size_t nh_flows_count(const nh_flows *flows, nh_priority priority) {
    return flows->counts[priority];
}
