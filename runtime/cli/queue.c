/* queue.c — `notifyhub queue`: what waits in a journal, and what failed for good.
 *
 * Works on the file itself, so no hub may have it open: the journal's lock says which process does.
 * One that runs is asked through its own program (hub:dead_letters and its like).
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/cli/command.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/term.h"
#include "runtime/cli/value.h"

enum { PAGE = 1000 };

typedef struct queue_settings {
    const char *journal, *config;
    int64_t limit;
    bool json;
} queue_settings;

/* ------------------------------------------------------------------ printing */

static long long integer(const nh_value *map, const char *name) {
    return (long long)nh_value_int(nh_value_get(map, name), 0);
}

static void print_text(const nh_value *map, const char *name) {
    cli_value_print(stdout, nh_value_get(map, name));
}

static void print_time(const nh_value *map, const char *name) {
    char text[32] = "";
    time_t seconds = (time_t)nh_value_real(nh_value_get(map, name), 0);
    struct tm parts;
    if (gmtime_r(&seconds, &parts))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts);
    fputs(text, stdout);
}

static void print_row(const nh_value *letter) {
    printf("%lld  ", integer(letter, "number"));
    print_time(letter, "died_at");
    printf("  ");
    print_text(letter, "id");
    printf("  ");
    print_text(letter, "code");
    printf(" after %lld attempts: ", integer(letter, "attempts"));
    print_text(letter, "reason");
    putchar('\n');
}

static void print_field(const nh_value *letter, const char *name) {
    if (nh_value_kind(nh_value_get(letter, name)) == NH_NIL)
        return;
    printf("%-11s ", name);
    print_text(letter, name);
    putchar('\n');
}

static int print_value(const nh_value *value) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return CLI_FAILED;
    nh_writer_value(writer, value);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    bool printed = doc && cli_doc_print(stdout, doc);
    nh_doc_unref(doc);
    return printed ? CLI_OK : CLI_FAILED;
}

static int print_letter(const nh_doc *doc) {
    const nh_value *letter = nh_doc_root(doc);
    printf("%-11s %lld\n", "number", integer(letter, "number"));
    print_field(letter, "id");
    print_field(letter, "priority");
    printf("%-11s ", "accepted");
    print_time(letter, "created_at");
    printf("\n%-11s ", "failed");
    print_time(letter, "died_at");
    printf("\n%-11s %lld, %lld crashes\n", "attempts", integer(letter, "attempts"),
           integer(letter, "crashes"));
    print_field(letter, "code");
    print_field(letter, "reason");
    print_field(letter, "answer");
    printf("%-11s ", "message");
    return print_value(nh_value_get(letter, "message"));
}

/* ------------------------------------------------------------------- actions */

typedef struct query {
    const cli_command *self;
    const queue_settings *settings;
    nh_letters *letters;
    uint64_t number; /* 0: all */
} query;

static int fail(const query *q, const nh_error *error) {
    cli_complain(q->self->name, "%s", error->message);
    return error->code == NH_E_INVALID ? CLI_USAGE : CLI_FAILED;
}

static int run_list(const query *q) {
    uint64_t after = 0;
    int64_t left = q->settings->limit;
    nh_error error;
    while (left > 0) {
        size_t most = left < PAGE ? (size_t)left : PAGE;
        nh_doc *page = nh_letters_list(q->letters, after, most, &error);
        const nh_value *rows = nh_doc_root(page);
        size_t count = nh_value_count(rows);
        if (!page)
            return fail(q, &error);
        for (size_t i = 0; i < count; i++) {
            const nh_value *row = nh_value_at(rows, i);
            after = (uint64_t)integer(row, "number");
            if (q->settings->json)
                print_value(row);
            else
                print_row(row);
        }
        nh_doc_unref(page);
        left -= (int64_t)count;
        if (count < most)
            break;
    }
    return CLI_OK;
}

static int run_show(const query *q) {
    nh_error error;
    nh_doc *doc = nh_letters_get(q->letters, q->number, &error);
    if (!doc)
        return fail(q, &error);
    int status = q->settings->json ? print_value(nh_doc_root(doc)) : print_letter(doc);
    nh_doc_unref(doc);
    return status;
}

static int tell_count(const query *q, uint64_t count, const char *text) {
    if (q->settings->json)
        printf("{\"count\":%llu}\n", (unsigned long long)count);
    else
        printf("%llu %s\n", (unsigned long long)count, text);
    return CLI_OK;
}

static int run_retry(const query *q) {
    nh_error error;
    uint64_t count = 0;
    if (nh_letters_retry(q->letters, q->number, &count, &error) != NH_OK)
        return fail(q, &error);
    return tell_count(q, count, "wait for the next hub that opens this journal");
}

static int run_discard(const query *q) {
    nh_error error;
    uint64_t count = 0;
    if (nh_letters_discard(q->letters, q->number, &count, &error) != NH_OK)
        return fail(q, &error);
    return tell_count(q, count, "discarded");
}

static int run_stats(const query *q) {
    char room[CLI_NUMBER_MAX];
    nh_doc *doc = nh_letters_stats(q->letters);
    const nh_value *stats = nh_doc_root(doc);
    if (!doc)
        return CLI_FAILED;
    if (q->settings->json) {
        cli_doc_print(stdout, doc);
    } else {
        printf("waiting       %s\n", cli_number(room, (uint64_t)integer(stats, "depth")));
        printf("oldest        %.0f s\n", nh_value_real(nh_value_get(stats, "oldest"), 0));
        printf("dead letters  %s\n", cli_number(room, (uint64_t)integer(stats, "dead")));
        printf("bytes         %s\n", cli_size(room, (size_t)integer(stats, "bytes")));
    }
    nh_doc_unref(doc);
    return CLI_OK;
}

static const struct {
    const char *name;
    int (*run)(const query *q);
    bool number, all; /* takes a number; takes "all" in its place */
} actions[] = {{"list", run_list, false, false},
               {"show", run_show, true, false},
               {"retry", run_retry, true, true},
               {"discard", run_discard, true, true},
               {"stats", run_stats, false, false}};

enum { ACTIONS = sizeof actions / sizeof *actions };

/* ------------------------------------------------------------------ arguments */

/* The journal that a configuration names, beside its file. NULL after a complaint. */
static char *journal_of(const char *command, const char *config) {
    nh_doc *doc = cli_config_load(command, config, NULL);
    if (!doc)
        return NULL;
    size_t length, file_length, folder = 0;
    const nh_value *root = nh_doc_root(doc);
    const char *journal =
        nh_value_bytes(nh_value_get(nh_value_get(root, "queue"), "journal"), &length);
    const char *file = nh_value_bytes(nh_value_get(root, "config_file"), &file_length);
    char *path = NULL;
    if (!journal) {
        cli_complain(command, "the configuration has no queue.journal; name one with --journal");
    } else {
        for (size_t i = 0; file && journal[0] != '/' && i < file_length; i++)
            if (file[i] == '/')
                folder = i + 1;
        path = malloc(folder + length + 1);
        if (path) {
            memcpy(path, file ? file : "", folder);
            memcpy(path + folder, journal, length);
            path[folder + length] = '\0';
        }
    }
    nh_doc_unref(doc);
    return path;
}

static bool read_number(const char *text, uint64_t *number) {
    char *end;
    if (*text < '1' || *text > '9')
        return false;
    *number = strtoull(text, &end, 10);
    return *end == '\0' && *number < UINT64_MAX;
}

/* The action that the operands name, -1 after a complaint. */
static int find_action(const cli_command *self, const cli_operands *operands, uint64_t *number) {
    const char *name = operands->items[0];
    for (int i = 0; i < ACTIONS; i++) {
        if (strcmp(name, actions[i].name) != 0)
            continue;
        const char *given = operands->count > 1 ? operands->items[1] : NULL;
        bool all = given && actions[i].all && strcmp(given, "all") == 0;
        *number = 0;
        if (actions[i].number ? given && (all || read_number(given, number)) : !given)
            return i;
        cli_complain(self->name, "%s takes %s", name,
                     actions[i].all      ? "the number of a dead letter, or all"
                     : actions[i].number ? "the number of a dead letter"
                                         : "nothing");
        return -1;
    }
    cli_complain(self->name, "there is no '%s'; it is list, show, retry, discard or stats", name);
    return -1;
}

static int run_queue(const cli_command *self, int argc, char **argv) {
    queue_settings settings = {.limit = 100};
    cli_operands operands;
    nh_error error;
    query q = {.self = self, .settings = &settings};
    int status = cli_options_parse(self, argc, argv, &settings, &operands);
    if (status != CLI_GO)
        return status;
    int action = find_action(self, &operands, &q.number);
    if (action < 0)
        return CLI_USAGE;
    char *path =
        settings.journal ? strdup(settings.journal) : journal_of(self->name, settings.config);
    if (!path)
        return CLI_USAGE;
    q.letters = nh_letters_open(path, &error);
    free(path);
    if (!q.letters) {
        cli_complain(self->name, "%s", error.message);
        return CLI_FAILED;
    }
    status = actions[action].run(&q);
    if (nh_letters_close(q.letters, &error) != NH_OK)
        status = fail(&q, &error);
    return status;
}

#define FIELD(name) offsetof(queue_settings, name)

static const cli_option options[] = {
    {"journal", 'J', CLI_TEXT, FIELD(journal), "FILE",
     "the journal, in place of the configuration's", 0, 0},
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {"limit", 'n', CLI_INT, FIELD(limit), "COUNT", "list at most so many (default: 100)", 1, 1e9},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL, "print JSON, one object a line", 0, 0},
    {0},
};

const cli_command cli_queue = {
    .name = "queue",
    .summary = "look at a journal, and retry or discard what failed for good",
    .operands = "list | show N | retry N|all | discard N|all | stats",
    .operands_min = 1,
    .operands_max = 2,
    .options = options,
    .about =
        "list shows the dead letters: messages that failed for good, with why, when and after how "
        "many attempts; show also the message itself. retry makes one (or all) wait again, for all "
        "of its targets and with all attempts; the next hub that opens the journal sends it. "
        "discard forgets it. stats tells what waits.\n"
        "Works on the file, so no program may have the journal open at the time; one that has it "
        "open does the same through its hub.\n"
        "  notifyhub queue list --journal /var/lib/alerts/journal.db\n"
        "  notifyhub queue retry all",
    .exits =
        (const cli_exit[]){{CLI_OK, "done"},
                           {CLI_FAILED, "the journal is in use, is not there, or failed"},
                           {CLI_USAGE, "a mistake in the command line or the configuration, or "
                                       "no dead letter of this number"},
                           {0}},
    .run = run_queue,
};
