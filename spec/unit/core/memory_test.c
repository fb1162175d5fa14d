/* memory_test.c — what a message costs while it waits. */
#include <malloc.h>

#include "spec/unit/hub/fake.h"

enum { COUNT = 100000 };

static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void a_queued_message_of_300_bytes_costs_less_than_600_bytes(void) {
    nh_hub *hub = open_hub("{\"queue\":{\"capacity\":100000}}");
    nh_writer *writer = nh_writer_create();
    char body[270];
    memset(body, 'm', sizeof body);
    nh_writer_map(writer, 2);
    nh_writer_cstring(writer, "body");
    nh_writer_string(writer, body, sizeof body);
    nh_writer_cstring(writer, "deliver_at");
    nh_writer_real(writer, 9e9);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    size_t length;
    nh_doc_bytes(doc, &length);
    CHECK(length >= 290 && length <= 310);
    size_t before = in_use();
    for (int i = 0; i < COUNT; i++)
        nh_handle_unref(nh_hub_send_async(hub, doc, NULL));
    CHECK_INT(figure(hub, "queue", "scheduled"), COUNT);
    size_t cost = (in_use() - before) / COUNT;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf("# not measured under a sanitizer, whose allocator it would be\n");
#else
    printf("# a queued message of %zu bytes costs %zu bytes\n", length, cost);
    CHECK(cost >= length);
    CHECK(cost < 600);
#endif
    CHECK(!nh_hub_send_async(hub, doc, NULL)); /* the queue is full */
    CHECK_INT(nh_hub_close(hub, 0), COUNT);
    nh_doc_unref(doc);
    nh_hub_unref(hub);
    (void)cost;
}

int main(void) {
    RUN(a_queued_message_of_300_bytes_costs_less_than_600_bytes);
    return check_end();
}
