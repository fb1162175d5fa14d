/* http_response_fuzz.c — bytes that a server answers with: however they are cut, the verdict, the
 * status, the header and the body are the same, and nothing goes over the caps. The first byte is
 * the request: an odd one was a HEAD. */
#include "platforms/transports/http_reply.h"
#include "spec/fuzz/fuzz.h"

enum { HEADER_MOST = 2048, BODY_MOST = 1024 };

static nh_http_verdict read_whole(nh_http_reply *reply, const char *bytes, size_t size,
                                  size_t piece, size_t *used) {
    nh_http_verdict verdict = NH_HTTP_MORE;
    *used = 0;
    while (*used < size && verdict == NH_HTTP_MORE) {
        size_t length = size - *used < piece ? size - *used : piece, taken = 0;
        char *copy = malloc(length); /* of its own size: a sanitizer sees a read past its end */
        MUST(copy);
        memcpy(copy, bytes + *used, length);
        verdict = nh_http_reply_put(reply, copy, length, &taken);
        free(copy);
        MUST(taken <= length && (verdict != NH_HTTP_MORE || taken == length));
        *used += taken;
    }
    return verdict == NH_HTTP_MORE ? nh_http_reply_end(reply) : verdict;
}

static void must_be_bounded(const nh_http_reply *reply, nh_http_verdict verdict) {
    MUST(reply->header.lines.length <= HEADER_MOST && reply->body.length <= BODY_MOST);
    MUST(verdict != NH_HTTP_MORE && (verdict == NH_HTTP_BROKEN) == (reply->fault != NULL));
    MUST(verdict != NH_HTTP_DONE || (reply->status >= 200 && reply->status <= 999));
    MUST(!reply->memory && (!reply->keep || verdict == NH_HTTP_DONE));
}

/* What a transport hands on is a document that can be written. */
static void must_be_written(nh_http_reply *reply) {
    nh_text scratch;
    nh_text_init(&scratch, SIZE_MAX);
    nh_writer *writer = nh_writer_create();
    MUST(writer && nh_http_header_write(&reply->header, &scratch, writer));
    nh_doc *doc = nh_writer_finish(writer, NULL);
    MUST(doc && nh_value_kind(nh_doc_root(doc)) == NH_MAP);
    nh_doc_unref(doc);
    nh_writer_destroy(writer);
    nh_text_term(&scratch);
}

static bool same(const nh_text *a, const nh_text *b) {
    return a->length == b->length && (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    const size_t pieces[] = {SIZE_MAX, 1, 2, 7};
    nh_http_reply whole, cut;
    size_t used, used_again;
    nh_http_reply_init(&whole, HEADER_MOST, BODY_MOST);
    nh_http_reply_init(&cut, HEADER_MOST, BODY_MOST);
    nh_http_reply_clear(&whole, data[0] & 1);
    nh_http_verdict verdict =
        read_whole(&whole, (const char *)data + 1, size - 1, pieces[0], &used);
    must_be_bounded(&whole, verdict);
    if (verdict == NH_HTTP_DONE)
        must_be_written(&whole);
    for (size_t i = 1; i < sizeof pieces / sizeof *pieces; i++) {
        nh_http_reply_clear(&cut, data[0] & 1);
        nh_http_verdict again =
            read_whole(&cut, (const char *)data + 1, size - 1, pieces[i], &used_again);
        must_be_bounded(&cut, again);
        MUST(again == verdict);
        if (verdict != NH_HTTP_DONE)
            continue;
        MUST(used == used_again && whole.status == cut.status && whole.keep == cut.keep);
        MUST(same(&whole.header.lines, &cut.header.lines) && same(&whole.body, &cut.body));
    }
    nh_http_reply_term(&whole);
    nh_http_reply_term(&cut);
    return 0;
}
