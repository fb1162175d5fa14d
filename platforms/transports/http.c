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
#include "platforms/transports/http_form.h"
#include "platforms/transports/http_header.h"
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
    const nh_value *headers, *form, *multipart, *guard_allow;
    double timeout, connect_timeout; /* 0: not named */
    bool verify, http2, guard;
} http_request;

#define FIELD(name, type)                                                                          \
    { #name, NH_FIELD_##type, offsetof(http_request, name) }
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
    nh_guard *guard;
    struct curl_slist *headers;
    curl_mime *mime;
    nh_text form; /* encoded; libcurl reads it in place */
    nh_http_header header;
    nh_text body; /* of the response */
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
    if (request->guard_allow && !request->guard)
        return nh_fields_fail(error, NH_E_INVALID, "guard_allow: needs guard = true");
    return NH_OK;
}

static nh_err set_guard(http_exchange *http, nh_error *error) {
    const http_request *request = &http->request;
    if (!request->guard)
        return NH_OK;
    return nh_guard_create(request->guard_allow, request->proxy.length > 0, &http->guard, error);
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

/* Body and method. libcurl derives a method from the kind of body; another one is put over it. */
static nh_err set_body(http_exchange *http, CURL *easy, nh_error *error) {
    const http_request *request = &http->request;
    nh_span method = request->method, body = request->body;
    const char *derived = "GET";
    nh_err failed = NH_OK;

    if (request->multipart) {
        derived = "POST";
        http->mime = curl_mime_init(easy);
        if (!http->mime)
            return out_of_memory(error);
        failed =
            nh_http_form_parts(request->multipart, http->mime, &http->transport->scratch, error);
        curl_easy_setopt(easy, CURLOPT_MIMEPOST, http->mime);
    } else if (request->form) {
        failed = nh_http_form_encode(request->form, &http->form, error);
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
    return nh_text_put(&http->body, bytes, size * count) ? size * count : 0;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user) {
    http_exchange *http = user;
    return nh_http_header_line(&http->header, bytes, size * count) ? size * count : 0;
}

static nh_doc *answer(http_exchange *http, CURL *easy) {
    nh_writer *writer = http->transport->writer;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    nh_writer_map(writer, 3);
    nh_writer_cstring(writer, "status");
    nh_writer_int(writer, status);
    nh_writer_cstring(writer, "headers");
    bool whole = nh_http_header_write(&http->header, &http->transport->scratch, writer);
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
    const http_transfer *own = of_job(job);
    if (end->easy && end->code == CURLE_OK)
        return answer(own->exchange, end->easy);

    bool sent = was_sent(end->easy);
    nh_span host = authority_of(nh_span_of(nh_value_get(own->value, "url")));
    nh_err code = nh_multi_error(end);
    const char *text = nh_multi_text(end);
    bool header_over = end->easy && own->exchange->header.too_large;
    bool body_over = end->easy && own->exchange->body.over;
    if (end->easy && !header_over && !body_over && sent) {
        header_over = end->code == CURLE_OUT_OF_MEMORY; /* libcurl's words for a line over 100 kB */
        if (end->code == CURLE_UNSUPPORTED_PROTOCOL) {
            code = NH_E_NETWORK;
            text = "the answer is not HTTP";
        }
    }
    if (header_over || body_over) {
        const nh_transport_limits *limits = &own->transport->limits;
        return nh_response_error(NH_E_TOO_LARGE, sent, "%.*s: the response's %s is over %zu bytes",
                                 (int)host.length, host.bytes, body_over ? "body" : "header",
                                 body_over ? limits->response_bytes : limits->header_bytes);
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
    nh_http_header_term(&http->header);
    free(http);
}

/* NULL is allowed. libcurl has it no more. */
static void give_exchange(http_exchange *http) {
    if (!http)
        return;
    nh_transport *transport = http->transport;
    nh_guard_destroy(http->guard);
    curl_slist_free_all(http->headers);
    curl_mime_free(http->mime);
    http->guard = NULL;
    http->headers = NULL;
    http->mime = NULL;
    http->header.bytes = 0;
    http->header.too_large = false;
    if (transport->spare_count == SPARE_EXCHANGES) {
        destroy_exchange(http);
        return;
    }
    empty(&http->form);
    empty(&http->body);
    empty(&http->header.lines);
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
        nh_http_header_init(&http->header, transport->limits.header_bytes);
    }
    if (read_request(value, &http->request, error) == NH_OK && set_guard(http, error) == NH_OK)
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
    job->guard = http->guard;
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
    http_transfer *http = transfer->state;
    if (!http)
        return;
    nh_multi_cancel(&http->job);
    destroy(http);
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
