/* curl.h — libcurl, loaded when something is to be sent that needs it.
 *
 * It brings some thirty libraries, which take longer to load than a hub to open, and half of the
 * memory of one that has nothing to send. So nothing links it: who includes this calls its
 * functions by their own names, through a table that nh_curl_load fills.
 */
#ifndef NH_TRANSPORTS_CURL_H
#define NH_TRANSPORTS_CURL_H

#include <curl/curl.h>

#include "runtime/notifyhub.h"

/* Those that the transports use. */
#define NH_CURL_FUNCTIONS(X)                                                                       \
    X(curl_easy_cleanup)                                                                           \
    X(curl_easy_getinfo)                                                                           \
    X(curl_easy_init)                                                                              \
    X(curl_easy_recv)                                                                              \
    X(curl_easy_reset)                                                                             \
    X(curl_easy_send)                                                                              \
    X(curl_easy_setopt)                                                                            \
    X(curl_easy_strerror)                                                                          \
    X(curl_global_init)                                                                            \
    X(curl_mime_addpart)                                                                           \
    X(curl_mime_data)                                                                              \
    X(curl_mime_encoder)                                                                           \
    X(curl_mime_filedata)                                                                          \
    X(curl_mime_filename)                                                                          \
    X(curl_mime_free)                                                                              \
    X(curl_mime_headers)                                                                           \
    X(curl_mime_init)                                                                              \
    X(curl_mime_name)                                                                              \
    X(curl_mime_subparts)                                                                          \
    X(curl_mime_type)                                                                              \
    X(curl_multi_add_handle)                                                                       \
    X(curl_multi_cleanup)                                                                          \
    X(curl_multi_info_read)                                                                        \
    X(curl_multi_init)                                                                             \
    X(curl_multi_remove_handle)                                                                    \
    X(curl_multi_setopt)                                                                           \
    X(curl_multi_socket_action)                                                                    \
    X(curl_share_cleanup)                                                                          \
    X(curl_share_init)                                                                             \
    X(curl_share_setopt)                                                                           \
    X(curl_slist_append)                                                                           \
    X(curl_slist_free_all)

typedef struct nh_curl_functions {
#define NH_X(name) __typeof__(name) *name; /* NOLINT(bugprone-macro-parentheses) */
    NH_CURL_FUNCTIONS(NH_X)
#undef NH_X
} nh_curl_functions;

extern nh_curl_functions nh_curl;

/* Loads and starts it, once a process. Thread: any. Blocks: some milliseconds. Errors:
 * NH_E_INTERNAL. */
nh_err nh_curl_load(nh_error *error);

#ifndef NH_CURL_WITHOUT_NAMES
#undef curl_easy_getinfo /* curl.h's own macros check types with gcc, around a linked function */
#undef curl_easy_setopt
#undef curl_multi_setopt
#undef curl_share_setopt
#define curl_easy_cleanup        nh_curl.curl_easy_cleanup
#define curl_easy_getinfo        nh_curl.curl_easy_getinfo
#define curl_easy_init           nh_curl.curl_easy_init
#define curl_easy_recv           nh_curl.curl_easy_recv
#define curl_easy_reset          nh_curl.curl_easy_reset
#define curl_easy_send           nh_curl.curl_easy_send
#define curl_easy_setopt         nh_curl.curl_easy_setopt
#define curl_easy_strerror       nh_curl.curl_easy_strerror
#define curl_mime_addpart        nh_curl.curl_mime_addpart
#define curl_mime_data           nh_curl.curl_mime_data
#define curl_mime_encoder        nh_curl.curl_mime_encoder
#define curl_mime_filedata       nh_curl.curl_mime_filedata
#define curl_mime_filename       nh_curl.curl_mime_filename
#define curl_mime_free           nh_curl.curl_mime_free
#define curl_mime_headers        nh_curl.curl_mime_headers
#define curl_mime_init           nh_curl.curl_mime_init
#define curl_mime_name           nh_curl.curl_mime_name
#define curl_mime_subparts       nh_curl.curl_mime_subparts
#define curl_mime_type           nh_curl.curl_mime_type
#define curl_multi_add_handle    nh_curl.curl_multi_add_handle
#define curl_multi_cleanup       nh_curl.curl_multi_cleanup
#define curl_multi_info_read     nh_curl.curl_multi_info_read
#define curl_multi_init          nh_curl.curl_multi_init
#define curl_multi_remove_handle nh_curl.curl_multi_remove_handle
#define curl_multi_setopt        nh_curl.curl_multi_setopt
#define curl_multi_socket_action nh_curl.curl_multi_socket_action
#define curl_share_cleanup       nh_curl.curl_share_cleanup
#define curl_share_init          nh_curl.curl_share_init
#define curl_share_setopt        nh_curl.curl_share_setopt
#define curl_slist_append        nh_curl.curl_slist_append
#define curl_slist_free_all      nh_curl.curl_slist_free_all
#endif

#endif
