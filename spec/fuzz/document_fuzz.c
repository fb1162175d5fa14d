/* document_fuzz.c — packed bytes from anywhere (a journal, another process): refused with a reason,
 * or a document that can be read, rewritten, written as JSON and become a message. */
#include "runtime/core/doc.h"
#include "spec/fuzz/fuzz.h"

/* Reads all of a value, at most NH_DOC_DEPTH_MAX deep; returns how many values it is. */
static size_t read_all(const nh_value *value, size_t depth) {
    size_t count = 1, length;
    MUST(depth < NH_DOC_DEPTH_MAX);
    const char *bytes = nh_value_bytes(value, &length);
    unsigned sum = 0;
    for (size_t i = 0; bytes && i < length; i++)
        sum += (unsigned char)bytes[i]; /* a sanitizer sees bytes that are not there */
    MUST(bytes || (length == 0 && sum == 0));
    int64_t integer = nh_value_int(value, 7);
    MUST(nh_value_kind(value) == NH_INT || nh_value_kind(value) == NH_REAL || integer == 7);
    for (size_t i = 0; i < nh_value_count(value); i++) {
        if (nh_value_kind(value) == NH_MAP)
            count += read_all(nh_value_key(value, i), depth + 1);
        count += read_all(nh_value_at(value, i), depth + 1);
    }
    MUST(!nh_value_at(value, nh_value_count(value)));
    return count;
}

static nh_doc *rewrite(const nh_doc *doc) {
    nh_error error = FUZZ_ERROR;
    nh_writer *writer = nh_writer_create();
    MUST(writer);
    nh_writer_value(writer, nh_doc_root(doc));
    nh_doc *copy = nh_writer_finish(writer, &error);
    nh_writer_destroy(writer);
    return copy;
}

static void must_be_same(const nh_doc *a, const nh_doc *b) {
    size_t a_length, b_length;
    const void *a_bytes = nh_doc_bytes(a, &a_length), *b_bytes = nh_doc_bytes(b, &b_length);
    MUST(a_length == b_length && memcmp(a_bytes, b_bytes, a_length) == 0);
}

/* The writer's own form is the shortest: written once more it stays what it is. */
static void must_be_rewritten(const nh_doc *doc) {
    nh_doc *once = rewrite(doc);
    MUST(once);
    nh_doc *twice = rewrite(once);
    MUST(twice);
    must_be_same(once, twice);
    MUST(read_all(nh_doc_root(doc), 0) == read_all(nh_doc_root(once), 0));
    nh_doc_unref(once);
    nh_doc_unref(twice);
}

/* JSON can hold any document. What it makes of one stands: read and written again it is the same.
 */
static void must_have_json(const nh_doc *doc) {
    nh_error error = FUZZ_ERROR;
    char *text = nh_doc_to_json(doc);
    MUST(text && nh_utf8_valid(text, strlen(text)) && !strchr(text, '\n'));
    nh_doc *read =
        text[0] == '{' || text[0] == '[' ? nh_doc_from_json(text, strlen(text), &error) : NULL;
    if (read) {
        char *again = nh_doc_to_json(read);
        MUST(again && strcmp(text, again) == 0);
        nh_free(again);
    } else {
        MUST(text[0] != '{' && text[0] != '[');
    }
    nh_doc_unref(read);
    nh_free(text);
}

/* A document is all of its bytes: no beginning of it is one. */
static void must_be_whole(const uint8_t *data, size_t size) {
    enum { SHORT = 48 };
    for (size_t length = 0; length < size && size <= SHORT; length++) {
        nh_error error = FUZZ_ERROR;
        MUST(!nh_doc_from_bytes(data, length, &error));
        must_be_told(&error);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nh_error error = FUZZ_ERROR;
    nh_doc *doc = nh_doc_from_bytes(data, size, &error);
    if (!doc) {
        must_be_told(&error);
        return 0;
    }
    read_all(nh_doc_root(doc), 0);
    must_be_whole(data, size);
    must_be_rewritten(doc);
    must_have_json(doc);
    nh_doc_unref(doc);
    return 0;
}
