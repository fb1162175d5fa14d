/* hub.c — from a configuration file's name to an open hub, with what is wrong told on stderr. */
#include "runtime/cli/hub.h"

#include <unistd.h>

#include "runtime/cli/term.h"

#define DEFAULT_CONFIG "notifyhub.lua"

nh_hub *cli_hub_open(const char *command, const char *config) {
    nh_error error;
    nh_doc *settings = NULL;

    if (!config && access(DEFAULT_CONFIG, F_OK) == 0)
        config = DEFAULT_CONFIG;
    if (config && !(settings = nh_config_load(config, &error))) {
        cli_complain(command, "%s", error.message);
        return NULL;
    }
    nh_hub *hub = nh_hub_open(settings, &error);
    if (!hub)
        cli_complain(command, "%s", error.message);
    nh_doc_unref(settings);
    return hub;
}
