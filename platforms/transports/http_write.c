/* Writes the head of a request (RFC 9112), with the fields and defaults of libcurl's. Thread: the
 * worker's. Costs a pass over the headers.
 */
#include "platforms/transports/http_write.h"

#include <string.h>

/* What the request's own headers have said already. */
typedef struct said {
    bool accept, agent, type;
} said;

static void put(nh_text *out, nh_span span) {
    nh_text_put(out, span.bytes, span.length);
}

#define PUT(out, literal) nh_text_put(out, literal, sizeof(literal) - 1)

static void put_base64(nh_text *out, const unsigned char *bytes, size_t length) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        size_t rest = length - i;
        unsigned three = (unsigned)bytes[i] << 16 | (rest > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                         (rest > 2 ? bytes[i + 2] : 0);
        char four[4] = {letters[three >> 18], letters[three >> 12 & 63],
                        rest > 1 ? letters[three >> 6 & 63] : '=',
                        rest > 2 ? letters[three & 63] : '='};
        nh_text_put(out, four, sizeof four);
    }
}

static bool put_basic(nh_text *out, nh_text *scratch, const nh_http_request *request) {
    nh_text_clear(scratch);
    put(scratch, request->user);
    PUT(scratch, ":");
    put(scratch, request->password);
    PUT(out, "Authorization: Basic ");
    put_base64(out, (const unsigned char *)scratch->bytes, scratch->length);
    PUT(out, "\r\n");
    return !scratch->failed;
}

static void put_request_line(nh_text *out, const nh_http_request *request, const nh_http_url *url) {
    if (request->method.bytes)
        put(out, request->method);
    else
        nh_text_puts(out, nh_http_request_method(request));
    nh_text_puts(out, url->path.length > 0 && url->path.bytes[0] == '/' ? " " : " /");
    put(out, url->path);
    PUT(out, " HTTP/1.1\r\nHost: ");
    put(out, url->host);
    if (url->port.bytes) {
        PUT(out, ":");
        put(out, url->port);
    }
    PUT(out, "\r\n");
}

/* A value of nothing but blanks is left out, as libcurl does. */
static bool is_blank(nh_span span) {
    for (size_t i = 0; i < span.length; i++)
        if (span.bytes[i] != ' ' && span.bytes[i] != '\t')
            return false;
    return span.length > 0;
}

static nh_http_head put_headers(nh_text *out, const nh_http_request *request, said *has,
                                nh_error *error) {
    for (size_t i = 0; i < nh_value_count(request->headers); i++) {
        nh_pair pair;
        nh_http_name name;
        if (nh_http_request_header(request, i, &pair, &name, error) != NH_OK)
            return NH_HTTP_REFUSED;
        if (name == NH_HTTP_HOP || name == NH_HTTP_EXPECT || name == NH_HTTP_HOST)
            return NH_HTTP_UNSUITED;
        has->accept |= name == NH_HTTP_ACCEPT;
        has->agent |= name == NH_HTTP_USER_AGENT;
        has->type |= name == NH_HTTP_CONTENT_TYPE;
        if (is_blank(pair.value))
            continue;
        put(out, pair.name);
        PUT(out, ":");
        if (pair.value.length > 0)
            PUT(out, " ");
        put(out, pair.value);
        PUT(out, "\r\n");
    }
    return NH_HTTP_WRITTEN;
}

nh_http_head nh_http_write_head(nh_http *http, const nh_http_request *request,
                                const nh_http_url *url, nh_text *out, nh_error *error) {
    said has = {.accept = false};
    nh_text_clear(out);
    put_request_line(out, request, url);
    nh_http_head verdict = put_headers(out, request, &has, error);
    if (verdict != NH_HTTP_WRITTEN)
        return verdict;
    if (request->bearer.bytes) {
        PUT(out, "Authorization: Bearer ");
        put(out, request->bearer);
        PUT(out, "\r\n");
    }
    if (request->user.bytes && !put_basic(out, &http->scratch, request))
        out->failed = true;
    if (!has.agent) {
        PUT(out, "User-Agent: ");
        nh_text_put(out, http->agent.bytes, http->agent.length);
        PUT(out, "\r\n");
    }
    if (!has.accept)
        PUT(out, "Accept: */*\r\n");
    if (request->form && !has.type)
        PUT(out, "Content-Type: application/x-www-form-urlencoded\r\n");
    if (!out->failed)
        return NH_HTTP_WRITTEN;
    nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
    return NH_HTTP_REFUSED;
}

void nh_http_write_body(nh_text *out, nh_span body, bool together) {
    if (body.bytes) {
        PUT(out, "Content-Length: ");
        nh_text_put_number(out, body.length);
        PUT(out, "\r\n");
    }
    PUT(out, "\r\n");
    if (together)
        put(out, body);
}
