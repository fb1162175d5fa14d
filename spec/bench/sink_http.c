/* sink_http.c — the sink's HTTP/1.1: as little of it as a client that keeps to the standard can
 * see. A request is its head and Content-Length bytes; what is in them is looked at only for an id.
 *
 * GET /figures tells what was counted, POST /forget sets it to zero; neither is counted itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "spec/bench/sink.h"

enum { FIGURES_MOST = 512 };

typedef struct head {
    size_t length, body; /* bytes */
    bool close, expect, chunked;
} head;

static bool is_header(const char *line, size_t length, const char *name, size_t name_length) {
    return length > name_length && strncasecmp(line, name, name_length) == 0;
}

/* A header that matters, or one of the many that do not: told apart by the first letter. */
static void read_header(head *h, const char *line, size_t length) {
    switch (line[0] | 0x20) {
    case 'c':
        if (is_header(line, length, "content-length:", 15))
            h->body = strtoul(line + 15, NULL, 10);
        else if (is_header(line, length, "connection: close", 16))
            h->close = true;
        break;
    case 'e':
        h->expect |= is_header(line, length, "expect: 100", 11);
        break;
    case 't':
        h->chunked |= is_header(line, length, "transfer-encoding:", 18);
        break;
    default:
        break;
    }
}

/* False: the head has no end yet. */
static bool read_head(head *h, const char *bytes, size_t length) {
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end)
        return false;
    *h = (head){.length = (size_t)(end - bytes) + 4};
    const char *line = memchr(bytes, '\n', h->length);
    while (line && line < end) {
        line++;
        const char *next = memchr(line, '\n', (size_t)(end + 2 - line));
        read_header(h, line, (size_t)((next ? next : end) - line));
        line = next;
    }
    return true;
}

static void say_figures(sink *s) {
    const char *figures = sink_figures(s);
    char text[FIGURES_MOST + 128];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s\n",
                          strlen(figures) + 1, figures);
    sink_say(s, text, (size_t)length);
}

static bool asks(const char *bytes, size_t length, const char *what) {
    return length > strlen(what) && memcmp(bytes, what, strlen(what)) == 0;
}

static void answer(sink *s, sink_connection *c, const char *bytes, const head *h) {
    if (asks(bytes, h->length, "GET /figures ")) {
        say_figures(s);
    } else if (asks(bytes, h->length, "POST /forget ")) {
        sink_forget(s);
        say_figures(s);
    } else {
        size_t length = 0;
        const char *id = sink_find_id(s, bytes + h->length, h->body, sink_id_name(s), '"', &length);
        sink_count(s, c, sink_http_answers(s), id, length);
    }
}

static size_t swallow(sink *s, sink_connection *c, size_t length) {
    size_t eaten = length < c->skip ? length : c->skip;
    c->skip -= eaten;
    if (c->skip == 0)
        sink_count(s, c, sink_http_answers(s), NULL, 0);
    return eaten;
}

static long feed(sink *s, sink_connection *c, const char *bytes, size_t length) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t used = 0;
    while (used < length && !c->close_after) {
        if (c->skip > 0) {
            used += swallow(s, c, length - used);
            continue;
        }
        head h;
        if (!read_head(&h, bytes + used, length - used))
            break;
        if (h.chunked)
            return SINK_REFUSED;
        size_t whole = h.length + h.body;
        if (h.expect && length - used == h.length)
            sink_say(s, go_on, sizeof go_on - 1);
        c->close_after = h.close && whole <= length - used;
        if (whole <= length - used) {
            answer(s, c, bytes + used, &h);
            used += whole;
        } else if (whole > SINK_BUFFER) {
            c->skip = whole - (length - used);
            used = length;
        } else {
            break;
        }
    }
    return (long)used;
}

const sink_protocol sink_http = {NULL, feed};
