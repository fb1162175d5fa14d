/* The http transport: HTTP/1.1 and, by option, HTTP/2, over libcurl.
 *
 * Request and response are described in docs/platforms.md. Owned by one worker's thread; open →
 * start/cancel … → close. What is fixed here: redirects are never followed (a 3xx is an answer like
 * any other), no proxy and no credentials but those of the request, certificates are verified
 * unless the request says otherwise, header and body of a response are capped. A transfer that
 * names no timeout also ends after ten seconds without a byte.
 *
 * libcurl repeats a request by itself in one case: the connection had been used before and was
 * closed by the peer before any byte of the answer came.
 *
 * An error's text names the host and port, never the rest of the URL, where tokens sit. A request
 * over a warm connection is one send and one receive; its processor time is nearly all libcurl's.
 *
 * A transfer that waits for a place holds nothing but its request's document and a small structure:
 * what it needs under way, the exchange, it gets when its turn comes. Exchanges are reused with
 * their buffers.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "platforms/transports/fields.h"
#include "platforms/transports/multi.h"
#include "platforms/transports/transports.h"

enum {
    QUIET_SECONDS = 10,        /* without a byte, when the request names no timeout */
    EXPECT_BYTES = 512 * 1024, /* from here on libcurl might ask with Expect: 100-continue */
    AUTHORITY_MAX = 255,
    SPARE_EXCHANGES = 256, /* idle ones that are kept */
    KEPT_TEXT = 2 * 1024,  /* the largest buffer that is kept in one */
};

typedef struct http_exchange http_exchange;

struct nh_transport {
    nh_multi *multi;
    nh_transport_limits limits;
    nh_writer *writer;
    nh_text scratch; /* one option's text at a time; libcurl copies it */
    http_exchange *spare;
    size_t spare_count;
};

typedef struct http_request {
    nh_span url, method, body, user, password, bearer, ca_file, client_cert, client_key, proxy;
    const nh_value *headers, *form, *multipart;
    double timeout, connect_timeout; /* 0: not named */
    bool verify, http2;
} http_request;

#define FIELD(name, type)                                                                          \
    { #name, NH_FIELD_##type, offsetof(http_request, name) }
static const nh_field fields[] = {
    FIELD(url, BYTES),        FIELD(method, BYTES),   FIELD(headers, PAIRS),
    FIELD(body, BYTES),       FIELD(form, PAIRS),     FIELD(multipart, LIST),
    FIELD(user, BYTES),       FIELD(password, BYTES), FIELD(bearer, BYTES),
    FIELD(timeout, SECONDS),  FIELD(verify, BOOL),    FIELD(connect_timeout, SECONDS),
    FIELD(ca_file, BYTES),    FIELD(proxy, BYTES),    FIELD(client_cert, BYTES),
    FIELD(client_key, BYTES), FIELD(http2, BOOL),
};
#undef FIELD

typedef struct http_part {
    nh_span name, filename, content_type, content, path;
} http_part;

#define FIELD(name)                                                                                \
    { #name, NH_FIELD_BYTES, offsetof(http_part, name) }
static const nh_field part_fields[] = {
    FIELD(name), FIELD(filename), FIELD(content_type), FIELD(content), FIELD(path),
};
#undef FIELD

enum too_large { FITS, HEADER_TOO_LARGE, BODY_TOO_LARGE };

/* A transfer, from its start to its end. */
typedef struct http_transfer {
    nh_multi_job job;
    nh_transport *transport;
    nh_transfer *transfer;
    const nh_value *value;   /* the request, as it came; borrowed */
    http_exchange *exchange; /* NULL while it waits */
} http_transfer;

/* A request and its answer while libcurl has them. */
struct http_exchange {
    nh_transport *transport;
    http_exchange *next;  /* of the spare ones */
    http_request request; /* spans borrowed from the request's document */
    struct curl_slist *headers;
    curl_mime *mime;
    nh_text form;        /* encoded; libcurl reads it in place */
    nh_text body, lines; /* of the response; `lines` are the last header's, "name: value\n" */
    size_t header_bytes; /* of all headers, 1xx included */
    enum too_large too_large;
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static http_transfer *of_job(nh_multi_job *job) {
    return (http_transfer *)(void *)((char *)job - offsetof(http_transfer, job));
}

static nh_err out_of_memory(nh_error *error) {
    return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

/* ---------------------------------------------------------------- request */

static bool has_scheme(nh_span url, const char *scheme) {
    size_t length = strlen(scheme);
    return url.length > length && strncasecmp(url.bytes, scheme, length) == 0;
}

/* Host and port of the URL, for people. User, path and query are left out: tokens sit there. */
static nh_span authority_of(nh_span url) {
    const char *end = url.bytes + url.length;
    const char *start = memchr(url.bytes, ':', url.length);
    start = start && end - start > 3 ? start + 3 : end;
    const char *stop = start;
    while (stop < end && !strchr("/?#\\", *stop))
        stop++;
    for (const char *c = start; c < stop; c++)
        if (*c == '@')
            start = c + 1;
    size_t length = (size_t)(stop - start);
    return (nh_span){start, length < AUTHORITY_MAX ? length : AUTHORITY_MAX};
}

static nh_err read_request(const nh_value *value, http_request *request, nh_error *error) {
    *request = (http_request){.verify = true};
    nh_err failed = nh_fields_read(value, "", fields, COUNT(fields), request, error);
    if (failed)
        return failed;
    if (!has_scheme(request->url, "http://") && !has_scheme(request->url, "https://"))
        return nh_fields_fail(error, NH_E_INVALID, "url: must begin with http:// or https://");
    if (request->method.bytes && !nh_span_is_token(request->method))
        return nh_fields_fail(error, NH_E_INVALID, "method: is not one");
    if (!!request->body.bytes + !!request->form + !!request->multipart > 1)
        return nh_fields_fail(error, NH_E_INVALID, "body, form, multipart: only one may be given");
    if (request->bearer.bytes && request->user.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "bearer, user: only one may be given");
    return NH_OK;
}

/* Sets a string option from a span. libcurl's own answer matters: an option it does not take must
 * not be left out silently. */
static nh_err set_text(http_exchange *http, CURL *easy, CURLoption option, nh_span span,
                       const char *field, nh_error *error) {
    if (!span.bytes)
        return NH_OK;
    const char *text = nh_text_of(&http->transport->scratch, span);
    if (!text)
        return out_of_memory(error);
    if (curl_easy_setopt(easy, option, text) != CURLE_OK)
        return nh_fields_fail(error, NH_E_INVALID, "%s: libcurl does not take it", field);
    return NH_OK;
}

static nh_err set_file(http_exchange *http, CURL *easy, CURLoption option, nh_span span,
                       const char *field, nh_error *error) {
    if (!span.bytes)
        return NH_OK;
    const char *path = nh_text_of(&http->transport->scratch, span);
    if (!path)
        return out_of_memory(error);
    nh_err failed = nh_fields_file(field, path, NULL, error);
    return failed ? failed : set_text(http, easy, option, span, field, error);
}

static nh_err add_header(http_exchange *http, const char *line, nh_error *error) {
    struct curl_slist *longer = line ? curl_slist_append(http->headers, line) : NULL;
    if (!longer)
        return out_of_memory(error);
    http->headers = longer;
    return NH_OK;
}

static bool has_control(nh_span span) {
    for (size_t i = 0; i < span.length; i++)
        if (((unsigned char)span.bytes[i] < 0x20 && span.bytes[i] != '\t') || span.bytes[i] == 0x7F)
            return true;
    return false;
}

static nh_err set_headers(http_exchange *http, CURL *easy, nh_error *error) {
    const http_request *request = &http->request;
    nh_text *line = &http->transport->scratch;
    bool typed = false, expects = false, authorised = false;
    for (size_t i = 0; i < nh_value_count(request->headers); i++) {
        nh_pair pair;
        nh_err failed = nh_fields_pair(request->headers, i, "headers", &pair, error);
        if (failed)
            return failed;
        if (!nh_span_is_token(pair.name))
            return nh_fields_fail(error, NH_E_INVALID, "headers[%zu]: the name is not one", i + 1);
        if (has_control(pair.value))
            return nh_fields_fail(error, NH_E_INVALID,
                                  "headers.%.*s: control characters are not allowed there",
                                  (int)pair.name.length, pair.name.bytes);
        /* The length is ours to say: another one would let a body be read as a second request. */
        if (nh_span_is(pair.name, "content-length") || nh_span_is(pair.name, "transfer-encoding"))
            return nh_fields_fail(error, NH_E_INVALID, "headers.%.*s: may not be set",
                                  (int)pair.name.length, pair.name.bytes);
        typed |= nh_span_is(pair.name, "content-type");
        expects |= nh_span_is(pair.name, "expect");
        authorised |= nh_span_is(pair.name, "authorization");

        nh_text_clear(line);
        nh_text_put(line, pair.name.bytes, pair.name.length);
        /* libcurl takes "Name:" as "leave this header out" and "Name;" as an empty one. */
        nh_text_puts(line, pair.value.length ? ": " : ";");
        nh_text_put(line, pair.value.bytes, pair.value.length);
        failed = add_header(http, nh_text_string(line), error);
        if (failed)
            return failed;
    }
    nh_err failed = NH_OK;
    if (authorised && (request->bearer.bytes || request->user.bytes))
        return nh_fields_fail(error, NH_E_INVALID,
                              "headers.Authorization: may not be set along with user or bearer");
    if (request->bearer.bytes) {
        nh_text_clear(line);
        nh_text_puts(line, "Authorization: Bearer ");
        nh_text_put(line, request->bearer.bytes, request->bearer.length);
        failed = add_header(http, nh_text_string(line), error);
    }
    /* A body is of the type that the request says, or of none; libcurl would call it a form. */
    if (!failed && request->body.bytes && !typed)
        failed = add_header(http, "Content-Type:", error);
    if (!failed && !expects &&
        (request->multipart || request->body.length > EXPECT_BYTES ||
         http->form.length > EXPECT_BYTES))
        failed = add_header(http, "Expect:", error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers);
    return failed;
}

static void put_encoded(nh_text *out, nh_span span) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < span.length; i++) {
        unsigned char c = (unsigned char)span.bytes[i];
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            c == '-' || c == '.' || c == '_' || c == '~')
            nh_text_putc(out, (char)c);
        else if (c == ' ')
            nh_text_putc(out, '+');
        else
            nh_text_put(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

static nh_err encode_form(http_exchange *http, nh_error *error) {
    const nh_value *form = http->request.form;
    for (size_t i = 0; i < nh_value_count(form); i++) {
        nh_pair pair;
        nh_err failed = nh_fields_pair(form, i, "form", &pair, error);
        if (failed)
            return failed;
        if (i > 0)
            nh_text_putc(&http->form, '&');
        put_encoded(&http->form, pair.name);
        nh_text_putc(&http->form, '=');
        put_encoded(&http->form, pair.value);
    }
    return nh_text_string(&http->form) ? NH_OK : out_of_memory(error);
}

static nh_err add_part(http_exchange *http, size_t index, nh_error *error) {
    char where[48];
    snprintf(where, sizeof where, "multipart[%zu].", index + 1);
    http_part fields_of = {.name = {NULL, 0}};
    nh_err failed = nh_fields_read(nh_value_at(http->request.multipart, index), where, part_fields,
                                   COUNT(part_fields), &fields_of, error);
    if (failed)
        return failed;
    if (!fields_of.name.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "%sname: is missing", where);
    if (!fields_of.content.bytes == !fields_of.path.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "%scontent: give either content or path", where);

    nh_text *scratch = &http->transport->scratch;
    curl_mimepart *part = curl_mime_addpart(http->mime);
    CURLcode code = part ? CURLE_OK : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && fields_of.path.bytes) {
        const char *path = nh_text_of(scratch, fields_of.path);
        if (!path)
            return out_of_memory(error);
        char field[64];
        snprintf(field, sizeof field, "%spath", where);
        failed = nh_fields_file(field, path, NULL, error);
        if (failed)
            return failed;
        code = curl_mime_filedata(part, path);
    } else if (code == CURLE_OK) {
        code = curl_mime_data(part, fields_of.content.bytes, fields_of.content.length);
    }
    if (code == CURLE_OK)
        code = curl_mime_name(part, nh_text_of(scratch, fields_of.name));
    if (code == CURLE_OK && fields_of.filename.bytes)
        code = curl_mime_filename(part, nh_text_of(scratch, fields_of.filename));
    if (code == CURLE_OK && fields_of.content_type.bytes)
        code = curl_mime_type(part, nh_text_of(scratch, fields_of.content_type));
    return code == CURLE_OK ? NH_OK : out_of_memory(error);
}

static nh_err set_multipart(http_exchange *http, CURL *easy, nh_error *error) {
    http->mime = curl_mime_init(easy);
    if (!http->mime)
        return out_of_memory(error);
    for (size_t i = 0; i < nh_value_count(http->request.multipart); i++) {
        nh_err failed = add_part(http, i, error);
        if (failed)
            return failed;
    }
    curl_easy_setopt(easy, CURLOPT_MIMEPOST, http->mime);
    return NH_OK;
}

/* Body and method. libcurl derives a method from the kind of body; another one is put over it. */
static nh_err set_body(http_exchange *http, CURL *easy, nh_error *error) {
    const http_request *request = &http->request;
    nh_span method = request->method, body = request->body;
    const char *derived = "GET";
    nh_err failed = NH_OK;

    if (request->multipart) {
        derived = "POST";
        failed = set_multipart(http, easy, error);
    } else if (request->form) {
        failed = encode_form(http, error);
        body = (nh_span){http->form.bytes, http->form.length};
    } else if (!body.bytes && (nh_span_is(method, "post") || nh_span_is(method, "put") ||
                               nh_span_is(method, "patch"))) {
        body = (nh_span){"", 0}; /* says Content-Length: 0 */
    }
    if (failed)
        return failed;
    if (body.bytes) {
        derived = "POST";
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.length);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.bytes);
    } else if (!request->multipart && nh_span_is(method, "head")) {
        derived = "HEAD";
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    if (method.bytes &&
        (method.length != strlen(derived) || memcmp(method.bytes, derived, method.length) != 0))
        failed = set_text(http, easy, CURLOPT_CUSTOMREQUEST, method, "method", error);
    return failed;
}

/* --------------------------------------------------------------- response */

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    http_exchange *http = user;
    if (nh_text_put(&http->body, bytes, size * count))
        return size * count;
    if (http->body.over)
        http->too_large = BODY_TOO_LARGE;
    return 0;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static nh_span trim(const char *bytes, size_t length) {
    while (length > 0 && is_space(*bytes))
        bytes++, length--;
    while (length > 0 && is_space(bytes[length - 1]))
        length--;
    return (nh_span){bytes, length};
}

/* One line of a header. A status line begins a new header (after a 1xx), which replaces the last.
 */
static size_t on_header(char *bytes, size_t size, size_t count, void *user) {
    http_exchange *http = user;
    size_t length = size * count;
    http->header_bytes += length;
    if (http->header_bytes > http->transport->limits.header_bytes) {
        http->too_large = HEADER_TOO_LARGE;
        return 0;
    }
    if (length >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        nh_text_clear(&http->lines);
        return length;
    }
    const char *colon = memchr(bytes, ':', length);
    if (!colon || colon == bytes)
        return length;
    size_t name = (size_t)(colon - bytes);
    for (size_t i = 0; i < name; i++)
        nh_text_putc(&http->lines,
                     (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] | 0x20 : bytes[i]));
    nh_span value = trim(colon + 1, length - name - 1);
    nh_text_putc(&http->lines, ':');
    nh_text_put(&http->lines, value.bytes, value.length);
    return nh_text_putc(&http->lines, '\n') ? length : 0;
}

typedef struct http_line {
    nh_span name, value;
} http_line;

/* By name, then by place: equal names come together in the order of arrival. */
static int compare_lines(const void *a, const void *b) {
    const http_line *left = a, *right = b;
    size_t shorter =
        left->name.length < right->name.length ? left->name.length : right->name.length;
    int order = memcmp(left->name.bytes, right->name.bytes, shorter);
    if (order == 0)
        order = (left->name.length > right->name.length) - (left->name.length < right->name.length);
    return order ? order
                 : (left->name.bytes > right->name.bytes) - (left->name.bytes < right->name.bytes);
}

static bool same_name(const http_line *a, const http_line *b) {
    return a->name.length == b->name.length &&
           memcmp(a->name.bytes, b->name.bytes, a->name.length) == 0;
}

/* Writes the header as a map; the values of a name that came twice are joined with commas. */
static bool write_headers(http_exchange *http, nh_writer *writer) {
    const char *at = nh_text_string(&http->lines);
    if (!at)
        return false;
    size_t count = 0, distinct = 0;
    for (size_t i = 0; i < http->lines.length; i++)
        count += at[i] == '\n';
    http_line *lines = calloc(count + 1, sizeof *lines);
    if (!lines)
        return false;
    const char *stop = at + http->lines.length;
    for (size_t i = 0; i < count; i++) { /* on_header put a colon and a line feed in each */
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        const char *colon = memchr(at, ':', (size_t)(end - at));
        lines[i] = (http_line){{at, (size_t)(colon - at)}, {colon + 1, (size_t)(end - colon - 1)}};
        at = end + 1;
    }
    qsort(lines, count, sizeof *lines, compare_lines);
    for (size_t i = 0; i < count; i++)
        distinct += i == 0 || !same_name(&lines[i], &lines[i - 1]);

    nh_text *joined = &http->transport->scratch;
    nh_writer_map(writer, distinct);
    for (size_t i = 0; i < count;) {
        nh_writer_string(writer, lines[i].name.bytes, lines[i].name.length);
        size_t first = i;
        nh_text_clear(joined);
        for (; i < count && same_name(&lines[i], &lines[first]); i++) {
            if (i > first)
                nh_text_puts(joined, ", ");
            nh_text_put(joined, lines[i].value.bytes, lines[i].value.length);
        }
        nh_writer_string(writer, joined->length ? joined->bytes : "", joined->length);
    }
    free(lines);
    return !joined->failed;
}

static nh_doc *answer(http_exchange *http, CURL *easy) {
    nh_writer *writer = http->transport->writer;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    nh_writer_map(writer, 3);
    nh_writer_cstring(writer, "status");
    nh_writer_int(writer, status);
    nh_writer_cstring(writer, "headers");
    bool whole = write_headers(http, writer);
    nh_writer_cstring(writer, "body");
    nh_writer_string(writer, http->body.length ? http->body.bytes : "", http->body.length);
    nh_doc *response = nh_writer_finish(writer, NULL);
    if (response && whole)
        return response;
    nh_doc_unref(response);
    return nh_response_error(NH_E_INTERNAL, true, "out of memory");
}

/* Whether the peer may have got any of the request. */
static bool was_sent(CURL *easy) {
    long bytes = 0;
    return easy && curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK && bytes > 0;
}

static nh_doc *respond(nh_multi_job *job, const nh_multi_end *end) {
    const http_exchange *http = of_job(job)->exchange;
    if (end->easy && end->code == CURLE_OK)
        return answer(of_job(job)->exchange, end->easy);

    bool sent = was_sent(end->easy);
    enum too_large too_large = end->easy ? http->too_large : FITS;
    nh_span host = authority_of(nh_span_of(nh_value_get(of_job(job)->value, "url")));
    nh_err code = nh_multi_error(end);
    const char *text = nh_multi_text(end);
    if (end->easy && !too_large && sent) {
        if (end->code == CURLE_OUT_OF_MEMORY) /* libcurl's words for one line over 100 kB */
            too_large = HEADER_TOO_LARGE;
        if (end->code == CURLE_UNSUPPORTED_PROTOCOL) {
            code = NH_E_NETWORK;
            text = "the answer is not HTTP";
        }
    }
    if (too_large) {
        bool body = too_large == BODY_TOO_LARGE;
        const nh_transport_limits *limits = &of_job(job)->transport->limits;
        return nh_response_error(NH_E_TOO_LARGE, sent, "%.*s: the response's %s is over %zu bytes",
                                 (int)host.length, host.bytes, body ? "body" : "header",
                                 body ? limits->response_bytes : limits->header_bytes);
    }
    if (!end->easy && code != NH_E_TIMEOUT) /* about the request, not about the host */
        return nh_response_error(code, sent, "%s", text);
    return nh_response_error(code, sent, "%.*s: %s", (int)host.length, host.bytes, text);
}

/* --------------------------------------------------------------- exchange */

static void empty(nh_text *text) {
    if (text->capacity > KEPT_TEXT)
        nh_text_term(text);
    nh_text_clear(text);
}

static void destroy_exchange(http_exchange *http) {
    nh_text_term(&http->form);
    nh_text_term(&http->body);
    nh_text_term(&http->lines);
    free(http);
}

/* NULL is allowed. libcurl has it no more. */
static void give_exchange(http_exchange *http) {
    if (!http)
        return;
    nh_transport *transport = http->transport;
    curl_slist_free_all(http->headers);
    curl_mime_free(http->mime);
    http->headers = NULL;
    http->mime = NULL;
    http->header_bytes = 0;
    http->too_large = FITS;
    if (transport->spare_count == SPARE_EXCHANGES) {
        destroy_exchange(http);
        return;
    }
    empty(&http->form);
    empty(&http->body);
    empty(&http->lines);
    http->next = transport->spare;
    transport->spare = http;
    transport->spare_count++;
}

/* One with the request read into it; NULL and an error. */
static http_exchange *take_exchange(nh_transport *transport, const nh_value *value,
                                    nh_error *error) {
    http_exchange *http = transport->spare;
    if (http) {
        transport->spare = http->next;
        transport->spare_count--;
    } else {
        http = calloc(1, sizeof *http);
        if (!http) {
            out_of_memory(error);
            return NULL;
        }
        http->transport = transport;
        nh_text_init(&http->form, SIZE_MAX);
        nh_text_init(&http->body, transport->limits.response_bytes);
        nh_text_init(&http->lines, transport->limits.header_bytes);
    }
    if (read_request(value, &http->request, error) == NH_OK)
        return http;
    give_exchange(http);
    return NULL;
}

/* ---------------------------------------------------------------- transfer */

static nh_err prepare(nh_multi_job *job, CURL *easy, nh_error *error) {
    http_transfer *own = of_job(job);
    nh_err failed = NH_OK;
    if (!own->exchange)
        own->exchange = take_exchange(own->transport, own->value, error);
    http_exchange *http = own->exchange;
    if (!http)
        return error->code;
    const http_request *request = &http->request;
    const nh_transport_limits *limits = &http->transport->limits;
    double connect =
        request->connect_timeout > 0 ? request->connect_timeout : limits->connect_timeout;

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect * 1e3) + 1);
    if (request->timeout <= 0) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)QUIET_SECONDS);
    }
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, http);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, request->verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, request->verify ? 2L : 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     (long)(request->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    if (request->http2) /* rather wait for the first connection's streams than open many */
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);

    nh_text *scratch = &http->transport->scratch;
    nh_text_clear(scratch);
    nh_text_puts(scratch, "NotifyHub/");
    nh_text_puts(scratch, nh_version());
    curl_easy_setopt(easy, CURLOPT_USERAGENT, nh_text_string(scratch));

    if (request->user.bytes)
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    const struct {
        CURLoption option;
        nh_span span;
        const char *field;
        nh_err (*set)(http_exchange *, CURL *, CURLoption, nh_span, const char *, nh_error *);
    } texts[] = {
        {CURLOPT_URL, request->url, "url", set_text},
        {CURLOPT_USERNAME, request->user, "user", set_text},
        {CURLOPT_PASSWORD, request->password, "password", set_text},
        {CURLOPT_PROXY, request->proxy, "proxy", set_text},
        {CURLOPT_CAINFO, request->ca_file, "ca_file", set_file},
        {CURLOPT_SSLCERT, request->client_cert, "client_cert", set_file},
        {CURLOPT_SSLKEY, request->client_key, "client_key", set_file},
    };
    for (size_t i = 0; i < COUNT(texts) && !failed; i++)
        failed = texts[i].set(http, easy, texts[i].option, texts[i].span, texts[i].field, error);
    if (!failed)
        failed = set_body(http, easy, error);
    return failed ? failed : set_headers(http, easy, error);
}

static void destroy(http_transfer *own) {
    give_exchange(own->exchange);
    free(own);
}

static void finish(nh_multi_job *job, nh_doc *response) {
    http_transfer *own = of_job(job);
    nh_transfer *transfer = own->transfer;
    destroy(own);
    transfer->state = NULL;
    transfer->done(transfer, response);
}

/* The same for requests to one host and port. */
static uint32_t hash(nh_span authority) {
    uint32_t value = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < authority.length; i++)
        value = (value ^ (unsigned char)authority.bytes[i]) * 16777619u;
    return value;
}

static void http_start(nh_transport *transport, nh_transfer *transfer, const nh_value *request) {
    nh_error error = {NH_OK, ""};
    transfer->state = NULL;
    http_exchange *exchange = take_exchange(transport, request, &error);
    http_transfer *own = exchange ? malloc(sizeof *own) : NULL;
    if (!own) {
        if (exchange)
            out_of_memory(&error);
        give_exchange(exchange);
        transfer->done(transfer, nh_response_error(error.code, false, "%s", error.message));
        return;
    }
    double timeout = exchange->request.timeout;
    *own = (http_transfer){.transport = transport, .transfer = transfer, .value = request};
    own->job = (nh_multi_job){
        .prepare = prepare,
        .respond = respond,
        .finish = finish,
        .timeout = timeout > 0 ? timeout : transport->limits.timeout,
        .origin = hash(authority_of(exchange->request.url)),
    };
    if (nh_multi_has_place(transport->multi))
        own->exchange = exchange;
    else
        give_exchange(exchange); /* it was read to see whether it is good */
    transfer->state = own;
    nh_multi_submit(transport->multi, &own->job);
}

static void http_cancel(nh_transport *transport, nh_transfer *transfer) {
    (void)transport;
    http_transfer *own = transfer->state;
    if (!own)
        return;
    nh_multi_cancel(&own->job);
    destroy(own);
    transfer->state = NULL;
}

static void http_close(nh_transport *transport) {
    if (!transport)
        return;
    nh_multi_close(transport->multi);
    while (transport->spare) {
        http_exchange *http = transport->spare;
        transport->spare = http->next;
        destroy_exchange(http);
    }
    nh_writer_destroy(transport->writer);
    nh_text_term(&transport->scratch);
    free(transport);
}

static nh_err http_open(nh_loop *loop, const nh_transport_limits *limits, nh_transport **out,
                        nh_error *error) {
    nh_transport *transport = calloc(1, sizeof *transport);
    if (!transport)
        return out_of_memory(error);
    transport->limits = *limits;
    nh_text_init(&transport->scratch, SIZE_MAX);
    transport->writer = nh_writer_create();
    nh_err failed = transport->writer ? nh_multi_open(loop, limits, &transport->multi, error)
                                      : out_of_memory(error);
    if (failed) {
        http_close(transport);
        return failed;
    }
    *out = transport;
    return NH_OK;
}

const nh_transport_ops nh_http_transport = {
    .name = "http",
    .open = http_open,
    .start = http_start,
    .cancel = http_cancel,
    .close = http_close,
};
