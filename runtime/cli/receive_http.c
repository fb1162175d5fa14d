/* receive_http.c — the receiver's HTTP side, on libmicrohttpd.
 *
 * libmicrohttpd runs without threads of its own: its epoll descriptor is a source of the receiver's
 * loop, and http_sink_turn calls it whenever it has more to do. A request goes: begin (its target
 * is noted) → its body is collected, up to the limit → it is judged, shown and, with a delay,
 * suspended → it is answered → it is completed. The answers that never vary are made once, so that
 * a flood costs no allocation for them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "runtime/cli/microhttpd.h"
#include "runtime/cli/receive.h"
#include "runtime/cli/term.h"

#define CONNECTIONS_MAX 60000
#define IDLE_SECONDS    300 /* a connection that says nothing is closed */
#define JSON_TYPE       "application/json"
#define TEXT_TYPE       "text/plain; charset=utf-8"

/* What a platform answers when it is content, by a part of the request's path. */
typedef struct manner {
    const char *part;
    const char *type;
    const char *body; /* NULL: made anew for each request */
} manner;

static const manner manners[] = {
    {"/open-apis/bot", JSON_TYPE,
     "{\"code\":0,\"msg\":\"success\",\"data\":{}}"}, /* Feishu, Lark */
    {"/services/", TEXT_TYPE, "ok"},                  /* Slack's incoming webhooks */
    {"/api/chat.postMessage", JSON_TYPE, NULL},
    {"/robot/send", JSON_TYPE, "{\"errcode\":0,\"errmsg\":\"ok\"}"}, /* DingTalk */
    {"", JSON_TYPE, "{\"ok\":true}"},
};

#define MANNERS (sizeof manners / sizeof *manners)

struct http_sink {
    receiver_source source;
    receiver *owner;
    struct MHD_Daemon *daemon;
    struct MHD_Response *content[MANNERS]; /* NULL where it is made anew */
    struct MHD_Response *fixed;            /* by --body or --status, NULL: by the path */
    struct MHD_Response *failing, *too_large;
    uint64_t serial; /* of Slack's timestamps */
    bool resumed;    /* a connection was, which MHD_get_timeout does not tell */
};

typedef struct http_request {
    receiver_wait wait;
    http_sink *sink;
    struct MHD_Connection *connection;
    char *target; /* as in the request line */
    char *bytes;
    size_t length, capacity;
    bool begun;  /* the header has been looked at */
    bool large;  /* the body is over the limit */
    bool judged; /* receiver_answered is owed */
    unsigned status;
    struct MHD_Response *response; /* what will be answered, NULL: not decided */
    bool made;                     /* the response is this request's own, not one of the sink's */
} http_request;

/* -------------------------------------------------------------------- answers */

static struct MHD_Response *make_response(const char *type, const char *body,
                                          enum MHD_ResponseMemoryMode mode) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(body), (void *)(uintptr_t)body, mode);
    if (response)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    return response;
}

static struct MHD_Response *make_failure(const receiver_settings *settings, const char *body) {
    struct MHD_Response *response = make_response(JSON_TYPE, body, MHD_RESPMEM_PERSISTENT);
    if (response && settings->retry_after >= 0) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%lld", (long long)settings->retry_after);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    return response;
}

static struct MHD_Response *make_fixed(const receiver_settings *settings) {
    int64_t status = settings->status;
    const char *body = settings->body;
    if (status == MHD_HTTP_NO_CONTENT || status == MHD_HTTP_NOT_MODIFIED)
        body = "";
    bool success = status == 0 || (status >= 200 && status < 300);
    if (!body)
        body = "{\"ok\":false,\"error\":\"answered as asked\"}";
    if (!success)
        return make_failure(settings, body);
    return make_response(*body == '{' || *body == '[' ? JSON_TYPE : TEXT_TYPE, body,
                         MHD_RESPMEM_PERSISTENT);
}

static struct MHD_Response *slack_response(http_sink *sink) {
    char body[96];
    snprintf(body, sizeof body, "{\"ok\":true,\"channel\":\"C0RECEIVE\",\"ts\":\"%lld.%06llu\"}",
             (long long)cli_time(), (unsigned long long)(++sink->serial % 1000000));
    return make_response(JSON_TYPE, body, MHD_RESPMEM_MUST_COPY);
}

static void choose_by_path(http_request *request, const char *path) {
    http_sink *sink = request->sink;
    size_t i = 0;
    while (!strstr(path, manners[i].part))
        i++; /* the last part is "", which every path contains */
    request->made = !sink->content[i];
    request->response = request->made ? slack_response(sink) : sink->content[i];
}

/* ------------------------------------------------------------------- arrivals */

/* Bytes from outside as a JSON string; what is not UTF-8 becomes U+FFFD. */
static json_t *json_foreign(const char *bytes) {
    json_t *string = json_string(bytes);
    if (string)
        return string;
    size_t length = strlen(bytes), to = 0;
    char *clean = malloc(length * 3 + 1);
    if (!clean)
        return NULL;
    for (size_t at = 0; at < length;) {
        size_t step = cli_utf8_length(bytes + at, length - at);
        memcpy(clean + to, step ? bytes + at : "\xEF\xBF\xBD", step ? step : 3);
        to += step ? step : 3;
        at += step ? step : 1;
    }
    clean[to] = '\0';
    string = json_string(clean);
    free(clean);
    return string;
}

static void add_pair(json_t *map, const char *name, const char *value, const char *between) {
    json_t *before = json_object_get(map, name);
    if (!before) {
        json_object_set_new(map, name, json_foreign(value ? value : ""));
        return;
    }
    json_t *joined = json_foreign(value ? value : "");
    json_object_set_new(map, name,
                        json_sprintf("%s%s%s", json_string_value(before), between,
                                     joined ? json_string_value(joined) : ""));
    json_decref(joined);
}

/* Several of a name: the last query parameter counts, header values are joined as RFC 9110 says. */
static enum MHD_Result add_query(void *map, enum MHD_ValueKind kind, const char *name,
                                 const char *value) {
    (void)kind;
    json_object_set_new(map, name, json_foreign(value ? value : ""));
    return MHD_YES;
}

static enum MHD_Result add_header(void *map, enum MHD_ValueKind kind, const char *name,
                                  const char *value) {
    char lower[256];
    size_t length = 0;
    (void)kind;
    for (; name[length] && length + 1 < sizeof lower; length++)
        lower[length] =
            name[length] >= 'A' && name[length] <= 'Z' ? (char)(name[length] | 0x20) : name[length];
    lower[length] = '\0';
    add_pair(map, lower, value, ", ");
    return MHD_YES;
}

static void show(const http_request *request, const char *method, const char *path) {
    if (!receiver_shows(request->sink->owner))
        return;
    json_t *query = json_object(), *headers = json_object();
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, add_query, query);
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, add_header, headers);
    const arrival arrived = {.time = cli_time(),
                             .status = request->status,
                             .method = method,
                             .target = request->target,
                             .path = path,
                             .query = query,
                             .headers = headers,
                             .bytes = request->bytes ? request->bytes : "",
                             .length = request->length};
    receiver_show(request->sink->owner, &arrived);
    json_decref(query);
    json_decref(headers);
}

static void judge(http_request *request, const char *path) {
    http_sink *sink = request->sink;
    const receiver_settings *settings = receiver_get_settings(sink->owner);
    bool accepted = receiver_judge(sink->owner, path);

    request->judged = true;
    if (request->large) {
        request->status = MHD_HTTP_CONTENT_TOO_LARGE;
        request->response = sink->too_large;
    } else if (!accepted) {
        request->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        request->response = sink->failing;
    } else {
        request->status = settings->status ? (unsigned)settings->status : MHD_HTTP_OK;
        request->response = sink->fixed;
        if (!sink->fixed)
            choose_by_path(request, path);
    }
}

/* ------------------------------------------------------------------- requests */

static void due(receiver_wait *wait) {
    http_request *request = (http_request *)((char *)wait - offsetof(http_request, wait));
    MHD_resume_connection(request->connection); /* the next MHD_run calls `handle` once more */
    request->sink->resumed = true;
}

static void *begin(void *self, const char *target, struct MHD_Connection *connection) {
    http_request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->sink = self;
    request->connection = connection;
    request->wait.due = due;
    request->target = strdup(target);
    return request;
}

static void completed(void *self, struct MHD_Connection *connection, void **context,
                      enum MHD_RequestTerminationCode how) {
    http_request *request = *context;
    (void)self, (void)connection, (void)how;
    if (!request)
        return;
    *context = NULL;
    receiver_undelay(request->sink->owner, &request->wait);
    if (request->judged)
        receiver_answered(request->sink->owner);
    if (request->made && request->response)
        MHD_destroy_response(request->response);
    free(request->target);
    free(request->bytes);
    free(request);
}

/* False when out of memory. */
static bool collect(http_request *request, const char *bytes, size_t length) {
    size_t most = (size_t)receiver_get_settings(request->sink->owner)->max_body;
    if (request->large || length > most - request->length) {
        request->large = true;
        free(request->bytes);
        request->bytes = NULL;
        request->length = request->capacity = 0;
        return true;
    }
    if (receiver_shows(request->sink->owner)) {
        if (request->length + length > request->capacity) {
            size_t capacity = request->capacity ? request->capacity * 2 : 1024;
            while (capacity < request->length + length)
                capacity *= 2;
            char *grown = realloc(request->bytes, capacity);
            if (!grown)
                return false;
            request->bytes = grown;
            request->capacity = capacity;
        }
        memcpy(request->bytes + request->length, bytes, length);
    }
    request->length += length;
    return true;
}

/* A request without an answer (out of memory) ends with its connection. */
static enum MHD_Result answer(http_request *request) {
    if (!request->response)
        return MHD_NO;
    return MHD_queue_response(request->connection, request->status, request->response);
}

static enum MHD_Result answer_stats(http_request *request) {
    char *text = receiver_stats(request->sink->owner);
    if (!text)
        return MHD_NO;
    request->status = MHD_HTTP_OK;
    request->made = true;
    request->response = make_response(JSON_TYPE, text, MHD_RESPMEM_MUST_FREE);
    return answer(request);
}

static enum MHD_Result handle(void *self, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_length, void **context) {
    http_sink *sink = self;
    http_request *request = *context;
    const receiver_settings *settings = receiver_get_settings(sink->owner);
    (void)version;

    if (!request || !request->target)
        return MHD_NO;
    if (!request->begun) {
        const char *announced = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                                            MHD_HTTP_HEADER_CONTENT_LENGTH);
        request->begun = true;
        if (!announced || strtoull(announced, NULL, 10) <= (uint64_t)settings->max_body)
            return MHD_YES;
        request->large = true; /* and is answered before it is read */
    } else if (*upload_length) {
        bool kept = collect(request, upload, *upload_length);
        *upload_length = 0;
        return kept ? MHD_YES : MHD_NO;
    }
    if (request->judged)
        return answer(request); /* the delay is over */
    if (strcmp(path, "/stats") == 0 && strcmp(method, MHD_HTTP_METHOD_GET) == 0)
        return answer_stats(request);
    if (receiver_full(sink->owner)) {
        request->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        request->response = sink->failing;
        return answer(request);
    }
    judge(request, path);
    show(request, method, path);
    if (settings->delay <= 0)
        return answer(request);
    MHD_suspend_connection(connection);
    receiver_delay(sink->owner, &request->wait);
    return MHD_YES;
}

/* ------------------------------------------------------------------- the sink */

static void ready(receiver_source *source, uint32_t events) {
    http_sink *sink = (http_sink *)((char *)source - offsetof(http_sink, source));
    (void)events;
    MHD_run(sink->daemon);
}

int http_sink_turn(http_sink *sink) {
    MHD_UNSIGNED_LONG_LONG left = 0;
    if (sink->resumed || (MHD_get_timeout(sink->daemon, &left) == MHD_YES && left == 0)) {
        sink->resumed = false;
        MHD_run(sink->daemon);
    }
    if (MHD_get_timeout(sink->daemon, &left) != MHD_YES)
        return -1;
    return left < 3600000 ? (int)left : 3600000;
}

static bool make_answers(http_sink *sink, const receiver_settings *settings) {
    bool made = true;
    for (size_t i = 0; i < MANNERS; i++)
        if (manners[i].body)
            made &= (sink->content[i] = make_response(manners[i].type, manners[i].body,
                                                      MHD_RESPMEM_PERSISTENT)) != NULL;
    bool by_path = !settings->body && settings->status < 300 && settings->status != 204;
    if (!by_path)
        made &= (sink->fixed = make_fixed(settings)) != NULL;
    made &= (sink->failing =
                 make_failure(settings, "{\"ok\":false,\"error\":\"failing as asked\"}")) != NULL;
    made &= (sink->too_large =
                 make_failure(settings, "{\"ok\":false,\"error\":\"over --max-body\"}")) != NULL;
    return made;
}

http_sink *http_sink_open(receiver *owner, int fd, bool ipv6) {
    http_sink *sink = mhd_load() ? calloc(1, sizeof *sink) : NULL;
    if (!sink)
        goto fail;
    sink->owner = owner;
    if (!make_answers(sink, receiver_get_settings(owner)))
        goto fail;
    sink->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (ipv6 ? MHD_USE_IPv6 : 0), 0, NULL, NULL, handle,
        sink, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_URI_LOG_CALLBACK, begin,
        sink, MHD_OPTION_NOTIFY_COMPLETED, completed, sink, MHD_OPTION_END);
    if (!sink->daemon)
        goto fail;
    fd = -1; /* is the daemon's now */
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(sink->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info)
        goto fail;
    sink->source = (receiver_source){.ready = ready, .fd = info->epoll_fd};
    if (receiver_watch(owner, &sink->source, EPOLLIN))
        return sink;

fail:
    if (fd >= 0)
        close(fd);
    if (sink)
        http_sink_close(sink);
    return NULL;
}

void http_sink_close(http_sink *sink) {
    if (sink->daemon)
        MHD_stop_daemon(sink->daemon);
    for (size_t i = 0; i < MANNERS; i++)
        if (sink->content[i])
            MHD_destroy_response(sink->content[i]);
    struct MHD_Response *others[] = {sink->fixed, sink->failing, sink->too_large};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i])
            MHD_destroy_response(others[i]);
    free(sink);
}
