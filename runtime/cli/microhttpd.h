/* microhttpd.h — libmicrohttpd, loaded by `notifyhub receive` only: it brings GnuTLS, which costs
 * every other command more than all its own work. Who includes this calls its functions by their
 * own names. */
#ifndef CLI_MICROHTTPD_H
#define CLI_MICROHTTPD_H

#include <microhttpd.h>
#include <stdbool.h>

#define CLI_MHD_FUNCTIONS(X)                                                                       \
    X(MHD_add_response_header)                                                                     \
    X(MHD_create_response_from_buffer)                                                             \
    X(MHD_destroy_response)                                                                        \
    X(MHD_get_connection_values)                                                                   \
    X(MHD_get_daemon_info)                                                                         \
    X(MHD_get_timeout)                                                                             \
    X(MHD_lookup_connection_value)                                                                 \
    X(MHD_queue_response)                                                                          \
    X(MHD_resume_connection)                                                                       \
    X(MHD_run)                                                                                     \
    X(MHD_start_daemon)                                                                            \
    X(MHD_stop_daemon)                                                                             \
    X(MHD_suspend_connection)

typedef struct mhd_functions {
#define CLI_X(name) __typeof__(name) *name; /* NOLINT(bugprone-macro-parentheses) */
    CLI_MHD_FUNCTIONS(CLI_X)
#undef CLI_X
} mhd_functions;

extern mhd_functions mhd;

/* False when it is not there; dlerror() says why. Thread: the main one. */
bool mhd_load(void);

#ifndef CLI_MHD_WITHOUT_NAMES
#define MHD_add_response_header         mhd.MHD_add_response_header
#define MHD_create_response_from_buffer mhd.MHD_create_response_from_buffer
#define MHD_destroy_response            mhd.MHD_destroy_response
#define MHD_get_connection_values       mhd.MHD_get_connection_values
#define MHD_get_daemon_info             mhd.MHD_get_daemon_info
#define MHD_get_timeout                 mhd.MHD_get_timeout
#define MHD_lookup_connection_value     mhd.MHD_lookup_connection_value
#define MHD_queue_response              mhd.MHD_queue_response
#define MHD_resume_connection           mhd.MHD_resume_connection
#define MHD_run                         mhd.MHD_run
#define MHD_start_daemon                mhd.MHD_start_daemon
#define MHD_stop_daemon                 mhd.MHD_stop_daemon
#define MHD_suspend_connection          mhd.MHD_suspend_connection
#endif

#endif
