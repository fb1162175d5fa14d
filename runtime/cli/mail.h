/* mail.h — reads as much of a mail (RFC 5322, MIME) as a receiver shows: its header fields, and
 * what its parts are. */
#ifndef NH_CLI_MAIL_H
#define NH_CLI_MAIL_H

#include <stdbool.h>
#include <stddef.h>

/* A run of bytes in somebody else's memory. */
typedef struct mail_span {
    const char *at;
    size_t length;
} mail_span;

/* Takes the next header field from `rest` (which moves past it): false at the end of the header,
 * where `rest` is the body. A folded value keeps its line breaks. */
bool mail_next_field(mail_span *rest, mail_span *name, mail_span *value);

/* Writes a field's value on one line: unfolded, and with `decode`, its encoded words (RFC 2047) in
 * UTF-8 and us-ascii decoded. Owned by the caller, freed with free; NULL when out of memory. */
char *mail_field_text(mail_span value, bool decode);

/* A part that is no multipart itself. */
typedef struct mail_part {
    char type[64];  /* "text/plain" when it names none */
    char name[96];  /* the file's, "" when it has none */
    mail_span body; /* as it was sent */
    enum { MAIL_IDENTITY, MAIL_BASE64, MAIL_QUOTED } encoding;
} mail_part;

/* Fills up to `room` parts in the order of the mail, however deep; returns how many there are. */
size_t mail_parts(mail_span mail, mail_part *parts, size_t room);

/* Undoes the part's transfer encoding. Owned by the caller, freed with free; NULL when out of
 * memory. */
char *mail_part_bytes(const mail_part *part, size_t *length);

#endif
