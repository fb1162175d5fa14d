/* direction.c — guesses from the texts of targets alone: a URL stands for its scheme and host, an
 * e-mail address for mail, a number for telephones, and all else for itself. So a burst to ten
 * thousand addresses is one direction, and not ten thousand that have a turn each.
 *
 * The hash starts from an address of this library, which nobody outside knows: so nobody can choose
 * a target that is taken for another one's. Costs a few nanoseconds a target.
 */
#include "runtime/core/direction.h"

#include <string.h>

#include "runtime/core/hash.h"
#include "runtime/core/reader.h"

static const char seed;

/* Where the scheme of a URL ends; NULL when it is none. */
static const char *scheme_end(const char *text, size_t length) {
    const char *mark = memchr(text, ':', length);
    return mark && (size_t)(mark - text) + 3 <= length && memcmp(mark, "://", 3) == 0 ? mark : NULL;
}

/* The end of a part that ends at this mark at the latest. */
static const char *cut_at(const char *from, const char *end, char mark) {
    const char *found = memchr(from, mark, (size_t)(end - from));
    return found ? found : end;
}

static uint64_t add_url(uint64_t hash, const char *text, size_t length, const char *mark) {
    const char *host = mark + 3;
    const char *end = cut_at(host, cut_at(host, cut_at(host, text + length, '/'), '?'), '#');
    const char *at = memrchr(host, '@', (size_t)(end - host));
    if (!at)
        return nh_hash(hash, text, (size_t)(end - text));
    /* What is before it is a password; what remains is hashed as it would be without one. */
    char plain[256];
    size_t scheme = (size_t)(host - text), rest = (size_t)(end - at - 1);
    if (scheme + rest > sizeof plain)
        return nh_hash(hash, at, rest);
    memcpy(plain, text, scheme);
    memcpy(plain + scheme, at + 1, rest);
    return nh_hash(hash, plain, scheme + rest);
}

/* A text that is not there is as good as an empty one. */
static uint64_t add_text(uint64_t hash, const nh_datum *value) {
    if (value->kind != NH_STRING || value->count == 0)
        return nh_hash_mix(hash);
    const char *text = value->bytes;
    size_t length = value->count;
    const char *mark = scheme_end(text, length);
    if (mark)
        return add_url(hash, text, length, mark);
    if (*text == '+')
        return nh_hash(hash, text, 1);
    const char *at = memchr(text, '@', length);
    return at && at > text ? nh_hash(hash, at, 1) : nh_hash(hash, text, length);
}

static bool is(const nh_datum *key, const char *name, size_t length) {
    return key->kind == NH_STRING && key->count == length && memcmp(key->bytes, name, length) == 0;
}

static uint64_t add_target(uint64_t hash, nh_reader *from) {
    nh_datum target, platform = {.kind = NH_NIL}, value = {.kind = NH_NIL};
    nh_read(from, &target);
    if (target.kind != NH_MAP)
        return add_text(hash, &target);
    for (size_t i = 0; i < target.count; i++) {
        nh_datum key, part;
        nh_read(from, &key);
        nh_read(from, &part);
        if (is(&key, "platform", 8))
            platform = part;
        else if (is(&key, "value", 5))
            value = part;
    }
    return add_text(add_text(hash, &platform), &value);
}

uint32_t nh_direction_of(nh_reader targets, size_t count) {
    uint64_t hash = (uint64_t)(uintptr_t)&seed;
    for (; count > 0; count--)
        hash = add_target(hash, &targets);
    return (uint32_t)(nh_hash_mix(hash) >> (64 - NH_DIRECTION_BITS));
}
