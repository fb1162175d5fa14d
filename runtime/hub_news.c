/* hub_news.c — what a hub tells beside receipts: its log, and the news that a program reads through
 * an inbox: changes of breakers, and the log's lines when they are to go there.
 *
 * Thread: any. Nothing of this waits for a reader.
 */
#include "runtime/hub_parts.h"

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"

enum { NEWS_MOST = 1000 };

static const char *const levels[] = {"error", "warn", "info", "debug"};

/* ------------------------------------------------------------------ telling */

static nh_writer *begin(const char *kind, size_t pairs) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_writer_map(writer, pairs + 2);
    nh_writer_cstring(writer, "kind");
    nh_writer_cstring(writer, kind);
    nh_writer_cstring(writer, "at");
    nh_writer_real(writer, nh_wall());
    return writer;
}

static void end(nh_hub *hub, nh_writer *writer) {
    nh_news_add(hub->news, writer ? nh_writer_finish(writer, NULL) : NULL);
    nh_writer_destroy(writer);
}

static void put_text(nh_writer *writer, const char *name, const char *text) {
    nh_writer_cstring(writer, name);
    nh_writer_cstring(writer, text);
}

/* The log's callback: its lines are UTF-8. */
static void add_line(void *context, nh_log_level level, const char *line, size_t length) {
    nh_writer *writer = begin("log", 2);
    if (writer) {
        put_text(writer, "level", levels[level]);
        nh_writer_cstring(writer, "line");
        nh_writer_string(writer, line, length);
    }
    end(context, writer);
}

void nh_hub_breaker_changed(void *user, const nh_breaker_change *change) {
    nh_hub *hub = user;
    const char *from = nh_breaker_state_name(change->from);
    const char *to = nh_breaker_state_name(change->to);
    nh_log_write(hub->log, change->to == NH_BREAKER_OPENED ? NH_LOG_WARN : NH_LOG_INFO,
                 "circuit breaker", nh_log_text("host", change->key), nh_log_text("from", from),
                 nh_log_text("to", to), nh_log_real("seconds", change->seconds));
    nh_writer *writer = begin("breaker", 4);
    if (writer) {
        put_text(writer, "host", change->key);
        put_text(writer, "from", from);
        put_text(writer, "to", to);
        nh_writer_cstring(writer, "seconds");
        nh_writer_real(writer, change->seconds);
    }
    end(hub, writer);
}

void nh_hub_tell_ended(nh_hub *hub, const nh_handle *handle, nh_err reason) {
    nh_log_write(hub->log, reason == NH_E_CANCELLED ? NH_LOG_INFO : NH_LOG_WARN, "message failed",
                 nh_log_text("id", nh_handle_id(handle)), nh_log_text("code", nh_err_name(reason)),
                 nh_log_text("error", nh_err_text(reason)));
}

/* ------------------------------------------------------------------ opening */

/* What cannot be read here is told by the engine, which checks the configuration. */
nh_err nh_hub_open_log(nh_hub *hub, const nh_doc *config, nh_error *error) {
    const nh_value *log = nh_value_get(nh_doc_root(config), "log");
    const nh_value *to = nh_value_get(log, "to");
    nh_log_options options = {.level = NH_LOG_WARN, .write = add_line, .context = hub};
    hub->news = nh_news_create(NEWS_MOST);
    if (!hub->news)
        return nh_fail_memory(error);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (nh_value_is(nh_value_get(log, "level"), levels[i]))
            options.level = (nh_log_level)i;
    options.format = nh_value_is(nh_value_get(log, "format"), "json") ? NH_LOG_JSON : NH_LOG_LOGFMT;
    options.sink = nh_value_is(to, "stderr")    ? NH_LOG_STDERR
                   : nh_value_is(to, "program") ? NH_LOG_CALLBACK
                                                : NH_LOG_NONE;
    hub->log = nh_log_create(&options, error);
    return hub->log ? NH_OK : NH_E_INTERNAL;
}

/* ------------------------------------------------------------------ reading */

nh_err nh_inbox_watch_hub(nh_inbox *inbox, nh_hub *hub, uint64_t tag) {
    return nh_hub_forked(hub) ? NH_E_CLOSED : nh_news_watch(hub->news, inbox, tag);
}

nh_doc *nh_hub_news(nh_hub *hub, uint64_t *cursor) {
    return nh_hub_forked(hub) ? NULL : nh_news_next(hub->news, cursor);
}
