/* json.c — JSON is one face of a document; jansson reads and writes it. Thread: any. Costs a tree
 * of its own, so it is for the edges (command line, C programs), never for the way of a message. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/base64.h"
#include "runtime/core/error.h"
#include "runtime/core/utf8.h"
#include "runtime/notifyhub.h"

/* Depth is bounded by the parser (JSON_PARSER_MAX_DEPTH) and by the writer. */
static void write_json(nh_writer *writer, json_t *json) {
    switch (json_typeof(json)) {
    case JSON_OBJECT: {
        const char *key;
        json_t *value;
        nh_writer_map(writer, json_object_size(json));
        json_object_foreach(json, key, value) {
            nh_writer_cstring(writer, key);
            write_json(writer, value);
        }
        break;
    }
    case JSON_ARRAY:
        nh_writer_array(writer, json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++)
            write_json(writer, json_array_get(json, i));
        break;
    case JSON_STRING:
        nh_writer_string(writer, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        nh_writer_int(writer, json_integer_value(json));
        break;
    case JSON_REAL:
        nh_writer_real(writer, json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        nh_writer_bool(writer, json_is_true(json));
        break;
    case JSON_NULL:
        nh_writer_nil(writer);
        break;
    }
}

nh_doc *nh_doc_from_json(const char *text, size_t length, nh_error *error) {
    json_error_t fault;
    nh_doc *doc = NULL;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
    if (!json) {
        nh_fail(error, NH_E_INVALID, "JSON, line %d, column %d: %s", fault.line, fault.column,
                fault.text);
        return NULL;
    }
    nh_writer *writer = nh_writer_create();
    if (writer) {
        write_json(writer, json);
        doc = nh_writer_finish(writer, error);
    } else {
        nh_fail_memory(error);
    }
    nh_writer_destroy(writer);
    json_decref(json);
    return doc;
}

static json_t *base64(const char *bytes, size_t length) {
    char *text = malloc(NH_BASE64_SIZE(length) + 1);
    if (!text)
        return NULL;
    nh_base64_encode(text, bytes, length);
    json_t *json = json_stringn(text, NH_BASE64_SIZE(length));
    free(text);
    return json;
}

static json_t *to_json(const nh_value *value);

#define WRITTEN (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17))

/* The name of a map's entry, owned by the caller. A key that is not text is named by its own JSON:
 * 5 by "5", true by "true". Of two keys that come out the same, "5" and 5, the later one stands. */
static char *key_text(const nh_value *key) {
    json_t *json = to_json(key);
    char *name = json_is_string(json) ? strdup(json_string_value(json)) : NULL;
    if (json && !json_is_string(json))
        name = json_dumps(json, WRITTEN);
    json_decref(json);
    return name;
}

/* jansson's integers end at INT64_MAX: beyond it stands the nearest real, as most readers of JSON
 * would make of it anyway. */
static json_t *number(const nh_value *value) {
    int64_t integer = nh_value_int(value, -1);
    return integer == -1 && nh_value_real(value, 0) > 0 ? json_real(nh_value_real(value, 0))
                                                        : json_integer(integer);
}

/* New reference; NULL when out of memory. A string that is not UTF-8 becomes base64: nothing is
 * lost silently. */
static json_t *to_json(const nh_value *value) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    switch (nh_value_kind(value)) {
    case NH_BOOL:
        return json_boolean(nh_value_bool(value));
    case NH_INT:
        return number(value);
    case NH_REAL:
        return isfinite(nh_value_real(value, 0)) ? json_real(nh_value_real(value, 0)) : json_null();
    case NH_STRING:
        return nh_utf8_valid(bytes, length) ? json_stringn(bytes, length) : base64(bytes, length);
    case NH_BINARY:
        return base64(bytes, length);
    case NH_SECRET:
        return json_string("<secret>");
    case NH_ARRAY: {
        json_t *array = json_array();
        for (size_t i = 0; array && i < nh_value_count(value); i++)
            if (json_array_append_new(array, to_json(nh_value_at(value, i))) != 0)
                return json_decref(array), NULL;
        return array;
    }
    case NH_MAP: {
        json_t *map = json_object();
        for (size_t i = 0; map && i < nh_value_count(value); i++) {
            char *name = key_text(nh_value_key(value, i));
            int failed = !name || json_object_set_new(map, name, to_json(nh_value_at(value, i)));
            free(name);
            if (failed)
                return json_decref(map), NULL;
        }
        return map;
    }
    default:
        return json_null();
    }
}

char *nh_doc_to_json(const nh_doc *doc) {
    json_t *json = to_json(nh_doc_root(doc));
    if (!json)
        return NULL;
    char *text = json_dumps(json, WRITTEN);
    json_decref(json);
    return text;
}
