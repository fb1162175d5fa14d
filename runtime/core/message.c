/* message.c — what a message may hold. One table names every field, so an unknown one is found and
 * the right one suggested.
 *
 * Checking happens in the sender's thread, before anything is queued: a typo costs its author an
 * error and nobody else anything. The packed document is kept as it came; an id that is made here
 * stands beside it. Costs one pass over it.
 */
#include "runtime/core/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/id.h"
#include "runtime/core/nearest.h"
#include "runtime/core/utf8.h"

enum { KEY_LONGEST = 512, TARGET_LONGEST = 4096, ATTEMPTS_MOST = 100 };

static const char *const kind_names[] = {
    [NH_NIL] = "nil",       [NH_BOOL] = "a boolean",  [NH_INT] = "a number",
    [NH_REAL] = "a number", [NH_STRING] = "a string", [NH_BINARY] = "binary",
    [NH_ARRAY] = "a list",  [NH_MAP] = "a table",     [NH_SECRET] = "a secret",
};

/* A field: its name, what checks its value. `field` is its full name for the error. */
typedef nh_err (*check_fn)(const nh_value *value, const char *field, nh_message *to,
                           nh_error *error);
typedef struct field {
    const char *name;
    check_fn check;
} field;

static nh_err wrong_kind(const nh_value *value, const char *name, const char *wanted,
                         nh_error *error) {
    return nh_fail(error, NH_E_INVALID, "%s: must be %s, not %s", name, wanted,
                   kind_names[nh_value_kind(value)]);
}

/* An empty Lua table is an empty list and an empty map. */
static bool is_map(const nh_value *value) {
    return nh_value_kind(value) == NH_MAP ||
           (nh_value_kind(value) == NH_ARRAY && nh_value_count(value) == 0);
}

static bool is_list(const nh_value *value) {
    return nh_value_kind(value) == NH_ARRAY ||
           (nh_value_kind(value) == NH_MAP && nh_value_count(value) == 0);
}

static nh_err check_utf8(const char *text, size_t length, const char *name, nh_error *error) {
    return nh_utf8_valid(text, length) ? NH_OK
                                       : nh_fail(error, NH_E_INVALID, "%s: is not UTF-8", name);
}

/* A nil is as good as a field that is not there. */
static bool has(const nh_value *root, const char *name) {
    return nh_value_kind(nh_value_get(root, name)) != NH_NIL;
}

/* Checks every key of a map against a table of fields and each value by its field's check. */
static nh_err check_fields(const nh_value *map, const field *fields, size_t count,
                           const char *prefix, nh_message *to, nh_error *error) {
    for (size_t i = 0; i < nh_value_count(map); i++) {
        const nh_value *key = nh_value_key(map, i);
        const field *known = NULL;
        for (size_t f = 0; f < count && !known; f++)
            if (nh_value_is(key, fields[f].name))
                known = &fields[f];
        if (!known) {
            const char *names[32];
            size_t length;
            const char *name = nh_value_bytes(key, &length);
            for (size_t f = 0; f < count; f++)
                names[f] = fields[f].name;
            if (!name || !nh_utf8_valid(name, length) || nh_control_at(name, length) < length)
                return nh_fail(error, NH_E_INVALID, "%s: every key must be a name",
                               *prefix ? prefix : "message");
            const char *near = nh_nearest(name, length, names, count);
            return nh_fail(error, NH_E_INVALID, "%s%.*s: unknown field%s%s%s", prefix,
                           (int)(length < 64 ? length : nh_utf8_floor(name, 64)), name,
                           near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
        }
        const nh_value *value = nh_value_at(map, i);
        char full[128];
        const char *full_name = known->name;
        if (*prefix) {
            snprintf(full, sizeof full, "%s%s", prefix, known->name);
            full_name = full;
        }
        nh_err failed =
            nh_value_kind(value) == NH_NIL ? NH_OK : known->check(value, full_name, to, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

/* ---------------------------------------------------------------- checks */

static nh_err check_text(const nh_value *value, const char *name, nh_message *to, nh_error *error) {
    (void)to;
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (nh_value_kind(value) != NH_STRING)
        return wrong_kind(value, name, "a string", error);
    return check_utf8(text, length, name, error);
}

/* One line of 1 to `longest` bytes without control characters. */
static nh_err check_line(const nh_value *value, const char *name, size_t longest, nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    nh_err failed = check_text(value, name, NULL, error);
    if (failed)
        return failed;
    if (length == 0 || length > longest)
        return nh_fail(error, NH_E_INVALID, "%s: must have 1 to %zu bytes, not %zu", name, longest,
                       length);
    size_t at = nh_control_at(text, length);
    if (at == length)
        return NH_OK;
    return nh_fail(error, NH_E_INVALID, "%s: control character 0x%02X at byte %zu is not allowed",
                   name, (unsigned char)text[at], at + 1);
}

static nh_err check_id(const nh_value *value, const char *name, nh_message *to, nh_error *error) {
    (void)to;
    return check_line(value, name, NH_ID_MAX, error);
}

static nh_err check_name(const nh_value *value, const char *name, nh_message *to, nh_error *error) {
    (void)to;
    return check_line(value, name, KEY_LONGEST, error);
}

static nh_err check_one_of(const nh_value *value, const char *name, const char *const *words,
                           size_t count, size_t *index, nh_error *error) {
    if (nh_value_kind(value) != NH_STRING)
        return wrong_kind(value, name, "a string", error);
    char list[128] = "";
    for (size_t i = 0; i < count; i++) {
        if (nh_value_is(value, words[i])) {
            *index = i;
            return NH_OK;
        }
        strcat(strcat(list, i == 0 ? "" : ", "), words[i]);
    }
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    return nh_fail(error, NH_E_INVALID, "%s: '%.*s' is not one of %s", name,
                   nh_utf8_valid(text, length) ? (int)nh_utf8_floor(text, length < 64 ? length : 64)
                                               : 0,
                   text, list);
}

static nh_err check_bool(const nh_value *value, const char *name, nh_message *to, nh_error *error) {
    (void)to;
    return nh_value_kind(value) == NH_BOOL ? NH_OK : wrong_kind(value, name, "a boolean", error);
}

static nh_err check_format(const nh_value *value, const char *name, nh_message *to,
                           nh_error *error) {
    (void)to;
    static const char *const words[] = {"text", "markdown", "html"};
    return check_one_of(value, name, words, 3, &(size_t){0}, error);
}

static nh_err check_priority(const nh_value *value, const char *name, nh_message *to,
                             nh_error *error) {
    static const char *const words[NH_PRIORITIES] = {"low", "normal", "high", "urgent"};
    size_t index = NH_NORMAL;
    nh_err failed = check_one_of(value, name, words, NH_PRIORITIES, &index, error);
    to->priority = (uint8_t)index;
    return failed;
}

/* A finite number within [low, high]. */
static nh_err check_number(const nh_value *value, const char *name, double low, double high,
                           double *out, nh_error *error) {
    if (nh_value_kind(value) != NH_INT && nh_value_kind(value) != NH_REAL)
        return wrong_kind(value, name, "a number", error);
    *out = nh_value_real(value, 0);
    if (!(*out >= low && *out <= high))
        return nh_fail(error, NH_E_INVALID, "%s: must be between %g and %g", name, low, high);
    return NH_OK;
}

static nh_err check_deliver_at(const nh_value *value, const char *name, nh_message *to,
                               nh_error *error) {
    return check_number(value, name, 0, 1e11, &to->deliver_at, error);
}

static nh_err check_expires_at(const nh_value *value, const char *name, nh_message *to,
                               nh_error *error) {
    return check_number(value, name, 0, 1e11, &to->expires_at, error);
}

static nh_err check_timeout(const nh_value *value, const char *name, nh_message *to,
                            nh_error *error) {
    return check_number(value, name, 0.001, 1e9, &to->timeout, error);
}

static nh_err check_attempts(const nh_value *value, const char *name, nh_message *to,
                             nh_error *error) {
    (void)to;
    double attempts;
    nh_err failed = check_number(value, name, 1, ATTEMPTS_MOST, &attempts, error);
    if (!failed && (double)(int)attempts != attempts)
        failed = nh_fail(error, NH_E_INVALID, "%s: must be a whole number", name);
    return failed;
}

static nh_err check_backoff(const nh_value *value, const char *name, nh_message *to,
                            nh_error *error) {
    (void)to;
    static const char *const words[] = {"exponential", "linear", "fixed"};
    return check_one_of(value, name, words, 3, &(size_t){0}, error);
}

static nh_err check_pause(const nh_value *value, const char *name, nh_message *to,
                          nh_error *error) {
    (void)to;
    return check_number(value, name, 0, 86400, &(double){0}, error);
}

static nh_err check_multiplier(const nh_value *value, const char *name, nh_message *to,
                               nh_error *error) {
    (void)to;
    return check_number(value, name, 1, 100, &(double){0}, error);
}

static nh_err check_jitter(const nh_value *value, const char *name, nh_message *to,
                           nh_error *error) {
    (void)to;
    return check_number(value, name, 0, 1, &(double){0}, error);
}

static nh_err check_retry(const nh_value *value, const char *name, nh_message *to,
                          nh_error *error) {
    static const field fields[] = {{"attempts", check_attempts},
                                   {"backoff", check_backoff},
                                   {"initial", check_pause},
                                   {"max", check_pause},
                                   {"multiplier", check_multiplier},
                                   {"jitter", check_jitter}};
    if (!is_map(value))
        return wrong_kind(value, name, "a table", error);
    return check_fields(value, fields, sizeof fields / sizeof *fields, "retry.", to, error);
}

/* Every string in a free table must be UTF-8: adapters make JSON of it. The depth is bounded by the
 * document's. */
static nh_err check_strings(const nh_value *value, const char *name, nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (nh_value_kind(value) == NH_STRING)
        return check_utf8(text, length, name, error);
    for (size_t i = 0; i < nh_value_count(value); i++) {
        nh_err failed = check_strings(nh_value_at(value, i), name, error);
        const nh_value *key = nh_value_key(value, i);
        if (!failed && key)
            failed = check_strings(key, name, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

static nh_err check_map(const nh_value *value, const char *name, nh_message *to, nh_error *error) {
    (void)to;
    return is_map(value) ? check_strings(value, name, error)
                         : wrong_kind(value, name, "a table", error);
}

static nh_err check_platform(const nh_value *value, const char *name, nh_message *to,
                             nh_error *error) {
    nh_err failed = check_map(value, name, to, error);
    for (size_t i = 0; i < nh_value_count(value) && !failed; i++)
        if (!is_map(nh_value_at(value, i))) {
            size_t length;
            const char *key = nh_value_bytes(nh_value_key(value, i), &length);
            failed = nh_fail(error, NH_E_INVALID, "platform.%.*s: must be a table",
                             key ? (int)nh_utf8_floor(key, length < 64 ? length : 64) : 0,
                             key ? key : "");
        }
    return failed;
}

static nh_err check_target_part(const nh_value *value, const char *name, nh_message *to,
                                nh_error *error) {
    (void)to;
    return check_line(value, name, TARGET_LONGEST, error);
}

static nh_err check_targets(const nh_value *value, const char *name, nh_message *to,
                            nh_error *error) {
    static const field fields[] = {
        {"platform", check_target_part}, {"type", check_target_part}, {"value", check_target_part}};
    if (!is_list(value))
        return wrong_kind(value, name, "a list", error);
    if (nh_value_count(value) > NH_TARGETS_MAX)
        return nh_fail(error, NH_E_TOO_LARGE, "targets: %zu are given, at most %d are allowed",
                       nh_value_count(value), NH_TARGETS_MAX);
    for (size_t i = 0; i < nh_value_count(value); i++) {
        const nh_value *target = nh_value_at(value, i);
        char place[48];
        snprintf(place, sizeof place, "targets[%zu]", i + 1);
        nh_err failed;
        if (nh_value_kind(target) == NH_STRING) {
            failed = check_line(target, place, TARGET_LONGEST, error);
        } else if (nh_value_kind(target) == NH_MAP) {
            strcat(place, ".");
            failed = check_fields(target, fields, 3, place, to, error);
            if (!failed && !has(target, "platform") && !has(target, "value"))
                failed = nh_fail(error, NH_E_INVALID, "%splatform or value is missing", place);
        } else {
            failed = wrong_kind(target, place, "a string or a table", error);
        }
        if (failed)
            return failed;
    }
    return NH_OK;
}

static nh_err check_content(const nh_value *value, const char *name, nh_message *to,
                            nh_error *error) {
    (void)to;
    if (nh_value_kind(value) != NH_STRING && nh_value_kind(value) != NH_BINARY)
        return wrong_kind(value, name, "a string", error);
    return NH_OK;
}

static nh_err check_attachments(const nh_value *value, const char *name, nh_message *to,
                                nh_error *error) {
    static const field fields[] = {{"name", check_name},
                                   {"content_type", check_name},
                                   {"content", check_content},
                                   {"path", check_target_part},
                                   {"inline_id", check_name}};
    if (!is_list(value))
        return wrong_kind(value, name, "a list", error);
    if (nh_value_count(value) > NH_ATTACHMENTS_MAX)
        return nh_fail(error, NH_E_TOO_LARGE, "attachments: %zu are given, at most %d are allowed",
                       nh_value_count(value), NH_ATTACHMENTS_MAX);
    for (size_t i = 0; i < nh_value_count(value); i++) {
        const nh_value *attachment = nh_value_at(value, i);
        char place[48];
        snprintf(place, sizeof place, "attachments[%zu]", i + 1);
        if (nh_value_kind(attachment) != NH_MAP)
            return wrong_kind(attachment, place, "a table", error);
        bool content = has(attachment, "content");
        bool path = has(attachment, "path");
        if (content == path)
            return nh_fail(error, NH_E_INVALID, "%s: needs %s content or path", place,
                           content ? "only one of" : "either");
        if (content && !has(attachment, "name"))
            return nh_fail(error, NH_E_INVALID, "%s.name: is missing", place);
        strcat(place, ".");
        nh_err failed =
            check_fields(attachment, fields, sizeof fields / sizeof *fields, place, to, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

static const field message_fields[] = {
    {"id", check_id},
    {"title", check_text},
    {"body", check_text},
    {"format", check_format},
    {"priority", check_priority},
    {"targets", check_targets},
    {"template", check_name},
    {"variables", check_map},
    {"metadata", check_map},
    {"attachments", check_attachments},
    {"platform", check_platform},
    {"deliver_at", check_deliver_at},
    {"expires_at", check_expires_at},
    {"timeout", check_timeout},
    {"retry", check_retry},
    {"untrusted", check_bool},
    {"on_complete", check_name}, /* names of callbacks of the rules */
    {"on_error", check_name},
    {"on_retry", check_name},
    {"on_progress", check_name},
};

/* -------------------------------------------------------------- life cycle */

nh_message *nh_message_create(const nh_doc *doc, size_t largest, nh_error *error) {
    const nh_value *root = nh_doc_root(doc);
    size_t length;
    const void *bytes = nh_doc_bytes(doc, &length);
    if (!is_map(root)) {
        wrong_kind(root, "message", "a table", error);
        return NULL;
    }
    if (length > largest) {
        nh_fail(error, NH_E_TOO_LARGE, "message: %zu bytes, at most %zu are allowed", length,
                largest);
        return NULL;
    }
    size_t id_length;
    const char *id = nh_value_bytes(nh_value_get(root, "id"), &id_length);
    if (!id)
        id_length = NH_ID_LENGTH;
    nh_message *message = malloc(sizeof *message + length + id_length + 1);
    if (!message) {
        nh_fail_memory(error);
        return NULL;
    }
    *message = (nh_message){.priority = NH_NORMAL, .timeout = -1, .length = length};
    atomic_init(&message->refs, 1);
    message->created_at = nh_wall();
    if (check_fields(root, message_fields, sizeof message_fields / sizeof *message_fields, "",
                     message, error))
        goto fail;
    if (!has(root, "title") && !has(root, "body") && !has(root, "template")) {
        nh_fail(error, NH_E_INVALID, "message: needs a title, a body or a template");
        goto fail;
    }
    if (message->expires_at > 0 && message->expires_at <= message->created_at) {
        nh_fail(error, NH_E_EXPIRED, "expires_at: lies %.3f s in the past",
                message->created_at - message->expires_at);
        goto fail;
    }
    memcpy(message->bytes, bytes, length);
    char *own = message->bytes + length;
    message->id = own;
    if (id) {
        memcpy(own, id, id_length);
        own[id_length] = '\0';
    } else {
        nh_id_make(own);
    }
    return message;
fail:
    free(message);
    return NULL;
}

nh_message *nh_message_ref(nh_message *message) {
    atomic_fetch_add_explicit(&message->refs, 1, memory_order_relaxed);
    return message;
}

void nh_message_unref(nh_message *message) {
    if (message && atomic_fetch_sub_explicit(&message->refs, 1, memory_order_acq_rel) == 1)
        free(message);
}

size_t nh_message_size(const nh_message *message) {
    return sizeof *message + message->length + NH_ID_LENGTH;
}
