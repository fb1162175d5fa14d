/* hub_rules.c — questions about rules that need no hub: check, test, explain.
 *
 * Thread: any. A message is checked as a hub that accepts it would; all else is the engine's.
 */
#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/message.h"
#include "runtime/notifyhub.h"
#include "runtime/work/engine_load.h"

enum { EXPLAIN_BYTES = 32 << 20 };

static nh_doc *ask(const char *question, const nh_doc *config, const nh_doc *argument,
                   nh_error *error) {
    const nh_engine_ops *engine = nh_engine_load(error);
    return engine ? engine->ask(question, config, argument, error) : NULL;
}

nh_doc *nh_rules_check(const nh_doc *config, nh_error *error) {
    return ask("check", config, NULL, error);
}

nh_doc *nh_rules_test(const nh_doc *config, nh_error *error) {
    return ask("test", config, NULL, error);
}

static nh_err check_message(const nh_doc *doc, nh_error *error) {
    nh_error fault;
    nh_message *message =
        nh_message_create(nh_doc_read(doc), EXPLAIN_BYTES, nh_wall(), NULL, &fault);
    if (!message)
        return nh_fail(error, fault.code, "%s", fault.message);
    nh_message_unref(message);
    return NH_OK;
}

static nh_err check_one(const nh_value *value, nh_error *error) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return nh_fail_memory(error);
    nh_writer_value(writer, value);
    nh_doc *doc = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    nh_err failed = doc ? check_message(doc, error) : NH_E_INTERNAL;
    nh_doc_unref(doc);
    return failed;
}

nh_doc *nh_rules_explain(const nh_doc *config, const nh_doc *message, nh_error *error) {
    const nh_value *root = nh_doc_root(message);
    size_t count = nh_value_kind(root) == NH_ARRAY ? nh_value_count(root) : 0;
    if (nh_value_kind(root) != NH_ARRAY && check_message(message, error) != NH_OK)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        nh_error fault;
        if (check_one(nh_value_at(root, i), &fault) != NH_OK) {
            nh_fail(error, fault.code, "message %zu: %.900s", i + 1, fault.message);
            return NULL;
        }
    }
    return ask("explain", config, message, error);
}
