/* gate.h — what a transfer passes before it goes: a slot of its account's lane at the target host,
 * and the host's circuit breaker. Shared by all workers; lane.h and breaker.h do the work.
 *
 *     nh_gate_enter ──true──> nh_gate_go ──NH_PASSED──> the transfer ──> nh_gate_leave
 *        │ false              │   └─NH_TURNED_AWAY: nothing is owed
 *        │                    └─NH_WAITS_OUTSIDE: for the host to come back
 *        └─> granted (any thread) <─┘ ──> nh_gate_go
 *     nh_gate_cancel while it waits
 *
 * A host that answers slowly or refuses gets fewer at once, one that does not answer at all gets
 * none for a while; the others do not notice.
 */
#ifndef NH_WORK_GATE_H
#define NH_WORK_GATE_H

#include "runtime/work/breaker.h"
#include "runtime/work/lane.h"
#include "runtime/work/transport.h"

typedef struct nh_gate {
    nh_lanes *lanes;      /* NULL: every host takes all */
    nh_breaker *breakers; /* NULL: none is broken */
} nh_gate;

/* One passage; a part of the transfer that it is for. */
typedef struct nh_pass {
    nh_slot slot;   /* its `granted`, `again`, `hasty` and `ready` are set by the caller */
    nh_place place; /* borrowed from the request until it has left */
    uint64_t token;
    bool held, watched; /* a slot; the breaker wants to hear of it */
} nh_pass;

/* Where a request goes: its URL's host and port, or the `host` of a mail. */
nh_place nh_gate_place(const nh_value *request);

/* `account` may be NULL: its lane is the host's own. True: it has its slot. False: `granted` will
 * be called. */
bool nh_gate_enter(const nh_gate *gate, nh_pass *pass, const char *account, nh_priority priority,
                   uint64_t now);

typedef enum nh_passage {
    NH_PASSED,
    NH_WAITS_OUTSIDE, /* its slot is given back; `granted` will be called */
    NH_TURNED_AWAY    /* its slot is given back */
} nh_passage;

/* Asks the breaker; `refusal` is written unless it has passed. */
nh_passage nh_gate_go(const nh_gate *gate, nh_pass *pass, uint64_t now, nh_refusal *refusal);
/* The transfer has ended with this status, or when that is 0 with this response; NULL: it was
 * cancelled. */
void nh_gate_leave(const nh_gate *gate, nh_pass *pass, int status, const nh_value *response,
                   uint64_t now);
/* Stops waiting. False: `granted` was called or will be, and the slot is owed then: nh_gate_leave.
 */
bool nh_gate_cancel(const nh_gate *gate, nh_pass *pass);

#endif
