/* message_fuzz.c — JSON text (or packed bytes, when it begins with a NUL) that somebody sends as a
 * message: refused with a reason, or a message whose every field keeps what message.c promises. */
#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/id.h"
#include "runtime/core/message.h"
#include "spec/fuzz/fuzz.h"

enum { LARGEST = 1 << 16 };

static nh_doc *read_document(const uint8_t *data, size_t size, nh_error *error) {
    if (size > 0 && data[0] == 0)
        return nh_doc_from_bytes(data + 1, size - 1, error);
    return nh_doc_from_json((const char *)data, size, error);
}

/* What JSON said is in the document: written and read again it is the same. */
static void must_read_back(const nh_doc *doc) {
    nh_error error = FUZZ_ERROR;
    size_t length, again_length;
    char *text = nh_doc_to_json(doc);
    MUST(text);
    nh_doc *again = nh_doc_from_json(text, strlen(text), &error);
    MUST(again);
    const void *bytes = nh_doc_bytes(doc, &length);
    const void *again_bytes = nh_doc_bytes(again, &again_length);
    MUST(length == again_length && memcmp(bytes, again_bytes, length) == 0);
    nh_doc_unref(again);
    nh_free(text);
}

static void must_be_line(const nh_value *value, size_t longest) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    MUST(length > 0 && length <= longest && nh_utf8_valid(text, length));
    MUST(nh_control_at(text, length) == length);
}

/* Whatever reaches a header or an address later is one line without control characters. */
static void must_have_safe_targets(const nh_value *targets) {
    static const char *const parts[] = {"platform", "type", "value"};
    MUST(nh_value_count(targets) <= NH_TARGETS_MAX);
    for (size_t i = 0; i < nh_value_count(targets); i++) {
        const nh_value *target = nh_value_at(targets, i);
        if (nh_value_kind(target) == NH_STRING)
            must_be_line(target, 4096);
        for (size_t p = 0; p < 3; p++)
            if (nh_value_kind(nh_value_get(target, parts[p])) != NH_NIL)
                must_be_line(nh_value_get(target, parts[p]), 4096);
    }
}

static void must_be_sound(const nh_message *message, const nh_doc *doc) {
    nh_error error = FUZZ_ERROR;
    size_t id = strlen(nh_message_id(message)), length;
    MUST(id > 0 && id <= NH_ID_MAX && nh_utf8_valid(nh_message_id(message), id));
    MUST(nh_control_at(nh_message_id(message), id) == id);
    MUST(message->priority < NH_PRIORITIES);
    const nh_times *times = nh_message_times(message);
    MUST(times->deliver_at >= 0 && times->deliver_at <= 1e11);
    MUST(times->expires_at == 0 || times->expires_at > message->created_at);
    MUST(times->timeout == -1 || (times->timeout >= 0.001 && times->timeout <= 1e9));
    const void *bytes = nh_doc_bytes(doc, &length);
    MUST(message->length == length && memcmp(message->bytes, bytes, length) == 0);
    nh_doc *kept = nh_doc_from_bytes(message->bytes, message->length, &error);
    MUST(kept);
    const nh_value *root = nh_doc_root(kept);
    must_have_safe_targets(nh_value_get(root, "targets"));
    nh_doc_unref(kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nh_error error = FUZZ_ERROR;
    nh_doc *doc = read_document(data, size, &error);
    if (!doc) {
        must_be_told(&error);
        return 0;
    }
    if (data[0] != 0)
        must_read_back(doc);
    nh_message *message = nh_message_create(nh_doc_read(doc), LARGEST, nh_wall(), NULL, &error);
    if (message)
        must_be_sound(message, doc);
    else
        must_be_told(&error);
    nh_message_unref(message);
    nh_doc_unref(doc);
    return 0;
}
