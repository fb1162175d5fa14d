/* Exchanges over kept connections. Thread: the worker's. Costs about 6 µs of processor time, most
 * of it the kernel's: one send, one receive, no timer, no change of what epoll watches, and no
 * allocation but the response's document, of which a success that is judged by its status has none.
 *
 *     start → a connection that rests ─────────────────────> write → read … → done
 *           → else a new one: (a place) → it is opened ─────┘
 *
 * A request is written when the worker has done all else that there is to do, together with the
 * others of this turn: the peer is woken once for them, and not for each in the middle of our work
 * on the next. It goes whole if the socket takes it; what it does not take follows when it is
 * writable. Reading stays armed all the time, so an answer that comes early is heard; it ends the
 * exchange, and with it a connection that has not got all of the request.
 *
 * Nothing is sent twice that may have been acted on. Before a connection is used again it is looked
 * at, and left when the peer has closed it; if not one byte of the request can be written the next
 * connection is tried. But once bytes went, silence and an end are told as a network error with
 * sent = true: whether the peer had closed before or has crashed over this very request cannot be
 * told from here.
 *
 * A connection has one timer, which is not moved for each request: it fires no later than needed,
 * looks whether anything is over, and sleeps on. All reading is into one buffer; a reply object is
 * taken when the first bytes are there, so those that wait for a slow peer cost a connection each
 * and no buffer.
 */
#include "platforms/transports/http_direct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platforms/transports/http_plan.h"
#include "platforms/transports/http_pool.h"
#include "platforms/transports/http_write.h"

enum {
    READ_BYTES = 16384,    /* no less than a TLS record holds: what is decoded is read at once */
    READS_A_TURN = 16,     /* then others have their turn */
    TOGETHER_BYTES = 8192, /* a body that is sent in one piece with its head */
    SPARE_REPLIES = 64,
    KEPT_OUT = 2048,
};

static const uint64_t QUIET =
    10000000000; /* ns without a byte, when the request names no timeout */

struct nh_http_direct {
    nh_http *http;
    nh_http_pool *pool;
    nh_text form; /* encoded, of the request that is being written */
    nh_http_reply *spare[SPARE_REPLIES];
    size_t spare_count;
    char buffer[READ_BYTES];
};

static nh_http_connection *of_job(nh_multi_job *job) {
    return (nh_http_connection *)(void *)((char *)job - offsetof(nh_http_connection, job));
}

static nh_http_connection *of_watch(nh_watch *watch) {
    return (nh_http_connection *)(void *)((char *)watch - offsetof(nh_http_connection, watch));
}

static nh_http_connection *of_turn(nh_deferred *turn) {
    return (nh_http_connection *)(void *)((char *)turn - offsetof(nh_http_connection, turn));
}

static nh_http_connection *of_timer(nh_timer *timer) {
    return (nh_http_connection *)(void *)((char *)timer - offsetof(nh_http_connection, timer));
}

/* ---------------------------------------------------------------- replies */

static nh_http_reply *take_reply(nh_http_direct *direct, const nh_http_exchange *exchange) {
    const nh_transport_limits *limits = &direct->http->limits;
    nh_http_reply *reply = NULL;
    if (direct->spare_count > 0)
        reply = direct->spare[--direct->spare_count];
    else if ((reply = malloc(sizeof *reply)))
        nh_http_reply_init(reply, limits->header_bytes, limits->response_bytes);
    if (reply) {
        nh_http_reply_clear(reply, exchange->bodiless);
        reply->brief = exchange->base.transfer->brief;
    }
    return reply;
}

/* NULL is allowed. */
static void give_reply(nh_http_direct *direct, nh_http_reply *reply) {
    if (!reply)
        return;
    if (direct->spare_count < SPARE_REPLIES) {
        nh_http_reply_clear(reply, false);
        direct->spare[direct->spare_count++] = reply;
        return;
    }
    nh_http_reply_term(reply);
    free(reply);
}

/* ------------------------------------------------------------ the two ends */

static void begin(nh_http_connection *own);
static void move_on(nh_http_connection *own);

/* The connection has nothing to do: it serves who waits, or rests. */
static void release(nh_http_connection *own) {
    nh_http_direct *direct = own->direct;
    own->exchange.base.transfer = NULL;
    own->used = true;
    if (own->out.capacity > KEPT_OUT)
        nh_text_term(&own->out);
    if (nh_http_pool_relieve(direct->pool, own)) {
        own->exchange.base.transfer->state = &own->exchange.base;
        begin(own);
    } else {
        nh_http_pool_put(direct->pool, own);
    }
}

/* Ends the exchange; `keep` tells whether the connection may carry another. */
static void end(nh_http_connection *own, nh_doc *response, bool keep) {
    nh_http_direct *direct = own->direct;
    nh_transfer *transfer = own->exchange.base.transfer;
    give_reply(direct, own->exchange.reply);
    own->exchange.reply = NULL;
    transfer->state = NULL;
    if (keep)
        release(own);
    else
        nh_http_pool_close(direct->pool, own);
    transfer->done(transfer, response);
}

/* The connection is open, and has failed so. */
static void fail(nh_http_connection *own, CURLcode code) {
    nh_multi_end how = nh_multi_broken(&own->job, code);
    end(own, nh_http_failure(&own->exchange.base, &how, own->exchange.sent, own->exchange.reply),
        false);
}

/* The same for what libcurl has no words for. */
static void fail_with(nh_http_connection *own, nh_err code, const char *text) {
    nh_span host = nh_http_url_authority(own->exchange.base.plan->request.url);
    end(own,
        nh_response_error(code, own->exchange.sent, "%.*s: %s", (int)host.length, host.bytes, text),
        false);
}

/* ------------------------------------------------------------------- time */

static void look_at_time(nh_timer *timer);

/* Makes sure that the timer fires by then. It may fire before: moving it costs more. */
static bool wake_by(nh_http_connection *own, uint64_t due) {
    nh_loop *loop = own->direct->http->loop;
    uint64_t now = nh_loop_now(loop);
    own->timer.fire = look_at_time;
    if (own->timer.position != 0 && own->timer.due <= due)
        return true;
    return nh_timer_start(loop, &own->timer, due > now ? (double)(due - now) / 1e9 : 0) == NH_OK;
}

static uint64_t next_look(const nh_http_connection *own) {
    uint64_t quiet = own->since + QUIET;
    return own->exchange.patient || quiet > own->exchange.due ? own->exchange.due : quiet;
}

/* libcurl's words for the same. */
static void time_is_over(nh_http_connection *own, bool quiet) {
    const nh_http_reply *reply = own->exchange.reply;
    uint64_t ms = (nh_loop_now(own->direct->http->loop) - own->exchange.started) / 1000000;
    char text[160];
    size_t got = reply ? reply->body.length : 0;
    if (quiet)
        snprintf(text, sizeof text,
                 "Operation too slow. Less than 1 bytes/sec transferred the last %d seconds",
                 (int)(QUIET / 1000000000));
    else
        snprintf(text, sizeof text,
                 "Operation timed out after %llu milliseconds with %zu bytes received",
                 (unsigned long long)ms, got);
    fail_with(own, NH_E_TIMEOUT, text);
}

static void look_at_time(nh_timer *timer) {
    nh_http_connection *own = of_timer(timer);
    uint64_t now = nh_loop_now(own->direct->http->loop);
    if (!own->exchange.base.transfer)
        return;
    bool over = now >= own->exchange.due;
    if (over || now >= next_look(own))
        time_is_over(own, !over);
    else if (!wake_by(own, next_look(own)))
        fail_with(own, NH_E_INTERNAL, "out of memory");
}

/* ---------------------------------------------------------------- reading */

static void take_verdict(nh_http_connection *own, nh_http_verdict verdict, bool keep) {
    nh_http_exchange *exchange = &own->exchange;
    nh_http_reply *reply = exchange->reply;
    if (verdict == NH_HTTP_DONE)
        end(own, nh_http_answer(&exchange->base, reply), keep && reply->keep && !exchange->writing);
    else if (reply->header.too_large || reply->body.over)
        fail(own, CURLE_WRITE_ERROR);
    else
        fail_with(own, reply->memory ? NH_E_INTERNAL : NH_E_NETWORK, reply->fault);
}

/* The peer has closed. */
static void take_end(nh_http_connection *own) {
    nh_http_reply *reply = own->exchange.reply;
    nh_http_verdict verdict = reply ? nh_http_reply_end(reply) : NH_HTTP_BROKEN;
    if (reply && (verdict == NH_HTTP_DONE || reply->header.bytes > 0))
        take_verdict(own, verdict, false);
    else
        fail(own, CURLE_GOT_NOTHING);
}

/* Returns false when the exchange has ended. */
static bool take_bytes(nh_http_connection *own, size_t count, bool hangup) {
    nh_http_exchange *exchange = &own->exchange;
    nh_http_direct *direct = own->direct;
    size_t used = 0;
    own->since = nh_loop_now(direct->http->loop);
    if (!exchange->reply && !(exchange->reply = take_reply(direct, exchange))) {
        fail(own, CURLE_OUT_OF_MEMORY);
        return false;
    }
    nh_http_verdict verdict = nh_http_reply_put(exchange->reply, direct->buffer, count, &used);
    if (verdict == NH_HTTP_MORE)
        return true;
    take_verdict(own, verdict, used == count && !hangup);
    return false;
}

/* Reads what has come; returns false when the exchange has ended. */
static bool read_some(nh_http_connection *own, bool hangup) {
    char *buffer = own->direct->buffer;
    for (int i = 0; i < READS_A_TURN || own->tls; i++) { /* TLS: epoll does not know what is left */
        CURLcode code;
        ssize_t count = nh_http_connection_recv(own, buffer, READ_BYTES, &code);
        if (count < 0 && code == CURLE_AGAIN)
            return true;
        if (count < 0) {
            fail(own, code);
            return false;
        }
        if (count == 0) {
            take_end(own);
            return false;
        }
        if (!take_bytes(own, (size_t)count, hangup))
            return false;
        if (!own->tls && count < READ_BYTES)
            return true;
    }
    return true;
}

/* ---------------------------------------------------------------- writing */

/* What is left of the request, first what was put together, then the body. */
static nh_span left_to_write(const nh_http_connection *own) {
    const nh_http_exchange *exchange = &own->exchange;
    nh_span out = {own->out.bytes, own->out.length}, body = exchange->body;
    size_t at = exchange->written;
    if (at < out.length)
        return (nh_span){out.bytes + at, out.length - at};
    at -= out.length;
    return (nh_span){body.bytes + at, body.length - at};
}

/* Writes what the socket takes. Returns CURLE_AGAIN while something is left. */
static CURLcode write_some(nh_http_connection *own) {
    nh_http_exchange *exchange = &own->exchange;
    for (nh_span left; (left = left_to_write(own)).length > 0;) {
        CURLcode code;
        ssize_t count = nh_http_connection_send(own, left.bytes, left.length, &code);
        exchange->sent |= count > 0 || (own->tls && code == CURLE_AGAIN);
        if (count < 0)
            return code;
        exchange->written += (size_t)count;
    }
    exchange->writing = false;
    return CURLE_OK;
}

/* The peer does not take it: but it may have said why. */
static void hear_before_failing(nh_http_connection *own, CURLcode code) {
    if (read_some(own, true))
        fail(own, code);
}

static void write_on(nh_http_connection *own) {
    CURLcode code = write_some(own);
    if (code == CURLE_AGAIN)
        return;
    if (code != CURLE_OK)
        hear_before_failing(own, code);
    else if (nh_watch_change(own->direct->http->loop, &own->watch, NH_READABLE) != NH_OK)
        fail_with(own, NH_E_INTERNAL, "the connection cannot be watched");
}

/* ------------------------------------------------------------------ events */

static void on_ready(nh_watch *watch, unsigned events) {
    nh_http_connection *own = of_watch(watch);
    bool hangup = events & NH_HANGUP;
    if (!own->exchange.base.transfer) { /* idle: closed by the peer, or a ticket of TLS */
        if (hangup || !nh_http_connection_rests(own))
            nh_http_pool_close(own->direct->pool, own);
        return;
    }
    if (own->used && nh_is_deferred(&own->turn)) { /* this cannot be the answer */
        if (hangup || !nh_http_connection_rests(own))
            move_on(own);
        return;
    }
    if ((events & NH_READABLE || hangup) && !read_some(own, hangup))
        return;
    if (events & NH_WRITABLE && own->exchange.writing)
        write_on(own);
}

/* ---------------------------------------------------------------- beginning */

/* Puts the request together in `head`, and in exchange->body what does not go in one piece with it.
 */
static nh_err compose(nh_http_direct *direct, nh_http_exchange *exchange, nh_error *error) {
    const nh_http_plan *plan = exchange->base.plan;
    nh_text *head = &direct->http->head;
    nh_span body;
    nh_text_clear(&direct->form);
    nh_err failed =
        nh_http_request_body(&plan->request, exchange->base.transfer, &direct->form, &body, error);
    if (failed)
        return failed;
    /* An encoded form is ours, and its bytes would not stay. */
    bool together = body.length <= TOGETHER_BYTES || plan->request.form;
    exchange->body = together ? (nh_span){NULL, 0} : body;
    nh_text_clear(head);
    nh_text_put(head, plan->head.bytes, plan->head.length);
    nh_http_write_body(head, body, together);
    return head->failed ? nh_fields_fail(error, NH_E_INTERNAL, "out of memory") : NH_OK;
}

static void write_now(nh_http_connection *own) {
    CURLcode code = write_some(own);
    if (code == CURLE_AGAIN) {
        if (nh_watch_change(own->direct->http->loop, &own->watch, NH_READABLE | NH_WRITABLE) !=
            NH_OK)
            fail_with(own, NH_E_INTERNAL, "the connection cannot be watched");
    } else if (code != CURLE_OK && own->used && !own->exchange.sent) {
        move_on(own);
    } else if (code != CURLE_OK) {
        hear_before_failing(own, code);
    }
}

static void take_turn(nh_deferred *turn) {
    write_now(of_turn(turn));
}

/* The connection has an exchange, whose request is in `head`. One that libcurl has opened is
 * written to at once: until then it seems idle, and libcurl might close it. */
static void send_request(nh_http_connection *own) {
    nh_loop *loop = own->direct->http->loop;
    nh_http_exchange *exchange = &own->exchange;
    const nh_text *head = &own->direct->http->head;
    own->since = nh_loop_now(loop);
    exchange->writing = true;
    exchange->sent = false;
    exchange->written = 0;
    nh_text_clear(&own->out);
    if (!nh_text_put(&own->out, head->bytes, head->length) || !wake_by(own, next_look(own))) {
        fail_with(own, NH_E_INTERNAL, "out of memory");
        return;
    }
    own->turn.call = take_turn;
    if (own->tied)
        nh_loop_defer_last(loop, &own->turn);
    else
        write_now(own);
}

/* The connection has an exchange, whose request is to be composed anew. */
static void begin(nh_http_connection *own) {
    nh_error error;
    if (compose(own->direct, &own->exchange, &error) != NH_OK)
        fail(own, CURLE_OUT_OF_MEMORY);
    else
        send_request(own);
}

static void dispatch(nh_http_direct *direct, nh_http_origin *origin, nh_http_exchange *exchange);

/* Nothing of the request could be written: another connection serves the exchange. */
static void move_on(nh_http_connection *own) {
    nh_http_direct *direct = own->direct;
    nh_http_exchange exchange = own->exchange;
    nh_error error;
    if (compose(direct, &exchange, &error) != NH_OK) {
        fail(own, CURLE_OUT_OF_MEMORY);
        return;
    }
    own->exchange.base.transfer = NULL;
    dispatch(direct, own->origin, &exchange); /* while this one holds the origin */
    nh_http_pool_close(direct->pool, own);
}

/* ---------------------------------------------------------------- opening */

static nh_err prepare(nh_multi_job *job, CURL *easy, nh_error *error) {
    nh_http_connection *own = of_job(job);
    nh_http_request request = own->exchange.base.plan->request;
    nh_http_pool_started(own);
    job->guard = nh_http_origin_guard(own->origin);
    job->connect_timeout = nh_http_connect_timeout(own->direct->http, &request);
    if (!easy)
        return NH_OK;
    request.user = request.password = (nh_span){NULL, 0}; /* these are the request's */
    nh_err failed = nh_http_set_connection(own->direct->http, &request, easy, error);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    return failed;
}

static nh_doc *respond(nh_multi_job *job, const nh_multi_end *how) {
    return nh_http_failure(&of_job(job)->exchange.base, how, false, NULL);
}

/* It could not be opened. */
static void finish(nh_multi_job *job, nh_doc *response) {
    end(of_job(job), response, false);
}

static void opened(nh_multi_job *job, CURL *easy, int fd) {
    nh_http_connection *own = of_job(job);
    nh_transport_counts *counts = own->direct->http->limits.counts;
    if (counts)
        atomic_fetch_add_explicit(&counts->http_opened, 1, memory_order_relaxed);
    own->easy = easy;
    own->tied = !easy; /* libcurl knows nothing of it */
    own->watch.ready = on_ready;
    if (nh_watch_start(own->direct->http->loop, &own->watch, fd, NH_READABLE) != NH_OK)
        fail_with(own, NH_E_INTERNAL, "the connection cannot be watched");
    else
        begin(own);
}

static void cancel(nh_http_transfer *base) {
    nh_http_connection *own =
        (nh_http_connection *)(void *)((char *)base - offsetof(nh_http_connection, exchange));
    give_reply(own->direct, own->exchange.reply);
    nh_http_pool_close(own->direct->pool, own);
}

/* Opens a connection for the exchange, when there is a place. */
static void open_for(nh_http_direct *direct, nh_http_origin *origin,
                     const nh_http_exchange *exchange) {
    nh_http_connection *own = nh_http_pool_add(origin);
    nh_transfer *transfer = exchange->base.transfer;
    if (!own) {
        transfer->state = NULL;
        transfer->done(transfer, nh_response_error(NH_E_INTERNAL, false, "out of memory"));
        return;
    }
    uint64_t now = nh_loop_now(direct->http->loop);
    own->direct = direct;
    own->exchange = *exchange;
    own->tls = exchange->base.plan->url.tls;
    own->job = (nh_multi_job){
        .prepare = prepare,
        .respond = respond,
        .finish = finish,
        .opened = opened,
        .address = nh_http_origin_address(origin),
        .once = true,
        .timeout = exchange->due > now ? (double)(exchange->due - now) / 1e9 : 0,
        .origin = nh_http_origin_hash(origin),
    };
    transfer->state = &own->exchange.base;
    nh_multi_submit(direct->http->multi, &own->job);
}

/* Serves an exchange: `head` has its request, composed. The origin is the caller's to hold. */
static void dispatch(nh_http_direct *direct, nh_http_origin *origin, nh_http_exchange *exchange) {
    bool fresh = exchange->base.transfer->fresh;
    nh_http_connection *own = fresh ? NULL : nh_http_pool_take(direct->pool, origin);
    if (!own) {
        open_for(direct, origin, exchange);
        return;
    }
    own->exchange = *exchange;
    exchange->base.transfer->state = &own->exchange.base;
    send_request(own);
}

void nh_http_direct_start(nh_http_direct *direct, nh_transfer *transfer, const nh_http_plan *plan) {
    nh_http *http = direct->http;
    const nh_http_request *request = &plan->request;
    nh_error error; /* written where it is read */
    nh_http_exchange exchange = {
        .base = {.http = http, .transfer = transfer, .plan = plan, .cancel = cancel},
        .started = nh_loop_now(http->loop),
        .patient = request->timeout > 0,
        .bodiless = nh_span_is(request->method, "head") && !request->body.bytes && !request->form,
    };
    exchange.due = exchange.started + (uint64_t)(nh_http_timeout(http, request) * 1e9);
    nh_http_origin *origin = compose(direct, &exchange, &error) == NH_OK
                                 ? nh_http_pool_origin(direct->pool, plan, &error)
                                 : NULL;
    if (!origin) {
        transfer->done(transfer, nh_response_error(error.code, false, "%s", error.message));
        return;
    }
    dispatch(direct, origin, &exchange);
    nh_http_pool_leave(direct->pool, origin);
}

/* --------------------------------------------------------- open and close */

nh_http_direct *nh_http_direct_create(nh_http *http) {
    nh_http_direct *direct = calloc(1, sizeof *direct);
    if (!direct)
        return NULL;
    direct->http = http;
    nh_text_init(&direct->form, SIZE_MAX);
    direct->pool = nh_http_pool_create(http);
    if (direct->pool)
        return direct;
    free(direct);
    return NULL;
}

void nh_http_direct_destroy(nh_http_direct *direct) {
    if (!direct)
        return;
    nh_http_pool_destroy(direct->pool);
    while (direct->spare_count > 0) {
        nh_http_reply *reply = direct->spare[--direct->spare_count];
        nh_http_reply_term(reply);
        free(reply);
    }
    nh_text_term(&direct->form);
    free(direct);
}
