/* scenario.c — the calls of a program that uses a hub, each with its failure looked at. Nothing of
 * its own is allocated: what fails is the library's. */
#include "spec/fault/scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "platforms/transports/transports.h"
#include "runtime/core/utf8.h"
#include "runtime/hub.h"
#include "runtime/work/engine.h"

enum { HANDLES_MAX = 16, TEXT_MAX = 2048, SECONDS = 10 };

const nh_engine_ops *nh_engine_entry(void); /* linked in, so that its calls are ours */

typedef struct life {
    const scenario *s;
    nh_hub *hub;
    nh_inbox *inbox;
    nh_handle *handles[HANDLES_MAX];
    bool watched[HANDLES_MAX];
    int completed[HANDLES_MAX];
    size_t count;
    nh_batch *batch;
    int wrong;
} life;

static void wrong(life *l, const char *what, const char *more) {
    printf("wrong: %s%s%s\n", what, *more ? ": " : "", more);
    l->wrong++;
}

/* What failed says so. */
static void must_tell(life *l, const char *what, const nh_error *error) {
    size_t length = strnlen(error->message, sizeof error->message);
    if (error->code == NH_OK || length == 0 || !nh_utf8_valid(error->message, length))
        wrong(l, what, "failed without an error");
}

#define NO_ERROR ((nh_error){.code = NH_OK, .message = ""})

/* --------------------------------------------------------------------- rules */

static const char rules[] =
    "template('page', { title = '[{{ metadata.kind }}] {{ title }}', body = 'So {{ body }}' })\n"
    "route { name = 'handled', match = { kind = 'handled' }, handle = function(message)\n"
    "  store.incr('count')\n"
    "  sleep(0.005)\n"
    "  local result = send(message, message.metadata.to)\n"
    "  store.set('last', { id = message.id, ok = result.ok }, { ttl = 10 })\n"
    "end }\n"
    "route { name = 'templated', match = { kind = 'templated' }, to = 'console://stderr',\n"
    "  template = 'page' }\n"
    "on('complete', function(receipt, message) log.info(receipt.status .. message.id) end)\n"
    "on('retry', function(message) log.info(message.id) end)\n";

static void write_file(const char *folder, const char *name, const char *text) {
    char path[TEXT_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        perror(path), exit(1);
}

void scenario_prepare(const char *folder) {
    char path[TEXT_MAX];
    snprintf(path, sizeof path, "%s/templates", folder);
    mkdir(path, 0700);
    write_file(folder, "rules.lua", rules);
    write_file(folder, "templates/note.email.html", "Subject: {{ title }}\n\n<b>{{ body }}</b>\n");
    write_file(folder, "attached.txt", "a file that is attached\n");
}

/* --------------------------------------------------------------------- calls */

static nh_doc *read_json(life *l, const char *text) {
    nh_error error = NO_ERROR;
    nh_doc *doc = nh_doc_from_json(text, strlen(text), &error);
    if (!doc)
        must_tell(l, "nh_doc_from_json", &error);
    return doc;
}

static bool open_hub(life *l) {
    char text[TEXT_MAX];
    nh_error error = NO_ERROR;
    snprintf(text, sizeof text,
             "{\"rules\":\"%s\",\"workers\":{\"min\":1,\"max\":2},\"log\":{\"to\":\"stderr\","
             "\"level\":\"debug\",\"format\":\"json\"},\"retry\":{\"attempts\":2,\"initial\":0.01,"
             "\"max\":0.01},\"queue\":{\"journal\":\"%s\"},"
             "\"targets\":{\"everybody\":[\"console://stderr\"]}}",
             l->s->folder, l->s->journal);
    nh_doc *config = read_json(l, text);
    if (!config)
        return false;
    l->hub = nh_hub_open_with(config, nh_engine_entry(), nh_transports, &error);
    nh_doc_unref(config);
    if (!l->hub)
        must_tell(l, "nh_hub_open", &error);
    return l->hub != NULL;
}

static nh_handle *send_text(life *l, const char *text) {
    nh_error error = NO_ERROR;
    nh_doc *doc = read_json(l, text);
    nh_handle *handle = doc ? nh_hub_send_async(l->hub, doc, &error) : NULL;
    nh_doc_unref(doc);
    if (!doc)
        return NULL;
    if (!handle) {
        must_tell(l, "nh_hub_send_async", &error);
        return NULL;
    }
    size_t index = l->count++;
    l->handles[index] = handle;
    l->watched[index] = l->inbox && !nh_inbox_watch_handle(l->inbox, handle, index);
    return handle;
}

/* The text with an address in the place of each "@". */
static void put_address(char to[TEXT_MAX], const char *text, const char *address) {
    size_t length = 0;
    for (; *text && length + strlen(address) + 1 < TEXT_MAX; text++)
        length += (size_t)snprintf(to + length, TEXT_MAX - length, "%.*s", *text == '@' ? 64 : 1,
                                   *text == '@' ? address : text);
}

static void send_all(life *l) {
    static const char *const messages[] = {
        "{\"id\":\"web\",\"title\":\"Title\",\"body\":\"Body\",\"targets\":[\"json://@/x\"]}",
        "{\"id\":\"form\",\"title\":\"Title\",\"targets\":[\"form://@/x\",\"xml://@/x\"]}",
        "{\"id\":\"handled\",\"title\":\"T\",\"metadata\":{\"kind\":\"handled\","
        "\"to\":\"json://@/y\"}}",
        "{\"id\":\"refused\",\"title\":\"T\",\"targets\":[\"json://127.0.0.1:1/\"]}",
        "{\"id\":\"templated\",\"title\":\"T\",\"body\":\"B\",\"metadata\":{\"kind\":\"templated\"}"
        "}",
        "{\"id\":\"named\",\"title\":\"T\",\"targets\":[\"everybody\",\"nobody\"]}",
        "{\"id\":\"keyed\",\"title\":\"T\",\"dedupe_key\":\"k\",\"targets\":[\"everybody\"]}",
    };
    char text[TEXT_MAX];
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        put_address(text, messages[i], l->s->http);
        send_text(l, text);
    }
    snprintf(text, sizeof text,
             "{\"id\":\"mail\",\"title\":\"Gr\\u00fc\\u00dfe\",\"body\":\"**Body**\",\"format\":"
             "\"markdown\",\"targets\":[\"mailto://%s/to@example.com?from=a@example.com"
             "&mode=insecure\"],\"attachments\":[{\"name\":\"a.txt\",\"content\":\"text\"},"
             "{\"path\":\"%s/attached.txt\"}]}",
             l->s->smtp, l->s->folder);
    send_text(l, text);
}

static void send_batch(life *l) {
    enum { COUNT = 3 };
    char text[TEXT_MAX];
    nh_doc *docs[COUNT] = {NULL};
    nh_error error = NO_ERROR;
    bool all = true;
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text,
                 "{\"id\":\"b%d\",\"title\":\"T\",\"targets\":[\"json://%s/b\"]}", i, l->s->http);
        docs[i] = read_json(l, text);
        all = all && docs[i];
    }
    if (all) {
        l->batch = nh_hub_send_batch(l->hub, (const nh_doc *const *)docs, COUNT, &error);
        if (!l->batch)
            must_tell(l, "nh_hub_send_batch", &error);
    }
    for (int i = 0; i < COUNT; i++)
        nh_doc_unref(docs[i]);
}

static void cancel_one(life *l) {
    nh_handle *later = send_text(l, "{\"id\":\"later\",\"title\":\"T\",\"deliver_at\":9000000000,"
                                    "\"targets\":[\"console://stderr\"]}");
    if (later && !nh_handle_cancel(later))
        wrong(l, "nh_handle_cancel", "a message that waits was not cancelled");
}

static void ask(life *l) {
    nh_error error = NO_ERROR;
    nh_doc_unref(nh_hub_stats(l->hub));
    nh_doc_unref(nh_hub_health(l->hub));
    nh_free(nh_hub_metrics(l->hub, NULL));
    nh_doc *platforms = nh_hub_platforms(l->hub, &error);
    if (!platforms)
        must_tell(l, "nh_hub_platforms", &error);
    nh_doc_unref(platforms);
    error = NO_ERROR;
    if (nh_hub_reload(l->hub, &error) != NH_OK)
        must_tell(l, "nh_hub_reload", &error);
}

/* -------------------------------------------------------------------- the end */

static void must_have_settled(life *l, nh_handle *handle) {
    nh_error error = NO_ERROR;
    nh_receipt *receipt = nh_handle_wait(handle, SECONDS, &error);
    if (!receipt) {
        if (nh_handle_state(handle) != NH_SETTLED)
            wrong(l, "an accepted message does not settle", nh_handle_id(handle));
        else /* no memory was left for a receipt */
            must_tell(l, "nh_handle_wait", &error);
        return;
    }
    nh_receipt *again = nh_handle_receipt(handle);
    if (again != receipt)
        wrong(l, "a message settled twice", nh_handle_id(handle));
    nh_doc_unref(nh_receipt_doc(receipt));
    nh_receipt_unref(again);
    nh_receipt_unref(receipt);
}

/* COMPLETE is told once to each watch. */
static void count_events(life *l) {
    nh_event event;
    while (l->inbox && nh_inbox_next(l->inbox, 0, &event) == NH_OK)
        if (event.kinds & NH_EVENT_COMPLETE)
            l->completed[event.tag]++;
    for (size_t i = 0; i < l->count; i++)
        if (l->completed[i] != l->watched[i])
            wrong(l, "the end was not told once", nh_handle_id(l->handles[i]));
}

static void end(life *l) {
    for (size_t i = 0; i < l->count; i++)
        must_have_settled(l, l->handles[i]);
    for (size_t i = 0; l->batch && i < nh_batch_count(l->batch); i++)
        must_have_settled(l, nh_batch_handle(l->batch, i));
    if (nh_hub_close(l->hub, SECONDS) != 0)
        wrong(l, "nh_hub_close", "left messages over that had settled");
    count_events(l);
    for (size_t i = 0; i < l->count; i++)
        nh_handle_unref(l->handles[i]);
    nh_batch_unref(l->batch);
}

/* What the first life buried is looked at, sent again or let go in another. */
static void bury(life *l) {
    nh_error error = NO_ERROR;
    uint64_t count = 0;
    if (!open_hub(l))
        return;
    nh_doc *letters = nh_hub_dead_letters(l->hub, 0, 10, &error);
    if (!letters)
        must_tell(l, "nh_hub_dead_letters", &error);
    const nh_value *first = letters ? nh_value_at(nh_doc_root(letters), 0) : NULL;
    uint64_t number = (uint64_t)nh_value_int(nh_value_get(first, "number"), 0);
    error = NO_ERROR;
    nh_doc *letter = nh_hub_dead_letter(l->hub, number, &error);
    if (!letter)
        must_tell(l, "nh_hub_dead_letter", &error);
    error = NO_ERROR;
    if (nh_hub_retry_dead(l->hub, number, &count, &error) != NH_OK)
        must_tell(l, "nh_hub_retry_dead", &error);
    error = NO_ERROR;
    if (nh_hub_discard_dead(l->hub, 0, &count, &error) != NH_OK)
        must_tell(l, "nh_hub_discard_dead", &error);
    nh_doc_unref(letter);
    nh_doc_unref(letters);
    nh_hub_close(l->hub, SECONDS);
    nh_hub_unref(l->hub);
}

int scenario_run(const scenario *s) {
    life l = {.s = s};
    if (!open_hub(&l))
        return l.wrong;
    l.inbox = nh_inbox_create();
    if (l.inbox)
        nh_inbox_fd(l.inbox);
    send_all(&l);
    send_batch(&l);
    cancel_one(&l);
    ask(&l);
    end(&l);
    nh_inbox_unref(l.inbox);
    nh_hub_unref(l.hub);
    bury(&l);
    return l.wrong;
}
