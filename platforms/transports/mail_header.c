/* Header lines of a mail. Pure functions over a text, any thread; linear in the length of the
 * value.
 *
 * A line is composed left to right from pieces with a break allowed before each: `space_put` begins
 * a new line (CRLF and a space) when a piece does not fit. Lines keep to 78 columns, those with
 * encoded words to 76, encoded words to 75 (RFC 5322 2.1.1, RFC 2047 2). An encoded word holds
 * whole characters only, and is B or Q, whichever makes the value shorter. Q uses the alphabet that
 * is legal everywhere, display names included (RFC 2047 5.3).
 */
#include "platforms/transports/mail_header.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    COLUMNS = 78,
    COLUMNS_ENCODED = 76,
    WORD_MAX = 75,
    WORD_FRAME = 12, /* =?UTF-8?B?…?= */
    WORD_LEAST = 24, /* less room than this on a line is not worth a word */
    PLAIN_MAX = 900, /* a longer word must be encoded: lines end at 998 */
    PARAM_PIECE = 60,
};

typedef struct line {
    nh_text *out;
    size_t column;
    size_t least; /* nothing but the header's name or a fold's space stands before this column */
} line;

static void raw_put(line *to, const char *bytes, size_t length) {
    nh_text_put(to->out, bytes, length);
    to->column += length;
}

/* Puts the white space before a piece of this length, with a line break before it when the piece
 * would not fit. A line that holds nothing yet is not broken: a header's first line with only its
 * name is legal, but some readers take it for empty. */
static void space_put(line *to, nh_span space, size_t length, size_t columns) {
    if (to->column > to->least && to->column + space.length + length > columns) {
        nh_text_puts(to->out, "\r\n");
        to->column = 0;
        if (space.length == 0)
            space = (nh_span){" ", 1};
        to->least = space.length;
    }
    raw_put(to, space.bytes, space.length);
}

static void line_put(line *to, nh_span space, nh_span piece) {
    space_put(to, space, piece.length, COLUMNS);
    raw_put(to, piece.bytes, piece.length);
}

/* ---------------------------------------------------------- encoded words */

/* Bytes of the character that begins here; 1 for a byte that begins none. */
static size_t character_at(nh_span text, size_t at) {
    unsigned char lead = (unsigned char)text.bytes[at];
    size_t length = lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
    if (length > text.length - at)
        return 1;
    for (size_t i = 1; i < length; i++)
        if (((unsigned char)text.bytes[at + i] & 0xC0) != 0x80)
            return 1;
    return length;
}

static bool is_alnum(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_q_literal(unsigned char c) {
    return is_alnum(c) || c == ' ' || c == '!' || c == '*' || c == '+' || c == '-' || c == '/';
}

static size_t q_length(nh_span text) {
    size_t length = 0;
    for (size_t i = 0; i < text.length; i++)
        length += is_q_literal((unsigned char)text.bytes[i]) ? 1 : 3;
    return length;
}

static void put_q(nh_text *out, nh_span text) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        if (c == ' ')
            nh_text_putc(out, '_');
        else if (is_q_literal(c))
            nh_text_putc(out, (char)c);
        else
            nh_text_put(out, (char[]){'=', hex[c >> 4], hex[c & 15]}, 3);
    }
}

static void put_b(nh_text *out, nh_span text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < text.length; i += 3) {
        size_t left = text.length - i;
        uint32_t group = (uint32_t)(unsigned char)text.bytes[i] << 16;
        group |= left > 1 ? (uint32_t)(unsigned char)text.bytes[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)(unsigned char)text.bytes[i + 2] : 0;
        nh_text_put(out,
                    (char[]){digits[group >> 18], digits[(group >> 12) & 63],
                             left > 1 ? digits[(group >> 6) & 63] : '=',
                             left > 2 ? digits[group & 63] : '='},
                    4);
    }
}

static size_t b_length(size_t bytes) {
    return (bytes + 2) / 3 * 4;
}

/* Puts a text as encoded words, `space` before the first. Breaks between words vanish when they
 * are decoded, so it may break anywhere between characters. */
static void words_put(line *to, nh_span space, nh_span text) {
    bool q = q_length(text) <= b_length(text.length);
    size_t at = 0;
    while (at < text.length) {
        space_put(to, space, WORD_LEAST, COLUMNS_ENCODED);
        size_t room = to->column < COLUMNS_ENCODED ? COLUMNS_ENCODED - to->column : 0;
        room = room > WORD_MAX ? WORD_MAX : room;
        room = room > WORD_FRAME ? room - WORD_FRAME : 0;
        nh_span word = {text.bytes + at, 0};
        while (at < text.length) {
            nh_span longer = {word.bytes, word.length + character_at(text, at)};
            size_t cost = q ? q_length(longer) : b_length(longer.length);
            if (cost > room && word.length > 0)
                break;
            at += longer.length - word.length;
            word = longer;
        }
        size_t before = to->out->length;
        nh_text_puts(to->out, q ? "=?UTF-8?Q?" : "=?UTF-8?B?");
        (q ? put_q : put_b)(to->out, word);
        nh_text_puts(to->out, "?=");
        to->column += to->out->length - before;
        space = (nh_span){" ", 1};
    }
}

/* ------------------------------------------------------- unstructured text */

static bool is_plain(nh_span text) {
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.bytes[i] < 0x20 || (unsigned char)text.bytes[i] > 0x7E)
            return false;
    return true;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static nh_span trim(nh_span text) {
    while (text.length > 0 && is_blank(*text.bytes))
        text.bytes++, text.length--;
    while (text.length > 0 && is_blank(text.bytes[text.length - 1]))
        text.length--;
    return text;
}

/* A word, and the white space before it. */
typedef struct token {
    nh_span space, word;
} token;

static bool next_token(nh_span *rest, token *out) {
    size_t space = 0, word = 0;
    while (space < rest->length && is_blank(rest->bytes[space]))
        space++;
    while (space + word < rest->length && !is_blank(rest->bytes[space + word]))
        word++;
    *out = (token){{rest->bytes, space}, {rest->bytes + space, word}};
    rest->bytes += space + word;
    rest->length -= space + word;
    return word > 0;
}

/* What looks encoded would be read as such; by some readers in the middle of a word, too. */
static bool needs_encoding(nh_span word) {
    return !is_plain(word) || word.length > PLAIN_MAX ||
           (word.length > 1 && memmem(word.bytes, word.length, "=?", 2));
}

/* Plain words as they are; all between the first and the last that is not, encoded in one run. */
static void text_put(line *to, nh_span text) {
    nh_span rest = text;
    const char *first = NULL, *last = NULL;
    token each;
    while (next_token(&rest, &each)) {
        if (needs_encoding(each.word)) {
            first = first ? first : each.word.bytes;
            last = each.word.bytes + each.word.length;
        }
    }
    rest = text;
    while (next_token(&rest, &each)) {
        if (each.word.bytes != first) {
            line_put(to, each.space, each.word);
            continue;
        }
        words_put(to, each.space, (nh_span){first, (size_t)(last - first)});
        rest = (nh_span){last, (size_t)(text.bytes + text.length - last)};
    }
}

/* ---------------------------------------------------------------- addresses */

/* The end of the address that begins at `at`: the next comma outside of quotes, comments and angle
 * brackets. */
static size_t address_end(nh_span list, size_t at) {
    bool quoted = false, angled = false;
    size_t comments = 0;
    for (; at < list.length; at++) {
        char c = list.bytes[at];
        if (c == '\\' && (quoted || comments) && at + 1 < list.length)
            at++;
        else if (c == '"' && !comments)
            quoted = !quoted;
        else if (quoted)
            continue;
        else if (c == '(')
            comments++;
        else if (c == ')' && comments)
            comments--;
        else if (comments)
            continue;
        else if (c == '<' || c == '>')
            angled = c == '<';
        else if (c == ',' && !angled)
            break;
    }
    return at;
}

/* A display name without its quotes. */
static void unquote(nh_text *out, nh_span name) {
    bool quoted = name.length >= 2 && name.bytes[0] == '"' && name.bytes[name.length - 1] == '"';
    if (!quoted) {
        nh_text_put(out, name.bytes, name.length);
        return;
    }
    for (size_t i = 1; i + 1 < name.length; i++) {
        if (name.bytes[i] == '\\' && i + 2 < name.length)
            i++;
        nh_text_putc(out, name.bytes[i]);
    }
}

static bool is_atoms(nh_span name) {
    for (size_t i = 0; i < name.length; i++) {
        char c = name.bytes[i];
        if (!is_alnum((unsigned char)c) && !strchr("!#$%&'*+-/=?^_`{|}~ ", c))
            return false;
    }
    return name.length > 0;
}

static void name_put(line *to, nh_span space, nh_span name) {
    nh_text plain, quoted;
    nh_text_init(&plain, SIZE_MAX);
    nh_text_init(&quoted, SIZE_MAX);
    unquote(&plain, name);
    nh_span words = {plain.bytes, plain.length};
    if (needs_encoding(words)) {
        words_put(to, space, words);
    } else {
        if (!is_atoms(words)) {
            nh_text_putc(&quoted, '"');
            for (size_t i = 0; i < words.length; i++) {
                if (words.bytes[i] == '"' || words.bytes[i] == '\\')
                    nh_text_putc(&quoted, '\\');
                nh_text_putc(&quoted, words.bytes[i]);
            }
            nh_text_putc(&quoted, '"');
            words = (nh_span){quoted.bytes, quoted.length};
        }
        token each;
        for (nh_span rest = words; next_token(&rest, &each);)
            line_put(to, each.word.bytes == words.bytes ? space : each.space, each.word);
    }
    if (plain.failed || quoted.failed)
        to->out->failed = true;
    nh_text_term(&plain);
    nh_text_term(&quoted);
}

/* `comma` tells that another address follows. */
static void address_put(line *to, nh_span space, nh_span address, bool comma) {
    const char *angle = NULL;
    if (address.bytes[address.length - 1] == '>')
        for (size_t i = address.length; i-- > 0 && !angle;)
            angle = address.bytes[i] == '<' ? address.bytes + i : NULL;
    if (angle && angle > address.bytes) {
        nh_span name = trim((nh_span){address.bytes, (size_t)(angle - address.bytes)});
        if (name.length > 0) {
            name_put(to, space, name);
            space = (nh_span){" ", 1};
        }
        address.length -= (size_t)(angle - address.bytes);
        address.bytes = angle;
    }
    space_put(to, space, address.length + comma, COLUMNS);
    raw_put(to, address.bytes, address.length);
    if (comma)
        raw_put(to, ",", 1);
}

static void addresses_put(line *to, nh_span list) {
    nh_span space = {" ", 1};
    for (size_t at = 0; at < list.length;) {
        size_t end = address_end(list, at);
        nh_span address = trim((nh_span){list.bytes + at, end - at});
        nh_span rest = {list.bytes + end, list.length - end};
        while (rest.length > 0 && (is_blank(*rest.bytes) || *rest.bytes == ','))
            rest.bytes++, rest.length--;
        if (address.length > 0)
            address_put(to, space, address, rest.length > 0);
        at = (size_t)(rest.bytes - list.bytes);
    }
}

/* ------------------------------------------------------------------ headers */

static bool is_address_header(nh_span name) {
    static const char *const names[] = {
        "From",        "To",
        "Cc",          "Bcc",
        "Reply-To",    "Sender",
        "Resent-To",   "Resent-Cc",
        "Resent-From", "Disposition-Notification-To",
        "Errors-To",   "Return-Receipt-To",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (nh_span_is(name, names[i]))
            return true;
    return false;
}

/* Most are one line with nothing to be encoded: plain words, or an address alone. */
static bool is_line(nh_span name, nh_span value, bool addresses) {
    if (value.length == 0 || name.length + 2 + value.length > COLUMNS)
        return false;
    for (size_t i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.bytes[i];
        bool fine =
            addresses ? is_alnum(c) || c == '@' || c == '.' || c == '-' || c == '_'
                      : c >= 0x20 && c <= 0x7E && !(c == '?' && i > 0 && value.bytes[i - 1] == '=');
        if (!fine)
            return false;
    }
    return true;
}

void nh_mail_header_put(nh_text *out, nh_span name, nh_span value) {
    line to = {out, 0, name.length + 2};
    bool addresses = is_address_header(name);
    raw_put(&to, name.bytes, name.length);
    raw_put(&to, ":", 1);
    value = trim(value);
    if (is_line(name, value, addresses)) {
        raw_put(&to, " ", 1);
        raw_put(&to, value.bytes, value.length);
    } else if (addresses) {
        addresses_put(&to, value);
    } else {
        raw_put(&to, " ", 1);
        text_put(&to, value);
    }
}

/* --------------------------------------------------------------- parameters */

static bool is_attribute(unsigned char c) {
    return is_alnum(c) || (c && strchr("!#$&+-.^_`{|}~", c));
}

static void param_begin(nh_text *out, const char *name) {
    nh_text_puts(out, ";\r\n ");
    nh_text_puts(out, name);
}

static void put_percent(nh_text *out, nh_span piece) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < piece.length; i++) {
        unsigned char c = (unsigned char)piece.bytes[i];
        if (is_attribute(c))
            nh_text_putc(out, (char)c);
        else
            nh_text_put(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

static size_t percent_length(nh_span piece) {
    size_t length = 0;
    for (size_t i = 0; i < piece.length; i++)
        length += is_attribute((unsigned char)piece.bytes[i]) ? 1 : 3;
    return length;
}

void nh_mail_param_put(nh_text *out, const char *name, nh_span value) {
    if (is_plain(value) && value.length <= PARAM_PIECE) {
        param_begin(out, name);
        nh_text_puts(out, "=\"");
        for (size_t i = 0; i < value.length; i++) {
            if (value.bytes[i] == '"' || value.bytes[i] == '\\')
                nh_text_putc(out, '\\');
            nh_text_putc(out, value.bytes[i]);
        }
        nh_text_putc(out, '"');
        return;
    }
    bool whole = percent_length(value) + strlen("UTF-8''") <= PARAM_PIECE;
    size_t at = 0;
    for (size_t number = 0; at < value.length; number++) {
        char suffix[32];
        snprintf(suffix, sizeof suffix, "*%zu", number);
        param_begin(out, name);
        nh_text_puts(out, whole ? "" : suffix);
        nh_text_puts(out, number == 0 ? "*=UTF-8''" : "*=");
        nh_span piece = {value.bytes + at, 0};
        size_t room = PARAM_PIECE - strlen("UTF-8''");
        while (at < value.length) {
            nh_span longer = {piece.bytes, piece.length + character_at(value, at)};
            if (percent_length(longer) > room && piece.length > 0)
                break;
            at += longer.length - piece.length;
            piece = longer;
        }
        put_percent(out, piece);
    }
}

void nh_mail_param_put_words(nh_text *out, const char *name, nh_span value) {
    if (is_plain(value)) {
        nh_mail_param_put(out, name, value);
        return;
    }
    param_begin(out, name);
    nh_text_puts(out, "=\"");
    line to = {out, strlen(name) + 3, strlen(name) + 3};
    words_put(&to, (nh_span){"", 0}, value);
    nh_text_putc(out, '"');
}

/* --------------------------------------------------------------------- body */

/* What ends a line at or behind `at`; the end when nothing does. */
static const char *line_end(const char *at, const char *end) {
    const char *feed = memchr(at, '\n', (size_t)(end - at));
    const char *stop = feed ? feed : end;
    const char *carriage = memchr(at, '\r', (size_t)(stop - at));
    return carriage ? carriage : stop;
}

void nh_mail_lines_put(nh_text *out, nh_span text) {
    const char *at = text.bytes, *end = text.bytes + text.length;
    while (at < end) {
        const char *stop = line_end(at, end);
        nh_text_put(out, at, (size_t)(stop - at));
        if (stop == end)
            return;
        nh_text_puts(out, "\r\n");
        at = stop + (stop[0] == '\r' && end - stop > 1 && stop[1] == '\n' ? 2 : 1);
    }
}

/* Bytes of a line that are neither plain ASCII nor a tab. Eight at once where they are plain: what
 * is below a space, or the last of them or above, sets a top bit. */
static size_t count_escaped(const char *at, const char *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    size_t count = 0;
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8) {
            memcpy(&eight, at, 8);
            if (((eight | (eight + ones) | (eight - ones * 0x20)) & tops) == 0) {
                at += 8;
                continue;
            }
        }
        for (const char *stop = end - at < 8 ? end : at + 8; at < stop; at++) {
            unsigned char c = (unsigned char)*at;
            count += c > 0x7E || (c < 0x20 && c != '\t');
        }
    }
    return count;
}

const char *nh_mail_encoding(nh_span text) {
    size_t escaped = 0, longest = 0;
    const char *at = text.bytes, *end = text.bytes + text.length;
    while (at < end) {
        const char *stop = line_end(at, end);
        size_t column = (size_t)(stop - at);
        escaped += count_escaped(at, stop);
        longest = column > longest ? column : longest;
        at = stop == end ? end : stop + 1;
    }
    if (escaped == 0 && longest <= 900)
        return "7bit";
    return 2 * escaped <= text.length / 3 ? "quoted-printable" : "base64";
}
