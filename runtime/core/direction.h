/* direction.h — where a message seems to go, before anybody was asked: a number by which messages
 * to one place can be told from others while they wait. */
#ifndef NH_CORE_DIRECTION_H
#define NH_CORE_DIRECTION_H

#include "runtime/notifyhub.h"

#define NH_DIRECTION_BITS 28

/* A hash of its `count` targets, which are read and known to be texts or maps of texts. Equal for
 * targets that differ only in the recipient. Thread: any. */
uint32_t nh_direction_of(nh_reader targets, size_t count);

#endif
