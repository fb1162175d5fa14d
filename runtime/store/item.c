/* item.c — values are kept packed, their maps in the order of their keys, so that two tables of the
 * same content are the same bytes and can be compared without parsing. A number is kept as one: a
 * counter costs no allocation. A blob is immutable but for its place in a list, and counted, so
 * that a reader may parse it after the lock. Thread: any.
 */
#include "runtime/store/item.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"

enum { ARRAY_HEAD = 5, DEEPEST = NH_DOC_DEPTH_MAX - 1 };

nh_blob *nh_blob_create(const void *bytes, size_t length) {
    nh_blob *blob = malloc(sizeof *blob + length);
    if (!blob)
        return NULL;
    atomic_init(&blob->refs, 1);
    blob->length = (uint32_t)length;
    blob->next = NULL;
    memcpy(blob->bytes, bytes, length);
    return blob;
}

nh_blob *nh_blob_ref(nh_blob *blob) {
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void nh_blob_unref(nh_blob *blob) {
    if (blob && atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) == 1)
        free(blob);
}

void nh_item_free(nh_item *item) {
    if (item->kind == NH_ITEM_VALUE)
        nh_blob_unref(item->value);
    if (item->kind != NH_ITEM_LIST)
        return;
    for (nh_blob *blob = item->list.head, *next; blob; blob = next) {
        next = blob->next;
        nh_blob_unref(blob);
    }
}

/* ------------------------------------------------------- values into items */

typedef struct pair {
    const char *name;
    size_t length;
    const nh_value *value;
} pair;

static int by_name(const void *left, const void *right) {
    const pair *a = left, *b = right;
    int order = memcmp(a->name, b->name, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static nh_err write_ordered(nh_writer *writer, const nh_value *value, nh_error *error);

static nh_err write_map(nh_writer *writer, const nh_value *map, nh_error *error) {
    size_t count = nh_value_count(map);
    pair *pairs = malloc((count ? count : 1) * sizeof *pairs);
    nh_err failed = pairs ? NH_OK : nh_fail_memory(error);
    for (size_t i = 0; i < count && !failed; i++) {
        const nh_value *key = nh_value_key(map, i);
        pairs[i].name = nh_value_bytes(key, &pairs[i].length);
        if (pairs[i].length == 0)
            pairs[i].name = "";
        pairs[i].value = nh_value_at(map, i);
        if (nh_value_kind(key) != NH_STRING)
            failed = nh_fail(error, NH_E_INVALID, "the keys of a stored table must be strings");
    }
    if (!failed) {
        qsort(pairs, count, sizeof *pairs, by_name);
        nh_writer_map(writer, count);
    }
    for (size_t i = 0; i < count && !failed; i++) {
        nh_writer_string(writer, pairs[i].name, pairs[i].length);
        failed = write_ordered(writer, pairs[i].value, error);
    }
    free(pairs);
    return failed;
}

/* Recursion is bounded: a document has at most NH_DOC_DEPTH_MAX levels. */
static nh_err write_ordered(nh_writer *writer, const nh_value *value, nh_error *error) {
    nh_err failed = NH_OK;
    switch (nh_value_kind(value)) {
    case NH_MAP:
        return write_map(writer, value, error);
    case NH_ARRAY:
        nh_writer_array(writer, nh_value_count(value));
        for (size_t i = 0; i < nh_value_count(value) && !failed; i++)
            failed = write_ordered(writer, nh_value_at(value, i), error);
        return failed;
    case NH_SECRET:
        return nh_fail(error, NH_E_INVALID, "a secret cannot be stored");
    default:
        nh_writer_value(writer, value);
        return NH_OK;
    }
}

/* Levels of arrays and maps, of `most` at most. */
static size_t depth(const nh_value *value, size_t most) {
    size_t deepest = 0, count = nh_value_count(value);
    nh_kind kind = nh_value_kind(value);
    if (most == 0 || (kind != NH_ARRAY && kind != NH_MAP))
        return 0;
    for (size_t i = 0; i < count; i++) {
        size_t below = depth(nh_value_at(value, i), most - 1);
        deepest = below > deepest ? below : deepest;
    }
    return 1 + deepest;
}

static nh_err make_blob(nh_blob **out, const nh_doc *doc, size_t most, nh_error *error) {
    nh_kind kind = nh_value_kind(nh_doc_root(doc));
    nh_doc *ordered = NULL;
    nh_err failed = NH_OK;
    size_t length;
    if (kind == NH_MAP || kind == NH_ARRAY || kind == NH_SECRET) {
        nh_writer *writer = nh_writer_create();
        failed = writer ? write_ordered(writer, nh_doc_root(doc), error) : nh_fail_memory(error);
        ordered = failed ? NULL : nh_writer_finish(writer, error);
        nh_writer_destroy(writer);
        if (!ordered)
            return failed ? failed : NH_E_INVALID;
        doc = ordered;
    }
    const void *bytes = nh_doc_bytes(doc, &length);
    if (length > most)
        failed = nh_fail(error, NH_E_TOO_LARGE, "a value of %zu bytes: the store takes at most %zu",
                         length, most);
    else if (!(*out = nh_blob_create(bytes, length)))
        failed = nh_fail_memory(error);
    nh_doc_unref(ordered);
    return failed;
}

static bool as_number(const nh_value *value, nh_number *number) {
    nh_kind kind = nh_value_kind(value);
    if (kind == NH_REAL)
        *number = (nh_number){.integral = false, .real = nh_value_real(value, 0)};
    else
        *number = (nh_number){.integral = true, .integer = nh_value_int(value, 0)};
    /* An unsigned one beyond an int64 is read as what is asked for instead: it stays a value. */
    return kind == NH_REAL || (kind == NH_INT && number->integer == nh_value_int(value, 1));
}

static nh_err check_value(const nh_doc *doc, size_t deepest, nh_error *error) {
    const nh_value *root = nh_doc_root(doc);
    if (nh_value_kind(root) == NH_NIL)
        return nh_fail(error, NH_E_INVALID, "a stored value must not be nil");
    if (depth(root, NH_DOC_DEPTH_MAX) > deepest)
        return nh_fail(error, NH_E_INVALID, "a stored value may be nested %zu levels deep",
                       deepest);
    return NH_OK;
}

nh_err nh_item_from_doc(nh_item *item, const nh_doc *doc, size_t most, nh_error *error) {
    nh_number number;
    nh_err failed = check_value(doc, DEEPEST, error);
    if (failed)
        return failed;
    if (as_number(nh_doc_root(doc), &number)) {
        *item = (nh_item){.kind = NH_ITEM_NUMBER, .number = number};
        return NH_OK;
    }
    *item = (nh_item){.kind = NH_ITEM_VALUE};
    return make_blob(&item->value, doc, most, error);
}

nh_err nh_item_list_of(nh_item *item, const nh_doc *doc, size_t most, nh_error *error) {
    nh_blob *blob;
    /* All items in one array are a level deeper. */
    nh_err failed = check_value(doc, DEEPEST - 1, error);
    if (!failed)
        failed = make_blob(&blob, doc, most, error);
    if (!failed)
        *item = (nh_item){.kind = NH_ITEM_LIST, .list = {blob, blob, 1, blob->length}};
    return failed;
}

/* ------------------------------------------------------- items into values */

static void put_big_endian(unsigned char *to, uint64_t number, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(number >> (8 * (bytes - 1 - i)));
}

/* A number as MessagePack: int 64 or float 64. */
void nh_number_pack(const nh_number *number, unsigned char out[NH_NUMBER_BYTES]) {
    uint64_t bits;
    if (number->integral)
        bits = (uint64_t)number->integer;
    else
        memcpy(&bits, &number->real, sizeof bits);
    out[0] = number->integral ? 0xD3 : 0xCB;
    put_big_endian(out + 1, bits, 8);
}

nh_doc *nh_number_doc(const nh_number *number, nh_error *error) {
    unsigned char bytes[NH_NUMBER_BYTES];
    nh_number_pack(number, bytes);
    return nh_doc_from_bytes(bytes, sizeof bytes, error);
}

nh_doc *nh_blob_doc(const nh_blob *blob, nh_error *error) {
    return nh_doc_from_bytes(blob->bytes, blob->length, error);
}

/* All items as one array: its head, then their bytes as they are. */
nh_doc *nh_list_doc(const nh_list *list, nh_error *error) {
    size_t length = ARRAY_HEAD + list->bytes;
    unsigned char *bytes = malloc(length), *to = bytes;
    if (!bytes) {
        nh_fail_memory(error);
        return NULL;
    }
    *to = 0xDD; /* array 32 */
    put_big_endian(to + 1, list->count, 4);
    to += ARRAY_HEAD;
    for (const nh_blob *blob = list->head; blob; blob = blob->next) {
        memcpy(to, blob->bytes, blob->length);
        to += blob->length;
    }
    nh_doc *doc = nh_doc_from_bytes(bytes, length, error);
    free(bytes);
    return doc;
}

static bool same_number(const nh_number *a, const nh_number *b) {
    if (a->integral == b->integral)
        return a->integral ? a->integer == b->integer : a->real == b->real;
    const nh_number *integer = a->integral ? a : b, *other = a->integral ? b : a;
    return other->real >= -0x1p63 && other->real < 0x1p63 &&
           (double)(int64_t)other->real == other->real && (int64_t)other->real == integer->integer;
}

bool nh_item_same(const nh_item *a, const nh_item *b) {
    if (a->kind != b->kind)
        return false;
    if (a->kind == NH_ITEM_NUMBER)
        return same_number(&a->number, &b->number);
    return a->value->length == b->value->length &&
           memcmp(a->value->bytes, b->value->bytes, a->value->length) == 0;
}
