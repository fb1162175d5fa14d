/* fault_test.c — whatever call fails once, nothing crashes, nothing leaks, nothing hangs, what was
 * accepted settles once and what was refused says why.
 *
 *     fault_test [SECONDS]
 *
 * First a child lives the scenario and notes every place that calls something that can fail, and
 * how often. Then, for as many seconds, each child has one call of one place fail: the first call
 * of every place, then others. Leaks are found where the build has a sanitizer that finds them.
 */
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
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

enum { PATIENCE = 60, OUTPUT_MAX = 4096, JOBS_MAX = 16, TOLD_MAX = 20 };

/* 0: it held. The others are exit codes of a child. */
enum { HELD, WRONG, LEAKED, MISSED };

__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

typedef struct trial {
    const fault_place *place; /* NULL: nothing fails */
    uint64_t nth;
    pid_t pid;
    int output; /* a file that has what the child printed */
} trial;

static fault_notes *notes;
static char folder[64];
static char http[64], smtp[64];
static pid_t peer;
static size_t tried, missed, found;

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

static void live(const trial *t) {
    scenario s = {folder, http, smtp};
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
    if (t->pid == 0)
        live(t);
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
    tried++;
    if (WIFEXITED(status) && WEXITSTATUS(status) == MISSED)
        missed++; /* threads were faster or slower this time */
    else if ((!WIFEXITED(status) || WEXITSTATUS(status) != HELD) && found++ < TOLD_MAX)
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
                running[i] = (trial){.place = place, .nth = nth};
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

/* Returns how many places had their first call fail. */
static size_t try_all(double seconds, size_t count, const fault_place **list) {
    enum { ROUNDS = 40 };
    static trial running[JOBS_MAX];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t jobs = processors < 2 ? 2 : processors > JOBS_MAX ? JOBS_MAX : (size_t)processors;
    size_t first = 0;
    double until = now() + seconds;
    for (unsigned round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < count && now() < until; i++) {
            uint64_t nth = nth_of(list[i], round);
            if (nth)
                try_one(running, jobs, list[i], nth);
            first += round == 0;
        }
    for (size_t i = 0; i < jobs; i++)
        while (running[i].pid)
            wait_one(running, jobs);
    return first;
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
    size_t first = try_all(seconds ? atof(seconds) : 20, places, list);
    bool held = found == 0 && missed <= tried / 2;
    if (missed > tried / 2)
        printf("not ok - most calls that were to fail did not come again\n");
    printf("# %zu places, %zu of them tried, %zu failures in all, %zu not reached again\n", places,
           first, tried, missed);
    printf("scorecard R13 | one call fails: crashes, leaks, hangs, messages without an end | "
           "%zu in %zu failures at %zu of %zu places | 0 | %s\n",
           found, tried - missed, first, places, held ? "pass" : "FAIL");
    return !held;
}
