/* mail.h — a mail as libcurl sends it: header lines and a tree of MIME parts.
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

/* Writes header lines and parts, for CURLOPT_HTTPHEADER and CURLOPT_MIMEPOST of this handle. The
 * caller owns them, after a failure too. Errors: NH_E_INVALID naming the field or file. */
nh_err nh_mail_compose(const nh_mail *mail, CURL *easy, struct curl_slist **headers,
                       curl_mime **mime, nh_error *error);

#endif
