/* mail.c — a reader of mails for showing them: header fields, encoded words, MIME parts.
 *
 * It works on spans of the mail and copies only what it decodes. Whatever a mail does wrong, it is
 * read as far as it makes sense: a reader of foreign mail has nothing to refuse. Depth of
 * multiparts and number of parts are bounded.
 */
#include "runtime/cli/mail.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX    8
#define BOUNDARY_MAX 200 /* RFC 2046 allows 70 */

/* ---------------------------------------------------------------- header fields */

/* The length of the line at the start of `rest`, its end included. */
static size_t line_length(mail_span rest) {
    const char *newline = memchr(rest.at, '\n', rest.length);
    return newline ? (size_t)(newline - rest.at) + 1 : rest.length;
}

static void skip(mail_span *span, size_t length) {
    span->at += length;
    span->length -= length;
}

static bool is_blank(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static mail_span trimmed(mail_span span) {
    while (span.length && is_blank(span.at[0]))
        skip(&span, 1);
    while (span.length && is_blank(span.at[span.length - 1]))
        span.length--;
    return span;
}

static bool is_empty_line(mail_span line) {
    return trimmed(line).length == 0;
}

bool mail_next_field(mail_span *rest, mail_span *name, mail_span *value) {
    while (rest->length) {
        mail_span field = {rest->at, line_length(*rest)};
        skip(rest, field.length);
        if (is_empty_line(field))
            return false;
        while (rest->length && (rest->at[0] == ' ' || rest->at[0] == '\t') &&
               !is_empty_line((mail_span){rest->at, line_length(*rest)})) {
            size_t more = line_length(*rest);
            field.length += more;
            skip(rest, more);
        }
        const char *colon = memchr(field.at, ':', field.length);
        if (!colon)
            continue; /* not a field: passed over */
        *name = trimmed((mail_span){field.at, (size_t)(colon - field.at)});
        *value = trimmed((mail_span){colon + 1, field.length - (size_t)(colon - field.at) - 1});
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------- decoding */

static int base64_digit(unsigned char byte) {
    if (byte >= 'A' && byte <= 'Z')
        return byte - 'A';
    if (byte >= 'a' && byte <= 'z')
        return byte - 'a' + 26;
    if (byte >= '0' && byte <= '9')
        return byte - '0' + 52;
    return byte == '+' ? 62 : byte == '/' ? 63 : -1;
}

static size_t decode_base64(mail_span text, char *to) {
    size_t length = 0;
    uint32_t bits = 0;
    int count = 0;
    for (size_t i = 0; i < text.length && text.at[i] != '='; i++) {
        int digit = base64_digit((unsigned char)text.at[i]);
        if (digit < 0)
            continue;
        bits = (bits << 6 | (uint32_t)digit) & 0xFFFFFF;
        count += 6;
        if (count >= 8) {
            count -= 8;
            to[length++] = (char)(bits >> count & 0xFF);
        }
    }
    return length;
}

static int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Quoted-printable; in an encoded word "_" is a space. */
static size_t decode_quoted(mail_span text, bool word, char *to) {
    size_t length = 0;
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.at[i];
        size_t left = text.length - i;
        if (byte == '=' && left > 2 && hex_digit(text.at[i + 1]) >= 0 &&
            hex_digit(text.at[i + 2]) >= 0) {
            to[length++] = (char)(hex_digit(text.at[i + 1]) << 4 | hex_digit(text.at[i + 2]));
            i += 2;
        } else if (byte == '=' && left > 1 && text.at[i + 1] == '\n') {
            i += 1;
        } else if (byte == '=' && left > 2 && text.at[i + 1] == '\r' && text.at[i + 2] == '\n') {
            i += 2;
        } else {
            to[length++] = word && byte == '_' ? ' ' : byte;
        }
    }
    return length;
}

/* Decodes the encoded word at the start of `rest` to `to`. Returns the length of the word in the
 * mail, 0 when there is none that we can read. */
static size_t decode_word(mail_span rest, char *to, size_t *length) {
    if (rest.length < 8 || memcmp(rest.at, "=?", 2) != 0)
        return 0;
    const char *end = rest.at + rest.length;
    const char *charset = rest.at + 2;
    const char *mode = memchr(charset, '?', (size_t)(end - charset));
    if (!mode || end - mode < 4 || mode[2] != '?')
        return 0;
    const char *text = mode + 3;
    const char *stop = text;
    while (stop + 1 < end && !(stop[0] == '?' && stop[1] == '='))
        stop++;
    if (stop + 1 >= end)
        return 0;
    size_t charset_length = (size_t)(mode - charset);
    bool known = (charset_length == 5 && strncasecmp(charset, "utf-8", 5) == 0) ||
                 (charset_length == 8 && strncasecmp(charset, "us-ascii", 8) == 0);
    mail_span body = {text, (size_t)(stop - text)};
    char kind = (char)(mode[1] | 0x20);
    if (!known || (kind != 'b' && kind != 'q'))
        return 0;
    *length = kind == 'b' ? decode_base64(body, to) : decode_quoted(body, true, to);
    return (size_t)(stop + 2 - rest.at);
}

char *mail_field_text(mail_span value, bool decode) {
    char *text = malloc(value.length + 1);
    size_t length = 0, after_word = 0;
    if (!text)
        return NULL;
    while (value.length) {
        size_t decoded = 0;
        size_t word = decode ? decode_word(value, text + length, &decoded) : 0;
        if (word) {
            if (after_word) { /* the space between two encoded words is not part of the text */
                memmove(text + after_word, text + length, decoded);
                length = after_word;
            }
            length += decoded;
            after_word = length;
            skip(&value, word);
            continue;
        }
        char byte = value.at[0];
        if (!is_blank(byte))
            after_word = 0;
        if (byte != '\r' && byte != '\n')
            text[length++] = byte == '\t' ? ' ' : byte;
        skip(&value, 1);
    }
    text[length] = '\0';
    return text;
}

/* ------------------------------------------------------------------ MIME parts */

static bool named(mail_span name, const char *wanted) {
    return name.length == strlen(wanted) && strncasecmp(name.at, wanted, name.length) == 0;
}

static void copy(char *to, size_t room, mail_span from) {
    size_t length = from.length < room - 1 ? from.length : room - 1;
    memcpy(to, from.at, length);
    to[length] = '\0';
}

/* Finds `; key=value` or `; key="value"` in a structured field. */
static bool parameter(mail_span value, const char *key, mail_span *found) {
    size_t key_length = strlen(key);
    bool quoted = false;
    for (size_t i = 0; i < value.length; i++) {
        if (value.at[i] == '"')
            quoted = !quoted;
        if (quoted || value.at[i] != ';')
            continue;
        mail_span rest = trimmed((mail_span){value.at + i + 1, value.length - i - 1});
        if (rest.length <= key_length || strncasecmp(rest.at, key, key_length) != 0 ||
            rest.at[key_length] != '=')
            continue;
        skip(&rest, key_length + 1);
        bool in_quotes = rest.length && rest.at[0] == '"';
        if (in_quotes)
            skip(&rest, 1);
        size_t length = 0;
        while (length < rest.length &&
               (in_quotes ? rest.at[length] != '"'
                          : rest.at[length] != ';' && !is_blank(rest.at[length])))
            length++;
        *found = (mail_span){rest.at, length};
        return true;
    }
    return false;
}

typedef struct reader {
    mail_part *parts;
    size_t room, count;
} reader;

static void read_entity(reader *state, mail_span entity, int depth);

/* Cuts a multipart's body at its boundary lines. */
static void read_multipart(reader *state, mail_span body, const char *boundary, int depth) {
    size_t length = strlen(boundary);
    const char *start = NULL; /* of the part that is being read */
    while (body.length) {
        mail_span line = {body.at, line_length(body)};
        skip(&body, line.length);
        if (line.length < length + 2 || memcmp(line.at, "--", 2) != 0 ||
            memcmp(line.at + 2, boundary, length) != 0)
            continue;
        if (start)
            read_entity(state, (mail_span){start, (size_t)(line.at - start)}, depth + 1);
        start = line.at + line.length;
        mail_span tail = {line.at + 2 + length, line.length - 2 - length};
        if (tail.length >= 2 && memcmp(tail.at, "--", 2) == 0)
            return;
    }
    if (start)
        read_entity(state, (mail_span){start, (size_t)(body.at - start)}, depth + 1);
}

static void read_entity(reader *state, mail_span entity, int depth) {
    mail_part part = {.type = "text/plain"};
    char boundary[BOUNDARY_MAX + 1] = "";
    mail_span name, value, found;

    while (mail_next_field(&entity, &name, &value)) {
        if (named(name, "content-type")) {
            size_t length = 0;
            while (length < value.length && value.at[length] != ';' && !is_blank(value.at[length]))
                length++;
            copy(part.type, sizeof part.type, (mail_span){value.at, length});
            if (parameter(value, "boundary", &found))
                copy(boundary, sizeof boundary, found);
            if (!*part.name && parameter(value, "name", &found))
                copy(part.name, sizeof part.name, found);
        } else if (named(name, "content-disposition")) {
            if (parameter(value, "filename", &found))
                copy(part.name, sizeof part.name, found);
        } else if (named(name, "content-transfer-encoding")) {
            if (named(value, "base64"))
                part.encoding = MAIL_BASE64;
            else if (named(value, "quoted-printable"))
                part.encoding = MAIL_QUOTED;
        }
    }
    if (strncasecmp(part.type, "multipart/", 10) == 0 && *boundary && depth < DEPTH_MAX) {
        read_multipart(state, entity, boundary, depth);
        return;
    }
    part.body = entity;
    if (state->count < state->room)
        state->parts[state->count] = part;
    state->count++;
}

size_t mail_parts(mail_span mail, mail_part *parts, size_t room) {
    reader state = {.parts = parts, .room = room};
    read_entity(&state, mail, 0);
    return state.count;
}

char *mail_part_bytes(const mail_part *part, size_t *length) {
    char *bytes = malloc(part->body.length + 1);
    if (!bytes)
        return NULL;
    switch (part->encoding) {
    case MAIL_BASE64:
        *length = decode_base64(part->body, bytes);
        break;
    case MAIL_QUOTED:
        *length = decode_quoted(part->body, false, bytes);
        break;
    case MAIL_IDENTITY:
        memcpy(bytes, part->body.at, part->body.length);
        *length = part->body.length;
        break;
    }
    bytes[*length] = '\0';
    return bytes;
}
