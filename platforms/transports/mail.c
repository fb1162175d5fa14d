/* Composes a mail out of plain values: its header lines and the tree of its parts, which libcurl
 * encodes while it sends. Pure but for the files it looks at; texts are copied, files are read
 * later, by libcurl.
 *
 * A mail that is one text in short lines of ASCII has nothing to be encoded: it is written whole
 * and is no multipart. That costs a third of what libcurl takes for a part and its boundary.
 */
#include <stdio.h>
#include <string.h>

#include "platforms/transports/fields.h"
#include "platforms/transports/mail.h"
#include "platforms/transports/mail_header.h"

enum { HEADER_NAME_MAX = 60, CONTENT_ID_MAX = 200, HEADERS_USUAL = 512 };

typedef struct attachment {
    nh_span name, content_type, content, path, inline_id;
} attachment;

#define FIELD(name)                                                                                \
    { #name, NH_FIELD_BYTES, offsetof(attachment, name) }
static const nh_field attachment_fields[] = {
    FIELD(name), FIELD(content_type), FIELD(content), FIELD(path), FIELD(inline_id),
};
#undef FIELD

typedef struct composer {
    const nh_mail *mail;
    CURL *easy;
    nh_mail_made *made;
    nh_text scratch, lines; /* one header's text, one part's text; libcurl copies both */
} composer;

#define COUNT(array) (sizeof(array) / sizeof *(array))

static nh_err out_of_memory(nh_error *error) {
    return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

static bool has_control(nh_span span) {
    for (size_t i = 0; i < span.length; i++)
        if ((unsigned char)span.bytes[i] < 0x20 || span.bytes[i] == 0x7F)
            return true;
    return false;
}

static nh_err append(struct curl_slist **list, nh_text *line, nh_error *error) {
    const char *text = nh_text_string(line);
    struct curl_slist *longer = text ? curl_slist_append(*list, text) : NULL;
    if (!longer)
        return out_of_memory(error);
    *list = longer;
    return NH_OK;
}

/* ------------------------------------------------------------------ headers */

/* A line of the mail that is written whole, or of the list that libcurl gets. */
static nh_err put_header(composer *to, bool whole, const nh_pair *pair, nh_error *error) {
    nh_text *line = whole ? &to->made->whole : &to->scratch;
    if (!whole)
        nh_text_clear(line);
    nh_mail_header_put(line, pair->name, pair->value);
    if (!whole)
        return append(&to->made->headers, line, error);
    return nh_text_puts(line, "\r\n") && !line->failed ? NH_OK : out_of_memory(error);
}

static nh_err put_headers(composer *to, bool whole, nh_error *error) {
    static const char *const ours[] = {"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
                                       "Content-Disposition"};
    const nh_value *headers = to->mail->headers;
    for (size_t i = 0; i < nh_value_count(headers); i++) {
        nh_pair pair;
        nh_err failed = nh_fields_pair(headers, i, "headers", &pair, error);
        if (failed)
            return failed;
        if (!nh_span_is_token(pair.name) || pair.name.length > HEADER_NAME_MAX)
            return nh_fields_fail(error, NH_E_INVALID, "headers[%zu]: the name is not one", i + 1);
        for (size_t o = 0; o < COUNT(ours); o++)
            if (nh_span_is(pair.name, ours[o]))
                return nh_fields_fail(error, NH_E_INVALID, "headers.%s: may not be set", ours[o]);
        if (has_control(pair.value))
            return nh_fields_fail(error, NH_E_INVALID,
                                  "headers.%.*s: control characters are not allowed there",
                                  (int)pair.name.length, pair.name.bytes);
        failed = put_header(to, whole, &pair, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

/* ------------------------------------------------------------------ content */

/* A part's headers: takes the list, whatever happens. */
static CURLcode take_headers(curl_mimepart *part, struct curl_slist *list) {
    CURLcode code = curl_mime_headers(part, list, 1);
    if (code != CURLE_OK)
        curl_slist_free_all(list);
    return code;
}

static CURLcode add_text(composer *to, curl_mime *mime, nh_span text, const char *type) {
    nh_text *lines = &to->lines;
    nh_text_clear(lines);
    nh_mail_lines_put(lines, text);
    const char *bytes = nh_text_string(lines);
    curl_mimepart *part = curl_mime_addpart(mime);
    if (!part || !bytes)
        return CURLE_OUT_OF_MEMORY;
    nh_span span = {bytes, lines->length};
    CURLcode code = curl_mime_data(part, bytes, lines->length);
    if (code == CURLE_OK)
        code = curl_mime_type(part, type);
    if (code == CURLE_OK)
        code = curl_mime_encoder(part, nh_mail_encoding(span));
    return code;
}

/* Adds an empty multipart to a mime; NULL when out of memory. */
static curl_mime *add_multipart(CURL *easy, curl_mime *parent, const char *type) {
    curl_mime *mime = curl_mime_init(easy);
    curl_mimepart *part = mime ? curl_mime_addpart(parent) : NULL;
    if (!part || curl_mime_subparts(part, mime) != CURLE_OK) {
        curl_mime_free(mime);
        return NULL;
    }
    return curl_mime_type(part, type) == CURLE_OK ? mime : NULL;
}

static CURLcode describe(composer *to, curl_mimepart *part, const attachment *file) {
    nh_text *scratch = &to->scratch;
    nh_text_clear(scratch);
    nh_text_puts(scratch, "Content-Disposition: ");
    nh_text_puts(scratch, file->inline_id.bytes ? "inline" : "attachment");
    if (file->name.length > 0)
        nh_mail_param_put(scratch, "filename", file->name);
    struct curl_slist *headers = NULL;
    nh_err failed = append(&headers, scratch, NULL);
    if (!failed && file->inline_id.bytes) {
        nh_text_clear(scratch);
        nh_text_puts(scratch, "Content-ID: <");
        nh_text_put(scratch, file->inline_id.bytes, file->inline_id.length);
        nh_text_putc(scratch, '>');
        failed = append(&headers, scratch, NULL);
    }
    if (failed) {
        curl_slist_free_all(headers);
        return CURLE_OUT_OF_MEMORY;
    }
    CURLcode code = take_headers(part, headers);
    if (code != CURLE_OK)
        return code;
    nh_text_clear(scratch);
    if (file->content_type.length > 0)
        nh_text_put(scratch, file->content_type.bytes, file->content_type.length);
    else
        nh_text_puts(scratch, "application/octet-stream");
    if (file->name.length > 0)
        nh_mail_param_put_words(scratch, "name", file->name);
    const char *type = nh_text_string(scratch);
    return type ? curl_mime_type(part, type) : CURLE_OUT_OF_MEMORY;
}

static nh_err add_attachment(composer *to, curl_mime *mime, const attachment *file,
                             const char *where, nh_error *error) {
    curl_mimepart *part = curl_mime_addpart(mime);
    CURLcode code = part ? CURLE_OK : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && file->path.bytes) {
        char field[64];
        snprintf(field, sizeof field, "%spath", where);
        const char *path = nh_text_of(&to->scratch, file->path);
        if (!path)
            return out_of_memory(error);
        nh_err failed = nh_fields_file(field, path, NULL, error);
        if (failed)
            return failed;
        code = curl_mime_filedata(part, path);
        if (code == CURLE_OK)
            code = curl_mime_filename(part, NULL); /* the name is told by describe */
    } else if (code == CURLE_OK) {
        code = curl_mime_data(part, file->content.bytes, file->content.length);
    }
    if (code == CURLE_OK)
        code = curl_mime_encoder(part, "base64");
    if (code == CURLE_OK)
        code = describe(to, part, file);
    return code == CURLE_OK ? NH_OK : out_of_memory(error);
}

static nh_err read_attachment(const composer *to, size_t index, attachment *out, char *where,
                              size_t where_size, nh_error *error) {
    *out = (attachment){.name = {NULL, 0}};
    snprintf(where, where_size, "attachments[%zu].", index + 1);
    nh_err failed = nh_fields_read(nh_value_at(to->mail->attachments, index), where,
                                   attachment_fields, COUNT(attachment_fields), out, error);
    if (failed)
        return failed;
    if (!out->content.bytes == !out->path.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "%scontent: give either content or path", where);
    if (has_control(out->name) || has_control(out->content_type) || has_control(out->inline_id) ||
        out->inline_id.length > CONTENT_ID_MAX)
        return nh_fields_fail(error, NH_E_INVALID,
                              "%sname: control characters are not allowed there", where);
    return NH_OK;
}

/* Adds the attachments that are (or are not) shown inside the HTML. */
static nh_err add_attachments(composer *to, curl_mime *mime, bool shown, nh_error *error) {
    for (size_t i = 0; i < nh_value_count(to->mail->attachments); i++) {
        char where[48];
        attachment file;
        nh_err failed = read_attachment(to, i, &file, where, sizeof where, error);
        bool is_shown = file.inline_id.bytes && to->mail->html.bytes;
        if (!failed && is_shown == shown)
            failed = add_attachment(to, mime, &file, where, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

static size_t count_shown(const composer *to) {
    size_t count = 0;
    const nh_value *list = to->mail->attachments;
    for (size_t i = 0; i < nh_value_count(list) && to->mail->html.bytes; i++)
        count += nh_span_of(nh_value_get(nh_value_at(list, i), "inline_id")).bytes != NULL;
    return count;
}

/* mixed { alternative { text, related { html, images } }, files }, without the levels that would
 * hold one thing only; the outermost is mixed in any case, because libcurl makes a multipart. */
static nh_err put_content(composer *to, nh_error *error) {
    const nh_mail *mail = to->mail;
    curl_mime *mixed = to->made->mime = curl_mime_init(to->easy);
    curl_mime *level = mixed;
    if (level && mail->text.bytes && mail->html.bytes)
        level = add_multipart(to->easy, level, "multipart/alternative");
    if (!level)
        return out_of_memory(error);
    if (mail->text.bytes &&
        add_text(to, level, mail->text, "text/plain; charset=utf-8") != CURLE_OK)
        return out_of_memory(error);
    if (mail->html.bytes) {
        if (count_shown(to) > 0)
            level = add_multipart(to->easy, level, "multipart/related; type=\"text/html\"");
        if (!level || add_text(to, level, mail->html, "text/html; charset=utf-8") != CURLE_OK)
            return out_of_memory(error);
        nh_err failed = add_attachments(to, level, true, error);
        if (failed)
            return failed;
    }
    return add_attachments(to, mixed, false, error);
}

/* ------------------------------------------------------------- the whole mail */

static nh_err set_parts(composer *to, nh_error *error) {
    nh_err failed = put_headers(to, false, error);
    if (!failed)
        failed = put_content(to, error);
    curl_easy_setopt(to->easy, CURLOPT_HTTPHEADER, to->made->headers);
    curl_easy_setopt(to->easy, CURLOPT_MIMEPOST, to->made->mime);
    return failed;
}

static size_t read_whole(char *to, size_t size, size_t count, void *user) {
    nh_mail_made *made = user;
    size_t left = made->whole.length - made->read;
    size_t part = left < size * count ? left : size * count;
    memcpy(to, made->whole.bytes + made->read, part);
    made->read += part;
    return part;
}

/* `lines` has the text. */
static nh_err set_whole(composer *to, nh_error *error) {
    nh_text *whole = &to->made->whole;
    nh_text_init(whole, SIZE_MAX);
    nh_text_reserve(whole, HEADERS_USUAL + to->lines.length);
    nh_err failed = put_headers(to, true, error);
    if (failed)
        return failed;
    nh_text_puts(whole, "MIME-Version: 1.0\r\n"
                        "Content-Type: text/plain; charset=utf-8\r\n"
                        "Content-Transfer-Encoding: 7bit\r\n\r\n");
    nh_text_put(whole, to->lines.bytes, to->lines.length);
    if (whole->failed)
        return out_of_memory(error);
    curl_easy_setopt(to->easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(to->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)whole->length);
    curl_easy_setopt(to->easy, CURLOPT_READFUNCTION, read_whole);
    curl_easy_setopt(to->easy, CURLOPT_READDATA, to->made);
    return NH_OK;
}

/* Whether it is one text that needs no encoding, which then is in `lines`. */
static bool is_simple(composer *to) {
    const nh_mail *mail = to->mail;
    if (mail->html.bytes || nh_value_count(mail->attachments) > 0)
        return false;
    nh_text_reserve(&to->lines, mail->text.length + mail->text.length / 32);
    nh_mail_lines_put(&to->lines, mail->text);
    const nh_span lines = {to->lines.bytes, to->lines.length};
    return !to->lines.failed && strcmp(nh_mail_encoding(lines), "7bit") == 0;
}

nh_err nh_mail_compose(const nh_mail *mail, CURL *easy, nh_mail_made *made, nh_error *error) {
    composer to = {.mail = mail, .easy = easy, .made = made};
    *made = (nh_mail_made){0};
    nh_text_init(&to.scratch, SIZE_MAX);
    nh_text_init(&to.lines, SIZE_MAX);
    nh_err failed = is_simple(&to) ? set_whole(&to, error) : set_parts(&to, error);
    nh_text_term(&to.scratch);
    nh_text_term(&to.lines);
    return failed;
}

void nh_mail_clear(nh_mail_made *made) {
    curl_slist_free_all(made->headers);
    curl_mime_free(made->mime);
    nh_text_term(&made->whole);
    *made = (nh_mail_made){0};
}
