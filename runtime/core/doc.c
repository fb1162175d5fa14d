/* doc.c — documents: MessagePack on the outside of the process and between its threads, a tree of
 * borrowed values to read.
 *
 * A document holds its packed bytes and, over them, the tree that msgpack-c makes (strings point
 * into the bytes). It is immutable from birth, so any number of threads may read it; the count of
 * references is its only moving part. A writer packs values in order and counts what its open
 * containers still miss; it keeps its buffer from document to document.
 */
#include "runtime/core/doc.h"

#include <msgpack.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"

enum { SECRET_TYPE = 1, ZONE_LEAST = 256, ZONE_MOST = 8192 };

struct nh_doc {
    atomic_uint refs;
    msgpack_zone zone;
    msgpack_object root;
    size_t length;
    char bytes[];
};

static const msgpack_object *object(const nh_value *value) {
    return (const msgpack_object *)value;
}

static const nh_value *as_value(const msgpack_object *o) {
    return (const nh_value *)o;
}

/* -------------------------------------------------------------- documents */

/* Refuses counts that the bytes at hand cannot hold, before msgpack-c allocates room for them, and
 * too deep a tree. Walks the packed form without recursion: `open` counts the values still to come
 * at each level. */
static nh_err scan(const unsigned char *p, size_t length, nh_error *error) {
    uint64_t open[NH_DOC_DEPTH_MAX + 1];
    size_t depth = 0, i = 0;
    open[0] = 1;
    while (open[0] > 0 || depth > 0) {
        while (open[depth] == 0)
            if (depth-- == 0)
                return i == length ? NH_OK : nh_fail(error, NH_E_INVALID, "bytes after a document");
        open[depth]--;
        if (i >= length)
            return nh_fail(error, NH_E_INVALID, "a document ends too early");
        unsigned char lead = p[i++];
        size_t size_bytes = 0; /* bytes that tell a length or count */
        uint64_t size = 0;     /* payload bytes */
        uint64_t children = 0;
        bool container = false;
        if (lead <= 0x7F || lead >= 0xE0 || (lead >= 0xC0 && lead <= 0xC3 && lead != 0xC1)) {
            continue;
        } else if (lead <= 0x8F) {
            container = true, children = 2 * (uint64_t)(lead & 0x0F);
        } else if (lead <= 0x9F) {
            container = true, children = lead & 0x0F;
        } else if (lead <= 0xBF) {
            size = lead & 0x1F;
        } else if (lead >= 0xC4 && lead <= 0xC6) {
            size_bytes = (size_t)1 << (lead - 0xC4);
        } else if (lead >= 0xC7 && lead <= 0xC9) {
            size_bytes = (size_t)1 << (lead - 0xC7), size = 1;
        } else if (lead == 0xCA || lead == 0xCB) {
            size = lead == 0xCA ? 4 : 8;
        } else if (lead >= 0xCC && lead <= 0xD3) {
            size = (uint64_t)1 << ((lead - 0xCC) & 3);
        } else if (lead >= 0xD4 && lead <= 0xD8) {
            size = ((uint64_t)1 << (lead - 0xD4)) + 1;
        } else if (lead >= 0xD9 && lead <= 0xDB) {
            size_bytes = (size_t)1 << (lead - 0xD9);
        } else if (lead >= 0xDC && lead <= 0xDF) {
            size_bytes = lead & 1 ? 4 : 2;
            container = true;
        } else {
            return nh_fail(error, NH_E_INVALID, "a document has an unknown type byte");
        }
        if (size_bytes > length - i)
            return nh_fail(error, NH_E_INVALID, "a document ends too early");
        uint64_t told = 0;
        for (size_t n = 0; n < size_bytes; n++)
            told = told << 8 | p[i++];
        if (container) {
            if (size_bytes)
                children = lead >= 0xDE ? 2 * told : told;
            if (children > length - i)
                return nh_fail(error, NH_E_INVALID, "a document ends too early");
            if (depth == NH_DOC_DEPTH_MAX - 1)
                return nh_fail(error, NH_E_INVALID, "a document is nested more than %d levels deep",
                               NH_DOC_DEPTH_MAX);
            open[++depth] = children;
        } else {
            size += told;
            if (size > length - i)
                return nh_fail(error, NH_E_INVALID, "a document ends too early");
            i += (size_t)size;
        }
    }
    return i == length ? NH_OK : nh_fail(error, NH_E_INVALID, "bytes after a document");
}

nh_doc *nh_doc_from_bytes(const void *bytes, size_t length, nh_error *error) {
    if (length > NH_DOC_BYTES_MAX) {
        nh_fail(error, NH_E_TOO_LARGE, "a document of %zu bytes: at most %zu are allowed", length,
                NH_DOC_BYTES_MAX);
        return NULL;
    }
    if (scan(bytes, length, error) != NH_OK)
        return NULL;
    nh_doc *doc = malloc(sizeof *doc + length);
    if (!doc)
        goto fail;
    atomic_init(&doc->refs, 1);
    doc->length = length;
    memcpy(doc->bytes, bytes, length);
    size_t zone = length < ZONE_LEAST ? ZONE_LEAST : length > ZONE_MOST ? ZONE_MOST : length;
    if (!msgpack_zone_init(&doc->zone, zone))
        goto fail_doc;
    size_t offset = 0;
    if (msgpack_unpack(doc->bytes, length, &offset, &doc->zone, &doc->root) < 0)
        goto fail_zone;
    return doc;
fail_zone:
    msgpack_zone_destroy(&doc->zone);
fail_doc:
    free(doc);
fail:
    nh_fail_memory(error);
    return NULL;
}

nh_doc *nh_doc_ref(nh_doc *doc) {
    atomic_fetch_add_explicit(&doc->refs, 1, memory_order_relaxed);
    return doc;
}

void nh_doc_unref(nh_doc *doc) {
    if (!doc || atomic_fetch_sub_explicit(&doc->refs, 1, memory_order_acq_rel) != 1)
        return;
    msgpack_zone_destroy(&doc->zone);
    free(doc);
}

const void *nh_doc_bytes(const nh_doc *doc, size_t *length) {
    *length = doc->length;
    return doc->bytes;
}

const nh_value *nh_doc_root(const nh_doc *doc) {
    return doc ? as_value(&doc->root) : NULL;
}

void nh_free(void *memory) {
    free(memory);
}

/* ---------------------------------------------------------------- reading */

nh_kind nh_value_kind(const nh_value *value) {
    if (!value)
        return NH_NIL;
    switch (object(value)->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        return NH_BOOL;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return NH_INT;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return NH_REAL;
    case MSGPACK_OBJECT_STR:
        return NH_STRING;
    case MSGPACK_OBJECT_BIN:
        return NH_BINARY;
    case MSGPACK_OBJECT_ARRAY:
        return NH_ARRAY;
    case MSGPACK_OBJECT_MAP:
        return NH_MAP;
    case MSGPACK_OBJECT_EXT:
        return object(value)->via.ext.type == SECRET_TYPE ? NH_SECRET : NH_NIL;
    default:
        return NH_NIL;
    }
}

bool nh_value_bool(const nh_value *value) {
    return nh_value_kind(value) == NH_BOOL && object(value)->via.boolean;
}

int64_t nh_value_int(const nh_value *value, int64_t otherwise) {
    switch (nh_value_kind(value)) {
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
    switch (nh_value_kind(value)) {
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
    switch (nh_value_kind(value)) {
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

size_t nh_value_count(const nh_value *value) {
    switch (nh_value_kind(value)) {
    case NH_ARRAY:
        return object(value)->via.array.size;
    case NH_MAP:
        return object(value)->via.map.size;
    default:
        return 0;
    }
}

const nh_value *nh_value_at(const nh_value *value, size_t index) {
    if (index >= nh_value_count(value))
        return NULL;
    if (nh_value_kind(value) == NH_MAP)
        return as_value(&object(value)->via.map.ptr[index].val);
    return as_value(&object(value)->via.array.ptr[index]);
}

const nh_value *nh_value_key(const nh_value *value, size_t index) {
    if (nh_value_kind(value) != NH_MAP || index >= nh_value_count(value))
        return NULL;
    return as_value(&object(value)->via.map.ptr[index].key);
}

bool nh_value_is(const nh_value *value, const char *text) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    return bytes && length == strlen(text) && memcmp(bytes, text, length) == 0;
}

const nh_value *nh_value_get(const nh_value *value, const char *key) {
    size_t count = nh_value_kind(value) == NH_MAP ? nh_value_count(value) : 0;
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

struct nh_writer {
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    nh_err failed;                    /* the first failure */
    size_t depth;                     /* containers open now */
    size_t missing[NH_DOC_DEPTH_MAX]; /* values that each open container still waits for */
    bool complete;                    /* the root value is whole */
};

void nh_writer_clear(nh_writer *writer) {
    msgpack_sbuffer_clear(&writer->buffer);
    writer->failed = NH_OK;
    writer->depth = 0;
    writer->complete = false;
}

nh_writer *nh_writer_create(void) {
    nh_writer *writer = malloc(sizeof *writer);
    if (!writer)
        return NULL;
    msgpack_sbuffer_init(&writer->buffer);
    msgpack_packer_init(&writer->packer, &writer->buffer, msgpack_sbuffer_write);
    nh_writer_clear(writer);
    return writer;
}

void nh_writer_destroy(nh_writer *writer) {
    if (!writer)
        return;
    msgpack_sbuffer_destroy(&writer->buffer);
    free(writer);
}

/* Accounts for one value about to be packed; false when nothing may be packed any more. */
static bool admit(nh_writer *writer, size_t payload) {
    if (writer->failed != NH_OK)
        return false;
    if (writer->complete || payload > NH_DOC_BYTES_MAX - writer->buffer.size) {
        writer->failed = writer->complete ? NH_E_INVALID : NH_E_TOO_LARGE;
        return false;
    }
    return true;
}

static void packed(nh_writer *writer, int result) {
    if (result != 0)
        writer->failed = NH_E_INTERNAL;
    while (writer->depth > 0 && --writer->missing[writer->depth - 1] == 0)
        writer->depth--;
    writer->complete = writer->depth == 0;
}

static void opened(nh_writer *writer, int result, size_t values) {
    if (values == 0) {
        packed(writer, result);
        return;
    }
    if (result != 0)
        writer->failed = NH_E_INTERNAL;
    if (writer->depth == NH_DOC_DEPTH_MAX - 1)
        writer->failed = NH_E_INVALID;
    else
        writer->missing[writer->depth++] = values;
}

void nh_writer_nil(nh_writer *writer) {
    if (admit(writer, 1))
        packed(writer, msgpack_pack_nil(&writer->packer));
}

void nh_writer_bool(nh_writer *writer, bool value) {
    if (admit(writer, 1))
        packed(writer,
               value ? msgpack_pack_true(&writer->packer) : msgpack_pack_false(&writer->packer));
}

void nh_writer_int(nh_writer *writer, int64_t value) {
    if (admit(writer, 9))
        packed(writer, msgpack_pack_int64(&writer->packer, value));
}

void nh_writer_real(nh_writer *writer, double value) {
    if (admit(writer, 9))
        packed(writer, msgpack_pack_double(&writer->packer, value));
}

void nh_writer_string(nh_writer *writer, const char *text, size_t length) {
    if (admit(writer, length + 5))
        packed(writer, msgpack_pack_str_with_body(&writer->packer, text, length));
}

void nh_writer_cstring(nh_writer *writer, const char *text) {
    nh_writer_string(writer, text, strlen(text));
}

void nh_writer_binary(nh_writer *writer, const void *bytes, size_t length) {
    if (admit(writer, length + 5))
        packed(writer, msgpack_pack_bin_with_body(&writer->packer, bytes, length));
}

void nh_writer_secret(nh_writer *writer, const char *text, size_t length) {
    if (admit(writer, length + 6))
        packed(writer, msgpack_pack_ext_with_body(&writer->packer, text, length, SECRET_TYPE));
}

void nh_writer_array(nh_writer *writer, size_t count) {
    if (admit(writer, count))
        opened(writer, msgpack_pack_array(&writer->packer, count), count);
}

void nh_writer_map(nh_writer *writer, size_t count) {
    if (admit(writer, count))
        opened(writer, msgpack_pack_map(&writer->packer, count), 2 * count);
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
            packed(writer, msgpack_pack_object(&writer->packer, *object(value)));
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

nh_doc *nh_writer_finish(nh_writer *writer, nh_error *error) {
    nh_doc *doc = NULL;
    if (writer->failed == NH_E_TOO_LARGE)
        nh_fail(error, NH_E_TOO_LARGE, "a document of more than %zu bytes", NH_DOC_BYTES_MAX);
    else if (writer->failed == NH_E_INTERNAL)
        nh_fail_memory(error);
    else if (writer->failed != NH_OK && writer->depth == NH_DOC_DEPTH_MAX - 1)
        nh_fail(error, NH_E_INVALID, "nested more than %d levels deep", NH_DOC_DEPTH_MAX);
    else if (writer->failed != NH_OK || !writer->complete)
        nh_fail(error, NH_E_INVALID, "the document is not one whole value");
    else
        doc = nh_doc_from_bytes(writer->buffer.data, writer->buffer.size, error);
    nh_writer_clear(writer);
    return doc;
}
