/* lines.h — reads a file or stdin line by line without blocking longer than its caller allows. */
#ifndef NH_CLI_LINES_H
#define NH_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct cli_lines cli_lines;

typedef enum cli_lines_state {
    CLI_LINE,   /* a line that is not blank */
    CLI_LATER,  /* nothing now; poll cli_lines_fd */
    CLI_END,    /* no more lines */
    CLI_BROKEN, /* could not be read, or a line is over the limit; see cli_lines_problem */
} cli_lines_state;

/* Opens a file, "-" for stdin. NULL with errno. `longest` bounds a line in bytes. */
cli_lines *cli_lines_open(const char *path, size_t longest);
void cli_lines_close(cli_lines *lines);

/* The next line, without its end and not NUL-terminated; valid until the next call. Never waits. */
cli_lines_state cli_lines_next(cli_lines *lines, const char **text, size_t *length);

/* Its place: the file's name ("stdin") and the number of the last line, from 1. */
const char *cli_lines_name(const cli_lines *lines);
size_t cli_lines_number(const cli_lines *lines);
const char *cli_lines_problem(const cli_lines *lines);

int cli_lines_fd(const cli_lines *lines);
/* Goes back to the first line: false when the input cannot do so (a pipe, a terminal). */
bool cli_lines_rewind(cli_lines *lines);

/* Reads no more. Whole lines that were taken out of a pipe already are still handed out, since
 * nobody else can have them; of a regular file, none. Returns whether such a file was not read to
 * its end. */
bool cli_lines_stop(cli_lines *lines);

#endif
