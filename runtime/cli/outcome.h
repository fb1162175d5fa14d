/* outcome.h — how a receipt looks to a person. */
#ifndef NH_CLI_OUTCOME_H
#define NH_CLI_OUTCOME_H

#include "runtime/notifyhub.h"

/* Prints the deliveries of a receipt on stdout. `line` is 0 for a single message; for the line of a
 * batch only what failed is shown. */
void cli_outcome_print(const nh_value *receipt, nh_status status, size_t line);

#endif
