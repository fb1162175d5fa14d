/* Collects the lines of a response's header, bounded, and gives them as a map. Thread: the
 * worker's. Costs a copy of the lines, and a sort of them at the end, without an allocation when
 * they are few.
 */
#include "platforms/transports/http_header.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 32 }; /* lines that are sorted in place */

void nh_http_header_init(nh_http_header *header, size_t most) {
    *header = (nh_http_header){.most = most};
    nh_text_init(&header->lines, most);
}

void nh_http_header_term(nh_http_header *header) {
    nh_text_term(&header->lines);
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static nh_span trim(const char *bytes, size_t length) {
    while (length > 0 && is_space(*bytes))
        bytes++, length--;
    while (length > 0 && is_space(bytes[length - 1]))
        length--;
    return (nh_span){bytes, length};
}

/* A line that goes on with the one before (an old way to write long values). */
static bool unfold(nh_text *lines, nh_span more) {
    char *at = more.length > 0 ? nh_text_grow(lines, more.length + 1) : lines->bytes;
    if (at && more.length > 0) { /* the line feed before moves behind it */
        at[-1] = ' ';
        memcpy(at, more.bytes, more.length);
        at[more.length] = '\n';
    }
    return at;
}

/* A status line begins a new header (after a 1xx), which replaces the last. */
bool nh_http_header_line(nh_http_header *header, const char *bytes, size_t length) {
    nh_text *lines = &header->lines;
    header->bytes += length;
    if (header->bytes > header->most) {
        header->too_large = true;
        return false;
    }
    if (header->counted)
        return true;
    if (length >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        nh_text_clear(lines);
        return true;
    }
    if (length > 0 && (*bytes == ' ' || *bytes == '\t') && lines->length > 0)
        return unfold(lines, trim(bytes, length));
    const char *colon = memchr(bytes, ':', length);
    if (!colon || colon == bytes)
        return true;
    size_t name = (size_t)(colon - bytes);
    nh_span value = trim(colon + 1, length - name - 1);
    char *at = nh_text_grow(lines, name + value.length + 2);
    if (!at)
        return false;
    for (size_t i = 0; i < name; i++)
        at[i] = (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] | 0x20 : bytes[i]);
    at[name] = ':';
    if (value.length > 0)
        memcpy(at + name + 1, value.bytes, value.length);
    at[name + 1 + value.length] = '\n';
    return true;
}

typedef struct line {
    nh_span name, value;
} line;

/* By name, then by place: equal names come together in the order of arrival. */
static int compare_lines(const void *a, const void *b) {
    const line *left = a, *right = b;
    size_t shorter =
        left->name.length < right->name.length ? left->name.length : right->name.length;
    int order = memcmp(left->name.bytes, right->name.bytes, shorter);
    if (order == 0)
        order = (left->name.length > right->name.length) - (left->name.length < right->name.length);
    return order ? order
                 : (left->name.bytes > right->name.bytes) - (left->name.bytes < right->name.bytes);
}

static bool same_name(const line *a, const line *b) {
    return a->name.length == b->name.length &&
           memcmp(a->name.bytes, b->name.bytes, a->name.length) == 0;
}

static void sort(line *lines, size_t count) {
    if (count > FEW) {
        qsort(lines, count, sizeof *lines, compare_lines);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        line moved = lines[i];
        size_t to = i;
        for (; to > 0 && compare_lines(&lines[to - 1], &moved) > 0; to--)
            lines[to] = lines[to - 1];
        lines[to] = moved;
    }
}

/* Each line got a colon and a line feed; a value may hold more colons. */
static void split(const nh_text *text, line *lines, size_t count) {
    const char *at = text->bytes, *stop = count > 0 ? text->bytes + text->length : NULL;
    for (size_t i = 0; i < count; i++) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        const char *colon = memchr(at, ':', (size_t)(end - at));
        lines[i] = (line){{at, (size_t)(colon - at)}, {colon + 1, (size_t)(end - colon - 1)}};
        at = end + 1;
    }
}

/* Writes the value of the first line, or of all of them that have its name, joined; returns how
 * many. */
static size_t write_value(const line *lines, size_t count, nh_text *joined, nh_writer *writer) {
    size_t i = 1;
    if (count < 2 || !same_name(&lines[1], &lines[0])) {
        nh_writer_string(writer, lines->value.bytes, lines->value.length);
        return i;
    }
    nh_text_clear(joined);
    nh_text_put(joined, lines->value.bytes, lines->value.length);
    for (; i < count && same_name(&lines[i], &lines[0]); i++) {
        nh_text_puts(joined, ", ");
        nh_text_put(joined, lines[i].value.bytes, lines[i].value.length);
    }
    nh_writer_string(writer, joined->bytes, joined->length);
    return i;
}

static bool write_lines(line *lines, size_t count, nh_text *joined, nh_writer *writer) {
    size_t distinct = 0;
    sort(lines, count);
    for (size_t i = 0; i < count; i++)
        distinct += i == 0 || !same_name(&lines[i], &lines[i - 1]);
    nh_text_clear(joined);
    nh_writer_map(writer, distinct);
    for (size_t i = 0; i < count;) {
        nh_writer_string(writer, lines[i].name.bytes, lines[i].name.length);
        i += write_value(lines + i, count - i, joined, writer);
    }
    return !joined->failed;
}

bool nh_http_header_write(nh_http_header *header, nh_text *joined, nh_writer *writer) {
    const nh_text *text = &header->lines;
    line few[FEW], *lines = few;
    size_t count = 0;
    for (size_t i = 0; i < text->length; i++)
        count += text->bytes[i] == '\n';
    if (text->failed || (count > FEW && !(lines = calloc(count, sizeof *lines))))
        return false;
    split(text, lines, count);
    bool whole = write_lines(lines, count, joined, writer);
    if (lines != few)
        free(lines);
    return whole;
}
