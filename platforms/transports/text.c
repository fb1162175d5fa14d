/* A growing byte string. One thread; doubling growth, so an append costs amortised constant time.
 * Failures stick, so that a composer may put a whole message and look once at the end.
 */
#include "platforms/transports/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIRST_CAPACITY = 64 };

void nh_text_init(nh_text *text, size_t limit) {
    *text = (nh_text){.limit = limit < SIZE_MAX / 4 ? limit : SIZE_MAX / 4};
}

void nh_text_term(nh_text *text) {
    free(text->bytes);
    *text = (nh_text){.limit = text->limit};
}

void nh_text_clear(nh_text *text) {
    text->length = 0;
    text->over = text->failed = false;
}

static bool enlarge(nh_text *text, size_t need) {
    size_t capacity = text->capacity ? text->capacity : FIRST_CAPACITY;
    while (capacity <= need)
        capacity *= 2;
    char *bytes = realloc(text->bytes, capacity);
    if (!bytes)
        return false;
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

static inline bool reserve(nh_text *text, size_t need) {
    return need < text->capacity || enlarge(text, need);
}

void nh_text_reserve(nh_text *text, size_t length) {
    if (length <= text->limit && text->length <= text->limit - length)
        (void)reserve(text, text->length + length);
}

char *nh_text_grow(nh_text *text, size_t length) {
    if (length > text->limit || text->length > text->limit - length) {
        text->over = text->failed = true;
        return NULL;
    }
    if (!reserve(text, text->length + length)) {
        text->failed = true;
        return NULL;
    }
    text->length += length;
    return text->bytes + text->length - length;
}

bool nh_text_put_number(nh_text *text, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    return nh_text_put(text, digits + at, sizeof digits - at);
}

bool nh_text_puts(nh_text *text, const char *words) {
    return nh_text_put(text, words, strlen(words));
}

bool nh_text_putc(nh_text *text, char byte) {
    return nh_text_put(text, &byte, 1);
}

const char *nh_text_string(nh_text *text) {
    if (text->failed || !reserve(text, text->length))
        return NULL;
    text->bytes[text->length] = '\0';
    return text->bytes;
}

const char *nh_text_of(nh_text *text, nh_span span) {
    nh_text_clear(text);
    nh_text_put(text, span.bytes, span.length);
    return nh_text_string(text);
}

bool nh_span_is(nh_span span, const char *word) {
    return span.bytes && span.length == strlen(word) &&
           strncasecmp(span.bytes, word, span.length) == 0;
}

uint32_t nh_span_hash(nh_span span) {
    uint32_t value = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < span.length; i++)
        value = (value ^ (unsigned char)span.bytes[i]) * 16777619u;
    return value;
}
