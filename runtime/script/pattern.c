/* pattern.c — a backtracking matcher that reads the pattern as it goes, as Lua's does: what is
 * wrong with a pattern is found only where a match gets to.
 *
 * Each item that is tried at a place is a step; runs of one class cost an eighth of a step for each
 * byte, since they are plain loops. The budget grows with the subject, so that only what backtracks
 * can use it up. A search for a pattern that begins with a literal byte jumps from one such byte to
 * the next. The recursion is bounded by DEPTH, about 100 bytes of C stack each.
 *
 * Ownership: none; everything is borrowed from the Lua stack for the length of a call.
 */
#include "runtime/script/pattern.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/script/limit.h"

enum {
    ESCAPE = '%',
    DEPTH = 200,
    STEPS_PER_BYTE = 4,
    STEP_UNITS = 4,  /* what a step is charged */
    UNFINISHED = -1, /* captures: opened only */
    POSITION = -2    /* captures: of a place */
};

static const char SPECIALS[] = "^$*+?.([%-";

static inline unsigned char byte(char c) {
    return (unsigned char)c;
}

bool nh_pattern_is_plain(const char *pattern, size_t length) {
    for (size_t at = 0; at < length; at += strlen(pattern + at) + 1) /* NULs may be in it */
        if (strpbrk(pattern + at, SPECIALS))
            return false;
    return true;
}

void nh_pattern_init(nh_pattern *m, lua_State *L, const char *subject, size_t length,
                     const char *pattern, size_t pattern_length) {
    m->L = L;
    m->subject = subject;
    m->subject_end = subject + length;
    m->pattern = pattern;
    m->pattern_end = pattern + pattern_length;
    m->budget = (int64_t)nh_limiter_of(L)->limits.pattern_steps + (int64_t)length * STEPS_PER_BYTE;
    m->left = m->budget;
    m->level = 0;
    m->literal = -1;
    if (pattern_length > 0 && !strchr(SPECIALS, *pattern) && *pattern != ')' &&
        (pattern_length == 1 || !pattern[1] || !strchr("*?-", pattern[1])))
        m->literal = byte(*pattern);
}

void nh_pattern_done(nh_pattern *m) {
    nh_limiter_charge(m->L, (size_t)(m->budget - m->left) * STEP_UNITS);
}

const char *nh_pattern_skip(const nh_pattern *m, const char *at) {
    if (m->literal < 0)
        return at;
    return memchr(at, m->literal, (size_t)(m->subject_end - at));
}

/* Formats take at most one integer. The time is charged first, or catching errors would be free. */
static _Noreturn void failed(nh_pattern *m, const char *format, int argument) {
    nh_pattern_done(m);
    luaL_error(m->L, format, argument);
    abort();
}

static inline void step(nh_pattern *m, size_t count) {
    m->left -= (int64_t)count;
    if (m->left >= 0)
        return;
    nh_pattern_done(m);
    nh_limit_error(m->L, "the pattern took more than %I steps (limits.pattern_steps)",
                   (lua_Integer)m->budget);
}

/* ----------------------------------------------------------------- classes */

/* The place behind the class that begins at `p`, where its quantifier would be. */
static const char *class_end(nh_pattern *m, const char *p) {
    char first = *p++;
    if (first == ESCAPE) {
        if (p == m->pattern_end)
            failed(m, "malformed pattern (ends with '%%')", 0);
        return p + 1;
    }
    if (first != '[')
        return p;
    p += *p == '^';
    do { /* a ']' that comes first stands for itself */
        if (p == m->pattern_end)
            failed(m, "malformed pattern (missing ']')", 0);
        if (*p++ == ESCAPE && p < m->pattern_end)
            p++;
    } while (*p != ']');
    return p + 1;
}

static bool in_class(int c, int class) {
    bool in;
    switch (tolower(class)) {
    case 'a':
        in = isalpha(c);
        break;
    case 'c':
        in = iscntrl(c);
        break;
    case 'd':
        in = isdigit(c);
        break;
    case 'g':
        in = isgraph(c);
        break;
    case 'l':
        in = islower(c);
        break;
    case 'p':
        in = ispunct(c);
        break;
    case 's':
        in = isspace(c);
        break;
    case 'u':
        in = isupper(c);
        break;
    case 'w':
        in = isalnum(c);
        break;
    case 'x':
        in = isxdigit(c);
        break;
    case 'z':
        in = c == 0;
        break;
    default:
        return class == c;
    }
    return isupper(class) ? !in : in;
}

/* `last` is the set's ']'. */
static bool in_set(int c, const char *p, const char *last) {
    bool found = true;
    if (p[1] == '^') {
        found = false;
        p++;
    }
    while (++p < last) {
        if (*p == ESCAPE) {
            p++;
            if (in_class(c, byte(*p)))
                return found;
        } else if (p[1] == '-' && p + 2 < last) {
            p += 2;
            if (byte(p[-2]) <= c && c <= byte(*p))
                return found;
        } else if (byte(*p) == c) {
            return found;
        }
    }
    return !found;
}

static inline bool is_one(const nh_pattern *m, const char *s, const char *p, const char *end) {
    if (s >= m->subject_end)
        return false;
    int c = byte(*s);
    switch (*p) {
    case '.':
        return true;
    case ESCAPE:
        return in_class(c, byte(p[1]));
    case '[':
        return in_set(c, p, end - 1);
    default:
        return byte(*p) == c;
    }
}

/* A set of a long run is looked up in a map of what has been asked before. */
static size_t set_run(const nh_pattern *m, const char *s, const char *p, const char *end) {
    signed char known[256];
    const char *at = s;
    memset(known, -1, sizeof known);
    for (; at < m->subject_end; at++) {
        signed char *in = &known[byte(*at)];
        if (*in < 0)
            *in = in_set(byte(*at), p, end - 1);
        if (!*in)
            break;
    }
    return (size_t)(at - s);
}

/* How many bytes from `s` on the class matches. */
static size_t run(const nh_pattern *m, const char *s, const char *p, const char *end) {
    enum { SHORT = 8 };
    const char *at = s;
    if (*p == '.')
        return (size_t)(m->subject_end - s);
    while (is_one(m, at, p, end)) {
        at++;
        if (at - s == SHORT && *p == '[')
            return SHORT + set_run(m, at, p, end);
    }
    return (size_t)(at - s);
}

/* ---------------------------------------------------------------- captures */

static int to_close(nh_pattern *m) {
    for (int level = m->level - 1; level >= 0; level--)
        if (m->captures[level].length == UNFINISHED)
            return level;
    failed(m, "invalid pattern capture", 0);
}

/* The place behind a repetition of a capture, or NULL. */
static const char *match_back(nh_pattern *m, const char *s, int digit) {
    int index = digit - '1';
    if (index < 0 || index >= m->level || m->captures[index].length == UNFINISHED)
        failed(m, "invalid capture index %%%d", index + 1);
    size_t length = (size_t)m->captures[index].length;
    if ((size_t)(m->subject_end - s) < length)
        return NULL;
    step(m, length / 8);
    return memcmp(m->captures[index].start, s, length) == 0 ? s + length : NULL;
}

/* ---------------------------------------------------------------- matching */

static const char *match(nh_pattern *m, const char *s, const char *p);

static const char *open_capture(nh_pattern *m, const char *s, const char *p, ptrdiff_t mark) {
    if (m->level >= NH_CAPTURES_MAX)
        failed(m, "too many captures", 0);
    m->captures[m->level].start = s;
    m->captures[m->level].length = mark;
    m->level++;
    const char *end = match(m, s, p);
    if (!end)
        m->level--;
    return end;
}

static const char *close_capture(nh_pattern *m, const char *s, const char *p) {
    int level = to_close(m);
    m->captures[level].length = s - m->captures[level].start;
    const char *end = match(m, s, p);
    if (!end)
        m->captures[level].length = UNFINISHED;
    return end;
}

static const char *match_balance(nh_pattern *m, const char *s, const char *p) {
    if (p >= m->pattern_end - 1)
        failed(m, "malformed pattern (missing arguments to '%%b')", 0);
    if (*s != *p)
        return NULL;
    const char *start = s;
    size_t open = 1;
    while (++s < m->subject_end) {
        if (*s == p[1]) {
            if (--open == 0)
                break;
        } else if (*s == *p) {
            open++;
        }
    }
    step(m, (size_t)(s - start) / 8);
    return s < m->subject_end ? s + 1 : NULL;
}

static const char *match_longest(nh_pattern *m, const char *s, const char *p, const char *end) {
    size_t count = run(m, s, p, end);
    step(m, count / 8);
    if (end + 1 == m->pattern_end && m->depth > 0) /* nothing follows that could want less */
        return s + count;
    for (;; count--) {
        const char *found = match(m, s + count, end + 1);
        if (found || count == 0)
            return found;
    }
}

static const char *match_shortest(nh_pattern *m, const char *s, const char *p, const char *end) {
    for (;; s++) {
        const char *found = match(m, s, end + 1);
        if (found || !is_one(m, s, p, end))
            return found;
    }
}

/* %f: a set begins here. */
static bool at_frontier(const nh_pattern *m, const char *s, const char *p, const char *end) {
    int before = s == m->subject ? 0 : byte(s[-1]);
    return !in_set(before, p, end - 1) && in_set(byte(*s), p, end - 1);
}

/* Matches what stands from `p` on; the tail of the pattern is a turn of the loop, not a call. */
static const char *match_items(nh_pattern *m, const char *s, const char *p) {
    while (p != m->pattern_end) {
        const char *end;
        step(m, 1);
        switch (*p) {
        case '(':
            return p[1] == ')' ? open_capture(m, s, p + 2, POSITION)
                               : open_capture(m, s, p + 1, UNFINISHED);
        case ')':
            return close_capture(m, s, p + 1);
        case '$':
            if (p + 1 == m->pattern_end)
                return s == m->subject_end ? s : NULL;
            break;
        case ESCAPE:
            if (p[1] == 'b') {
                if (!(s = match_balance(m, s, p + 2)))
                    return NULL;
                p += 4;
                continue;
            }
            if (p[1] == 'f') {
                p += 2;
                if (*p != '[')
                    failed(m, "missing '[' after '%%f' in pattern", 0);
                end = class_end(m, p);
                if (!at_frontier(m, s, p, end))
                    return NULL;
                p = end;
                continue;
            }
            if (isdigit(byte(p[1]))) {
                if (!(s = match_back(m, s, byte(p[1]))))
                    return NULL;
                p += 2;
                continue;
            }
            break;
        default:
            break;
        }

        end = class_end(m, p);
        if (!is_one(m, s, p, end)) {
            if (*end != '*' && *end != '?' && *end != '-')
                return NULL;
            p = end + 1;
            continue;
        }
        switch (*end) {
        case '*':
            return match_longest(m, s, p, end);
        case '+':
            return match_longest(m, s + 1, p, end);
        case '-':
            return match_shortest(m, s, p, end);
        case '?': {
            const char *found = match(m, s + 1, end + 1);
            if (found)
                return found;
            p = end + 1;
            continue;
        }
        default:
            s++;
            p = end;
        }
    }
    return s;
}

static const char *match(nh_pattern *m, const char *s, const char *p) {
    if (m->depth-- == 0)
        failed(m, "pattern too complex", 0);
    s = match_items(m, s, p);
    m->depth++;
    return s;
}

const char *nh_pattern_match(nh_pattern *m, const char *at) {
    m->level = 0;
    m->depth = DEPTH;
    return match(m, at, m->pattern);
}

/* ----------------------------------------------------------------- results */

void nh_pattern_push_one(nh_pattern *m, int index, const char *start, const char *end) {
    if (index >= m->level) {
        if (index != 0)
            failed(m, "invalid capture index %%%d", index + 1);
        lua_pushlstring(m->L, start, (size_t)(end - start));
        return;
    }
    ptrdiff_t length = m->captures[index].length;
    if (length == UNFINISHED)
        failed(m, "unfinished capture", 0);
    if (length == POSITION)
        lua_pushinteger(m->L, m->captures[index].start - m->subject + 1);
    else
        lua_pushlstring(m->L, m->captures[index].start, (size_t)length);
}

int nh_pattern_push(nh_pattern *m, const char *start, const char *end) {
    int count = m->level == 0 && start ? 1 : m->level;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        nh_pattern_push_one(m, i, start, end);
    return count;
}
