/* fault.c — the wrappers. Thread: any. A wrapper that has nothing to note and nothing to let fail
 * costs one look at an atomic. */
#include "spec/fault/fault.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

static fault_notes *_Atomic listening;
static const fault_place *_Atomic armed;
static _Atomic uint64_t left; /* calls until it fails */
static atomic_bool happened;
static _Thread_local bool inside; /* backtrace and the notes call malloc, too */
static _Thread_local int again;   /* so many calls of Lua's allocator fail, too */

void fault_listen(fault_notes *notes) {
    atomic_store(&listening, notes);
}

void fault_arm(const fault_place *place, uint64_t nth) {
    atomic_store(&left, nth);
    atomic_store(&armed, place);
}

bool fault_happened(void) {
    return atomic_load(&happened);
}

/* FNV-1a over the return addresses. */
static uint64_t key_of(void *const *frames, size_t count) {
    uint64_t key = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < count; i++)
        key = (key ^ (uintptr_t)frames[i]) * UINT64_C(1099511628211);
    return key ? key : 1;
}

static void note(fault_notes *notes, uint64_t key, const char *call, void *const *frames) {
    for (size_t at = key % FAULT_PLACES_MAX, tries = 0; tries < 64;
         at = (at + 1) % FAULT_PLACES_MAX, tries++) {
        fault_place *place = &notes->places[at];
        uint64_t free_key = 0;
        if (atomic_compare_exchange_strong(&place->key, &free_key, key)) {
            place->call = call;
            memcpy(place->frames, frames, sizeof place->frames);
            atomic_fetch_add(&notes->count, 1);
            free_key = key;
        }
        if (free_key == key || atomic_load(&place->key) == key) {
            atomic_fetch_add(&place->calls, 1);
            return;
        }
    }
}

/* Whether this call is to fail; `caller` is where it returns to, and tells most places apart
 * without looking further. */
static bool fails_at(const char *call, void *caller) {
    enum { OWN = 3 }; /* this function, the wrapper, and a sanitizer's backtrace */
    fault_notes *notes = atomic_load_explicit(&listening, memory_order_relaxed);
    const fault_place *wanted = atomic_load_explicit(&armed, memory_order_relaxed);
    void *all[FAULT_DEPTH + OWN] = {NULL}, **frames = all;
    if ((!notes && (!wanted || wanted->frames[0] != caller)) || inside)
        return false;
    inside = true;
    backtrace(all, FAULT_DEPTH + OWN);
    inside = false;
    while (*frames != caller && frames < all + OWN)
        frames++;
    uint64_t key = key_of(frames, FAULT_DEPTH);
    if (notes)
        note(notes, key, call, frames);
    if (!wanted || key != wanted->key || atomic_fetch_sub(&left, 1) != 1)
        return false;
    atomic_store(&happened, true);
    return true;
}

#define fails(call) fails_at(call, __builtin_return_address(0))

#define REAL(result, name, ...)                                                                    \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

/* A wrapper of a call that tells its failure by a value and errno. */
#define WRAP(result, name, failure, number, arguments, ...)                                        \
    REAL(result, name, __VA_ARGS__) {                                                              \
        if (fails(#name))                                                                          \
            return errno = (number), (failure);                                                    \
        return __real_##name arguments;                                                            \
    }

/* clang-format off */
WRAP(void *, malloc, NULL, ENOMEM, (size), size_t size)
WRAP(void *, calloc, NULL, ENOMEM, (count, size), size_t count, size_t size)
WRAP(void *, realloc, NULL, ENOMEM, (memory, size), void *memory, size_t size)
WRAP(char *, strdup, NULL, ENOMEM, (text), const char *text)
WRAP(void *, mmap, (void *)-1, ENOMEM, (at, length, protection, flags, fd, offset),
     void *at, size_t length, int protection, int flags, int fd, long offset)
WRAP(long, pread, -1, EIO, (fd, bytes, length, at), int fd, void *bytes, size_t length, long at)
WRAP(long, pwrite, -1, ENOSPC, (fd, bytes, length, at),
     int fd, const void *bytes, size_t length, long at)
WRAP(int, fsync, -1, EIO, (fd), int fd)
WRAP(int, ftruncate, -1, ENOSPC, (fd, length), int fd, long length)
WRAP(int, pipe2, -1, EMFILE, (fds, flags), int *fds, int flags)
WRAP(int, eventfd, -1, EMFILE, (value, flags), unsigned value, int flags)
WRAP(int, epoll_create1, -1, EMFILE, (flags), int flags)
WRAP(int, epoll_ctl, -1, ENOMEM, (epoll, action, fd, event),
     int epoll, int action, int fd, struct epoll_event *event)
WRAP(int, socket, -1, EMFILE, (domain, type, protocol), int domain, int type, int protocol)
WRAP(int, inotify_init1, -1, EMFILE, (flags), int flags)
WRAP(int, inotify_add_watch, -1, ENOSPC, (fd, path, mask), int fd, const char *path, uint32_t mask)
WRAP(void *, opendir, NULL, EMFILE, (path), const char *path)
WRAP(int, scandir, -1, ENOMEM, (path, names, filter, compare), const char *path,
     struct dirent ***names, int (*filter)(const struct dirent *),
     int (*compare)(const struct dirent **, const struct dirent **))
WRAP(FILE *, open_memstream, NULL, ENOMEM, (bytes, length), char **bytes, size_t *length)
WRAP(char *, realpath, NULL, ENOMEM, (path, to), const char *path, char *to)
/* clang-format on */

REAL(int, open, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = va_arg(arguments, int);
    va_end(arguments);
    if (fails("open"))
        return errno = EMFILE, -1;
    return __real_open(path, flags, mode);
}

/* Eight bytes are a wake-up's, which cannot fail. */
REAL(long, read, int fd, void *bytes, size_t length) {
    if (length != sizeof(uint64_t) && fails("read"))
        return errno = EIO, -1;
    return __real_read(fd, bytes, length);
}

REAL(long, write, int fd, const void *bytes, size_t length) {
    if (length != sizeof(uint64_t) && fails("write"))
        return errno = ENOSPC, -1;
    return __real_write(fd, bytes, length);
}

/* Returns what others leave in errno. */
REAL(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes,
     void *(*start)(void *), void *argument) {
    if (fails("pthread_create"))
        return EAGAIN;
    return __real_pthread_create(thread, attributes, start, argument);
}

/* Lua collects its garbage and asks once more before it gives up: that fails, too. */
REAL(void *, nh_limiter_alloc, void *limiter, void *memory, size_t before, size_t after) {
    bool grows = after > (memory ? before : 0);
    if (grows && again > 0 && again--)
        return NULL;
    if (grows && fails("nh_limiter_alloc")) {
        again = 1;
        return NULL;
    }
    return __real_nh_limiter_alloc(limiter, memory, before, after);
}
