/* journal_poison.c — a mapped file with a slot for each worker: the row that its script has now.
 *
 * A worker runs one script at a time, so a slot is written on every entering and leaving, by one
 * thread: a relaxed store, nothing else. The page cache keeps it when the process ends in any way;
 * what a power loss makes of it does not matter, since no message causes one. The opener reads the
 * slots of the process before and clears them. The file is laid out in full when it is made: a
 * store into a hole would kill the process on a full disk.
 */
#include "runtime/store/journal_poison.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/core/error.h"

enum { SLOT = 64 }; /* a cache line: workers do not slow each other */

typedef struct slot {
    _Alignas(SLOT) _Atomic uint64_t row;
} slot;

typedef struct ring {
    _Alignas(SLOT) char magic[8];
    slot slots[NH_STORE_WORKERS_MAX];
} ring;

struct nh_journal_poison {
    ring *map;
};

static const char magic[8] = "NHRING1";

nh_journal_poison *nh_journal_poison_open(const char *path, nh_error *error) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.ring", path);
    nh_journal_poison *poison = malloc(sizeof *poison);
    if (!poison) {
        nh_fail_memory(error);
        return NULL;
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        nh_error_set(error, NH_E_JOURNAL, "%s: cannot be opened: %s", name, strerror(errno));
        goto fail;
    }
    int failed = posix_fallocate(fd, 0, sizeof(ring));
    if (failed) {
        nh_error_set(error, NH_E_JOURNAL, "%s: no room for %zu bytes: %s", name, sizeof(ring),
                     strerror(failed));
        goto fail_file;
    }
    poison->map = mmap(NULL, sizeof(ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (poison->map == MAP_FAILED) {
        nh_error_set(error, NH_E_JOURNAL, "%s: cannot be mapped: %s", name, strerror(errno));
        goto fail_file;
    }
    close(fd);
    if (memcmp(poison->map->magic, magic, sizeof magic) != 0) {
        memcpy(poison->map->magic, magic, sizeof magic);
        nh_journal_poison_clear(poison);
    }
    return poison;
fail_file:
    close(fd);
fail:
    free(poison);
    return NULL;
}

void nh_journal_poison_close(nh_journal_poison *poison) {
    if (!poison)
        return;
    munmap(poison->map, sizeof(ring));
    free(poison);
}

size_t nh_journal_poison_read(const nh_journal_poison *poison, nh_row *rows) {
    size_t count = 0;
    for (unsigned i = 0; i < NH_STORE_WORKERS_MAX; i++) {
        nh_row row = atomic_load_explicit(&poison->map->slots[i].row, memory_order_relaxed);
        if (row)
            rows[count++] = row;
    }
    return count;
}

void nh_journal_poison_clear(nh_journal_poison *poison) {
    for (unsigned i = 0; i < NH_STORE_WORKERS_MAX; i++)
        nh_journal_poison_mark(poison, i, 0);
}

void nh_journal_poison_mark(nh_journal_poison *poison, unsigned worker, nh_row row) {
    if (worker < NH_STORE_WORKERS_MAX)
        atomic_store_explicit(&poison->map->slots[worker].row, row, memory_order_relaxed);
}
