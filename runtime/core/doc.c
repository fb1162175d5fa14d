/* doc.c — documents: MessagePack on the outside of the process and between its threads, a tree of
 * borrowed values to read.
 *
 * A document is one allocation: its packed bytes and before them the tree, made of msgpack-c's
 * objects (strings point into the bytes). It is immutable from birth, so any number of threads may
 * read it; the count of references is its only moving part. A reader of foreign bytes walks them
 * twice, to check and count and then to build: nothing is allocated for bytes that are refused. A
 * writer packs values in order and counts them and what its open containers still miss, so its own
 * bytes are walked once. It keeps its buffer from document to document, and the tree of those that
 * are only looked at.
 */
#include "runtime/core/doc.h"

#include <msgpack.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"

enum { SECRET_TYPE = 1 };

struct nh_doc {
    atomic_uint refs;
    size_t length;
    const char *bytes;      /* behind the tree */
    msgpack_object nodes[]; /* the root first; a container's children stand together */
};

_Static_assert(sizeof(msgpack_object_kv) == 2 * sizeof(msgpack_object),
               "a map's pairs are laid out as an array's elements");
_Static_assert(offsetof(msgpack_object, via.map.size) == offsetof(msgpack_object, via.array.size),
               "an array and a map tell their size in one place");

static const msgpack_object *object(const nh_value *value) {
    return (const msgpack_object *)value;
}

static const nh_value *as_value(const msgpack_object *o) {
    return (const nh_value *)o;
}

/* -------------------------------------------------------------- documents */

/* One value's own bytes: what stands before its children, or all of it. */
typedef struct token {
    unsigned char lead;
    bool container;
    uint64_t count;               /* children of a container, payload bytes of anything else */
    const unsigned char *payload; /* of an ext: behind its type */
} token;

static uint64_t big_endian(const unsigned char *p, size_t size) {
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | p[i];
    return number;
}

/* Reads the token at `p`; returns what follows it, NULL when it does not end before `end` or is
 * none. A count of children is believed only as far as the bytes at hand could hold them. */
static const unsigned char *read_token(const unsigned char *p, const unsigned char *end, token *t) {
    if (p == end)
        return NULL;
    unsigned char lead = *p++;
    size_t size_bytes = 0; /* bytes that tell a length or count */
    size_t extra = 0;      /* an ext's type */
    *t = (token){.lead = lead, .payload = p};
    if (lead <= 0x7F || lead >= 0xE0 || (lead >= 0xC0 && lead <= 0xC3 && lead != 0xC1)) {
        return p;
    } else if (lead <= 0x8F) {
        t->container = true, t->count = 2 * (uint64_t)(lead & 0x0F);
    } else if (lead <= 0x9F) {
        t->container = true, t->count = lead & 0x0F;
    } else if (lead <= 0xBF) {
        t->count = lead & 0x1F;
    } else if (lead >= 0xC4 && lead <= 0xC6) {
        size_bytes = (size_t)1 << (lead - 0xC4);
    } else if (lead >= 0xC7 && lead <= 0xC9) {
        size_bytes = (size_t)1 << (lead - 0xC7), extra = 1;
    } else if (lead == 0xCA || lead == 0xCB) {
        t->count = lead == 0xCA ? 4 : 8;
    } else if (lead >= 0xCC && lead <= 0xD3) {
        t->count = (uint64_t)1 << ((lead - 0xCC) & 3);
    } else if (lead >= 0xD4 && lead <= 0xD8) {
        t->count = (uint64_t)1 << (lead - 0xD4), extra = 1;
    } else if (lead >= 0xD9 && lead <= 0xDB) {
        size_bytes = (size_t)1 << (lead - 0xD9);
    } else if (lead >= 0xDC && lead <= 0xDF) {
        size_bytes = lead & 1 ? 4 : 2;
        t->container = true;
    } else {
        return NULL;
    }
    if (size_bytes > (size_t)(end - p))
        return NULL;
    if (size_bytes > 0)
        t->count = big_endian(p, size_bytes) << (lead >= 0xDE);
    p += size_bytes;
    t->payload = p + extra;
    if (t->count + extra > (size_t)(end - p))
        return NULL;
    return t->container ? p : t->payload + t->count;
}

/* Counts the values of one document that fills the bytes exactly. Walks the packed form without
 * recursion: `open` counts the values still to come at each level. */
static nh_err scan(const unsigned char *p, size_t length, size_t *values, nh_error *error) {
    const unsigned char *end = p + length;
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
        if (!next && p < end && *p == 0xC1)
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

static void set_integer(msgpack_object *o, int64_t value) {
    o->type = value < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER : MSGPACK_OBJECT_POSITIVE_INTEGER;
    o->via.i64 = value;
}

static void set_real(msgpack_object *o, const token *t) {
    uint64_t bits = big_endian(t->payload, (size_t)t->count);
    uint32_t half = (uint32_t)bits;
    float single;
    if (t->lead == 0xCB) {
        memcpy(&o->via.f64, &bits, sizeof bits);
    } else {
        memcpy(&single, &half, sizeof half);
        o->via.f64 = (double)single;
    }
    o->type = t->lead == 0xCB ? MSGPACK_OBJECT_FLOAT64 : MSGPACK_OBJECT_FLOAT32;
}

/* Makes an object of a token that is no container. */
static void set_object(msgpack_object *o, const token *t) {
    const char *bytes = (const char *)t->payload;
    uint32_t size = (uint32_t)t->count;
    unsigned char lead = t->lead;
    if (lead <= 0x7F || lead >= 0xE0) {
        set_integer(o, (int8_t)lead);
    } else if (lead == 0xC0) {
        o->type = MSGPACK_OBJECT_NIL;
    } else if (lead <= 0xBF || (lead >= 0xD9 && lead <= 0xDB)) {
        o->type = MSGPACK_OBJECT_STR;
        o->via.str = (msgpack_object_str){.size = size, .ptr = bytes};
    } else if (lead <= 0xC3) {
        o->type = MSGPACK_OBJECT_BOOLEAN;
        o->via.boolean = lead == 0xC3;
    } else if (lead <= 0xC6) {
        o->type = MSGPACK_OBJECT_BIN;
        o->via.bin = (msgpack_object_bin){.size = size, .ptr = bytes};
    } else if (lead <= 0xC9 || (lead >= 0xD4 && lead <= 0xD8)) {
        o->type = MSGPACK_OBJECT_EXT;
        o->via.ext = (msgpack_object_ext){.type = (int8_t)bytes[-1], .size = size, .ptr = bytes};
    } else if (lead <= 0xCB) {
        set_real(o, t);
    } else if (lead <= 0xCF) {
        o->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
        o->via.u64 = big_endian(t->payload, size);
    } else { /* shifted up and down again, which extends the sign */
        unsigned unused = 64 - 8 * size;
        set_integer(o, (int64_t)(big_endian(t->payload, size) << unused) >> unused);
    }
}

/* Reads what most of a document is, a text of at most 255 bytes; NULL when the token is another.
 * Only of bytes that scan has passed. */
static inline const unsigned char *read_text(const unsigned char *p, msgpack_object *o) {
    uint32_t size = *p & 0x1F;
    if (*p == 0xD9)
        size = *++p;
    else if ((*p & 0xE0) != 0xA0)
        return NULL;
    o->type = MSGPACK_OBJECT_STR;
    o->via.str = (msgpack_object_str){.size = size, .ptr = (const char *)p + 1};
    return p + 1 + size;
}

/* Builds the tree of bytes that scan has passed. */
static void build(nh_doc *doc) {
    struct {
        msgpack_object *next;
        uint64_t left;
    } open[NH_DOC_DEPTH_MAX];
    const unsigned char *p = (const unsigned char *)doc->bytes, *end = p + doc->length;
    msgpack_object *unused = doc->nodes + 1;
    size_t depth = 0;
    open[0].next = doc->nodes;
    open[0].left = 1;
    while (p) { /* always: every token has been read before */
        while (open[depth].left == 0)
            if (depth-- == 0)
                return;
        open[depth].left--;
        msgpack_object *o = open[depth].next++;
        const unsigned char *text = read_text(p, o);
        if (text) {
            p = text;
            continue;
        }
        token t = {0};
        p = read_token(p, end, &t);
        if (!t.container) {
            set_object(o, &t);
            continue;
        }
        bool map = t.lead <= 0x8F || t.lead >= 0xDE;
        if (map)
            o->via.map = (msgpack_object_map){.size = (uint32_t)(t.count / 2),
                                              .ptr = (msgpack_object_kv *)(void *)unused};
        else
            o->via.array = (msgpack_object_array){.size = (uint32_t)t.count, .ptr = unused};
        o->type = map ? MSGPACK_OBJECT_MAP : MSGPACK_OBJECT_ARRAY;
        depth++;
        open[depth].next = unused;
        open[depth].left = t.count;
        unused += t.count;
    }
}

/* A document of checked bytes with so many values. */
static nh_doc *make(const void *bytes, size_t length, size_t values, nh_error *error) {
    size_t tree = values * sizeof(msgpack_object);
    nh_doc *doc = malloc(sizeof *doc + tree + length);
    if (!doc) {
        nh_fail_memory(error);
        return NULL;
    }
    atomic_init(&doc->refs, 1);
    doc->length = length;
    doc->bytes = memcpy((char *)doc->nodes + tree, bytes, length);
    build(doc);
    return doc;
}

nh_doc *nh_doc_from_bytes(const void *bytes, size_t length, nh_error *error) {
    size_t values;
    if (length > NH_DOC_BYTES_MAX) {
        nh_fail(error, NH_E_TOO_LARGE, "a document of %zu bytes: at most %zu are allowed", length,
                NH_DOC_BYTES_MAX);
        return NULL;
    }
    if (scan(bytes, length, &values, error) != NH_OK)
        return NULL;
    return make(bytes, length, values, error);
}

nh_doc *nh_doc_ref(nh_doc *doc) {
    atomic_fetch_add_explicit(&doc->refs, 1, memory_order_relaxed);
    return doc;
}

void nh_doc_unref(nh_doc *doc) {
    if (!doc || atomic_fetch_sub_explicit(&doc->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(doc);
}

const void *nh_doc_bytes(const nh_doc *doc, size_t *length) {
    *length = doc->length;
    return doc->bytes;
}

const nh_value *nh_doc_root(const nh_doc *doc) {
    return doc ? as_value(doc->nodes) : NULL;
}

void nh_free(void *memory) {
    free(memory);
}

/* ---------------------------------------------------------------- reading */

/* Only the tree of this file makes objects, so there are no types but these. */
static inline nh_kind kind_of(const nh_value *value) {
    static const uint8_t kinds[] = {
        [MSGPACK_OBJECT_NIL] = NH_NIL,
        [MSGPACK_OBJECT_BOOLEAN] = NH_BOOL,
        [MSGPACK_OBJECT_POSITIVE_INTEGER] = NH_INT,
        [MSGPACK_OBJECT_NEGATIVE_INTEGER] = NH_INT,
        [MSGPACK_OBJECT_FLOAT32] = NH_REAL,
        [MSGPACK_OBJECT_FLOAT64] = NH_REAL,
        [MSGPACK_OBJECT_STR] = NH_STRING,
        [MSGPACK_OBJECT_BIN] = NH_BINARY,
        [MSGPACK_OBJECT_ARRAY] = NH_ARRAY,
        [MSGPACK_OBJECT_MAP] = NH_MAP,
        [MSGPACK_OBJECT_EXT] = NH_SECRET,
    };
    if (!value)
        return NH_NIL;
    nh_kind kind = (nh_kind)kinds[object(value)->type];
    return kind == NH_SECRET && object(value)->via.ext.type != SECRET_TYPE ? NH_NIL : kind;
}

nh_kind nh_value_kind(const nh_value *value) {
    return kind_of(value);
}

bool nh_value_bool(const nh_value *value) {
    return kind_of(value) == NH_BOOL && object(value)->via.boolean;
}

int64_t nh_value_int(const nh_value *value, int64_t otherwise) {
    switch (kind_of(value)) {
    case NH_INT:
        if (object(value)->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
            object(value)->via.u64 > INT64_MAX)
            return otherwise;
        return object(value)->via.i64;
    case NH_REAL: {
        double real = object(value)->via.f64;
        if (!(real >= -9223372036854775808.0 && real < 9223372036854775808.0))
            return otherwise;
        return (double)(int64_t)real == real ? (int64_t)real : otherwise;
    }
    default:
        return otherwise;
    }
}

double nh_value_real(const nh_value *value, double otherwise) {
    switch (kind_of(value)) {
    case NH_INT:
        return object(value)->type == MSGPACK_OBJECT_POSITIVE_INTEGER
                   ? (double)object(value)->via.u64
                   : (double)object(value)->via.i64;
    case NH_REAL:
        return object(value)->via.f64;
    default:
        return otherwise;
    }
}

const char *nh_value_bytes(const nh_value *value, size_t *length) {
    switch (kind_of(value)) {
    case NH_STRING:
        *length = object(value)->via.str.size;
        return object(value)->via.str.ptr;
    case NH_BINARY:
        *length = object(value)->via.bin.size;
        return object(value)->via.bin.ptr;
    case NH_SECRET:
        *length = object(value)->via.ext.size;
        return object(value)->via.ext.ptr;
    default:
        *length = 0;
        return NULL;
    }
}

/* An array and a map tell their size in one place. */
static inline size_t count_of(const nh_value *value) {
    nh_kind kind = kind_of(value);
    return kind == NH_ARRAY || kind == NH_MAP ? object(value)->via.array.size : 0;
}

size_t nh_value_count(const nh_value *value) {
    return count_of(value);
}

const nh_value *nh_value_at(const nh_value *value, size_t index) {
    if (index >= count_of(value))
        return NULL;
    if (kind_of(value) == NH_MAP)
        return as_value(&object(value)->via.map.ptr[index].val);
    return as_value(&object(value)->via.array.ptr[index]);
}

const nh_value *nh_value_key(const nh_value *value, size_t index) {
    if (kind_of(value) != NH_MAP || index >= count_of(value))
        return NULL;
    return as_value(&object(value)->via.map.ptr[index].key);
}

bool nh_value_is(const nh_value *value, const char *text) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    return bytes && length == strlen(text) && memcmp(bytes, text, length) == 0;
}

const nh_value *nh_value_get(const nh_value *value, const char *key) {
    size_t count = kind_of(value) == NH_MAP ? nh_value_count(value) : 0;
    size_t wanted = strlen(key);
    for (size_t i = 0; i < count; i++) {
        const msgpack_object *name = &object(value)->via.map.ptr[i].key;
        if (name->type == MSGPACK_OBJECT_STR && name->via.str.size == wanted &&
            memcmp(name->via.str.ptr, key, wanted) == 0)
            return as_value(&object(value)->via.map.ptr[i].val);
    }
    return NULL;
}

/* ---------------------------------------------------------------- writing */

enum {
    BUFFER_LEAST = 512,
    BUFFER_KEPT = 1 << 20, /* bytes that a writer keeps for its next document */
};

/* What an open container still waits for. One whose count its writer does not know yet starts at
 * UNKNOWN and waits for ever. */
typedef struct level {
    size_t missing;
    size_t head; /* where its first byte stands */
} level;

#define UNKNOWN SIZE_MAX

struct nh_writer {
    char *bytes;
    size_t size, room;
    msgpack_packer packer; /* its data is the writer */
    nh_err failed;         /* the first failure */
    size_t depth;          /* containers open now */
    size_t values;         /* packed so far */
    level open[NH_DOC_DEPTH_MAX];
    bool complete;  /* the root value is whole */
    nh_doc *looked; /* what nh_writer_look gave; its memory is kept */
    size_t nodes;   /* that it has room for */
};

static bool grow(nh_writer *writer, size_t more) {
    size_t room = writer->room ? writer->room : BUFFER_LEAST;
    while (room - writer->size < more)
        room *= 2;
    char *bytes = realloc(writer->bytes, room);
    if (!bytes)
        return false;
    writer->bytes = bytes;
    writer->room = room;
    return true;
}

static inline int append(nh_writer *writer, const void *bytes, size_t count) {
    if (writer->room - writer->size < count && !grow(writer, count))
        return -1;
    memcpy(writer->bytes + writer->size, bytes, count);
    writer->size += count;
    return 0;
}

/* msgpack-c's packer, appending without a call through a pointer. */
#define msgpack_pack_inline_func(name)                static inline int pack##name
#define msgpack_pack_inline_func_cint(name)           static inline int pack##name
#define msgpack_pack_inline_func_fixint(name)         static inline int pack_fix##name
#define msgpack_pack_user                             msgpack_packer *
#define msgpack_pack_append_buffer(user, bytes, size) return append((user)->data, (bytes), (size))
#include <msgpack/pack_template.h>

void nh_writer_clear(nh_writer *writer) {
    if (writer->room > BUFFER_KEPT) {
        free(writer->bytes);
        free(writer->looked);
        writer->bytes = NULL;
        writer->looked = NULL;
        writer->room = writer->nodes = 0;
    }
    writer->size = 0;
    writer->failed = NH_OK;
    writer->depth = 0;
    writer->values = 0;
    writer->complete = false;
}

nh_writer *nh_writer_create(void) {
    nh_writer *writer = malloc(sizeof *writer);
    if (!writer)
        return NULL;
    writer->bytes = NULL;
    writer->looked = NULL;
    writer->room = writer->nodes = 0;
    writer->packer = (msgpack_packer){.data = writer};
    nh_writer_clear(writer);
    return writer;
}

void nh_writer_destroy(nh_writer *writer) {
    if (!writer)
        return;
    free(writer->bytes);
    free(writer->looked);
    free(writer);
}

/* Accounts for one value about to be packed; false when nothing may be packed any more. */
static inline bool admit(nh_writer *writer, size_t payload) {
    if (writer->failed != NH_OK)
        return false;
    if (writer->complete || payload > NH_DOC_BYTES_MAX - writer->size) {
        writer->failed = writer->complete ? NH_E_INVALID : NH_E_TOO_LARGE;
        return false;
    }
    writer->values++;
    return true;
}

static inline void packed(nh_writer *writer, int result) {
    if (result != 0)
        writer->failed = NH_E_INTERNAL;
    while (writer->depth > 0 && --writer->open[writer->depth - 1].missing == 0)
        writer->depth--;
    writer->complete = writer->depth == 0;
}

/* A container's head, which stands at `head`, has been packed. */
static void opened(nh_writer *writer, int result, size_t head, size_t values) {
    if (values == 0) {
        packed(writer, result);
        return;
    }
    if (result != 0)
        writer->failed = NH_E_INTERNAL;
    if (writer->depth == NH_DOC_DEPTH_MAX - 1)
        writer->failed = NH_E_INVALID;
    else
        writer->open[writer->depth++] = (level){.missing = values, .head = head};
}

void nh_writer_nil(nh_writer *writer) {
    if (admit(writer, 1))
        packed(writer, pack_nil(&writer->packer));
}

void nh_writer_bool(nh_writer *writer, bool value) {
    if (admit(writer, 1))
        packed(writer, value ? pack_true(&writer->packer) : pack_false(&writer->packer));
}

void nh_writer_int(nh_writer *writer, int64_t value) {
    if (admit(writer, 9))
        packed(writer, pack_int64(&writer->packer, value));
}

void nh_writer_real(nh_writer *writer, double value) {
    if (admit(writer, 9))
        packed(writer, pack_double(&writer->packer, value));
}

void nh_writer_string(nh_writer *writer, const char *text, size_t length) {
    if (admit(writer, length + 5))
        packed(writer, pack_str(&writer->packer, length) || append(writer, text, length));
}

void nh_writer_cstring(nh_writer *writer, const char *text) {
    nh_writer_string(writer, text, strlen(text));
}

void nh_writer_binary(nh_writer *writer, const void *bytes, size_t length) {
    if (admit(writer, length + 5))
        packed(writer, pack_bin(&writer->packer, length) || append(writer, bytes, length));
}

void nh_writer_secret(nh_writer *writer, const char *text, size_t length) {
    if (admit(writer, length + 6))
        packed(writer,
               pack_ext(&writer->packer, length, SECRET_TYPE) || append(writer, text, length));
}

void nh_writer_array(nh_writer *writer, size_t count) {
    size_t head = writer->size;
    if (admit(writer, count))
        opened(writer, pack_array(&writer->packer, count), head, count);
}

void nh_writer_map(nh_writer *writer, size_t count) {
    size_t head = writer->size;
    if (admit(writer, count))
        opened(writer, pack_map(&writer->packer, count), head, 2 * count);
}

void nh_writer_open_array(nh_writer *writer) {
    size_t head = writer->size;
    if (admit(writer, 1))
        opened(writer, pack_array(&writer->packer, 0), head, UNKNOWN);
}

void nh_writer_open_map(nh_writer *writer) {
    size_t head = writer->size;
    if (admit(writer, 1))
        opened(writer, pack_map(&writer->packer, 0), head, UNKNOWN);
}

/* Puts the count into a head that was packed as that of an empty container; what follows moves when
 * it needs more than one byte. */
static int set_count(nh_writer *writer, size_t head, bool map, size_t count) {
    size_t size = writer->size, longer = count < 16 ? 0 : count <= UINT16_MAX ? 2 : 4;
    if (writer->room - size < longer && !grow(writer, longer))
        return -1;
    memmove(writer->bytes + head + 1 + longer, writer->bytes + head + 1, size - head - 1);
    writer->size = head;
    int failed = map ? pack_map(&writer->packer, count) : pack_array(&writer->packer, count);
    writer->size = size + longer;
    return failed;
}

void nh_writer_close(nh_writer *writer) {
    if (writer->failed != NH_OK)
        return;
    const level *last = writer->depth > 0 ? &writer->open[writer->depth - 1] : NULL;
    bool map = last && ((unsigned char)writer->bytes[last->head] & 0xF0) == 0x80;
    size_t values = last ? UNKNOWN - last->missing : 0;
    if (values > NH_DOC_BYTES_MAX || !last || (map && values % 2 != 0)) {
        writer->failed =
            NH_E_INVALID; /* none is open, one of a known count, or a key lacks its value */
        return;
    }
    writer->depth--;
    packed(writer, values > 0 ? set_count(writer, last->head, map, map ? values / 2 : values) : 0);
}

void nh_writer_value(nh_writer *writer, const nh_value *value) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    switch (nh_value_kind(value)) {
    case NH_NIL:
        nh_writer_nil(writer);
        break;
    case NH_BOOL:
        nh_writer_bool(writer, nh_value_bool(value));
        break;
    case NH_INT:
        if (admit(writer, 9))
            packed(writer, object(value)->type == MSGPACK_OBJECT_POSITIVE_INTEGER
                               ? pack_uint64(&writer->packer, object(value)->via.u64)
                               : pack_int64(&writer->packer, object(value)->via.i64));
        break;
    case NH_REAL:
        nh_writer_real(writer, nh_value_real(value, 0));
        break;
    case NH_STRING:
        nh_writer_string(writer, bytes, length);
        break;
    case NH_BINARY:
        nh_writer_binary(writer, bytes, length);
        break;
    case NH_SECRET:
        nh_writer_secret(writer, bytes, length);
        break;
    case NH_ARRAY:
        nh_writer_array(writer, nh_value_count(value));
        for (size_t i = 0; i < nh_value_count(value); i++)
            nh_writer_value(writer, nh_value_at(value, i));
        break;
    case NH_MAP:
        nh_writer_map(writer, nh_value_count(value));
        for (size_t i = 0; i < nh_value_count(value); i++) {
            nh_writer_value(writer, nh_value_key(value, i));
            nh_writer_value(writer, nh_value_at(value, i));
        }
        break;
    }
}

/* Whether what was written is one whole value. */
static bool is_whole(const nh_writer *writer, nh_error *error) {
    if (writer->failed == NH_OK && writer->complete)
        return true;
    if (writer->failed == NH_E_TOO_LARGE)
        nh_fail(error, NH_E_TOO_LARGE, "a document of more than %zu bytes", NH_DOC_BYTES_MAX);
    else if (writer->failed == NH_E_INTERNAL)
        nh_fail_memory(error);
    else if (writer->failed != NH_OK && writer->depth == NH_DOC_DEPTH_MAX - 1)
        nh_fail(error, NH_E_INVALID, "nested more than %d levels deep", NH_DOC_DEPTH_MAX);
    else
        nh_fail(error, NH_E_INVALID, "the document is not one whole value");
    return false;
}

nh_doc *nh_writer_finish(nh_writer *writer, nh_error *error) {
    nh_doc *doc = NULL;
    if (is_whole(writer, error))
        doc = make(writer->bytes, writer->size, writer->values, error);
    nh_writer_clear(writer);
    return doc;
}

const nh_doc *nh_writer_look(nh_writer *writer, nh_error *error) {
    if (!is_whole(writer, error))
        return NULL;
    if (!writer->looked || writer->nodes < writer->values) {
        size_t nodes = writer->values < 32 ? 32 : 2 * writer->values;
        free(writer->looked);
        writer->looked = malloc(sizeof *writer->looked + nodes * sizeof(msgpack_object));
        writer->nodes = writer->looked ? nodes : 0;
        if (!writer->looked) {
            nh_fail_memory(error);
            return NULL;
        }
        atomic_init(&writer->looked->refs, 1);
    }
    writer->looked->length = writer->size;
    writer->looked->bytes = writer->bytes;
    build(writer->looked);
    return writer->looked;
}
