/* hash.h — a hash of texts for tables in memory; not for anything that is kept or sent. Who starts
 * from a number that nobody outside knows can be given no keys that meet on purpose. */
#ifndef NH_CORE_HASH_H
#define NH_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t nh_hash_mix(uint64_t hash) {
    hash ^= hash >> 33;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    return hash ^ hash >> 29;
}

/* Of a text, from the seed or from the hash of what stood before it. */
static inline uint64_t nh_hash(uint64_t from, const char *text, size_t length) {
    uint64_t hash = from ^ length;
    for (; length >= 8; text += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = nh_hash_mix(hash ^ word);
    }
    uint64_t rest = 0;
    memcpy(&rest, text, length);
    return nh_hash_mix(hash ^ rest);
}

#endif
