/* Base64: the vectors of RFC 4648, everything back again, and what is none. */
#include "runtime/core/base64.h"

#include <string.h>

#include "spec/unit/check.h"

static void writes_the_vectors(void) {
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[16] = "", bytes[16] = "";
        size_t length = strlen(pairs[i][0]), count = 99;
        nh_base64_encode(text, pairs[i][0], length);
        CHECK_INT(NH_BASE64_SIZE(length), (int)strlen(pairs[i][1]));
        CHECK_STR(text, pairs[i][1]);
        CHECK(nh_base64_decode(bytes, &count, text, strlen(text)));
        CHECK_INT((int)count, (int)length);
        CHECK_STR(bytes, pairs[i][0]);
    }
}

static void reads_back_every_byte(void) {
    unsigned char bytes[256], again[256];
    char text[NH_BASE64_SIZE(sizeof bytes)];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 167);
    for (size_t length = 0; length <= sizeof bytes; length++) {
        size_t count = 0;
        nh_base64_encode(text, bytes, length);
        CHECK(nh_base64_decode(again, &count, text, NH_BASE64_SIZE(length)));
        CHECK(count == length && memcmp(bytes, again, length) == 0);
    }
}

static void refuses_what_is_none(void) {
    static const char *const texts[] = {"Zg",   "Zg=",  "Zg===", "Z===",  "====", "Zm9v\n",
                                        "Zm 9", "=m9v", "Zm=v",  "Zm9v=", "Zm-_", "\xFFm9v"};
    char bytes[16];
    size_t count;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK(!nh_base64_decode(bytes, &count, texts[i], strlen(texts[i])));
    CHECK(!nh_base64_decode(bytes, &count, "Zm\0v", 4));
}

int main(void) {
    RUN(writes_the_vectors);
    RUN(reads_back_every_byte);
    RUN(refuses_what_is_none);
    return check_end();
}
