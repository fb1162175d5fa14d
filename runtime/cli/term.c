/* term.c — colours, numbers, and text from outside made harmless, for everything that prints.
 *
 * A receiver shows what strangers send and a sender shows what platforms answer: both pass through
 * cli_print_foreign, so that neither can move the cursor, set a title or paint the terminal. Any
 * thread; nothing here keeps state.
 */
#include "runtime/cli/term.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const cli_paint *cli_paint_for(FILE *stream) {
    static const cli_paint plain = {"", "", "", "", "", "", ""};
    static const cli_paint colours = {"\033[1m",  "\033[2m",  "\033[31m", "\033[32m",
                                      "\033[33m", "\033[36m", "\033[0m"};
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool dumb = !term || strcmp(term, "dumb") == 0;
    return isatty(fileno(stream)) && !dumb && !(no_color && *no_color) ? &colours : &plain;
}

void cli_complain(const char *command, const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "notifyhub%s%s: ", command ? " " : "", command ? command : "");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* The well-formed sequences of Unicode's table 3-7: the first byte's range decides the length and
 * the range of the second byte. */
size_t cli_utf8_length(const char *bytes, size_t length) {
    static const struct {
        unsigned char first, last, low, high;
        size_t length;
    } rows[] = {
        {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    const unsigned char *at = (const unsigned char *)bytes;

    for (size_t row = 0; row < sizeof rows / sizeof *rows && length; row++) {
        if (at[0] < rows[row].first || at[0] > rows[row].last)
            continue;
        if (rows[row].length > length)
            return 0;
        if (rows[row].length > 1 && (at[1] < rows[row].low || at[1] > rows[row].high))
            return 0;
        for (size_t i = 2; i < rows[row].length; i++)
            if (at[i] < 0x80 || at[i] > 0xBF)
                return 0;
        return rows[row].length;
    }
    return 0;
}

bool cli_utf8_valid(const char *bytes, size_t length) {
    for (size_t at = 0; at < length;) {
        size_t step = cli_utf8_length(bytes + at, length - at);
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

/* C0, DEL, and C1 (U+0080 to U+009F), which some terminals obey as well. */
static bool controls(const char *bytes, size_t step) {
    unsigned char first = (unsigned char)bytes[0];
    unsigned char second = step > 1 ? (unsigned char)bytes[1] : 0;
    return first < 0x20 || first == 0x7F || (first == 0xC2 && second < 0xA0);
}

void cli_print_foreign(FILE *out, const char *bytes, size_t length, bool lines, int indent) {
    for (size_t at = 0; at < length;) {
        size_t step = cli_utf8_length(bytes + at, length - at);
        char byte = bytes[at];
        if (lines && byte == '\n') {
            fputc('\n', out);
            if (at + 1 < length)
                fprintf(out, "%*s", indent, "");
            at++;
        } else if (lines && byte == '\t') {
            fputc('\t', out);
            at++;
        } else if (lines && byte == '\r' && at + 1 < length && bytes[at + 1] == '\n') {
            at++;
        } else if (step == 0 || controls(bytes + at, step)) {
            size_t bad = step ? step : 1;
            for (size_t i = 0; i < bad; i++)
                fprintf(out, "\\x%02x", (unsigned)(unsigned char)bytes[at + i]);
            at += bad;
        } else {
            fwrite(bytes + at, 1, step, out);
            at += step;
        }
    }
}

const char *cli_number(char *room, uint64_t number) {
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    char *to = room;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return room;
}

const char *cli_size(char *room, size_t bytes) {
    static const char *const units[] = {"B", "KB", "MB", "GB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    snprintf(room, CLI_NUMBER_MAX, "%.*f %s", unit && value < 100 ? 1 : 0, value, units[unit]);
    return room;
}

uint64_t cli_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double cli_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
