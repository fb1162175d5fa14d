/* answer.c — the hostile sink's answers, by the words of a path. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "spec/support/hostile/hostile.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

enum { WORDS = 6, WORD_MOST = 64, CHUNK = 64 << 10, HEADERS = 100000, GARBAGE = 4096 };

typedef struct words {
    char of[WORDS][WORD_MOST]; /* "" where there are no more */
} words;

static void append(answer *to, const char *bytes, size_t length) {
    while (to->length + length >= to->size) {
        to->size = to->size ? to->size * 2 : 512;
        to->bytes = realloc(to->bytes, to->size);
        if (!to->bytes)
            hostile_fail("out of memory");
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    to->bytes[to->length] = '\0';
}

static void print(answer *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void print(answer *to, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    append(to, text, (size_t)length);
}

static void whole(answer *to, int status, const char *headers, const char *body) {
    to->status = status;
    print(to,
          "HTTP/1.1 %d Said\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
          status, headers, strlen(body), body);
}

static void fine(answer *to) {
    whole(to, 200, "", "{}");
}

/* %XX is a byte. */
static void decode(char *word) {
    char *to = word;
    for (const char *at = word; *at; at++) {
        unsigned byte;
        if (*at == '%' && sscanf(at + 1, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            at += 2;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
}

static words split(const char *path) {
    words all = {{{0}}};
    for (int i = 0; i < WORDS && *path == '/'; i++) {
        size_t length = strcspn(++path, "/?");
        snprintf(all.of[i], WORD_MOST, "%.*s", (int)length, path);
        decode(all.of[i]);
        path += length;
    }
    return all;
}

/* /fail/STATUS/TIMES/KIND/VALUE */
static void fail_first(answer *to, const words *all, unsigned attempt) {
    char headers[256] = "", body[256] = "{}", date[64];
    const char *kind = all->of[3], *value = all->of[4];
    int status = atoi(all->of[1]);
    if (attempt > (unsigned)atoi(all->of[2])) {
        fine(to);
        return;
    }
    if (strcmp(kind, "after") == 0) {
        snprintf(headers, sizeof headers, "Retry-After: %s\r\n", value);
    } else if (strcmp(kind, "date") == 0) {
        time_t when = time(NULL) + (time_t)ceil(atof(value));
        struct tm parts;
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &parts));
        snprintf(headers, sizeof headers, "Retry-After: %s\r\n", date);
    } else if (strcmp(kind, "discord") == 0) {
        snprintf(body, sizeof body, "{\"message\":\"rate limited\",\"retry_after\":%s}", value);
    } else if (strcmp(kind, "telegram") == 0) {
        snprintf(body, sizeof body,
                 "{\"ok\":false,\"error_code\":%d,\"parameters\":{\"retry_after\":%s}}", status,
                 value);
    }
    whole(to, status, headers, body);
}

/* /flaky/STATUS/EACH: that status to each so manyth request. */
static void flaky(answer *to, const words *all) {
    static unsigned count;
    int each = atoi(all->of[2]);
    if (each > 0 && ++count % (unsigned)each == 0)
        whole(to, atoi(all->of[1]), "", "{}");
    else
        fine(to);
}

/* Refusals that say 200: /failed/PLATFORM */
static void failed(answer *to, const char *platform) {
    static const char *const bodies[][2] = {
        {"slack", "{\"ok\":false,\"error\":\"channel_not_found\"}"},
        {"feishu",
         "{\"code\":19001,\"msg\":\"param invalid: incoming webhook access token invalid\"}"},
        {"dingtalk", "{\"errcode\":310000,\"errmsg\":\"sign not match\"}"},
        {"wecom", "{\"errcode\":93000,\"errmsg\":\"invalid webhook url\"}"},
        {"telegram", "{\"ok\":false,\"error_code\":400,\"description\":\"Bad Request\"}"},
        {"pushover", "{\"status\":0,\"errors\":[\"user identifier is invalid\"]}"},
        {"empty", ""},
        {"html", "<html><body>Login</body></html>"},
        {"list", "[1,2,3]"},
        {"text", "no_service"},
        {"deep", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["},
        {"bytes", "{\"ok\":\xff\xfe\x01}"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        if (strcmp(platform, bodies[i][0]) == 0)
            whole(to, 200, "", bodies[i][1]);
    if (!to->length)
        whole(to, 404, "", "{}");
}

/* What a reader would never come to the end of. */
static void endless(answer *to, const char *what) {
    static char chunk[CHUNK];
    memset(chunk, 'x', sizeof chunk);
    to->then = THEN_REPEAT;
    if (strcmp(what, "body") == 0) {
        print(to, OK_HEAD "Content-Length: 10737418240\r\n\r\n");
        to->repeat = CHUNK;
    } else if (strcmp(what, "unsized") == 0) {
        print(to, OK_HEAD "Connection: close\r\n\r\n");
        to->repeat = CHUNK;
    } else if (strcmp(what, "chunks") == 0) {
        print(to, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n");
        size_t before = to->length;
        print(to, "%x\r\n", CHUNK);
        append(to, chunk, CHUNK);
        append(to, "\r\n", 2);
        to->repeat = to->length - before;
        return;
    } else if (strcmp(what, "chunk-extension") == 0) {
        print(to, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1;a=");
        to->repeat = CHUNK;
    } else if (strcmp(what, "header") == 0) {
        print(to, OK_HEAD "X-Long: ");
        to->repeat = CHUNK;
    } else if (strcmp(what, "continue") == 0) {
        to->repeat = sizeof "HTTP/1.1 100 Continue\r\n\r\n" - 1;
        print(to, "HTTP/1.1 100 Continue\r\n\r\n");
        return;
    } else if (strcmp(what, "status") == 0) {
        print(to, "HTTP/1.1 200 ");
        to->repeat = CHUNK;
    } else {
        to->then = THEN_CLOSE;
        return;
    }
    append(to, chunk, CHUNK);
}

static void many_headers(answer *to) {
    print(to, OK_HEAD);
    for (int i = 0; i < HEADERS; i++)
        print(to, "X-%d: some value\r\n", i);
    print(to, "Content-Length: 2\r\n\r\n{}");
}

static void garbage(answer *to) {
    unsigned state = 12345;
    char bytes[GARBAGE];
    for (int i = 0; i < GARBAGE; i++) {
        state = state * 1103515245 + 12345;
        bytes[i] = (char)(state >> 16);
    }
    append(to, bytes, GARBAGE);
    to->then = THEN_CLOSE;
}

/* Half of an answer, and what then. */
static void half(answer *to, const char *then) {
    print(to, OK_HEAD "Content-Length: 100\r\n\r\n{\"half\":");
    to->then = strcmp(then, "reset") == 0   ? THEN_RESET
               : strcmp(then, "close") == 0 ? THEN_CLOSE
                                            : THEN_HANG;
}

static void drip(answer *to, const char *what) {
    if (strcmp(what, "body") == 0) { /* all of it comes, one day */
        print(to, OK_HEAD "Content-Length: 100000\r\n\r\n");
        for (int i = 0; i < 100; i++)
            append(to, "x", 1);
    } else {
        print(to, OK_HEAD "X-Slow: ");
        for (int i = 0; i < 100; i++)
            append(to, "x", 1);
    }
    to->then = THEN_DRIP;
}

/* The ends of a kept connection that meet a client's next request. /end/WHEN */
static void awkward(answer *to, const char *when, unsigned nth) {
    if (strcmp(when, "after") == 0) { /* promised to stay, and left */
        fine(to);
        to->then = THEN_CLOSE;
    } else if (strcmp(when, "reset") == 0) { /* the same, with an RST */
        fine(to);
        to->then = THEN_RESET;
    } else if (nth % 2 == 1) {
        fine(to);
    } else { /* the second request is read, and nothing said: "second" */
        to->then = THEN_CLOSE;
    }
}

answer hostile_answer(const char *path, unsigned attempt, unsigned nth) {
    const words all = split(path);
    const char *what = all.of[0];
    answer made = {.then = THEN_READ};
    if (strcmp(what, "ok") == 0) {
        fine(&made);
    } else if (strcmp(what, "slow") == 0) {
        fine(&made);
        made.delay = atof(all.of[1]);
    } else if (strcmp(what, "fail") == 0) {
        fail_first(&made, &all, attempt);
    } else if (strcmp(what, "flaky") == 0) {
        flaky(&made, &all);
    } else if (strcmp(what, "failed") == 0) {
        failed(&made, all.of[1]);
    } else if (strcmp(what, "endless") == 0) {
        endless(&made, all.of[1]);
    } else if (strcmp(what, "headers") == 0) {
        many_headers(&made);
    } else if (strcmp(what, "garbage") == 0) {
        garbage(&made);
    } else if (strcmp(what, "half") == 0) {
        half(&made, all.of[1]);
    } else if (strcmp(what, "drip") == 0) {
        drip(&made, all.of[1]);
    } else if (strcmp(what, "end") == 0) {
        awkward(&made, all.of[1], nth);
    } else if (strcmp(what, "stall") == 0) {
        made.then = THEN_HANG;
    } else if (strcmp(what, "reset") == 0) {
        made.then = THEN_RESET;
    } else if (strcmp(what, "redirect") == 0) {
        char location[WORD_MOST + 32];
        snprintf(location, sizeof location, "Location: http://%s/ok\r\n", all.of[1]);
        whole(&made, 302, location, "");
    } else {
        whole(&made, 404, "", "{}");
    }
    return made;
}
