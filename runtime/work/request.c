/* request.c — the one choke point for what scripts hand to transports, and the answer that tells a
 * transport's failure.
 *
 * Header names and values, addresses, subjects and URLs all end on a line of some protocol; a CR,
 * LF or NUL in one of them would start a line of the attacker's choice. So every string of a
 * request is refused that holds a control character, except the payloads (and form fields), which
 * protocols frame by length or encode. A new field of a transport is safe before anybody thought
 * about it. Costs one pass over the strings.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/utf8.h"
#include "runtime/work/transport.h"

static const char *const payloads[] = {"body", "content", "text", "html"};

static bool is_payload(const nh_value *key) {
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++)
        if (nh_value_is(key, payloads[i]))
            return true;
    return false;
}

/* A value in which there is nothing to find: most are, and need no name. */
static bool is_harmless(const nh_value *value) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    return text ? nh_control_at(text, length) == length : nh_value_count(value) == 0;
}

/* `field` is the way to the value, as far as it fits. */
static nh_err check(const nh_value *value, const char *field, nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (text) {
        size_t at = nh_control_at(text, length);
        if (at == length)
            return NH_OK;
        return nh_fail(error, NH_E_INVALID,
                       "%s: control character 0x%02X at byte %zu is not allowed there", field,
                       (unsigned char)text[at], at + 1);
    }
    bool map = nh_value_kind(value) == NH_MAP;
    bool exempt = map && strcmp(field, "headers") != 0; /* a header may have a payload's name */
    for (size_t i = 0; i < nh_value_count(value); i++) {
        char inner[160];
        const nh_value *key = nh_value_key(value, i), *each = nh_value_at(value, i);
        const char *dot = *field ? "." : "";
        if (exempt &&
            (nh_value_is(key, "form") || (is_payload(key) && nh_value_bytes(each, &length))))
            continue;
        if (map) {
            size_t key_length;
            const char *name = nh_value_bytes(key, &key_length);
            if (name && nh_control_at(name, key_length) < key_length)
                return nh_fail(error, NH_E_INVALID,
                               "%s%sa name holds a control character, which is not allowed there",
                               field, *field ? ": " : "");
            if (is_harmless(each))
                continue;
            snprintf(inner, sizeof inner, "%s%s%.*s", field, dot,
                     name ? (int)(key_length < 64 ? key_length : 64) : 1, name ? name : "?");
        } else if (is_harmless(each)) {
            continue;
        } else {
            snprintf(inner, sizeof inner, "%s[%zu]", field, i + 1);
        }
        nh_err failed = check(each, inner, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

nh_err nh_request_check(const nh_value *request, nh_error *error) {
    if (nh_value_kind(request) != NH_MAP)
        return nh_fail(error, NH_E_INVALID, "a request must be a table");
    return check(request, "", error);
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
