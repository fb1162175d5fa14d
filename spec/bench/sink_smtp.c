/* sink_smtp.c — the sink's SMTP: takes every mail that is no larger than SINK_BUFFER. Only the
 * answer to the mail itself is delayed, or made a failure.
 */
#include <string.h>
#include <strings.h>

#include "spec/bench/sink.h"

#define TEXT(text) text, sizeof(text) - 1

static const sink_answers answers = {.good = "250 2.0.0 taken\r\n",
                                     .bad = "451 4.3.0 not now\r\n",
                                     .good_length = sizeof "250 2.0.0 taken\r\n" - 1,
                                     .bad_length = sizeof "451 4.3.0 not now\r\n" - 1};

static void obey(sink *s, sink_connection *c, const char *line, size_t length) {
    static const struct {
        const char *verb, *answer;
    } verbs[] = {
        {"MAIL", "250 2.1.0 ok\r\n"},
        {"RCPT", "250 2.1.5 ok\r\n"},
        {"DATA", "354 go on\r\n"},
        {"EHLO", "250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 262144\r\n"},
        {"HELO", "250 sink\r\n"},
        {"RSET", "250 2.0.0 ok\r\n"},
        {"NOOP", "250 2.0.0 ok\r\n"},
        {"QUIT", "221 2.0.0 bye\r\n"},
    };
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (length >= 4 && strncasecmp(line, verbs[i].verb, 4) == 0) {
            c->in_data = strcmp(verbs[i].verb, "DATA") == 0;
            c->close_after = strcmp(verbs[i].verb, "QUIT") == 0;
            sink_say(s, verbs[i].answer, strlen(verbs[i].answer));
            return;
        }
    sink_say(s, TEXT("502 5.5.1 no such verb\r\n"));
}

static long feed(sink *s, sink_connection *c, const char *bytes, size_t length) {
    size_t used = 0;
    while (used < length && !c->close_after) {
        const char *from = bytes + used;
        if (c->in_data) {
            const char *dot = memmem(from, length - used, "\r\n.\r\n", 5);
            if (!dot)
                break;
            size_t mail = (size_t)(dot - from), id_length = 0;
            const char *id = sink_find_id(s, from, mail, "Message-ID: <", '>', &id_length);
            c->in_data = false;
            used += mail + 5;
            sink_count(s, c, &answers, id, id_length);
        } else {
            const char *end = memchr(from, '\n', length - used);
            if (!end)
                break;
            used += (size_t)(end - from) + 1;
            obey(s, c, from, (size_t)(end - from));
        }
    }
    return (long)used;
}

const sink_protocol sink_smtp = {"220 sink ESMTP\r\n", feed};
