/* reader.h — documents read in order, value by value, without a tree. */
#ifndef NH_CORE_READER_H
#define NH_CORE_READER_H

#include <endian.h>
#include <string.h>

#include "runtime/notifyhub.h"

/* One value's own bytes: what stands before its children, or all of it. */
typedef struct nh_token {
    unsigned char lead;
    bool container;
    uint64_t count;               /* children of a container, payload bytes of anything else */
    const unsigned char *payload; /* of an ext: behind its type */
} nh_token;

/* Reads the token at `p`; returns what follows it, NULL when it does not end before `end` or is
 * none. A count of children is believed only as far as the bytes at hand could hold them. */
const unsigned char *nh_token_read(const unsigned char *p, const unsigned char *end, nh_token *t);
nh_datum nh_token_datum(const nh_token *t);

/* nh_read for all kinds. */
void nh_read_token(nh_reader *reader, nh_datum *datum);

/* The next value, of which there must be one. The kinds that most of a document is are read here
 * and now. */
static inline void nh_read(nh_reader *reader, nh_datum *datum) {
    const unsigned char *p = (const unsigned char *)reader->at;
    unsigned char lead = *p;
    uint64_t bits;
    if ((lead & 0xE0) == 0xA0 || lead == 0xD9) { /* a string of less than 32 bytes, or 256 */
        size_t head = 1 + (lead == 0xD9);
        datum->kind = NH_STRING;
        datum->count = lead == 0xD9 ? p[1] : lead & 0x1F;
        datum->bytes = reader->at + head;
        reader->at += head + datum->count;
    } else if (lead < 0x80) {
        *datum = (nh_datum){.kind = NH_INT, .integer = lead};
        reader->at++;
    } else if (lead < 0xA0) { /* less than 16 elements or pairs */
        datum->kind = lead < 0x90 ? NH_MAP : NH_ARRAY;
        datum->count = lead & 0x0F;
        reader->at++;
    } else if (lead == 0xCB) {
        datum->kind = NH_REAL;
        datum->count = 0;
        memcpy(&bits, p + 1, sizeof bits);
        bits = be64toh(bits);
        memcpy(&datum->real, &bits, sizeof bits);
        reader->at += 1 + sizeof bits;
    } else {
        nh_read_token(reader, datum);
    }
}

#endif
