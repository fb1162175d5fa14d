/* hub.c — from a configuration file's name to an open hub, with what is wrong told on stderr. */
#include "runtime/cli/hub.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cli/term.h"
#include "runtime/cli/value.h"

#define DEFAULT_CONFIG "notifyhub.lua"

/* A configuration's own paths are to be found beside its file, one of the command line from here.
 */
static bool find_rules(const char *command, const char *rules, char *path) {
    if (!rules || realpath(rules, path))
        return true;
    cli_complain(command, "--rules %s: %s", rules, strerror(errno));
    return false;
}

/* The configuration with what the command line says in it. */
static nh_doc *complete(const nh_doc *given, const char *rules, nh_error *error) {
    const nh_value *root = nh_doc_root(given);
    bool logs = nh_value_kind(nh_value_get(root, "log")) != NH_NIL;
    size_t count = nh_value_count(root), kept = 0;
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    for (size_t i = 0; i < count; i++)
        kept += !(rules && cli_value_is(nh_value_key(root, i), "rules"));
    nh_writer_map(writer, kept + (rules != NULL) + !logs);
    for (size_t i = 0; i < count; i++) {
        if (rules && cli_value_is(nh_value_key(root, i), "rules"))
            continue;
        nh_writer_value(writer, nh_value_key(root, i));
        nh_writer_value(writer, nh_value_at(root, i));
    }
    if (rules) {
        nh_writer_cstring(writer, "rules");
        nh_writer_cstring(writer, rules);
    }
    if (!logs) {
        nh_writer_cstring(writer, "log");
        nh_writer_map(writer, 1);
        nh_writer_cstring(writer, "to");
        nh_writer_cstring(writer, "stderr");
    }
    nh_doc *doc = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    return doc;
}

nh_doc *cli_config_load(const char *command, const char *config, const char *rules) {
    nh_error error = {.message = "out of memory"};
    nh_doc *given = NULL;
    char path[PATH_MAX];
    if (!config && access(DEFAULT_CONFIG, F_OK) == 0)
        config = DEFAULT_CONFIG;
    if (!find_rules(command, rules, path))
        return NULL;
    nh_doc *whole = NULL;
    if (!config || (given = nh_config_load(config, &error)))
        whole = complete(given, rules ? path : NULL, &error);
    if (!whole)
        cli_complain(command, "%s", error.message);
    nh_doc_unref(given);
    return whole;
}

nh_hub *cli_hub_open(const char *command, const char *config, const char *rules) {
    nh_error error;
    nh_doc *settings = cli_config_load(command, config, rules);
    nh_hub *hub = settings ? nh_hub_open(settings, &error) : NULL;
    if (settings && !hub)
        cli_complain(command, "%s", error.message);
    nh_doc_unref(settings);
    return hub;
}
