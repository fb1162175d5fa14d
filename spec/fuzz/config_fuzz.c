/* config_fuzz.c — the text of a configuration file: read in its sandbox and prepared as a hub does
 * when it is opened. It is refused with a reason, or becomes a configuration with every default in
 * place. */
#include <fcntl.h>
#include <unistd.h>

#include "runtime/script/config.h"
#include "runtime/script/value.h"
#include "spec/fuzz/script.h"

static fuzz_script script;
static char path[32];

static void remove_file(void) {
    unlink(path);
}

static void begin(void) {
    strcpy(path, "/tmp/nh-fuzz-XXXXXX");
    int fd = mkstemp(path);
    MUST(fd >= 0);
    close(fd);
    atexit(remove_file);
    setenv("NH_FUZZ", "a secret", 1);
    fuzz_script_open(&script, NH_SOURCE_DIR "/spec/fuzz/config.lua");
}

static int push_doc(lua_State *L) {
    nh_push_value(L, nh_doc_root(lua_touserdata(L, 1)));
    return 1;
}

/* lib/main's prepare, called as the engine calls it. */
static void prepare(const nh_doc *config) {
    lua_State *L = script.vm->L;
    nh_error error = FUZZ_ERROR;
    lua_rawgeti(L, LUA_REGISTRYINDEX, script.function);
    lua_pushcfunction(L, push_doc);
    lua_pushlightuserdata(L, (void *)config);
    MUST(nh_vm_call(script.vm, 1, 1, &error) == NH_OK);
    if (nh_vm_call(script.vm, 1, 1, &error) == NH_OK) {
        nh_doc *prepared = nh_vm_pop_doc(script.vm, "prepare", &error);
        MUST(prepared);
        nh_doc_unref(prepared);
    } else {
        must_be_told(&error);
        MUST(error.code == NH_E_CONFIG); /* anything else is a mistake of ours, not of the text */
    }
    lua_settop(L, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!script.vm)
        begin();
    int fd = open(path, O_WRONLY | O_TRUNC);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    nh_error error = FUZZ_ERROR;
    nh_doc *config = nh_config_read(path, &error);
    if (config) {
        MUST(nh_value_kind(nh_doc_root(config)) == NH_MAP);
        prepare(config);
    } else {
        must_be_told(&error);
        MUST(memmem(data, size, "a secret", 8) || !strstr(error.message, "a secret"));
    }
    nh_doc_unref(config);
    char *text = fuzz_string((fuzz_part){(const char *)data, size});
    nh_config_line(text, text);
    nh_config_line(text, "platforms.slack[1].token");
    free(text);
    return 0;
}
