/* notifyhub.h — the public interface of libnotifyhub.
 *
 * A program opens a hub, sends documents (messages) into it and gets a handle for each; a handle
 * settles exactly once with a receipt. If something is not in this header it is not API.
 *
 *     nh_error error;
 *     nh_hub *hub = nh_hub_open(config, &error);              -- NULL config: all defaults
 *     nh_doc *message = nh_doc_from_json(text, strlen(text), &error);
 *     nh_handle *handle = nh_hub_send_async(hub, message, &error);
 *     nh_receipt *receipt = nh_handle_wait(handle, 30.0, &error);
 *     …
 *     nh_receipt_unref(receipt); nh_handle_unref(handle); nh_doc_unref(message);
 * nh_hub_close(hub, 10.0); nh_hub_unref(hub);
 *
 * Ownership: a function that returns a pointer to an nh_doc, nh_hub, nh_handle, nh_batch,
 * nh_receipt or nh_inbox gives the caller one reference, to be dropped with the type's _unref,
 * unless its comment says "borrowed". Pointer arguments are borrowed for the length of the call
 * unless the comment says "takes".
 *
 * Threads: everything here may be called from any thread at the same time, except where a comment
 * says "owner" (one thread at a time). Nothing calls back into the program: events wait in an
 * nh_inbox until the program reads them.
 *
 * Errors: an nh_error is written only when the call fails; NULL is allowed where an nh_error is
 * asked for. Times are seconds as double; a negative time means without limit.
 *
 * After fork() a hub is dead in the child: its calls fail with NH_E_CLOSED. Open hubs after
 * forking.
 */
#ifndef NOTIFYHUB_H
#define NOTIFYHUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NH_API __attribute__((visibility("default")))
#else
#define NH_API
#endif

/* ---------------------------------------------------------------- version */

/* The version of the library at run time, "MAJOR.MINOR.PATCH". Borrowed, static. */
NH_API const char *nh_version(void);

/* ----------------------------------------------------------------- errors */

/* One list makes the enum, the names that Lua and JSON see, a sentence, and whether the same call
 * may succeed later. X(symbol, name, retryable, text) */
#define NH_ERRORS(X)                                                                               \
    X(INVALID, "invalid", false, "the message or an argument is not valid")                        \
    X(NO_ROUTE, "no_route", false, "no route matched and the message names no target")             \
    X(UNKNOWN_PLATFORM, "unknown_platform", false, "no platform has this name or scheme")          \
    X(UNKNOWN_TARGET, "unknown_target", false, "the target is not known")                          \
    X(QUEUE_FULL, "queue_full", true, "the queue is full")                                         \
    X(CLOSED, "closed", false, "the hub is closed")                                                \
    X(TIMEOUT, "timeout", true, "the time allowed is over")                                        \
    X(EXPIRED, "expired", false, "the message expired before it was delivered")                    \
    X(CANCELLED, "cancelled", false, "the message was cancelled")                                  \
    X(DUPLICATE, "duplicate", false, "a message with this key was accepted before")                \
    X(NETWORK, "network", true, "the network or the remote host failed")                           \
    X(TLS, "tls", false, "no trusted TLS connection")                                              \
    X(AUTH, "auth", false, "the platform refused the credentials")                                 \
    X(REJECTED, "rejected", false, "the platform refused the message")                             \
    X(RATE_LIMITED, "rate_limited", true, "the platform limits the rate")                          \
    X(UNAVAILABLE, "unavailable", true, "the platform is not available")                           \
    X(TOO_LARGE, "too_large", false, "over a size limit")                                          \
    X(SCRIPT, "script", false, "a script failed")                                                  \
    X(SCRIPT_LIMIT, "script_limit", false, "a script used more time than it may")                  \
    X(SCRIPT_MEMORY, "script_memory", false, "a script used more memory than it may")              \
    X(CONFIG, "config", false, "the configuration is not valid")                                   \
    X(JOURNAL, "journal", true, "the journal could not be written")                                \
    X(INTERNAL, "internal", false, "an error inside NotifyHub")

typedef enum nh_err {
    NH_OK = 0,
#define NH_X(symbol, name, retryable, text) NH_E_##symbol,
    NH_ERRORS(NH_X)
#undef NH_X
} nh_err;

#define NH_ERROR_MESSAGE_MAX 1024

/* What went wrong: the code and one line of UTF-8 text (cut at NH_ERROR_MESSAGE_MAX) that names the
 * field, file or line. */
typedef struct nh_error {
    nh_err code;
    char message[NH_ERROR_MESSAGE_MAX];
} nh_error;

/* The code's name ("queue_full"), its text, and whether the same call may succeed later. Borrowed,
 * static. */
NH_API const char *nh_err_name(nh_err code);
NH_API const char *nh_err_text(nh_err code);
NH_API bool nh_err_retryable(nh_err code);
/* The code of a name; NH_E_INTERNAL for a name that is not in the list. */
NH_API nh_err nh_err_from_name(const char *name);

/* -------------------------------------------------------------- documents */

/* A document is an immutable tree of values (nil, bool, integer, real, string, binary, array, map)
 * of at most NH_DOC_DEPTH_MAX levels. Configurations, messages and receipts are documents; inside
 * it is MessagePack. */
typedef struct nh_doc nh_doc;
/* A value inside a document: borrowed, valid as long as its document. */
typedef struct nh_value nh_value;

#define NH_DOC_DEPTH_MAX 32

typedef enum nh_kind {
    NH_NIL,
    NH_BOOL,
    NH_INT,
    NH_REAL,
    NH_STRING,
    NH_BINARY,
    NH_ARRAY,
    NH_MAP,
    NH_SECRET, /* a string that prints as "<secret>" */
} nh_kind;

NH_API nh_doc *nh_doc_ref(nh_doc *doc);
NH_API void nh_doc_unref(nh_doc *doc); /* NULL is allowed */

/* Parses JSON text (RFC 8259, UTF-8). Errors: NH_E_INVALID with line and column. */
NH_API nh_doc *nh_doc_from_json(const char *text, size_t length, nh_error *error);
/* The document as one line of JSON, NUL-terminated, to be freed with nh_free; binary becomes base64
 * and a secret
 * "<secret>". NULL only when out of memory. */
NH_API char *nh_doc_to_json(const nh_doc *doc);
NH_API void nh_free(void *memory);

/* Reading. All accept NULL for value and answer as for nil. */
NH_API const nh_value *nh_doc_root(const nh_doc *doc);
NH_API nh_kind nh_value_kind(const nh_value *value);
NH_API bool nh_value_bool(const nh_value *value); /* false unless a bool that is true */
NH_API int64_t nh_value_int(const nh_value *value,
                            int64_t otherwise); /* integers and integral reals */
NH_API double nh_value_real(const nh_value *value, double otherwise); /* integers and reals */
NH_API const char *nh_value_bytes(const nh_value *value,
                                  size_t *length);   /* string, binary, secret; else NULL. Not
                                                        NUL-terminated */
NH_API size_t nh_value_count(const nh_value *value); /* elements of an array, pairs of a map */
NH_API const nh_value *nh_value_at(const nh_value *value,
                                   size_t index); /* from 0: an element, or a map's value */
NH_API const nh_value *nh_value_key(const nh_value *value, size_t index); /* a map's key */
NH_API const nh_value *nh_value_get(const nh_value *value,
                                    const char *key); /* a map's value by name, or NULL */

/* Reading in order, without a tree: each call gives the next value, and a container's elements
 * follow it, a map's as key, value, key, value … What is read is borrowed from whom the reader is
 * of. */
typedef struct nh_datum {
    nh_kind kind;
    bool big;     /* an integer over INT64_MAX: `integer` has its bits */
    size_t count; /* bytes of a text, elements of an array, pairs of a map */
    union {
        bool truth;
        int64_t integer;
        double real;
        const char *bytes; /* of a string, binary, secret. Not NUL-terminated */
    };
} nh_datum;

typedef struct nh_reader {
    const char *at, *end;
} nh_reader;

NH_API nh_reader nh_doc_read(const nh_doc *doc);
NH_API bool nh_reader_next(nh_reader *reader, nh_datum *datum); /* false behind the last */

/* Writing: a writer takes values in order. A container's elements follow it: nh_writer_array(w, 2)
 * is followed by two values, nh_writer_map(w, 1) by a key and a value. The first failure (out of
 * memory, depth, a container left open) sticks and is told by nh_writer_finish. Thread: owner.
 * Blocks: never. */
typedef struct nh_writer nh_writer;

NH_API nh_writer *nh_writer_create(void); /* NULL when out of memory */
NH_API void nh_writer_destroy(nh_writer *writer);
NH_API void nh_writer_clear(nh_writer *writer); /* forgets what was written and what failed */
NH_API void nh_writer_nil(nh_writer *writer);
NH_API void nh_writer_bool(nh_writer *writer, bool value);
NH_API void nh_writer_int(nh_writer *writer, int64_t value);
NH_API void nh_writer_real(nh_writer *writer, double value);
NH_API void nh_writer_string(nh_writer *writer, const char *text, size_t length);
NH_API void nh_writer_cstring(nh_writer *writer, const char *text);
NH_API void nh_writer_binary(nh_writer *writer, const void *bytes, size_t length);
NH_API void nh_writer_secret(nh_writer *writer, const char *text, size_t length);
NH_API void nh_writer_array(nh_writer *writer, size_t count);
NH_API void nh_writer_map(nh_writer *writer, size_t count);
/* Containers whose count is not known yet: what is written goes into the one that was opened last,
 * until nh_writer_close. */
NH_API void nh_writer_open_array(nh_writer *writer);
NH_API void nh_writer_open_map(nh_writer *writer);
NH_API void nh_writer_close(nh_writer *writer);
NH_API void nh_writer_value(nh_writer *writer, const nh_value *value); /* copies a whole value */
/* Returns the document and empties the writer for the next one. Errors: NH_E_INVALID,
 * NH_E_TOO_LARGE, NH_E_INTERNAL. */
NH_API nh_doc *nh_writer_finish(nh_writer *writer, nh_error *error);

/* -------------------------------------------------------------------- hub */

typedef struct nh_hub nh_hub;
typedef struct nh_handle nh_handle;
typedef struct nh_batch nh_batch;
typedef struct nh_receipt nh_receipt;
typedef struct nh_inbox nh_inbox;

/* Reads a configuration file (Lua, sandboxed; it may use env "NAME" and file "path", whose values
 * are secrets). The document can be given to nh_hub_open. Blocks: on the file. Errors: NH_E_CONFIG
 * with file and line. */
NH_API nh_doc *nh_config_load(const char *path, nh_error *error);

/* Opens a hub: checks the configuration, loads the scripts, starts the workers. `config` is a map
 * with the keys of docs/configuration.md; NULL means all defaults. Blocks: some milliseconds.
 * Errors: NH_E_CONFIG, NH_E_INTERNAL. */
NH_API nh_hub *nh_hub_open(const nh_doc *config, nh_error *error);
NH_API nh_hub *nh_hub_ref(nh_hub *hub);
/* Drops a reference; the last one closes the hub at once, as nh_hub_close(hub, 0) does. NULL is
 * allowed. */
NH_API void nh_hub_unref(nh_hub *hub);

/* Accepts one message. It is validated and queued before the call returns, and with a journal it is
 * on the disk by then; `message` may be dropped afterwards. A message whose dedupe_key another one
 * had within queue.dedupe_window is not sent again: the handle is the first one's, or, when this
 * process does not have that any more, one that has failed with NH_E_DUPLICATE. Blocks: never; with
 * a journal until it is written, some milliseconds. Errors: NH_E_INVALID, NH_E_TOO_LARGE,
 * NH_E_QUEUE_FULL, NH_E_CLOSED, NH_E_EXPIRED, NH_E_JOURNAL. */
NH_API nh_handle *nh_hub_send_async(nh_hub *hub, const nh_doc *message, nh_error *error);

/* Accepts all of 1 to NH_BATCH_MAX messages or none of them. A duplicate among them has a handle of
 * its own that has failed with NH_E_DUPLICATE. Blocks and errors: as nh_hub_send_async; the text
 * names the message's place, from 1. */
NH_API nh_batch *nh_hub_send_batch(nh_hub *hub, const nh_doc *const *messages, size_t count,
                                   nh_error *error);
#define NH_BATCH_MAX 1000000

/* How a message may be accepted otherwise. All zero is what the two functions above do. */
typedef struct nh_send_options {
    double wait; /* seconds for which a full queue or journal is asked again */
    bool later;  /* with a journal: return at once, in the state NH_ACCEPTING. The handle settles
                    with NH_E_JOURNAL when the message cannot be written after all, with
                    NH_E_DUPLICATE when it is one */
    bool *duplicate; /* not NULL: gets whether the handle is the first's, or stands for it */
} nh_send_options;

/* The same one by one, for messages that need not all be documents at a time: a draft takes each
 * and keeps what the queue needs of it. Nothing is queued before nh_draft_send. Thread: owner.
 * Blocks: never. */
typedef struct nh_draft nh_draft;

/* For just `count` messages. Errors: NH_E_CLOSED, NH_E_INVALID, NH_E_INTERNAL. */
NH_API nh_draft *nh_hub_draft(nh_hub *hub, size_t count, nh_error *error);
/* Adds the next message. After an error the draft is only good for nh_draft_destroy. Errors: as
 * nh_hub_send_batch. */
NH_API nh_err nh_draft_add(nh_draft *draft, const nh_doc *message, nh_error *error);
/* The same for what was written and not finished: no document is made of it, and the writer has to
 * be cleared before its next one. Errors: those of nh_writer_finish, too. */
NH_API nh_err nh_draft_add_written(nh_draft *draft, nh_writer *message, nh_error *error);
/* Accepts all of them, or none; destroys the draft in either case. Errors: as nh_hub_send_batch. */
NH_API nh_batch *nh_draft_send(nh_draft *draft, nh_error *error);
NH_API nh_batch *nh_draft_send_with(nh_draft *draft, const nh_send_options *options,
                                    nh_error *error);
NH_API void nh_draft_destroy(nh_draft *draft); /* NULL is allowed */

/* nh_hub_send_async and nh_hub_send_batch with options. Blocks: ≤ wait, beside what is said there.
 */
NH_API nh_handle *nh_hub_send_with(nh_hub *hub, const nh_doc *message,
                                   const nh_send_options *options, nh_error *error);
/* The same as nh_draft_add_written for one message. */
NH_API nh_handle *nh_hub_send_written(nh_hub *hub, nh_writer *message,
                                      const nh_send_options *options, nh_error *error);
NH_API nh_batch *nh_hub_send_batch_with(nh_hub *hub, const nh_doc *const *messages, size_t count,
                                        const nh_send_options *options, nh_error *error);

/* Loads the rules anew: reads the folder, tries it and its own tests, and gives it all messages
 * that are taken from the queue from now on. On an error those before go on. Blocks: while the
 * rules are compiled and tested, ≤ limits.loading for each. Errors: NH_E_CONFIG with file and line,
 * NH_E_CLOSED. */
NH_API nh_err nh_hub_reload(nh_hub *hub, nh_error *error);

/* Figures as a document: see docs/operations.md for the fields. NULL only when out of memory.
 * Blocks: never. */
NH_API nh_doc *nh_hub_stats(nh_hub *hub);

/* How the platform accounts and targets that were tried are doing, from their own attempts:
 * {seen = {platforms = {account = view}, targets = {target = view}, left_out}, breakers = {host =
 * {state, retry_in, failures}}, lanes = {"account host" = {limit, in_flight, waiting, oldest}}};
 * see docs/operations.md for a view; with a journal also journal = {state, rows, oldest, bytes,
 * most, dead, commit_seconds, last_error}. NULL only when out of memory. Blocks: never. */
NH_API nh_doc *nh_hub_health(nh_hub *hub);

/* Counters and gauges in the text format of Prometheus (0.0.4), NUL-terminated; `length` may be
 * NULL. To be freed with nh_free. NULL only when out of memory. Blocks: never. */
NH_API char *nh_hub_metrics(nh_hub *hub, size_t *length);

/* What happened that is no message's: the next item after *cursor (0 at first; each reader has its
 * own), or NULL. The last 1000 are kept; where *cursor has grown by more than one, some were
 * forgotten before they were read. An item is a map, `at` in seconds since the epoch:
 *     {kind = "breaker", at, host, from, to, seconds}: a circuit breaker went from one state to
 *         another ("closed", "open", "half-open"); `seconds` is how long it stays open
 *     {kind = "log", at, level, line}: a line of the log, when the configuration says log.to =
 *         "program"
 * Blocks: never. */
NH_API nh_doc *nh_hub_news(nh_hub *hub, uint64_t *cursor);

/* The platforms this hub knows, as an array of maps {name, summary, schemes, formats, limits,
 * options, transport}. */
NH_API nh_doc *nh_hub_platforms(nh_hub *hub, nh_error *error);

/* Answers about the rules of a configuration, without sending anything and without a hub: see the
 * subcommands check, test and explain. NULL and an error when the configuration itself is wrong; of
 * the others also when the rules are. Blocks: while the rules are compiled and run. Errors:
 * NH_E_CONFIG, NH_E_INVALID (the message), NH_E_SCRIPT, NH_E_INTERNAL.
 *
 * {problems = [text], files, routes, templates, tests}: */
NH_API nh_doc *nh_rules_check(const nh_doc *config, nh_error *error);
/* {tests = [{file, name, ok, error}], passed, failed}: */
NH_API nh_doc *nh_rules_test(const nh_doc *config, nh_error *error);
/* {id, route, status, code, error, routes = [{path, source, matched, taken, why}], requests =
 * [{target, platform, title, body, format, request}], failures = [...], warnings = [text]}, or a
 * list of these for a list of messages: */
NH_API nh_doc *nh_rules_explain(const nh_doc *config, const nh_doc *message, nh_error *error);

/* Stops accepting, lets accepted messages end for at most `seconds`, then settles each one left
 * with `closed` and joins the threads. Returns the number of messages that were settled with
 * `closed`. Further calls return 0. A message waiting for its deliver_at beyond the deadline is
 * settled with `closed` as well. Blocks: ≤ seconds + some milliseconds. */
NH_API size_t nh_hub_close(nh_hub *hub, double seconds);

/* For a program whose hubs are opened by others in it, by scripts say: every hub that is open in
 * this process now. They need no references. The library itself heeds no signal; this is what a
 * program calls that was sent one. Thread: any, but no signal handler.
 *
 * Has all of them stop accepting at once, then closes each as nh_hub_close does, within the same
 * `seconds`. A hub that somebody else closes already is left to them, and waited for as long.
 * Returns the number of messages that were settled with `closed` here. Blocks: ≤ seconds + some
 * milliseconds. */
NH_API size_t nh_hubs_close(double seconds);

/* Reloads the rules of each; `failed` (with `user`) is told of each that keeps those it had, and
 * may not close a hub. Returns how many have new ones. Blocks: as nh_hub_reload, for each. */
NH_API size_t nh_hubs_reload(void (*failed)(const nh_error *error, void *user), void *user);

/* ------------------------------------------------------------ dead letters */

/* Messages that failed for good, in whole or in part, are kept in the journal until somebody
 * retries or discards them. A letter is {number, id, code, reason, answer, attempts, crashes,
 * priority, created_at, died_at, bytes}; all texts as they may be shown. Blocks: until the
 * journal's thread has looked. Errors, beside those named: NH_E_CONFIG (the hub has no journal),
 * NH_E_JOURNAL, NH_E_CLOSED, NH_E_INTERNAL.
 *
 * At most `most` (≤ 10,000) with a number above `after`, the oldest first: */
NH_API nh_doc *nh_hub_dead_letters(nh_hub *hub, uint64_t after, size_t most, nh_error *error);
/* One, with its `message`, in which targets have their URLs cut ("json://…") and what `platform`
 * says is secret; a retry sends it as it was. Errors: NH_E_INVALID when there is none of this
 * number. */
NH_API nh_doc *nh_hub_dead_letter(nh_hub *hub, uint64_t number, nh_error *error);
/* Sends it again, to all of its targets and with all attempts anew, or forgets it. Number 0: all of
 * them; `count` (or NULL) gets how many. Errors: NH_E_INVALID when there is none. */
NH_API nh_err nh_hub_retry_dead(nh_hub *hub, uint64_t number, uint64_t *count, nh_error *error);
NH_API nh_err nh_hub_discard_dead(nh_hub *hub, uint64_t number, uint64_t *count, nh_error *error);

/* The same of a journal that no hub has open. What is retried waits there for the next hub. */
typedef struct nh_letters nh_letters;

/* Blocks: on the disk. Errors: NH_E_JOURNAL: there is no such file, it is in use, or it is no
 * journal. */
NH_API nh_letters *nh_letters_open(const char *path, nh_error *error);
NH_API nh_err nh_letters_close(nh_letters *letters, nh_error *error); /* NULL is allowed */
NH_API nh_doc *nh_letters_list(nh_letters *letters, uint64_t after, size_t most, nh_error *error);
NH_API nh_doc *nh_letters_get(nh_letters *letters, uint64_t number, nh_error *error);
NH_API nh_err nh_letters_retry(nh_letters *letters, uint64_t number, uint64_t *count,
                               nh_error *error);
NH_API nh_err nh_letters_discard(nh_letters *letters, uint64_t number, uint64_t *count,
                                 nh_error *error);
/* {depth, bytes, dead, oldest}: messages that wait, bytes used, dead letters, the age of the oldest
 * message in seconds. NULL only when out of memory. */
NH_API nh_doc *nh_letters_stats(nh_letters *letters);

/* ----------------------------------------------------------------- handle */

typedef enum nh_state {
    NH_SCHEDULED, /* waits for its deliver_at */
    NH_QUEUED,    /* waits for a worker */
    NH_RUNNING,   /* a worker has it */
    NH_SETTLED,   /* its receipt is there, for ever */
    NH_ACCEPTING, /* its sender did not wait until the journal has it, and it has not yet */
} nh_state;

NH_API const char *nh_state_name(nh_state state);

NH_API nh_handle *nh_handle_ref(nh_handle *handle);
NH_API void
nh_handle_unref(nh_handle *handle); /* NULL is allowed; the message is sent all the same */
NH_API const char *nh_handle_id(const nh_handle *handle); /* borrowed */
NH_API nh_state nh_handle_state(const nh_handle *handle);
/* Deliveries ended and deliveries known so far (0, 0 before the message's targets are known). */
NH_API void nh_handle_progress(const nh_handle *handle, uint32_t *done, uint32_t *total);
/* How many attempts had to be repeated so far. */
NH_API uint32_t nh_handle_retries(const nh_handle *handle);
/* The message as it was accepted. */
NH_API nh_doc *nh_handle_message(const nh_handle *handle);
/* The receipt, or NULL before the handle settles. Blocks: never. */
NH_API nh_receipt *nh_handle_receipt(nh_handle *handle);
/* The receipt's document (nh_receipt_doc), in place: borrowed from the handle. False before it
 * settles, or when memory ran out then. Blocks: never. */
NH_API bool nh_handle_read(const nh_handle *handle, nh_reader *reader);
/* Waits for the receipt. Any number of threads may wait; all see the same receipt. Blocks: ≤
 * seconds. Errors: NH_E_TIMEOUT (the message goes on). */
NH_API nh_receipt *nh_handle_wait(nh_handle *handle, double seconds, nh_error *error);
/* Waits until the message is accepted: at once, unless it was sent with `later` into a hub with a
 * journal. Blocks: ≤ seconds. Errors: NH_E_TIMEOUT (it goes on), and why it was refused:
 * NH_E_JOURNAL, NH_E_DUPLICATE. */
NH_API nh_err nh_handle_wait_accepted(nh_handle *handle, double seconds, nh_error *error);
/* Of a handle that settled with NH_E_DUPLICATE: that of the message that was first, or NULL when
 * this process does not have it. */
NH_API nh_handle *nh_handle_first(nh_handle *handle);
/* Stops the message: a queued one is never sent, a transfer under way is aborted; the receipt tells
 * what had been reached before. Returns true when this call stopped it, false when it had settled
 * or been cancelled before. Blocks: never. */
NH_API bool nh_handle_cancel(nh_handle *handle);

/* ---------------------------------------------------------------- receipt */

typedef enum nh_status {
    NH_DELIVERED, /* every target has it */
    NH_PARTIAL,   /* some targets have it */
    NH_FAILED,    /* no target has it */
    NH_CANCELLED,
    NH_EXPIRED,
} nh_status;

NH_API const char *nh_status_name(nh_status status);

NH_API nh_receipt *nh_receipt_ref(nh_receipt *receipt);
NH_API void nh_receipt_unref(nh_receipt *receipt); /* NULL is allowed */
NH_API nh_status nh_receipt_status(const nh_receipt *receipt);
/* The whole receipt: {id, status, code, error, results = [{platform, target, ok, code, error,
 * status_code, provider_id, attempts, latency, retryable}], created_at, settled_at, route,
 * generation}. A field that does not apply is absent. Made anew for each caller; NULL only when out
 * of memory. */
NH_API nh_doc *nh_receipt_doc(const nh_receipt *receipt);

/* ------------------------------------------------------------------ batch */

NH_API nh_batch *nh_batch_ref(nh_batch *batch);
NH_API void nh_batch_unref(nh_batch *batch);           /* NULL is allowed */
NH_API const char *nh_batch_id(const nh_batch *batch); /* borrowed */
NH_API size_t nh_batch_count(const nh_batch *batch);
NH_API nh_handle *nh_batch_handle(nh_batch *batch,
                                  size_t index); /* from 0; borrowed; NULL out of range */
/* How many messages have settled, and how many of those were not delivered to all their targets. */
NH_API void nh_batch_progress(const nh_batch *batch, size_t *settled, size_t *failed);
/* The message that settled as number `nth` (from 0) of this batch: waits for it, writes its index.
 * Each reader counts its own `nth`, so any number may read. Blocks: ≤ seconds. Errors:
 * NH_E_TIMEOUT; NH_E_INVALID when nth ≥ count. */
NH_API nh_err nh_batch_next(nh_batch *batch, size_t nth, double seconds, size_t *index);
/* Those that settled as number `from` (from 0) and after it, as far as they have: writes at most
 * `most` of their indexes, in that order, and returns how many. Blocks: never. */
NH_API size_t nh_batch_order(nh_batch *batch, size_t from, size_t *indexes, size_t most);
/* Waits until all have settled. Blocks: ≤ seconds. Returns NH_OK, NH_E_TIMEOUT or, after a fork,
 * NH_E_CLOSED. */
NH_API nh_err nh_batch_wait(nh_batch *batch, double seconds);
/* Cancels every message that has not settled; returns how many. Blocks: never. */
NH_API size_t nh_batch_cancel(nh_batch *batch);

/* ------------------------------------------------------------------ inbox */

/* An inbox collects what happened to the handles and batches it watches, for one consumer with an
 * event loop or a Lua state. Events of one watch are merged while they wait, so an inbox never
 * holds more than one entry a watch. */
typedef enum nh_event_kind {
    NH_EVENT_PROGRESS = 1, /* nh_handle_progress or nh_batch_progress has new figures */
    NH_EVENT_RETRY = 2,    /* nh_handle_retries has grown */
    NH_EVENT_COMPLETE = 4, /* settled; the watch ends after this event */
    NH_EVENT_NEWS = 8,     /* nh_hub_news has something new */
} nh_event_kind;

typedef struct nh_event {
    unsigned kinds; /* NH_EVENT_* or-ed together; COMPLETE is last of all for its watch */
    uint64_t tag;   /* what was given to the watch call */
} nh_event;

NH_API nh_inbox *nh_inbox_create(void); /* NULL when out of memory */
NH_API nh_inbox *nh_inbox_ref(nh_inbox *inbox);
NH_API void nh_inbox_unref(nh_inbox *inbox); /* NULL is allowed */
/* A descriptor that is readable while events wait; made at the first call, -1 when there is none
 * left. Only poll it; never read, write or close it. */
NH_API int nh_inbox_fd(nh_inbox *inbox);
/* Reports what happens to a handle or batch from now on; COMPLETE comes at once when it has already
 * settled. The watch ends after COMPLETE. Errors: NH_E_INTERNAL when out of memory. Blocks: never.
 */
NH_API nh_err nh_inbox_watch_handle(nh_inbox *inbox, nh_handle *handle, uint64_t tag);
NH_API nh_err nh_inbox_watch_batch(nh_inbox *inbox, nh_batch *batch, uint64_t tag);
/* The same for the kinds of event that are asked for (NH_EVENT_* or-ed together; COMPLETE always
 * comes): who asks for less is woken less often. */
NH_API nh_err nh_inbox_watch_handle_for(nh_inbox *inbox, nh_handle *handle, uint64_t tag,
                                        unsigned kinds);
NH_API nh_err nh_inbox_watch_batch_for(nh_inbox *inbox, nh_batch *batch, uint64_t tag,
                                       unsigned kinds);
/* Reports NH_EVENT_COMPLETE, and no more, once nh_handle_wait_accepted would not wait. */
NH_API nh_err nh_inbox_watch_accepted(nh_inbox *inbox, nh_handle *handle, uint64_t tag);
/* Reports NH_EVENT_NEWS when the hub has news, those it kept before included. The watch ends with
 * the hub's memory. Errors: NH_E_INTERNAL when out of memory; NH_E_CLOSED after a fork. Blocks:
 * never. */
NH_API nh_err nh_inbox_watch_hub(nh_inbox *inbox, nh_hub *hub, uint64_t tag);
/* Takes the oldest event. Blocks: ≤ seconds (0: never). Returns NH_OK, or NH_E_TIMEOUT when there
 * is none. */
NH_API nh_err nh_inbox_next(nh_inbox *inbox, double seconds, nh_event *event);
/* Makes one nh_inbox_next that waits, or the next one to come, return NH_E_CANCELLED. */
NH_API void nh_inbox_interrupt(nh_inbox *inbox);

#ifdef __cplusplus
}
#endif

#endif
