/* nearest.h — "did you mean …": the known name nearest to one that is not known. */
#ifndef NH_CORE_NEAREST_H
#define NH_CORE_NEAREST_H

#include <stddef.h>

/* The name with the fewest edits to `text`, NULL when none is near enough to be a slip of the
 * fingers (a third of its length, at least one edit). Names longer than 64 bytes are never near. */
const char *nh_nearest(const char *text, size_t length, const char *const *names, size_t count);

#endif
