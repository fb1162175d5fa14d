/* http_form.h — the two bodies of a form: application/x-www-form-urlencoded and
 * multipart/form-data.
 */
#ifndef NH_TRANSPORTS_HTTP_FORM_H
#define NH_TRANSPORTS_HTTP_FORM_H

#include "platforms/transports/curl.h"
#include "platforms/transports/text.h"
#include "runtime/work/transport.h"

/* Appends the pairs of `form`, encoded and NUL-terminated. Errors: NH_E_INVALID naming the pair. */
nh_err nh_http_form_encode(const nh_value *form, nh_text *out, nh_error *error);

/* Adds a part for each entry of `list`: {name, filename, content_type, content | path}. `scratch`
 * holds one text at a time. Errors: NH_E_INVALID naming the part and its field or file. */
nh_err nh_http_form_parts(const nh_value *list, curl_mime *mime, nh_text *scratch, nh_error *error);

#endif
