/* sink_ids.c — the set of the ids that arrived: hashes of 64 bits in an open table that doubles
 * when it is half full. Two of a million ids have the same hash once in forty million runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec/bench/sink.h"

enum { FIRST_SIZE = 1 << 12 };

struct sink_ids {
    uint64_t *hashes; /* 0: free */
    size_t size, used;
};

static uint64_t hash_of(const char *id, size_t length) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)id[i]) * 1099511628211u;
    return hash ? hash : 1;
}

static bool insert(uint64_t *hashes, size_t size, uint64_t hash) {
    size_t at = (size_t)(hash ^ hash >> 32) & (size - 1);
    while (hashes[at] && hashes[at] != hash)
        at = (at + 1) & (size - 1);
    bool fresh = !hashes[at];
    hashes[at] = hash;
    return fresh;
}

static uint64_t *table(size_t size) {
    uint64_t *hashes = calloc(size, sizeof *hashes);
    if (!hashes) {
        fprintf(stderr, "sink: out of memory\n");
        exit(1);
    }
    return hashes;
}

sink_ids *sink_ids_create(void) {
    sink_ids *ids = calloc(1, sizeof *ids);
    if (!ids)
        return NULL;
    ids->size = FIRST_SIZE;
    ids->hashes = table(ids->size);
    return ids;
}

void sink_ids_destroy(sink_ids *ids) {
    if (ids)
        free(ids->hashes);
    free(ids);
}

static void grow(sink_ids *ids) {
    uint64_t *larger = table(ids->size * 2);
    for (size_t i = 0; i < ids->size; i++)
        if (ids->hashes[i])
            insert(larger, ids->size * 2, ids->hashes[i]);
    free(ids->hashes);
    ids->hashes = larger;
    ids->size *= 2;
}

bool sink_ids_add(sink_ids *ids, const char *id, size_t length) {
    if (ids->used * 2 >= ids->size)
        grow(ids);
    bool fresh = insert(ids->hashes, ids->size, hash_of(id, length));
    ids->used += fresh;
    return fresh;
}

void sink_ids_clear(sink_ids *ids) {
    memset(ids->hashes, 0, ids->size * sizeof *ids->hashes);
    ids->used = 0;
}
