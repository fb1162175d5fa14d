/* when.c — reads a moment in one of three forms. A date without an offset is refused: whose clock
 * it means would depend on the machine that sends.
 */
#include "runtime/cli/when.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 1e10 /* seconds from now: three centuries */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Digits with an optional fraction; nothing else of what strtod takes (signs, exponents, inf). */
static bool read_number(const char **text, double *number) {
    const char *start = *text, *end = start;
    while (is_digit(*end))
        end++;
    if (end == start)
        return false;
    if (*end == '.' && is_digit(end[1]))
        for (end++; is_digit(*end);)
            end++;
    *number = strtod(start, NULL);
    *text = end;
    return isfinite(*number);
}

/* "10m", "1h30m", "1.5d": units from the longest to the shortest, each once. */
static bool read_delay(const char *text, double *seconds) {
    static const char units[] = "wdhms";
    static const double lengths[] = {604800, 86400, 3600, 60, 1};
    size_t from = 0;
    *seconds = 0;
    if (!*text)
        return false;
    while (*text) {
        double number;
        if (!read_number(&text, &number) || !*text)
            return false;
        const char *unit = strchr(units + from, *text++);
        if (!unit)
            return false;
        *seconds += number * lengths[unit - units];
        from = (size_t)(unit - units) + 1;
    }
    return *seconds <= LONGEST;
}

/* Exactly `count` digits. */
static bool read_digits(const char **text, int count, int low, int high, int *value) {
    *value = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit((*text)[i]))
            return false;
        *value = *value * 10 + (*text)[i] - '0';
    }
    *text += count;
    return *value >= low && *value <= high;
}

static bool read_mark(const char **text, const char *marks) {
    if (!**text || !strchr(marks, **text))
        return false;
    ++*text;
    return true;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_of(int year, int month, int day) {
    if (month <= 2) {
        year--;
        month += 12;
    }
    return 365LL * year + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day -
           719469;
}

static int length_of(int month, int year) {
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 ? 28 + leap : 30 + ((month + (month > 7)) & 1);
}

/* RFC 3339, 5.6: date, time with an optional fraction, and Z or an offset. */
static bool read_date(const char *text, double *seconds) {
    int year, month, day, hour, minute, second, offset_hour, offset_minute;
    if (!read_digits(&text, 4, 1970, 9999, &year) || !read_mark(&text, "-") ||
        !read_digits(&text, 2, 1, 12, &month) || !read_mark(&text, "-") ||
        !read_digits(&text, 2, 1, length_of(month, year), &day) || !read_mark(&text, "Tt ") ||
        !read_digits(&text, 2, 0, 23, &hour) || !read_mark(&text, ":") ||
        !read_digits(&text, 2, 0, 59, &minute) || !read_mark(&text, ":") ||
        !read_digits(&text, 2, 0, 60, &second))
        return false;
    double fraction = 0, part = 0.1;
    if (*text == '.') {
        if (!is_digit(*++text))
            return false;
        for (; is_digit(*text); text++, part /= 10)
            fraction += (*text - '0') * part;
    }
    int64_t offset = 0;
    if (!read_mark(&text, "Zz")) {
        int sign = *text == '-' ? -1 : 1;
        if (!read_mark(&text, "+-") || !read_digits(&text, 2, 0, 23, &offset_hour) ||
            !read_mark(&text, ":") || !read_digits(&text, 2, 0, 59, &offset_minute))
            return false;
        offset = sign * (offset_hour * 60 + offset_minute) * 60;
    }
    *seconds =
        (double)(days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset) +
        fraction;
    return !*text;
}

bool cli_when(const char *text, double now, double *seconds) {
    if (*text == '+') {
        bool valid = read_delay(text + 1, seconds);
        *seconds += now;
        return valid;
    }
    const char *end = text;
    if (read_number(&end, seconds) && !*end)
        return true;
    return read_date(text, seconds);
}
