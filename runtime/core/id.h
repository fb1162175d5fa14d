/* id.h — names for messages and batches that are unique in all processes: ULIDs. */
#ifndef NH_CORE_ID_H
#define NH_CORE_ID_H

enum { NH_ID_LENGTH = 26, NH_ID_MAX = 128 }; /* of one that is made; of one that a sender gives */

/* Writes 26 characters and a NUL. Thread: any. Blocks: never. */
void nh_id_make(char id[NH_ID_LENGTH + 1]);
/* The same for who knows the time: the wall clock's seconds. */
void nh_id_make_at(char id[NH_ID_LENGTH + 1], double now);

#endif
