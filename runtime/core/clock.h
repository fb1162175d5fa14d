/* clock.h — the two clocks: the wall clock for what people and platforms see, the monotonic one for
 * waiting. */
#ifndef NH_CORE_CLOCK_H
#define NH_CORE_CLOCK_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define NH_SECOND UINT64_C(1000000000)

static inline uint64_t nh_clock_read(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NH_SECOND + (uint64_t)now.tv_nsec;
}

/* Nanoseconds since some start; never goes back. */
static inline uint64_t nh_monotonic(void) {
    return nh_clock_read(CLOCK_MONOTONIC);
}

/* Seconds since the epoch. */
static inline double nh_wall(void) {
    return (double)nh_clock_read(CLOCK_REALTIME) / (double)NH_SECOND;
}

/* The monotonic time `seconds` from `now`; UINT64_MAX for a negative or unreachable one. */
static inline uint64_t nh_after(uint64_t now, double seconds) {
    if (!(seconds >= 0) || seconds > 1e9)
        return UINT64_MAX;
    return now + (uint64_t)(seconds * (double)NH_SECOND);
}

static inline struct timespec nh_timespec(uint64_t monotonic) {
    return (struct timespec){.tv_sec = (time_t)(monotonic / NH_SECOND),
                             .tv_nsec = (long)(monotonic % NH_SECOND)};
}

/* A condition variable that waits by the monotonic clock. 0 or an errno. */
static inline int nh_cond_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    int failed = pthread_condattr_init(&attributes);
    if (failed)
        return failed;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    failed = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed;
}

/* Waits until signalled or `due` (monotonic; UINT64_MAX = no limit). 0, or ETIMEDOUT. */
static inline int nh_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t due) {
    if (due == UINT64_MAX)
        return pthread_cond_wait(condition, mutex);
    struct timespec until = nh_timespec(due);
    return pthread_cond_timedwait(condition, mutex, &until);
}

/* Takes one from the semaphore, waiting until `due` (as above) at most; false when it is too late.
 */
static inline bool nh_sem_wait(sem_t *semaphore, uint64_t due) {
    struct timespec until = nh_timespec(due);
    int failed;
    do
        failed = due == UINT64_MAX ? sem_wait(semaphore)
                                   : sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    while (failed && errno == EINTR);
    return !failed;
}

#endif
