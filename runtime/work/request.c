/* request.c — requests: the one choke point for what scripts hand to transports. And the answer
 * that tells a transport's failure.
 *
 * Header names and values, addresses, subjects and URLs all end on a line of some protocol; a CR,
 * LF or NUL in one of them would start a line of the attacker's choice. So every string of a
 * request is refused that holds a control character, except the payloads (and form fields), which
 * protocols frame by length or encode. A new field of a transport is safe before anybody thought
 * about it. Costs one pass over the strings.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/utf8.h"
#include "runtime/work/transport.h"

/* Where a value stands, put into words only when it is refused. */
typedef struct place {
    const struct place *outer; /* NULL: the request itself */
    const char *name;          /* NULL: an element of a list */
    size_t length;             /* of the name */
    size_t index;              /* of the element, from 1 */
} place;

enum { NAME_MOST = 64, PLACE_MOST = 160 };

static size_t describe(const place *at, char text[PLACE_MOST]) {
    if (!at->outer) {
        text[0] = '\0';
        return 0;
    }
    size_t used = describe(at->outer, text);
    int length = at->length < NAME_MOST ? (int)at->length : NAME_MOST;
    if (at->name)
        used += (size_t)snprintf(text + used, PLACE_MOST - used, "%s%.*s", used > 0 ? "." : "",
                                 length, at->name);
    else
        used += (size_t)snprintf(text + used, PLACE_MOST - used, "[%zu]", at->index);
    return used < PLACE_MOST ? used : PLACE_MOST - 1;
}

/* A payload is a text; the fields of a form are what they are. By length first: nearly every name
 * of every request has another. */
static bool is_exempt(const place *at, const nh_value *value) {
    size_t length;
    bool payload = false;
    if (at->length == 4) {
        if (memcmp(at->name, "form", 4) == 0)
            return true;
        payload = memcmp(at->name, "body", 4) == 0 || memcmp(at->name, "text", 4) == 0 ||
                  memcmp(at->name, "html", 4) == 0;
    } else if (at->length == 7) {
        payload = memcmp(at->name, "content", 7) == 0;
    }
    return payload && nh_value_bytes(value, &length);
}

static nh_err check(const nh_value *value, const place *at, nh_error *error);

static nh_err check_text(const char *text, size_t length, const place *at, nh_error *error) {
    char field[PLACE_MOST];
    size_t found = nh_control_at(text, length);
    if (found == length)
        return NH_OK;
    describe(at, field);
    return nh_fail(error, NH_E_INVALID,
                   "%s: control character 0x%02X at byte %zu is not allowed there", field,
                   (unsigned char)text[found], found + 1);
}

static nh_err check_map(const nh_value *map, const place *at, nh_error *error) {
    /* A header may have a payload's name. */
    bool headers =
        at->outer && !at->outer->outer && at->length == 7 && memcmp(at->name, "headers", 7) == 0;
    for (size_t i = 0; i < nh_value_count(map); i++) {
        const nh_value *each = nh_value_at(map, i);
        place inner = {.outer = at};
        inner.name = nh_value_bytes(nh_value_key(map, i), &inner.length);
        if (!inner.name) /* no text: a protocol has no use for it, either */
            inner.name = "?", inner.length = 1;
        if (!headers && is_exempt(&inner, each))
            continue;
        if (nh_control_at(inner.name, inner.length) < inner.length) {
            char field[PLACE_MOST];
            bool nested = describe(at, field) > 0;
            return nh_fail(error, NH_E_INVALID,
                           "%s%sa name holds a control character, which is not allowed there",
                           field, nested ? ": " : "");
        }
        nh_err failed = check(each, &inner, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

static nh_err check(const nh_value *value, const place *at, nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (text)
        return check_text(text, length, at, error);
    if (nh_value_kind(value) == NH_MAP)
        return check_map(value, at, error);
    for (size_t i = 0; i < nh_value_count(value); i++) {
        const place inner = {.outer = at, .index = i + 1};
        nh_err failed = check(nh_value_at(value, i), &inner, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

nh_err nh_request_check(const nh_value *request, nh_error *error) {
    const place root = {.outer = NULL};
    if (nh_value_kind(request) != NH_MAP)
        return nh_fail(error, NH_E_INVALID, "a request must be a table");
    return check(request, &root, error);
}

nh_request *nh_request_create(nh_doc *doc, bool bodied, nh_error *error) {
    nh_request *request = NULL;
    if (nh_request_check(nh_doc_root(doc), error) != NH_OK)
        goto fail;
    request = calloc(1, sizeof *request);
    if (!request) {
        nh_fail_memory(error);
        goto fail;
    }
    request->doc = doc;
    request->bodied = bodied;
    request->refs = 1;
    return request;
fail:
    nh_doc_unref(doc);
    return NULL;
}

void nh_request_unref(nh_request *request) {
    if (!request || --request->refs > 0)
        return;
    if (request->read)
        request->forget(request->read);
    nh_doc_unref(request->doc);
    free(request);
}

nh_doc *nh_response_error(nh_err code, bool sent, const char *format, ...) {
    char text[NH_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_writer_map(writer, 4);
    nh_writer_cstring(writer, "error");
    nh_writer_cstring(writer, nh_err_name(code));
    nh_writer_cstring(writer, "message");
    nh_writer_cstring(writer, text);
    nh_writer_cstring(writer, "retryable");
    nh_writer_bool(writer, nh_err_retryable(code));
    nh_writer_cstring(writer, "sent");
    nh_writer_bool(writer, sent);
    nh_doc *response = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return response;
}
