/* writer_test.c — a writer refuses what is no document, and counts what it is not told. */
#include <stdint.h>

#include "runtime/core/doc.h"
#include "spec/unit/check.h"

static void check_refused(nh_writer *writer, nh_err code) {
    nh_error error = {0};
    nh_doc *doc = nh_writer_finish(writer, &error);
    CHECK(!doc);
    CHECK_INT(error.code, code);
    nh_doc_unref(doc);
    nh_writer_int(writer, 5); /* finish has emptied it: it serves the next document */
    doc = nh_writer_finish(writer, &error);
    CHECK(doc);
    CHECK_INT(nh_value_int(nh_doc_root(doc), 0), 5);
    nh_doc_unref(doc);
}

static void a_writer_tells_of_its_misuse(void) {
    nh_writer *writer = nh_writer_create();
    check_refused(writer, NH_E_INVALID); /* nothing */
    nh_writer_array(writer, 2);
    nh_writer_nil(writer);
    check_refused(writer, NH_E_INVALID); /* left open */
    nh_writer_map(writer, 1);
    nh_writer_cstring(writer, "key");
    check_refused(writer, NH_E_INVALID); /* a key without value */
    nh_writer_nil(writer);
    nh_writer_nil(writer);
    check_refused(writer, NH_E_INVALID); /* two roots */
    nh_writer_array(writer, 0);
    nh_writer_array(writer, 0);
    check_refused(writer, NH_E_INVALID);
    nh_writer_array(writer, SIZE_MAX);
    check_refused(writer, NH_E_TOO_LARGE);
    nh_writer_map(writer, SIZE_MAX / 2 + 2);
    check_refused(writer, NH_E_TOO_LARGE);
    nh_writer_binary(writer, "", NH_DOC_BYTES_MAX);
    nh_writer_nil(writer); /* the first failure sticks */
    check_refused(writer, NH_E_TOO_LARGE);
    nh_writer_array(writer, 3);
    nh_writer_clear(writer);
    check_refused(writer, NH_E_INVALID);
    nh_writer_destroy(writer);
    nh_writer_destroy(NULL);
}

/* A list and a map of `count` in one map, their counts told before or never. */
static nh_doc *counted(nh_writer *writer, size_t count, bool told) {
    told ? nh_writer_map(writer, 2) : nh_writer_open_map(writer);
    nh_writer_cstring(writer, "list");
    told ? nh_writer_array(writer, count) : nh_writer_open_array(writer);
    for (size_t i = 0; i < count; i++)
        nh_writer_int(writer, (int64_t)i);
    told ? (void)0 : nh_writer_close(writer);
    nh_writer_cstring(writer, "map");
    told ? nh_writer_map(writer, count) : nh_writer_open_map(writer);
    for (size_t i = 0; i < count; i++) {
        nh_writer_int(writer, (int64_t)i);
        nh_writer_array(writer, 0);
    }
    told ? (void)0 : nh_writer_close(writer);
    told ? (void)0 : nh_writer_close(writer);
    return nh_writer_finish(writer, NULL);
}

static void a_container_may_be_counted_while_it_is_written(void) {
    static const size_t counts[] = {0, 1, 15, 16, 17, 65535, 65536, 70000};
    nh_writer *writer = nh_writer_create();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t told_length = 0, found_length = 1;
        nh_doc *told = counted(writer, counts[i], true), *found = counted(writer, counts[i], false);
        if (CHECK(told && found)) {
            const void *told_bytes = nh_doc_bytes(told, &told_length);
            const void *found_bytes = nh_doc_bytes(found, &found_length);
            CHECK_INT(found_length, told_length);
            CHECK(found_length == told_length && memcmp(found_bytes, told_bytes, told_length) == 0);
        }
        nh_doc_unref(told);
        nh_doc_unref(found);
    }
    nh_writer_destroy(writer);
}

static void what_is_closed_must_be_open_and_even(void) {
    nh_writer *writer = nh_writer_create();
    nh_writer_close(writer);
    check_refused(writer, NH_E_INVALID);
    nh_writer_array(writer, 1);
    nh_writer_close(writer); /* its count was told */
    check_refused(writer, NH_E_INVALID);
    nh_writer_open_map(writer);
    nh_writer_cstring(writer, "a key alone");
    nh_writer_close(writer);
    check_refused(writer, NH_E_INVALID);
    nh_writer_open_array(writer);
    nh_writer_nil(writer);
    check_refused(writer, NH_E_INVALID); /* left open */
    for (int i = 0; i < NH_DOC_DEPTH_MAX; i++)
        nh_writer_open_array(writer);
    check_refused(writer, NH_E_INVALID);
    nh_writer_destroy(writer);
}

int main(void) {
    RUN(a_writer_tells_of_its_misuse);
    RUN(a_container_may_be_counted_while_it_is_written);
    RUN(what_is_closed_must_be_open_and_even);
    return check_end();
}
