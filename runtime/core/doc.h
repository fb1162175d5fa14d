/* doc.h — documents for the inside of the library: as packed bytes. */
#ifndef NH_CORE_DOC_H
#define NH_CORE_DOC_H

#include "runtime/notifyhub.h"

/* Most bytes of one document, packed. */
#define NH_DOC_BYTES_MAX ((size_t)64 << 20)

/* Bytes that are known to be one document, since a writer has packed them or they were read before:
 * what to keep of a document that few will read. Borrowed. */
typedef struct nh_packed {
    const char *bytes;
    size_t length;
    size_t values; /* how many: the nodes of its tree */
} nh_packed;

/* NULL: out of memory. */
nh_doc *nh_doc_of_packed(const nh_packed *packed, nh_error *error);
/* What was written, borrowed until nh_writer_clear, which the next document needs. Errors: as
 * nh_writer_finish. */
nh_err nh_writer_packed(nh_writer *writer, nh_packed *out, nh_error *error);

/* Parses packed bytes (copied). Errors: NH_E_INVALID, NH_E_TOO_LARGE, NH_E_INTERNAL. */
nh_doc *nh_doc_from_bytes(const void *bytes, size_t length, nh_error *error);
/* The packed form. Borrowed. */
const void *nh_doc_bytes(const nh_doc *doc, size_t *length);

/* True when the value is a string (or secret) with just this text. */
bool nh_value_is(const nh_value *value, const char *text);

#endif
