/* The choke point: what may hold a control character on its way to a transport, and what may not.
 */
#include <string.h>

#include "runtime/work/transport.h"
#include "spec/unit/check.h"

static nh_err checked(const char *json) {
    nh_error error = {0};
    nh_doc *doc = nh_doc_from_json(json, strlen(json), &error);
    nh_err result = doc ? nh_request_check(nh_doc_root(doc), &error) : error.code;
    nh_doc_unref(doc);
    return result;
}

static nh_request *made(const char *json, nh_error *error) {
    nh_doc *doc = nh_doc_from_json(json, strlen(json), error);
    return doc ? nh_request_create(doc, true, error) : NULL;
}

static int forgotten;

static void forget(void *read) {
    CHECK(read == &forgotten);
    forgotten++;
}

static void is_checked_when_it_is_made_and_forgotten_with_its_last_user(void) {
    nh_error error = {0};
    CHECK(made("{\"url\":\"http://x/\\n\"}", &error) == NULL);
    CHECK_INT(error.code, NH_E_INVALID);
    CHECK_STR(error.message, "url: control character 0x0A at byte 10 is not allowed there");
    CHECK(made("[]", &error) == NULL);
    nh_request *request = made("{\"url\":\"http://x/\"}", &error);
    CHECK(request && request->bodied);
    request->read = &forgotten;
    request->forget = forget;
    request->refs++;
    nh_request_unref(request);
    CHECK_INT(forgotten, 0);
    nh_request_unref(request);
    CHECK_INT(forgotten, 1);
    nh_request_unref(NULL);
}

int main(void) {
    is_checked_when_it_is_made_and_forgotten_with_its_last_user();
    CHECK_INT(checked("{\"body\":\"a\\r\\nb\",\"form\":{\"x\":\"a\\nb\"}}"), NH_OK);
    CHECK_INT(checked("{\"attachments\":[{\"content\":\"a\\u0000\"}]}"), NH_OK);
    CHECK_INT(checked("{\"url\":\"http://x/\\r\\n\"}"), NH_E_INVALID);
    CHECK_INT(checked("{\"headers\":{\"X\":\"a\\nb\"}}"), NH_E_INVALID);
    CHECK_INT(checked("{\"headers\":{\"text\":\"a\\r\\nX: 1\"}}"), NH_E_INVALID);
    CHECK_INT(checked("{\"headers\":[{\"name\":\"a\\u007f\"}]}"), NH_E_INVALID);
    CHECK_INT(checked("{\"a\\nb\":1}"), NH_E_INVALID);
    CHECK_INT(checked("[]"), NH_E_INVALID);
    return check_end();
}
