/* Form fields become an encoded body, or parts of a multipart one. Thread: the worker's. Costs a
 * copy of the fields; a part's file is read by libcurl as it is sent.
 */
#include "platforms/transports/http_form.h"

#include <stdio.h>

#include "platforms/transports/fields.h"

typedef struct part_request {
    nh_span name, filename, content_type, content, path;
} part_request;

#define FIELD(name)                                                                                \
    { #name, NH_FIELD_BYTES, offsetof(part_request, name) }
static const nh_field part_fields[] = {
    FIELD(name), FIELD(filename), FIELD(content_type), FIELD(content), FIELD(path),
};
#undef FIELD

static nh_err out_of_memory(nh_error *error) {
    return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

static void put_encoded(nh_text *out, nh_span span) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < span.length; i++) {
        unsigned char c = (unsigned char)span.bytes[i];
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            c == '-' || c == '.' || c == '_' || c == '~')
            nh_text_putc(out, (char)c);
        else if (c == ' ')
            nh_text_putc(out, '+');
        else
            nh_text_put(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

nh_err nh_http_form_encode(const nh_value *form, nh_text *out, nh_error *error) {
    for (size_t i = 0; i < nh_value_count(form); i++) {
        nh_pair pair;
        nh_err failed = nh_fields_pair(form, i, "form", &pair, error);
        if (failed)
            return failed;
        if (i > 0)
            nh_text_putc(out, '&');
        put_encoded(out, pair.name);
        nh_text_putc(out, '=');
        put_encoded(out, pair.value);
    }
    return nh_text_string(out) ? NH_OK : out_of_memory(error);
}

static nh_err add_part(const nh_value *value, size_t index, curl_mime *mime, nh_text *scratch,
                       nh_error *error) {
    char where[48];
    snprintf(where, sizeof where, "multipart[%zu].", index + 1);
    part_request fields_of = {.name = {NULL, 0}};
    nh_err failed = nh_fields_read(value, where, part_fields,
                                   sizeof part_fields / sizeof *part_fields, &fields_of, error);
    if (failed)
        return failed;
    if (!fields_of.name.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "%sname: is missing", where);
    if (!fields_of.content.bytes == !fields_of.path.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "%scontent: give either content or path", where);

    curl_mimepart *part = curl_mime_addpart(mime);
    CURLcode code = part ? CURLE_OK : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && fields_of.path.bytes) {
        const char *path = nh_text_of(scratch, fields_of.path);
        if (!path)
            return out_of_memory(error);
        char field[64];
        snprintf(field, sizeof field, "%spath", where);
        failed = nh_fields_file(field, path, NULL, error);
        if (failed)
            return failed;
        code = curl_mime_filedata(part, path);
    } else if (code == CURLE_OK) {
        code = curl_mime_data(part, fields_of.content.bytes, fields_of.content.length);
    }
    if (code == CURLE_OK)
        code = curl_mime_name(part, nh_text_of(scratch, fields_of.name));
    if (code == CURLE_OK && fields_of.filename.bytes)
        code = curl_mime_filename(part, nh_text_of(scratch, fields_of.filename));
    if (code == CURLE_OK && fields_of.content_type.bytes)
        code = curl_mime_type(part, nh_text_of(scratch, fields_of.content_type));
    return code == CURLE_OK ? NH_OK : out_of_memory(error);
}

nh_err nh_http_form_parts(const nh_value *list, curl_mime *mime, nh_text *scratch,
                          nh_error *error) {
    for (size_t i = 0; i < nh_value_count(list); i++) {
        nh_err failed = add_part(nh_value_at(list, i), i, mime, scratch, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}
