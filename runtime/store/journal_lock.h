/* journal_lock.h — one process at a time has a journal. */
#ifndef NH_STORE_JOURNAL_LOCK_H
#define NH_STORE_JOURNAL_LOCK_H

#include "runtime/notifyhub.h"

/* Locks `<path>.lock` and returns its descriptor, which holds the lock until it is closed; -1 on
 * failure. Blocks: on the file system. Errors: NH_E_JOURNAL, naming the owner's process id. */
int nh_journal_lock(const char *path, nh_error *error);

#endif
