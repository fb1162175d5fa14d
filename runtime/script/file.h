/* file.h — reading a whole, bounded file. */
#ifndef NH_SCRIPT_FILE_H
#define NH_SCRIPT_FILE_H

#include "runtime/notifyhub.h"

/* The content, NUL-terminated, for free(). Errors: NH_E_CONFIG naming the path, NH_E_TOO_LARGE over
 * `most` bytes. Blocks: on the file; only regular files are read, so never for long. */
char *nh_file_read(const char *path, size_t most, size_t *length, nh_error *error);

#endif
