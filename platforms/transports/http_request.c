/* Reads and checks a request, for whichever way it goes. What is wrong with it is told here and in
 * the same words for all. Thread: the worker's. Costs a pass over its fields.
 */
#include "platforms/transports/http_request.h"

#include <string.h>

#include "platforms/transports/http_form.h"
#include "platforms/transports/http_url.h"

#define FIELD(name, type)                                                                          \
    { #name, NH_FIELD_##type, offsetof(nh_http_request, name) }
static const nh_field fields[] = {
    FIELD(url, BYTES),        FIELD(method, BYTES),   FIELD(headers, PAIRS),
    FIELD(body, BYTES),       FIELD(form, PAIRS),     FIELD(multipart, LIST),
    FIELD(user, BYTES),       FIELD(password, BYTES), FIELD(bearer, BYTES),
    FIELD(timeout, SECONDS),  FIELD(verify, BOOL),    FIELD(connect_timeout, SECONDS),
    FIELD(ca_file, BYTES),    FIELD(proxy, BYTES),    FIELD(client_cert, BYTES),
    FIELD(client_key, BYTES), FIELD(http2, BOOL),     FIELD(guard, BOOL),
    FIELD(guard_allow, LIST),
};
#undef FIELD

#define COUNT(array) (sizeof(array) / sizeof *(array))

nh_err nh_http_request_read(const nh_request *asked, nh_http_request *request, nh_error *error) {
    *request = (nh_http_request){.verify = true};
    nh_err failed =
        nh_fields_read(nh_doc_root(asked->doc), "", fields, COUNT(fields), request, error);
    if (failed)
        return failed;
    if (!nh_http_url_has_scheme(request->url, "http://") &&
        !nh_http_url_has_scheme(request->url, "https://"))
        return nh_fields_fail(error, NH_E_INVALID, "url: must begin with http:// or https://");
    if (request->method.bytes && !nh_span_is_token(request->method))
        return nh_fields_fail(error, NH_E_INVALID, "method: is not one");
    if (!!request->body.bytes + !!request->form + !!request->multipart + asked->bodied > 1)
        return nh_fields_fail(error, NH_E_INVALID, "body, form, multipart: only one may be given");
    if (request->bearer.bytes && request->user.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "bearer, user: only one may be given");
    if (request->guard_allow && !request->guard)
        return nh_fields_fail(error, NH_E_INVALID, "guard_allow: needs guard = true");
    if (asked->bodied)
        request->body = (nh_span){"", 0};
    return NH_OK;
}

/* ---------------------------------------------------------------- headers */

static bool has_control(nh_span span) {
    for (size_t i = 0; i < span.length; i++)
        if (((unsigned char)span.bytes[i] < 0x20 && span.bytes[i] != '\t') || span.bytes[i] == 0x7F)
            return true;
    return false;
}

static const struct known {
    const char *text;
    nh_http_name name;
} known[] = {
    {"accept", NH_HTTP_ACCEPT},
    {"authorization", NH_HTTP_AUTHORIZATION},
    {"content-type", NH_HTTP_CONTENT_TYPE},
    {"expect", NH_HTTP_EXPECT},
    {"host", NH_HTTP_HOST},
    {"user-agent", NH_HTTP_USER_AGENT},
    {"connection", NH_HTTP_HOP},
    {"keep-alive", NH_HTTP_HOP},
    {"proxy-authorization", NH_HTTP_HOP},
    {"proxy-connection", NH_HTTP_HOP},
    {"te", NH_HTTP_HOP},
    {"trailer", NH_HTTP_HOP},
    {"upgrade", NH_HTTP_HOP},
};

static nh_http_name name_of(nh_span span) {
    for (size_t i = 0; i < COUNT(known); i++)
        if ((span.bytes[0] | 0x20) == known[i].text[0] && nh_span_is(span, known[i].text))
            return known[i].name;
    return NH_HTTP_OTHER;
}

nh_err nh_http_request_header(const nh_http_request *request, size_t index, nh_pair *pair,
                              nh_http_name *name, nh_error *error) {
    nh_err failed = nh_fields_pair(request->headers, index, "headers", pair, error);
    if (failed)
        return failed;
    if (!nh_span_is_token(pair->name))
        return nh_fields_fail(error, NH_E_INVALID, "headers[%zu]: the name is not one", index + 1);
    if (has_control(pair->value))
        return nh_fields_fail(error, NH_E_INVALID,
                              "headers.%.*s: control characters are not allowed there",
                              (int)pair->name.length, pair->name.bytes);
    /* The length is ours to say: another one would let a body be read as a second request. */
    if (nh_span_is(pair->name, "content-length") || nh_span_is(pair->name, "transfer-encoding"))
        return nh_fields_fail(error, NH_E_INVALID, "headers.%.*s: may not be set",
                              (int)pair->name.length, pair->name.bytes);
    *name = name_of(pair->name);
    if (*name == NH_HTTP_AUTHORIZATION && (request->bearer.bytes || request->user.bytes))
        return nh_fields_fail(error, NH_E_INVALID,
                              "headers.Authorization: may not be set along with user or bearer");
    return NH_OK;
}

/* ------------------------------------------------------------------- body */

bool nh_http_request_has_body(const nh_http_request *request) {
    nh_span method = request->method;
    return request->body.bytes || request->form ||
           (!request->multipart && (nh_span_is(method, "post") || nh_span_is(method, "put") ||
                                    nh_span_is(method, "patch"))); /* says Content-Length: 0 */
}

nh_err nh_http_request_body(const nh_http_request *request, const nh_transfer *transfer,
                            nh_text *form, nh_span *body, nh_error *error) {
    nh_err failed = NH_OK;
    *body = transfer->body ? (nh_span){transfer->body, transfer->body_length} : request->body;
    if (request->form) {
        failed = nh_http_form_encode(request->form, form, error);
        *body = (nh_span){form->bytes, form->length};
    }
    if (!body->bytes && nh_http_request_has_body(request))
        *body = (nh_span){"", 0};
    return failed;
}

const char *nh_http_request_method(const nh_http_request *request) {
    if (request->multipart || nh_http_request_has_body(request))
        return "POST";
    return nh_span_is(request->method, "head") ? "HEAD" : "GET";
}
