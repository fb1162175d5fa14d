/* error.h — filling in an nh_error. */
#ifndef NH_CORE_ERROR_H
#define NH_CORE_ERROR_H

#include "runtime/notifyhub.h"

/* Writes code and text when error is not NULL. */
void nh_error_set(nh_error *error, nh_err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline nh_err nh_error_code(nh_err code) {
    return code;
}

/* The same as an expression of the code, so that a failure reads `return nh_fail(error, …)`. A
 * macro, for static analysis to see that what fails does not return NH_OK. Evaluates `code` twice.
 */
#define nh_fail(error, code, ...) (nh_error_set((error), (code), __VA_ARGS__), nh_error_code(code))
/* The failure that needs no words. */
#define nh_fail_memory(error) nh_fail((error), NH_E_INTERNAL, "out of memory")

/* With NH_E_CLOSED, of a message that a journal has. */
#define NH_KEPT_TEXT                                                                               \
    "the hub is closed; the message is kept in the journal and goes on when that is opened again"

#endif
