/* Reads requests by table. A request is what an adapter built, and adapters are written by users:
 * so a wrong type or an unknown field is an error that names it. Nothing here prints a field's
 * content, which may be a secret; the path of a file is the one exception.
 */
#include "platforms/transports/fields.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

nh_err nh_fields_fail(nh_error *error, nh_err code, const char *format, ...) {
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return code;
}

static bool is_bytes(nh_kind kind) {
    return kind == NH_STRING || kind == NH_SECRET || kind == NH_BINARY;
}

/* Stores a value into its member. Returns what it should have been, or NULL when it was. */
static const char *store(const nh_value *value, nh_field_type type, void *member) {
    nh_kind kind = nh_value_kind(value);
    switch (type) {
    case NH_FIELD_BYTES: {
        nh_span *span = member;
        if (!is_bytes(kind))
            return "a string";
        span->bytes = nh_value_bytes(value, &span->length);
        return NULL;
    }
    case NH_FIELD_BOOL:
        if (kind != NH_BOOL)
            return "true or false";
        *(bool *)member = nh_value_bool(value);
        return NULL;
    case NH_FIELD_SECONDS: {
        double seconds = nh_value_real(value, -1);
        if (!(seconds > 0 && seconds <= 86400))
            return "a number of seconds above 0, at most a day";
        *(double *)member = seconds;
        return NULL;
    }
    case NH_FIELD_PORT: {
        int64_t port = nh_value_int(value, 0);
        if (port < 1 || port > 65535)
            return "a port number, 1 to 65535";
        *(int *)member = (int)port;
        return NULL;
    }
    case NH_FIELD_LIST:
    case NH_FIELD_PAIRS:
        /* An empty Lua table may arrive as either container. */
        if (kind != NH_ARRAY && kind != NH_MAP)
            return type == NH_FIELD_LIST ? "a list" : "a table";
        if (type == NH_FIELD_LIST && kind == NH_MAP && nh_value_count(value) > 0)
            return "a list";
        *(const nh_value **)member = value;
        return NULL;
    }
    return "something else";
}

static const nh_field *find(const nh_field *table, size_t count, nh_span name) {
    for (size_t i = 0; i < count && name.length > 0; i++) {
        if (table[i].name[0] == name.bytes[0] && strlen(table[i].name) == name.length &&
            memcmp(table[i].name, name.bytes, name.length) == 0)
            return &table[i];
    }
    return NULL;
}

nh_err nh_fields_read(const nh_value *map, const char *where, const nh_field *table, size_t count,
                      void *out, nh_error *error) {
    if (nh_value_kind(map) != NH_MAP)
        return nh_fields_fail(error, NH_E_INVALID, "%srequest: must be a table of fields", where);
    for (size_t i = 0; i < nh_value_count(map); i++) {
        nh_span name = {NULL, 0};
        name.bytes = nh_value_bytes(nh_value_key(map, i), &name.length);
        if (!name.bytes)
            return nh_fields_fail(error, NH_E_INVALID, "%srequest: a field's name must be a string",
                                  where);
        const nh_field *field = find(table, count, name);
        if (!field)
            return nh_fields_fail(error, NH_E_INVALID, "%s%.*s: unknown field", where,
                                  name.length < 64 ? (int)name.length : 64, name.bytes);
        const nh_value *value = nh_value_at(map, i);
        if (nh_value_kind(value) == NH_NIL)
            continue;
        const char *wanted = store(value, field->type, (char *)out + field->offset);
        if (wanted)
            return nh_fields_fail(error, NH_E_INVALID, "%s%s: must be %s", where, field->name,
                                  wanted);
    }
    return NH_OK;
}

nh_err nh_fields_take_body(const nh_transfer *transfer, const char *name, nh_span *field,
                           nh_error *error) {
    if (!transfer->body)
        return NH_OK;
    if (field->bytes)
        return nh_fields_fail(error, NH_E_INVALID, "%s: stands in the request and beside it", name);
    *field = (nh_span){transfer->body, transfer->body_length};
    return NH_OK;
}

nh_err nh_fields_pair(const nh_value *pairs, size_t index, const char *field, nh_pair *pair,
                      nh_error *error) {
    const nh_value *name, *value;
    if (nh_value_kind(pairs) == NH_MAP) {
        name = nh_value_key(pairs, index);
        value = nh_value_at(pairs, index);
    } else {
        const nh_value *element = nh_value_at(pairs, index);
        bool map = nh_value_kind(element) == NH_MAP;
        name = map ? nh_value_get(element, "name") : nh_value_at(element, 0);
        value = map ? nh_value_get(element, "value") : nh_value_at(element, 1);
    }
    pair->name.bytes = nh_value_bytes(name, &pair->name.length);
    if (!pair->name.bytes || pair->name.length == 0)
        return nh_fields_fail(error, NH_E_INVALID, "%s[%zu]: has no name", field, index + 1);

    int length = 0;
    switch (nh_value_kind(value)) {
    case NH_STRING:
    case NH_SECRET:
    case NH_BINARY:
        pair->value.bytes = nh_value_bytes(value, &pair->value.length);
        return NH_OK;
    case NH_INT:
        length = snprintf(pair->number, sizeof pair->number, "%" PRId64, nh_value_int(value, 0));
        break;
    case NH_REAL:
        length = snprintf(pair->number, sizeof pair->number, "%.14g", nh_value_real(value, 0));
        break;
    case NH_BOOL:
        length = snprintf(pair->number, sizeof pair->number, "%s",
                          nh_value_bool(value) ? "true" : "false");
        break;
    default:
        return nh_fields_fail(error, NH_E_INVALID, "%s: the value of %.*s must be a string", field,
                              pair->name.length < 64 ? (int)pair->name.length : 64,
                              pair->name.bytes);
    }
    pair->value = (nh_span){pair->number, (size_t)length};
    return NH_OK;
}

nh_err nh_fields_file(const char *field, const char *path, size_t *size, nh_error *error) {
    struct stat info;
    /* The kind first: opening a FIFO or a device could block the worker. */
    if (stat(path, &info) != 0)
        return nh_fields_fail(error, NH_E_INVALID, "%s: %s: %s", field, path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return nh_fields_fail(error, NH_E_INVALID, "%s: %s: not a regular file", field, path);
    if (access(path, R_OK) != 0)
        return nh_fields_fail(error, NH_E_INVALID, "%s: %s: %s", field, path, strerror(errno));
    if (size)
        *size = (size_t)info.st_size;
    return NH_OK;
}

nh_span nh_span_of(const nh_value *value) {
    nh_span span = {NULL, 0};
    span.bytes = nh_value_bytes(value, &span.length);
    return span;
}

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool all(nh_span span, const char *others) {
    for (size_t i = 0; i < span.length; i++) {
        char c = span.bytes[i];
        if (c == '\0' || (!is_alnum(c) && !strchr(others, c)))
            return false;
    }
    return span.length > 0;
}

bool nh_span_is_token(nh_span span) {
    return all(span, "!#$%&'*+-.^_`|~");
}

bool nh_span_is_host(nh_span span) {
    return all(span, ".-_:[]");
}
