/* Header lines: what is encoded, how long lines get, and that characters stay whole. */
#include <stdint.h>

#include "platforms/transports/mail_header.h"
#include "spec/unit/check.h"

static nh_text out;

static nh_span span(const char *text) {
    return (nh_span){text, strlen(text)};
}

static const char *header(const char *name, const char *value) {
    nh_text_clear(&out);
    nh_mail_header_put(&out, span(name), span(value));
    return nh_text_string(&out);
}

static const char *param(const char *value) {
    nh_text_clear(&out);
    nh_mail_param_put(&out, "filename", span(value));
    return nh_text_string(&out);
}

static void leaves_plain_text_alone(void) {
    CHECK_STR(header("Subject", "Hello,  world: 3 < 4"), "Subject: Hello,  world: 3 < 4");
    CHECK_STR(header("Subject", ""), "Subject: ");
    CHECK_STR(header("To", "a@b, C D <c@d>"), "To: a@b, C D <c@d>");
    CHECK_STR(header("To", "a-b_c.d@e"), "To: a-b_c.d@e");
    CHECK_STR(header("Subject", "what = ? is that"), "Subject: what = ? is that");
}

/* A line of 78 columns is whole, one of 79 is folded. */
static void folds_where_a_line_is_full(void) {
    char value[72] = "", wanted[96];
    memset(value, 'x', 69);
    value[60] = ' ';
    snprintf(wanted, sizeof wanted, "Subject: %s", value);
    CHECK_STR(header("Subject", value), wanted);
    value[69] = 'x';
    snprintf(wanted, sizeof wanted, "Subject: %.60s\r\n%s", value, value + 60);
    CHECK_STR(header("Subject", value), wanted);
}

static const char *lines(const char *text) {
    nh_text_clear(&out);
    nh_mail_lines_put(&out, span(text));
    return nh_text_string(&out);
}

static void ends_every_line_alike(void) {
    CHECK_STR(lines("a\nb\r\nc\rd"), "a\r\nb\r\nc\r\nd");
    CHECK_STR(lines("\r\r\n\n\n\r"), "\r\n\r\n\r\n\r\n\r\n");
    CHECK_STR(lines("no end"), "no end");
    CHECK_STR(lines(""), "");
}

static void encodes_only_what_needs_it(void) {
    CHECK_STR(header("Subject", "a caf\xC3\xA9teria opens"),
              "Subject: a =?UTF-8?Q?caf=C3=A9teria?= opens");
    CHECK_STR(header("Subject", "\xC3\xA9 or anything at all of it \xC3\xA8 x"),
              "Subject: =?UTF-8?Q?=C3=A9_or_anything_at_all_of_it_=C3=A8?= x");
    CHECK_STR(header("Subject", "\xE6\xB5\x8B\xE8\xAF\x95"), "Subject: =?UTF-8?B?5rWL6K+V?=");
    /* What looks encoded would be read as such. */
    CHECK_STR(header("Subject", "=?x"), "Subject: =?UTF-8?B?PT94?=");
}

static void encodes_display_names_only(void) {
    CHECK_STR(header("From", "J\xC3\xB6 <j\xC3\xB6@b>"), "From: =?UTF-8?B?SsO2?= <j\xC3\xB6@b>");
    CHECK_STR(header("Cc", "\"D\xC3\xB6, J\" <d@b>,x@y"), "Cc: =?UTF-8?B?RMO2LCBK?= <d@b>, x@y");
    CHECK_STR(header("To", "Dr. \"X\" <a@b>"), "To: \"Dr. \\\"X\\\"\" <a@b>");
    CHECK_STR(header("Reply-To", "\"a\\\"b, c\" <a@b>"), "Reply-To: \"a\\\"b, c\" <a@b>");
}

/* Lines of at most 78 columns that begin with a space, words of at most 75. */
static void check_folding(const char *text, size_t columns) {
    if (!CHECK(text))
        return;
    for (const char *line = text; line;) {
        const char *end = strstr(line, "\r\n");
        CHECK((end ? (size_t)(end - line) : strlen(line)) <= columns);
        CHECK(line == text || *line == ' ');
        line = end ? end + 2 : NULL;
    }
    for (const char *word = text; (word = strstr(word, "=?UTF-8?"));) {
        const char *end = strstr(word + 10, "?=");
        CHECK(end && end + 2 - word <= 75);
        word = end + 2;
    }
}

static size_t unbase64(const char *text, size_t length, char *to) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t count = 0;
    unsigned bits = 0, have = 0;
    for (size_t i = 0; i < length && text[i] != '='; i++) {
        bits = bits << 6 | (unsigned)(strchr(digits, text[i]) - digits);
        have += 6;
        if (have >= 8)
            to[count++] = (char)(bits >> (have -= 8) & 0xFF);
    }
    return count;
}

static void folds_and_keeps_characters_whole(void) {
    static const char *const characters[] = {"\xC3\xA9", "\xE6\xB5\x8B", "\xF0\x9F\x8E\x89"};
    for (size_t c = 0; c < 3; c++) {
        for (size_t shift = 0; shift < 8; shift++) {
            char value[1200] = "xxxxxxxx", decoded[1200] = "";
            value[shift] = '\0';
            for (int i = 0; i < 100; i++)
                strcat(value, characters[c]);
            const char *text = header("Subject", value);
            check_folding(text, 76);
            size_t length = 0;
            for (const char *word = text; (word = strstr(word, "=?UTF-8?B?"));) {
                const char *end = strstr(word, "?=");
                size_t before = length;
                length += unbase64(word + 10, (size_t)(end - word - 10), decoded + length);
                CHECK(((unsigned char)decoded[before] & 0xC0) != 0x80); /* begins a character */
                word = end;
            }
            decoded[length] = '\0';
            CHECK_STR(decoded, value);
        }
    }
    char list[2000] = "";
    for (int i = 0; i < 40; i++)
        strcat(list,
               i % 2 ? "Someone Else <someone@example.com>, " : "J\xC3\xB6 <j@example.org>, ");
    check_folding(header("To", list), 78);
    check_folding(header("Subject", "words words words words words words words words words words "
                                    "words words words words words words words words words words"),
                  78);
    CHECK(strstr(out.bytes, "words\r\n words"));
}

static void names_files(void) {
    CHECK_STR(param("a b.txt"), ";\r\n filename=\"a b.txt\"");
    CHECK_STR(param("a\"b\\.txt"), ";\r\n filename=\"a\\\"b\\\\.txt\"");
    CHECK_STR(param("\xC3\xA9;.txt"), ";\r\n filename*=UTF-8''%C3%A9%3B.txt");
    CHECK(strstr(param("\xE6\xB5\x8B\xE6\xB5\x8B\xE6\xB5\x8B\xE6\xB5\x8B\xE6\xB5\x8B\xE6\xB5\x8B"),
                 ";\r\n filename*0*=UTF-8''%E6%B5%8B"));
    CHECK(strstr(out.bytes, ";\r\n filename*1*=%E6%B5%8B"));
}

static void chooses_an_encoding(void) {
    CHECK_STR(nh_mail_encoding(span("plain\r\n")), "7bit");
    CHECK_STR(nh_mail_encoding(span("mostly plain, caf\xC3\xA9\r\n")), "quoted-printable");
    CHECK_STR(nh_mail_encoding(span("\xE6\xB5\x8B\xE8\xAF\x95")), "base64");
    CHECK_STR(nh_mail_encoding(span("a\ttab, and all of it ~plain~")), "7bit");
    for (int c = 1; c < 256; c++) /* wherever it stands in eight bytes */
        for (size_t at = 0; at < 16; at++) {
            char text[] = "sixteen bytes -- and some more, so that one is few";
            bool plain = (c >= 0x20 && c <= 0x7E) || c == '\t' || c == '\r' || c == '\n';
            text[at] = (char)c;
            CHECK_STR(nh_mail_encoding(span(text)), plain ? "7bit" : "quoted-printable");
        }
    static char longest[2000];
    memset(longest, 'x', 900);
    CHECK_STR(nh_mail_encoding(span(longest)), "7bit");
    longest[900] = '\n';
    memset(longest + 901, 'x', 901);
    CHECK_STR(nh_mail_encoding(span(longest)), "quoted-printable");
    memset(longest, 'x', sizeof longest - 1);
    CHECK_STR(nh_mail_encoding(span(longest)), "quoted-printable");
}

static void counts_lost_bytes(void) {
    nh_text small;
    nh_text_init(&small, 10);
    nh_mail_header_put(&small, span("Subject"), span("does not fit"));
    CHECK(small.over && small.failed && !nh_text_string(&small));
    nh_text_term(&small);
}

int main(void) {
    nh_text_init(&out, SIZE_MAX);
    RUN(leaves_plain_text_alone);
    RUN(folds_where_a_line_is_full);
    RUN(ends_every_line_alike);
    RUN(encodes_only_what_needs_it);
    RUN(encodes_display_names_only);
    RUN(folds_and_keeps_characters_whole);
    RUN(names_files);
    RUN(chooses_an_encoding);
    RUN(counts_lost_bytes);
    nh_text_term(&out);
    return check_end();
}
