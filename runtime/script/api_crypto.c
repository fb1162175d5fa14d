/* api_crypto.c — the module `crypto`: digests, signatures and the encodings around them, all from
 * OpenSSL. */
#include <lauxlib.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "runtime/script/vm.h"

static int push_hmac(lua_State *L, const EVP_MD *digest) {
    size_t key_length, length;
    const char *key = luaL_checklstring(L, 1, &key_length);
    const char *data = luaL_checklstring(L, 2, &length);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned size;
    if (!HMAC(digest, key, (int)key_length, (const unsigned char *)data, length, out, &size))
        return luaL_error(L, "HMAC failed");
    lua_pushlstring(L, (const char *)out, size);
    return 1;
}

static int hmac_sha256(lua_State *L) {
    return push_hmac(L, EVP_sha256());
}

static int hmac_sha1(lua_State *L) {
    return push_hmac(L, EVP_sha1());
}

static int hmac_sha512(lua_State *L) {
    return push_hmac(L, EVP_sha512());
}

static int sha256(lua_State *L) {
    size_t length;
    const char *data = luaL_checklstring(L, 1, &length);
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned size;
    if (!EVP_Digest(data, length, out, &size, EVP_sha256(), NULL))
        return luaL_error(L, "SHA-256 failed");
    lua_pushlstring(L, (const char *)out, size);
    return 1;
}

static int base64(lua_State *L) {
    size_t length;
    const char *data = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length < (1u << 30), 1, "too long");
    luaL_Buffer text;
    char *to = luaL_buffinitsize(L, &text, (length + 2) / 3 * 4 + 1);
    int size = EVP_EncodeBlock((unsigned char *)to, (const unsigned char *)data, (int)length);
    luaL_pushresultsize(&text, (size_t)size);
    return 1;
}

/* nil when the text is not base64. EVP_DecodeBlock counts the padding as zero bytes; they are cut.
 */
static int unbase64(lua_State *L) {
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length < (1u << 30), 1, "too long");
    size_t padding = 0;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    luaL_Buffer data;
    char *to = luaL_buffinitsize(L, &data, length / 4 * 3 + 1);
    int size = length % 4 == 0
                   ? EVP_DecodeBlock((unsigned char *)to, (const unsigned char *)text, (int)length)
                   : -1;
    luaL_pushresultsize(&data, size < 0 ? 0 : (size_t)size - padding);
    if (size < 0)
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
