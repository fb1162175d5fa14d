/* compose.h — a message out of the options of `notifyhub send`. */
#ifndef NH_CLI_COMPOSE_H
#define NH_CLI_COMPOSE_H

#include "runtime/cli/options.h"
#include "runtime/notifyhub.h"

/* What the options say of the message; what was not given is NULL, empty or negative. */
typedef struct cli_message {
    const char *title, *body, *format, *priority, *id;
    const char *deliver_at, *expires_at; /* as when.h reads them */
    cli_list targets, variables, metadata, attachments;
    double timeout;
} cli_message;

/* The message as a document, an empty map when nothing was given. NULL after a complaint in the
 * name of `command`: a pair without "=", an attachment that cannot be read, a moment that is none.
 * Owned by the caller. */
nh_doc *cli_compose(const char *command, const cli_message *message);

/* A document with the fields of `first` and those of `second` that `first` lacks. Owned by the
 * caller; NULL with the error. */
nh_doc *cli_compose_over(const nh_doc *first, const nh_doc *second, nh_error *error);

#endif
