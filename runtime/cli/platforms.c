/* platforms.c — `notifyhub platforms`: what a hub with this configuration can send to.
 *
 * Everything printed comes from the hub's own document (nh_hub_platforms), so a user's adapter
 * shows up like a built-in one. Opens a hub for as long as that takes; sends nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/cli/command.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/term.h"

typedef struct platforms_settings {
    const char *config;
    bool json;
} platforms_settings;

#define NAMES_MAX 256 /* platforms that are sorted and searched */

static bool is_text(const nh_value *value, const char *text) {
    size_t length;
    const char *bytes = nh_value_bytes(value, &length);
    return bytes && length == strlen(text) && memcmp(bytes, text, length) == 0;
}

static void print_text(const nh_value *value) {
    size_t length = 0;
    const char *bytes = nh_value_bytes(value, &length);
    if (bytes)
        cli_print_foreign(stdout, bytes, length, false, 0);
}

/* A scalar as people write it; a list with commas; a map as name = value. */
static void print_value(const nh_value *value) {
    switch (nh_value_kind(value)) {
    case NH_NIL:
        fputs("none", stdout);
        break;
    case NH_BOOL:
        fputs(nh_value_bool(value) ? "yes" : "no", stdout);
        break;
    case NH_INT:
        printf("%lld", (long long)nh_value_int(value, 0));
        break;
    case NH_REAL:
        printf("%.15g", nh_value_real(value, 0));
        break;
    case NH_SECRET:
        fputs("<secret>", stdout);
        break;
    case NH_STRING:
    case NH_BINARY:
        print_text(value);
        break;
    case NH_ARRAY:
    case NH_MAP:
        for (size_t i = 0; i < nh_value_count(value); i++) {
            fputs(i ? ", " : "", stdout);
            if (nh_value_key(value, i)) {
                print_text(nh_value_key(value, i));
                putchar(' ');
            }
            print_value(nh_value_at(value, i));
        }
        break;
    }
}

static int by_name(const void *left, const void *right) {
    const nh_value *const *a = left, *const *b = right;
    size_t a_length = 0, b_length = 0;
    const char *a_name = nh_value_bytes(nh_value_get(*a, "name"), &a_length);
    const char *b_name = nh_value_bytes(nh_value_get(*b, "name"), &b_length);
    int order = memcmp(a_name ? a_name : "", b_name ? b_name : "",
                       a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static size_t sorted(const nh_doc *platforms, const nh_value **into) {
    const nh_value *list = nh_doc_root(platforms);
    size_t count = nh_value_count(list) < NAMES_MAX ? nh_value_count(list) : NAMES_MAX;
    for (size_t i = 0; i < count; i++)
        into[i] = nh_value_at(list, i);
    qsort(into, count, sizeof *into, by_name);
    return count;
}

static void print_list(const nh_doc *platforms) {
    const nh_value *each[NAMES_MAX] = {NULL};
    const cli_paint *paint = cli_paint_for(stdout);
    size_t count = sorted(platforms, each), width = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        nh_value_bytes(nh_value_get(each[i], "name"), &length);
        width = length > width ? length : width;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = nh_value_bytes(nh_value_get(each[i], "name"), &length);
        printf("%s%.*s%s%*s  ", paint->bold, (int)length, name ? name : "", paint->off,
               (int)(width - length), "");
        print_text(nh_value_get(each[i], "summary"));
        putchar('\n');
    }
}

static void print_option(const nh_value *name, const nh_value *option, const cli_paint *paint) {
    const nh_value *choices = nh_value_get(option, "one_of");
    const nh_value *otherwise = nh_value_get(option, "default");
    size_t length = 0;
    printf("  %s", paint->bold);
    print_text(name);
    printf("%s  %s", paint->off, paint->dim);
    print_value(nh_value_get(option, "type"));
    if (nh_value_bool(nh_value_get(option, "required")))
        fputs(", required", stdout);
    if (nh_value_bool(nh_value_get(option, "secret")))
        fputs(", secret", stdout);
    if (nh_value_kind(choices) != NH_NIL) {
        fputs(", one of ", stdout);
        print_value(choices);
    }
    if (nh_value_kind(otherwise) != NH_NIL) {
        fputs(", default ", stdout);
        print_value(otherwise);
    }
    printf("%s\n", paint->off);
    const char *help = nh_value_bytes(nh_value_get(option, "help"), &length);
    if (help) {
        fputs("      ", stdout);
        cli_wrap(stdout, help, length, 6, 6);
    }
}

static void print_options(const char *heading, const nh_value *options, const cli_paint *paint) {
    if (nh_value_count(options) == 0)
        return;
    printf("\n%s\n", heading);
    for (size_t i = 0; i < nh_value_count(options); i++)
        print_option(nh_value_key(options, i), nh_value_at(options, i), paint);
}

static void print_platform(const nh_value *platform) {
    static const char *const shown[] = {"transport", "schemes", "formats", "limits", "docs"};
    const cli_paint *paint = cli_paint_for(stdout);
    printf("%s", paint->bold);
    print_text(nh_value_get(platform, "name"));
    printf("%s  ", paint->off);
    print_text(nh_value_get(platform, "summary"));
    putchar('\n');
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const nh_value *value = nh_value_get(platform, shown[i]);
        if (nh_value_kind(value) == NH_NIL)
            continue;
        printf("  %s%-10s%s ", paint->cyan, shown[i], paint->off);
        print_value(value);
        putchar('\n');
    }
    print_options("Options of an account in the configuration:", nh_value_get(platform, "options"),
                  paint);
    print_options("Options of a message:", nh_value_get(platform, "message_options"), paint);
}

/* The platform of a name, or NULL after a complaint that names the nearest. */
static const nh_value *find(const char *command, const nh_doc *platforms, const char *name) {
    const nh_value *list = nh_doc_root(platforms), *best = NULL;
    size_t best_distance = SIZE_MAX, length = 0;
    for (size_t i = 0; i < nh_value_count(list); i++) {
        const nh_value *each = nh_value_get(nh_value_at(list, i), "name");
        char room[64];
        if (is_text(each, name))
            return nh_value_at(list, i);
        const char *text = nh_value_bytes(each, &length);
        if (!text || length >= sizeof room)
            continue;
        memcpy(room, text, length);
        room[length] = '\0';
        size_t distance = cli_distance(name, room);
        if (distance < best_distance) {
            best_distance = distance;
            best = each;
        }
    }
    const char *near = best && cli_near(name, best_distance) ? nh_value_bytes(best, &length) : NULL;
    if (near)
        cli_complain(command, "unknown platform \"%s\"; did you mean %.*s?", name, (int)length,
                     near);
    else
        cli_complain(command, "unknown platform \"%s\"; notifyhub platforms lists them", name);
    return NULL;
}

static int print_json(const nh_doc *platforms, const nh_value *one) {
    nh_writer *writer = one ? nh_writer_create() : NULL;
    if (writer)
        nh_writer_value(writer, one);
    nh_doc *picked = writer ? nh_writer_finish(writer, NULL) : NULL;
    char *text = nh_doc_to_json(one ? picked : platforms);
    if (text)
        puts(text);
    nh_free(text);
    nh_doc_unref(picked);
    if (writer)
        nh_writer_destroy(writer);
    return text ? CLI_OK : CLI_FAILED;
}

#define FIELD(name) offsetof(platforms_settings, name)

static const cli_option options[] = {
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL, "print JSON", 0, 0},
    {0},
};

static int run_platforms(const cli_command *self, int argc, char **argv) {
    platforms_settings settings = {0};
    cli_operands operands;
    nh_error error;
    int status = cli_options_parse(self, argc, argv, &settings, &operands);
    if (status != CLI_GO)
        return status;
    nh_hub *hub = cli_hub_open(self->name, settings.config, NULL);
    if (!hub)
        return CLI_USAGE;
    nh_doc *platforms = nh_hub_platforms(hub, &error);
    const nh_value *one = NULL;
    status = CLI_OK;
    if (!platforms) {
        cli_complain(self->name, "%s", error.message);
        status = CLI_FAILED;
    } else if (operands.count && !(one = find(self->name, platforms, operands.items[0]))) {
        status = CLI_USAGE;
    } else if (settings.json) {
        status = print_json(platforms, one);
    } else if (one) {
        print_platform(one);
    } else {
        print_list(platforms);
    }
    nh_doc_unref(platforms);
    nh_hub_close(hub, 0);
    nh_hub_unref(hub);
    return status;
}

const cli_command cli_platforms = {
    .name = "platforms",
    .summary = "list the platforms, or tell what one of them takes",
    .operands = "[NAME]",
    .operands_max = 1,
    .options = options,
    .about = "Lists the platforms that messages can be sent to, those of the configuration's "
             "script_path included, or tells one platform's options.",
    .exits =
        (const cli_exit[]){{CLI_OK, "printed"},
                           {CLI_FAILED, "the platforms could not be read"},
                           {CLI_USAGE, "there is no such platform, or a mistake in the command "
                                       "line or the configuration"},
                           {0}},
    .run = run_platforms,
};
