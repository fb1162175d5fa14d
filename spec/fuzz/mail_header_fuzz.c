/* mail_header_fuzz.c — the value of a header: its line holds the value and nothing else. Lines end
 * only where they are folded, no line is too long, all of it is ASCII, and who decodes it reads the
 * value. */
#include "platforms/transports/mail_header.h"
#include "spec/fuzz/fuzz.h"

enum { LINE_MOST = 998, WORD_MOST = 75 };

/* As request.c lets values in: UTF-8 without control characters. */
static bool may_come(fuzz_part part) {
    return nh_utf8_valid(part.bytes, part.length) &&
           nh_control_at(part.bytes, part.length) == part.length;
}

/* Every CR and LF belongs to a fold: CRLF with a space behind it and something on the new line. */
static void must_be_one_header(const char *text, size_t length) {
    size_t column = 0;
    for (size_t i = 0; i < length; i++, column++) {
        MUST(text[i] != '\0' && text[i] != '\n');
        if (text[i] != '\r')
            continue;
        MUST(i + 2 < length && text[i + 1] == '\n' && text[i + 2] == ' ');
        MUST(column <= LINE_MOST);
        i += 2;
        column = 1;
    }
}

static void must_be_ascii(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        MUST((unsigned char)text[i] < 0x7F);
}

/* ---------------------------------------------------------------- decoding */

static int digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    MUST(at);
    return (int)(at - digits);
}

static int hex(char c) {
    MUST((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* What is between =?UTF-8?X? and ?= of one encoded word; returns the length of what it decodes to.
 */
static size_t decode_word(const char *at, const char *end, bool q, char *to) {
    size_t count = 0;
    unsigned bits = 0, have = 0;
    for (; at < end && !(at[0] == '=' && !q); at++) {
        if (q) {
            bool escaped = *at == '=';
            to[count++] = (char)(escaped ? hex(at[1]) << 4 | hex(at[2]) : *at == '_' ? ' ' : *at);
            at += escaped ? 2 : 0;
            continue;
        }
        bits = bits << 6 | (unsigned)digit(*at);
        have += 6;
        if (have >= 8)
            to[count++] = (char)(bits >> (have -= 8) & 0xFF);
    }
    return count;
}

/* Unfolds and decodes as RFC 2047 says: blanks between two encoded words are none. Returns owned.
 */
static char *decode(const char *text, size_t length, size_t *decoded) {
    char *to = malloc(length + 1);
    MUST(to);
    size_t count = 0, after_word = SIZE_MAX;
    for (const char *at = text, *stop = text + length; at < stop;) {
        const char *mark = stop - at > 12 && memcmp(at, "=?UTF-8?", 8) == 0 ? at + 10 : NULL;
        const char *end = mark && at[9] == '?' ? strstr(mark, "?=") : NULL;
        if (end) {
            MUST(end + 2 - at <= WORD_MOST);
            count = after_word != SIZE_MAX ? after_word : count;
            size_t made = decode_word(mark, end, at[8] == 'Q', to + count);
            MUST(nh_utf8_valid(to + count, made)); /* whole characters */
            count += made;
            after_word = count;
            at = end + 2;
            continue;
        }
        if (*at != ' ' && *at != '\r' && *at != '\n')
            after_word = SIZE_MAX;
        if (*at != '\r' && *at != '\n')
            to[count++] = *at;
        at++;
    }
    *decoded = count;
    return to;
}

/* --------------------------------------------------------------- properties */

static fuzz_part trim(fuzz_part part) {
    while (part.length > 0 && *part.bytes == ' ')
        part.bytes++, part.length--;
    while (part.length > 0 && part.bytes[part.length - 1] == ' ')
        part.length--;
    return part;
}

static void subject(fuzz_part value) {
    nh_text out;
    size_t length;
    nh_text_init(&out, SIZE_MAX);
    nh_mail_header_put(&out, (nh_span){"Subject", 7}, (nh_span){value.bytes, value.length});
    const char *text = nh_text_string(&out);
    MUST(text && out.length >= 9 && memcmp(text, "Subject: ", 9) == 0);
    must_be_one_header(text, out.length);
    must_be_ascii(text, out.length);
    char *decoded = decode(text + 9, out.length - 9, &length);
    fuzz_part wanted = trim(value);
    MUST(length == wanted.length && memcmp(decoded, wanted.bytes, length) == 0);
    free(decoded);
    nh_text_term(&out);
}

/* Of addresses only the display names are encoded; SMTPUTF8 is for the rest. */
static void addresses(fuzz_part value) {
    nh_text out;
    nh_text_init(&out, SIZE_MAX);
    nh_mail_header_put(&out, (nh_span){"To", 2}, (nh_span){value.bytes, value.length});
    const char *text = nh_text_string(&out);
    MUST(text);
    must_be_one_header(text, value.length <= LINE_MOST / 2 ? out.length : 0);
    nh_text_term(&out);
}

/* ";\r\n name=…" whose quotes are closed at the end and nowhere before. */
static void parameters(fuzz_part value) {
    nh_text out;
    nh_text_init(&out, SIZE_MAX);
    nh_mail_param_put(&out, "filename", (nh_span){value.bytes, value.length});
    nh_mail_param_put_words(&out, "name", (nh_span){value.bytes, value.length});
    const char *text = nh_text_string(&out);
    MUST(text);
    must_be_one_header(text, out.length);
    must_be_ascii(text, out.length);
    bool quoted = false;
    for (const char *at = text; *at; at++) {
        if (quoted && *at == '\\' && at[1])
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else
            MUST(quoted || *at != ';' || at[1] == '\r');
    }
    MUST(!quoted);
    nh_text_term(&out);
}

/* A body's lines end with CRLF and nothing else; what is called 7bit is. */
static void body(fuzz_part value) {
    nh_text out;
    nh_text_init(&out, SIZE_MAX);
    nh_mail_lines_put(&out, (nh_span){value.bytes, value.length});
    const char *text = nh_text_string(&out);
    MUST(text);
    for (size_t i = 0; i < out.length; i++) {
        MUST(text[i] != '\n' || (i > 0 && text[i - 1] == '\r'));
        MUST(text[i] != '\r' || text[i + 1] == '\n');
    }
    const char *encoding = nh_mail_encoding((nh_span){text, out.length});
    if (strcmp(encoding, "7bit") == 0)
        must_be_ascii(text, out.length);
    else
        MUST(strcmp(encoding, "base64") == 0 || strcmp(encoding, "quoted-printable") == 0);
    nh_text_term(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_part all = {(const char *)data, size};
    char *text = fuzz_string(all); /* of its own size: a sanitizer sees what is read beyond */
    fuzz_part value = {text, size};
    body(value);
    if (may_come(value)) {
        subject(value);
        addresses(value);
        parameters(value);
    }
    free(text);
    return 0;
}
