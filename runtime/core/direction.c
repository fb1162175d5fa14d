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

static uint64_t add_text(uint64_t hash, const nh_value *value) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (!text || length == 0)
        return nh_hash_mix(hash);
    const char *mark = scheme_end(text, length);
    if (mark)
        return add_url(hash, text, length, mark);
    if (*text == '+')
        return nh_hash(hash, text, 1);
    const char *at = memchr(text, '@', length);
    return at && at > text ? nh_hash(hash, at, 1) : nh_hash(hash, text, length);
}

static uint64_t add_target(uint64_t hash, const nh_value *target) {
    if (nh_value_kind(target) == NH_STRING)
        return add_text(hash, target);
    return add_text(add_text(hash, nh_value_get(target, "platform")),
                    nh_value_get(target, "value"));
}

uint32_t nh_direction_of(const nh_value *targets) {
    uint64_t hash = (uint64_t)(uintptr_t)&seed;
    for (size_t i = 0; i < nh_value_count(targets); i++)
        hash = add_target(hash, nh_value_at(targets, i));
    return (uint32_t)(nh_hash_mix(hash) >> (64 - NH_DIRECTION_BITS));
}
