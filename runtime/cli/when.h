/* when.h — a moment as a person writes it. */
#ifndef NH_CLI_WHEN_H
#define NH_CLI_WHEN_H

#include <stdbool.h>

/* How to write one, for help and complaints. */
#define CLI_WHEN_FORMS                                                                             \
    "+10m (s, m, h, d or w from now; +1h30m too), 2030-01-31T08:00:00+01:00 or seconds since 1970"

/* Reads a moment: a delay from `now`, an RFC 3339 date and time with its offset, or seconds since
 * the epoch. Writes seconds since the epoch. False when it is none of these. */
bool cli_when(const char *text, double now, double *seconds);

#endif
