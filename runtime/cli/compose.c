/* compose.c — turns the options of `notifyhub send` into a message document.
 *
 * What a message may hold is the hub's to say: nothing is checked here but what the hub cannot see,
 * which is the command line's own form (a pair needs its "=") and whether this user may read an
 * attachment now, before anything is sent.
 */
#include "runtime/cli/compose.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cli/term.h"
#include "runtime/cli/when.h"

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool check_pairs(const char *command, const char *option, const cli_list *pairs) {
    for (size_t i = 0; i < pairs->count; i++) {
        const char *equals = strchr(pairs->items[i], '=');
        if (!equals || equals == pairs->items[i]) {
            cli_complain(command, "--%s takes NAME=VALUE, not \"%s\"", option, pairs->items[i]);
            return false;
        }
    }
    return true;
}

static bool check_attachments(const char *command, const cli_list *paths) {
    for (size_t i = 0; i < paths->count; i++) {
        struct stat about;
        const char *path = paths->items[i];
        int failed = stat(path, &about) != 0 || access(path, R_OK) != 0 ? errno : 0;
        if (!failed && !S_ISREG(about.st_mode))
            failed = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
        if (failed) {
            cli_complain(command, "--attach %s: %s", path, strerror(failed));
            return false;
        }
    }
    return true;
}

/* A field whose value is a moment. */
typedef struct moment {
    const char *option, *field;
    const char *text; /* NULL: not given */
    double seconds;
} moment;

static bool read_moments(const char *command, moment *moments, size_t count) {
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    double now = (double)clock.tv_sec + (double)clock.tv_nsec / 1e9;
    for (size_t i = 0; i < count; i++) {
        if (moments[i].text && !cli_when(moments[i].text, now, &moments[i].seconds)) {
            cli_complain(command, "--%s takes %s, not \"%s\"", moments[i].option, CLI_WHEN_FORMS,
                         moments[i].text);
            return false;
        }
    }
    return true;
}

/* Whether a later pair has the same name: the last one counts. */
static bool is_repeated(const cli_list *pairs, size_t index) {
    size_t length = strcspn(pairs->items[index], "=") + 1;
    for (size_t i = index + 1; i < pairs->count; i++)
        if (strncmp(pairs->items[i], pairs->items[index], length) == 0)
            return true;
    return false;
}

static void write_pairs(nh_writer *writer, const char *name, const cli_list *pairs) {
    size_t count = 0;
    for (size_t i = 0; i < pairs->count; i++)
        count += !is_repeated(pairs, i);
    if (count == 0)
        return;
    nh_writer_cstring(writer, name);
    nh_writer_map(writer, count);
    for (size_t i = 0; i < pairs->count; i++) {
        if (is_repeated(pairs, i))
            continue;
        const char *equals = strchr(pairs->items[i], '=');
        nh_writer_string(writer, pairs->items[i], (size_t)(equals - pairs->items[i]));
        nh_writer_cstring(writer, equals + 1);
    }
}

static void write_attachments(nh_writer *writer, const cli_list *paths) {
    if (paths->count == 0)
        return;
    nh_writer_cstring(writer, "attachments");
    nh_writer_array(writer, paths->count);
    for (size_t i = 0; i < paths->count; i++) {
        nh_writer_map(writer, 2);
        nh_writer_cstring(writer, "name");
        nh_writer_cstring(writer, base_name(paths->items[i]));
        nh_writer_cstring(writer, "path");
        nh_writer_cstring(writer, paths->items[i]);
    }
}

nh_doc *cli_compose(const char *command, const cli_message *message) {
    const struct {
        const char *name, *value;
    } texts[] = {{"title", message->title},
                 {"body", message->body},
                 {"format", message->format},
                 {"priority", message->priority},
                 {"id", message->id}};
    const size_t text_count = sizeof texts / sizeof *texts;
    moment moments[] = {{"deliver-at", "deliver_at", message->deliver_at, 0},
                        {"expires-at", "expires_at", message->expires_at, 0}};
    const size_t moment_count = sizeof moments / sizeof *moments;
    nh_error error;

    if (!check_pairs(command, "var", &message->variables) ||
        !check_pairs(command, "metadata", &message->metadata) ||
        !read_moments(command, moments, moment_count) ||
        !check_attachments(command, &message->attachments))
        return NULL;

    size_t fields = (message->targets.count > 0) + (message->variables.count > 0) +
                    (message->metadata.count > 0) + (message->attachments.count > 0) +
                    (message->timeout >= 0);
    for (size_t i = 0; i < text_count; i++)
        fields += texts[i].value != NULL;
    for (size_t i = 0; i < moment_count; i++)
        fields += moments[i].text != NULL;

    nh_writer *writer = nh_writer_create();
    if (!writer) {
        cli_complain(command, "out of memory");
        return NULL;
    }
    nh_writer_map(writer, fields);
    for (size_t i = 0; i < text_count; i++) {
        if (!texts[i].value)
            continue;
        nh_writer_cstring(writer, texts[i].name);
        nh_writer_cstring(writer, texts[i].value);
    }
    for (size_t i = 0; i < moment_count; i++) {
        if (!moments[i].text)
            continue;
        nh_writer_cstring(writer, moments[i].field);
        nh_writer_real(writer, moments[i].seconds);
    }
    if (message->targets.count) {
        nh_writer_cstring(writer, "targets");
        nh_writer_array(writer, message->targets.count);
        for (size_t i = 0; i < message->targets.count; i++)
            nh_writer_cstring(writer, message->targets.items[i]);
    }
    write_pairs(writer, "variables", &message->variables);
    write_pairs(writer, "metadata", &message->metadata);
    write_attachments(writer, &message->attachments);
    if (message->timeout >= 0) {
        nh_writer_cstring(writer, "timeout");
        nh_writer_real(writer, message->timeout);
    }
    nh_doc *doc = nh_writer_finish(writer, &error);
    nh_writer_destroy(writer);
    if (!doc)
        cli_complain(command, "%s", error.message);
    return doc;
}

/* Whether a map has a key of these bytes. */
static bool has_key(const nh_value *map, const nh_value *key) {
    size_t length, other_length;
    const char *name = nh_value_bytes(key, &length);
    for (size_t i = 0; name && i < nh_value_count(map); i++) {
        const char *other = nh_value_bytes(nh_value_key(map, i), &other_length);
        if (other && other_length == length && memcmp(other, name, length) == 0)
            return true;
    }
    return false;
}

static void write_field(nh_writer *writer, const nh_value *map, size_t index) {
    nh_writer_value(writer, nh_value_key(map, index));
    nh_writer_value(writer, nh_value_at(map, index));
}

nh_doc *cli_compose_over(const nh_doc *first, const nh_doc *second, nh_error *error) {
    const nh_value *over = nh_doc_root(first), *under = nh_doc_root(second);
    size_t fields = nh_value_count(over);
    for (size_t i = 0; i < nh_value_count(under); i++)
        fields += !has_key(over, nh_value_key(under, i));

    nh_writer *writer = nh_writer_create();
    if (!writer) {
        *error = (nh_error){.code = NH_E_INTERNAL, .message = "out of memory"};
        return NULL;
    }
    nh_writer_map(writer, fields);
    for (size_t i = 0; i < nh_value_count(over); i++)
        write_field(writer, over, i);
    for (size_t i = 0; i < nh_value_count(under); i++)
        if (!has_key(over, nh_value_key(under, i)))
            write_field(writer, under, i);
    nh_doc *doc = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    return doc;
}
