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
    double created_at; /* seconds since the epoch, as the next two; 0 = not given */
    double deliver_at;
    double expires_at;
    double timeout;  /* seconds from acceptance; negative = none */
    uint32_t length; /* of the packed document, NH_DOC_BYTES_MAX at most */
    /* As bits, since a queue is as long as its messages are small. */
    uint32_t priority : 2; /* nh_priority */
    uint32_t keyed : 1;    /* it has a dedupe_key */
    uint32_t flow : 29;    /* where it seems to go; see direction.h */
    const char *id;        /* into `bytes`, behind the document */
    char bytes[];
} nh_message;

/* Bytes in front of each message that are its handle's: a message and its handle live and die
 * together, so they are one allocation. */
#define NH_MESSAGE_FRONT 136

/* Checks a document against the message's fields (docs: the Message table) and copies it. `largest`
 * bounds its packed size, `now` is the wall clock's seconds, `arena` (NULL: none) has its memory.
 * Errors: NH_E_INVALID, NH_E_TOO_LARGE, NH_E_EXPIRED, NH_E_INTERNAL, each naming the field. */
nh_message *nh_message_create(const nh_doc *doc, size_t largest, double now, nh_arena *arena,
                              nh_error *error);
/* A message that was accepted before, by a journal: with its id and time of then, and however late
 * it is. Errors: as above, but not NH_E_EXPIRED. */
nh_message *nh_message_restore(const nh_doc *doc, const char *id, double created_at,
                               nh_error *error);
nh_message *nh_message_ref(nh_message *message);
void nh_message_unref(nh_message *message);
/* What the queue counts for it. */
size_t nh_message_size(const nh_message *message);

#endif
