/* signals.c — a handler that writes a byte, and a thread that does what the byte says.
 *
 * The handlers run in the thread that runs the script and only write to a pipe, so that the hubs'
 * calls, which may block, are made outside of them. Handlers, not a mask and a signalfd: a mask
 * would pass to the programs that the script starts. cli_signals_stop waits for a drain or a reload
 * that is under way. A script may have caught the error
 * that ends it, or be in a callback, whose errors end nothing: some time after the hubs are drained
 * it is told again and again, and when that does not help (it may wait for something else), the
 * thread ends the process.
 *
 * A terminal that closes sends SIGHUP, too. Then nobody is there to want new rules: when one of the
 * three standard descriptors was a terminal and no longer is, SIGHUP means what SIGTERM does.
 */
#include "runtime/cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/command.h"
#include "runtime/cli/term.h"
#include "runtime/notifyhub.h"

/* What a script has after its hubs' end to put things in order; then it is told again to end, this
 * often and so far apart. */
#define GRACE_MILLISECONDS    2000
#define REMINDERS             20
#define REMINDER_MILLISECONDS 100

enum { RELOAD = 'H', DRAIN = 'T', END = 'E', BYTES = 64 };

/* A handler has no argument: there is one of this in a process. */
static struct {
    const char *command;
    void (*interrupt)(void);
    int pipe[2];
    pthread_t thread, first; /* the thread here, and the one with the script */
    atomic_bool terminated;  /* SIGTERM came */
    atomic_bool drained;     /* and the hubs are closed */
    atomic_bool ended;       /* the script is over, the thread is to end */
    size_t left;             /* the thread's until it is joined */
} state;

static bool was_terminal[3];

void cli_terminal_remember(void) {
    for (int fd = 0; fd < 3; fd++)
        was_terminal[fd] = isatty(fd);
}

bool cli_terminal_is_gone(void) {
    for (int fd = 0; fd < 3; fd++)
        if (was_terminal[fd] && !isatty(fd))
            return true;
    return false;
}

/* -------------------------------------------------------------------- handlers */

static void tell(char what) {
    int kept = errno;
    ssize_t written = write(state.pipe[1], &what, 1); /* a full pipe wakes the thread as well */
    (void)written;
    errno = kept;
}

static void on_term(int number) {
    if (atomic_exchange(&state.terminated, true)) { /* had enough of waiting */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    tell(DRAIN);
    state.interrupt();
}

/* Also how the thread reminds a script of its end: see `drain`. */
static void on_hangup(int number) {
    (void)number;
    if (atomic_load(&state.drained))
        state.interrupt();
    else
        tell(RELOAD);
}

static void handle(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaddset(&action.sa_mask, SIGHUP);
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN && number == SIGHUP)
        return;
    sigaction(number, &action, NULL);
}

/* ------------------------------------------------------------------ the thread */

static void not_loaded(const nh_error *error, void *user) {
    (void)user;
    cli_complain(state.command, "SIGHUP: the rules before go on: %s", error->message);
}

/* The script has had its time. What it printed is to be seen, if nobody is about to print more. */
static void end_process(void) {
    if (ftrylockfile(stdout) == 0)
        fflush_unlocked(stdout);
    _exit(state.left ? CLI_FAILED : CLI_OK);
}

/* Waits for the next bytes, of which those that are alike count once. False: none within
 * `milliseconds` (-1: for ever). */
static bool next_bytes(char bytes[static BYTES + 1], int milliseconds) {
    struct pollfd readable = {.fd = state.pipe[0], .events = POLLIN};
    *bytes = '\0';
    if (poll(&readable, 1, milliseconds) == 0)
        return false;
    ssize_t length = read(state.pipe[0], bytes, BYTES);
    bytes[length > 0 ? length : 0] = '\0';
    return true;
}

/* Waits for the script's end. False: it has not come. */
static bool ends_within(int milliseconds) {
    char ignored[BYTES + 1];
    while (!atomic_load(&state.ended) && next_bytes(ignored, milliseconds))
        ;
    return atomic_load(&state.ended);
}

static void drain(void) {
    state.left = nh_hubs_close(CLI_DRAIN_SECONDS);
    if (state.left)
        cli_complain(state.command, "%zu messages were not settled within %d s of SIGTERM",
                     state.left, CLI_DRAIN_SECONDS);
    if (ends_within(GRACE_MILLISECONDS))
        return;
    atomic_store(&state.drained, true);
    for (int i = 0; i < REMINDERS; i++) {
        pthread_kill(state.first, SIGHUP);
        if (ends_within(REMINDER_MILLISECONDS))
            return;
    }
    end_process();
}

static void *attend(void *unused) {
    char bytes[BYTES + 1];
    (void)unused;
    while (!atomic_load(&state.ended) && next_bytes(bytes, -1)) {
        if (strchr(bytes, DRAIN))
            drain();
        else if (strchr(bytes, RELOAD) && cli_terminal_is_gone())
            /* NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread): there is a handler for it */
            pthread_kill(state.first, SIGTERM);
        else if (strchr(bytes, RELOAD))
            nh_hubs_reload(not_loaded, NULL);
    }
    return NULL;
}

/* ------------------------------------------------------------ start and stop */

bool cli_signals_start(const char *command, void (*interrupt)(void)) {
    sigset_t all, before;
    state.command = command;
    state.first = pthread_self();
    cli_terminal_remember();
    if (pipe2(state.pipe, O_CLOEXEC) != 0)
        return false;
    state.interrupt = interrupt;
    fcntl(state.pipe[1], F_SETFL, O_NONBLOCK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* for the thread, which inherits it */
    int failed = pthread_create(&state.thread, NULL, attend, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        close(state.pipe[0]);
        close(state.pipe[1]);
        state.interrupt = NULL;
        return false;
    }
    handle(SIGTERM, on_term);
    handle(SIGHUP, on_hangup);
    return true;
}

bool cli_signals_terminated(void) {
    return atomic_load(&state.terminated);
}

void cli_signals_stop(size_t *left) {
    *left = 0;
    if (!state.interrupt)
        return;
    atomic_store(&state.ended, true);
    tell(END);
    pthread_join(state.thread, NULL);
    *left = state.left;
    /* From here on they end the process at once; a byte that comes before is not read. */
    signal(SIGTERM, SIG_DFL);
    if (signal(SIGHUP, SIG_DFL) == SIG_IGN)
        signal(SIGHUP, SIG_IGN);
    close(state.pipe[0]);
    close(state.pipe[1]);
    state.interrupt = NULL;
}
