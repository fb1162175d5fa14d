/* main.c — the executable's entry: finds the command in the table, and tells what there is.
 *
 * Each command parses its own arguments and returns the exit status; only the choice of command and
 * the help over all of them live here. Nothing is opened before a command asks for it, so that
 * `notifyhub version` costs the loading of the program and no more.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "runtime/cli/command.h"
#include "runtime/cli/term.h"
#include "runtime/notifyhub.h"

static const cli_command *const commands[] = {
#define CLI_X(name) &cli_##name,
    CLI_COMMANDS(CLI_X)
#undef CLI_X
};

enum { DESCRIPTORS = 65536 }; /* as many as are asked for */

#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static const char *const synopsis = "Usage: notifyhub COMMAND [OPTION]... [ARGUMENT]...\n";

static const cli_command *find(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name) {
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        size_t distance = cli_distance(name, commands[i]->name);
        if (distance < best_distance) {
            best_distance = distance;
            best = commands[i]->name;
        }
    }
    if (best && cli_near(name, best_distance))
        cli_complain(NULL, "unknown command \"%s\"; did you mean %s?", name, best);
    else
        cli_complain(NULL, "unknown command \"%s\"; notifyhub help lists them", name);
    return CLI_USAGE;
}

static void print_commands(FILE *out) {
    fputs("Commands:\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-12s%s\n", commands[i]->name, commands[i]->summary);
}

static void print_overview(FILE *out) {
    fputs(synopsis, out);
    fputs("\nSends notifications, and runs the scripts that decide who is told.\n\n", out);
    print_commands(out);
    fputs("\nnotifyhub help COMMAND, or notifyhub COMMAND --help, tells the rest.\n"
          "\nExit status:\n"
          "  0   done; for send: every message was delivered\n"
          "  1   not done; for send: something was not delivered\n"
          "  2   a mistake in the command line, the configuration or the input\n",
          out);
}

/* All of it in one text, which is also what the man page is made from. */
static void print_manual(FILE *out) {
    print_overview(out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fputc('\n', out);
        cli_options_manual(commands[i], out);
    }
}

/* --------------------------------------------------------------- the command help */

static const cli_option help_options[] = {{0}};

static int run_help(const cli_command *self, int argc, char **argv) {
    cli_operands operands;
    int status = cli_options_parse(self, argc, argv, NULL, &operands);
    if (status != CLI_GO)
        return status;
    if (operands.count == 0) {
        print_overview(stdout);
        return CLI_OK;
    }
    if (strcmp(operands.items[0], "all") == 0) {
        print_manual(stdout);
        return CLI_OK;
    }
    const cli_command *command = find(operands.items[0]);
    if (!command)
        return unknown_command(operands.items[0]);
    cli_options_help(command, stdout);
    return CLI_OK;
}

const cli_command cli_help = {
    .name = "help",
    .summary = "tell what a command does and takes",
    .operands = "[COMMAND]",
    .operands_max = 1,
    .options = help_options,
    .about = "Lists the commands, or tells what one of them does and takes; \"notifyhub help all\" "
             "tells everything.",
    .exits = (const cli_exit[]){{CLI_OK, "told"}, {CLI_USAGE, "there is no such command"}, {0}},
    .run = run_help,
};

/* ------------------------------------------------------------ the command version */

static const cli_option version_options[] = {{0}};

static int run_version(const cli_command *self, int argc, char **argv) {
    int status = cli_options_parse(self, argc, argv, NULL, NULL);
    if (status != CLI_GO)
        return status;
    printf("notifyhub %s\n", nh_version());
    return CLI_OK;
}

const cli_command cli_version = {
    .name = "version",
    .summary = "print the version",
    .operands = "",
    .options = version_options,
    .about = "Prints the name and the version of the library that is in use.",
    .exits =
        (const cli_exit[]){{CLI_OK, "printed"}, {CLI_USAGE, "a mistake in the command line"}, {0}},
    .run = run_version,
};

/* ------------------------------------------------------------------------- entry */

/* Output that could not be written is a failure, whatever the command thought of itself. */
static int finish(int status) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    cli_complain(NULL, "the output could not be written");
    return status == CLI_OK ? CLI_FAILED : status;
}

/* A connection is a descriptor, and a hub opens no more of them than the process may have. The
 * usual limit of 1,024 is there for select(2), which nothing here calls. A library must not change
 * it; this is a process of our own. */
static void allow_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS)
        return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
    setrlimit(RLIMIT_NOFILE, &limit); /* when it fails there are fewer connections */
}

int main(int argc, char **argv) {
    allow_descriptors();
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";

    const cli_command *command = find(name);
    if (!command) {
        if (*name == '-') {
            cli_complain(NULL, "unknown option %s; notifyhub help lists the commands", name);
            return CLI_USAGE;
        }
        return unknown_command(name);
    }
    return finish(command->run(command, argc - 1, argv + 1));
}
