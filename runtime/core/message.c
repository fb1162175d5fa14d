/* message.c — what a message may hold. One table names every field, so an unknown one is found and
 * the right one suggested.
 *
 * Checking happens in the sender's thread, before anything is queued: a typo costs its author an
 * error and nobody else anything. The packed document is kept as it came; an id that is made here
 * stands beside it. Costs one pass over its bytes, without a tree, and one allocation, which has
 * room for the handle.
 */
#include "runtime/core/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/direction.h"
#include "runtime/core/error.h"
#include "runtime/core/id.h"
#include "runtime/core/nearest.h"
#include "runtime/core/reader.h"
#include "runtime/core/utf8.h"

enum { KEY_LONGEST = 512, TARGET_LONGEST = 4096, ATTEMPTS_MOST = 100 };

static const char *const kind_names[] = {
    [NH_NIL] = "nil",       [NH_BOOL] = "a boolean",  [NH_INT] = "a number",
    [NH_REAL] = "a number", [NH_STRING] = "a string", [NH_BINARY] = "binary",
    [NH_ARRAY] = "a list",  [NH_MAP] = "a table",     [NH_SECRET] = "a secret",
};

/* Where a value stands; its name is put together only for an error. */
typedef struct where {
    const char *list; /* or the table that it is in; NULL for a field of the message */
    size_t position;  /* from 1; 0 in a table */
    const char *name; /* NULL for an element of a list */
} where;

typedef struct label {
    char text[64];
} label;

/* "title", "retry.attempts", "targets[1]", "targets[1].value" */
static label label_of(const where *at) {
    label made;
    char place[24] = "";
    if (at->position > 0)
        snprintf(place, sizeof place, "[%zu]", at->position);
    snprintf(made.text, sizeof made.text, "%s%s%s%s", at->list ? at->list : "", place,
             at->list && at->name ? "." : "", at->name ? at->name : "");
    return made;
}

#define LABEL(at) (label_of(at).text)

/* A message's document while it is read, and what its fields say of it. */
typedef struct checked {
    nh_reader rest;
    nh_priority priority;
    bool keyed;
    uint32_t flow; /* of NH_DIRECTION_BITS */
    nh_times times;
    nh_datum id; /* NH_NIL: none is given */
} checked;

/* A field: its name, what checks its value, which is not nil. A value that is a container is
 * followed by its elements in `to`; who finds no fault has read all of them. */
typedef nh_err (*check_fn)(const nh_datum *value, const where *at, checked *to, nh_error *error);
typedef struct field {
    const char *name;
    size_t length;
    check_fn check;
} field;

#define FIELD(name, check)                                                                         \
    { name, sizeof(name) - 1, check }

static nh_err wrong_kind(const nh_datum *value, const where *at, const char *wanted,
                         nh_error *error) {
    return nh_fail(error, NH_E_INVALID, "%s: must be %s, not %s", LABEL(at), wanted,
                   kind_names[value->kind]);
}

/* An empty Lua table is an empty list and an empty map. */
static bool is_map(const nh_datum *value) {
    return value->kind == NH_MAP || (value->kind == NH_ARRAY && value->count == 0);
}

static bool is_list(const nh_datum *value) {
    return value->kind == NH_ARRAY || (value->kind == NH_MAP && value->count == 0);
}

static bool is_text(const nh_datum *value) {
    return value->kind == NH_STRING || value->kind == NH_BINARY || value->kind == NH_SECRET;
}

static nh_err check_utf8(const nh_datum *text, const where *at, nh_error *error) {
    return nh_utf8_valid(text->bytes, text->count)
               ? NH_OK
               : nh_fail(error, NH_E_INVALID, "%s: is not UTF-8", LABEL(at));
}

/* What is said of a key that is no field of the table at `in`. */
static nh_err unknown_field(const nh_datum *key, const field *fields, size_t count, const where *in,
                            nh_error *error) {
    const char *names[32], *name = key->bytes, *dot = in->list ? "." : "";
    size_t length = key->count;
    for (size_t f = 0; f < count; f++)
        names[f] = fields[f].name;
    if (!is_text(key) || !nh_utf8_valid(name, length) || nh_control_at(name, length) < length)
        return nh_fail(error, NH_E_INVALID, "%s%s: every key must be a name",
                       in->list ? LABEL(in) : "message", dot);
    const char *near = nh_nearest(name, length, names, count);
    return nh_fail(error, NH_E_INVALID, "%s%s%.*s: unknown field%s%s%s", LABEL(in), dot,
                   (int)(length < 64 ? length : nh_utf8_floor(name, 64)), name,
                   near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

static const field *find_field(const nh_datum *key, const field *fields, size_t count) {
    for (size_t f = 0; f < count && is_text(key); f++)
        if (fields[f].length == key->count && memcmp(fields[f].name, key->bytes, key->count) == 0)
            return &fields[f];
    return NULL;
}

/* Checks every key of a map against a table of fields and each value by its field's check. `in` is
 * where the map stands. `seen` gets a bit for each field that is there, by its place in the table;
 * a nil is as good as a field that is not there.
 */
static nh_err check_fields(const nh_datum *map, const field *fields, size_t count, const where *in,
                           checked *to, uint32_t *seen, nh_error *error) {
    *seen = 0;
    for (size_t i = 0; i < map->count; i++) {
        nh_datum key, value;
        nh_read(&to->rest, &key);
        const field *known = find_field(&key, fields, count);
        if (!known)
            return unknown_field(&key, fields, count, in, error);
        nh_read(&to->rest, &value);
        if (value.kind == NH_NIL)
            continue;
        *seen |= UINT32_C(1) << (known - fields);
        const where at = {.list = in->list, .position = in->position, .name = known->name};
        nh_err failed = known->check(&value, &at, to, error);
        if (failed)
            return failed;
    }
    return NH_OK;
}

/* ---------------------------------------------------------------- checks */

static nh_err check_text(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    if (value->kind != NH_STRING)
        return wrong_kind(value, at, "a string", error);
    return check_utf8(value, at, error);
}

/* One line of 1 to `longest` bytes without control characters. */
static nh_err check_line(const nh_datum *value, const where *at, size_t longest, nh_error *error) {
    const char *text = value->bytes;
    size_t length = value->count;
    nh_err failed = check_text(value, at, NULL, error);
    if (failed)
        return failed;
    if (length == 0 || length > longest)
        return nh_fail(error, NH_E_INVALID, "%s: must have 1 to %zu bytes, not %zu", LABEL(at),
                       longest, length);
    size_t control = nh_control_at(text, length);
    if (control == length)
        return NH_OK;
    return nh_fail(error, NH_E_INVALID, "%s: control character 0x%02X at byte %zu is not allowed",
                   LABEL(at), (unsigned char)text[control], control + 1);
}

static nh_err check_id(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    to->id = *value;
    return check_line(value, at, NH_ID_MAX, error);
}

static nh_err check_name(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    return check_line(value, at, KEY_LONGEST, error);
}

static nh_err check_key(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    to->keyed = true;
    return check_line(value, at, KEY_LONGEST, error);
}

static nh_err check_one_of(const nh_datum *value, const where *at, const char *const *words,
                           size_t count, size_t *index, nh_error *error) {
    const char *text = value->bytes;
    size_t length = value->count;
    if (value->kind != NH_STRING)
        return wrong_kind(value, at, "a string", error);
    for (size_t i = 0; i < count; i++)
        if (strlen(words[i]) == length && memcmp(words[i], text, length) == 0) {
            *index = i;
            return NH_OK;
        }
    char list[128] = "";
    for (size_t i = 0; i < count; i++)
        strcat(strcat(list, i == 0 ? "" : ", "), words[i]);
    return nh_fail(error, NH_E_INVALID, "%s: '%.*s' is not one of %s", LABEL(at),
                   nh_utf8_valid(text, length) ? (int)nh_utf8_floor(text, length < 64 ? length : 64)
                                               : 0,
                   text, list);
}

static nh_err check_bool(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    return value->kind == NH_BOOL ? NH_OK : wrong_kind(value, at, "a boolean", error);
}

static nh_err check_format(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    static const char *const words[] = {"text", "markdown", "html"};
    return check_one_of(value, at, words, 3, &(size_t){0}, error);
}

static nh_err check_priority(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    static const char *const words[NH_PRIORITIES] = {"low", "normal", "high", "urgent"};
    size_t index = NH_NORMAL;
    nh_err failed = check_one_of(value, at, words, NH_PRIORITIES, &index, error);
    to->priority = (nh_priority)index;
    return failed;
}

/* A finite number within [low, high]. */
static nh_err check_number(const nh_datum *value, const where *at, double low, double high,
                           double *out, nh_error *error) {
    if (value->kind != NH_INT && value->kind != NH_REAL)
        return wrong_kind(value, at, "a number", error);
    *out = value->kind == NH_REAL ? value->real
           : value->big           ? (double)(uint64_t)value->integer
                                  : (double)value->integer;
    if (!(*out >= low && *out <= high))
        return nh_fail(error, NH_E_INVALID, "%s: must be between %g and %g", LABEL(at), low, high);
    return NH_OK;
}

static nh_err check_deliver_at(const nh_datum *value, const where *at, checked *to,
                               nh_error *error) {
    return check_number(value, at, 0, 1e11, &to->times.deliver_at, error);
}

static nh_err check_expires_at(const nh_datum *value, const where *at, checked *to,
                               nh_error *error) {
    return check_number(value, at, 0, 1e11, &to->times.expires_at, error);
}

static nh_err check_timeout(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    return check_number(value, at, 0.001, 1e9, &to->times.timeout, error);
}

static nh_err check_attempts(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    double attempts;
    nh_err failed = check_number(value, at, 1, ATTEMPTS_MOST, &attempts, error);
    if (!failed && (double)(int)attempts != attempts)
        failed = nh_fail(error, NH_E_INVALID, "%s: must be a whole number", LABEL(at));
    return failed;
}

static nh_err check_backoff(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    static const char *const words[] = {"exponential", "linear", "fixed"};
    return check_one_of(value, at, words, 3, &(size_t){0}, error);
}

static nh_err check_pause(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    return check_number(value, at, 0, 86400, &(double){0}, error);
}

static nh_err check_multiplier(const nh_datum *value, const where *at, checked *to,
                               nh_error *error) {
    (void)to;
    return check_number(value, at, 1, 100, &(double){0}, error);
}

static nh_err check_jitter(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    return check_number(value, at, 0, 1, &(double){0}, error);
}

static nh_err check_retry(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    static const field fields[] = {
        FIELD("attempts", check_attempts),     FIELD("backoff", check_backoff),
        FIELD("initial", check_pause),         FIELD("max", check_pause),
        FIELD("multiplier", check_multiplier), FIELD("jitter", check_jitter)};
    if (!is_map(value))
        return wrong_kind(value, at, "a table", error);
    const where in = {.list = "retry"};
    return check_fields(value, fields, sizeof fields / sizeof *fields, &in, to, &(uint32_t){0},
                        error);
}

/* Every string in a free table must be UTF-8: adapters make JSON of it. The depth is bounded by the
 * document's. */
static nh_err check_strings(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    if (value->kind == NH_STRING)
        return check_utf8(value, at, error);
    if (value->kind != NH_ARRAY && value->kind != NH_MAP)
        return NH_OK;
    nh_err failed = NH_OK;
    for (size_t left = value->kind == NH_MAP ? 2 * value->count : value->count; left > 0 && !failed;
         left--) {
        nh_datum inner;
        nh_read(&to->rest, &inner);
        failed = check_strings(&inner, at, to, error);
    }
    return failed;
}

static nh_err check_map(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    return is_map(value) ? check_strings(value, at, to, error)
                         : wrong_kind(value, at, "a table", error);
}

static nh_err check_platform(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    if (!is_map(value))
        return wrong_kind(value, at, "a table", error);
    nh_err failed = NH_OK;
    for (size_t i = 0; i < value->count && !failed; i++) {
        nh_datum key, one;
        nh_read(&to->rest, &key);
        failed = check_strings(&key, at, to, error);
        if (failed)
            break;
        nh_read(&to->rest, &one);
        bool named = is_text(&key);
        size_t shown = named && key.count < 64 ? key.count : 64;
        failed = is_map(&one) ? check_strings(&one, at, to, error)
                              : nh_fail(error, NH_E_INVALID, "platform.%.*s: must be a table",
                                        named ? (int)nh_utf8_floor(key.bytes, shown) : 0,
                                        named ? key.bytes : "");
    }
    return failed;
}

static nh_err check_target_part(const nh_datum *value, const where *at, checked *to,
                                nh_error *error) {
    (void)to;
    return check_line(value, at, TARGET_LONGEST, error);
}

static nh_err check_target(const nh_datum *target, const where *at, checked *to, nh_error *error) {
    enum { PLATFORM, TYPE, VALUE };
    static const field fields[] = {[PLATFORM] = FIELD("platform", check_target_part),
                                   [TYPE] = FIELD("type", check_target_part),
                                   [VALUE] = FIELD("value", check_target_part)};
    if (target->kind == NH_STRING)
        return check_line(target, at, TARGET_LONGEST, error);
    if (target->kind != NH_MAP)
        return wrong_kind(target, at, "a string or a table", error);
    uint32_t seen;
    nh_err failed = check_fields(target, fields, 3, at, to, &seen, error);
    if (!failed && !(seen & (1u << PLATFORM | 1u << VALUE)))
        failed = nh_fail(error, NH_E_INVALID, "%s.platform or value is missing", LABEL(at));
    return failed;
}

/* Checks each of at most `most` elements of a list. */
static nh_err check_each(const nh_datum *value, size_t most, check_fn check, const where *at,
                         checked *to, nh_error *error) {
    if (!is_list(value))
        return wrong_kind(value, at, "a list", error);
    if (value->count > most)
        return nh_fail(error, NH_E_TOO_LARGE, "%s: %zu are given, at most %zu are allowed",
                       LABEL(at), value->count, most);
    nh_err failed = NH_OK;
    for (size_t i = 0; i < value->count && !failed; i++) {
        const where one = {.list = at->name, .position = i + 1};
        nh_datum element;
        nh_read(&to->rest, &element);
        failed = check(&element, &one, to, error);
    }
    return failed;
}

static nh_err check_targets(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    nh_reader targets = to->rest;
    nh_err failed = check_each(value, NH_TARGETS_MAX, check_target, at, to, error);
    if (!failed)
        to->flow = nh_direction_of(targets, value->count);
    return failed;
}

static nh_err check_content(const nh_datum *value, const where *at, checked *to, nh_error *error) {
    (void)to;
    if (value->kind != NH_STRING && value->kind != NH_BINARY)
        return wrong_kind(value, at, "a string", error);
    return NH_OK;
}

static nh_err check_attachment(const nh_datum *attachment, const where *at, checked *to,
                               nh_error *error) {
    enum { NAME, CONTENT = 2, PATH };
    static const field fields[] = {[NAME] = FIELD("name", check_name),
                                   FIELD("content_type", check_name),
                                   [CONTENT] = FIELD("content", check_content),
                                   [PATH] = FIELD("path", check_target_part),
                                   FIELD("inline_id", check_name)};
    if (attachment->kind != NH_MAP)
        return wrong_kind(attachment, at, "a table", error);
    uint32_t seen;
    nh_err failed =
        check_fields(attachment, fields, sizeof fields / sizeof *fields, at, to, &seen, error);
    bool content = seen & 1u << CONTENT, path = seen & 1u << PATH;
    if (!failed && content == path)
        failed = nh_fail(error, NH_E_INVALID, "%s: needs %s content or path", LABEL(at),
                         content ? "only one of" : "either");
    if (!failed && content && !(seen & 1u << NAME))
        failed = nh_fail(error, NH_E_INVALID, "%s.name: is missing", LABEL(at));
    return failed;
}

static nh_err check_attachments(const nh_datum *value, const where *at, checked *to,
                                nh_error *error) {
    return check_each(value, NH_ATTACHMENTS_MAX, check_attachment, at, to, error);
}

enum { ID, TITLE, BODY, TEMPLATE = 6 };

static const field message_fields[] = {
    [ID] = FIELD("id", check_id),
    [TITLE] = FIELD("title", check_text),
    [BODY] = FIELD("body", check_text),
    FIELD("format", check_format),
    FIELD("priority", check_priority),
    FIELD("targets", check_targets),
    [TEMPLATE] = FIELD("template", check_name),
    FIELD("variables", check_map),
    FIELD("metadata", check_map),
    FIELD("attachments", check_attachments),
    FIELD("platform", check_platform),
    FIELD("deliver_at", check_deliver_at),
    FIELD("expires_at", check_expires_at),
    FIELD("timeout", check_timeout),
    FIELD("dedupe_key", check_key),
    FIELD("retry", check_retry),
    FIELD("untrusted", check_bool),
    FIELD("on_complete", check_name), /* names of callbacks of the rules */
    FIELD("on_error", check_name),
    FIELD("on_retry", check_name),
    FIELD("on_progress", check_name),
};

_Static_assert(sizeof message_fields / sizeof *message_fields <= 32, "a bit for each in `seen`");

/* Checks all of a document. */
static nh_err check(nh_reader document, size_t largest, checked *to, nh_error *error) {
    static const where whole = {.name = "message"}, inside = {.list = NULL};
    uint32_t seen;
    size_t length = (size_t)(document.end - document.at);
    nh_datum root;
    *to = (checked){.rest = document, .priority = NH_NORMAL, .times = nh_no_times};
    nh_read(&to->rest, &root);
    if (!is_map(&root))
        return wrong_kind(&root, &whole, "a table", error);
    if (length > largest)
        return nh_fail(error, NH_E_TOO_LARGE, "message: %zu bytes, at most %zu are allowed", length,
                       largest);
    nh_err failed =
        check_fields(&root, message_fields, sizeof message_fields / sizeof *message_fields, &inside,
                     to, &seen, error);
    if (failed)
        return failed;
    if (!(seen & (1u << TITLE | 1u << BODY | 1u << TEMPLATE)))
        return nh_fail(error, NH_E_INVALID, "message: needs a title, a body or a template");
    return NH_OK;
}

/* -------------------------------------------------------------- life cycle */

const nh_times nh_no_times = {.timeout = -1, .deadline = UINT64_MAX};

static size_t front_of(bool timed) {
    return NH_MESSAGE_FRONT + (timed ? sizeof(nh_times) : 0);
}

/* `id` NULL: one is made. */
static nh_message *make(nh_reader document, const checked *as, double created_at, const char *id,
                        size_t id_length, nh_arena *arena, nh_error *error) {
    const nh_times *times = &as->times;
    bool timed = times->deliver_at > 0 || times->expires_at > 0 || times->timeout >= 0;
    size_t length = (size_t)(document.end - document.at), front = front_of(timed);
    uint32_t place;
    if (!id)
        id_length = NH_ID_LENGTH;
    char *block = nh_arena_take(arena, front + sizeof(nh_message) + length + id_length + 1, &place);
    if (!block) {
        nh_fail_memory(error);
        return NULL;
    }
    nh_message *message = (nh_message *)(void *)(block + front);
    *message = (nh_message){.place = place,
                            .created_at = created_at,
                            .length = (uint32_t)length,
                            .priority = as->priority & 3u,
                            .keyed = as->keyed,
                            .timed = timed,
                            .flow = as->flow & ((1u << NH_DIRECTION_BITS) - 1)};
    atomic_init(&message->refs, 1);
    if (timed)
        *nh_message_own_times(message) = *times;
    memcpy(message->bytes, document.at, length);
    char *own = message->bytes + length;
    if (id) {
        memcpy(own, id, id_length);
        own[id_length] = '\0';
    } else {
        nh_id_make_at(own, created_at);
    }
    return message;
}

nh_message *nh_message_create(nh_reader document, size_t largest, double now, nh_arena *arena,
                              nh_error *error) {
    checked as;
    if (check(document, largest, &as, error) != NH_OK)
        return NULL;
    double expires_at = as.times.expires_at;
    if (expires_at > 0 && expires_at <= now) {
        nh_fail(error, NH_E_EXPIRED, "expires_at: lies %.3f s in the past", now - expires_at);
        return NULL;
    }
    const char *id = as.id.kind == NH_NIL ? NULL : as.id.bytes;
    return make(document, &as, now, id, as.id.count, arena, error);
}

nh_message *nh_message_restore(nh_reader document, const char *id, double created_at,
                               nh_error *error) {
    checked as;
    return check(document, SIZE_MAX, &as, error) == NH_OK
               ? make(document, &as, created_at, id, strlen(id), NULL, error)
               : NULL;
}

nh_message *nh_message_ref(nh_message *message) {
    atomic_fetch_add_explicit(&message->refs, 1, memory_order_relaxed);
    return message;
}

void nh_message_unref(nh_message *message) {
    if (message && atomic_fetch_sub_explicit(&message->refs, 1, memory_order_acq_rel) == 1)
        nh_arena_drop((char *)message - front_of(message->timed), message->place);
}

size_t nh_message_size(const nh_message *message) {
    return sizeof *message + message->length + NH_ID_LENGTH;
}
