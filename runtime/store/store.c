/* store.c — what every store checks before it takes something over.
 *
 * Any thread; costs a look at each item.
 */
#include "runtime/store/store.h"

#include <string.h>

#include "runtime/core/doc.h"
#include "runtime/core/error.h"

nh_err nh_store_check_batch(const nh_store_batch *batch, nh_error *error) {
    if (batch->count == 0)
        return nh_fail(error, NH_E_INVALID, "a batch needs a message");
    for (size_t i = 0; i < batch->count; i++) {
        const nh_store_item *item = &batch->items[i];
        size_t id = item->id ? strnlen(item->id, NH_ID_MAX + 1) : 0;
        if (id == 0 || id > NH_ID_MAX)
            return nh_fail(error, NH_E_INVALID, "id: must have 1 to %d bytes", NH_ID_MAX);
        if (item->lane && strnlen(item->lane, NH_STORE_LANE_MAX + 1) > NH_STORE_LANE_MAX)
            return nh_fail(error, NH_E_INVALID, "lane: must have at most %d bytes",
                           NH_STORE_LANE_MAX);
        if (!item->payload || item->length == 0 || item->length > NH_DOC_BYTES_MAX)
            return nh_fail(error, NH_E_INVALID, "message: must have 1 to %zu bytes",
                           NH_DOC_BYTES_MAX);
        if (item->priority >= NH_PRIORITIES)
            return nh_fail(error, NH_E_INVALID, "priority: %d is none", item->priority);
        if (item->key &&
            (item->key_length == 0 || item->key_length > NH_STORE_KEY_MAX || !item->first))
            return nh_fail(error, NH_E_INVALID, "dedupe_key: must have 1 to %d bytes",
                           NH_STORE_KEY_MAX);
    }
    return NH_OK;
}

nh_err nh_store_check_value(size_t key_length, size_t length, nh_error *error) {
    if (key_length == 0 || key_length > NH_STORE_KEY_MAX)
        return nh_fail(error, NH_E_INVALID, "store: a key must have 1 to %d bytes",
                       NH_STORE_KEY_MAX);
    if (length > NH_STORE_VALUE_MAX)
        return nh_fail(error, NH_E_INVALID, "store: a value must have at most %d bytes, not %zu",
                       NH_STORE_VALUE_MAX, length);
    return NH_OK;
}

size_t nh_store_text_length(const char *text) {
    size_t length = text ? strnlen(text, NH_STORE_TEXT_MAX + 1) : 0;
    if (length <= NH_STORE_TEXT_MAX)
        return length;
    length = NH_STORE_TEXT_MAX;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
        length--; /* not within a character */
    return length;
}
