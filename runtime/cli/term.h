/* term.h — what the commands print with: colours that vanish off a terminal, and text from outside
 * that cannot command the terminal. */
#ifndef NH_CLI_TERM_H
#define NH_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Escape sequences, or empty strings where the stream is no terminal or NO_COLOR is set. */
typedef struct cli_paint {
    const char *bold, *dim, *red, *green, *yellow, *cyan, *off;
} cli_paint;

const cli_paint *cli_paint_for(FILE *stream);

/* Prints "notifyhub COMMAND: text" on stderr; `command` may be NULL. */
void cli_complain(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints bytes that came from outside: UTF-8 stays, control characters and broken UTF-8 become
 * visible ("\x1b"). With `lines`, newlines and tabs stay too, and each new line starts with
 * `indent` spaces. */
void cli_print_foreign(FILE *out, const char *bytes, size_t length, bool lines, int indent);

/* 1234567 → "1,234,567", in the caller's room of CLI_NUMBER_MAX. Returns it. */
#define CLI_NUMBER_MAX 32
const char *cli_number(char *room, uint64_t number);
/* 2150 → "2.1 KB" */
const char *cli_size(char *room, size_t bytes);

/* Length of the UTF-8 character at `bytes`, 0 where the bytes are not one. */
size_t cli_utf8_length(const char *bytes, size_t length);
bool cli_utf8_valid(const char *bytes, size_t length);

/* Nanoseconds of CLOCK_MONOTONIC, and seconds since the epoch. */
uint64_t cli_clock(void);
double cli_time(void);

#endif
