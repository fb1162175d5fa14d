/* letters.c — dead letters for people and programs: of a hub, or of a journal that no hub has open.
 *
 * Thread: any. Each call waits for the journal's own thread: some milliseconds, longer while that
 * writes a large group. A list is built in memory, so its length is bounded.
 *
 * What leaves here may be shown to anybody who may read the message: its targets without what may
 * be a token in them, what it says to a platform by itself (headers, say) without its texts. A
 * retry does not come by here: the store moves the row as it is.
 */
#include "runtime/hub_parts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"

enum { LIST_MOST = 10000, FIELDS = 10 };

struct nh_letters {
    nh_store *store;
};

/* ------------------------------------------------------------------ writing */

static void put_text(nh_writer *writer, const char *name, const char *text) {
    nh_writer_cstring(writer, name);
    nh_writer_cstring(writer, text);
}

static void put_real(nh_writer *writer, const char *name, double value) {
    nh_writer_cstring(writer, name);
    nh_writer_real(writer, value);
}

static void put_int(nh_writer *writer, const char *name, int64_t value) {
    nh_writer_cstring(writer, name);
    nh_writer_int(writer, value);
}

/* A target as it may be shown. A token may be anywhere behind the scheme of a URL, and behind the
 * host of what was only meant as one. */
static void put_target(nh_writer *writer, const nh_value *target) {
    enum { SHOWN_MOST = 64 };
    char shown[SHOWN_MOST + sizeof "://…"];
    size_t length, end = 0;
    const char *text = nh_value_bytes(target, &length);
    while (text && end < length && (isalnum((unsigned char)text[end]) || strchr("+.-_", text[end])))
        end++;
    const char *mark = text ? memmem(text, length, "://", 3) : NULL;
    if (mark)
        end = (size_t)(mark - text);
    else if (end == 0 || end == length || (text[end] != ':' && text[end] != '/')) {
        nh_writer_value(writer, target);
        return;
    }
    snprintf(shown, sizeof shown, "%.*s%.*s…", (int)(end < SHOWN_MOST ? end : SHOWN_MOST), text,
             mark ? 3 : 1, text + end);
    nh_writer_cstring(writer, shown);
}

static void put_targets(nh_writer *writer, const nh_value *targets) {
    size_t count = nh_value_count(targets);
    nh_writer_array(writer, count);
    for (size_t i = 0; i < count; i++) {
        const nh_value *target = nh_value_at(targets, i);
        if (nh_value_kind(target) != NH_MAP) {
            put_target(writer, target);
            continue;
        }
        nh_writer_map(writer, nh_value_count(target));
        for (size_t field = 0; field < nh_value_count(target); field++) {
            nh_writer_value(writer, nh_value_key(target, field));
            put_target(writer, nh_value_at(target, field));
        }
    }
}

/* A value with secrets in place of its texts. */
static void put_hidden(nh_writer *writer, const nh_value *value) {
    static const char hidden[] = "<secret>";
    nh_kind kind = nh_value_kind(value);
    size_t count = kind == NH_ARRAY || kind == NH_MAP ? nh_value_count(value) : 0;
    if (kind == NH_ARRAY)
        nh_writer_array(writer, count);
    else if (kind == NH_MAP)
        nh_writer_map(writer, count);
    else if (kind == NH_STRING || kind == NH_BINARY || kind == NH_SECRET)
        nh_writer_secret(writer, hidden, sizeof hidden - 1);
    else
        nh_writer_value(writer, value);
    for (size_t i = 0; i < count; i++) {
        if (kind == NH_MAP)
            nh_writer_value(writer, nh_value_key(value, i));
        put_hidden(writer, nh_value_at(value, i));
    }
}

static void put_message(nh_writer *writer, const nh_value *message) {
    size_t count = nh_value_count(message);
    nh_writer_map(writer, count);
    for (size_t i = 0; i < count; i++) {
        const nh_value *key = nh_value_key(message, i), *value = nh_value_at(message, i);
        nh_writer_value(writer, key);
        if (nh_value_is(key, "targets"))
            put_targets(writer, value);
        else if (nh_value_is(key, "platform"))
            put_hidden(writer, value);
        else
            nh_writer_value(writer, value);
    }
}

static void put_letter(nh_writer *writer, const nh_store_dead *dead) {
    static const char *const priorities[NH_PRIORITIES] = {"low", "normal", "high", "urgent"};
    bool answered = dead->answer && dead->answer[0];
    nh_writer_map(writer, FIELDS + answered + (dead->document != NULL));
    put_int(writer, "number", (int64_t)dead->number);
    put_text(writer, "id", dead->id);
    put_text(writer, "code", nh_err_name(dead->code));
    put_text(writer, "reason", dead->reason ? dead->reason : "");
    put_int(writer, "attempts", dead->attempts);
    put_int(writer, "crashes", dead->crashes);
    put_text(writer, "priority",
             dead->priority < NH_PRIORITIES ? priorities[dead->priority] : "normal");
    put_real(writer, "created_at", dead->created_at);
    put_real(writer, "died_at", dead->died_at);
    put_int(writer, "bytes", (int64_t)dead->length);
    if (answered)
        put_text(writer, "answer", dead->answer);
    if (dead->document) {
        nh_writer_cstring(writer, "message");
        put_message(writer, nh_doc_root(dead->document));
    }
}

/* ------------------------------------------------------------------- asking */

typedef struct list {
    nh_writer *writer;
    nh_doc **docs;
    size_t count, most;
    bool failed;
} list;

static void collect(void *context, const nh_store_dead *dead) {
    list *l = context;
    if (l->failed || l->count == l->most)
        return;
    put_letter(l->writer, dead);
    l->docs[l->count] = nh_writer_finish(l->writer, NULL);
    l->failed = !l->docs[l->count];
    l->count += !l->failed;
}

static nh_doc *list_of(list *l, nh_error *error) {
    nh_writer_array(l->writer, l->count);
    for (size_t i = 0; i < l->count; i++)
        nh_writer_value(l->writer, nh_doc_root(l->docs[i]));
    return nh_writer_finish(l->writer, error);
}

static nh_doc *list_letters(nh_store *store, uint64_t after, size_t most, nh_error *error) {
    most = most < LIST_MOST ? most : LIST_MOST;
    list l = {.writer = nh_writer_create(),
              .docs = malloc((most ? most : 1) * sizeof *l.docs),
              .most = most};
    nh_doc *doc = NULL;
    if (!l.writer || !l.docs)
        nh_fail_memory(error);
    else if (store->ops->dead_list(store, after, most, collect, &l, error) == NH_OK) {
        if (l.failed)
            nh_fail_memory(error);
        else
            doc = list_of(&l, error);
    }
    while (l.count > 0)
        nh_doc_unref(l.docs[--l.count]);
    free(l.docs);
    nh_writer_destroy(l.writer);
    return doc;
}

static nh_doc *get_letter(nh_store *store, uint64_t number, nh_error *error) {
    nh_doc *doc = NULL;
    list l = {.writer = nh_writer_create(), .docs = &doc, .most = 1};
    if (!l.writer) {
        nh_fail_memory(error);
        return NULL;
    }
    if (store->ops->dead_get(store, number, collect, &l, error) == NH_OK && !doc)
        nh_fail_memory(error);
    nh_writer_destroy(l.writer);
    return doc;
}

/* -------------------------------------------------------------------- a hub's */

static nh_store *enter(nh_hub *hub, nh_error *error) {
    if (nh_hub_refuse_closed(hub, error))
        return NULL;
    if (!hub->journal.store) {
        nh_error_set(
            error, NH_E_CONFIG,
            "dead letters are kept in a journal, and this hub has none: set queue.journal");
        return NULL;
    }
    nh_store *store = nh_hub_store_enter(hub);
    if (!store)
        nh_error_set(error, NH_E_CLOSED, "the hub is closed");
    return store;
}

nh_doc *nh_hub_dead_letters(nh_hub *hub, uint64_t after, size_t most, nh_error *error) {
    nh_store *store = enter(hub, error);
    if (!store)
        return NULL;
    nh_doc *doc = list_letters(store, after, most, error);
    nh_hub_store_leave(hub);
    return doc;
}

nh_doc *nh_hub_dead_letter(nh_hub *hub, uint64_t number, nh_error *error) {
    nh_store *store = enter(hub, error);
    if (!store)
        return NULL;
    nh_doc *doc = get_letter(store, number, error);
    nh_hub_store_leave(hub);
    return doc;
}

static nh_err change_dead(nh_hub *hub, bool retry, uint64_t number, uint64_t *count,
                          nh_error *error) {
    nh_error fault;
    nh_store *store = enter(hub, &fault);
    if (!store)
        return nh_fail(error, fault.code, "%s", fault.message);
    nh_err failed =
        (retry ? store->ops->dead_retry : store->ops->dead_discard)(store, number, count, error);
    nh_hub_store_leave(hub);
    return failed;
}

nh_err nh_hub_retry_dead(nh_hub *hub, uint64_t number, uint64_t *count, nh_error *error) {
    return change_dead(hub, true, number, count, error);
}

nh_err nh_hub_discard_dead(nh_hub *hub, uint64_t number, uint64_t *count, nh_error *error) {
    return change_dead(hub, false, number, count, error);
}

/* -------------------------------------------------------------- a journal's */

nh_letters *nh_letters_open(const char *path, nh_error *error) {
    if (access(path, F_OK) != 0) { /* a store would make a new one */
        nh_error_set(error, NH_E_JOURNAL, "%s: %s", path, strerror(errno));
        return NULL;
    }
    nh_letters *letters = malloc(sizeof *letters);
    if (!letters) {
        nh_fail_memory(error);
        return NULL;
    }
    const nh_store_options options = {
        .path = path, .bytes = UINT64_C(1) << 46, .dead_most = 10000000};
    letters->store = nh_store_journal.open(&options, error);
    if (letters->store)
        return letters;
    free(letters);
    return NULL;
}

nh_err nh_letters_close(nh_letters *letters, nh_error *error) {
    if (!letters)
        return NH_OK;
    nh_err failed = letters->store->ops->close(letters->store, error);
    free(letters);
    return failed;
}

nh_doc *nh_letters_list(nh_letters *letters, uint64_t after, size_t most, nh_error *error) {
    return list_letters(letters->store, after, most, error);
}

nh_doc *nh_letters_get(nh_letters *letters, uint64_t number, nh_error *error) {
    return get_letter(letters->store, number, error);
}

nh_err nh_letters_retry(nh_letters *letters, uint64_t number, uint64_t *count, nh_error *error) {
    return letters->store->ops->dead_retry(letters->store, number, count, error);
}

nh_err nh_letters_discard(nh_letters *letters, uint64_t number, uint64_t *count, nh_error *error) {
    return letters->store->ops->dead_discard(letters->store, number, count, error);
}

nh_doc *nh_letters_stats(nh_letters *letters) {
    nh_store_stats stats;
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    letters->store->ops->sync(letters->store, NULL); /* so that the figures are there */
    letters->store->ops->stats(letters->store, &stats);
    nh_writer_map(writer, 4);
    put_int(writer, "depth", (int64_t)stats.depth);
    put_int(writer, "bytes", (int64_t)stats.bytes);
    put_int(writer, "dead", (int64_t)stats.dead);
    put_real(writer, "oldest", stats.oldest > 0 ? nh_wall() - stats.oldest : 0);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return doc;
}
