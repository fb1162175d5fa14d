/* base64.h — base64 as of RFC 4648, with padding and without line breaks. Thread: any.
 */
#ifndef NH_CORE_BASE64_H
#define NH_CORE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#define NH_BASE64_SIZE(length)                                                                     \
    (((length) + 2) / 3 * 4) /* of the text; it has no end of its own                              \
                              */

/* Writes NH_BASE64_SIZE(length) characters. */
void nh_base64_encode(char *text, const void *bytes, size_t length);
/* Writes at most length / 4 * 3 bytes, their number into `count`. False when the text is not
 * base64: then `bytes` has nothing of use. */
bool nh_base64_decode(void *bytes, size_t *count, const char *text, size_t length);

#endif
