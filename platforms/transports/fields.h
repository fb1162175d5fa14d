/* fields.h — reads a request document into a plain C structure, by a table.
 */
#ifndef NH_TRANSPORTS_FIELDS_H
#define NH_TRANSPORTS_FIELDS_H

#include "platforms/transports/text.h"
#include "runtime/work/transport.h"

typedef enum nh_field_type {
    NH_FIELD_BYTES,   /* nh_span; a string, secret or binary */
    NH_FIELD_BOOL,    /* bool */
    NH_FIELD_SECONDS, /* double, above 0 */
    NH_FIELD_PORT,    /* int, 1 to 65535 */
    NH_FIELD_LIST,    /* const nh_value *; an array */
    NH_FIELD_PAIRS,   /* const nh_value *; a map, or an array of {name, value} */
} nh_field_type;

typedef struct nh_field {
    const char *name;
    nh_field_type type;
    size_t offset; /* of the member in the structure that is filled */
} nh_field;

/* Fills `out`, which holds the defaults; members of absent (or nil) fields are left alone. `where`
 * opens the error's text ("" at the top, "attachments[2]." inside). Spans and values are borrowed
 * from the document. Errors: NH_E_INVALID naming the field, never its content. */
nh_err nh_fields_read(const nh_value *map, const char *where, const nh_field *table, size_t count,
                      void *out, nh_error *error);

/* The body beside a request, where it brings one, is this field of it. Errors: NH_E_INVALID when
 * the request has that field, too. */
nh_err nh_fields_take_body(const nh_transfer *transfer, const char *name, nh_span *field,
                           nh_error *error);

/* A pair of what NH_FIELD_PAIRS accepts; the value may be a string, number or bool (written as
 * text into `number`, which the pair then borrows). Errors: NH_E_INVALID naming `field`. */
typedef struct nh_pair {
    nh_span name, value;
    char number[32];
} nh_pair;
nh_err nh_fields_pair(const nh_value *pairs, size_t index, const char *field, nh_pair *pair,
                      nh_error *error);

/* A readable regular file, of the size returned (NULL: not asked). Errors: NH_E_INVALID naming the
 * field and the file. */
nh_err nh_fields_file(const char *field, const char *path, size_t *size, nh_error *error);

/* Writes an error and returns its code. */
nh_err nh_fields_fail(nh_error *error, nh_err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The bytes of a string, secret or binary; absent for any other value. */
nh_span nh_span_of(const nh_value *value);
/* Bytes that are all of one syntax: an HTTP token, a host name or address. */
bool nh_span_is_token(nh_span span);
bool nh_span_is_host(nh_span span);

#endif
