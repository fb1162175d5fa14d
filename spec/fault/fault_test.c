/* fault_test.c — whatever call fails once, nothing crashes, nothing leaks, nothing hangs, what was
 * accepted settles once and what was refused says why.
 *
 *     fault_test [SECONDS]     build/asan/spec/fault_test 60; notifyhub of a build in the PATH
 *
 * First a child lives the scenario and notes every place that calls something that can fail, and
 * how often. Then, for as many seconds, each child has one call of one place fail: the first call
 * of every place, then others. With 60 seconds or more every place has its turn, however long that
 * takes (some minutes); a call that did not come again, since threads were faster or slower this
 * time, is tried again. Leaks are found where the build has a sanitizer that finds them.
 */
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "spec/fault/fault.h"
#include "spec/fault/scenario.h"

enum { PATIENCE = 60, OUTPUT_MAX = 4096, JOBS_MAX = 16, TOLD_MAX = 20, WHOLE = 60 };

/* 0: it held. The others are exit codes of a child. */
enum { HELD, WRONG, LEAKED, MISSED };

__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

typedef struct trial {
    const fault_place *place; /* NULL: nothing fails */
    uint64_t nth;
    pid_t pid;
    size_t job; /* which of those that run at once */
    int output; /* a file that has what the child printed */
} trial;

static fault_notes *notes;
static char folder[64];
static char http[64], smtp[64];
static pid_t peer;
static size_t tried, missed, found;
static bool failed_once[FAULT_PLACES_MAX]; /* a call of that place did fail */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---------------------------------------------------------------------- peer */

/* The HTTP and SMTP server of `notifyhub receive`. */
static void start_peer(void) {
    int ends[2];
    if (pipe(ends) != 0 || (peer = fork()) < 0)
        perror("receiver"), exit(1);
    if (peer == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        execlp("notifyhub", "notifyhub", "receive", "--count", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    if (!from || fscanf(from, "listening http=%63s smtp=%63s", http, smtp) != 2)
        fprintf(stderr, "the receiver did not start\n"), exit(1);
}

static void end_all(void) {
    char command[96];
    if (peer > 0)
        kill(peer, SIGTERM), waitpid(peer, NULL, 0);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (*folder && system(command) != 0)
        perror(command);
}

/* -------------------------------------------------------------------- a child */

/* A journal of its own; those who had the place before may have left one. */
static const char *fresh_journal(size_t job) {
    static const char *const ends[] = {"-wal", "-shm", ".lock", ".ring", ""};
    static char journal[96], path[128];
    snprintf(journal, sizeof journal, "%s/journal-%02zu", folder, job);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf(path, sizeof path, "%s%s", journal, ends[i]);
        unlink(path);
    }
    return journal;
}

/* A thread: so what called it is the same for the run that listens and for those that fail, and its
 * places have the same addresses behind them. */
static void *live(void *argument) {
    const trial *t = argument;
    scenario s = {folder, fresh_journal(t->job), http, smtp};
    int nothing = open("/dev/null", O_WRONLY);
    void *frames[1];
    backtrace(frames, 1); /* loads what it needs */
    dup2(t->output, STDOUT_FILENO);
    dup2(nothing, STDERR_FILENO); /* the hub's log and its console */
    alarm(PATIENCE);
    if (t->place)
        fault_arm(t->place, t->nth);
    else
        fault_listen(notes);
    int wrong = scenario_run(&s);
    fault_arm(NULL, 0);
    fault_listen(NULL);
    fflush(stdout);
    dup2(t->output, STDERR_FILENO);
    if (wrong)
        _exit(WRONG);
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
        _exit(LEAKED);
    _exit(!t->place || fault_happened() ? HELD : MISSED);
}

static void start(trial *t) {
    char path[96];
    snprintf(path, sizeof path, "%s/output-XXXXXX", folder);
    t->output = mkstemp(path);
    unlink(path);
    fflush(stdout);
    t->pid = fork();
    if (t->output < 0 || t->pid < 0)
        perror("child"), exit(1);
    pthread_t thread;
    if (t->pid == 0 && (pthread_create(&thread, NULL, live, t) || pthread_join(thread, NULL)))
        _exit(WRONG);
}

/* ------------------------------------------------------------------- findings */

/* Where a place is, innermost first: what addr2line knows of it. */
static void tell_place(const fault_place *place) {
    for (int i = 0; i < FAULT_DEPTH && place->frames[i]; i++) {
        Dl_info info;
        char command[512], line[512];
        if (!dladdr(place->frames[i], &info))
            continue;
        snprintf(command, sizeof command, "addr2line -spfe '%s' 0x%zx 2>/dev/null", info.dli_fname,
                 (size_t)((char *)place->frames[i] - (char *)info.dli_fbase) - 1);
        FILE *from = popen(command, "r");
        if (from && fgets(line, sizeof line, from))
            printf("    %s", line);
        if (from)
            pclose(from);
    }
}

static void tell(const trial *t, int status) {
    static char output[OUTPUT_MAX];
    ssize_t length = pread(t->output, output, sizeof output - 1, 0);
    output[length > 0 ? length : 0] = '\0';
    if (t->place)
        printf("not ok - the %llu. %s of %llu fails here:\n", (unsigned long long)t->nth,
               t->place->call, (unsigned long long)t->place->calls);
    else
        printf("not ok - nothing fails\n");
    if (t->place)
        tell_place(t->place);
    if (WIFSIGNALED(status))
        printf("  ended by signal %d (%s)\n", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    else
        printf("  %s (%d)\n", WEXITSTATUS(status) == LEAKED ? "memory leaks" : "does not hold",
               WEXITSTATUS(status));
    printf("%s\n", output);
    fflush(stdout);
}

static void finish(trial *t, int status) {
    bool came = !WIFEXITED(status) || WEXITSTATUS(status) != MISSED;
    bool held = WIFEXITED(status) && WEXITSTATUS(status) == HELD;
    tried++;
    missed += !came; /* threads were faster or slower this time */
    if (came)
        failed_once[t->place - notes->places] = true;
    if (came && !held && found++ < TOLD_MAX)
        tell(t, status);
    close(t->output);
    *t = (trial){0};
}

/* --------------------------------------------------------------------- trials */

/* Waits for one of the children that run. */
static void wait_one(trial *running, size_t jobs) {
    int status;
    pid_t pid = wait(&status);
    for (size_t i = 0; i < jobs; i++)
        if (pid > 0 && running[i].pid == pid)
            finish(&running[i], status);
}

static void try_one(trial *running, size_t jobs, const fault_place *place, uint64_t nth) {
    for (;;) {
        for (size_t i = 0; i < jobs; i++)
            if (!running[i].pid) {
                running[i] = (trial){.place = place, .nth = nth, .job = i};
                start(&running[i]);
                return;
            }
        wait_one(running, jobs);
    }
}

/* The call of a place that a round tries; 0: none is left. First, last, then twice as many as
 * before. */
static uint64_t nth_of(const fault_place *place, unsigned round) {
    uint64_t calls = place->calls;
    if (round < 2)
        return round == 0 ? 1 : calls > 1 ? calls : 0;
    uint64_t parts = UINT64_C(1) << (round / 2), part = 1 + (uint64_t)rand() % parts;
    return calls > 2 ? 1 + calls * part / (parts + 1) : 0;
}

static size_t list_places(const fault_place **list) {
    size_t count = 0;
    for (size_t i = 0; i < FAULT_PLACES_MAX; i++)
        if (notes->places[i].key)
            list[count++] = &notes->places[i];
    for (size_t i = count; i > 1; i--) { /* in any order: the time may be over before the end */
        size_t other = (size_t)rand() % i;
        const fault_place *place = list[i - 1];
        list[i - 1] = list[other];
        list[other] = place;
    }
    return count;
}

typedef struct trials {
    trial running[JOBS_MAX];
    size_t jobs;
    const fault_place **list;
    size_t count;
} trials;

static void wait_all(trials *t) {
    for (size_t i = 0; i < t->jobs; i++)
        while (t->running[i].pid)
            wait_one(t->running, t->jobs);
}

/* One round; over when the time is. */
static void try_round(trials *t, unsigned round, double until) {
    for (size_t i = 0; i < t->count && now() < until; i++) {
        uint64_t nth = nth_of(t->list[i], round);
        if (nth)
            try_one(t->running, t->jobs, t->list[i], nth);
    }
}

/* Those whose call did not come again, another of its calls each time. */
static void try_missed(trials *t) {
    enum { TIMES = 10 };
    for (unsigned time = 0; time < TIMES; time++) {
        wait_all(t);
        for (size_t i = 0; i < t->count; i++)
            if (!failed_once[t->list[i] - notes->places])
                try_one(t->running, t->jobs, t->list[i], 1 + time % t->list[i]->calls);
    }
}

/* Returns at how many places a call has failed. */
static size_t try_all(double seconds, size_t count, const fault_place **list) {
    enum { ROUNDS = 40 };
    static trials t;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    double until = now() + seconds;
    t.jobs = processors < 2 ? 2 : processors > JOBS_MAX ? JOBS_MAX : (size_t)processors;
    t.list = list;
    t.count = count;
    try_round(&t, 0, seconds < WHOLE ? until : HUGE_VAL);
    if (seconds >= WHOLE)
        try_missed(&t);
    for (unsigned round = 1; round < ROUNDS; round++)
        try_round(&t, round, until);
    wait_all(&t);
    size_t failed = 0;
    for (size_t i = 0; i < count; i++)
        failed += failed_once[list[i] - notes->places];
    return failed;
}

/* The scenario as it is; what it calls is noted. */
static bool listen_first(void) {
    trial t = {0};
    int status;
    start(&t);
    waitpid(t.pid, &status, 0);
    bool held = WIFEXITED(status) && WEXITSTATUS(status) == HELD;
    if (!held)
        tell(&t, status);
    close(t.output);
    return held;
}

int main(int count, char **arguments) {
    static const fault_place *list[FAULT_PLACES_MAX];
    const char *seconds = count > 1 ? arguments[1] : getenv("NH_FAULT_SECONDS");
    const char *seed = getenv("NH_FAULT_SEED");
    strcpy(folder, "/tmp/nh-fault-XXXXXX");
    if (!mkdtemp(folder))
        perror(folder), exit(1);
    atexit(end_all);
    scenario_prepare(folder);
    start_peer();
    notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (notes == MAP_FAILED || !listen_first())
        return 1;
    srand(seed ? (unsigned)atoi(seed) : (unsigned)time(NULL));
    size_t places = list_places(list);
    double limit = seconds ? atof(seconds) : 20;
    size_t reached = try_all(limit, places, list);
    size_t rest = limit < WHOLE ? 0 : places - reached;
    bool held = found == 0 && missed <= tried / 2 && rest <= places / 50;
    for (size_t i = 0; rest > 0 && i < places; i++)
        if (!failed_once[list[i] - notes->places]) {
            printf("never reached again: %s\n", list[i]->call);
            tell_place(list[i]);
        }
    printf(
        "# %zu places, a call failed at %zu of them; %zu trials, %zu of them not reached again\n",
        places, reached, tried, missed);
    printf("scorecard R13 | one call fails%s: crashes, leaks, hangs, messages without an end | "
           "%zu in %zu failures at %zu of %zu places | 0 | %s\n",
           __lsan_do_recoverable_leak_check ? " under AddressSanitizer" : "", found, tried - missed,
           reached, places, held ? "pass" : "FAIL");
    return !held;
}
