/* mail.h — a mail as libcurl sends it: header lines and a tree of MIME parts, or its bytes.
 */
#ifndef NH_TRANSPORTS_MAIL_H
#define NH_TRANSPORTS_MAIL_H

#include "platforms/transports/curl.h"
#include "platforms/transports/text.h"
#include "runtime/work/transport.h"

/* The fields of an smtp request that make the mail itself; see docs/platforms.md. */
typedef struct nh_mail {
    const nh_value *headers;
    nh_span text, html; /* one of them at least */
    const nh_value *attachments;
} nh_mail;

/* What libcurl reads while it sends. Zeroed memory is none. */
typedef struct nh_mail_made {
    struct curl_slist *headers; /* these two, or all of it */
    curl_mime *mime;
    nh_text whole;
    size_t read;
} nh_mail_made;

/* Makes the mail, to be cleared after a failure, too, and has the handle send it. Errors:
 * NH_E_INVALID naming the field or file. */
nh_err nh_mail_compose(const nh_mail *mail, CURL *easy, nh_mail_made *made, nh_error *error);
void nh_mail_clear(nh_mail_made *made);

#endif
