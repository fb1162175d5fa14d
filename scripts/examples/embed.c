/* embed.c — NotifyHub in a C program: sends one message to the URL given and prints the receipt.
 *
 *   cc embed.c $(pkg-config --cflags --libs notifyhub) -o embed && ./embed json://127.0.0.1:8080/c
 */
#include <notifyhub.h>
#include <stdio.h>

/* { "title": …, "targets": [url] } */
static nh_doc *make_message(const char *url, nh_error *error) {
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 2);
    nh_writer_cstring(writer, "title");
    nh_writer_cstring(writer, "Hello from C");
    nh_writer_cstring(writer, "targets");
    nh_writer_array(writer, 1);
    nh_writer_cstring(writer, url);
    nh_doc *message = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    return message;
}

int main(int argc, char **argv) {
    nh_error error = {.message = "usage: embed URL"};
    nh_hub *hub = argc == 2 ? nh_hub_open(NULL, &error) : NULL; /* NULL: all defaults */
    nh_doc *message = hub ? make_message(argv[1], &error) : NULL;
    nh_handle *handle = message ? nh_hub_send_async(hub, message, &error) : NULL;
    nh_receipt *receipt = handle ? nh_handle_wait(handle, 10.0, &error) : NULL;
    bool delivered = receipt && nh_receipt_status(receipt) == NH_DELIVERED;
    if (receipt) {
        nh_doc *doc = nh_receipt_doc(receipt);
        char *json = nh_doc_to_json(doc);
        puts(json ? json : "out of memory");
        nh_free(json);
        nh_doc_unref(doc);
    } else {
        fprintf(stderr, "%s\n", error.message);
    }
    nh_receipt_unref(receipt);
    nh_handle_unref(handle);
    nh_doc_unref(message);
    nh_hub_unref(hub); /* the last reference closes it */
    return delivered ? 0 : argc == 2 ? 1 : 2;
}
