/* utf8.c — every text and every key of every message passes here, so plain ASCII is tested eight
 * bytes at a time. */
#include "runtime/core/utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the character that starts here, 0 when malformed. Table 3-7 of the Unicode standard. */
static size_t character(const unsigned char *s, size_t left) {
    unsigned char lead = s[0];
    unsigned char low = 0x80, high = 0xBF;
    size_t size;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF) {
        size = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        size = 3;
        if (lead == 0xE0)
            low = 0xA0;
        if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        size = 4;
        if (lead == 0xF0)
            low = 0x90;
        if (lead == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (left < size || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return size;
}

#define HIGH_BITS UINT64_C(0x8080808080808080)

static inline uint64_t eight(const unsigned char *s) {
    uint64_t word;
    memcpy(&word, s, sizeof word);
    return word;
}

static inline uint32_t four(const unsigned char *s) {
    uint32_t word;
    memcpy(&word, s, sizeof word);
    return word;
}

/* The place before which all is ASCII: the length, or some bytes short of the first byte that is
 * not. The last bytes are looked at as part of a word that may begin before all. */
static inline size_t ascii(const unsigned char *s, size_t i, size_t length) {
    const unsigned char *at = s + i, *end = s + length;
    size_t left = length - i;
    for (; left >= 32; at += 32, left -= 32)
        if ((eight(at) | eight(at + 8) | eight(at + 16) | eight(at + 24)) & HIGH_BITS)
            return (size_t)(at - s);
    for (; left >= 8; at += 8, left -= 8)
        if (eight(at) & HIGH_BITS)
            return (size_t)(at - s);
    uint64_t rest = 0;
    if (left > 0 && length >= 8)
        rest = eight(end - 8);
    else if (left >= 4)
        rest = four(at) | four(end - 4);
    else
        for (size_t byte = 0; byte < left; byte++)
            rest |= at[byte];
    return rest & HIGH_BITS ? (size_t)(at - s) : length;
}

bool nh_utf8_valid(const char *text, size_t length) {
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < length) {
        i = ascii(s, i, length);
        if (i == length)
            break;
        size_t size = character(s + i, length - i);
        if (size == 0)
            return false;
        i += size;
    }
    return true;
}

size_t nh_utf8_floor(const char *text, size_t length) {
    size_t start = length;
    for (int back = 0; back < 4 && start > 0; back++) {
        unsigned char byte = (unsigned char)text[--start];
        if (byte < 0x80)
            return length;
        if (byte >= 0xC0)
            return character((const unsigned char *)text + start, length - start) ? length : start;
    }
    return length;
}

size_t nh_control_at(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return i;
    return length;
}
