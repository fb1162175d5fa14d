/* hubs.c — a ring of places, one in each open hub, under one lock.
 *
 * This is one of the few things that a process has once. A hub enters when it is open and leaves
 * before its memory can go, so that what the list holds can always be held. The lock is taken last
 * and for some instructions only; it is also taken around a fork, so that the child finds it free.
 */
#include "runtime/hubs.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/core/fork.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static nh_hubs_place head = {.prev = &head, .next = &head};

static void before_fork(void) {
    pthread_mutex_lock(&lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&lock);
}

static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork, after_fork);
}

void nh_hubs_enter(nh_hubs_place *place, nh_owner *owner) {
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
    *place = (nh_hubs_place){.owner = owner, .prev = head.prev, .next = &head};
    place->prev->next = place->next->prev = place;
    pthread_mutex_unlock(&lock);
}

void nh_hubs_leave(nh_hubs_place *place) {
    pthread_mutex_lock(&lock);
    if (place->owner) {
        place->prev->next = place->next;
        place->next->prev = place->prev;
        place->owner = NULL;
    }
    pthread_mutex_unlock(&lock);
}

nh_owner **nh_hubs_all(size_t *count) {
    unsigned generation = nh_fork_generation();
    size_t most = 0;
    *count = 0;
    pthread_mutex_lock(&lock);
    for (const nh_hubs_place *place = head.next; place != &head; place = place->next)
        most++;
    nh_owner **owners = most ? malloc(most * sizeof *owners) : NULL;
    for (nh_hubs_place *place = head.next; owners && place != &head; place = place->next) {
        if (place->owner->fork_generation != generation)
            continue; /* of the process that this one was forked from */
        place->owner->hold(place->owner);
        owners[(*count)++] = place->owner;
    }
    pthread_mutex_unlock(&lock);
    return owners;
}
