/* receive_smtp.c — the receiver's SMTP side: a small server of its own (RFC 5321, SIZE, 8BITMIME,
 * PIPELINING, ENHANCEDSTATUSCODES; no AUTH, no TLS).
 *
 * A session reads into a fixed buffer and handles line by line whatever is in it, which is all that
 * pipelining needs; replies gather in a fixed buffer as well, and a client that does not read them
 * is not read from. A mail grows up to the limit; beyond it, or after another flaw, the rest is
 * read and forgotten and the flaw is the reply to the end of the data. Only CR LF "." CR LF ends a
 * mail. Sessions stand in a list, the longest idle first, and are closed after IDLE_SECONDS.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/cli/receive.h"
#include "runtime/cli/term.h"

#define SESSIONS_MAX   1024
#define IDLE_SECONDS   300
#define INPUT_MAX      8192
#define OUTPUT_MAX     8192
#define REPLY_MAX      512  /* a reply, so that reading can stop while there is room for one more */
#define LINE_MAX_BYTES 1000 /* RFC 5321 4.5.3.1.6, CR LF included; for commands too */
#define RECIPIENTS_MAX 1000
#define ERRORS_MAX     50 /* commands that were not understood, after which we hang up */

typedef struct session session;

struct smtp_sink {
    receiver_source source;
    receiver *owner;
    session *oldest, *newest; /* by their last activity */
    size_t count;
    uint64_t accepted; /* mails, for their ids */
};

enum phase { COMMANDS, DATA, HELD /* the answer to a mail is delayed */ };

struct session {
    receiver_source source;
    receiver_wait wait;
    smtp_sink *sink;
    session *next, *prev;
    uint64_t active; /* nanoseconds of the last activity */

    enum phase phase;
    bool greeted;
    bool ending;       /* close when the replies are out */
    bool discarding;   /* the rest of a line that is too long */
    bool discarded_cr; /* and its last byte was CR */
    int errors;
    uint32_t events; /* what epoll is asked for */

    char input[INPUT_MAX];
    size_t input_length;
    char output[OUTPUT_MAX];
    size_t output_length;

    char *from; /* NULL: no mail has begun */
    json_t *recipients;
    char *mail;
    size_t mail_length, mail_capacity;
    bool line_began;     /* the last line of data ended in CR LF */
    const char *flaw;    /* the reply that a flawed mail gets; static */
    unsigned owed;       /* receiver_answered calls, when the replies are out */
    const char *verdict; /* static; NULL: accepted */
};

/* --------------------------------------------------------------------- replies */

static void reply(session *self, const char *line) {
    size_t length = strlen(line);
    if (self->output_length + length + 2 > OUTPUT_MAX) {
        self->ending = true; /* cannot be: reading stops while there is room */
        return;
    }
    memcpy(self->output + self->output_length, line, length);
    memcpy(self->output + self->output_length + length, "\r\n", 2);
    self->output_length += length + 2;
}

static void misunderstood(session *self, const char *line) {
    if (++self->errors < ERRORS_MAX) {
        reply(self, line);
        return;
    }
    reply(self, "421 4.7.0 too many errors");
    self->ending = true;
}

/* ---------------------------------------------------------------- transactions */

static void reset(session *self) {
    free(self->from);
    self->from = NULL;
    if (self->recipients)
        json_array_clear(self->recipients);
    free(self->mail);
    self->mail = NULL;
    self->mail_length = self->mail_capacity = 0;
    self->flaw = self->verdict = NULL;
}

static void append(session *self, const char *bytes, size_t length) {
    size_t most = (size_t)receiver_get_settings(self->sink->owner)->max_body;
    if (self->flaw)
        return;
    if (length > most - self->mail_length) {
        self->flaw = "552 5.3.4 the mail is over --max-body";
        return;
    }
    if (self->mail_length + length > self->mail_capacity) {
        size_t capacity = self->mail_capacity ? self->mail_capacity * 2 : 4096;
        while (capacity < self->mail_length + length)
            capacity *= 2;
        char *grown = realloc(self->mail, capacity);
        if (!grown) {
            self->flaw = "452 4.3.1 out of memory";
            return;
        }
        self->mail = grown;
        self->mail_capacity = capacity;
    }
    memcpy(self->mail + self->mail_length, bytes, length);
    self->mail_length += length;
}

static void answer_mail(receiver_wait *wait) {
    session *self = (session *)((char *)wait - offsetof(session, wait));
    if (self->verdict) {
        reply(self, self->verdict);
    } else {
        char line[REPLY_MAX];
        snprintf(line, sizeof line, "250 2.0.0 accepted as %llu",
                 (unsigned long long)++self->sink->accepted);
        reply(self, line);
    }
    self->phase = COMMANDS;
    reset(self);
}

/* The end of the data: the mail has arrived, whatever becomes of it. */
static void end_mail(session *self) {
    receiver *owner = self->sink->owner;
    if (receiver_full(owner)) {
        reply(self, "421 4.3.2 the receiver has ended");
        self->ending = true;
        return;
    }
    bool accepted = receiver_judge(owner, NULL);
    self->owed++;
    self->verdict = self->flaw ? self->flaw : accepted ? NULL : "451 4.3.0 failing as asked";
    if (receiver_shows(owner)) {
        const arrival arrived = {
            .time = cli_time(),
            .status = self->verdict ? (unsigned)atoi(self->verdict) : 250,
            .from = self->from,
            .recipients = self->recipients,
            .bytes = self->mail ? self->mail : "",
            .length = self->mail_length,
        };
        receiver_show(owner, &arrived);
    }
    self->phase = HELD;
    receiver_delay(owner, &self->wait);
}

/* -------------------------------------------------------------------- commands */

/* Reads "FROM:<address>" (the keyword is given) and moves *at behind it. Owned; NULL when it is not
 * one. */
static char *read_path(const char **at, const char *keyword) {
    size_t length = strlen(keyword);
    if (strncasecmp(*at, keyword, length) != 0)
        return NULL;
    const char *start = *at + length;
    start += strspn(start, " ");
    if (*start++ != '<')
        return NULL;
    const char *end = start;
    for (bool quoted = false; *end && (quoted || *end != '>'); end++) {
        if (*end == '\\' && end[1])
            end++;
        else if (*end == '"')
            quoted = !quoted;
    }
    if (*end != '>' || (end[1] && end[1] != ' '))
        return NULL;
    *at = end + 1;
    return strndup(start, (size_t)(end - start));
}

/* Checks MAIL's parameters. NULL, or the reply that refuses them. */
static const char *check_parameters(const session *self, const char *at) {
    unsigned long long most =
        (unsigned long long)receiver_get_settings(self->sink->owner)->max_body;
    while (*(at += strspn(at, " "))) {
        size_t length = strcspn(at, " ");
        if (strncasecmp(at, "SIZE=", 5) == 0) {
            char *end = NULL;
            unsigned long long size = strtoull(at + 5, &end, 10);
            if (end != at + length || length == 5)
                return "501 5.5.4 SIZE takes a number";
            if (size > most)
                return "552 5.3.4 the mail is over --max-body";
        } else if (!(length == 9 && strncasecmp(at, "BODY=7BIT", 9) == 0) &&
                   !(length == 13 && strncasecmp(at, "BODY=8BITMIME", 13) == 0)) {
            return "555 5.5.4 unknown parameter";
        }
        at += length;
    }
    return NULL;
}

static void do_ehlo(session *self, const char *arguments) {
    char line[REPLY_MAX];
    (void)arguments;
    reset(self);
    self->greeted = true;
    reply(self, "250-notifyhub");
    snprintf(line, sizeof line, "250-SIZE %lld",
             (long long)receiver_get_settings(self->sink->owner)->max_body);
    reply(self, line);
    reply(self, "250-8BITMIME");
    reply(self, "250-PIPELINING");
    reply(self, "250 ENHANCEDSTATUSCODES");
}

static void do_helo(session *self, const char *arguments) {
    (void)arguments;
    reset(self);
    self->greeted = true;
    reply(self, "250 notifyhub");
}

static void do_mail(session *self, const char *arguments) {
    if (!self->greeted) {
        reply(self, "503 5.5.1 say EHLO first");
        return;
    }
    if (self->from) {
        reply(self, "503 5.5.1 a mail has begun; RSET ends it");
        return;
    }
    char *from = read_path(&arguments, "FROM:");
    const char *refusal = from ? check_parameters(self, arguments)
                               : "501 5.5.4 MAIL FROM:<address> is what is understood";
    if (refusal) {
        free(from);
        reply(self, refusal);
        return;
    }
    self->from = from;
    reply(self, "250 2.1.0 ok");
}

static void do_rcpt(session *self, const char *arguments) {
    if (!self->from) {
        reply(self, "503 5.5.1 MAIL comes first");
        return;
    }
    if (json_array_size(self->recipients) >= RECIPIENTS_MAX) {
        reply(self, "452 4.5.3 too many recipients");
        return;
    }
    char *to = read_path(&arguments, "TO:");
    if (!to || !*to)
        reply(self, "501 5.5.4 RCPT TO:<address> is what is understood");
    else if (arguments[strspn(arguments, " ")])
        reply(self, "555 5.5.4 unknown parameter");
    else if (json_array_append_new(self->recipients, json_string(to)) != 0)
        reply(self, "452 4.3.1 out of memory");
    else
        reply(self, "250 2.1.5 ok");
    free(to);
}

static void do_data(session *self, const char *arguments) {
    if (*arguments) {
        reply(self, "501 5.5.4 DATA takes nothing");
    } else if (!self->from || json_array_size(self->recipients) == 0) {
        reply(self, "503 5.5.1 MAIL and RCPT come first");
    } else {
        self->phase = DATA;
        self->line_began = true;
        reply(self, "354 end with a line that is a dot");
    }
}

static void do_rset(session *self, const char *arguments) {
    (void)arguments;
    reset(self);
    reply(self, "250 2.0.0 ok");
}

static void do_noop(session *self, const char *arguments) {
    (void)arguments;
    reply(self, "250 2.0.0 ok");
}

static void do_quit(session *self, const char *arguments) {
    (void)arguments;
    reply(self, "221 2.0.0 bye");
    self->ending = true;
}

static const struct verb {
    const char *name;
    void (*run)(session *self, const char *arguments);
} verbs[] = {
    {"EHLO", do_ehlo}, {"HELO", do_helo}, {"MAIL", do_mail}, {"RCPT", do_rcpt},
    {"DATA", do_data}, {"RSET", do_rset}, {"NOOP", do_noop}, {"QUIT", do_quit},
};

/* `line` is NUL-terminated and without its end. */
static void do_command(session *self, const char *line, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)line[i] < 0x20 || (unsigned char)line[i] >= 0x7F) {
            misunderstood(self, "500 5.5.2 a command is printable ASCII");
            return;
        }
    }
    size_t verb = strcspn(line, " ");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (verb != strlen(verbs[i].name) || strncasecmp(line, verbs[i].name, verb) != 0)
            continue;
        const char *arguments = line + verb;
        verbs[i].run(self, arguments + strspn(arguments, " "));
        return;
    }
    misunderstood(self, "500 5.5.1 unknown command");
}

/* ----------------------------------------------------------------------- input */

/* `line` with its end. */
static void do_data_line(session *self, const char *line, size_t length) {
    bool whole = length >= 2 && line[length - 2] == '\r';
    if (self->line_began && line[0] == '.') {
        if (whole && length == 3) {
            end_mail(self);
            return;
        }
        line++; /* the dot was stuffed */
        length--;
    }
    append(self, line, length);
    self->line_began = whole;
}

static void do_line(session *self, char *line, size_t length) {
    if (self->phase == DATA) {
        do_data_line(self, line, length);
        return;
    }
    line[--length] = '\0';
    if (length && line[length - 1] == '\r')
        line[--length] = '\0';
    do_command(self, line, length);
}

static void line_too_long(session *self) {
    if (self->phase == DATA)
        self->flaw = "554 5.6.0 a line of the mail is over 998 bytes";
    else
        misunderstood(self, "500 5.5.2 line too long");
}

/* Drops a piece of a line that is too long; `ends` when it is the last one. */
static void discard(session *self, const char *piece, size_t length, bool ends) {
    bool cr = length > 1 ? piece[length - 2] == '\r' : self->discarded_cr;
    self->line_began = ends && cr;
    self->discarding = !ends;
    self->discarded_cr = piece[length - 1] == '\r';
}

/* Handles the lines that are complete, as long as replies have room and no answer is held. */
static void do_input(session *self) {
    size_t at = 0;
    while (self->phase != HELD && !self->ending &&
           self->output_length + 2 * REPLY_MAX < OUTPUT_MAX) {
        char *line = self->input + at;
        size_t rest = self->input_length - at;
        char *newline = memchr(line, '\n', rest);
        size_t length = newline ? (size_t)(newline - line) + 1 : rest;
        if (!newline && rest <= LINE_MAX_BYTES && !self->discarding)
            break;
        if (length == 0)
            break;
        if (self->discarding) {
            discard(self, line, length, newline != NULL);
        } else if (length > LINE_MAX_BYTES) {
            line_too_long(self);
            discard(self, line, length, newline != NULL);
        } else {
            do_line(self, line, length);
        }
        at += length;
    }
    memmove(self->input, self->input + at, self->input_length - at);
    self->input_length -= at;
}

/* -------------------------------------------------------------------- sessions */

static void unlink_session(session *self) {
    smtp_sink *sink = self->sink;
    *(self->prev ? &self->prev->next : &sink->oldest) = self->next;
    *(self->next ? &self->next->prev : &sink->newest) = self->prev;
    sink->count--;
}

static void link_session(session *self) {
    smtp_sink *sink = self->sink;
    self->prev = sink->newest;
    self->next = NULL;
    *(self->prev ? &self->prev->next : &sink->oldest) = self;
    sink->newest = self;
    sink->count++;
    self->active = cli_clock();
}

static void hang_up(session *self) {
    receiver *owner = self->sink->owner;
    receiver_undelay(owner, &self->wait);
    for (; self->owed; self->owed--)
        receiver_answered(owner);
    receiver_unwatch(owner, &self->source);
    close(self->source.fd);
    unlink_session(self);
    reset(self);
    json_decref(self->recipients);
    free(self);
}

/* False when the connection is lost. */
static bool flush_output(session *self) {
    while (self->output_length) {
        ssize_t sent = send(self->source.fd, self->output, self->output_length, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        memmove(self->output, self->output + sent, self->output_length - (size_t)sent);
        self->output_length -= (size_t)sent;
    }
    if (self->phase != HELD)
        for (; self->owed; self->owed--)
            receiver_answered(self->sink->owner);
    return true;
}

/* Works off the input, sends the replies, and asks epoll for what is wanted next; or hangs up. */
static void advance(session *self) {
    size_t before;
    do {
        before = self->input_length;
        do_input(self);
        if (!flush_output(self)) {
            hang_up(self);
            return;
        }
    } while (self->input_length != before && self->input_length);
    if (self->ending && self->output_length == 0) {
        hang_up(self);
        return;
    }
    bool reads = self->phase != HELD && !self->ending && self->input_length < INPUT_MAX;
    uint32_t events = (reads ? EPOLLIN : 0u) | (self->output_length ? EPOLLOUT : 0u);
    if (events != self->events) {
        self->events = events;
        receiver_rewatch(self->sink->owner, &self->source, events);
    }
}

static void answer_held(receiver_wait *wait) {
    session *self = (session *)((char *)wait - offsetof(session, wait));
    bool was_delayed = receiver_get_settings(self->sink->owner)->delay > 0;
    answer_mail(wait);
    if (was_delayed)
        advance(self); /* else do_input called us and goes on itself */
}

static void session_ready(receiver_source *source, uint32_t events) {
    session *self = (session *)((char *)source - offsetof(session, source));
    if (self->events & EPOLLIN) {
        size_t room = INPUT_MAX - self->input_length;
        ssize_t got = recv(source->fd, self->input + self->input_length, room, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            hang_up(self);
            return;
        }
        if (got > 0)
            self->input_length += (size_t)got;
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        hang_up(self);
        return;
    }
    unlink_session(self);
    link_session(self);
    advance(self);
}

static void refuse(int fd) {
    static const char busy[] = "421 4.3.2 too many connections\r\n";
    ssize_t sent = send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent; /* the client sees the close in any case */
    close(fd);
}

static void welcome(smtp_sink *sink, int fd) {
    session *self = sink->count < SESSIONS_MAX ? calloc(1, sizeof *self) : NULL;
    json_t *recipients = self ? json_array() : NULL;
    if (!recipients) {
        free(self);
        refuse(fd);
        return;
    }
    self->sink = sink;
    self->recipients = recipients;
    self->wait.due = answer_held;
    self->source = (receiver_source){.ready = session_ready, .fd = fd};
    self->events = EPOLLIN;
    if (!receiver_watch(sink->owner, &self->source, EPOLLIN)) {
        json_decref(recipients);
        free(self);
        refuse(fd);
        return;
    }
    link_session(self);
    reply(self, "220 notifyhub ESMTP");
    advance(self);
}

/* -------------------------------------------------------------------- the sink */

static void accept_ready(receiver_source *source, uint32_t events) {
    smtp_sink *sink = (smtp_sink *)((char *)source - offsetof(smtp_sink, source));
    (void)events;
    int fd;
    while ((fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        welcome(sink, fd);
}

smtp_sink *smtp_sink_open(receiver *owner, int fd) {
    smtp_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        close(fd);
        return NULL;
    }
    sink->owner = owner;
    sink->source = (receiver_source){.ready = accept_ready, .fd = fd};
    if (receiver_watch(owner, &sink->source, EPOLLIN))
        return sink;
    smtp_sink_close(sink);
    return NULL;
}

int smtp_sink_turn(smtp_sink *sink) {
    uint64_t now = cli_clock();
    uint64_t patience = IDLE_SECONDS * (uint64_t)1000000000;
    session *each = sink->oldest;
    while (each && now - each->active > patience) {
        session *next = each->next;
        hang_up(each);
        each = next;
    }
    return each ? (int)((each->active + patience - now) / 1000000) + 1 : -1;
}

bool smtp_sink_idle(const smtp_sink *sink) {
    return sink->count == 0;
}

void smtp_sink_close(smtp_sink *sink) {
    for (session *each = sink->oldest, *next; each; each = next) {
        next = each->next;
        hang_up(each);
    }
    close(sink->source.fd);
    free(sink);
}
