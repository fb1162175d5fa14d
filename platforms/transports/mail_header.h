/* mail_header.h — header lines of a mail: RFC 2047 words, RFC 2231 parameters, folding.
 */
#ifndef NH_TRANSPORTS_MAIL_HEADER_H
#define NH_TRANSPORTS_MAIL_HEADER_H

#include "platforms/transports/text.h"

/* Puts "Name: value", encoded where the value is not plain ASCII and folded, without a final line
 * end. In address headers (From, To, Cc …) only display names are encoded. The value is UTF-8
 * without control characters. A failure sticks in `out`. */
void nh_mail_header_put(nh_text *out, nh_span name, nh_span value);

/* Puts ";\r\n name=value" (RFC 2045) or, for a value that is long or not plain ASCII, its RFC 2231
 * form, in as many pieces as its length needs. */
void nh_mail_param_put(nh_text *out, const char *name, nh_span value);
/* The same in RFC 2047 words inside quotes: no standard, but what older programs read. */
void nh_mail_param_put_words(nh_text *out, const char *name, nh_span value);

/* How to carry a text through a mail: as it is, quoted-printable or base64, whichever is shorter.
 * The text has CRLF line ends. Borrowed, static: a name that libcurl's encoders know. */
const char *nh_mail_encoding(nh_span text);

/* Puts a text with every line end as CRLF. */
void nh_mail_lines_put(nh_text *out, nh_span text);

#endif
