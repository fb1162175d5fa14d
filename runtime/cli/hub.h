/* hub.h — opens a hub the way every command does that needs one. */
#ifndef NH_CLI_HUB_H
#define NH_CLI_HUB_H

#include "runtime/notifyhub.h"

#define CLI_CONFIG_HELP "the configuration (default: ./notifyhub.lua if it is there, else none)"

/* Loads the configuration (NULL: the default) and opens a hub with it. NULL after a complaint in
 * the name of `command`. Owned by the caller. */
nh_hub *cli_hub_open(const char *command, const char *config);

#endif
