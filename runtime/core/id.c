/* id.c — ULID: 48 bits of milliseconds, then 80 bits that differ: 40 drawn at random once a process
 * (again after a fork), 40 counted up. The counter makes ids of one process differ for certain, the
 * random part those of two. They sort by time. */
#include "runtime/core/id.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/random.h>

#include "runtime/core/clock.h"

static _Atomic uint64_t process;
static _Atomic uint64_t counter;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void draw(void) {
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != sizeof random) {
        random[0] = nh_clock_read(CLOCK_REALTIME) * UINT64_C(0x9E3779B97F4A7C15);
        random[1] = nh_monotonic();
    }
    atomic_store(&process, random[0] & UINT64_C(0xFFFFFFFFFF));
    atomic_store(&counter, random[1] & UINT64_C(0x7FFFFFFFFF));
}

static void first(void) {
    draw();
    pthread_atfork(NULL, NULL, draw);
}

/* Crockford's base 32, most significant digit first. */
static void digits(char *to, int count, uint64_t value) {
    for (int i = count - 1; i >= 0; i--, value >>= 5)
        to[i] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[value & 31];
}

void nh_id_make_at(char id[NH_ID_LENGTH + 1], double now) {
    pthread_once(&once, first);
    uint64_t count = atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed);
    digits(id, 10, (uint64_t)(now * 1000));
    digits(id + 10, 8, atomic_load_explicit(&process, memory_order_relaxed));
    digits(id + 18, 8, count & UINT64_C(0xFFFFFFFFFF));
    id[NH_ID_LENGTH] = '\0';
}

void nh_id_make(char id[NH_ID_LENGTH + 1]) {
    nh_id_make_at(id, nh_wall());
}
