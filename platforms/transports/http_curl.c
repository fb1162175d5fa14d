/* Requests that libcurl carries: HTTP/2, multipart forms, proxies for http, URLs that need its
 * cleaning, and whatever else http_direct.c does not take; everything when it is asked for. Thread:
 * the worker's. Costs 16 to 45 µs a request, nearly all of it libcurl's.
 *
 * libcurl repeats a request by itself in one case: the connection had been used before and was
 * closed by the peer before any byte of the answer came.
 *
 * A transfer that waits for a place holds nothing but its request's document and a small structure:
 * what it needs under way, the exchange, it gets when its turn comes. Exchanges are reused with
 * their buffers.
 */
#include "platforms/transports/http_curl.h"

#include <stdlib.h>
#include <string.h>

#include "platforms/transports/http_form.h"
#include "platforms/transports/http_plan.h"

enum {
    QUIET_SECONDS = 10,        /* without a byte, when the request names no timeout */
    EXPECT_BYTES = 512 * 1024, /* from here on libcurl might ask with Expect: 100-continue */
    SPARE_EXCHANGES = 256,     /* idle ones that are kept */
    KEPT_TEXT = 2 * 1024,      /* the largest buffer that is kept in one */
};

/* A request and its answer while libcurl has them. */
typedef struct exchange {
    nh_http *http;
    struct exchange *next;          /* of the spare ones */
    const nh_http_request *request; /* of its plan */
    const nh_transfer *transfer;
    nh_guard *guard;
    struct curl_slist *headers;
    curl_mime *mime;
    nh_text form; /* encoded; libcurl reads it in place */
    nh_http_reply reply;
} exchange;

struct nh_http_curl {
    nh_http *http;
    exchange *spare;
    size_t spare_count;
};

/* A transfer, from its start to its end. */
typedef struct transfer {
    nh_http_transfer base; /* first */
    nh_multi_job job;
    nh_http_curl *curl;
    exchange *exchange; /* NULL while it waits */
} transfer;

static transfer *of_job(nh_multi_job *job) {
    return (transfer *)(void *)((char *)job - offsetof(transfer, job));
}

static nh_err out_of_memory(nh_error *error) {
    return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

/* ---------------------------------------------------------------- headers */

static nh_err add_header(exchange *own, const char *line, nh_error *error) {
    struct curl_slist *longer = line ? curl_slist_append(own->headers, line) : NULL;
    if (!longer)
        return out_of_memory(error);
    own->headers = longer;
    return NH_OK;
}

static nh_err add_pair(exchange *own, const nh_pair *pair, nh_error *error) {
    nh_text *line = &own->http->scratch;
    nh_text_clear(line);
    nh_text_put(line, pair->name.bytes, pair->name.length);
    /* libcurl takes "Name:" as "leave this header out" and "Name;" as an empty one. */
    nh_text_puts(line, pair->value.length ? ": " : ";");
    nh_text_put(line, pair->value.bytes, pair->value.length);
    return add_header(own, nh_text_string(line), error);
}

static nh_err add_bearer(exchange *own, nh_error *error) {
    nh_text *line = &own->http->scratch;
    nh_text_clear(line);
    nh_text_puts(line, "Authorization: Bearer ");
    nh_text_put(line, own->request->bearer.bytes, own->request->bearer.length);
    return add_header(own, nh_text_string(line), error);
}

static nh_err set_headers(exchange *own, CURL *easy, nh_error *error) {
    const nh_http_request *request = own->request;
    bool typed = false, expects = false;
    nh_err failed = NH_OK;
    for (size_t i = 0; i < nh_value_count(request->headers) && !failed; i++) {
        nh_pair pair;
        nh_http_name name;
        failed = nh_http_request_header(request, i, &pair, &name, error);
        if (failed)
            return failed;
        typed |= name == NH_HTTP_CONTENT_TYPE;
        expects |= name == NH_HTTP_EXPECT;
        failed = add_pair(own, &pair, error);
    }
    if (!failed && request->bearer.bytes)
        failed = add_bearer(own, error);
    /* A body is of the type that the request says, or of none; libcurl would call it a form. */
    if (!failed && request->body.bytes && !typed)
        failed = add_header(own, "Content-Type:", error);
    if (!failed && !expects &&
        (request->multipart || request->body.length > EXPECT_BYTES ||
         own->transfer->body_length > EXPECT_BYTES || own->form.length > EXPECT_BYTES))
        failed = add_header(own, "Expect:", error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, own->headers);
    return failed;
}

/* ------------------------------------------------------------------- body */

static nh_err set_multipart(exchange *own, CURL *easy, nh_error *error) {
    own->mime = curl_mime_init(easy);
    if (!own->mime)
        return out_of_memory(error);
    nh_err failed =
        nh_http_form_parts(own->request->multipart, own->mime, &own->http->scratch, error);
    curl_easy_setopt(easy, CURLOPT_MIMEPOST, own->mime);
    return failed;
}

/* Body and method. libcurl derives a method from the kind of body; another one is put over it. */
static nh_err set_body(exchange *own, CURL *easy, nh_error *error) {
    const nh_http_request *request = own->request;
    nh_span method = request->method, body;
    nh_err failed = nh_http_request_body(request, own->transfer, &own->form, &body, error);
    if (!failed && request->multipart)
        failed = set_multipart(own, easy, error);
    if (failed)
        return failed;
    const char *derived = nh_http_request_method(request);
    if (body.bytes) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.length);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.bytes);
    } else if (strcmp(derived, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    if (!method.bytes ||
        (method.length == strlen(derived) && memcmp(method.bytes, derived, method.length) == 0))
        return NH_OK;
    const char *text = nh_text_of(&own->http->scratch, method);
    if (!text)
        return out_of_memory(error);
    return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, text) == CURLE_OK
               ? NH_OK
               : nh_fields_fail(error, NH_E_INVALID, "method: libcurl does not take it");
}

/* --------------------------------------------------------------- response */

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    exchange *own = user;
    return nh_text_put(&own->reply.body, bytes, size * count) ? size * count : 0;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user) {
    exchange *own = user;
    return nh_http_header_line(&own->reply.header, bytes, size * count) ? size * count : 0;
}

/* Whether the peer may have got any of the request. */
static bool was_sent(CURL *easy) {
    long bytes = 0;
    return easy && curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK && bytes > 0;
}

static nh_doc *respond(nh_multi_job *job, const nh_multi_end *end) {
    const transfer *own = of_job(job);
    nh_http_reply *reply = own->exchange ? &own->exchange->reply : NULL;
    if (reply && end->easy && end->code == CURLE_OK) {
        long status = 0;
        curl_easy_getinfo(end->easy, CURLINFO_RESPONSE_CODE, &status);
        reply->status = (int)status;
        return nh_http_answer(&own->base, reply);
    }
    return nh_http_failure(&own->base, end, was_sent(end->easy), end->easy ? reply : NULL);
}

/* --------------------------------------------------------------- exchange */

static void destroy_exchange(exchange *own) {
    nh_text_term(&own->form);
    nh_http_reply_term(&own->reply);
    free(own);
}

/* NULL is allowed. libcurl has it no more. */
static void give_exchange(nh_http_curl *curl, exchange *own) {
    if (!own)
        return;
    nh_guard_destroy(own->guard);
    curl_slist_free_all(own->headers);
    curl_mime_free(own->mime);
    own->guard = NULL;
    own->headers = NULL;
    own->mime = NULL;
    if (curl->spare_count == SPARE_EXCHANGES) {
        destroy_exchange(own);
        return;
    }
    if (own->form.capacity > KEPT_TEXT)
        nh_text_term(&own->form);
    nh_text_clear(&own->form);
    nh_http_reply_clear(&own->reply, false);
    own->next = curl->spare;
    curl->spare = own;
    curl->spare_count++;
}

static exchange *make_exchange(nh_http *http) {
    exchange *own = calloc(1, sizeof *own);
    if (!own)
        return NULL;
    own->http = http;
    nh_text_init(&own->form, SIZE_MAX);
    nh_http_reply_init(&own->reply, http->limits.header_bytes, http->limits.response_bytes);
    return own;
}

/* One for the request, with its guard; NULL and an error. */
static exchange *take_exchange(nh_http_curl *curl, const nh_transfer *outer,
                               const nh_http_request *request, nh_error *error) {
    exchange *own = curl->spare;
    if (own) {
        curl->spare = own->next;
        curl->spare_count--;
    } else if (!(own = make_exchange(curl->http))) {
        out_of_memory(error);
        return NULL;
    }
    own->request = request;
    own->transfer = outer;
    if (!request->guard || nh_guard_create(request->guard_allow, request->proxy.length > 0,
                                           &own->guard, error) == NH_OK)
        return own;
    give_exchange(curl, own);
    return NULL;
}

/* ---------------------------------------------------------------- transfer */

static nh_err prepare(nh_multi_job *job, CURL *easy, nh_error *error) {
    transfer *own = of_job(job);
    const nh_http_request *request = &own->base.plan->request;
    if (!own->exchange)
        own->exchange = take_exchange(own->curl, own->base.transfer, request, error);
    if (!own->exchange)
        return error->code;
    job->guard = own->exchange->guard;

    nh_err failed = nh_http_set_connection(own->base.http, request, easy, error);
    if (failed)
        return failed;
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, own->base.transfer->fresh ? 1L : 0L);
    if (request->timeout <= 0) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)QUIET_SECONDS);
    }
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, own->exchange);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, own->exchange);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, own->base.http->agent.bytes);
    if (request->user.bytes)
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    failed = set_body(own->exchange, easy, error);
    return failed ? failed : set_headers(own->exchange, easy, error);
}

static void destroy(transfer *own) {
    give_exchange(own->curl, own->exchange);
    free(own);
}

static void finish(nh_multi_job *job, nh_doc *response) {
    transfer *own = of_job(job);
    nh_transfer *outer = own->base.transfer;
    destroy(own);
    outer->state = NULL;
    outer->done(outer, response);
}

static void cancel(nh_http_transfer *base) {
    transfer *own = (transfer *)base;
    nh_multi_cancel(&own->job);
    destroy(own);
}

void nh_http_curl_start(nh_http_curl *curl, nh_transfer *outer, const nh_http_plan *plan) {
    const nh_http_request *request = &plan->request;
    nh_error error = {NH_OK, ""};
    nh_http *http = curl->http;
    bool loaded = nh_curl_load(&error) == NH_OK;
    exchange *taken = loaded ? take_exchange(curl, outer, request, &error) : NULL;
    transfer *own = taken ? malloc(sizeof *own) : NULL;
    if (!own) {
        if (taken)
            out_of_memory(&error);
        give_exchange(curl, taken);
        outer->done(outer, nh_response_error(error.code, false, "%s", error.message));
        return;
    }
    *own = (transfer){
        .base = {.http = http, .transfer = outer, .plan = plan, .cancel = cancel},
        .curl = curl,
        .job = {.prepare = prepare,
                .respond = respond,
                .finish = finish,
                .once = true,
                .timeout = nh_http_timeout(http, request),
                .origin = nh_span_hash(nh_http_url_authority(request->url))},
    };
    if (nh_multi_has_place(http->multi))
        own->exchange = taken;
    else
        give_exchange(curl, taken); /* it was made to see whether the guard is good */
    outer->state = own;
    nh_multi_submit(http->multi, &own->job);
}

nh_http_curl *nh_http_curl_create(nh_http *http) {
    nh_http_curl *curl = calloc(1, sizeof *curl);
    if (curl)
        curl->http = http;
    return curl;
}

void nh_http_curl_destroy(nh_http_curl *curl) {
    if (!curl)
        return;
    while (curl->spare) {
        exchange *own = curl->spare;
        curl->spare = own->next;
        destroy_exchange(own);
    }
    free(curl);
}
