/* replay.c — `notifyhub replay`: what other rules would have made of messages that there were.
 *
 * Messages are explained some at a time under both rules, and the answers are compared; what
 * differs is printed, so the output's size follows the differences.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/command.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/lines.h"
#include "runtime/cli/term.h"
#include "runtime/cli/value.h"

enum { AT_ONCE = 200, LINE_LONGEST = 64 << 20 };

typedef struct replay_settings {
    const char *config, *rules, *old;
} replay_settings;

typedef struct replay {
    const char *name;
    nh_doc *before, *after; /* configurations */
    cli_lines *lines;
    size_t numbers[AT_ONCE]; /* of the lines in `held` */
    nh_doc *held[AT_ONCE];
    size_t count;
    size_t total, differing;
    bool mistaken;
} replay;

/* ----------------------------------------------------------------- comparing */

static bool same_text(const nh_value *a, const nh_value *b) {
    size_t a_length = 0, b_length = 0;
    const char *a_text = nh_value_bytes(a, &a_length), *b_text = nh_value_bytes(b, &b_length);
    return a_length == b_length && (a_length == 0 || memcmp(a_text, b_text, a_length) == 0);
}

static bool same_requests(const nh_value *a, const nh_value *b) {
    static const char *const told[] = {"target", "platform", "title", "body", "format"};
    if (nh_value_count(a) != nh_value_count(b))
        return false;
    for (size_t i = 0; i < nh_value_count(a); i++)
        for (size_t field = 0; field < sizeof told / sizeof *told; field++)
            if (!same_text(nh_value_get(nh_value_at(a, i), told[field]),
                           nh_value_get(nh_value_at(b, i), told[field])))
                return false;
    return true;
}

static bool same(const nh_value *a, const nh_value *b) {
    static const char *const told[] = {"route", "status", "code"};
    for (size_t field = 0; field < sizeof told / sizeof *told; field++)
        if (!same_text(nh_value_get(a, told[field]), nh_value_get(b, told[field])))
            return false;
    return same_requests(nh_value_get(a, "requests"), nh_value_get(b, "requests"));
}

/* ------------------------------------------------------------------ printing */

static void print_side(const char *sign, const nh_value *answer) {
    const nh_value *requests = nh_value_get(answer, "requests");
    const nh_value *route = nh_value_get(answer, "route");
    printf("  %s ", sign);
    if (nh_value_kind(route) == NH_NIL)
        fputs("no route", stdout);
    else
        cli_value_print(stdout, route);
    for (size_t i = 0; i < nh_value_count(requests); i++) {
        fputs(i ? ", " : " to ", stdout);
        cli_value_print(stdout, nh_value_get(nh_value_at(requests, i), "target"));
        fputs(": ", stdout);
        cli_value_print(stdout, nh_value_get(nh_value_at(requests, i), "title"));
    }
    const nh_value *code = nh_value_get(answer, "code");
    if (nh_value_kind(code) != NH_NIL) {
        fputs(", ", stdout);
        cli_value_print(stdout, nh_value_get(answer, "status"));
        fputs(": ", stdout);
        cli_value_print(stdout, code);
    }
    putchar('\n');
}

/* ------------------------------------------------------------------- running */

static nh_doc *pack(replay *self) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_writer_array(writer, self->count);
    for (size_t i = 0; i < self->count; i++)
        nh_writer_value(writer, nh_doc_root(self->held[i]));
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return doc;
}

/* What is wrong with one of the messages names its place among them: tell its line instead. */
static void complain(const replay *self, const char *text) {
    size_t nth = 0;
    int used = 0;
    if (sscanf(text, "message %zu: %n", &nth, &used) == 1 && nth >= 1 && nth <= self->count)
        cli_complain(self->name, "%s:%zu: %s", cli_lines_name(self->lines), self->numbers[nth - 1],
                     text + used);
    else
        cli_complain(self->name, "%s", text);
}

static bool compare(replay *self) {
    nh_error error = {.message = "out of memory"};
    nh_doc *messages = self->count > 0 ? pack(self) : NULL;
    nh_doc *before = messages ? nh_rules_explain(self->before, messages, &error) : NULL;
    nh_doc *after = before ? nh_rules_explain(self->after, messages, &error) : NULL;
    for (size_t i = 0; after && i < self->count; i++) {
        const nh_value *was = nh_value_at(nh_doc_root(before), i);
        const nh_value *is = nh_value_at(nh_doc_root(after), i);
        self->total++;
        if (same(was, is))
            continue;
        self->differing++;
        printf("%s:%zu: ", cli_lines_name(self->lines), self->numbers[i]);
        cli_value_print(stdout, nh_value_get(is, "id"));
        putchar('\n');
        print_side("-", was);
        print_side("+", is);
    }
    bool ok = self->count == 0 || after;
    if (!ok)
        complain(self, error.message);
    nh_doc_unref(messages);
    nh_doc_unref(before);
    nh_doc_unref(after);
    while (self->count > 0)
        nh_doc_unref(self->held[--self->count]);
    return ok;
}

static bool read_messages(replay *self) {
    const char *text;
    size_t length;
    nh_error error;
    for (;;) {
        switch (cli_lines_next(self->lines, &text, &length)) {
        case CLI_LATER:
            poll(&(struct pollfd){.fd = cli_lines_fd(self->lines), .events = POLLIN}, 1, -1);
            continue;
        case CLI_END:
            return compare(self);
        case CLI_BROKEN:
            cli_complain(self->name, "%s", cli_lines_problem(self->lines));
            return false;
        case CLI_LINE:
            break;
        }
        nh_doc *message = nh_doc_from_json(text, length, &error);
        if (!message) {
            cli_complain(self->name, "%s:%zu: %s", cli_lines_name(self->lines),
                         cli_lines_number(self->lines), error.message);
            return false;
        }
        self->numbers[self->count] = cli_lines_number(self->lines);
        self->held[self->count++] = message;
        if (self->count == AT_ONCE && !compare(self))
            return false;
    }
}

#define FIELD(name) offsetof(replay_settings, name)

static const cli_option options[] = {
    {"rules", 'r', CLI_TEXT, FIELD(rules), "FOLDER", "the new rules", 0, 0},
    {"old", 'o', CLI_TEXT, FIELD(old), "FOLDER",
     "the old rules (default: the configuration's, or none)", 0, 0},
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {0},
};

static int run_replay(const cli_command *self, int argc, char **argv) {
    replay_settings settings = {0};
    replay state = {.name = self->name};
    cli_operands operands;
    int status = cli_options_parse(self, argc, argv, &settings, &operands);
    if (status != CLI_GO)
        return status;
    status = CLI_USAGE;
    if (!settings.rules) {
        cli_complain(self->name, "--rules FOLDER is missing: the rules to try");
        return status;
    }
    state.before = cli_config_load(self->name, settings.config, settings.old);
    state.after =
        state.before ? cli_config_load(self->name, settings.config, settings.rules) : NULL;
    if (state.after && !(state.lines = cli_lines_open(operands.items[0], LINE_LONGEST)))
        cli_complain(self->name, "%s: %s", operands.items[0], strerror(errno));
    if (state.lines && read_messages(&state)) {
        printf("%zu messages, %zu would be told differently\n", state.total, state.differing);
        status = state.differing > 0 ? CLI_FAILED : CLI_OK;
    }
    while (state.count > 0)
        nh_doc_unref(state.held[--state.count]);
    cli_lines_close(state.lines);
    nh_doc_unref(state.before);
    nh_doc_unref(state.after);
    return status;
}

const cli_command cli_replay = {
    .name = "replay",
    .summary = "tell what other rules would make of messages differently",
    .operands = "MESSAGES.jsonl",
    .operands_min = 1,
    .operands_max = 1,
    .options = options,
    .about = "Reads messages, one JSON object a line (- reads stdin), routes each by the old rules "
             "and by the new ones, and tells which would go another way or in other words. Sends "
             "nothing.",
    .exits = (const cli_exit[]){{CLI_OK, "nothing would change"},
                                {CLI_FAILED, "something would"},
                                {CLI_USAGE, "a mistake in the command line, the configuration, the "
                                            "rules or a message"},
                                {0}},
    .run = run_replay,
};
