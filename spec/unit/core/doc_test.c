/* doc_test.c — documents keep what was put in, and refuse bytes that are not one. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "runtime/core/doc.h"
#include "spec/unit/check.h"

static nh_doc *finish(nh_writer *writer) {
    nh_error error;
    nh_doc *doc = nh_writer_finish(writer, &error);
    if (!CHECK(doc))
        printf("# %s\n", error.message);
    nh_writer_destroy(writer);
    return doc;
}

/* The same document made again from its bytes, so that what is read has been packed and unpacked.
 */
static nh_doc *again(nh_doc *doc) {
    size_t length;
    const void *bytes = nh_doc_bytes(doc, &length);
    nh_doc *copy = nh_doc_from_bytes(bytes, length, NULL);
    CHECK(copy);
    nh_doc_unref(doc);
    return copy;
}

static void check_bytes(const nh_value *value, nh_kind kind, const void *wanted, size_t count) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    CHECK_INT(nh_value_kind(value), kind);
    CHECK_INT(length, count);
    CHECK(bytes && memcmp(bytes, wanted, count) == 0);
}

static void integers_keep_their_value_to_the_limits(void) {
    static const int64_t numbers[] = {
        0,    1,    -1,    127,   128,       -32,       -33,       255,       256,
        -128, -129, 65535, 65536, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, (int64_t)1 << 53};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    nh_writer *writer = nh_writer_create();
    nh_writer_array(writer, COUNT);
    for (int i = 0; i < COUNT; i++)
        nh_writer_int(writer, numbers[i]);
    nh_doc *doc = again(finish(writer));
    for (int i = 0; i < COUNT; i++) {
        const nh_value *value = nh_value_at(nh_doc_root(doc), (size_t)i);
        CHECK_INT(nh_value_kind(value), NH_INT);
        CHECK_INT(nh_value_int(value, 42), numbers[i]);
    }
    nh_doc_unref(doc);
}

static void reals_keep_every_bit_and_stay_reals(void) {
    const double numbers[] = {0.0,     -0.0,    1.0,      0.1,       1.0 / 3,
                              DBL_MAX, DBL_MIN, INFINITY, -INFINITY, 5e-324};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    nh_writer *writer = nh_writer_create();
    nh_writer_array(writer, COUNT + 1);
    for (int i = 0; i < COUNT; i++)
        nh_writer_real(writer, numbers[i]);
    nh_writer_real(writer, NAN);
    nh_doc *doc = again(finish(writer));
    for (int i = 0; i < COUNT; i++) {
        const nh_value *value = nh_value_at(nh_doc_root(doc), (size_t)i);
        double got = nh_value_real(value, 42);
        CHECK_INT(nh_value_kind(value), NH_REAL);
        /* Bits, since -0 must stay. NOLINTNEXTLINE(bugprone-*, cert-*) */
        CHECK(memcmp(&got, &numbers[i], sizeof got) == 0);
    }
    CHECK(isnan(nh_value_real(nh_value_at(nh_doc_root(doc), COUNT), 42)));
    CHECK_INT(nh_value_int(nh_value_at(nh_doc_root(doc), 2), 42), 1); /* integral: an int as well */
    CHECK_INT(nh_value_int(nh_value_at(nh_doc_root(doc), 3), 42), 42);
    CHECK_INT(nh_value_int(nh_value_at(nh_doc_root(doc), 5), 42), 42); /* out of range */
    CHECK_INT(nh_value_int(nh_value_at(nh_doc_root(doc), COUNT), 42), 42);
    nh_doc_unref(doc);
}

static void strings_binaries_and_secrets_stay_what_they_are(void) {
    static char large[70000];
    memset(large, 'x', sizeof large);
    nh_writer *writer = nh_writer_create();
    nh_writer_array(writer, 7);
    nh_writer_string(writer, "a\0b", 3);
    nh_writer_string(writer, "", 0);
    nh_writer_binary(writer, "\xFF\x00\x80", 3);
    nh_writer_binary(writer, "", 0);
    nh_writer_secret(writer, "hunter2", 7);
    nh_writer_secret(writer, "", 0);
    nh_writer_string(writer, large, sizeof large);
    nh_doc *doc = again(finish(writer));
    const nh_value *root = nh_doc_root(doc);
    check_bytes(nh_value_at(root, 0), NH_STRING, "a\0b", 3);
    check_bytes(nh_value_at(root, 1), NH_STRING, "", 0);
    check_bytes(nh_value_at(root, 2), NH_BINARY, "\xFF\x00\x80", 3);
    check_bytes(nh_value_at(root, 3), NH_BINARY, "", 0);
    check_bytes(nh_value_at(root, 4), NH_SECRET, "hunter2", 7);
    check_bytes(nh_value_at(root, 5), NH_SECRET, "", 0);
    check_bytes(nh_value_at(root, 6), NH_STRING, large, sizeof large);
    CHECK(!nh_value_at(root, 7));
    CHECK(nh_value_is(nh_value_at(root, 4), "hunter2"));
    CHECK(!nh_value_is(nh_value_at(root, 0), "a"));
    nh_doc_unref(doc);
}

static void empty_containers_and_absent_values_read_as_nothing(void) {
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 3);
    nh_writer_cstring(writer, "list");
    nh_writer_array(writer, 0);
    nh_writer_cstring(writer, "map");
    nh_writer_map(writer, 0);
    nh_writer_cstring(writer, "nil");
    nh_writer_nil(writer);
    nh_doc *doc = again(finish(writer));
    const nh_value *root = nh_doc_root(doc);
    CHECK_INT(nh_value_kind(nh_value_get(root, "list")), NH_ARRAY);
    CHECK_INT(nh_value_kind(nh_value_get(root, "map")), NH_MAP);
    CHECK(nh_value_get(root, "nil"));
    CHECK(!nh_value_get(root, "ni"));
    CHECK_INT(nh_value_count(nh_value_get(root, "map")), 0);
    CHECK_INT(nh_value_kind(NULL), NH_NIL);
    CHECK_INT(nh_value_int(NULL, 7), 7);
    CHECK_INT(nh_value_count(NULL), 0);
    CHECK(!nh_value_get(NULL, "x") && !nh_value_at(NULL, 0) && !nh_value_key(NULL, 0));
    CHECK(!nh_value_bool(NULL));
    nh_doc_unref(doc);
}

/* `levels` values inside each other, the last of them a string. */
static nh_doc *nested(int levels, nh_error *error) {
    nh_writer *writer = nh_writer_create();
    for (int i = 1; i < levels; i++)
        nh_writer_array(writer, 1);
    nh_writer_cstring(writer, "deep");
    nh_doc *doc = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    return doc;
}

static void depth_32_is_the_deepest(void) {
    nh_error error;
    nh_doc *doc = nested(NH_DOC_DEPTH_MAX, &error);
    if (CHECK(doc)) {
        doc = again(doc);
        const nh_value *value = nh_doc_root(doc);
        for (int i = 1; i < NH_DOC_DEPTH_MAX; i++)
            value = nh_value_at(value, 0);
        CHECK(nh_value_is(value, "deep"));
    }
    CHECK(!nested(NH_DOC_DEPTH_MAX + 1, &error));
    CHECK_INT(error.code, NH_E_INVALID);
    CHECK_STR(error.message, "nested more than 32 levels deep");
    CHECK(!nested(10000, &error));
    unsigned char packed[NH_DOC_DEPTH_MAX + 1];
    memset(packed, 0x91, sizeof packed);
    packed[NH_DOC_DEPTH_MAX] = 0xC0;
    CHECK(!nh_doc_from_bytes(packed, sizeof packed, &error));
    CHECK_STR(error.message, "a document is nested more than 32 levels deep");
    nh_doc_unref(doc);
}

static void json_goes_in_and_comes_out(void) {
    static const char *const texts[] = {
        ("{\"a\":[1,-2,9223372036854775807,-9223372036854775808],\"b\":{\"c\":null,\"d\":true,"
         "\"e\":false}}"),
        "{\"text\":\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\\n\\\"\\\\\"}",
        "{\"real\":0.5,\"whole\":2.0,\"list\":[],\"map\":{}}",
        "[]",
        "{}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        nh_error error;
        nh_doc *doc = nh_doc_from_json(texts[i], strlen(texts[i]), &error);
        if (!CHECK(doc))
            continue;
        doc = again(doc);
        char *text = nh_doc_to_json(doc);
        CHECK_STR(text, texts[i]);
        nh_free(text);
        nh_doc_unref(doc);
    }
}

static void json_that_is_none_names_line_and_column(void) {
    static const char *const texts[] = {"",
                                        "{",
                                        "{\"a\":1,}",
                                        "[1 2]",
                                        "{\"a\":1}x",
                                        "{'a':1}",
                                        "nul",
                                        "\"\xFF\"",
                                        "[1e999]",
                                        "[99999999999999999999]",
                                        "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        nh_error error = {0};
        nh_doc *doc = nh_doc_from_json(texts[i], strlen(texts[i]), &error);
        CHECK(!doc);
        CHECK_INT(error.code, NH_E_INVALID);
        if (!CHECK(strncmp(error.message, "JSON, line ", 11) == 0))
            printf("# %s: %s\n", texts[i], error.message);
        nh_doc_unref(doc);
    }
    static char deep[4000];
    memset(deep, '[', sizeof deep);
    CHECK(!nh_doc_from_json(deep, sizeof deep, NULL));
    memset(deep + 1000, ']', 1000);
    CHECK(!nh_doc_from_json(deep, 2000, NULL));
}

static void json_shows_no_secret_and_loses_no_bytes(void) {
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 4);
    nh_writer_cstring(writer, "password");
    nh_writer_secret(writer, "hunter2", 7);
    nh_writer_cstring(writer, "binary");
    nh_writer_binary(writer, "\x00\xFF\x10", 3);
    nh_writer_cstring(writer, "latin");
    nh_writer_string(writer, "\xE4", 1);
    nh_writer_cstring(writer, "nan");
    nh_writer_real(writer, NAN);
    nh_doc *doc = finish(writer);
    char *text = nh_doc_to_json(doc);
    CHECK_STR(text,
              "{\"password\":\"<secret>\",\"binary\":\"AP8Q\",\"latin\":\"5A==\",\"nan\":null}");
    nh_free(text);
    nh_doc_unref(doc);
}

/* A key is a string like any other: it may hold what JSON cannot. */
static void json_is_made_of_odd_keys_too(void) {
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 6);
    nh_writer_string(writer, "\xE4", 1);
    nh_writer_int(writer, 1);
    nh_writer_int(writer, 5);
    nh_writer_int(writer, 2);
    nh_writer_bool(writer, true);
    nh_writer_int(writer, 3);
    nh_writer_nil(writer);
    nh_writer_int(writer, 4);
    nh_writer_array(writer, 2);
    nh_writer_real(writer, 1.5);
    nh_writer_cstring(writer, "a");
    nh_writer_int(writer, 5);
    nh_writer_secret(writer, "hunter2", 7);
    nh_writer_int(writer, 6);
    nh_doc *doc = finish(writer);
    char *text = nh_doc_to_json(doc);
    CHECK_STR(text, "{\"5A==\":1,\"5\":2,\"true\":3,\"null\":4,\"[1.5,\\\"a\\\"]\":5,"
                    "\"<secret>\":6}");
    nh_free(text);
    nh_doc_unref(doc);
}

/* An empty text is a text: it has bytes, none of them, and is no null pointer. */
static void empty_texts_are_texts(void) {
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 2);
    nh_writer_cstring(writer, "");
    nh_writer_array(writer, 1);
    nh_writer_cstring(writer, "");
    nh_writer_cstring(writer, "last");
    nh_writer_binary(writer, "", 0);
    nh_doc *doc = again(finish(writer));
    const nh_value *root = nh_doc_root(doc), *list = nh_value_get(root, "");
    check_bytes(nh_value_key(root, 0), NH_STRING, "", 0);
    check_bytes(nh_value_at(list, 0), NH_STRING, "", 0);
    check_bytes(nh_value_get(root, "last"), NH_BINARY, "", 0);
    CHECK(nh_value_is(nh_value_at(list, 0), ""));
    CHECK(nh_value_is(nh_value_key(root, 0), ""));
    CHECK(!nh_value_is(list, ""));
    CHECK(!nh_value_is(NULL, ""));
    char *text = nh_doc_to_json(doc);
    CHECK_STR(text, "{\"\":[\"\"],\"last\":\"\"}");
    nh_free(text);
    nh_doc_unref(doc);

    static const char *const documents[] = {"[\"\"]", "{\"\":\"\"}"};
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        doc = nh_doc_from_json(documents[i], strlen(documents[i]), NULL);
        text = doc ? nh_doc_to_json(doc) : NULL;
        CHECK_STR(text, documents[i]);
        nh_free(text);
        nh_doc_unref(doc);
    }
}

/* MessagePack has integers that neither int64_t nor jansson holds. */
static void json_shows_the_largest_integers(void) {
    static const struct {
        const char *bytes, *json;
        size_t length;
    } cases[] = {
        {"\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "1.8446744073709552e19", 9},
        {"\xCF\x80\0\0\0\0\0\0\0", "9.2233720368547758e18", 9},
        {"\xCF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "9223372036854775807", 9},
        {"\xD3\x80\0\0\0\0\0\0\0", "-9223372036854775808", 9},
        {"\xFF", "-1", 1},
        {"\x01", "1", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nh_error error;
        nh_doc *doc = nh_doc_from_bytes(cases[i].bytes, cases[i].length, &error);
        char *text = nh_doc_to_json(doc);
        CHECK_STR(text, cases[i].json);
        nh_free(text);
        nh_doc_unref(doc);
    }
}

static nh_doc *sample(void) {
    nh_writer *writer = nh_writer_create();
    static char text[300];
    memset(text, 'y', sizeof text);
    nh_writer_map(writer, 6);
    nh_writer_cstring(writer, "short");
    nh_writer_cstring(writer, "text");
    nh_writer_cstring(writer, "long");
    nh_writer_string(writer, text, sizeof text);
    nh_writer_cstring(writer, "binary");
    nh_writer_binary(writer, text, 40);
    nh_writer_cstring(writer, "secret");
    nh_writer_secret(writer, text, 17);
    nh_writer_cstring(writer, "numbers");
    nh_writer_array(writer, 20);
    for (int i = 0; i < 10; i++) {
        nh_writer_int(writer, (int64_t)1 << (6 * i));
        nh_writer_real(writer, i);
    }
    nh_writer_cstring(writer, "map");
    nh_writer_map(writer, 1);
    nh_writer_bool(writer, true);
    nh_writer_nil(writer);
    return finish(writer);
}

/* Each prefix stands in memory of just its size, so that a byte read beyond it is caught. */
/* Other writers may choose a wider form than ours: each means the same. */
static void every_packed_form_is_read(void) {
    static const struct {
        unsigned char bytes[10];
        size_t length;
        int64_t value;
    } integers[] = {
        {{0x7F}, 1, 127},
        {{0xE0}, 1, -32},
        {{0xCC, 0xFF}, 2, 255},
        {{0xCD, 0x01, 0x00}, 3, 256},
        {{0xCE, 0xFF, 0, 0, 1}, 5, 0xFF000001},
        {{0xCF, 0, 0, 0, 1, 0, 0, 0, 2}, 9, 0x100000002},
        {{0xD0, 0x80}, 2, -128},
        {{0xD0, 0x05}, 2, 5},
        {{0xD1, 0xFF, 0xFE}, 3, -2},
        {{0xD2, 0x80, 0, 0, 0}, 5, -2147483648LL},
        {{0xD3, 0x80, 0, 0, 0, 0, 0, 0, 0}, 9, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        nh_doc *doc = nh_doc_from_bytes(integers[i].bytes, integers[i].length, NULL);
        CHECK_INT(nh_value_kind(nh_doc_root(doc)), NH_INT);
        CHECK_INT(nh_value_int(nh_doc_root(doc), 42), integers[i].value);
        nh_doc_unref(doc);
    }
    static const struct {
        const char *bytes;
        size_t length;
        nh_kind kind;
        const char *text;
    } strings[] = {
        {"\xA2hi", 3, NH_STRING, "hi"},         {"\xD9\2hi", 4, NH_STRING, "hi"},
        {"\xDA\0\2hi", 5, NH_STRING, "hi"},     {"\xDB\0\0\0\2hi", 7, NH_STRING, "hi"},
        {"\xC4\2hi", 4, NH_BINARY, "hi"},       {"\xC5\0\2hi", 5, NH_BINARY, "hi"},
        {"\xC6\0\0\0\2hi", 7, NH_BINARY, "hi"}, {"\xC7\2\1hi", 5, NH_SECRET, "hi"},
        {"\xC8\0\2\1hi", 6, NH_SECRET, "hi"},   {"\xC9\0\0\0\2\1hi", 8, NH_SECRET, "hi"},
        {"\xD4\1h", 3, NH_SECRET, "h"},         {"\xD5\1hi", 4, NH_SECRET, "hi"},
        {"\xD6\1four", 6, NH_SECRET, "four"},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        nh_doc *doc = nh_doc_from_bytes(strings[i].bytes, strings[i].length, NULL);
        CHECK_INT(nh_value_kind(nh_doc_root(doc)), strings[i].kind);
        CHECK(nh_value_is(nh_doc_root(doc), strings[i].text));
        nh_doc_unref(doc);
    }
    static const struct {
        const char *bytes;
        size_t length;
    } lists[] = {{"\x92\1\2", 3}, {"\xDC\0\2\1\2", 5}, {"\xDD\0\0\0\2\1\2", 7}},
      maps[] = {{"\x81\xA1k\2", 4}, {"\xDE\0\1\xA1k\2", 6}, {"\xDF\0\0\0\1\xA1k\2", 8}};
    for (size_t i = 0; i < 3; i++) {
        nh_doc *list = nh_doc_from_bytes(lists[i].bytes, lists[i].length, NULL);
        CHECK_INT(nh_value_count(nh_doc_root(list)), 2);
        CHECK_INT(nh_value_int(nh_value_at(nh_doc_root(list), 1), 0), 2);
        nh_doc_unref(list);
        nh_doc *map = nh_doc_from_bytes(maps[i].bytes, maps[i].length, NULL);
        CHECK_INT(nh_value_count(nh_doc_root(map)), 1);
        CHECK_INT(nh_value_int(nh_value_get(nh_doc_root(map), "k"), 0), 2);
        nh_doc_unref(map);
    }
    nh_doc *real = nh_doc_from_bytes("\xCA\xBF\xC0\0\0", 5, NULL);
    CHECK_INT(nh_value_kind(nh_doc_root(real)), NH_REAL);
    CHECK(nh_value_real(nh_doc_root(real), 0) == -1.5);
    nh_doc_unref(real);
}

static void every_prefix_of_a_document_is_refused(void) {
    nh_doc *doc = sample();
    size_t length;
    const char *bytes = nh_doc_bytes(doc, &length);
    for (size_t cut = 0; cut < length; cut++) {
        nh_error error = {0};
        char *prefix = malloc(cut ? cut : 1);
        memcpy(prefix, bytes, cut);
        CHECK(!nh_doc_from_bytes(prefix, cut, &error));
        CHECK_STR(error.message, "a document ends too early");
        free(prefix);
    }
    char *more = malloc(length + 1);
    memcpy(more, bytes, length);
    more[length] = 0;
    nh_error error = {0};
    CHECK(!nh_doc_from_bytes(more, length + 1, &error));
    CHECK_STR(error.message, "bytes after a document");
    free(more);
    nh_doc_unref(doc);
}

static volatile unsigned bytes_seen; /* so that reading is not optimised away */

static void read_all(const nh_value *value) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += (unsigned char)bytes[i];
    sum += (unsigned)nh_value_int(value, 0) + nh_value_bool(value) + (nh_value_real(value, 0) > 0);
    for (size_t i = 0; i < nh_value_count(value); i++) {
        read_all(nh_value_at(value, i));
        read_all(nh_value_key(value, i));
    }
    bytes_seen += sum;
}

static uint64_t bits_of(double real) {
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    return bits;
}

/* Whether the reader gives the value and all in it, as the tree does. */
static bool reads_as(nh_reader *reader, const nh_value *value) {
    nh_datum datum;
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    if (!nh_reader_next(reader, &datum) || datum.kind != nh_value_kind(value))
        return false;
    switch (datum.kind) {
    case NH_NIL:
        return true;
    case NH_BOOL:
        return datum.truth == nh_value_bool(value);
    case NH_INT:
        return datum.big ? nh_value_real(value, 0) == (double)(uint64_t)datum.integer
                         : nh_value_int(value, ~datum.integer) == datum.integer;
    case NH_REAL:
        return bits_of(datum.real) == bits_of(nh_value_real(value, 0));
    case NH_ARRAY:
    case NH_MAP:
        break;
    default:
        return datum.count == length && datum.bytes == bytes;
    }
    bool same = datum.count == nh_value_count(value);
    for (size_t i = 0; i < datum.count && same; i++)
        same = (datum.kind == NH_ARRAY || reads_as(reader, nh_value_key(value, i))) &&
               reads_as(reader, nh_value_at(value, i));
    return same;
}

static bool reads_in_order(const nh_doc *doc) {
    nh_datum datum;
    nh_reader reader = nh_doc_read(doc);
    return reads_as(&reader, nh_doc_root(doc)) && !nh_reader_next(&reader, &datum);
}

static void random_bytes_are_refused_or_readable(void) {
    nh_doc *whole = sample();
    size_t length;
    const char *bytes = nh_doc_bytes(whole, &length);
    unsigned accepted = 0;
    srand(1);
    for (int round = 0; round < 60000; round++) {
        size_t size = round % 2 ? length : (size_t)rand() % 64;
        unsigned char *noise = malloc(size ? size : 1);
        for (size_t i = 0; i < size && round % 2 == 0; i++)
            noise[i] = (unsigned char)rand();
        if (round % 2) { /* a document with some bytes changed */
            memcpy(noise, bytes, length);
            for (int i = 0; i < 3; i++)
                noise[(size_t)rand() % size] = (unsigned char)rand(); /* NOLINT: size is not 0 */
        }
        nh_doc *doc = nh_doc_from_bytes(noise, size, NULL);
        if (doc) {
            read_all(nh_doc_root(doc));
            CHECK(reads_in_order(doc));
        }
        accepted += doc != NULL;
        nh_doc_unref(doc);
        free(noise);
    }
    CHECK(accepted > 0 && accepted < 60000);
    nh_doc_unref(whole);
}

static void huge_counts_cost_nothing(void) {
    static const struct {
        const char *bytes;
        size_t length;
    } lies[] = {{"\xDD\xFF\xFF\xFF\xFF", 5},     {"\xDF\xFF\xFF\xFF\xFF", 5},
                {"\xDC\xFF\xFF\xC0", 4},         {"\xDE\xFF\xFF\xC0", 4},
                {"\xDB\xFF\xFF\xFF\xFF", 5},     {"\xC6\xFF\xFF\xFF\xFF", 5},
                {"\xC9\xFF\xFF\xFF\xFF\x01", 6}, {"\xDD\x7F\xFF\xFF\xFF\xC0\xC0", 7},
                {"\xDF\x80\x00\x00\x00\xC0", 6}, {"\xC1", 1}};
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (int round = 0; round < 1000; round++)
        for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
            nh_error error = {0};
            CHECK(!nh_doc_from_bytes(lies[i].bytes, lies[i].length, &error));
            CHECK_INT(error.code, NH_E_INVALID);
        }
    getrusage(RUSAGE_SELF, &after);
    CHECK(after.ru_maxrss - before.ru_maxrss < 4096);
    nh_error error = {0};
    CHECK(!nh_doc_from_bytes("", NH_DOC_BYTES_MAX + 1, &error));
    CHECK_INT(error.code, NH_E_TOO_LARGE);
}

static void a_document_can_be_read_in_order(void) {
    static char large[(1 << 17) + 1];
    nh_doc *doc = sample();
    CHECK(reads_in_order(doc));
    nh_doc_unref(doc);
    for (int shift = 0; shift < 64; shift++) { /* each length of an integer, a text and a list */
        nh_writer *writer = nh_writer_create();
        size_t count = (size_t)1 << shift % 18;
        nh_writer_open_array(writer);
        nh_writer_int(writer, INT64_MIN >> shift);
        nh_writer_int(writer, INT64_MAX >> shift);
        nh_writer_real(writer, 1.0 / (shift + 1));
        nh_writer_array(writer, count);
        for (size_t i = 0; i < count; i++)
            nh_writer_bool(writer, i % 2);
        nh_writer_string(writer, large, count - 1);
        nh_writer_secret(writer, large, count);
        nh_writer_binary(writer, large, count + 1);
        nh_writer_close(writer);
        doc = finish(writer);
        CHECK(reads_in_order(doc));
        nh_doc_unref(doc);
    }
}

static void a_value_is_copied_whole(void) {
    nh_doc *doc = sample();
    nh_writer *writer = nh_writer_create();
    nh_writer_value(writer, nh_doc_root(doc));
    nh_doc *copy = finish(writer);
    size_t a, b;
    const void *first = nh_doc_bytes(doc, &a), *second = nh_doc_bytes(copy, &b);
    CHECK_INT(a, b);
    CHECK(a == b && memcmp(first, second, a) == 0);
    nh_doc_unref(copy);
    nh_doc_unref(doc);
}

int main(void) {
    RUN(integers_keep_their_value_to_the_limits);
    RUN(reals_keep_every_bit_and_stay_reals);
    RUN(strings_binaries_and_secrets_stay_what_they_are);
    RUN(empty_containers_and_absent_values_read_as_nothing);
    RUN(depth_32_is_the_deepest);
    RUN(json_goes_in_and_comes_out);
    RUN(json_that_is_none_names_line_and_column);
    RUN(json_shows_no_secret_and_loses_no_bytes);
    RUN(json_is_made_of_odd_keys_too);
    RUN(empty_texts_are_texts);
    RUN(json_shows_the_largest_integers);
    RUN(every_packed_form_is_read);
    RUN(every_prefix_of_a_document_is_refused);
    RUN(random_bytes_are_refused_or_readable);
    RUN(huge_counts_cost_nothing);
    RUN(a_document_can_be_read_in_order);
    RUN(a_value_is_copied_whole);
    return check_end();
}
