/* tree.c — from MessagePack to a tree of nodes, in two walks without recursion.
 *
 * Foreign bytes are walked first to check and to count them: nothing is allocated for bytes that
 * are refused. The second walk builds, and believes what it reads. Thread: any; it keeps nothing.
 */
#include "runtime/core/tree.h"

#include "runtime/core/error.h"
#include "runtime/core/reader.h"

enum { UNUSED = 0xC1, STR8 = 0xD9, NEGATIVE = 0xE0 }; /* lead bytes */

/* `open` counts the values still to come at each level. */
nh_err nh_tree_scan(const void *bytes, size_t length, size_t *values, nh_error *error) {
    const unsigned char *p = bytes, *end = p + length;
    uint64_t open[NH_DOC_DEPTH_MAX];
    size_t depth = 0;
    *values = 0;
    open[0] = 1;
    for (;;) {
        while (open[depth] == 0)
            if (depth-- == 0)
                return p == end ? NH_OK : nh_fail(error, NH_E_INVALID, "bytes after a document");
        open[depth]--;
        ++*values;
        nh_token t;
        const unsigned char *next = nh_token_read(p, end, &t);
        if (!next && p < end && *p == UNUSED)
            return nh_fail(error, NH_E_INVALID, "a document has an unknown type byte");
        if (!next)
            return nh_fail(error, NH_E_INVALID, "a document ends too early");
        p = next;
        if (!t.container)
            continue;
        if (depth == NH_DOC_DEPTH_MAX - 1)
            return nh_fail(error, NH_E_INVALID, "a document is nested more than %d levels deep",
                           NH_DOC_DEPTH_MAX);
        open[++depth] = t.count;
    }
}

static nh_node text_node(const unsigned char *bytes, uint32_t count) {
    return (nh_node){.kind = NH_STRING, .count = count, .bytes = (const char *)bytes};
}

/* Without its children. */
static nh_node node_of(const nh_token *t) {
    nh_datum datum = nh_token_datum(t);
    return (nh_node){.kind = (uint8_t)datum.kind,
                     .big = datum.big,
                     .count = (uint32_t)datum.count,
                     .whole = datum.integer};
}

/* The kinds that most of a document is are read here and now, the others by way of a token. */
void nh_tree_build(nh_node *nodes, const char *bytes, size_t length) {
    struct {
        nh_node *next;
        uint64_t left;
    } open[NH_DOC_DEPTH_MAX];
    const unsigned char *p = (const unsigned char *)bytes, *end = p + length;
    nh_node *unused = nodes + 1, *next = nodes;
    uint64_t left = 1;
    size_t depth = 0;
    for (;;) {
        while (left == 0) {
            if (depth == 0)
                return;
            next = open[--depth].next;
            left = open[depth].left;
        }
        left--;
        nh_node *node = next++;
        unsigned char lead = *p;
        if ((lead & 0xE0) == 0xA0) {
            *node = text_node(p + 1, lead & 0x1F);
            p += 1 + (lead & 0x1F);
            continue;
        }
        if (lead == STR8) {
            *node = text_node(p + 2, p[1]);
            p += 2 + p[1];
            continue;
        }
        if (lead < 0x80 || lead >= NEGATIVE) {
            *node = (nh_node){.kind = NH_INT, .whole = (signed char)lead};
            p++;
            continue;
        }
        nh_token t = {0};
        p = nh_token_read(p, end, &t);
        *node = node_of(&t);
        if (!t.container)
            continue;
        node->children = unused;
        open[depth].next = next;
        open[depth++].left = left;
        next = unused;
        left = t.count;
        unused += t.count;
    }
}
