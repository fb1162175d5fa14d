/* options.h — one table tells the parser, --help and the man page what a command takes.
 *
 * A command declares a structure for its settings, fills it with the defaults, and describes in a
 * table which option writes which field. `--name VALUE`, `--name=VALUE` and `-n VALUE` are read;
 * options and operands may be mixed; `--` ends the options; `--help` and `-h` belong to every
 * command.
 */
#ifndef NH_CLI_OPTIONS_H
#define NH_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum cli_kind {
    CLI_FLAG = 1, /* bool, takes no value */
    CLI_TEXT,     /* const char *, points into argv */
    CLI_LIST,     /* cli_list: the option may be given again */
    CLI_INT,      /* int64_t between min and max */
    CLI_REAL,     /* double between min and max */
} cli_kind;

#define CLI_LIST_MAX 256 /* most values of one CLI_LIST option */

typedef struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
} cli_list;

typedef struct cli_option {
    const char *name;  /* without the dashes; NULL ends a table */
    char letter;       /* its short form, 0 for none */
    cli_kind kind;     /* which decides the type of the field */
    size_t offset;     /* of the field in the command's structure */
    const char *value; /* the value's name in help, NULL for a flag */
    const char *help;
    double min, max; /* CLI_INT and CLI_REAL */
} cli_option;

typedef struct cli_operands {
    char **items; /* in argv, which the parser has sorted */
    int count;
} cli_operands;

struct cli_command;

/* Returned by cli_options_parse when the command is to go on; anything else is its exit status. */
#define CLI_GO (-1)

/* Reads argv into the fields of `settings`, prints help when asked for, and tells a mistake on
 * stderr with the nearest option. `operands` may be NULL for a command that takes none. */
int cli_options_parse(const struct cli_command *command, int argc, char **argv, void *settings,
                      cli_operands *operands);

/* Prints how the command is used: usage, text, options and exit statuses. */
void cli_options_help(const struct cli_command *command, FILE *out);
/* The same as a section of the manual, with the headings that help2man understands. */
void cli_options_manual(const struct cli_command *command, FILE *out);

/* Prints a paragraph wrapped at the width of help, each line after `indent` spaces. The first line
 * is taken to stand at column `column` already. */
void cli_wrap(FILE *out, const char *text, size_t length, size_t column, size_t indent);

/* How many single-letter changes lead from one word to another; swapping two neighbours is one. */
size_t cli_distance(const char *from, const char *to);

/* Whether a word at this distance from what was typed is worth suggesting. */
bool cli_near(const char *typed, size_t distance);

#endif
