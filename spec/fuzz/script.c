/* script.c — the target of each NAME_fuzz.lua: NH_FUZZ_SCRIPT is its path. */
#include "spec/fuzz/script.h"

static fuzz_script script;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!script.vm)
        fuzz_script_open(&script, NH_FUZZ_SCRIPT);
    fuzz_script_run(&script, data, size);
    return 0;
}
