/* base64.c — three bytes are four characters. Our own, since it was all that the core asked of
 * libcrypto, which takes longer to load than the rest of the library. */
#include "runtime/core/base64.h"

#include <stdint.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void nh_base64_encode(char *text, const void *bytes, size_t length) {
    const unsigned char *from = bytes;
    for (; length > 0; from += 3, text += 4) {
        size_t taken = length < 3 ? length : 3;
        uint32_t bits = (uint32_t)from[0] << 16 | (taken > 1 ? (uint32_t)from[1] << 8 : 0) |
                        (taken > 2 ? from[2] : 0);
        text[0] = digits[bits >> 18];
        text[1] = digits[bits >> 12 & 63];
        text[2] = taken > 1 ? digits[bits >> 6 & 63] : '=';
        text[3] = taken > 2 ? digits[bits & 63] : '=';
        length -= taken;
    }
}

/* -1: not a digit. */
static int value_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool nh_base64_decode(void *bytes, size_t *count, const char *text, size_t length) {
    unsigned char *to = bytes;
    size_t padding = 0;
    if (length % 4 != 0)
        return false;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    *count = length / 4 * 3 - padding;
    for (size_t i = 0, written = 0; i < length; i += 4) {
        uint32_t bits = 0;
        for (size_t j = i; j < i + 4; j++) {
            int value = j < length - padding ? value_of(text[j]) : 0;
            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (int shift = 16; shift >= 0 && written < *count; shift -= 8)
            to[written++] = (unsigned char)(bits >> shift);
    }
    return true;
}
