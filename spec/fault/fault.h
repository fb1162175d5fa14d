/* fault.h — calls of the system that fail on purpose: the linker puts these wrappers (--wrap) in
 * the place of malloc, open, pthread_create … wherever our own code calls them, and Lua's
 * allocator. Libraries call the real ones.
 *
 * A call is known by its place: the addresses of those who led to it. A run that only listens notes
 * how often each place is reached; another has the n-th call of one place fail. Addresses are the
 * same in all children of one process, so each run is a child of its own.
 */
#ifndef NH_SPEC_FAULT_H
#define NH_SPEC_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAULT_PLACES_MAX = 1 << 14, FAULT_DEPTH = 7 };

typedef struct fault_place {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t calls;
    const char *call; /* "malloc" */
    void *frames[FAULT_DEPTH];
} fault_place;

typedef struct fault_notes {
    _Atomic size_t count;
    fault_place places[FAULT_PLACES_MAX];
} fault_notes;

/* Notes every call from now on; NULL ends it. */
void fault_listen(fault_notes *notes);
/* Has the n-th call (from 1) from the place fail from now on; NULL ends it. */
void fault_arm(const fault_place *place, uint64_t nth);
/* Whether the call that was to fail has come. */
bool fault_happened(void);

#endif
