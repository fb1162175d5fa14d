/* config.h — a configuration file. */
#ifndef NH_SCRIPT_CONFIG_H
#define NH_SCRIPT_CONFIG_H

#include "runtime/notifyhub.h"

/* Runs the file in a sandbox of its own and returns the table that it returns, with the key
 * `config_file` for its place. Errors: NH_E_CONFIG with file and line. Thread: any. Blocks: on the
 * file and those that it names. */
nh_doc *nh_config_read(const char *path, nh_error *error);

/* The line, from 1, on which a key like "platforms.slack.token" is set in a configuration's text; 0
 * when it is not found. */
int nh_config_line(const char *text, const char *key);

#endif
