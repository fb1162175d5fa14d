/* tree.h — what a document is made of: nodes, built of packed bytes. For doc.c and writer.c. */
#ifndef NH_CORE_TREE_H
#define NH_CORE_TREE_H

#include <stdatomic.h>

#include "runtime/notifyhub.h"

enum { NH_SECRET_TYPE = 1 }; /* of the ext that is a secret; every other ext reads as nil */

/* A value. A nh_value is one of these. */
typedef struct nh_node {
    uint8_t kind;   /* nh_kind */
    bool big;       /* an integer over INT64_MAX: `whole` has its bits */
    uint32_t count; /* bytes of a text; elements of an array, pairs of a map */
    union {
        bool truth;
        int64_t whole;
        double real;
        const char *bytes;              /* into the packed form */
        const struct nh_node *children; /* side by side; a map's are key, value, key, value … */
    };
} nh_node;

/* One allocation: the tree, and behind it the packed bytes. */
struct nh_doc {
    atomic_uint refs;
    size_t length;
    const char *bytes;
    nh_node nodes[]; /* the root first */
};

/* Counts the values of one document that fills the bytes exactly. Errors: NH_E_INVALID. */
nh_err nh_tree_scan(const void *bytes, size_t length, size_t *values, nh_error *error);
/* Builds the tree of bytes that scan has passed, or a writer has packed; `nodes` has room for as
 * many as they hold values. */
void nh_tree_build(nh_node *nodes, const char *bytes, size_t length);

#endif
