/* value.h — what the commands read and print of documents. */
#ifndef NH_CLI_VALUE_H
#define NH_CLI_VALUE_H

#include <stdio.h>

#include "runtime/notifyhub.h"

bool cli_value_is(const nh_value *value, const char *text);

/* A text with what a terminal must not see made visible; nothing for other kinds. */
void cli_value_print(FILE *out, const nh_value *value);
/* The same over several lines, each new one after `indent` spaces. */
void cli_value_print_lines(FILE *out, const nh_value *value, int indent);
/* A document as one line of JSON; false when out of memory. */
bool cli_doc_print(FILE *out, const nh_doc *doc);

/* Reads a JSON file, "-" for stdin. NULL after a complaint that names the file. */
nh_doc *cli_json_read(const char *command, const char *path);

#endif
