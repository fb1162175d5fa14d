/* Reads the conversation of one mail off the wire, as libcurl shows it: commands through its debug
 * function, lines of replies through its header function, in the order of the wire and never
 * pipelined; so each reply belongs to the last command. Thread: the worker's. init → (begin →
 * command/line … → clear) … → term. Costs a copy of each reply's text, REPLY_MAX bytes at most.
 */
#include "platforms/transports/smtp_talk.h"

#include <stdlib.h>
#include <string.h>

enum { REPLY_MAX = 500 }; /* bytes kept of one reply's text */

void nh_smtp_talk_init(nh_smtp_talk *talk, size_t most) {
    *talk = (nh_smtp_talk){.phase = NH_SMTP_GREETING};
    nh_text_init(&talk->said, most);
}

void nh_smtp_talk_term(nh_smtp_talk *talk) {
    nh_smtp_talk_clear(talk);
    nh_text_term(&talk->said);
}

bool nh_smtp_talk_begin(nh_smtp_talk *talk, size_t recipients, bool wants_login) {
    talk->recipients = recipients;
    talk->wants_login = wants_login;
    talk->replies = calloc(recipients, sizeof *talk->replies);
    return talk->replies != NULL;
}

void nh_smtp_talk_clear(nh_smtp_talk *talk) {
    nh_text said = talk->said;
    free(talk->replies);
    *talk = (nh_smtp_talk){.phase = NH_SMTP_GREETING, .said = said};
    nh_text_clear(&talk->said);
}

bool nh_smtp_refuses(nh_smtp_reply reply) {
    return reply.code >= 400;
}

nh_span nh_smtp_talk_text(const nh_smtp_talk *talk, nh_smtp_reply reply) {
    return (nh_span){reply.length ? talk->said.bytes + reply.at : "", reply.length};
}

/* Only commands of fixed words are looked for; the rest (EHLO, the base64 of an authentication)
 * leaves the phase as it is. */
bool nh_smtp_talk_command(nh_smtp_talk *talk, const char *bytes, size_t length) {
    static const struct {
        const char *word;
        nh_smtp_phase phase;
    } commands[] = {
        {"AUTH ", NH_SMTP_AUTH},
        {"MAIL FROM:", NH_SMTP_MAIL},
        {"RCPT TO:", NH_SMTP_RCPT},
        {"DATA\r\n", NH_SMTP_DATA},
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        size_t word = strlen(commands[i].word);
        if (length < word || memcmp(bytes, commands[i].word, word) != 0)
            continue;
        if (commands[i].phase == NH_SMTP_MAIL && talk->greeted && talk->phase == NH_SMTP_GREETING)
            talk->no_login = talk->wants_login;
        talk->phase = commands[i].phase;
    }
    if (length < 6 || memcmp(bytes, "QUIT\r\n", 6) != 0)
        return false;
    talk->quitting = true;
    return true;
}

/* A whole reply has come. */
static void on_reply(nh_smtp_talk *talk, nh_smtp_reply what) {
    switch (talk->phase) {
    case NH_SMTP_GREETING:
        talk->greeted = true;
        break;
    case NH_SMTP_AUTH:
        break;
    case NH_SMTP_MAIL:
        if (nh_smtp_refuses(what))
            talk->decision = what;
        break;
    case NH_SMTP_RCPT:
        if (talk->replied < talk->recipients)
            talk->replies[talk->replied++] = what;
        break;
    case NH_SMTP_DATA:
        if (what.code == 354)
            talk->phase = NH_SMTP_BODY;
        else
            talk->decision = what;
        break;
    case NH_SMTP_BODY:
        talk->decision = what;
        break;
    }
    talk->last = what;
}

/* "250-text" or, the last, "250 text". */
bool nh_smtp_talk_line(nh_smtp_talk *talk, const char *bytes, size_t length) {
    while (length > 0 && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r'))
        length--;
    if (length < 3 || talk->quitting)
        return true;
    if (talk->no_login)
        return false; /* before anybody is named */
    nh_text *said = &talk->said;
    if (said->length > talk->line_at)
        nh_text_putc(said, ' ');
    for (size_t i = 4; i < length && said->length - talk->line_at < REPLY_MAX; i++)
        nh_text_putc(said, (unsigned char)bytes[i] < 0x20 || bytes[i] == 0x7F ? '?' : bytes[i]);
    if (said->failed)
        return false;
    if (length > 3 && bytes[3] == '-')
        return true;
    int code = 0;
    for (size_t i = 0; i < 3; i++)
        code = bytes[i] >= '0' && bytes[i] <= '9' ? code * 10 + bytes[i] - '0' : 0;
    on_reply(talk, (nh_smtp_reply){code, talk->line_at, said->length - talk->line_at});
    talk->line_at = said->length;
    return true;
}
