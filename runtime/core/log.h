/* log.h — what happens, for the operator: one line an event, as logfmt or JSON.
 *
 *     nh_log_write(log, NH_LOG_WARN, "delivery failed", nh_log_text("id", id),
 *                  nh_log_int("attempts", attempts));
 *
 *     time=2026-01-31T12:00:00.000Z level=warn event="delivery failed" id=018f attempts=3
 *
 * The event is a fixed phrase, the same for all its lines, so that it can be searched and counted;
 * what differs goes into fields. Whatever a value holds, it stays inside one line of valid UTF-8.
 * Secrets must not get here: only what is redacted already may be given as a value.
 */
#ifndef NH_CORE_LOG_H
#define NH_CORE_LOG_H

#include "runtime/notifyhub.h"

typedef enum nh_log_level { NH_LOG_ERROR, NH_LOG_WARN, NH_LOG_INFO, NH_LOG_DEBUG } nh_log_level;

typedef enum nh_log_format { NH_LOG_LOGFMT, NH_LOG_JSON } nh_log_format;

typedef enum nh_log_sink { NH_LOG_NONE, NH_LOG_STDERR, NH_LOG_CALLBACK } nh_log_sink;

enum {
    NH_LOG_LINE_MOST = 8192,     /* bytes of a line with its end; fields that do not fit are left
                                    out and `cut=true` says so */
    NH_LOG_VALUE_MOST = 2048,    /* bytes of a value as it is written; longer ones end in … */
    NH_LOG_KEY_MOST = 64,        /* bytes of a field's name */
    NH_LOG_EVENTS_A_SECOND = 100 /* lines of one event; what is over is counted and told later */
};

typedef struct nh_log_options {
    nh_log_level level; /* the least urgent one that is written */
    nh_log_format format;
    nh_log_sink sink;
    /* For NH_LOG_CALLBACK. `line` has no line end, is not NUL-terminated and borrowed. Called from
     * any thread, by several at once. */
    void (*write)(void *context, nh_log_level level, const char *line, size_t length);
    void *context;
} nh_log_options;

typedef struct nh_log {
    int most; /* for nh_log_on: the last level that is written, -1 for none */
} nh_log;

/* Errors: NH_E_INTERNAL. With NULL options the log is silent. */
nh_log *nh_log_create(const nh_log_options *options, nh_error *error);
/* Tells what was held back, and frees. No thread may be writing. NULL is allowed. */
void nh_log_destroy(nh_log *log);

/* The level of a name ("error", "warn", "info", "debug"); false when there is none. */
bool nh_log_level_from_name(const char *name, nh_log_level *level);

/* Whether a line of this level would be written: a load and a compare. NULL is a silent log. */
static inline bool nh_log_on(const nh_log *log, nh_log_level level) {
    return log && (int)level <= log->most;
}

/* ----------------------------------------------------------------- fields */

typedef enum nh_log_kind {
    NH_LOG_FIELD_TEXT,
    NH_LOG_FIELD_INT,
    NH_LOG_FIELD_REAL,
    NH_LOG_FIELD_BOOL,
} nh_log_kind;

/* A name and a value, borrowed for the call. */
typedef struct nh_log_field {
    const char *key;
    nh_log_kind kind;
    size_t length; /* of text */
    union {
        const char *text;
        int64_t integer;
        double real;
        bool truth;
    };
} nh_log_field;

static inline nh_log_field nh_log_bytes(const char *key, const char *text, size_t length) {
    return (nh_log_field){.key = key, .kind = NH_LOG_FIELD_TEXT, .length = length, .text = text};
}

/* NULL is an empty text. */
static inline nh_log_field nh_log_text(const char *key, const char *text) {
    return nh_log_bytes(key, text ? text : "", text ? __builtin_strlen(text) : 0);
}

static inline nh_log_field nh_log_int(const char *key, int64_t integer) {
    return (nh_log_field){.key = key, .kind = NH_LOG_FIELD_INT, .integer = integer};
}

static inline nh_log_field nh_log_real(const char *key, double real) {
    return (nh_log_field){.key = key, .kind = NH_LOG_FIELD_REAL, .real = real};
}

static inline nh_log_field nh_log_bool(const char *key, bool truth) {
    return (nh_log_field){.key = key, .kind = NH_LOG_FIELD_BOOL, .truth = truth};
}

/* Writes one line with one write(2), or one call of the callback. Thread: any. Blocks: never: a
 * line that standard error does not take at once is dropped, and the next one tells how many were
 * (`dropped=`). Only a line of more than 4 KiB may wait for the reader of a pipe. */
void nh_log_fields(nh_log *log, nh_log_level level, const char *event, const nh_log_field *fields,
                   size_t count);

/* The usual way: nh_log_write(log, level, event, field…). The fields are not evaluated when the
 * level is off; `log` and `level` are evaluated twice. */
#define nh_log_write(log, level, event, ...)                                                       \
    do {                                                                                           \
        if (nh_log_on((log), (level))) {                                                           \
            const nh_log_field nh_log_list[] = {{0}, __VA_ARGS__};                                 \
            nh_log_fields((log), (level), (event), nh_log_list + 1,                                \
                          sizeof nh_log_list / sizeof *nh_log_list - 1);                           \
        }                                                                                          \
    } while (0)

#endif
