/* utf8.h — is it UTF-8 (RFC 3629), and where may it be cut. */
#ifndef NH_CORE_UTF8_H
#define NH_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* True when the bytes are well-formed: no overlong form, no surrogate, nothing above U+10FFFF. */
bool nh_utf8_valid(const char *text, size_t length);
/* The largest n ≤ length such that text[0..n) does not end inside a character; text holds at least
 * `length` bytes. */
size_t nh_utf8_floor(const char *text, size_t length);

/* Where the first byte below 0x20 or 0x7F stands; length when there is none. */
size_t nh_control_at(const char *text, size_t length);

#endif
