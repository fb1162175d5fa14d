/* send.c — `notifyhub send`: one message, or a file of them, through notifyhub.h.
 *
 * One thread and one loop for both: feed what the hub takes, wait for settlements, signals and more
 * input, report. At most `window` messages are under way, each in a slot whose number is the tag of
 * its watch, so a million lines cost what the window costs. A message that the hub refuses because
 * its queue is full is held until something settles. A regular file is read twice: once to find a
 * line that is not JSON before anything is sent.
 *
 * Signals are read like input. SIGINT cancels; SIGTERM lets a batch that was taken in come to its
 * end, and the input wait for the next run; SIGHUP reloads the rules.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "runtime/cli/command.h"
#include "runtime/cli/compose.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/lines.h"
#include "runtime/cli/outcome.h"
#include "runtime/cli/signals.h"
#include "runtime/cli/term.h"
#include "runtime/cli/when.h"

#define WINDOW_MAX       8192       /* messages under way, if the hub's queue holds as many */
#define FEED_A_TURN      256        /* messages between two looks at what has settled */
#define LINE_LONGEST     (64 << 20) /* bytes */
#define BODY_LONGEST     (32 << 20)
#define PROGRESS_SECONDS 0.2

typedef struct send_settings {
    cli_message message;
    const char *config, *rules, *batch;
    double wait; /* seconds, negative: until settled */
    bool json;
} send_settings;

typedef struct slot {
    nh_handle *handle; /* NULL: free */
    size_t line;       /* of the batch */
    uint32_t next_free;
} slot;

typedef struct sender {
    const char *name; /* the command's, for complaints */
    const send_settings *settings;
    nh_hub *hub;
    nh_inbox *inbox;
    int signals;
    bool shows_progress;

    cli_lines *lines; /* NULL: the one message is in `held` */
    nh_doc *defaults; /* fields for lines that lack them */
    nh_doc *held;     /* taken from the input, not yet accepted */
    size_t held_line;
    bool ended; /* no more input is taken */
    bool later; /* the input has nothing now */

    slot *slots;
    uint32_t window, free_slot;

    size_t accepted, settled, delivered;
    bool mistaken;                               /* the input or the configuration was at fault */
    bool interrupted;                            /* by a signal that cancels */
    bool cut;                                    /* lines of a file were left unread */
    bool given_up;                               /* --wait is over */
    uint64_t started, all_accepted, progress_at; /* nanoseconds, 0: not yet */
    uint64_t drained_by;                         /* 0: SIGTERM has not come */
    size_t progress_settled;
} sender;

/* ---------------------------------------------------------------------- reports */

static void clear_progress(const sender *self) {
    if (self->shows_progress)
        fputs("\r\033[K", stderr);
}

static void show_progress(sender *self, uint64_t now) {
    char accepted[CLI_NUMBER_MAX], settled[CLI_NUMBER_MAX], failed[CLI_NUMBER_MAX];
    char rate[CLI_NUMBER_MAX];
    double seconds = (double)(now - self->progress_at) / 1e9;
    double a_second = (double)(self->settled - self->progress_settled) / seconds;
    fprintf(stderr, "\r%s sent  %s settled  %s failed  %s/s\033[K",
            cli_number(accepted, self->accepted), cli_number(settled, self->settled),
            cli_number(failed, self->settled - self->delivered),
            cli_number(rate, (uint64_t)a_second));
    self->progress_at = now;
    self->progress_settled = self->settled;
}

static void report(sender *self, const slot *of) {
    nh_receipt *receipt = nh_handle_receipt(of->handle);
    nh_doc *doc = receipt ? nh_receipt_doc(receipt) : NULL;
    nh_status status = receipt ? nh_receipt_status(receipt) : NH_FAILED;

    self->settled++;
    self->delivered += status == NH_DELIVERED;
    if (doc && self->settings->json) {
        char *text = nh_doc_to_json(doc);
        if (text)
            puts(text);
        nh_free(text);
    } else if (doc) {
        if (status != NH_DELIVERED)
            clear_progress(self);
        cli_outcome_print(nh_doc_root(doc), status, self->lines ? of->line : 0);
    }
    nh_doc_unref(doc);
    nh_receipt_unref(receipt);
}

static void print_summary(const sender *self) {
    char all[CLI_NUMBER_MAX], delivered[CLI_NUMBER_MAX], failed[CLI_NUMBER_MAX];
    double seconds = (double)(cli_clock() - self->started) / 1e9;
    fprintf(self->settings->json ? stderr : stdout,
            "%s message%s: %s delivered, %s not, in %.1f s\n", cli_number(all, self->accepted),
            self->accepted == 1 ? "" : "s", cli_number(delivered, self->delivered),
            cli_number(failed, self->accepted - self->delivered), seconds);
    if (self->drained_by)
        cli_complain(self->name, "%s: SIGTERM came, line %zu was the last%s",
                     cli_lines_name(self->lines), cli_lines_number(self->lines),
                     self->cut ? "; those after it were not sent" : "");
}

/* ------------------------------------------------------------------------ input */

/* Tells what is wrong with a line, and how many went out before it. */
static void bad_line(sender *self, size_t line, const char *problem) {
    clear_progress(self);
    cli_complain(self->name, "%s:%zu: %s", cli_lines_name(self->lines), line, problem);
    self->mistaken = self->ended = true;
}

/* A line is a document of one line: that it is its first says nothing beside the file's number. */
static nh_doc *parse_line(const char *text, size_t length, nh_error *error) {
    static const char first[] = "JSON, line 1, ";
    nh_doc *doc = nh_doc_from_json(text, length, error);
    if (!doc && strncmp(error->message, first, sizeof first - 1) == 0)
        memmove(error->message, error->message + sizeof first - 1,
                strlen(error->message) - (sizeof first - 1) + 1);
    if (!doc || nh_value_kind(nh_doc_root(doc)) == NH_MAP)
        return doc;
    *error = (nh_error){.code = NH_E_INVALID, .message = "a line must be a JSON object"};
    nh_doc_unref(doc);
    return NULL;
}

/* Reads all of a regular file once, to send nothing when one of its lines is broken. */
static bool check_lines(sender *self) {
    const char *text;
    size_t length;
    nh_error error;
    cli_lines_state state;

    if (!cli_lines_rewind(self->lines))
        return true;
    while ((state = cli_lines_next(self->lines, &text, &length)) == CLI_LINE) {
        nh_doc *doc = parse_line(text, length, &error);
        if (!doc) {
            bad_line(self, cli_lines_number(self->lines), error.message);
            return false;
        }
        nh_doc_unref(doc);
    }
    if (state == CLI_BROKEN) {
        bad_line(self, cli_lines_number(self->lines), cli_lines_problem(self->lines));
        return false;
    }
    return cli_lines_rewind(self->lines);
}

/* Takes the next message from the input into `held`. */
static void take(sender *self) {
    const char *text;
    size_t length;
    nh_error error;

    if (!self->lines) {
        self->ended = true;
        return;
    }
    switch (cli_lines_next(self->lines, &text, &length)) {
    case CLI_LATER:
        self->later = true;
        return;
    case CLI_END:
        self->ended = true;
        return;
    case CLI_BROKEN:
        bad_line(self, cli_lines_number(self->lines), cli_lines_problem(self->lines));
        return;
    case CLI_LINE:
        break;
    }
    self->held_line = cli_lines_number(self->lines);
    self->held = parse_line(text, length, &error);
    if (self->held && nh_value_count(nh_doc_root(self->defaults))) {
        nh_doc *line = self->held;
        self->held = cli_compose_over(line, self->defaults, &error);
        nh_doc_unref(line);
    }
    if (!self->held)
        bad_line(self, self->held_line, error.message);
}

/* Gives the held message to the hub. False when it has to wait for a settlement. */
static bool give(sender *self) {
    nh_error error;
    nh_handle *handle = nh_hub_send_async(self->hub, self->held, &error);
    size_t under_way = self->accepted - self->settled;
    if (!handle && error.code == NH_E_QUEUE_FULL && under_way > 0)
        return false;
    nh_doc_unref(self->held);
    self->held = NULL;
    if (!handle) {
        if (self->lines)
            bad_line(self, self->held_line, error.message);
        else
            cli_complain(self->name, "%s", error.message);
        self->mistaken = self->ended = true;
        return true;
    }
    uint32_t index = self->free_slot;
    slot *into = &self->slots[index];
    self->free_slot = into->next_free;
    into->handle = handle;
    into->line = self->held_line;
    self->accepted++;
    if (nh_inbox_watch_handle(self->inbox, handle, index) == NH_OK)
        return true;
    cli_complain(self->name, "out of memory");
    self->ended = self->given_up = true; /* its end would never be heard of */
    return true;
}

/* Takes and gives until the input, the window or the hub has no more for now. True: there may be
 * more at once. */
static bool feed(sender *self) {
    self->later = false;
    for (int i = 0; i < FEED_A_TURN; i++) {
        if (self->accepted - self->settled == self->window)
            return false;
        if (!self->held && !self->ended)
            take(self);
        if (!self->held || !give(self))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------- loop */

static void release(sender *self, uint32_t index) {
    slot *of = &self->slots[index];
    nh_handle_unref(of->handle);
    of->handle = NULL;
    of->next_free = self->free_slot;
    self->free_slot = index;
}

static void collect(sender *self) {
    nh_event event;
    while (nh_inbox_next(self->inbox, 0, &event) == NH_OK) {
        uint32_t index = (uint32_t)event.tag;
        if (!(event.kinds & NH_EVENT_COMPLETE) || !self->slots[index].handle)
            continue;
        report(self, &self->slots[index]);
        release(self, index);
    }
}

/* Takes no more input, and cancels what is under way. A second time it does not wait for that. */
static void interrupt(sender *self) {
    self->ended = true;
    self->later = false;
    nh_doc_unref(self->held);
    self->held = NULL;
    if (self->interrupted) {
        self->given_up = true;
        return;
    }
    self->interrupted = true;
    for (uint32_t i = 0; i < self->window; i++)
        if (self->slots[i].handle)
            nh_handle_cancel(self->slots[i].handle);
}

/* Of a batch: no more is read, what was read and accepted is delivered. */
static void drain(sender *self) {
    self->later = false;
    self->drained_by = cli_clock() + CLI_DRAIN_SECONDS * UINT64_C(1000000000);
    self->cut = !self->ended && cli_lines_stop(self->lines);
}

static void reload(const sender *self) {
    nh_error error;
    if (nh_hub_reload(self->hub, &error) != NH_OK) {
        clear_progress(self);
        cli_complain(self->name, "SIGHUP: the rules before go on: %s", error.message);
    }
}

static void on_signal(sender *self) {
    struct signalfd_siginfo what;
    if (read(self->signals, &what, sizeof what) != sizeof what)
        return;
    bool hangup = what.ssi_signo == SIGHUP;
    if (hangup && !cli_terminal_is_gone())
        reload(self);
    else if (what.ssi_signo == SIGINT || !self->lines)
        interrupt(self);
    else if (!self->drained_by && !self->interrupted)
        drain(self);
    else
        self->interrupted = self->given_up = true;
}

static bool is_done(const sender *self) {
    return self->given_up || (self->ended && !self->held && self->accepted == self->settled);
}

/* Whether the time to wait in is over; else `until` becomes the end of it, 0 when there is none. */
static bool is_over(const sender *self, uint64_t now, uint64_t *until) {
    *until = self->drained_by;
    if (self->all_accepted && self->settings->wait >= 0) {
        uint64_t wait_until = self->all_accepted + (uint64_t)(self->settings->wait * 1e9);
        if (!*until || wait_until < *until)
            *until = wait_until;
    }
    return *until && now >= *until;
}

/* Milliseconds until `until` or the progress line is due; -1: neither. */
static int patience(const sender *self, uint64_t now, uint64_t until) {
    uint64_t progress = self->progress_at + (uint64_t)(PROGRESS_SECONDS * 1e9);
    if (self->shows_progress && (!until || progress < until))
        until = progress;
    if (!until)
        return -1;
    double left = until > now ? (double)(until - now) / 1e9 : 0;
    return left > 3600 ? 3600000 : left > 0 ? (int)(left * 1000) + 1 : 0;
}

static void run(sender *self) {
    for (;;) {
        /* In this order: what settles after collect makes the inbox readable, so the poll below
         * never sleeps on room that feed has not seen. */
        collect(self);
        bool more = (!self->ended || self->held) && feed(self);
        if (is_done(self))
            break;
        uint64_t now = cli_clock();
        if (self->ended && !self->held && !self->all_accepted)
            self->all_accepted = now;
        if (self->shows_progress && (double)(now - self->progress_at) >= PROGRESS_SECONDS * 1e9)
            show_progress(self, now);
        uint64_t until;
        if (is_over(self, now, &until)) {
            self->given_up = true;
            break;
        }
        struct pollfd waits[3] = {
            {.fd = nh_inbox_fd(self->inbox), .events = POLLIN},
            {.fd = self->signals, .events = POLLIN},
            {.fd = self->later ? cli_lines_fd(self->lines) : -1, .events = POLLIN}};
        if (!more)
            fflush(stdout);
        poll(waits, 3, more ? 0 : patience(self, now, until));
        if (waits[1].revents)
            on_signal(self);
    }
    clear_progress(self);
}

/* What is still under way settles as closed, and is reported like the rest. */
static void close_hub(sender *self) {
    size_t left = self->accepted - self->settled;
    if (left && !self->interrupted)
        cli_complain(self->name, "%zu of %zu not settled in time", left, self->accepted);
    nh_hub_close(self->hub, 0);
    collect(self);
}

/* ------------------------------------------------------------------ the command */

/* The text of --body -: all of stdin. NULL after a complaint. */
static char *read_body(const char *command) {
    char *body = malloc(BODY_LONGEST + 2);
    size_t length = body ? fread(body, 1, BODY_LONGEST + 1, stdin) : 0;
    if (body && length <= BODY_LONGEST && !ferror(stdin) && !memchr(body, 0, length)) {
        if (length && body[length - 1] == '\n')
            length--; /* a shell's echo ends the line; the message does not need it */
        body[length] = '\0';
        return body;
    }
    cli_complain(command, !body                   ? "out of memory"
                          : length > BODY_LONGEST ? "stdin holds more than 32 MiB"
                          : ferror(stdin)         ? "stdin cannot be read"
                                                  : "stdin holds NUL bytes, which are no text");
    free(body);
    return NULL;
}

static bool check_settings(const char *command, const send_settings *settings) {
    const char *problem = NULL;
    if (settings->batch && settings->message.id)
        problem = "--id belongs to one message, --batch to many";
    else if (settings->batch && strcmp(settings->batch, "-") == 0 && settings->message.body &&
             strcmp(settings->message.body, "-") == 0)
        problem = "--body - and --batch - cannot both read stdin";
    if (problem)
        cli_complain(command, "%s", problem);
    return !problem;
}

/* From here on SIGINT, SIGTERM and, of a batch, SIGHUP are read; the hub's threads inherit that
 * they are blocked. A SIGHUP that is ignored (nohup) stays so. */
static int take_signals(bool batch) {
    sigset_t set;
    struct sigaction hangup;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (batch && sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(&set, SIGHUP);
    cli_terminal_remember();
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* main tells that the output could not be written */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool open_slots(sender *self) {
    nh_doc *stats = nh_hub_stats(self->hub);
    const nh_value *queue = nh_value_get(nh_doc_root(stats), "queue");
    int64_t capacity = nh_value_int(nh_value_get(queue, "capacity"), WINDOW_MAX);
    nh_doc_unref(stats);
    self->window = capacity < WINDOW_MAX ? (uint32_t)capacity : WINDOW_MAX;
    self->slots = calloc(self->window, sizeof *self->slots);
    for (uint32_t i = 0; self->slots && i < self->window; i++)
        self->slots[i].next_free = i + 1;
    return self->slots != NULL;
}

static bool open_sender(sender *self) {
    const send_settings *settings = self->settings;
    if (!(self->held = cli_compose(self->name, &settings->message)))
        goto mistaken;
    if (settings->batch) {
        self->defaults = self->held;
        self->held = NULL;
        if (!(self->lines = cli_lines_open(settings->batch, LINE_LONGEST))) {
            cli_complain(self->name, "--batch %s: %s", settings->batch, strerror(errno));
            goto mistaken;
        }
        if (!check_lines(self))
            return false;
    }
    self->signals = take_signals(settings->batch != NULL);
    if (!(self->hub = cli_hub_open(self->name, settings->config, settings->rules)))
        goto mistaken;
    self->inbox = nh_inbox_create();
    if (self->signals < 0 || !self->inbox || !open_slots(self)) {
        cli_complain(self->name, "out of memory or descriptors");
        return false;
    }
    self->shows_progress = settings->batch && isatty(STDERR_FILENO);
    self->started = self->progress_at = cli_clock();
    return true;

mistaken:
    self->mistaken = true;
    return false;
}

static void close_sender(sender *self) {
    for (uint32_t i = 0; self->slots && i < self->window; i++)
        nh_handle_unref(self->slots[i].handle);
    free(self->slots);
    nh_inbox_unref(self->inbox);
    nh_hub_unref(self->hub);
    if (self->signals >= 0)
        close(self->signals);
    cli_lines_close(self->lines);
    nh_doc_unref(self->held);
    nh_doc_unref(self->defaults);
}

static int send_all(sender *self) {
    int status = CLI_FAILED;
    if (open_sender(self)) {
        run(self);
        close_hub(self);
        if (self->lines)
            print_summary(self);
        if (self->accepted == self->delivered && !self->interrupted && !self->cut)
            status = CLI_OK;
    }
    if (self->mistaken)
        status = CLI_USAGE;
    close_sender(self);
    return status;
}

#define FIELD(name) offsetof(send_settings, name)

static const cli_option options[] = {
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {"rules", 'r', CLI_TEXT, FIELD(rules), "FOLDER", CLI_RULES_HELP, 0, 0},
    {"title", 0, CLI_TEXT, FIELD(message.title), "TEXT", "the message's title", 0, 0},
    {"body", 'b', CLI_TEXT, FIELD(message.body), "TEXT", "its body; - reads stdin", 0, 0},
    {"format", 'f', CLI_TEXT, FIELD(message.format), "FORMAT", "text (default), markdown or html",
     0, 0},
    {"priority", 'p', CLI_TEXT, FIELD(message.priority), "PRIORITY",
     "low, normal (default), high or urgent", 0, 0},
    {"target", 't', CLI_LIST, FIELD(message.targets), "TARGET",
     "who gets it: a URL, an address, a name of the configuration; may be repeated", 0, 0},
    {"var", 0, CLI_LIST, FIELD(message.variables), "NAME=VALUE",
     "a variable for templates; may be repeated", 0, 0},
    {"metadata", 'm', CLI_LIST, FIELD(message.metadata), "NAME=VALUE",
     "what routes decide by; may be repeated", 0, 0},
    {"attach", 'a', CLI_LIST, FIELD(message.attachments), "FILE",
     "a file that goes with it; may be repeated", 0, 0},
    {"id", 0, CLI_TEXT, FIELD(message.id), "ID", "its id, made when not given", 0, 0},
    {"deliver-at", 0, CLI_TEXT, FIELD(message.deliver_at), "WHEN",
     "not before this moment: " CLI_WHEN_FORMS
     ". The command waits for it; ended earlier, it sends "
     "nothing",
     0, 0},
    {"expires-at", 0, CLI_TEXT, FIELD(message.expires_at), "WHEN",
     "not after this moment: what is undelivered then has expired", 0, 0},
    {"timeout", 0, CLI_REAL, FIELD(message.timeout), "SECONDS",
     "give up on a message after this long", 0.001, 1e9},
    {"batch", 0, CLI_TEXT, FIELD(batch), "FILE",
     "send the messages of a file, one JSON object a line; - reads stdin. What the other options "
     "say holds for the lines that do not say it themselves",
     0, 0},
    {"wait", 'w', CLI_REAL, FIELD(wait), "SECONDS",
     "after the last message was accepted, wait no longer than this (default: until all are "
     "settled)",
     0, 1e9},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL,
     "print each receipt as one line of JSON, in the order of settlement", 0, 0},
    {0},
};

static int run_send(const cli_command *self, int argc, char **argv) {
    send_settings settings = {.message.timeout = -1, .wait = -1};
    char *body = NULL;
    int status = cli_options_parse(self, argc, argv, &settings, NULL);
    if (status != CLI_GO)
        return status;
    if (!check_settings(self->name, &settings))
        return CLI_USAGE;
    if (settings.message.body && strcmp(settings.message.body, "-") == 0) {
        if (!(body = read_body(self->name)))
            return CLI_USAGE;
        settings.message.body = body;
    }
    sender state = {.name = self->name, .settings = &settings, .signals = -1};
    status = send_all(&state);
    free(body);
    return status;
}

const cli_command cli_send = {
    .name = "send",
    .summary = "send a message, or a file of messages, and tell what became of it",
    .operands = "",
    .options = options,
    .about =
        "Sends a message to its targets, or to those that the rules of the configuration choose, "
        "waits for the outcome and prints one line for each delivery:\n"
        "  delivered  slack     #ops       0.12 s\n"
        "  failed     webhook   app.test   0.03 s  rejected: no such hook\n"
        "A batch prints the deliveries that failed and a summary. When a line of a file is not "
        "JSON, nothing is sent; a line that the hub refuses, or that comes over a pipe, ends the "
        "batch there: what was accepted before it is still delivered and reported.\n"
        "SIGINT cancels what is under way and reports it. SIGTERM does so, too, of one message; of "
        "a batch it ends the reading, and what was read is delivered and reported within 30 "
        "seconds. A second one does not wait. SIGHUP reloads the rules of a batch.",
    .exits = (const cli_exit[]){{CLI_OK, "every message was delivered to all its targets"},
                                {CLI_FAILED, "something was not delivered, not in time, or not "
                                             "sent because SIGTERM came"},
                                {CLI_USAGE, "a mistake in the command line, the configuration, the "
                                            "message or the batch"},
                                {0}},
    .run = run_send,
};
