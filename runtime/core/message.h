/* message.h — an accepted message: checked, immutable, shared by count. */
#ifndef NH_CORE_MESSAGE_H
#define NH_CORE_MESSAGE_H

#include <stdatomic.h>

#include "runtime/core/arena.h"
#include "runtime/notifyhub.h"

typedef enum nh_priority { NH_LOW, NH_NORMAL, NH_HIGH, NH_URGENT, NH_PRIORITIES } nh_priority;

enum { NH_TARGETS_MAX = 1000, NH_ATTACHMENTS_MAX = 100 };

typedef struct nh_message {
    atomic_uint refs;
    uint32_t place;    /* of its memory; see arena.h */
    double created_at; /* seconds since the epoch */
    uint32_t length;   /* of the packed document, NH_DOC_BYTES_MAX at most */
    /* As bits, since a queue is as long as its messages are small. */
    uint32_t priority : 2; /* nh_priority */
    uint32_t keyed : 1;    /* it has a dedupe_key */
    uint32_t timed : 1;    /* it has times */
    uint32_t flow : 28;    /* where it seems to go; see direction.h */
    char bytes[];          /* the document; behind it the id, with a NUL */
} nh_message;

/* Bytes in front of each message that are its handle's: a message and its handle live and die
 * together, so they are one allocation. */
#define NH_MESSAGE_FRONT 104

/* What only a message has that names one of the first three; it stands in front of the handle. */
typedef struct nh_times {
    double deliver_at, expires_at; /* seconds since the epoch; 0 = not given */
    double timeout;                /* seconds from acceptance; negative = none */

    /* The handle's; constant once it is accepted. */
    uint64_t deadline; /* monotonic ns at which it ends unfinished; UINT64_MAX = none */
    uint64_t release;  /* monotonic ns of its deliver_at, 0 = at once */

    /* The queue's, under its lock: places in its heaps, 0 = in none. */
    uint32_t release_position, deadline_position;
} nh_times;

extern const nh_times nh_no_times;

/* When the control thread has to see to it. */
static inline uint64_t nh_times_first(const nh_times *times) {
    return times->release > 0 && times->release < times->deadline ? times->release
                                                                  : times->deadline;
}

static inline const char *nh_message_id(const nh_message *message) {
    return message->bytes + message->length;
}

/* Its times; NULL when it has none. */
static inline nh_times *nh_message_own_times(nh_message *message) {
    void *front = (char *)message - NH_MESSAGE_FRONT - sizeof(nh_times);
    return message->timed ? front : NULL;
}

/* The same for who only reads; nh_no_times when it has none. */
static inline const nh_times *nh_message_times(const nh_message *message) {
    return message->timed ? nh_message_own_times((nh_message *)message) : &nh_no_times;
}

/* Checks a document against the message's fields (docs: the Message table) and copies it. `largest`
 * bounds its packed size, `now` is the wall clock's seconds, `arena` (NULL: none) has its memory.
 * Errors: NH_E_INVALID, NH_E_TOO_LARGE, NH_E_EXPIRED, NH_E_INTERNAL, each naming the field. */
nh_message *nh_message_create(nh_reader document, size_t largest, double now, nh_arena *arena,
                              nh_error *error);
/* A message that was accepted before, by a journal: with its id and time of then, and however late
 * it is. Errors: as above, but not NH_E_EXPIRED. */
nh_message *nh_message_restore(nh_reader document, const char *id, double created_at,
                               nh_error *error);
nh_message *nh_message_ref(nh_message *message);
void nh_message_unref(nh_message *message);
/* What the queue counts for it. */
size_t nh_message_size(const nh_message *message);

#endif
