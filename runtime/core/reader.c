/* reader.c — one value at a time, from packed bytes.
 *
 * A token is what stands in the bytes: a lead byte, a length or count, a payload. A datum is what
 * it means. Bytes from outside are read as tokens, each with its end checked (tree.c); bytes that
 * are known to be a document, as data. Thread: any; it keeps nothing.
 */
#include "runtime/core/reader.h"

#include "runtime/core/tree.h"

enum {
    NIL = 0xC0,
    BIN8 = 0xC4,
    EXT8 = 0xC7,
    FLOAT32 = 0xCA,
    FLOAT64 = 0xCB,
    UINT8 = 0xCC,
    INT8 = 0xD0,
    FIXEXT1 = 0xD4,
    STR8 = 0xD9,
    ARRAY16 = 0xDC,
    MAP16 = 0xDE,
    NEGATIVE = 0xE0, /* and above: an integer by itself */
};

/* What follows a lead byte from 0xC0 to 0xDF. */
typedef struct shape {
    bool known, container;
    uint8_t counted; /* bytes that tell a length or count; 0: `payload` is the length */
    uint8_t extra;   /* an ext's type */
    uint8_t payload;
} shape;

#define COUNTED(bytes)                                                                             \
    { .known = true, .counted = (bytes) }
#define EXT(bytes)                                                                                 \
    { .known = true, .counted = (bytes), .extra = 1 }
#define FIXED(bytes)                                                                               \
    { .known = true, .payload = (bytes) }
#define FIXEXT(bytes)                                                                              \
    { .known = true, .extra = 1, .payload = (bytes) }
#define CONTAINER(bytes)                                                                           \
    { .known = true, .container = true, .counted = (bytes) }

static const shape shapes[] = {
    /* nil, unknown, false, true */
    FIXED(0),
    {.known = false},
    FIXED(0),
    FIXED(0),
    /* bin, ext */
    COUNTED(1),
    COUNTED(2),
    COUNTED(4),
    EXT(1),
    EXT(2),
    EXT(4),
    /* floats, unsigned and signed integers */
    FIXED(4),
    FIXED(8),
    FIXED(1),
    FIXED(2),
    FIXED(4),
    FIXED(8),
    FIXED(1),
    FIXED(2),
    FIXED(4),
    FIXED(8),
    /* ext of 1 to 16 bytes, str, arrays, maps */
    FIXEXT(1),
    FIXEXT(2),
    FIXEXT(4),
    FIXEXT(8),
    FIXEXT(16),
    COUNTED(1),
    COUNTED(2),
    COUNTED(4),
    CONTAINER(2),
    CONTAINER(4),
    CONTAINER(2),
    CONTAINER(4)};

_Static_assert(sizeof shapes / sizeof *shapes == 32, "one for each lead byte");

static uint64_t big_endian(const unsigned char *p, size_t size) {
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1:
        return *p;
    case 2:
        memcpy(&two, p, sizeof two);
        return be16toh(two);
    case 4:
        memcpy(&four, p, sizeof four);
        return be32toh(four);
    default:
        memcpy(&eight, p, sizeof eight);
        return be64toh(eight);
    }
}

const unsigned char *nh_token_read(const unsigned char *p, const unsigned char *end, nh_token *t) {
    if (p == end)
        return NULL;
    unsigned char lead = *p++;
    *t = (nh_token){.lead = lead, .payload = p};
    if (lead < 0x80 || lead >= NEGATIVE)
        return p;
    size_t extra = 0;
    if (lead < 0xA0) {
        t->container = true;
        t->count = (uint64_t)(lead & 0x0F) << (lead < 0x90);
    } else if (lead < NIL) {
        t->count = lead & 0x1F;
    } else {
        const shape *s = &shapes[lead - NIL];
        if (!s->known || s->counted > (size_t)(end - p))
            return NULL;
        t->container = s->container;
        t->count = s->counted ? big_endian(p, s->counted) << (lead >= MAP16) : s->payload;
        p += s->counted;
        extra = s->extra;
    }
    t->payload = p + extra;
    if (t->count + extra > (size_t)(end - p))
        return NULL;
    return t->container ? p : t->payload + t->count;
}

static nh_datum text_datum(nh_kind kind, const nh_token *t) {
    return (nh_datum){.kind = kind, .count = (uint32_t)t->count, .bytes = (const char *)t->payload};
}

static nh_datum real_datum(const nh_token *t) {
    uint64_t bits = big_endian(t->payload, (size_t)t->count);
    uint32_t half = (uint32_t)bits;
    float single;
    nh_datum datum = {.kind = NH_REAL};
    if (t->lead == FLOAT64) {
        memcpy(&datum.real, &bits, sizeof bits);
    } else {
        memcpy(&single, &half, sizeof half);
        datum.real = (double)single;
    }
    return datum;
}

static nh_datum integer_datum(const nh_token *t) {
    size_t size = (size_t)t->count;
    if (size == 0)
        return (nh_datum){.kind = NH_INT, .integer = (signed char)t->lead};
    uint64_t bits = big_endian(t->payload, size);
    if (t->lead < INT8)
        return (nh_datum){.kind = NH_INT, .big = bits > INT64_MAX, .integer = (int64_t)bits};
    size_t unused = 64 - 8 * size; /* shifted up and down again, which extends the sign */
    return (nh_datum){.kind = NH_INT, .integer = (int64_t)(bits << unused) >> unused};
}

nh_datum nh_token_datum(const nh_token *t) {
    unsigned char lead = t->lead;
    bool map = t->container && (lead < 0x90 || lead >= MAP16);
    if (t->container)
        return (nh_datum){.kind = map ? NH_MAP : NH_ARRAY, .count = (uint32_t)(t->count >> map)};
    if (lead < 0x80 || lead >= NEGATIVE)
        return integer_datum(t);
    if (lead < NIL || (lead >= STR8 && lead < ARRAY16))
        return text_datum(NH_STRING, t);
    if (lead == NIL)
        return (nh_datum){.kind = NH_NIL};
    if (lead < BIN8)
        return (nh_datum){.kind = NH_BOOL, .truth = lead & 1};
    if (lead < EXT8)
        return text_datum(NH_BINARY, t);
    if (lead < FLOAT32 || lead >= FIXEXT1)
        return (signed char)t->payload[-1] == NH_SECRET_TYPE ? text_datum(NH_SECRET, t)
                                                             : (nh_datum){.kind = NH_NIL};
    return lead <= FLOAT64 ? real_datum(t) : integer_datum(t);
}

void nh_read_token(nh_reader *reader, nh_datum *datum) {
    nh_token t = {0};
    reader->at = (const char *)nh_token_read((const unsigned char *)reader->at,
                                             (const unsigned char *)reader->end, &t);
    *datum = nh_token_datum(&t);
}

bool nh_reader_next(nh_reader *reader, nh_datum *datum) {
    if (reader->at == reader->end)
        return false;
    nh_read(reader, datum);
    return true;
}
