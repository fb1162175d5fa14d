/* writer.c — makes documents, value by value.
 *
 * A writer packs values in order and counts them and what its open containers still miss, so its
 * own bytes need no check and are walked once, to build the tree. It keeps its buffer from document
 * to document. Thread: owner.
 */
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/tree.h"

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
    bool complete; /* the root value is whole */
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
        writer->bytes = NULL;
        writer->room = 0;
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
    writer->room = 0;
    writer->packer = (msgpack_packer){.data = writer};
    nh_writer_clear(writer);
    return writer;
}

void nh_writer_destroy(nh_writer *writer) {
    if (!writer)
        return;
    free(writer->bytes);
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
    size_t depth = writer->depth;
    while (depth > 0 && --writer->open[depth - 1].missing == 0)
        depth--;
    writer->depth = depth;
    writer->complete = depth == 0;
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

/* Most of what is written is a short text, for which there is room. */
static inline bool put_short(nh_writer *writer, const char *text, size_t length) {
    if (length > UINT8_MAX || writer->room - writer->size < length + 2)
        return false;
    unsigned char *at = (unsigned char *)writer->bytes + writer->size;
    if (length < 32) {
        *at++ = (unsigned char)(0xA0 | length);
    } else {
        *at++ = 0xD9;
        *at++ = (unsigned char)length;
    }
    memcpy(at, text, length);
    writer->size = (size_t)((char *)at - writer->bytes) + length;
    return true;
}

/* Apart, so that the short ones need none of its registers. */
static __attribute__((noinline)) int put_long(nh_writer *writer, const char *text, size_t length) {
    return pack_str(&writer->packer, length) || append(writer, text, length);
}

void nh_writer_string(nh_writer *writer, const char *text, size_t length) {
    if (!admit(writer, length + 5))
        return;
    packed(writer, put_short(writer, text, length) ? 0 : put_long(writer, text, length));
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
               pack_ext(&writer->packer, length, NH_SECRET_TYPE) || append(writer, text, length));
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
    const nh_node *node = (const nh_node *)value;
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
            packed(writer, node->big ? pack_uint64(&writer->packer, (uint64_t)node->whole)
                                     : pack_int64(&writer->packer, node->whole));
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

nh_err nh_writer_packed(nh_writer *writer, nh_packed *out, nh_error *error) {
    if (!is_whole(writer, error))
        return writer->failed != NH_OK ? writer->failed : NH_E_INVALID;
    *out = (nh_packed){.bytes = writer->bytes, .length = writer->size, .values = writer->values};
    return NH_OK;
}

nh_doc *nh_writer_finish(nh_writer *writer, nh_error *error) {
    nh_packed packed;
    nh_doc *doc =
        nh_writer_packed(writer, &packed, error) == NH_OK ? nh_doc_of_packed(&packed, error) : NULL;
    nh_writer_clear(writer);
    return doc;
}
