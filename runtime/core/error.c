/* error.c — the one list of errors (NH_ERRORS) as functions. Thread: any. Nothing here allocates.
 */
#include "runtime/core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/core/utf8.h"

static const struct {
    const char *name;
    const char *text;
    bool retryable;
} errors[] = {[NH_OK] = {"ok", "no error", false},
#define NH_X(symbol, name, retryable, text) [NH_E_##symbol] = {name, text, retryable},
              NH_ERRORS(NH_X)
#undef NH_X
};

enum { ERROR_COUNT = sizeof errors / sizeof *errors };

static size_t known(nh_err code) {
    return (size_t)code < ERROR_COUNT ? (size_t)code : NH_E_INTERNAL;
}

const char *nh_err_name(nh_err code) {
    return errors[known(code)].name;
}

const char *nh_err_text(nh_err code) {
    return errors[known(code)].text;
}

bool nh_err_retryable(nh_err code) {
    return errors[known(code)].retryable;
}

nh_err nh_err_from_name(const char *name) {
    for (size_t i = 0; i < ERROR_COUNT; i++)
        if (strcmp(errors[i].name, name) == 0)
            return (nh_err)i;
    return NH_E_INTERNAL;
}

/* What others say (SQLite, jansson, the system) may quote bytes that are no text. */
static void make_text(char *message) {
    size_t length = strlen(message), size;
    for (size_t at = 0; at < length; at += size) {
        for (size = 1; size < 4 && at + size < length; size++)
            if (nh_utf8_valid(message + at, size))
                break;
        if (!nh_utf8_valid(message + at, size)) {
            message[at] = '?';
            size = 1;
        }
    }
}

void nh_error_set(nh_error *error, nh_err code, const char *format, ...) {
    if (!error)
        return;
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof error->message)
        error->message[nh_utf8_floor(error->message, sizeof error->message - 1)] = '\0';
    if (!nh_utf8_valid(error->message, strlen(error->message)))
        make_text(error->message);
}
