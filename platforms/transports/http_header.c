/* Collects the lines of a response's header, bounded, and gives them as a map. Thread: the
 * worker's. Costs a copy of the lines, and a sort of them at the end.
 */
#include "platforms/transports/http_header.h"

#include <stdlib.h>
#include <string.h>

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

/* A status line begins a new header (after a 1xx), which replaces the last. */
bool nh_http_header_line(nh_http_header *header, const char *bytes, size_t length) {
    nh_text *lines = &header->lines;
    header->bytes += length;
    if (header->bytes > header->most) {
        header->too_large = true;
        return false;
    }
    if (length >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        nh_text_clear(lines);
        return true;
    }
    const char *colon = memchr(bytes, ':', length);
    if (!colon || colon == bytes)
        return true;
    size_t name = (size_t)(colon - bytes);
    for (size_t i = 0; i < name; i++)
        nh_text_putc(lines,
                     (char)(bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] | 0x20 : bytes[i]));
    nh_span value = trim(colon + 1, length - name - 1);
    nh_text_putc(lines, ':');
    nh_text_put(lines, value.bytes, value.length);
    return nh_text_putc(lines, '\n');
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

bool nh_http_header_write(nh_http_header *header, nh_text *joined, nh_writer *writer) {
    const char *at = nh_text_string(&header->lines);
    if (!at)
        return false;
    size_t count = 0, distinct = 0;
    for (size_t i = 0; i < header->lines.length; i++)
        count += at[i] == '\n';
    line *lines = calloc(count + 1, sizeof *lines);
    if (!lines)
        return false;
    const char *stop = at + header->lines.length;
    for (size_t i = 0; i < count; i++) { /* each line got a colon and a line feed */
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        const char *colon = memchr(at, ':', (size_t)(end - at));
        lines[i] = (line){{at, (size_t)(colon - at)}, {colon + 1, (size_t)(end - colon - 1)}};
        at = end + 1;
    }
    qsort(lines, count, sizeof *lines, compare_lines);
    for (size_t i = 0; i < count; i++)
        distinct += i == 0 || !same_name(&lines[i], &lines[i - 1]);

    nh_writer_map(writer, distinct);
    for (size_t i = 0; i < count;) {
        nh_writer_string(writer, lines[i].name.bytes, lines[i].name.length);
        size_t first = i;
        nh_text_clear(joined);
        for (; i < count && same_name(&lines[i], &lines[first]); i++) {
            if (i > first)
                nh_text_puts(joined, ", ");
            nh_text_put(joined, lines[i].value.bytes, lines[i].value.length);
        }
        nh_writer_string(writer, joined->length ? joined->bytes : "", joined->length);
    }
    free(lines);
    return !joined->failed;
}
