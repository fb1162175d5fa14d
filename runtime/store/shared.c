/* shared.c — the operations of the shared dictionary, over table.c.
 *
 * Each is a function that runs under the lock of its key; `run` checks the key, locks, calls it
 * and, when there was no room, drops what has expired everywhere and calls it once more. What an
 * operation stores is made before the lock is taken, what it hands out is parsed after it (get) or,
 * where the dictionary would forget it, before it is taken out (pop).
 *
 * Cost: a get or incr well below a microsecond, plus parsing for a table.
 */
#include "runtime/store/shared.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/core/utf8.h"
#include "runtime/store/table.h"

enum { KEY_SHOWN = 64 };

struct nh_shared {
    nh_shared_limits limits;
    nh_shared_journal journal;
    nh_table table;
};

/* One call on its way through `run`. */
typedef struct request {
    const char *key;
    size_t length;
    nh_shared_life life;
    nh_item item, expected; /* kind is valid with the flags below */
    bool has_item, has_expected;
    bool silent; /* the journal knows it already */
    bool told;   /* the error has its text */
    nh_number number;
    nh_doc *doc;
    nh_blob *blob;
    size_t count;
    bool done;
    double seconds;
    nh_error *error;
} request;

typedef nh_err (*operation)(nh_shared *shared, nh_place *place, request *r);

#define refuse(r, code, ...) ((r)->told = true, nh_fail((r)->error, (code), __VA_ARGS__))

/* A key comes from anybody and goes into a line of text. */
static const char *shown(const request *r, char out[KEY_SHOWN + 1]) {
    size_t length = r->length < KEY_SHOWN ? r->length : nh_utf8_floor(r->key, KEY_SHOWN);
    bool text = nh_utf8_valid(r->key, length) && nh_control_at(r->key, length) == length;
    for (size_t i = 0; i < length; i++)
        out[i] = text || (r->key[i] > ' ' && r->key[i] < 0x7F) ? r->key[i] : '?';
    out[length] = '\0';
    return out;
}

static nh_err wrong_kind(request *r, const nh_entry *entry, const char *wanted) {
    static const char *const kinds[] = {[NH_ITEM_NUMBER] = "a number",
                                        [NH_ITEM_VALUE] = "a value that is no number",
                                        [NH_ITEM_LIST] = "a list"};
    char key[KEY_SHOWN + 1];
    return refuse(r, NH_E_INVALID, "the store's key \"%s\" holds %s, %s", shown(r, key),
                  kinds[entry->item.kind], wanted);
}

/* ------------------------------------------------------- under the lock */

static void tell_journal(nh_shared *shared, const nh_place *place, const nh_entry *entry) {
    unsigned char packed[NH_NUMBER_BYTES];
    const void *bytes = NULL;
    size_t length = 0;
    double expires_at = 0;
    if (!shared->journal.changed)
        return;
    if (entry && entry->item.kind == NH_ITEM_NUMBER) {
        nh_number_pack(&entry->item.number, packed);
        bytes = packed;
        length = sizeof packed;
    } else if (entry) {
        bytes = entry->item.value->bytes;
        length = entry->item.value->length;
    }
    if (entry && entry->expires != UINT64_MAX)
        expires_at = nh_wall() + (double)(entry->expires - place->now) / (double)NH_SECOND;
    shared->journal.changed(shared->journal.context, place->key, place->length, bytes, length,
                            expires_at);
}

static uint64_t expiry(const nh_place *place, const request *r) {
    return r->life.ttl > 0 ? nh_after(place->now, r->life.ttl) : UINT64_MAX;
}

/* Stores r->item under the key, whose entry is given if there is one. */
static nh_err put(nh_shared *shared, nh_place *place, nh_entry *entry, request *r) {
    bool was_durable = entry && entry->durable;
    uint64_t expires = expiry(place, r);
    nh_err failed = entry ? nh_table_replace(&shared->table, place, entry, &r->item, expires)
                          : nh_table_insert(&shared->table, place, &r->item, expires, &entry);
    if (failed)
        return failed;
    r->has_item = false;
    entry->durable = r->life.durable;
    if (!r->silent && (was_durable || entry->durable))
        tell_journal(shared, place, entry->durable ? entry : NULL);
    return NH_OK;
}

static void take_out(nh_shared *shared, nh_place *place, nh_entry *entry) {
    bool was_durable = entry->durable;
    nh_table_remove(&shared->table, place, entry);
    if (was_durable)
        tell_journal(shared, place, NULL);
}

static nh_err get(nh_shared *shared, nh_place *place, request *r) {
    const nh_entry *entry = nh_table_find(&shared->table, place);
    if (!entry)
        return NH_OK;
    if (entry->item.kind == NH_ITEM_LIST)
        return wrong_kind(r, entry, "which pop, pop_all and length read");
    r->done = true;
    if (entry->item.kind == NH_ITEM_NUMBER)
        r->number = entry->item.number;
    else
        r->blob = nh_blob_ref(entry->item.value);
    return NH_OK;
}

static nh_err set(nh_shared *shared, nh_place *place, request *r) {
    return put(shared, place, nh_table_find(&shared->table, place), r);
}

static nh_err add(nh_shared *shared, nh_place *place, request *r) {
    if (nh_table_find(&shared->table, place))
        return NH_OK;
    nh_err failed = put(shared, place, NULL, r);
    r->done = !failed;
    return failed;
}

static nh_err delete (nh_shared *shared, nh_place *place, request *r) {
    nh_entry *entry = nh_table_find(&shared->table, place);
    r->done = entry != NULL;
    if (entry)
        take_out(shared, place, entry);
    return NH_OK;
}

static nh_err sum(request *r, const nh_number *a, const nh_number *b, nh_number *out) {
    char key[KEY_SHOWN + 1];
    *out = (nh_number){.integral = a->integral && b->integral};
    if (out->integral) {
        if (__builtin_add_overflow(a->integer, b->integer, &out->integer))
            return refuse(r, NH_E_INVALID,
                          "the store's key \"%s\": %lld + %lld is beyond an integer", shown(r, key),
                          (long long)a->integer, (long long)b->integer);
        return NH_OK;
    }
    out->real =
        (a->integral ? (double)a->integer : a->real) + (b->integral ? (double)b->integer : b->real);
    if (!isfinite(out->real))
        return refuse(r, NH_E_INVALID, "the store's key \"%s\": the sum is not a finite number",
                      shown(r, key));
    return NH_OK;
}

static nh_err incr(nh_shared *shared, nh_place *place, request *r) {
    static const nh_number zero = {.integral = true};
    nh_entry *entry = nh_table_find(&shared->table, place);
    if (entry && entry->item.kind != NH_ITEM_NUMBER)
        return wrong_kind(r, entry, "incr needs a number");
    nh_number result;
    nh_err failed = sum(r, entry ? &entry->item.number : &zero, &r->number, &result);
    if (failed)
        return failed;
    if (entry) {
        entry->item.number = result;
        if (entry->durable)
            tell_journal(shared, place, entry);
    } else {
        r->item = (nh_item){.kind = NH_ITEM_NUMBER, .number = result};
        failed = put(shared, place, NULL, r);
    }
    if (!failed)
        r->number = result;
    return failed;
}

static nh_err cas(nh_shared *shared, nh_place *place, request *r) {
    nh_entry *entry = nh_table_find(&shared->table, place);
    if (entry && r->has_expected && entry->item.kind == NH_ITEM_LIST)
        return wrong_kind(r, entry, "cas needs a value");
    bool holds =
        entry ? r->has_expected && nh_item_same(&entry->item, &r->expected) : !r->has_expected;
    nh_err failed = NH_OK;
    if (!holds)
        return NH_OK;
    if (r->has_item)
        failed = put(shared, place, entry, r);
    else if (entry)
        take_out(shared, place, entry);
    r->done = !failed;
    return failed;
}

static nh_err push(nh_shared *shared, nh_place *place, request *r) {
    nh_entry *entry = nh_table_find(&shared->table, place);
    char key[KEY_SHOWN + 1];
    nh_err failed;
    if (entry && entry->item.kind != NH_ITEM_LIST)
        return wrong_kind(r, entry, "push needs a list");
    if (entry && entry->item.list.count >= shared->limits.list)
        return refuse(r, NH_E_TOO_LARGE, "the store's list \"%s\" is full: %zu items",
                      shown(r, key), shared->limits.list);
    failed = entry ? nh_table_append(&shared->table, entry, r->item.list.head)
                   : nh_table_insert(&shared->table, place, &r->item, expiry(place, r), &entry);
    if (failed)
        return failed;
    r->has_item = false;
    r->count = entry->item.list.count;
    return NH_OK;
}

static nh_err pop(nh_shared *shared, nh_place *place, request *r) {
    nh_entry *entry = nh_table_find(&shared->table, place);
    if (!entry)
        return NH_OK;
    if (entry->item.kind != NH_ITEM_LIST)
        return wrong_kind(r, entry, "pop needs a list");
    r->doc = nh_blob_doc(entry->item.list.head, r->error);
    if (!r->doc)
        return NH_E_INTERNAL;
    nh_blob_unref(nh_table_shift(&shared->table, place, entry));
    return NH_OK;
}

static nh_err pop_all(nh_shared *shared, nh_place *place, request *r) {
    static const nh_list empty;
    nh_entry *entry = nh_table_find(&shared->table, place);
    char key[KEY_SHOWN + 1];
    if (entry && entry->item.kind != NH_ITEM_LIST)
        return wrong_kind(r, entry, "pop_all needs a list");
    if (entry && entry->item.list.bytes > NH_LIST_BYTES_MOST)
        return refuse(r, NH_E_INVALID, "the store's list \"%s\" is too long to be had at once: pop",
                      shown(r, key));
    r->doc = nh_list_doc(entry ? &entry->item.list : &empty, r->error);
    if (!r->doc)
        return NH_E_INTERNAL;
    if (entry)
        nh_table_remove(&shared->table, place, entry);
    return NH_OK;
}

static nh_err length_of(nh_shared *shared, nh_place *place, request *r) {
    const nh_entry *entry = nh_table_find(&shared->table, place);
    if (entry && entry->item.kind != NH_ITEM_LIST)
        return wrong_kind(r, entry, "length needs a list");
    r->count = entry ? entry->item.list.count : 0;
    return NH_OK;
}

static nh_err ttl(nh_shared *shared, nh_place *place, request *r) {
    const nh_entry *entry = nh_table_find(&shared->table, place);
    if (!entry)
        r->seconds = -1;
    else if (entry->expires == UINT64_MAX)
        r->seconds = INFINITY;
    else
        r->seconds = (double)(entry->expires - place->now) / (double)NH_SECOND;
    return NH_OK;
}

/* -------------------------------------------------------------------- run */

static nh_err check(const nh_shared *shared, const request *r) {
    if (r->length == 0)
        return nh_fail(r->error, NH_E_INVALID, "a key of the store must not be empty");
    if (r->length > shared->limits.key)
        return nh_fail(r->error, NH_E_TOO_LARGE, "a key of %zu bytes: the store takes at most %zu",
                       r->length, shared->limits.key);
    if (!(r->life.ttl >= 0))
        return nh_fail(r->error, NH_E_INVALID, "ttl must be a number of seconds above 0");
    if (r->life.durable && !shared->journal.changed && !r->silent)
        return nh_fail(r->error, NH_E_CONFIG,
                       "durable keys need a journal: configure one (queue.journal), or leave "
                       "`durable` out");
    return NH_OK;
}

static nh_err explain(const nh_shared *shared, const request *r, nh_err failed) {
    if (r->told)
        return failed;
    if (failed != NH_E_TOO_LARGE)
        return nh_fail_memory(r->error);
    return nh_fail(r->error, NH_E_TOO_LARGE,
                   "the store is full: at most %zu entries and %zu bytes; give keys a ttl, delete "
                   "what is done with, or raise the limits",
                   shared->limits.entries, shared->limits.bytes);
}

/* What r still owns afterwards is freed. */
static nh_err run(nh_shared *shared, operation operate, request *r) {
    nh_err failed = check(shared, r);
    for (int rounds = failed ? 0 : 2; rounds > 0; rounds--) {
        nh_place place;
        nh_table_lock(&shared->table, r->key, r->length, &place);
        failed = operate(shared, &place, r);
        nh_table_unlock(&place);
        if (failed != NH_E_TOO_LARGE || r->told || rounds == 1) {
            failed = failed ? explain(shared, r, failed) : NH_OK;
            break;
        }
        nh_table_sweep(&shared->table);
    }
    if (r->has_item)
        nh_item_free(&r->item);
    if (r->has_expected)
        nh_item_free(&r->expected);
    return failed;
}

static nh_err run_with(nh_shared *shared, operation operate, request *r, const nh_doc *value) {
    nh_err failed = nh_item_from_doc(&r->item, value, shared->limits.value, r->error);
    if (failed)
        return failed;
    r->has_item = true;
    return run(shared, operate, r);
}

nh_err nh_shared_get(nh_shared *shared, const char *key, size_t length, nh_doc **value,
                     nh_error *error) {
    request r = {.key = key, .length = length, .error = error};
    *value = NULL;
    nh_err failed = run(shared, get, &r);
    if (failed || !r.done)
        return failed;
    *value = r.blob ? nh_blob_doc(r.blob, error) : nh_number_doc(&r.number, error);
    nh_blob_unref(r.blob);
    return *value ? NH_OK : NH_E_INTERNAL;
}

nh_err nh_shared_set(nh_shared *shared, const char *key, size_t length, const nh_doc *value,
                     nh_shared_life life, nh_error *error) {
    request r = {.key = key, .length = length, .life = life, .error = error};
    return run_with(shared, set, &r, value);
}

nh_err nh_shared_add(nh_shared *shared, const char *key, size_t length, const nh_doc *value,
                     nh_shared_life life, bool *added, nh_error *error) {
    request r = {.key = key, .length = length, .life = life, .error = error};
    nh_err failed = run_with(shared, add, &r, value);
    *added = r.done;
    return failed;
}

nh_err nh_shared_delete(nh_shared *shared, const char *key, size_t length, bool *deleted,
                        nh_error *error) {
    request r = {.key = key, .length = length, .error = error};
    nh_err failed = run(shared, delete, &r);
    *deleted = r.done;
    return failed;
}

nh_err nh_shared_incr(nh_shared *shared, const char *key, size_t length, nh_number by,
                      nh_shared_life life, nh_number *result, nh_error *error) {
    request r = {.key = key, .length = length, .life = life, .number = by, .error = error};
    nh_err failed = run(shared, incr, &r);
    *result = r.number;
    return failed;
}

nh_err nh_shared_cas(nh_shared *shared, const char *key, size_t length, const nh_doc *expected,
                     const nh_doc *value, nh_shared_life life, bool *swapped, nh_error *error) {
    request r = {.key = key, .length = length, .life = life, .error = error};
    *swapped = false;
    nh_err failed =
        expected ? nh_item_from_doc(&r.expected, expected, shared->limits.value, error) : NH_OK;
    if (failed)
        return failed;
    r.has_expected = expected != NULL;
    failed = value ? nh_item_from_doc(&r.item, value, shared->limits.value, error) : NH_OK;
    if (failed) {
        if (r.has_expected)
            nh_item_free(&r.expected);
        return failed;
    }
    r.has_item = value != NULL;
    failed = run(shared, cas, &r);
    *swapped = r.done;
    return failed;
}

nh_err nh_shared_push(nh_shared *shared, const char *key, size_t length, const nh_doc *value,
                      double seconds, size_t *count, nh_error *error) {
    request r = {.key = key, .length = length, .life = {.ttl = seconds}, .error = error};
    *count = 0;
    nh_err failed = nh_item_list_of(&r.item, value, shared->limits.value, error);
    if (failed)
        return failed;
    r.has_item = true;
    failed = run(shared, push, &r);
    *count = r.count;
    return failed;
}

nh_err nh_shared_pop(nh_shared *shared, const char *key, size_t length, nh_doc **value,
                     nh_error *error) {
    request r = {.key = key, .length = length, .error = error};
    nh_err failed = run(shared, pop, &r);
    *value = r.doc;
    return failed;
}

nh_err nh_shared_pop_all(nh_shared *shared, const char *key, size_t length, nh_doc **list,
                         nh_error *error) {
    request r = {.key = key, .length = length, .error = error};
    nh_err failed = run(shared, pop_all, &r);
    *list = r.doc;
    return failed;
}

nh_err nh_shared_length(nh_shared *shared, const char *key, size_t length, size_t *count,
                        nh_error *error) {
    request r = {.key = key, .length = length, .error = error};
    nh_err failed = run(shared, length_of, &r);
    *count = r.count;
    return failed;
}

nh_err nh_shared_ttl(nh_shared *shared, const char *key, size_t length, double *seconds,
                     nh_error *error) {
    request r = {.key = key, .length = length, .error = error};
    nh_err failed = run(shared, ttl, &r);
    *seconds = r.seconds;
    return failed;
}

nh_err nh_shared_load(nh_shared *shared, const char *key, size_t length, const void *value,
                      size_t value_length, double expires_at, nh_error *error) {
    double left = expires_at > 0 ? expires_at - nh_wall() : 0;
    request r = {.key = key,
                 .length = length,
                 .life = {.ttl = left, .durable = true},
                 .silent = true,
                 .error = error};
    if (expires_at > 0 && left <= 0)
        return NH_OK;
    nh_doc *doc = nh_doc_from_bytes(value, value_length, error);
    if (!doc)
        return NH_E_INVALID;
    nh_err failed = run_with(shared, set, &r, doc);
    nh_doc_unref(doc);
    return failed;
}

/* ------------------------------------------------------- the whole of it */

typedef struct name {
    char *bytes;
    size_t length;
} name;

static int by_bytes(const void *left, const void *right) {
    const name *a = left, *b = right;
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

typedef struct listing {
    const char *prefix;
    size_t length, count, most;
    name *keys; /* owned */
    bool failed;
} listing;

static bool list_key(void *context, const nh_entry *entry) {
    listing *l = context;
    if (entry->key_length < l->length || memcmp(entry->key, l->prefix, l->length) != 0)
        return true;
    if (l->length == 0 && entry->key_length > 0 && entry->key[0] == '\0')
        return true;
    char *copy = malloc(entry->key_length);
    l->failed = !copy;
    if (!copy)
        return false;
    memcpy(copy, entry->key, entry->key_length);
    l->keys[l->count++] = (name){.bytes = copy, .length = entry->key_length};
    return l->count < l->most;
}

nh_doc *nh_shared_keys(nh_shared *shared, const char *prefix, size_t length, size_t most,
                       nh_error *error) {
    if (most > shared->limits.entries)
        most = shared->limits.entries;
    listing l = {.prefix = prefix, .length = length, .most = most};
    nh_writer *writer = nh_writer_create();
    nh_doc *doc = NULL;
    l.keys = malloc((most ? most : 1) * sizeof *l.keys);
    if (!writer || !l.keys)
        l.failed = true;
    else if (most > 0)
        nh_table_each(&shared->table, list_key, &l);
    if (!l.failed) {
        qsort(l.keys, l.count, sizeof *l.keys, by_bytes);
        nh_writer_array(writer, l.count);
        for (size_t i = 0; i < l.count; i++)
            nh_writer_string(writer, l.keys[i].bytes, l.keys[i].length);
        doc = nh_writer_finish(writer, error);
    } else {
        nh_fail_memory(error);
    }
    for (size_t i = 0; i < l.count; i++)
        free(l.keys[i].bytes);
    free(l.keys);
    nh_writer_destroy(writer);
    return doc;
}

void nh_shared_read(nh_shared *shared, nh_shared_figures *figures) {
    nh_table_sweep(&shared->table);
    figures->entries = atomic_load_explicit(&shared->table.entries, memory_order_relaxed);
    figures->bytes = atomic_load_explicit(&shared->table.bytes, memory_order_relaxed);
}

/* -------------------------------------------------------------- life cycle */

nh_shared *nh_shared_create(const nh_shared_limits *limits, const nh_shared_journal *journal,
                            nh_error *error) {
    static const nh_shared_limits defaults = {
        .entries = 100000, .bytes = (size_t)64 << 20, .value = 64 << 10, .key = 256, .list = 10000};
    nh_shared *shared = calloc(1, sizeof *shared);
    if (!shared) {
        nh_fail_memory(error);
        return NULL;
    }
    nh_shared_limits *own = &shared->limits;
    *own = limits ? *limits : defaults;
    own->entries = own->entries ? own->entries : defaults.entries;
    own->bytes = own->bytes ? own->bytes : defaults.bytes;
    own->value = own->value ? own->value : defaults.value;
    own->key = own->key ? own->key : defaults.key;
    own->list = own->list ? own->list : defaults.list;
    if (journal)
        shared->journal = *journal;
    if (nh_table_init(&shared->table, own->entries, own->bytes, error) != NH_OK) {
        free(shared);
        return NULL;
    }
    return shared;
}

void nh_shared_keep(nh_shared *shared, const nh_shared_journal *journal) {
    shared->journal = *journal;
}

void nh_shared_destroy(nh_shared *shared) {
    if (!shared)
        return;
    nh_table_term(&shared->table);
    free(shared);
}
