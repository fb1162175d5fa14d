/* platforms.c — `notifyhub platforms`: what a hub with this configuration can send to.
 *
 * Everything printed comes from the hub's own document (nh_hub_platforms), so a user's adapter
 * shows up like a built-in one. A table of Lua has no order: here options stand sorted, those that
 * are required first, and the keys of JSON by name, so that two runs print the same. Opens a hub
 * for as long as that takes; sends nothing.
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

#define NAMES_MAX 256 /* platforms, and options of one, that are sorted */

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

/* ----------------------------------------------------------------- order */

static int compare(const nh_value *left, const nh_value *right) {
    size_t a_length = 0, b_length = 0;
    const char *a = nh_value_bytes(left, &a_length);
    const char *b = nh_value_bytes(right, &b_length);
    int order = memcmp(a ? a : "", b ? b : "", a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int by_name(const void *left, const void *right) {
    const nh_value *const *a = left, *const *b = right;
    return compare(nh_value_get(*a, "name"), nh_value_get(*b, "name"));
}

/* An entry of a map. */
typedef struct pair {
    const nh_value *key, *value;
} pair;

static int by_key(const void *left, const void *right) {
    const pair *a = left, *b = right;
    return compare(a->key, b->key);
}

static int required_first(const void *left, const void *right) {
    const pair *a = left, *b = right;
    bool a_required = nh_value_bool(nh_value_get(a->value, "required"));
    bool b_required = nh_value_bool(nh_value_get(b->value, "required"));
    return a_required != b_required ? b_required - a_required : by_key(left, right);
}

/* The entries of a map in order: at most NAMES_MAX of them. */
static size_t entries(const nh_value *map, pair *into, int (*order)(const void *, const void *)) {
    size_t count = nh_value_count(map) < NAMES_MAX ? nh_value_count(map) : NAMES_MAX;
    for (size_t i = 0; i < count; i++)
        into[i] = (pair){nh_value_key(map, i), nh_value_at(map, i)};
    qsort(into, count, sizeof *into, order);
    return count;
}

/* -------------------------------------------------------------- printing */

/* A scalar as people write it; a list with commas; a map as name and value, by name. */
static void print_value(const nh_value *value) {
    pair each[NAMES_MAX];
    size_t count;
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
        for (size_t i = 0; i < nh_value_count(value); i++) {
            fputs(i ? ", " : "", stdout);
            print_value(nh_value_at(value, i));
        }
        break;
    case NH_MAP:
        count = entries(value, each, by_key);
        for (size_t i = 0; i < count; i++) {
            fputs(i ? ", " : "", stdout);
            print_text(each[i].key);
            putchar(' ');
            print_value(each[i].value);
        }
        break;
    }
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
    pair each[NAMES_MAX];
    size_t count = entries(options, each, required_first);
    if (count == 0)
        return;
    printf("\n%s\n", heading);
    for (size_t i = 0; i < count; i++)
        print_option(each[i].key, each[i].value, paint);
}

/* How its target URLs are written, the prefixes that it knows of the web, and an example. */
static void print_urls(const nh_value *platform, const cli_paint *paint) {
    static const struct { const char *field, *after; } lists[] = {{"urls", ""}, {"native", "…"}};
    const nh_value *example = nh_value_get(platform, "example");
    size_t shapes = 0;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        shapes += nh_value_count(nh_value_get(platform, lists[i].field));
    if (shapes == 0)
        return;
    puts("\nTarget URLs:");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const nh_value *list = nh_value_get(platform, lists[i].field);
        for (size_t u = 0; u < nh_value_count(list); u++) {
            printf("  %s", paint->bold);
            print_text(nh_value_at(list, u));
            printf("%s%s\n", lists[i].after, paint->off);
        }
    }
    if (nh_value_kind(example) != NH_NIL) {
        fputs("  for example ", stdout);
        print_text(example);
        putchar('\n');
    }
}

static void print_platform(const nh_value *platform) {
    static const char *const shown[] = {"transport", "schemes",     "recipients",
                                        "formats",   "attachments", "limits",
                                        "rate",      "target_rate", "docs"};
    const cli_paint *paint = cli_paint_for(stdout);
    printf("%s", paint->bold);
    print_text(nh_value_get(platform, "name"));
    printf("%s  ", paint->off);
    print_text(nh_value_get(platform, "summary"));
    putchar('\n');
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const nh_value *value = nh_value_get(platform, shown[i]);
        nh_kind kind = nh_value_kind(value);
        if (kind == NH_NIL || ((kind == NH_ARRAY || kind == NH_MAP) && nh_value_count(value) == 0))
            continue;
        printf("  %s%-12s%s ", paint->cyan, shown[i], paint->off);
        print_value(value);
        putchar('\n');
    }
    print_urls(platform, paint);
    print_options("Options of an account in the configuration:", nh_value_get(platform, "options"),
                  paint);
    char heading[96];
    size_t length = 0;
    const char *name = nh_value_bytes(nh_value_get(platform, "name"), &length);
    snprintf(heading, sizeof heading,
             "Options of a message, in platform.%.*s:", length < 48 ? (int)length : 48,
             name ? name : "");
    print_options(heading, nh_value_get(platform, "message_options"), paint);
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

/* Copies a value with the keys of each map in order. */
static void write_sorted(nh_writer *writer, const nh_value *value) {
    nh_kind kind = nh_value_kind(value);
    size_t count = nh_value_count(value);
    if (kind == NH_ARRAY) {
        nh_writer_array(writer, count);
        for (size_t i = 0; i < count; i++)
            write_sorted(writer, nh_value_at(value, i));
    } else if (kind == NH_MAP && count <= NAMES_MAX) {
        pair each[NAMES_MAX];
        nh_writer_map(writer, entries(value, each, by_key));
        for (size_t i = 0; i < count; i++) {
            nh_writer_value(writer, each[i].key);
            write_sorted(writer, each[i].value);
        }
    } else {
        nh_writer_value(writer, value);
    }
}

/* One platform, or all of them in a list by name. */
static int print_json(const nh_doc *platforms, const nh_value *one) {
    const nh_value *each[NAMES_MAX] = {one};
    nh_writer *writer = nh_writer_create();
    if (writer && one) {
        write_sorted(writer, one);
    } else if (writer) {
        size_t count = sorted(platforms, each);
        nh_writer_array(writer, count);
        for (size_t i = 0; i < count; i++)
            write_sorted(writer, each[i]);
    }
    nh_doc *picked = writer ? nh_writer_finish(writer, NULL) : NULL;
    char *text = picked ? nh_doc_to_json(picked) : NULL;
    if (text)
        puts(text);
    nh_free(text);
    nh_doc_unref(picked);
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
             "script_path included, or tells of one platform how its target URLs are written, "
             "whom it can reach, its limits and its options.",
    .exits =
        (const cli_exit[]){{CLI_OK, "printed"},
                           {CLI_FAILED, "the platforms could not be read"},
                           {CLI_USAGE, "there is no such platform, or a mistake in the command "
                                       "line or the configuration"},
                           {0}},
    .run = run_platforms,
};
