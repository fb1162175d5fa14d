/* longjmp.c — linked into each program of a TSan build: lets ThreadSanitizer see Lua's errors.
 *
 * TSan keeps a stack of its own, which its longjmp unwinds. Lua jumps by other names, which TSan
 * does not know: _longjmp, or __longjmp_chk in a liblua that was built with _FORTIFY_SOURCE. Each
 * error would leave its frames on that stack, until thousands of them overrun it. glibc has one
 * function behind all three names, so that one may stand for another. */
#include <setjmp.h>

#define EXPORTED __attribute__((visibility("default"), noreturn))

EXPORTED void _longjmp(jmp_buf place, int value);
EXPORTED void __longjmp_chk(jmp_buf place, int value);

void _longjmp(jmp_buf place, int value) {
    longjmp(place, value);
}

void __longjmp_chk(jmp_buf place, int value) {
    longjmp(place, value);
}
