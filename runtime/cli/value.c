/* value.c — reads documents from JSON files, and prints values of documents. */
#include "runtime/cli/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/term.h"

#define FILE_LONGEST (64u << 20) /* bytes */

bool cli_value_is(const nh_value *value, const char *text) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    return bytes && length == strlen(text) && memcmp(bytes, text, length) == 0;
}

void cli_value_print(FILE *out, const nh_value *value) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    if (bytes)
        cli_print_foreign(out, bytes, length, false, 0);
}

void cli_value_print_lines(FILE *out, const nh_value *value, int indent) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    if (bytes)
        cli_print_foreign(out, bytes, length, true, indent);
}

bool cli_doc_print(FILE *out, const nh_doc *doc) {
    char *text = nh_doc_to_json(doc);
    if (text)
        fprintf(out, "%s\n", text);
    nh_free(text);
    return text != NULL;
}

/* The whole of a stream; NULL with errno. */
static char *read_all(FILE *in, size_t *length) {
    char *text = NULL;
    size_t room = 0;
    *length = 0;
    for (;;) {
        if (room - *length < 4096) {
            room = room ? 2 * room : 65536;
            char *grown = room > FILE_LONGEST ? NULL : realloc(text, room);
            if (!grown) {
                free(text);
                errno = room > FILE_LONGEST ? EFBIG : ENOMEM;
                return NULL;
            }
            text = grown;
        }
        size_t got = fread(text + *length, 1, room - *length, in);
        *length += got;
        if (got == 0)
            return text;
    }
}

nh_doc *cli_json_read(const char *command, const char *path) {
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "rb");
    size_t length;
    nh_error error;
    char *text = in ? read_all(in, &length) : NULL;
    nh_doc *doc = text ? nh_doc_from_json(text, length, &error) : NULL;
    const char *name = standard ? "stdin" : path;
    if (!text)
        cli_complain(command, "%s: %s", name, strerror(errno));
    else if (!doc)
        cli_complain(command, "%s: %s", name, error.message);
    if (in && !standard)
        fclose(in);
    free(text);
    return doc;
}
