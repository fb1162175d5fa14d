/* tree.c — from MessagePack to a tree of nodes, in two walks without recursion.
 *
 * Foreign bytes are walked first to check and to count them: nothing is allocated for bytes that
 * are refused. The second walk builds, and believes what it reads. Thread: any; it keeps nothing.
 */
#include "runtime/core/tree.h"

#include <endian.h>
#include <string.h>

#include "runtime/core/error.h"

/* What follows a lead byte from 0xC0 to 0xDF. */
typedef struct shape {
    bool known, container;
    uint8_t counted; /* bytes that tell a length or count; 0: `payload` is the length */
    uint8_t extra;   /* an ext's type */
    uint8_t payload;
} shape;

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

/* One value's own bytes: what stands before its children, or all of it. */
typedef struct token {
    unsigned char lead;
    bool container;
    uint64_t count;               /* children of a container, payload bytes of anything else */
    const unsigned char *payload; /* of an ext: behind its type */
} token;

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

/* Reads the token at `p`; returns what follows it, NULL when it does not end before `end` or is
 * none. A count of children is believed only as far as the bytes at hand could hold them. */
static const unsigned char *read_token(const unsigned char *p, const unsigned char *end, token *t) {
    if (p == end)
        return NULL;
    unsigned char lead = *p++;
    *t = (token){.lead = lead, .payload = p};
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

/* `open` counts the values still to come at each level. */
nh_err nh_tree_scan(const void *bytes, size_t length, size_t *values, nh_error *error) {
    const unsigned char *p = bytes, *end = p + length;
    uint64_t open[NH_DOC_DEPTH_MAX];
    size_t depth = 0;
    *values = 0;
    open[0] = 1;
    for (;;) {
        while (open[depth] == 0)
            if (depth-- == 0)
                return p == end ? NH_OK : nh_fail(error, NH_E_INVALID, "bytes after a document");
        open[depth]--;
        ++*values;
        token t;
        const unsigned char *next = read_token(p, end, &t);
        if (!next && p < end && *p == NIL + 1)
            return nh_fail(error, NH_E_INVALID, "a document has an unknown type byte");
        if (!next)
            return nh_fail(error, NH_E_INVALID, "a document ends too early");
        p = next;
        if (!t.container)
            continue;
        if (depth == NH_DOC_DEPTH_MAX - 1)
            return nh_fail(error, NH_E_INVALID, "a document is nested more than %d levels deep",
                           NH_DOC_DEPTH_MAX);
        open[++depth] = t.count;
    }
}

static nh_node text_node(nh_kind kind, const unsigned char *bytes, uint32_t count) {
    return (nh_node){.kind = (uint8_t)kind, .count = count, .bytes = (const char *)bytes};
}

static nh_node real_node(const token *t) {
    uint64_t bits = big_endian(t->payload, (size_t)t->count);
    uint32_t half = (uint32_t)bits;
    float single;
    nh_node node = {.kind = NH_REAL};
    if (t->lead == FLOAT64) {
        memcpy(&node.real, &bits, sizeof bits);
    } else {
        memcpy(&single, &half, sizeof half);
        node.real = (double)single;
    }
    return node;
}

/* The node of a token with a lead byte from 0xC0 to 0xDB. */
static nh_node node_of(const token *t) {
    uint32_t size = (uint32_t)t->count;
    unsigned char lead = t->lead;
    if (lead >= STR8)
        return text_node(NH_STRING, t->payload, size);
    if (lead == NIL)
        return (nh_node){.kind = NH_NIL};
    if (lead < BIN8)
        return (nh_node){.kind = NH_BOOL, .truth = lead & 1};
    if (lead < EXT8)
        return text_node(NH_BINARY, t->payload, size);
    if (lead < FLOAT32 || lead >= FIXEXT1)
        return (signed char)t->payload[-1] == NH_SECRET_TYPE
                   ? text_node(NH_SECRET, t->payload, size)
                   : (nh_node){.kind = NH_NIL};
    if (lead <= FLOAT64)
        return real_node(t);
    uint64_t bits = big_endian(t->payload, size);
    if (lead < INT8)
        return (nh_node){.kind = NH_INT, .big = bits > INT64_MAX, .whole = (int64_t)bits};
    unsigned unused = 64 - 8 * size; /* shifted up and down again, which extends the sign */
    return (nh_node){.kind = NH_INT, .whole = (int64_t)(bits << unused) >> unused};
}

/* The value at `p` by itself, a container without its children; returns what follows it, NULL when
 * it is none. The kinds that most of a document is are read here and now, the others by way of a
 * token.
 */
static inline const unsigned char *read_node(const unsigned char *p, const unsigned char *end,
                                             nh_node *node) {
    unsigned char lead = p < end ? *p : NIL + 1;
    if ((lead & 0xE0) == 0xA0 && (lead & 0x1F) < end - p) {
        *node = text_node(NH_STRING, p + 1, lead & 0x1F);
        return p + 1 + (lead & 0x1F);
    }
    if (lead < 0x80 || lead >= NEGATIVE) {
        *node = (nh_node){.kind = NH_INT, .whole = (signed char)lead};
        return p + 1;
    }
    token t = {0};
    const unsigned char *next = read_token(p, end, &t);
    if (next && !t.container) {
        *node = node_of(&t);
    } else if (next) {
        bool map = lead < 0x90 || lead >= MAP16;
        *node = (nh_node){.kind = map ? NH_MAP : NH_ARRAY, .count = (uint32_t)(t.count >> map)};
    }
    return next;
}

const char *nh_tree_next(const char *bytes, const char *end, nh_node *node) {
    return (const char *)read_node((const unsigned char *)bytes, (const unsigned char *)end, node);
}

void nh_tree_build(nh_node *nodes, const char *bytes, size_t length) {
    struct {
        nh_node *next;
        uint64_t left;
    } open[NH_DOC_DEPTH_MAX];
    const unsigned char *p = (const unsigned char *)bytes, *end = p + length;
    nh_node *unused = nodes + 1, *next = nodes;
    uint64_t left = 1;
    size_t depth = 0;
    for (;;) {
        while (left == 0) {
            if (depth == 0)
                return;
            next = open[--depth].next;
            left = open[depth].left;
        }
        left--;
        nh_node *node = next++;
        p = read_node(p, end, node);
        if (node->kind != NH_ARRAY && node->kind != NH_MAP)
            continue;
        size_t children = (size_t)node->count << (node->kind == NH_MAP);
        node->children = unused;
        open[depth].next = next;
        open[depth++].left = left;
        next = unused;
        left = children;
        unused += children;
    }
}
