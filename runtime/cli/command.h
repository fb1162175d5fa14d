/* command.h — what a subcommand of the executable is, and the list of them.
 *
 * A command is one file that defines `const cli_command cli_NAME`, and one line in CLI_COMMANDS.
 * Everything that help, the man page and the parser need to know of it stands in that structure.
 */
#ifndef NH_CLI_COMMAND_H
#define NH_CLI_COMMAND_H

#include <stdbool.h>

#include "runtime/cli/options.h"

/* In the order in which help lists them. X(name) */
#define CLI_COMMANDS(X)                                                                            \
    X(send)                                                                                        \
    X(run)                                                                                         \
    X(check)                                                                                       \
    X(explain)                                                                                     \
    X(test)                                                                                        \
    X(replay)                                                                                      \
    X(platforms)                                                                                   \
    X(queue)                                                                                       \
    X(receive)                                                                                     \
    X(version)                                                                                     \
    X(help)

/* What the exit status of every command means; a command's own meaning of 1 is in its `exits`. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef struct cli_exit {
    int status;
    const char *meaning; /* NULL ends the list */
} cli_exit;

typedef struct cli_command {
    const char *name;
    const char *summary;       /* one line, for the list of commands */
    const char *operands;      /* as usage shows them, "" for none */
    int operands_min;          /* fewer is an error of usage */
    int operands_max;          /* so is more */
    bool rest;                 /* all after the first operand belongs to it, options too */
    const cli_option *options; /* ends with an entry without a name */
    const char *about;         /* paragraphs, a newline between two; "  " starts an example */
    const cli_exit *exits;
    /* Runs with argv[0] the command's name; returns the exit status. */
    int (*run)(const struct cli_command *self, int argc, char **argv);
} cli_command;

#define CLI_X(name) extern const cli_command cli_##name;
CLI_COMMANDS(CLI_X)
#undef CLI_X

#endif
