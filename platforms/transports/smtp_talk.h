/* smtp_talk.h — what client and server say to each other about one mail.
 */
#ifndef NH_TRANSPORTS_SMTP_TALK_H
#define NH_TRANSPORTS_SMTP_TALK_H

#include "platforms/transports/text.h"

/* Which command the server answers at the moment. */
typedef enum nh_smtp_phase {
    NH_SMTP_GREETING,
    NH_SMTP_AUTH,
    NH_SMTP_MAIL,
    NH_SMTP_RCPT,
    NH_SMTP_DATA,
    NH_SMTP_BODY,
} nh_smtp_phase;

typedef struct nh_smtp_reply {
    int code;          /* 0: none yet */
    size_t at, length; /* its text in `said` */
} nh_smtp_reply;

typedef struct nh_smtp_talk {
    nh_smtp_phase phase;
    bool wants_login;
    bool greeted;                 /* the connection is a new one */
    bool no_login;                /* libcurl goes on without the login that was asked for */
    bool quitting;                /* QUIT was said: what comes now is not about the mail */
    nh_text said;                 /* texts of replies, one after the other */
    size_t line_at;               /* where the text of the reply that is coming begins in `said` */
    nh_smtp_reply last, decision; /* decision: of MAIL when it failed, or of the mail's content */
    nh_smtp_reply *replies;       /* one a recipient */
    size_t replied, recipients;
} nh_smtp_talk;

/* `most` bounds the bytes kept of all replies. */
void nh_smtp_talk_init(nh_smtp_talk *talk, size_t most);
void nh_smtp_talk_term(nh_smtp_talk *talk);
/* Begins a try for this many recipients. False when out of memory. */
bool nh_smtp_talk_begin(nh_smtp_talk *talk, size_t recipients, bool wants_login);
/* Ends a try: forgets all that was said. */
void nh_smtp_talk_clear(nh_smtp_talk *talk);

/* What libcurl sends, a command or the mail's lines. Returns true when it is QUIT. */
bool nh_smtp_talk_command(nh_smtp_talk *talk, const char *bytes, size_t length);
/* A line that came, with its end. Returns false when the transfer has to end here. */
bool nh_smtp_talk_line(nh_smtp_talk *talk, const char *bytes, size_t length);

bool nh_smtp_refuses(nh_smtp_reply reply);
/* The text of a reply: borrowed, until the next line. */
nh_span nh_smtp_talk_text(const nh_smtp_talk *talk, nh_smtp_reply reply);

#endif
