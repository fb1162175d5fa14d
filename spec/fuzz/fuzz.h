/* fuzz.h — what the fuzz targets share. A target is a program of one function,
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
 *
 * which does with the bytes what the runtime would do with them, and says with MUST what has to
 * hold then. `./dev fuzz` links it with libFuzzer, which invents inputs; the suite links it with
 * replay.c, which feeds it the corpus.
 */
#ifndef NH_SPEC_FUZZ_H
#define NH_SPEC_FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/utf8.h"
#include "runtime/notifyhub.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What has to hold; libFuzzer and ctest take an abort as a finding. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* An error that somebody will read: a code, and one line of text. */
static inline void must_be_told(const nh_error *error) {
    size_t length = strnlen(error->message, sizeof error->message);
    MUST(error->code != NH_OK);
    MUST(length > 0 && length < sizeof error->message);
    if (!nh_utf8_valid(error->message, length)) {
        fprintf(stderr, "the error is not UTF-8: %s\n", error->message);
        abort();
    }
}

#define FUZZ_ERROR ((nh_error){.code = NH_OK, .message = ""})

/* A piece of an input. */
typedef struct fuzz_part {
    const char *bytes;
    size_t length;
} fuzz_part;

/* Takes what stands before the next `mark`, which is lost, or all that is left. */
static inline fuzz_part fuzz_take(fuzz_part *rest, char mark) {
    const char *end = rest->length ? memchr(rest->bytes, mark, rest->length) : NULL;
    fuzz_part part = {rest->bytes, end ? (size_t)(end - rest->bytes) : rest->length};
    size_t gone = part.length + (end != NULL);
    rest->bytes += gone;
    rest->length -= gone;
    return part;
}

/* The part with a NUL behind it, in memory of its own, so that a sanitizer sees a read past its
 * end. */
static inline char *fuzz_string(fuzz_part part) {
    char *text = malloc(part.length + 1);
    MUST(text);
    if (part.length > 0)
        memcpy(text, part.bytes, part.length);
    text[part.length] = '\0';
    return text;
}

#endif
