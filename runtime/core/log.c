/* log.c — a line is made on the caller's stack, outside of any lock, and leaves with one write.
 *
 * The lock guards two short things: the table that counts how often each event came in its current
 * second, and the look whether standard error takes a line together with the write of it, so that
 * two threads cannot both see the last free page of a pipe. The callback is called without the
 * lock.
 *
 * An event over its rate is counted in its place of the table. When its second is over, the first
 * line that anybody writes is preceded by `… event="that one" suppressed=1234`; what is left is
 * told when the log ends. A table without a free place gives up the place of the oldest second,
 * which is told before.
 *
 * A value is written character by character: what is not UTF-8 becomes U+FFFD, and what could break
 * a line or steer a terminal (C0, DEL, C1, line separators, direction marks) becomes an escape.
 *
 * Cost: off, a load and a compare; on, about a microsecond and the write.
 */
#include "runtime/core/log.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/utf8.h"

enum {
    EVENTS = 64,      /* that are counted at a time */
    EVENT_MOST = 128, /* bytes of an event's text */
    CHARACTER_MOST = 6,
    /* Kept free: for `dropped`, for `cut` and the line's end. */
    TAIL = 128,
    END = 16,
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* How often one event came in the second that began at `since`. */
typedef struct rate {
    char event[EVENT_MOST]; /* cut; empty in a place that is free */
    nh_log_level level;
    uint64_t since;
    uint64_t count; /* over NH_LOG_EVENTS_A_SECOND: held back */
} rate;

typedef struct log_state {
    nh_log log; /* first: what the header shows */
    nh_log_options options;
    pthread_mutex_t lock;
    rate rates[EVENTS];
    uint64_t next;    /* when the first second with something held back is over */
    uint64_t dropped; /* lines that standard error did not take */
} log_state;

/* ------------------------------------------------------------------- lines */

typedef struct line {
    nh_log_format format;
    size_t length;
    size_t most; /* bytes that may be used up to now */
    bool cut;
    char bytes[NH_LOG_LINE_MOST];
} line;

static void add(line *l, const char *bytes, size_t length) {
    memcpy(l->bytes + l->length, bytes, length);
    l->length += length;
}

/* Bytes of the UTF-8 character at `text`, 0 when it is none. */
static size_t character(const char *text, size_t left) {
    unsigned char lead = (unsigned char)*text;
    size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    return size <= left && nh_utf8_valid(text, size) ? size : 0;
}

/* The code of a character that must not be written as it is, else 0 (NUL has been told before). */
static unsigned dangerous(const char *text, size_t size) {
    const unsigned char *s = (const unsigned char *)text;
    if (size == 1)
        return *s < 0x20 || *s == 0x7F ? *s : 0;
    if (size == 2)
        return s[0] == 0xC2 && s[1] < 0xA0 ? s[1] : 0;
    if (size != 3 || s[0] != 0xE2 || (s[1] != 0x80 && s[1] != 0x81))
        return 0;
    unsigned code = 0x2000u | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    bool mark = code == 0x200E || code == 0x200F; /* direction marks */
    bool separator_or_embedding = code >= 0x2028 && code <= 0x202E;
    bool isolate = code >= 0x2066 && code <= 0x2069;
    return mark || separator_or_embedding || isolate ? code : 0;
}

/* How a character is written between quotes; returns its bytes in `out` and how many it took. */
static size_t escape(const char *text, size_t left, char out[CHARACTER_MOST + 1], size_t *taken) {
    static const char short_form[] = {
        ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    unsigned char c = (unsigned char)*text;
    size_t size = *taken = character(text, left);
    if (size == 0) {
        *taken = 1;
        return (size_t)snprintf(out, CHARACTER_MOST + 1, "\xEF\xBF\xBD");
    }
    if (c < sizeof short_form && short_form[c]) {
        out[0] = '\\';
        out[1] = short_form[c];
        return 2;
    }
    unsigned code = dangerous(text, size);
    if (code || c == 0)
        return (size_t)snprintf(out, CHARACTER_MOST + 1, "\\u%04x", code);
    for (size_t i = 0; i < size; i++)
        out[i] = text[i];
    return size;
}

/* A text between quotes; at most NH_LOG_VALUE_MOST bytes, and no more than the line has room. */
static void add_quoted(line *l, const char *text, size_t length) {
    char out[CHARACTER_MOST + 1];
    size_t room = l->most - l->length;
    size_t end = l->length + (room < NH_LOG_VALUE_MOST ? room : NH_LOG_VALUE_MOST) - 4; /* …" */
    add(l, "\"", 1);
    for (size_t i = 0, taken; i < length; i += taken) {
        size_t size = escape(text + i, length - i, out, &taken);
        if (l->length + size > end) {
            add(l, "\xE2\x80\xA6", 3);
            break;
        }
        add(l, out, size);
    }
    add(l, "\"", 1);
}

/* logfmt leaves the quotes out where nothing can be mistaken. */
static bool is_bare(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("=\"\\", text[i]))
            return false;
    return length > 0 && length <= NH_LOG_VALUE_MOST / 2;
}

static void add_text(line *l, const char *text, size_t length) {
    if (l->format == NH_LOG_LOGFMT && is_bare(text, length) && length <= l->most - l->length)
        add(l, text, length);
    else
        add_quoted(l, text, length);
}

/* Shortest form that reads back as the same; a host's locale may have its own decimal point. */
static void add_real(line *l, double real) {
    char text[32];
    int length = snprintf(text, sizeof text, "%.15g", real);
    if (isfinite(real) && strtod(text, NULL) != real)
        length = snprintf(text, sizeof text, "%.17g", real);
    for (char *c = text; *c; c++)
        if (*c == ',')
            *c = '.';
    if (isfinite(real) || l->format == NH_LOG_LOGFMT)
        add(l, text, (size_t)length);
    else
        add(l, "null", 4);
}

/* Names are the program's own or a script's: what could not be one becomes `_`. */
static void add_key(line *l, const char *key) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t length = strnlen(key, NH_LOG_KEY_MOST);
    const char *quote = l->format == NH_LOG_JSON ? "\"" : "";
    if (l->length > 0)
        add(l, l->format == NH_LOG_JSON ? "," : " ", 1);
    add(l, quote, strlen(quote));
    for (size_t i = 0; i < length; i++)
        add(l, strchr(plain, key[i]) ? &key[i] : "_", 1);
    if (length == 0)
        add(l, "_", 1);
    add(l, quote, strlen(quote));
    add(l, l->format == NH_LOG_JSON ? ":" : "=", 1);
}

static void add_field(line *l, const nh_log_field *field) {
    char number[24];
    enum { LEAST = NH_LOG_KEY_MOST + 4 + 32 }; /* a name, a number or the least of a text */
    if (l->length + LEAST > l->most) {
        l->cut = true;
        return;
    }
    add_key(l, field->key);
    switch (field->kind) {
    case NH_LOG_FIELD_TEXT:
        add_text(l, field->text, field->length);
        break;
    case NH_LOG_FIELD_INT:
        add(l, number, (size_t)snprintf(number, sizeof number, "%lld", (long long)field->integer));
        break;
    case NH_LOG_FIELD_REAL:
        add_real(l, field->real);
        break;
    case NH_LOG_FIELD_BOOL:
        add(l, field->truth ? "true" : "false", field->truth ? 4 : 5);
        break;
    }
}

static void begin(line *l, nh_log_format format, nh_log_level level, const char *event) {
    struct timespec now;
    struct tm date;
    char time[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &date);
    size_t length = strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &date);
    length += (size_t)snprintf(time + length, sizeof time - length, ".%03dZ",
                               (int)(now.tv_nsec / 1000000));
    l->format = format;
    l->length = 0;
    l->most = sizeof l->bytes - TAIL;
    l->cut = false;
    if (format == NH_LOG_JSON)
        l->bytes[l->length++] = '{';
    /* No comma before the first name of an object. */
    const char *first = format == NH_LOG_JSON ? "\"time\":\"" : "time=";
    add(l, first, strlen(first));
    add(l, time, length);
    if (format == NH_LOG_JSON)
        add(l, "\"", 1);
    add_key(l, "level");
    add_text(l, level_names[level], strlen(level_names[level]));
    add_key(l, "event");
    add_text(l, event, strlen(event));
}

static void end(line *l) {
    if (l->cut) {
        add_key(l, "cut");
        add(l, "true", 4);
    }
    if (l->format == NH_LOG_JSON)
        add(l, "}", 1);
}

/* ------------------------------------------------------------------- sinks */

/* Lock held. False when the line could not be taken now. */
static bool put(line *l) {
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT))
        return false;
    l->bytes[l->length] = '\n';
    ssize_t done;
    do
        done = write(STDERR_FILENO, l->bytes, l->length + 1);
    while (done < 0 && errno == EINTR);
    return done >= 0;
}

static void send_stderr(log_state *state, line *l) {
    pthread_mutex_lock(&state->lock);
    if (state->dropped > 0) {
        const nh_log_field dropped = nh_log_int("dropped", (int64_t)state->dropped);
        l->most = sizeof l->bytes - END;
        add_field(l, &dropped);
    }
    end(l);
    state->dropped = put(l) ? 0 : state->dropped + 1;
    pthread_mutex_unlock(&state->lock);
}

static void send(log_state *state, nh_log_level level, line *l) {
    if (state->options.sink == NH_LOG_STDERR) {
        send_stderr(state, l);
        return;
    }
    end(l);
    state->options.write(state->options.context, level, l->bytes, l->length);
}

static void tell_held_back(log_state *state, const rate *r) {
    line l;
    const nh_log_field count =
        nh_log_int("suppressed", (int64_t)(r->count - NH_LOG_EVENTS_A_SECOND));
    begin(&l, state->options.format, r->level, r->event);
    add_field(&l, &count);
    send(state, r->level, &l);
}

/* -------------------------------------------------------------------- rate */

static bool over(const rate *r, uint64_t now) {
    return now > r->since && now - r->since >= NH_SECOND; /* another thread's may be later */
}

/* Lock held. Copies out one event whose second is over and that held something back; false when
 * there is none, and then knows when to look again. */
static bool take_held_back(log_state *state, uint64_t now, rate *out) {
    if (now < state->next)
        return false;
    state->next = UINT64_MAX;
    for (rate *r = state->rates; r < state->rates + EVENTS; r++) {
        if (!*r->event || r->count <= NH_LOG_EVENTS_A_SECOND)
            continue;
        if (over(r, now)) {
            *out = *r;
            *r->event = '\0';
            state->next = now; /* there may be another one */
            return true;
        }
        if (r->since + NH_SECOND < state->next)
            state->next = r->since + NH_SECOND;
    }
    return false;
}

static void tell_all_held_back(log_state *state, uint64_t now) {
    for (bool more = true; more;) {
        rate held;
        pthread_mutex_lock(&state->lock);
        more = take_held_back(state, now, &held);
        pthread_mutex_unlock(&state->lock);
        if (more)
            tell_held_back(state, &held);
    }
}

/* Lock held. The place of an event: its own, a free one, or that of the oldest second, which is
 * copied to `lost` when it held something back. */
static rate *place_of(log_state *state, const char *event, size_t length, rate *lost) {
    rate *oldest = state->rates;
    *lost->event = '\0';
    for (rate *r = state->rates; r < state->rates + EVENTS; r++) {
        if (*r->event && strncmp(r->event, event, length) == 0 && r->event[length] == '\0')
            return r;
        if (!*oldest->event)
            continue;
        if (!*r->event || r->since < oldest->since)
            oldest = r;
    }
    if (*oldest->event && oldest->count > NH_LOG_EVENTS_A_SECOND)
        *lost = *oldest;
    memcpy(oldest->event, event, length);
    oldest->event[length] = '\0';
    oldest->count = 0;
    oldest->since = 0;
    return oldest;
}

/* Whether the line may be written. */
static bool admit(log_state *state, nh_log_level level, const char *event) {
    size_t length = nh_utf8_floor(event, strnlen(event, EVENT_MOST - 1));
    uint64_t now = nh_monotonic();
    rate lost;
    if (length == 0)
        return true;
    tell_all_held_back(state, now);
    pthread_mutex_lock(&state->lock);
    rate *r = place_of(state, event, length, &lost);
    if (r->count == 0 || (over(r, now) && r->count <= NH_LOG_EVENTS_A_SECOND)) {
        r->since = now;
        r->count = 0;
        r->level = level;
    }
    bool admitted = ++r->count <= NH_LOG_EVENTS_A_SECOND;
    if (!admitted && r->since + NH_SECOND < state->next)
        state->next = r->since + NH_SECOND;
    pthread_mutex_unlock(&state->lock);
    if (*lost.event)
        tell_held_back(state, &lost);
    return admitted;
}

/* -------------------------------------------------------------- life cycle */

nh_log *nh_log_create(const nh_log_options *options, nh_error *error) {
    log_state *state = calloc(1, sizeof *state);
    if (!state || pthread_mutex_init(&state->lock, NULL) != 0) {
        free(state);
        nh_fail_memory(error);
        return NULL;
    }
    if (options)
        state->options = *options;
    bool silent = state->options.sink == NH_LOG_NONE ||
                  (state->options.sink == NH_LOG_CALLBACK && !state->options.write);
    state->log.most = silent ? -1 : (int)state->options.level;
    state->next = UINT64_MAX;
    return &state->log;
}

void nh_log_destroy(nh_log *log) {
    log_state *state = (log_state *)log;
    if (!state)
        return;
    for (rate *r = state->rates; r < state->rates + EVENTS; r++)
        if (*r->event && r->count > NH_LOG_EVENTS_A_SECOND)
            tell_held_back(state, r);
    pthread_mutex_destroy(&state->lock);
    free(state);
}

bool nh_log_level_from_name(const char *name, nh_log_level *level) {
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++)
        if (strcmp(level_names[i], name) == 0) {
            *level = (nh_log_level)i;
            return true;
        }
    return false;
}

void nh_log_fields(nh_log *log, nh_log_level level, const char *event, const nh_log_field *fields,
                   size_t count) {
    log_state *state = (log_state *)log;
    line l;
    if (!nh_log_on(log, level) || !admit(state, level, event))
        return;
    begin(&l, state->options.format, level, event);
    for (size_t i = 0; i < count; i++)
        add_field(&l, &fields[i]);
    send(state, level, &l);
}
