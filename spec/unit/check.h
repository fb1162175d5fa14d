/* check.h — checks for test programs: each prints "not ok" with its place when it fails; the exit
 * code of the program is check_end().
 */
#ifndef NH_SPEC_CHECK_H
#define NH_SPEC_CHECK_H

#include <stdio.h>
#include <string.h>

static _Atomic int check_count, check_failures; /* threads check, too */

static inline int check_that(int holds, const char *what, const char *file, int line) {
    check_count++;
    if (!holds) {
        check_failures++;
        printf("not ok - %s:%d: %s\n", file, line, what);
    }
    return holds;
}

static inline int check_equal(const char *got, const char *wanted, const char *what,
                              const char *file, int line) {
    int holds = got && wanted ? strcmp(got, wanted) == 0 : got == wanted;
    check_that(holds, what, file, line);
    if (!holds)
        printf("#   got    %s\n#   wanted %s\n", got ? got : "(null)", wanted ? wanted : "(null)");
    return holds;
}

static inline int check_number(long long got, long long wanted, const char *what, const char *file,
                               int line) {
    check_that(got == wanted, what, file, line);
    if (got != wanted)
        printf("#   got %lld, wanted %lld\n", got, wanted);
    return got == wanted;
}

#define CHECK(condition)       check_that(!!(condition), #condition, __FILE__, __LINE__)
#define CHECK_STR(got, wanted) check_equal(got, wanted, #got, __FILE__, __LINE__)
#define CHECK_INT(got, wanted) check_number(got, wanted, #got, __FILE__, __LINE__)

/* A line of the scorecard (docs/operations.md), which `./dev torture` collects. */
static inline void check_scorecard(int holds, const char *row, const char *what, long long figure,
                                   long long of, const char *need) {
    printf("scorecard %s | %s | %lld of %lld | %s | %s\n", row, what, figure, of, need,
           holds ? "pass" : "FAIL");
}

/* Runs one test function and names it. */
#define RUN(test)                                                                                  \
    do {                                                                                           \
        int before = check_failures;                                                               \
        test();                                                                                    \
        printf("%s - %s\n", check_failures == before ? "ok" : "not ok", #test);                    \
        fflush(stdout);                                                                            \
    } while (0)

static inline int check_end(void) {
    printf("# %d checks, %d failed\n", check_count, check_failures);
    return check_failures ? 1 : 0;
}

#endif
