/* The http transport: HTTP/1.1 and, by option, HTTP/2.
 *
 * Request and response are described in docs/platforms.md. Owned by one worker's thread; open →
 * start/cancel … → close. What is fixed here: redirects are never followed (a 3xx is an answer like
 * any other), no proxy and no credentials but those of the request, certificates are verified
 * unless the request says otherwise, header and body of a response are capped. A transfer that
 * names no timeout also ends after ten seconds without a byte.
 *
 * A request goes one of two ways, which differ in their price and nothing else: over a connection
 * of our own pool, which libcurl has opened or we have dialled, with our own HTTP/1.1
 * (http_direct.c), or, where that does not do, through libcurl's multi interface (http_curl.c). An
 * error's text names the host and port, never the rest of the URL, where tokens sit.
 */
#include "platforms/transports/http.h"

#include <stdlib.h>
#include <string.h>

#include "platforms/transports/http_curl.h"
#include "platforms/transports/http_direct.h"
#include "platforms/transports/http_plan.h"
#include "platforms/transports/transports.h"

struct nh_transport {
    nh_http http;
    nh_http_curl *curl;
    nh_http_direct *direct; /* NULL: not wanted */
};

static nh_err out_of_memory(nh_error *error) {
    return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

double nh_http_timeout(const nh_http *http, const nh_http_request *request) {
    return request->timeout > 0 ? request->timeout : http->limits.timeout;
}

/* ------------------------------------------------------------- connection */

/* Sets a string option from a span. libcurl's own answer matters: an option it does not take must
 * not be left out silently. */
static nh_err set_text(nh_http *http, CURL *easy, CURLoption option, nh_span span,
                       const char *field, nh_error *error) {
    if (!span.bytes)
        return NH_OK;
    const char *text = nh_text_of(&http->scratch, span);
    if (!text)
        return out_of_memory(error);
    if (curl_easy_setopt(easy, option, text) != CURLE_OK)
        return nh_fields_fail(error, NH_E_INVALID, "%s: libcurl does not take it", field);
    return NH_OK;
}

static nh_err set_file(nh_http *http, CURL *easy, CURLoption option, nh_span span,
                       const char *field, nh_error *error) {
    if (!span.bytes)
        return NH_OK;
    const char *path = nh_text_of(&http->scratch, span);
    if (!path)
        return out_of_memory(error);
    nh_err failed = nh_fields_file(field, path, NULL, error);
    return failed ? failed : set_text(http, easy, option, span, field, error);
}

static nh_err set_texts(nh_http *http, const nh_http_request *request, CURL *easy,
                        nh_error *error) {
    const struct {
        CURLoption option;
        nh_span span;
        const char *field;
        nh_err (*set)(nh_http *, CURL *, CURLoption, nh_span, const char *, nh_error *);
    } texts[] = {
        {CURLOPT_URL, request->url, "url", set_text},
        {CURLOPT_USERNAME, request->user, "user", set_text},
        {CURLOPT_PASSWORD, request->password, "password", set_text},
        {CURLOPT_PROXY, request->proxy, "proxy", set_text},
        {CURLOPT_CAINFO, request->ca_file, "ca_file", set_file},
        {CURLOPT_SSLCERT, request->client_cert, "client_cert", set_file},
        {CURLOPT_SSLKEY, request->client_key, "client_key", set_file},
    };
    nh_err failed = NH_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !failed; i++)
        failed = texts[i].set(http, easy, texts[i].option, texts[i].span, texts[i].field, error);
    return failed;
}

double nh_http_connect_timeout(const nh_http *http, const nh_http_request *request) {
    return request->connect_timeout > 0 ? request->connect_timeout : http->limits.connect_timeout;
}

nh_err nh_http_set_connection(nh_http *http, const nh_http_request *request, CURL *easy,
                              nh_error *error) {
    double connect = nh_http_connect_timeout(http, request);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect * 1e3) + 1);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, request->verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, request->verify ? 2L : 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     (long)(request->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    if (request->http2) /* rather wait for the first connection's streams than open many */
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    return set_texts(http, request, easy, error);
}

/* -------------------------------------------------------------- responses */

nh_doc *nh_http_answer(const nh_http_transfer *own, nh_http_reply *reply) {
    if (own->transfer->brief && nh_http_is_success(reply->status)) {
        own->transfer->status = reply->status;
        return NULL;
    }
    nh_writer *writer = own->http->writer;
    nh_writer_map(writer, 3);
    nh_writer_string(writer, "status", 6);
    nh_writer_int(writer, reply->status);
    nh_writer_string(writer, "headers", 7);
    bool whole = nh_http_header_write(&reply->header, &own->http->scratch, writer);
    nh_writer_string(writer, "body", 4);
    nh_writer_string(writer, reply->body.length ? reply->body.bytes : "", reply->body.length);
    nh_doc *response = nh_writer_finish(writer, NULL);
    if (response && whole)
        return response;
    nh_doc_unref(response);
    return nh_response_error(NH_E_INTERNAL, true, "out of memory");
}

nh_doc *nh_http_failure(const nh_http_transfer *own, const nh_multi_end *end, bool sent,
                        const nh_http_reply *reply) {
    nh_span host = nh_http_url_authority(own->plan->request.url);
    nh_err code = nh_multi_error(end);
    const char *text = nh_multi_text(end);
    bool header_over = reply && reply->header.too_large;
    bool body_over = reply && reply->body.over;
    if (reply && !header_over && !body_over && sent) {
        header_over = end->code == CURLE_OUT_OF_MEMORY; /* libcurl's words for a line over 100 kB */
        if (end->code == CURLE_UNSUPPORTED_PROTOCOL) {
            code = NH_E_NETWORK;
            text = "the answer is not HTTP";
        }
    }
    if (header_over || body_over) {
        const nh_transport_limits *limits = &own->http->limits;
        return nh_response_error(NH_E_TOO_LARGE, sent, "%.*s: the response's %s is over %zu bytes",
                                 (int)host.length, host.bytes, body_over ? "body" : "header",
                                 body_over ? limits->response_bytes : limits->header_bytes);
    }
    if (!end->started && code != NH_E_TIMEOUT) /* about the request, not about the host */
        return nh_response_error(code, sent, "%s", text);
    return nh_response_error(code, sent, "%.*s: %s", (int)host.length, host.bytes, text);
}

/* -------------------------------------------------------------- transport */

static void count(_Atomic uint64_t *counter) {
    if (counter)
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void http_start(nh_transport *transport, nh_transfer *transfer) {
    nh_error error; /* written where it is read */
    nh_transport_counts *counts = transport->http.limits.counts;
    transfer->state = NULL;
    const nh_http_plan *plan = nh_http_plan_of(&transport->http, transfer->request, &error);
    if (!plan) {
        transfer->done(transfer, nh_response_error(error.code, false, "%s", error.message));
    } else if (transport->direct && plan->direct) {
        count(counts ? &counts->http_direct : NULL);
        nh_http_direct_start(transport->direct, transfer, plan);
    } else {
        count(counts ? &counts->http_multi : NULL);
        nh_http_curl_start(transport->curl, transfer, plan);
    }
}

static void http_cancel(nh_transport *transport, nh_transfer *transfer) {
    (void)transport;
    nh_http_transfer *own = transfer->state;
    if (!own)
        return;
    own->cancel(own);
    transfer->state = NULL;
}

static void http_close(nh_transport *transport) {
    if (!transport)
        return;
    nh_http_direct_destroy(transport->direct);
    nh_multi_close(transport->http.multi);
    nh_http_curl_destroy(transport->curl);
    nh_writer_destroy(transport->http.writer);
    nh_text_term(&transport->http.scratch);
    nh_text_term(&transport->http.head);
    nh_text_term(&transport->http.agent);
    free(transport);
}

static nh_err open_parts(nh_transport *transport, nh_error *error) {
    nh_http *http = &transport->http;
    nh_text_puts(&http->agent, "NotifyHub/");
    nh_text_puts(&http->agent, nh_version());
    http->writer = nh_writer_create();
    transport->curl = nh_http_curl_create(http);
    if (!http->writer || !transport->curl || !nh_text_string(&http->agent))
        return out_of_memory(error);
    nh_err failed = nh_multi_open(http->loop, &http->limits, &http->multi, error);
    if (failed || http->limits.http_multi)
        return failed;
    transport->direct = nh_http_direct_create(http);
    return transport->direct ? NH_OK : out_of_memory(error);
}

static nh_err http_open(nh_loop *loop, const nh_transport_limits *limits, nh_transport **out,
                        nh_error *error) {
    nh_transport *transport = calloc(1, sizeof *transport);
    if (!transport)
        return out_of_memory(error);
    transport->http.loop = loop;
    transport->http.limits = *limits;
    nh_text_init(&transport->http.scratch, SIZE_MAX);
    nh_text_init(&transport->http.head, SIZE_MAX);
    nh_text_init(&transport->http.agent, 256);
    nh_err failed = open_parts(transport, error);
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
