/* pattern.h — Lua 5.4's patterns with an end: a match takes a bounded number of steps.
 *
 *     nh_pattern m;
 *     nh_pattern_init(&m, L, subject, length, pattern, pattern_length);
 *     if ((end = nh_pattern_match(&m, subject)) != NULL)
 *         count = nh_pattern_push(&m, subject, end);
 *     nh_pattern_done(&m);
 *
 * Semantics and error texts are those of lstrlib.c. Thread: the state's.
 */
#ifndef NH_SCRIPT_PATTERN_H
#define NH_SCRIPT_PATTERN_H

#include <lua.h>

#include "runtime/notifyhub.h"

enum { NH_CAPTURES_MAX = 32 };

typedef struct nh_pattern {
    lua_State *L;
    const char *subject, *subject_end;
    const char *pattern, *pattern_end;
    int64_t left, budget; /* steps */
    int depth;            /* of recursion that is left */
    int level;            /* captures, closed or not */
    int literal;          /* the byte that every match begins with, or -1 */
    struct {
        const char *start;
        ptrdiff_t length; /* or one of the marks of pattern.c */
    } captures[NH_CAPTURES_MAX];
} nh_pattern;

/* Borrows the texts, which must stay on the stack and end with a NUL beyond their length. */
void nh_pattern_init(nh_pattern *m, lua_State *L, const char *subject, size_t length,
                     const char *pattern, size_t pattern_length);

/* The end of the match at `at`, or NULL. Raises for a malformed pattern and when the steps are
 * used up. */
const char *nh_pattern_match(nh_pattern *m, const char *at);

/* The first place from `at` on where a match is possible, for a search; NULL when there is none. */
const char *nh_pattern_skip(const nh_pattern *m, const char *at);

/* Pushes the captures of the last match, or all of it when there are none and `start` is given;
 * returns how many [-0, +n]. */
int nh_pattern_push(nh_pattern *m, const char *start, const char *end);
/* Pushes capture `index` from 0; the whole match when there are no captures [-0, +1]. */
void nh_pattern_push_one(nh_pattern *m, int index, const char *start, const char *end);

/* Charges the time that the matches took. */
void nh_pattern_done(nh_pattern *m);

/* Whether a pattern is only text. */
bool nh_pattern_is_plain(const char *pattern, size_t length);

#endif
