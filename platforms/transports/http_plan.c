/* Takes a request apart. Thread: the worker's. Costs a pass over the document, and one allocation:
 * the plan, and behind it its head and the name of its origin. It holds nothing of an instance, so
 * it may outlive the one that made it.
 */
#include "platforms/transports/http_plan.h"

#include <stdlib.h>
#include <string.h>

#include "platforms/transports/http_pool.h"
#include "platforms/transports/http_write.h"

/* What our own HTTP/1.1 does not speak. */
static bool is_suited(const nh_http_request *request, const nh_http_url *url) {
    bool plain_proxy = request->proxy.length > 0 && !url->tls; /* asks for absolute URLs */
    return !request->http2 && !request->multipart && !plain_proxy &&
           !nh_span_is(request->method, "connect");
}

/* Writes head and origin into the instance's texts, when our own way will do. */
static nh_err write_parts(nh_http *http, nh_http_plan *plan, nh_error *error) {
    const nh_http_request *request = &plan->request;
    nh_text_clear(&http->head);
    nh_text_clear(&http->scratch);
    if (!nh_http_url_split(request->url, &plan->url) || !is_suited(request, &plan->url))
        return NH_OK;
    switch (nh_http_write_head(http, request, &plan->url, &http->head, error)) {
    case NH_HTTP_UNSUITED:
        nh_text_clear(&http->head);
        return NH_OK;
    case NH_HTTP_REFUSED:
        return error->code;
    case NH_HTTP_WRITTEN:
        break;
    }
    plan->direct = true;
    return nh_http_origin_name(&http->scratch, request, &plan->url)
               ? NH_OK
               : nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

static nh_span keep(char *to, const nh_text *text) {
    if (text->length > 0)
        memcpy(to, text->bytes, text->length);
    return (nh_span){to, text->length};
}

static const nh_http_plan *make(nh_http *http, nh_request *request, nh_error *error) {
    nh_http_plan plan = {.direct = false};
    if (nh_http_request_read(request, &plan.request, error) != NH_OK ||
        write_parts(http, &plan, error) != NH_OK)
        return NULL;
    nh_http_plan *kept = malloc(sizeof plan + http->head.length + http->scratch.length);
    if (!kept) {
        nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
        return NULL;
    }
    *kept = plan;
    kept->head = keep((char *)(kept + 1), &http->head);
    kept->origin = keep((char *)(kept + 1) + kept->head.length, &http->scratch);
    kept->hash = nh_span_hash(kept->origin);
    request->read = kept;
    request->forget = free;
    return kept;
}

const nh_http_plan *nh_http_plan_of(nh_http *http, nh_request *request, nh_error *error) {
    return request->read ? request->read : make(http, request, error);
}
