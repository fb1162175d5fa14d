/* Reads a response (RFC 9112). Thread: the worker's. Costs one pass over the header and a copy of
 * what is kept; a line that comes in pieces is put together first.
 *
 * What can be read in one way only is read as libcurl reads it, since the message may have been
 * delivered and only its answer is sloppy: bare line feeds, both lengths at once, a name with odd
 * bytes. Such a response is doubtful: its connection is not used again. What could be read in two
 * ways (two lengths, a coding that nobody asked for, a status line that is none) is broken, and so
 * is one that ends inside of its header. Where that is not libcurl's verdict,
 * spec/unit/transports/http_verdict_test.c has the case and the reason.
 */
#include "platforms/transports/http_reply.h"

#include <string.h>
#include <strings.h>

enum { KEPT = 2048 }; /* the largest buffer that is kept from one response to the next */

enum state { STATUS, FIELDS, BODY, CHUNK, CHUNK_DATA, CHUNK_END, TRAILER, WHOLE, BROKEN };

void nh_http_reply_init(nh_http_reply *reply, size_t header_most, size_t body_most) {
    *reply = (nh_http_reply){.status = 0};
    nh_http_header_init(&reply->header, header_most);
    nh_text_init(&reply->body, body_most);
    nh_text_init(&reply->line, header_most);
    nh_http_reply_clear(reply, false);
}

void nh_http_reply_term(nh_http_reply *reply) {
    nh_http_header_term(&reply->header);
    nh_text_term(&reply->body);
    nh_text_term(&reply->line);
}

static void empty(nh_text *text) {
    if (text->capacity > KEPT)
        nh_text_term(text);
    nh_text_clear(text);
}

/* A new header begins: of the first response, or of the one after an interim one. */
static void begin(nh_http_reply *reply) {
    reply->state = STATUS;
    reply->left = -1;
    reply->old = reply->chunked = reply->alive = reply->any = false;
}

void nh_http_reply_clear(nh_http_reply *reply, bool bodiless) {
    empty(&reply->header.lines);
    reply->header.bytes = 0;
    reply->header.too_large = false;
    empty(&reply->body);
    empty(&reply->line);
    reply->status = 0;
    reply->fault = NULL;
    reply->memory = reply->keep = reply->close = reply->doubtful = false;
    reply->bodiless = bodiless;
    reply->brief = reply->header.counted = false;
    begin(reply);
}

bool nh_http_is_success(int status) {
    return status >= 200 && status < 300;
}

static nh_http_verdict broken(nh_http_reply *reply, const char *fault) {
    reply->state = BROKEN;
    reply->fault = fault;
    reply->keep = false; /* it may have been whole but for its last line */
    return NH_HTTP_BROKEN;
}

/* A text did not take something. */
static nh_http_verdict lost(nh_http_reply *reply, bool over) {
    reply->memory = !over;
    return broken(reply, over ? "the response is too large" : "out of memory");
}

static nh_http_verdict senseless(nh_http_reply *reply) {
    return broken(reply, "the server's answer makes no sense");
}

static nh_http_verdict done(nh_http_reply *reply) {
    reply->state = WHOLE;
    reply->keep = !reply->close && !reply->doubtful && (!reply->old || reply->alive);
    return NH_HTTP_DONE;
}

/* ----------------------------------------------------------------- fields */

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Cuts the next element off a list with commas, without blanks around it. */
static bool next_element(nh_span *list, nh_span *element) {
    while (list->length > 0) {
        const char *comma = memchr(list->bytes, ',', list->length);
        size_t length = comma ? (size_t)(comma - list->bytes) : list->length;
        *element = (nh_span){list->bytes, length};
        list->bytes += length + (comma != NULL);
        list->length -= length + (comma != NULL);
        while (element->length > 0 && is_blank(element->bytes[0]))
            element->bytes++, element->length--;
        while (element->length > 0 && is_blank(element->bytes[element->length - 1]))
            element->length--;
        if (element->length > 0)
            return true;
    }
    return false;
}

static bool read_number(nh_span digits, int64_t *number) {
    *number = 0;
    for (size_t i = 0; i < digits.length; i++) {
        if (!is_digit(digits.bytes[i]) || *number > (INT64_MAX - 9) / 10)
            return false;
        *number = *number * 10 + (digits.bytes[i] - '0');
    }
    return digits.length > 0;
}

/* A length may be said more than once, but only one. */
static bool take_length(nh_http_reply *reply, nh_span value) {
    nh_span each;
    size_t count = 0;
    while (value.length > 0 && is_blank(value.bytes[0]))
        value.bytes++, value.length--;
    if (value.length > 0 && value.bytes[0] == ',')
        return false;
    for (int64_t number; next_element(&value, &each); count++) {
        if (!read_number(each, &number) || (reply->left >= 0 && reply->left != number))
            return false;
        reply->doubtful |= reply->left >= 0;
        reply->left = number;
    }
    return count > 0;
}

static bool take_coding(nh_http_reply *reply, nh_span value) {
    nh_span each;
    size_t count = 0;
    for (; next_element(&value, &each); count++) {
        if (reply->chunked || !nh_span_is(each, "chunked"))
            return false;
        reply->chunked = true;
    }
    reply->doubtful |= reply->old; /* HTTP/1.0 has none */
    return count > 0;
}

static void take_connection(nh_http_reply *reply, nh_span value) {
    nh_span each;
    while (next_element(&value, &each)) {
        reply->close |= nh_span_is(each, "close");
        reply->alive |= nh_span_is(each, "keep-alive");
    }
}

/* What a field says about the framing; false when it makes no sense. */
static bool take_framing(nh_http_reply *reply, nh_span name, nh_span value) {
    bool length = nh_span_is(name, "content-length"),
         coding = nh_span_is(name, "transfer-encoding");
    bool bare = reply->status < 200 || reply->status == 204 || reply->status == 304;
    if (nh_span_is(name, "connection"))
        take_connection(reply, value);
    if (bare || (!length && !coding))
        return true;
    return length ? take_length(reply, value) : take_coding(reply, value);
}

/* The names that matter have no blanks at their end, or the field would be no field to one reader
 * and a length to another. */
static bool is_framing_in_disguise(nh_span name) {
    size_t length = name.length;
    while (length > 0 && is_blank(name.bytes[length - 1]))
        length--;
    name.length = length;
    return nh_span_is(name, "content-length") || nh_span_is(name, "transfer-encoding");
}

/* A line of the header or of the trailer, with its end. */
static nh_http_verdict take_field(nh_http_reply *reply, const char *bytes, size_t length) {
    bool trailer = reply->state == TRAILER;
    size_t end = length - 1 - (bytes[length - 2] == '\r'); /* it is not blank: there are two */
    if (memchr(bytes, '\0', end) || memchr(bytes, '\r', end))
        return senseless(reply);
    reply->doubtful |= bytes[end] != '\r';
    if (is_blank(bytes[0])) { /* goes on with the field before, if there is one */
        reply->doubtful = true;
        return reply->any ? NH_HTTP_MORE : senseless(reply);
    }
    const char *colon = memchr(bytes, ':', length);
    if (!colon)
        return senseless(reply);
    reply->any = true;
    nh_span name = {bytes, (size_t)(colon - bytes)};
    nh_span value = {colon + 1, length - name.length - 1};
    while (value.length > 0 && strchr(" \t\r\n", value.bytes[value.length - 1]))
        value.length--;
    if (name.length == 0 || is_blank(name.bytes[name.length - 1])) {
        reply->doubtful = true;
        return is_framing_in_disguise(name) ? senseless(reply) : NH_HTTP_MORE;
    }
    if (trailer)
        return NH_HTTP_MORE;
    return take_framing(reply, name, value) ? NH_HTTP_MORE : senseless(reply);
}

/* ------------------------------------------------------------ status line */

/* HTTP/1.x, blanks, three digits, and a blank or the end. */
static nh_http_verdict take_status(nh_http_reply *reply, const char *bytes, size_t length) {
    if (length < 13 || (bytes[7] != '0' && bytes[7] != '1') || memcmp(bytes, "HTTP/1.", 7) != 0 ||
        bytes[8] != ' ')
        return broken(reply, "the answer is not HTTP");
    size_t at = 9;
    while (at + 4 < length && bytes[at] == ' ')
        at++;
    reply->doubtful |= at != 9 || length < 2 || bytes[length - 2] != '\r';
    if (at + 4 > length || !is_digit(bytes[at]) || !is_digit(bytes[at + 1]) ||
        !is_digit(bytes[at + 2]) || bytes[at] == '0' || !strchr(" \r\n", bytes[at + 3]))
        return broken(reply, "the answer is not HTTP");
    if (memchr(bytes, '\0', length))
        return senseless(reply);
    reply->status = (bytes[at] - '0') * 100 + (bytes[at + 1] - '0') * 10 + (bytes[at + 2] - '0');
    reply->header.counted = reply->brief && nh_http_is_success(reply->status);
    reply->old = bytes[7] == '0';
    reply->state = FIELDS;
    return NH_HTTP_MORE;
}

/* The header has ended: what comes now? */
static nh_http_verdict take_end_of_header(nh_http_reply *reply) {
    if (reply->status == 101) /* nobody asked for another protocol */
        return senseless(reply);
    if (reply->status < 200) {
        begin(reply);
        return NH_HTTP_MORE;
    }
    if (reply->bodiless || reply->status == 204 || reply->status == 304)
        return done(reply);
    reply->doubtful |= reply->chunked && reply->left >= 0;
    if (reply->chunked) {
        reply->state = CHUNK;
        return NH_HTTP_MORE;
    }
    if (reply->left == 0)
        return done(reply);
    reply->state = BODY;
    return NH_HTTP_MORE;
}

/* ----------------------------------------------------------------- chunks */

static nh_http_verdict malformed(nh_http_reply *reply) {
    return broken(reply, "Malformed encoding found in chunked-encoding");
}

/* A chunk's size in hexadecimal, and perhaps extensions, which nobody knows. */
static nh_http_verdict take_chunk_size(nh_http_reply *reply, const char *bytes, size_t length) {
    int64_t size = 0;
    size_t digits = 0;
    for (; digits < length; digits++) {
        int c = (unsigned char)bytes[digits];
        int digit = is_digit((char)c)                        ? c - '0'
                    : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                             : -1;
        if (digit < 0)
            break;
        if (digits == 15)
            return broken(reply, "Too long hexadecimal number in chunked-encoding");
        size = size << 4 | digit;
    }
    reply->doubtful |= length < 2 || bytes[length - 2] != '\r';
    if (digits == 0 || !strchr("; \t\r\n", bytes[digits]) || memchr(bytes, '\0', length))
        return broken(reply, "Illegal or missing hexadecimal sequence in chunked-encoding");
    reply->left = size;
    reply->state = size > 0 ? CHUNK_DATA : TRAILER;
    reply->any = false;
    return NH_HTTP_MORE;
}

/* ------------------------------------------------------------------ lines */

/* A whole line, its line feed included. */
static nh_http_verdict take_line(nh_http_reply *reply, const char *bytes, size_t length) {
    bool blank = length == 1 || (length == 2 && bytes[0] == '\r');
    nh_http_verdict verdict = NH_HTTP_MORE;
    switch (reply->state) {
    case STATUS:
        verdict = take_status(reply, bytes, length);
        break;
    case FIELDS:
    case TRAILER:
        reply->doubtful |= blank && length == 1;
        if (!blank)
            verdict = take_field(reply, bytes, length);
        else if (reply->state == TRAILER)
            verdict = done(reply);
        else
            verdict = take_end_of_header(reply);
        break;
    case CHUNK:
        verdict = take_chunk_size(reply, bytes, length);
        reply->header.bytes += length;
        reply->header.too_large |= reply->header.bytes > reply->header.most;
        return reply->header.too_large ? lost(reply, true) : verdict;
    default: /* CHUNK_END */
        if (!blank)
            return malformed(reply);
        reply->doubtful |= length == 1;
        reply->state = CHUNK;
        return NH_HTTP_MORE;
    }
    if (verdict == NH_HTTP_BROKEN)
        return verdict;
    if (!nh_http_header_line(&reply->header, bytes, length))
        return lost(reply, reply->header.too_large);
    return verdict;
}

/* What is no HTTP is told by its first bytes: it may have no lines. */
static bool may_be_http(const char *bytes, size_t length) {
    return memcmp(bytes, "HTTP/", length < 5 ? length : 5) == 0;
}

/* Puts a piece of a line aside, bounded by what a header may have. */
static nh_http_verdict keep_piece(nh_http_reply *reply, const char *bytes, size_t length) {
    nh_text *line = &reply->line;
    if (!nh_text_put(line, bytes, length)) {
        reply->header.too_large |= line->over;
        return lost(reply, line->over);
    }
    if (reply->state == STATUS && !may_be_http(line->bytes, line->length))
        return broken(reply, "the answer is not HTTP");
    return NH_HTTP_MORE;
}

/* Takes bytes up to the end of a line; returns how many. */
static size_t put_line(nh_http_reply *reply, const char *bytes, size_t length,
                       nh_http_verdict *verdict) {
    const char *feed = memchr(bytes, '\n', length);
    size_t count = feed ? (size_t)(feed - bytes) + 1 : length;
    if (feed && reply->line.length == 0) {
        *verdict = take_line(reply, bytes, count);
        return count;
    }
    *verdict = keep_piece(reply, bytes, count);
    if (!feed && reply->state == CHUNK_END && reply->line.bytes[0] != '\r')
        *verdict = malformed(reply);
    if (feed && *verdict == NH_HTTP_MORE) {
        *verdict = take_line(reply, reply->line.bytes, reply->line.length);
        nh_text_clear(&reply->line);
    }
    return count;
}

/* ------------------------------------------------------------------- body */

static size_t put_body(nh_http_reply *reply, const char *bytes, size_t length,
                       nh_http_verdict *verdict) {
    size_t count =
        reply->left >= 0 && (uint64_t)reply->left < length ? (size_t)reply->left : length;
    *verdict = NH_HTTP_MORE;
    if (!nh_text_put(&reply->body, bytes, count)) {
        *verdict = lost(reply, reply->body.over);
        return count;
    }
    if (reply->left < 0)
        return count;
    reply->left -= (int64_t)count;
    if (reply->left == 0 && reply->state == BODY)
        *verdict = done(reply);
    else if (reply->left == 0)
        reply->state = CHUNK_END;
    return count;
}

nh_http_verdict nh_http_reply_put(nh_http_reply *reply, const char *bytes, size_t length,
                                  size_t *used) {
    nh_http_verdict verdict = reply->state == WHOLE    ? NH_HTTP_DONE
                              : reply->state == BROKEN ? NH_HTTP_BROKEN
                                                       : NH_HTTP_MORE;
    size_t at = 0;
    while (at < length && verdict == NH_HTTP_MORE) {
        bool body = reply->state == BODY || reply->state == CHUNK_DATA;
        at += body ? put_body(reply, bytes + at, length - at, &verdict)
                   : put_line(reply, bytes + at, length - at, &verdict);
    }
    *used = at;
    return verdict;
}

nh_http_verdict nh_http_reply_end(nh_http_reply *reply) {
    if (reply->state == WHOLE)
        return NH_HTTP_DONE;
    if (reply->state == BROKEN)
        return NH_HTTP_BROKEN;
    if (reply->state == BODY && reply->left < 0) {
        reply->doubtful = true; /* the connection is gone */
        return done(reply);
    }
    if (reply->state == STATUS)
        return broken(reply, "the server closed the connection without an answer");
    return broken(reply, "the response ended early");
}
