/* item.h — what a key of the shared dictionary holds, and its way from a document and back. */
#ifndef NH_STORE_ITEM_H
#define NH_STORE_ITEM_H

#include <stdatomic.h>

#include "runtime/store/shared.h"

enum { NH_NUMBER_BYTES = 9 }; /* of a packed number */

/* Packed bytes that a reader may go on holding after the lock. */
typedef struct nh_blob {
    atomic_uint refs;
    uint32_t length;
    struct nh_blob *next; /* in its list */
    char bytes[];
} nh_blob;

nh_blob *nh_blob_create(const void *bytes, size_t length); /* NULL when out of memory */
nh_blob *nh_blob_ref(nh_blob *blob);
void nh_blob_unref(nh_blob *blob); /* NULL is allowed */

typedef enum nh_item_kind { NH_ITEM_NUMBER, NH_ITEM_VALUE, NH_ITEM_LIST } nh_item_kind;

typedef struct nh_list {
    nh_blob *head, *tail;
    size_t count, bytes; /* bytes: of the items, packed */
} nh_list;

/* What an entry holds; owns its blobs. */
typedef struct nh_item {
    nh_item_kind kind;
    union {
        nh_number number;
        nh_blob *value;
        nh_list list; /* never empty */
    };
} nh_item;

/* A copy of the document, its maps in the order of their keys. Errors: NH_E_INVALID (nil, a secret,
 * a key that is no string, nested too deep), NH_E_TOO_LARGE (over `most` packed bytes),
 * NH_E_INTERNAL. */
nh_err nh_item_from_doc(nh_item *item, const nh_doc *doc, size_t most, nh_error *error);
/* The same as a list of one. */
nh_err nh_item_list_of(nh_item *item, const nh_doc *doc, size_t most, nh_error *error);
void nh_item_free(nh_item *item);

/* Whether two items that are no lists hold the same: numbers by value, the rest by content. */
bool nh_item_same(const nh_item *a, const nh_item *b);

void nh_number_pack(const nh_number *number, unsigned char out[NH_NUMBER_BYTES]);
/* Owned documents; NULL when out of memory. */
nh_doc *nh_number_doc(const nh_number *number, nh_error *error);
nh_doc *nh_blob_doc(const nh_blob *blob, nh_error *error);
nh_doc *nh_list_doc(const nh_list *list, nh_error *error); /* ≤ NH_LIST_BYTES_MOST */

#define NH_LIST_BYTES_MOST (NH_DOC_BYTES_MAX - 5)

#endif
