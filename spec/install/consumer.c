/* A program of a stranger: opens a hub with defaults, sends one message to the console (standard
 * error, so that standard output stays ours) and prints the library's version and the outcome. */
#include <notifyhub.h>
#include <stdio.h>
#include <string.h>

static const char text[] = "{\"title\": \"installed\", \"targets\": [\"console://stderr\"]}";

int main(void) {
    nh_error error = {.code = NH_OK};
    nh_doc *message = NULL;
    nh_handle *handle = NULL;
    nh_receipt *receipt = NULL;
    nh_hub *hub = nh_hub_open(NULL, &error);

    if (hub)
        message = nh_doc_from_json(text, strlen(text), &error);
    if (message)
        handle = nh_hub_send_async(hub, message, &error);
    if (handle)
        receipt = nh_handle_wait(handle, 10.0, &error);
    if (receipt) {
        nh_doc *doc = nh_receipt_doc(receipt);
        char *json = nh_doc_to_json(doc);
        fprintf(stderr, "%s\n", json ? json : "");
        nh_free(json);
        nh_doc_unref(doc);
        printf("%s %s\n", nh_version(), nh_status_name(nh_receipt_status(receipt)));
    } else {
        fprintf(stderr, "%s: %s\n", nh_err_name(error.code), error.message);
    }
    int status = receipt ? 0 : 1;

    nh_receipt_unref(receipt);
    nh_handle_unref(handle);
    nh_doc_unref(message);
    if (hub)
        nh_hub_close(hub, 5.0);
    nh_hub_unref(hub);
    return status;
}
