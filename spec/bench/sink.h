/* sink.h — what the parts of the benchmark's sink share: see sink.c. */
#ifndef NH_SPEC_SINK_H
#define NH_SPEC_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SINK_BUFFER = 256 << 10 }; /* the largest request that is held whole */

typedef struct sink sink;
typedef struct sink_ids sink_ids;
typedef struct sink_protocol sink_protocol;

typedef struct sink_connection {
    const sink_protocol *protocol; /* NULL: none of ours is open under this descriptor */
    char *kept;                    /* the beginning of a request whose rest has not come */
    size_t kept_length;
    size_t skip;         /* bytes of a body that is too large to hold, still to come */
    uint32_t generation; /* tells one connection from the next with the same descriptor */
    bool in_data;        /* SMTP: after DATA */
    bool close_after;    /* what has been answered is all */
} sink_connection;

enum { SINK_REFUSED = -1 }; /* what was read makes no sense: the connection is closed */

struct sink_protocol {
    const char *greeting; /* said when a connection opens; NULL: the client speaks first */
    /* Reads what is whole of `bytes` and answers it; returns how many bytes that were, or
     * SINK_REFUSED. What is left is given again with more after it. */
    long (*feed)(sink *s, sink_connection *c, const char *bytes, size_t length);
};

extern const sink_protocol sink_http, sink_smtp;

/* The texts of an answer, made once. */
typedef struct sink_answers {
    const char *good, *bad;
    size_t good_length, bad_length;
} sink_answers;

/* Says `text` at once. */
void sink_say(sink *s, const char *text, size_t length);

/* Counts one message (`id` may be NULL) and answers it, after the delay if there is one. `answers`
 * stay where they are. */
void sink_count(sink *s, sink_connection *c, const sink_answers *answers, const char *id,
                size_t length);

/* The id that follows `before` in the bytes, up to `end`; NULL when ids are not counted or there is
 * none. */
const char *sink_find_id(const sink *s, const char *bytes, size_t length, const char *before,
                         char end, size_t *id_length);

const sink_answers *sink_http_answers(const sink *s);
const char *sink_id_name(const sink *s); /* of the JSON field that holds it, quoted, with colon */

/* One line of JSON; the text is the sink's, until the next call. */
const char *sink_figures(sink *s);
void sink_forget(sink *s); /* all figures are zero again */

/* A set of ids, kept as hashes of 64 bits. */
sink_ids *sink_ids_create(void);
void sink_ids_destroy(sink_ids *ids);
bool sink_ids_add(sink_ids *ids, const char *id, size_t length); /* false: it was there */
void sink_ids_clear(sink_ids *ids);

#endif
