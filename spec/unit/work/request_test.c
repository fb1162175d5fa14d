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

int main(void) {
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
