/* journal_poison.h — who was inside a script when the process ended. */
#ifndef NH_STORE_JOURNAL_POISON_H
#define NH_STORE_JOURNAL_POISON_H

#include "runtime/store/store.h"

typedef struct nh_journal_poison nh_journal_poison;

/* Opens `<path>.ring`, made when it is not there. Blocks: on the file system. Errors: NH_E_JOURNAL.
 */
nh_journal_poison *nh_journal_poison_open(const char *path, nh_error *error);
void nh_journal_poison_close(nh_journal_poison *poison); /* NULL is allowed */

/* The rows that the last process was inside of, at most NH_STORE_WORKERS_MAX. */
size_t nh_journal_poison_read(const nh_journal_poison *poison, nh_row *rows);
void nh_journal_poison_clear(nh_journal_poison *poison);

/* Thread: the worker's. `row` 0 when it is outside. */
void nh_journal_poison_mark(nh_journal_poison *poison, unsigned worker, nh_row row);

#endif
