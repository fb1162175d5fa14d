/* doc.c — documents: MessagePack on the outside of the process and between its threads, a tree of
 * borrowed values to read.
 *
 * A document is one allocation: a tree of nodes (tree.c) and behind it its packed bytes, into which
 * strings point. It is immutable from birth, so any number of threads may read it; the count of
 * references is its only moving part. writer.c makes them value by value.
 */
#include "runtime/core/doc.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/error.h"
#include "runtime/core/tree.h"

static const nh_node *node_of(const nh_value *value) {
    return (const nh_node *)value;
}

static const nh_value *as_value(const nh_node *node) {
    return (const nh_value *)node;
}

/* -------------------------------------------------------------- documents */

nh_doc *nh_doc_of_packed(const nh_packed *packed, nh_error *error) {
    size_t tree = packed->values * sizeof(nh_node);
    nh_doc *doc = malloc(sizeof *doc + tree + packed->length);
    if (!doc) {
        nh_fail_memory(error);
        return NULL;
    }
    atomic_init(&doc->refs, 1);
    doc->length = packed->length;
    doc->bytes = memcpy((char *)doc->nodes + tree, packed->bytes, packed->length);
    nh_tree_build(doc->nodes, doc->bytes, doc->length);
    return doc;
}

nh_doc *nh_doc_from_bytes(const void *bytes, size_t length, nh_error *error) {
    nh_packed packed = {.bytes = bytes, .length = length};
    if (length > NH_DOC_BYTES_MAX) {
        nh_fail(error, NH_E_TOO_LARGE, "a document of %zu bytes: at most %zu are allowed", length,
                NH_DOC_BYTES_MAX);
        return NULL;
    }
    if (nh_tree_scan(bytes, length, &packed.values, error) != NH_OK)
        return NULL;
    return nh_doc_of_packed(&packed, error);
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

nh_reader nh_doc_read(const nh_doc *doc) {
    return (nh_reader){.at = doc->bytes, .end = doc->bytes + doc->length};
}

const nh_value *nh_doc_root(const nh_doc *doc) {
    return doc ? as_value(doc->nodes) : NULL;
}

void nh_free(void *memory) {
    free(memory);
}

/* ---------------------------------------------------------------- reading */

static inline nh_kind kind_of(const nh_value *value) {
    return value ? (nh_kind)node_of(value)->kind : NH_NIL;
}

static inline bool is_text(nh_kind kind) {
    return kind == NH_STRING || kind == NH_BINARY || kind == NH_SECRET;
}

nh_kind nh_value_kind(const nh_value *value) {
    return kind_of(value);
}

bool nh_value_bool(const nh_value *value) {
    return kind_of(value) == NH_BOOL && node_of(value)->truth;
}

int64_t nh_value_int(const nh_value *value, int64_t otherwise) {
    nh_kind kind = kind_of(value);
    if (kind == NH_INT)
        return node_of(value)->big ? otherwise : node_of(value)->whole;
    if (kind != NH_REAL)
        return otherwise;
    double real = node_of(value)->real;
    if (!(real >= -9223372036854775808.0 && real < 9223372036854775808.0))
        return otherwise;
    return (double)(int64_t)real == real ? (int64_t)real : otherwise;
}

double nh_value_real(const nh_value *value, double otherwise) {
    nh_kind kind = kind_of(value);
    if (kind == NH_REAL)
        return node_of(value)->real;
    if (kind != NH_INT)
        return otherwise;
    int64_t whole = node_of(value)->whole;
    return node_of(value)->big ? (double)(uint64_t)whole : (double)whole;
}

const char *nh_value_bytes(const nh_value *value, size_t *length) {
    bool text = is_text(kind_of(value));
    *length = text ? node_of(value)->count : 0;
    return text ? node_of(value)->bytes : NULL;
}

static inline size_t count_of(const nh_value *value) {
    nh_kind kind = kind_of(value);
    return kind == NH_ARRAY || kind == NH_MAP ? node_of(value)->count : 0;
}

size_t nh_value_count(const nh_value *value) {
    return count_of(value);
}

const nh_value *nh_value_at(const nh_value *value, size_t index) {
    if (index >= count_of(value))
        return NULL;
    const nh_node *node = node_of(value);
    return as_value(&node->children[node->kind == NH_MAP ? 2 * index + 1 : index]);
}

const nh_value *nh_value_key(const nh_value *value, size_t index) {
    if (kind_of(value) != NH_MAP || index >= node_of(value)->count)
        return NULL;
    return as_value(&node_of(value)->children[2 * index]);
}

bool nh_value_is(const nh_value *value, const char *text) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    return bytes && length == strlen(text) && memcmp(bytes, text, length) == 0;
}

const nh_value *nh_value_get(const nh_value *value, const char *key) {
    if (kind_of(value) != NH_MAP)
        return NULL;
    size_t wanted = strlen(key);
    const nh_node *name = node_of(value)->children;
    for (uint32_t left = node_of(value)->count; left > 0; left--, name += 2)
        if (name->count == wanted && name->kind == NH_STRING &&
            memcmp(name->bytes, key, wanted) == 0)
            return as_value(name + 1);
    return NULL;
}
