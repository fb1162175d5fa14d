/* loop_test.c — timers, watches, deferred calls and the wake-up of a loop on a real epoll. */
#include "runtime/work/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

static nh_loop *loop;

/* What has happened, one letter each. */
static char trace[256];
static size_t traced;

static void note(char letter) {
    if (traced + 1 < sizeof trace)
        trace[traced++] = letter;
    trace[traced] = '\0';
}

static void clear(void) {
    traced = 0;
    trace[0] = '\0';
}

typedef struct named {
    nh_timer timer;
    char name;
    int again; /* how often it starts itself anew */
    struct named *victim;
} named;

static void fire(nh_timer *timer) {
    named *own = (named *)timer;
    note(own->name);
    if (own->victim)
        nh_timer_stop(loop, &own->victim->timer);
    if (own->again-- > 0)
        nh_timer_start(loop, timer, 0);
}

static void turn_for(double seconds) {
    uint64_t until = nh_after(nh_monotonic(), seconds);
    while (nh_monotonic() < until)
        nh_loop_turn(loop, 0.002);
}

static void timers_fire_in_the_order_of_their_times(void) {
    named a = {{.fire = fire}, 'a', 0, NULL}, b = {{.fire = fire}, 'b', 0, NULL},
          c = {{.fire = fire}, 'c', 0, NULL}, d = {{.fire = fire}, 'd', 0, NULL};
    nh_loop_turn(loop, 0);
    nh_timer_start(loop, &c.timer, 0.009);
    nh_timer_start(loop, &a.timer, 0.003);
    nh_timer_start(loop, &d.timer, 0.001);
    nh_timer_start(loop, &b.timer, 0.006);
    nh_timer_start(loop, &d.timer, 0.012); /* moved */
    turn_for(0.03);
    CHECK_STR(trace, "abcd");
    CHECK_INT(a.timer.position, 0);
    clear();
    nh_timer_start(loop, &a.timer, 0.001);
    nh_timer_stop(loop, &a.timer);
    nh_timer_stop(loop, &a.timer);
    turn_for(0.005);
    CHECK_STR(trace, "");
}

static void a_timer_never_fires_early(void) {
    named a = {{.fire = fire}, 'a', 0, NULL};
    uint64_t start = nh_monotonic();
    nh_loop_turn(loop, 0);
    nh_timer_start(loop, &a.timer, 0.0205);
    while (!traced)
        nh_loop_turn(loop, -1);
    CHECK(nh_monotonic() - start >= 20500000);
}

static void a_timer_may_start_itself_again(void) {
    named a = {{.fire = fire}, 'a', 3, NULL};
    nh_timer_start(loop, &a.timer, 0);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "a"); /* once a turn: a timer of 0 s cannot hold the loop */
    nh_loop_turn(loop, -1);
    nh_loop_turn(loop, -1);
    nh_loop_turn(loop, -1);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "aaaa");
}

static void a_timer_may_stop_others_that_are_due(void) {
    named b = {{.fire = fire}, 'b', 0, NULL}, a = {{.fire = fire}, 'a', 0, &b};
    nh_timer_start(loop, &a.timer, 0.001);
    nh_timer_start(loop, &b.timer, 0.002);
    usleep(5000); /* both are due in one turn */
    nh_loop_turn(loop, 0);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "a");
}

static uint64_t last_due;
static size_t fired, disordered;

static void count_fire(nh_timer *timer) {
    disordered += timer->due < last_due;
    last_due = timer->due;
    fired++;
}

static void a_hundred_thousand_timers_keep_their_order(void) {
    enum { COUNT = 100000 };
    nh_timer *timers = calloc(COUNT, sizeof *timers);
    srand(7);
    fired = disordered = 0, last_due = 0;
    nh_loop_turn(loop, 0);
    for (int i = 0; i < COUNT; i++) {
        timers[i].fire = count_fire;
        CHECK_INT(nh_timer_start(loop, &timers[i], rand() % 100000 / 1e6), NH_OK);
    }
    for (int i = 0; i < COUNT; i += 2)
        nh_timer_stop(loop, &timers[i]);
    for (int i = 1; i < COUNT; i += 4)
        nh_timer_start(loop, &timers[i], rand() % 100000 / 1e6);
    usleep(110000);
    for (int i = 0; i < 100 && fired < COUNT / 2; i++)
        nh_loop_turn(loop, 0.01);
    CHECK_INT(fired, COUNT / 2);
    CHECK_INT(disordered, 0);
    free(timers);
}

typedef struct pair {
    nh_watch watch;
    int other;
    struct pair *victim;
} pair;

static void ready(nh_watch *watch, unsigned events) {
    pair *own = (pair *)watch;
    note(events & NH_HANGUP ? 'h' : events & NH_READABLE ? 'r' : 'w');
    if (own->victim) {
        nh_watch_stop(loop, &own->victim->watch);
        close(own->victim->other);
        free(own->victim); /* its event of this turn must not come */
        own->victim = NULL;
    }
}

static pair *make_pair(int ends[2]) {
    pair *own = calloc(1, sizeof *own);
    CHECK(pipe(ends) == 0);
    own->watch.ready = ready;
    own->watch.fd = -1;
    own->other = ends[1];
    return own;
}

/* ------------------------------------------------------------ a thread held up */

enum { ANSWERS = 400 };

typedef struct answer {
    nh_watch watch;
    nh_timer timeout;
    int other;
} answer;

static int came, late;

static void read_answer(nh_watch *watch, unsigned events) {
    answer *own = (answer *)watch;
    char byte;
    came += (events & NH_READABLE) && read(watch->fd, &byte, 1) == 1;
    nh_timer_stop(loop, &own->timeout);
}

static void be_late(nh_timer *timer) {
    (void)timer;
    late++;
}

static void what_has_come_in_goes_before_what_is_overdue(void) {
    static answer answers[ANSWERS];
    came = late = 0;
    nh_loop_turn(loop, 0);
    for (int i = 0; i < ANSWERS; i++) {
        int ends[2];
        CHECK(pipe(ends) == 0);
        answers[i] = (answer){
            .watch = {.ready = read_answer, .fd = -1}, .timeout.fire = be_late, .other = ends[1]};
        CHECK_INT(nh_watch_start(loop, &answers[i].watch, ends[0], NH_READABLE), NH_OK);
        CHECK_INT(nh_timer_start(loop, &answers[i].timeout, 0.02), NH_OK);
    }
    for (int i = 0; i < ANSWERS - 1; i++)
        CHECK(write(answers[i].other, "x", 1) == 1);
    usleep(30000); /* the thread does something else meanwhile */
    nh_loop_turn(loop, 0);
    CHECK_INT(came, ANSWERS - 1);
    CHECK_INT(late, 1); /* the one without an answer */
    for (int i = 0; i < ANSWERS; i++) {
        int fd = answers[i].watch.fd;
        nh_watch_stop(loop, &answers[i].watch);
        close(fd);
        close(answers[i].other);
    }
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static void a_watch_stopped_in_a_turn_is_not_told(void) {
    int first[2], second[2];
    pair *a = make_pair(first), *b = make_pair(second);
    a->victim = b; /* whichever comes first stops the other */
    b->victim = a;
    CHECK_INT(nh_watch_start(loop, &a->watch, first[0], NH_READABLE), NH_OK);
    CHECK_INT(nh_watch_start(loop, &b->watch, second[0], NH_READABLE), NH_OK);
    CHECK(write(first[1], "x", 1) == 1 && write(second[1], "x", 1) == 1);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "r");
    /* One of the two is left: the loop tells which, for it goes on being readable. */
    CHECK(is_open(first[1]) != is_open(second[1]));
    pair *left = is_open(first[1]) ? a : b;
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "rr"); /* level-triggered */
    CHECK_INT(nh_watch_change(loop, &left->watch, 0), NH_OK);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "rr");
    CHECK_INT(nh_watch_change(loop, &left->watch, NH_READABLE), NH_OK);
    close(left->other);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "rrh");
    nh_watch_stop(loop, &left->watch);
    nh_watch_stop(loop, &left->watch);
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "rrh");
    free(left);
    close(first[0]);
    close(second[0]);
}

static void *wake_later(void *unused) {
    (void)unused;
    usleep(20000);
    for (int i = 0; i < 1000; i++)
        nh_loop_wake(loop);
    return NULL;
}

static void another_thread_wakes_it(void) {
    pthread_t thread;
    uint64_t start = nh_monotonic();
    pthread_create(&thread, NULL, wake_later, NULL);
    nh_loop_turn(loop, 10);
    CHECK(nh_monotonic() - start < 5 * NH_SECOND);
    CHECK(nh_monotonic() - start > 10000000);
    pthread_join(thread, NULL);
    nh_loop_wake(loop); /* before the turn: remembered */
    start = nh_monotonic();
    nh_loop_turn(loop, 10);
    CHECK(nh_monotonic() - start < 5 * NH_SECOND);
    nh_loop_turn(loop, 0);
    start = nh_monotonic();
    nh_loop_turn(loop, 0.03); /* and forgotten once it was seen */
    CHECK(nh_monotonic() - start > 20000000);
}

typedef struct call {
    nh_deferred deferred;
    char name;
    struct call *next, *victim;
} call;

static void called(nh_deferred *deferred) {
    call *own = (call *)deferred;
    note(own->name);
    if (own->next)
        nh_loop_defer(loop, &own->next->deferred);
    if (own->victim)
        nh_loop_undefer(&own->victim->deferred);
}

static void deferred_calls_come_in_order_and_once(void) {
    call c = {{.call = called}, 'c', NULL, NULL}, d = {{.call = called}, 'd', NULL, NULL};
    call a = {{.call = called}, 'a', &d, &c}, b = {{.call = called}, 'b', NULL, NULL};
    nh_loop_defer(loop, &a.deferred);
    nh_loop_defer(loop, &b.deferred);
    nh_loop_defer(loop, &a.deferred); /* already there */
    nh_loop_defer(loop, &c.deferred);
    nh_loop_turn(loop, 10); /* does not wait */
    CHECK_STR(trace, "ab"); /* c was taken back; what a deferred comes in the next turn */
    nh_loop_turn(loop, 10);
    CHECK_STR(trace, "abd");
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "abd");
}

static void what_is_deferred_to_the_last_comes_before_the_loop_looks_again(void) {
    call a = {{.call = called}, 'a', NULL, NULL}, b = {{.call = called}, 'b', NULL, NULL};
    call y = {{.call = called}, 'y', NULL, NULL}, z = {{.call = called}, 'z', &a, &y};
    nh_loop_defer(loop, &b.deferred);
    nh_loop_defer_last(loop, &z.deferred);
    nh_loop_defer_last(loop, &y.deferred);
    CHECK(nh_is_deferred(&z.deferred) && nh_is_deferred(&y.deferred));
    nh_loop_turn(loop, 10);  /* does not wait */
    CHECK_STR(trace, "zba"); /* y was taken back */
    CHECK(!nh_is_deferred(&z.deferred) && !nh_is_deferred(&y.deferred));
    nh_loop_turn(loop, 0);
    CHECK_STR(trace, "zba");
}

#define FRESH(test)                                                                                \
    do {                                                                                           \
        clear();                                                                                   \
        loop = nh_loop_create(NULL);                                                               \
        RUN(test);                                                                                 \
        nh_loop_destroy(loop);                                                                     \
    } while (0)

int main(void) {
    FRESH(timers_fire_in_the_order_of_their_times);
    FRESH(a_timer_never_fires_early);
    FRESH(a_timer_may_start_itself_again);
    FRESH(a_timer_may_stop_others_that_are_due);
    FRESH(a_hundred_thousand_timers_keep_their_order);
    FRESH(a_watch_stopped_in_a_turn_is_not_told);
    FRESH(what_has_come_in_goes_before_what_is_overdue);
    FRESH(another_thread_wakes_it);
    FRESH(deferred_calls_come_in_order_and_once);
    FRESH(what_is_deferred_to_the_last_comes_before_the_loop_looks_again);
    return check_end();
}
