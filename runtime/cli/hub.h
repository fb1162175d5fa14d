/* hub.h — opens a hub the way every command does that needs one. */
#ifndef NH_CLI_HUB_H
#define NH_CLI_HUB_H

#include "runtime/notifyhub.h"

#define CLI_CONFIG_HELP "the configuration (default: ./notifyhub.lua if it is there, else none)"

#define CLI_RULES_HELP "the folder of rules, in place of the configuration's"

/* Loads the configuration (NULL: the default; none gives an empty one), with `rules` (NULL: as it
 * says) as its folder of rules. The log goes to stderr unless it says otherwise. NULL after a
 * complaint in the name of `command`. Owned by the caller. */
nh_doc *cli_config_load(const char *command, const char *config, const char *rules);

/* Opens a hub with that. */
nh_hub *cli_hub_open(const char *command, const char *config, const char *rules);

#endif
