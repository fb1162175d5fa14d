/* api_crypto.c — the module `crypto`: digests and signatures, which are OpenSSL's, and the
 * encodings around them. */
#include <lauxlib.h>

#include "runtime/core/base64.h"
#include "runtime/script/libcrypto.h"
#include "runtime/script/vm.h"

static const nh_libcrypto *library(lua_State *L) {
    const char *fault;
    const nh_libcrypto *found = nh_libcrypto_load(&fault);
    if (!found)
        luaL_error(L, "crypto: %s", fault);
    return found;
}

static int push_hmac(lua_State *L, const nh_libcrypto *crypto, const EVP_MD *digest) {
    size_t key_length, length;
    const char *key = luaL_checklstring(L, 1, &key_length);
    const char *data = luaL_checklstring(L, 2, &length);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned size;
    if (!crypto->HMAC(digest, key, (int)key_length, (const unsigned char *)data, length, out,
                      &size))
        return luaL_error(L, "HMAC failed");
    lua_pushlstring(L, (const char *)out, size);
    return 1;
}

static int hmac_sha256(lua_State *L) {
    const nh_libcrypto *crypto = library(L);
    return push_hmac(L, crypto, crypto->EVP_sha256());
}

static int hmac_sha1(lua_State *L) {
    const nh_libcrypto *crypto = library(L);
    return push_hmac(L, crypto, crypto->EVP_sha1());
}

static int hmac_sha512(lua_State *L) {
    const nh_libcrypto *crypto = library(L);
    return push_hmac(L, crypto, crypto->EVP_sha512());
}

static int sha256(lua_State *L) {
    size_t length;
    const char *data = luaL_checklstring(L, 1, &length);
    const nh_libcrypto *crypto = library(L);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned size;
    if (!crypto->EVP_Digest(data, length, out, &size, crypto->EVP_sha256(), NULL))
        return luaL_error(L, "SHA-256 failed");
    lua_pushlstring(L, (const char *)out, size);
    return 1;
}

static int base64(lua_State *L) {
    size_t length;
    const char *data = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length < (1u << 30), 1, "too long");
    luaL_Buffer text;
    char *to = luaL_buffinitsize(L, &text, NH_BASE64_SIZE(length));
    nh_base64_encode(to, data, length);
    luaL_pushresultsize(&text, NH_BASE64_SIZE(length));
    return 1;
}

/* nil when the text is not base64. */
static int unbase64(lua_State *L) {
    size_t length, count = 0;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_Buffer data;
    char *to = luaL_buffinitsize(L, &data, length / 4 * 3);
    bool valid = nh_base64_decode(to, &count, text, length);
    luaL_pushresultsize(&data, valid ? count : 0);
    if (!valid)
        lua_pushnil(L);
    return 1;
}

static int hex(lua_State *L) {
    size_t length;
    const char *data = luaL_checklstring(L, 1, &length);
    luaL_Buffer text;
    char *to = luaL_buffinitsize(L, &text, 2 * length);
    for (size_t i = 0; i < length; i++) {
        to[2 * i] = "0123456789abcdef"[(unsigned char)data[i] >> 4];
        to[2 * i + 1] = "0123456789abcdef"[(unsigned char)data[i] & 15];
    }
    luaL_pushresultsize(&text, 2 * length);
    return 1;
}

int nh_open_crypto(lua_State *L) {
    static const luaL_Reg functions[] = {{"hmac_sha256", hmac_sha256},
                                         {"hmac_sha1", hmac_sha1},
                                         {"hmac_sha512", hmac_sha512},
                                         {"sha256", sha256},
                                         {"base64", base64},
                                         {"unbase64", unbase64},
                                         {"hex", hex},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
