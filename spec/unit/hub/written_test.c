/* written_test.c — what a writer holds is sent, and a receipt read, in place. */
#include "spec/unit/hub/fake.h"

/* What is open is left so. */
static void write_message(nh_writer *writer, const char *field) {
    nh_writer_clear(writer);
    nh_writer_open_map(writer);
    nh_writer_cstring(writer, field);
    nh_writer_cstring(writer, "done");
}

static void a_message_is_sent_as_it_was_written(void) {
    nh_hub *hub = open_hub("{}");
    nh_writer *writer = nh_writer_create();
    nh_error error;
    write_message(writer, "title");
    CHECK(!nh_hub_send_written(hub, writer, NULL, &error));
    CHECK_INT(error.code, NH_E_INVALID); /* it is not whole */
    nh_writer_close(writer);
    nh_handle *handle = nh_hub_send_written(hub, writer, NULL, &error);
    nh_receipt *receipt = handle ? nh_handle_wait(handle, 10, &error) : NULL;
    if (CHECK(receipt)) {
        size_t length;
        nh_doc *doc = nh_receipt_doc(receipt);
        const char *bytes = nh_doc_bytes(doc, &length);
        nh_reader told = {NULL, NULL};
        CHECK(nh_handle_read(handle, &told));
        CHECK((size_t)(told.end - told.at) == length && memcmp(told.at, bytes, length) == 0);
        nh_doc_unref(doc);
    }
    nh_receipt_unref(receipt);
    nh_handle_unref(handle);

    nh_draft *draft = nh_hub_draft(hub, 3, &error);
    for (int i = 0; i < 2; i++)
        CHECK_INT(nh_draft_add_written(draft, writer, &error), NH_OK);
    write_message(writer, "titel");
    CHECK_INT(nh_draft_add_written(draft, writer, &error), NH_E_INVALID);
    nh_writer_close(writer);
    CHECK_INT(nh_draft_add_written(draft, writer, &error), NH_E_INVALID);
    CHECK_STR(error.message, "messages[3].titel: unknown field (did you mean 'title'?)");
    nh_draft_destroy(draft);
    CHECK_INT(figure(hub, "", "accepted"), 1);

    nh_writer_destroy(writer);
    nh_hub_unref(hub);
}

static void nothing_is_read_before_a_message_has_settled(void) {
    nh_hub *hub = open_hub("{}");
    nh_handle *handle = send_json(hub, "{\"title\":\"hold\"}");
    nh_reader told;
    CHECK(!nh_handle_read(handle, &told));
    nh_handle_cancel(handle);
    nh_receipt_unref(nh_handle_wait(handle, 10, NULL));
    CHECK(nh_handle_read(handle, &told));
    nh_handle_unref(handle);
    nh_hub_unref(hub);
}

int main(void) {
    RUN(a_message_is_sent_as_it_was_written);
    RUN(nothing_is_read_before_a_message_has_settled);
    return check_end();
}
