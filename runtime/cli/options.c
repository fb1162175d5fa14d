/* options.c — the table-driven option parser, and the help that is printed from the same tables.
 *
 * Nothing here allocates: values point into argv, lists have a fixed room. The parser sorts the
 * operands to the front of argv (after argv[0]) as it goes, so a command sees them in the order in
 * which they were given. The first mistake ends parsing with a sentence on stderr and status 2.
 */
#include "runtime/cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/command.h"
#include "runtime/cli/term.h"

#define HELP_WIDTH  79
#define HELP_COLUMN 24 /* where the text of an option starts */
#define WORD_MAX    31 /* longer words are never suggested */

/* ------------------------------------------------------------- suggestions */

static size_t smallest(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

size_t cli_distance(const char *from, const char *to) {
    size_t from_length = strlen(from);
    size_t to_length = strlen(to);
    size_t table[WORD_MAX + 1][WORD_MAX + 1];

    if (from_length > WORD_MAX || to_length > WORD_MAX)
        return SIZE_MAX;
    for (size_t i = 0; i <= from_length; i++)
        table[i][0] = i;
    for (size_t j = 0; j <= to_length; j++)
        table[0][j] = j;
    for (size_t i = 1; i <= from_length; i++) {
        for (size_t j = 1; j <= to_length; j++) {
            size_t change = from[i - 1] == to[j - 1] ? 0 : 1;
            table[i][j] =
                smallest(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + change);
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] &&
                table[i - 2][j - 2] + 1 < table[i][j])
                table[i][j] = table[i - 2][j - 2] + 1;
        }
    }
    return table[from_length][to_length];
}

bool cli_near(const char *typed, size_t distance) {
    return distance <= 1 + strlen(typed) / 4;
}

static const char *nearest_option(const cli_command *command, const char *typed) {
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (const cli_option *option = command->options; option->name; option++) {
        size_t distance = cli_distance(typed, option->name);
        if (distance < best_distance) {
            best_distance = distance;
            best = option->name;
        }
    }
    return best && cli_near(typed, best_distance) ? best : NULL;
}

/* ------------------------------------------------------------------ parsing */

static const cli_option *find_long(const cli_command *command, const char *name, size_t length) {
    for (const cli_option *option = command->options; option->name; option++)
        if (strlen(option->name) == length && memcmp(option->name, name, length) == 0)
            return option;
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter) {
    for (const cli_option *option = command->options; option->name; option++)
        if (option->letter && option->letter == letter)
            return option;
    return NULL;
}

static bool read_number(const cli_command *command, const cli_option *option, const char *value,
                        double *number) {
    char *end = NULL;
    errno = 0;
    *number = strtod(value, &end);
    bool whole = option->kind == CLI_INT;
    if (end == value || *end || errno || !isfinite(*number) || (whole && floor(*number) != *number))
        cli_complain(command->name, "--%s takes a %snumber, not \"%s\"", option->name,
                     whole ? "whole " : "", value);
    else if (*number < option->min || *number > option->max)
        cli_complain(command->name, "--%s must be from %.15g to %.15g", option->name, option->min,
                     option->max);
    else
        return true;
    return false;
}

static bool store(const cli_command *command, const cli_option *option, const char *value,
                  void *settings) {
    void *field = (char *)settings + option->offset;
    double number;

    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return true;
    case CLI_TEXT:
        *(const char **)field = value;
        return true;
    case CLI_LIST: {
        cli_list *list = field;
        if (list->count == CLI_LIST_MAX) {
            cli_complain(command->name, "--%s may be given %d times at most", option->name,
                         CLI_LIST_MAX);
            return false;
        }
        list->items[list->count++] = value;
        return true;
    }
    case CLI_INT:
        if (!read_number(command, option, value, &number))
            return false;
        *(int64_t *)field = (int64_t)number;
        return true;
    case CLI_REAL:
        if (!read_number(command, option, value, &number))
            return false;
        *(double *)field = number;
        return true;
    }
    return false;
}

static int unknown(const cli_command *command, const char *argument, const char *name,
                   size_t length) {
    char typed[WORD_MAX + 1];
    const char *near = NULL;
    if (length <= WORD_MAX) {
        memcpy(typed, name, length);
        typed[length] = '\0';
        near = nearest_option(command, typed);
    }
    if (near)
        cli_complain(command->name, "unknown option %s; did you mean --%s?", argument, near);
    else
        cli_complain(command->name, "unknown option %s; see notifyhub %s --help", argument,
                     command->name);
    return CLI_USAGE;
}

/* Reads the option at argv[*at] and moves *at past it and its value. */
static int parse_option(const cli_command *command, int argc, char **argv, int *at,
                        void *settings) {
    const char *argument = argv[*at];
    bool is_long = argument[1] == '-';
    const char *name = argument + (is_long ? 2 : 1);
    size_t length = is_long ? strcspn(name, "=") : 1;
    const char *value = name[length] ? name + length + (is_long ? 1 : 0) : NULL;

    *at += 1;
    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        cli_options_help(command, stdout);
        return CLI_OK;
    }
    const cli_option *option =
        is_long ? find_long(command, name, length) : find_letter(command, *name);
    if (!option)
        return unknown(command, argument, name, is_long ? length : strlen(name));
    if (option->kind == CLI_FLAG) {
        if (value) {
            cli_complain(command->name, "--%s takes no value", option->name);
            return CLI_USAGE;
        }
    } else if (!value) {
        if (*at == argc) {
            cli_complain(command->name, "--%s needs a value: %s", option->name, option->value);
            return CLI_USAGE;
        }
        value = argv[*at];
        *at += 1;
    }
    return store(command, option, value, settings) ? CLI_GO : CLI_USAGE;
}

int cli_options_parse(const cli_command *command, int argc, char **argv, void *settings,
                      cli_operands *operands) {
    int count = 0;
    int at = 1;
    bool options = true;

    while (at < argc) {
        char *argument = argv[at];
        if (options && strcmp(argument, "--") == 0) {
            options = false;
            at++;
        } else if (options && argument[0] == '-' && argument[1]) {
            int status = parse_option(command, argc, argv, &at, settings);
            if (status != CLI_GO)
                return status;
        } else {
            argv[1 + count++] = argument;
            at++;
            options = options && !command->rest;
        }
    }
    if (count > command->operands_max) {
        cli_complain(command->name, "unexpected argument \"%s\"; see notifyhub %s --help",
                     argv[1 + command->operands_max], command->name);
        return CLI_USAGE;
    }
    if (count < command->operands_min) {
        cli_complain(command->name, "missing %s; see notifyhub %s --help", command->operands,
                     command->name);
        return CLI_USAGE;
    }
    if (operands)
        *operands = (cli_operands){.items = argv + 1, .count = count};
    return CLI_GO;
}

/* --------------------------------------------------------------------- help */

void cli_wrap(FILE *out, const char *text, size_t length, size_t column, size_t indent) {
    bool first = true;
    while (length) {
        size_t word = 0;
        while (word < length && text[word] != ' ' && text[word] != '\n')
            word++;
        if (!first && column + 1 + word > HELP_WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        cli_print_foreign(out, text, word, false, 0);
        column += word;
        first = false;
        size_t step = word < length ? word + 1 : word;
        text += step;
        length -= step;
    }
    fputc('\n', out);
}

static void entry(FILE *out, const char *head, const char *text) {
    size_t width = strlen(head);
    if (width + 2 > HELP_COLUMN) {
        fprintf(out, "%s\n%*s", head, HELP_COLUMN, "");
    } else {
        fprintf(out, "%-*s", HELP_COLUMN, head);
    }
    cli_wrap(out, text, strlen(text), HELP_COLUMN, HELP_COLUMN);
}

static void option_entry(FILE *out, const cli_option *option) {
    char head[96];
    char letter[6] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(head, sizeof head, "  %s--%s%s%s", letter, option->name, option->value ? " " : "",
             option->value ? option->value : "");
    entry(out, head, option->help);
}

/* `of` is what the heading of the options says between "Options" and its colon. */
static void print_help(const cli_command *command, const char *of, FILE *out) {
    static const cli_option help = {.name = "help", .letter = 'h', .help = "show this and exit"};

    fprintf(out, "Usage: notifyhub %s [OPTION]...%s%s\n\n", command->name,
            *command->operands ? " " : "", command->operands);
    for (const char *line = command->about; *line;) {
        size_t length = strcspn(line, "\n");
        if (length > 2 && memcmp(line, "  ", 2) == 0)
            fprintf(out, "%.*s\n", (int)length, line);
        else
            cli_wrap(out, line, length, 0, 0);
        line += length + (line[length] == '\n');
    }
    fprintf(out, "\nOptions%s:\n", of);
    for (const cli_option *option = command->options; option->name; option++)
        option_entry(out, option);
    option_entry(out, &help);
    fputs("\nExit status:\n", out);
    for (const cli_exit *status = command->exits; status->meaning; status++) {
        char head[16];
        snprintf(head, sizeof head, "  %d", status->status);
        fprintf(out, "%-6s", head);
        cli_wrap(out, status->meaning, strlen(status->meaning), 6, 6);
    }
}

void cli_options_help(const cli_command *command, FILE *out) {
    print_help(command, "", out);
}

void cli_options_manual(const cli_command *command, FILE *out) {
    char of[32];
    snprintf(of, sizeof of, " of %s", command->name);
    fprintf(out, "*notifyhub %s*\n\n", command->name);
    print_help(command, of, out);
}
