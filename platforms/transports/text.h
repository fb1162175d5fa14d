/* text.h — a growing byte string with a mandatory cap, for what a transport collects or composes.
 */
#ifndef NH_TRANSPORTS_TEXT_H
#define NH_TRANSPORTS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed piece of bytes; bytes NULL means absent. */
typedef struct nh_span {
    const char *bytes;
    size_t length;
} nh_span;

typedef struct nh_text {
    char *bytes; /* NULL while empty; always has room for a NUL behind `length` */
    size_t length, capacity;
    size_t limit; /* most bytes it may hold */
    bool over;    /* a put went over the limit */
    bool failed;  /* a put was lost, over the limit or out of memory; sticks until cleared */
} nh_text;

void nh_text_init(nh_text *text, size_t limit);
void nh_text_term(nh_text *text);
/* Empties it and forgets failures; the memory is kept for the next use. */
void nh_text_clear(nh_text *text);

/* Makes room for so many more bytes, where that is known: one growth instead of some. What finds no
 * room is lost when it is put. */
void nh_text_reserve(nh_text *text, size_t length);
/* Appends so many bytes that the caller writes now; NULL when they are lost. */
char *nh_text_grow(nh_text *text, size_t length);
/* Append all or nothing. Return false when the bytes were lost (see `over` and `failed`). */
static inline bool nh_text_put(nh_text *text, const void *bytes, size_t length) {
    char *at = nh_text_grow(text, length);
    if (at && length > 0)
        memcpy(at, bytes, length);
    return at;
}
bool nh_text_puts(nh_text *text, const char *words);
bool nh_text_putc(nh_text *text, char byte);
bool nh_text_put_number(nh_text *text, uint64_t number); /* in decimal */

/* The content, NUL-terminated: borrowed, until the next call. NULL after a failure. */
const char *nh_text_string(nh_text *text);

/* Puts a span into an emptied text and returns it NUL-terminated; NULL when out of memory. */
const char *nh_text_of(nh_text *text, nh_span span);

bool nh_span_is(nh_span span, const char *word); /* ASCII letters in any case */
uint32_t nh_span_hash(nh_span span);

#endif
