/* receive_view.c — how an arrival looks: one line of JSON for a program, a few lines for a person.
 *
 * Prints to stdout only, which the receiver buffers and flushes. What came from outside is either
 * inside JSON or goes through cli_print_foreign. The readable form is bounded: a long body is cut
 * after BODY_LINES lines, which the JSON form never is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/cli/mail.h"
#include "runtime/cli/receive.h"
#include "runtime/cli/term.h"

#define INDENT     2
#define BODY_LINES 40
#define PARTS_MAX  32

/* ------------------------------------------------------------------------ JSON */

static char *base64(const char *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((length + 2) / 3 * 4 + 1);
    char *to = text;
    if (!text)
        return NULL;
    for (size_t at = 0; at < length; at += 3) {
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++)
            bits = bits << 8 | (at + i < length ? (unsigned char)bytes[at + i] : 0);
        for (size_t i = 0; i < 4; i++)
            *to++ = at + i <= length ? digits[bits >> (18 - 6 * i) & 63] : '=';
    }
    *to = '\0';
    return text;
}

/* Sets `key` to the bytes as a string, or to base64 with "base64": true beside it. */
static void set_bytes(json_t *line, const char *key, const char *bytes, size_t length) {
    if (cli_utf8_valid(bytes, length)) {
        json_object_set_new(line, key, json_stringn(bytes, length));
        return;
    }
    char *text = base64(bytes, length);
    json_object_set_new(line, key, json_string(text ? text : ""));
    json_object_set_new(line, "base64", json_true());
    free(text);
}

/* The mail's fields by lower-case name, unfolded; several of a name are joined by newlines. */
static json_t *mail_headers(const arrival *arrived) {
    json_t *headers = json_object();
    mail_span rest = {arrived->bytes, arrived->length}, name, value;
    while (mail_next_field(&rest, &name, &value)) {
        char lower[128];
        size_t length = name.length < sizeof lower - 1 ? name.length : sizeof lower - 1;
        for (size_t i = 0; i < length; i++)
            lower[i] =
                name.at[i] >= 'A' && name.at[i] <= 'Z' ? (char)(name.at[i] | 0x20) : name.at[i];
        lower[length] = '\0';
        char *text = mail_field_text(value, false);
        const char *before = json_string_value(json_object_get(headers, lower));
        if (text && cli_utf8_valid(text, strlen(text)) && cli_utf8_valid(lower, length))
            json_object_set_new(headers, lower,
                                before ? json_sprintf("%s\n%s", before, text) : json_string(text));
        free(text);
    }
    return headers;
}

void receive_view_json(const arrival *arrived) {
    json_t *line = json_object();
    bool http = arrived->method != NULL;
    json_object_set_new(line, "time", json_real(arrived->time));
    json_object_set_new(line, "protocol", json_string(http ? "http" : "smtp"));
    json_object_set_new(line, "status", json_integer((json_int_t)arrived->status));
    if (http) {
        json_object_set_new(line, "method", json_string(arrived->method));
        json_object_set_new(line, "target", json_string(arrived->target));
        json_object_set_new(line, "path", json_string(arrived->path));
        json_object_set(line, "query", arrived->query);
        json_object_set(line, "headers", arrived->headers);
        set_bytes(line, "body", arrived->bytes, arrived->length);
    } else {
        json_object_set_new(line, "from", json_string(arrived->from));
        json_object_set(line, "recipients", arrived->recipients);
        json_object_set_new(line, "headers", mail_headers(arrived));
        set_bytes(line, "raw", arrived->bytes, arrived->length);
    }
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(line);
}

/* -------------------------------------------------------------------- readable */

/* The first line of an arrival: when, how, where, what was answered, how much. */
static void print_head(const arrival *arrived, const cli_paint *paint, const char *kind) {
    time_t seconds = (time_t)arrived->time;
    int milliseconds = (int)((arrived->time - (double)seconds) * 1000);
    struct tm local;
    char clock[16], size[CLI_NUMBER_MAX];
    bool success = arrived->status >= 200 && arrived->status < 300;

    localtime_r(&seconds, &local);
    strftime(clock, sizeof clock, "%H:%M:%S", &local);
    printf("%s%s.%03d%s  %s%-6s%s %s%u%s  %s%8s%s  ", paint->dim, clock, milliseconds, paint->off,
           paint->bold, kind, paint->off, success ? paint->green : paint->red, arrived->status,
           paint->off, paint->dim, cli_size(size, arrived->length), paint->off);
}

static void print_body(const char *bytes, size_t length, const cli_paint *paint) {
    size_t shown = 0;
    int lines = 0;
    while (length && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r'))
        length--;
    if (length == 0)
        return;
    while (shown < length && lines < BODY_LINES) {
        const char *newline = memchr(bytes + shown, '\n', length - shown);
        shown = newline ? (size_t)(newline - bytes) + 1 : length;
        lines++;
    }
    printf("%*s", INDENT, "");
    cli_print_foreign(stdout, bytes, shown - (shown < length ? 1 : 0), true, INDENT);
    putchar('\n');
    if (shown < length) {
        char size[CLI_NUMBER_MAX];
        printf("%*s%s… %s more%s\n", INDENT, "", paint->dim, cli_size(size, length - shown),
               paint->off);
    }
}

/* JSON is laid out; anything else is shown as it is. */
static void print_http_body(const arrival *arrived, const cli_paint *paint) {
    json_t *value = json_loadb(arrived->bytes, arrived->length, 0, NULL);
    char *text = value ? json_dumps(value, JSON_INDENT(2)) : NULL;
    if (text)
        print_body(text, strlen(text), paint);
    else if (memchr(arrived->bytes, 0, arrived->length))
        printf("%*s%sbinary%s\n", INDENT, "", paint->dim, paint->off);
    else
        print_body(arrived->bytes, arrived->length, paint);
    free(text);
    json_decref(value);
}

static void print_label(const char *label, const cli_paint *paint) {
    printf("%*s%s%-8s%s ", INDENT, "", paint->cyan, label, paint->off);
}

static void print_fields(const arrival *arrived, const cli_paint *paint) {
    static const char *const shown[] = {"From", "To", "Cc", "Subject"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        mail_span rest = {arrived->bytes, arrived->length}, name, value;
        while (mail_next_field(&rest, &name, &value)) {
            if (name.length != strlen(shown[i]) || strncasecmp(name.at, shown[i], name.length) != 0)
                continue;
            char *text = mail_field_text(value, true);
            print_label(shown[i], paint);
            if (text)
                cli_print_foreign(stdout, text, strlen(text), false, 0);
            putchar('\n');
            free(text);
        }
    }
}

static void print_parts(const mail_part *parts, size_t count, const cli_paint *paint) {
    char size[CLI_NUMBER_MAX];
    for (size_t i = 0; i < count && i < PARTS_MAX; i++) {
        size_t length = 0;
        char *bytes = mail_part_bytes(&parts[i], &length);
        print_label(i == 0 ? "Parts" : "", paint);
        cli_print_foreign(stdout, parts[i].type, strlen(parts[i].type), false, 0);
        printf(" %s%s%s ", paint->dim, cli_size(size, length), paint->off);
        cli_print_foreign(stdout, parts[i].name, strlen(parts[i].name), false, 0);
        putchar('\n');
        free(bytes);
    }
}

static void print_mail(const arrival *arrived, const cli_paint *paint) {
    static mail_part parts[PARTS_MAX];
    size_t count = mail_parts((mail_span){arrived->bytes, arrived->length}, parts, PARTS_MAX);
    print_fields(arrived, paint);
    if (count > 1 || strcasecmp(parts[0].type, "text/plain") != 0)
        print_parts(parts, count, paint);
    for (size_t i = 0; i < count && i < PARTS_MAX; i++) {
        if (strncasecmp(parts[i].type, "text/", 5) != 0)
            continue;
        size_t length = 0;
        char *bytes = mail_part_bytes(&parts[i], &length);
        if (bytes)
            print_body(bytes, length, paint);
        free(bytes);
        return;
    }
}

void receive_view_text(const arrival *arrived) {
    const cli_paint *paint = cli_paint_for(stdout);
    if (arrived->method) {
        print_head(arrived, paint, arrived->method);
        cli_print_foreign(stdout, arrived->target, strlen(arrived->target), false, 0);
        putchar('\n');
        print_http_body(arrived, paint);
        return;
    }
    print_head(arrived, paint, "MAIL");
    cli_print_foreign(stdout, arrived->from, strlen(arrived->from), false, 0);
    fputs(" →", stdout);
    size_t i;
    json_t *recipient;
    json_array_foreach(arrived->recipients, i, recipient) {
        fputs(i ? ", " : " ", stdout);
        const char *address = json_string_value(recipient);
        cli_print_foreign(stdout, address, strlen(address), false, 0);
    }
    putchar('\n');
    print_mail(arrived, paint);
}
