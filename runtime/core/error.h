/* error.h — filling in an nh_error. */
#ifndef NH_CORE_ERROR_H
#define NH_CORE_ERROR_H

#include <stdarg.h>

#include "runtime/notifyhub.h"

/* Writes code and text when error is not NULL; returns code, so that a failure reads `return
 * nh_fail(error, …)`. */
nh_err nh_fail(nh_error *error, nh_err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
nh_err nh_fail_v(nh_error *error, nh_err code, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
/* The failure that needs no words. */
nh_err nh_fail_memory(nh_error *error);

#endif
