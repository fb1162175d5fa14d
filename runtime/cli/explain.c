/* explain.c — `notifyhub explain`: what would become of a message, and why. */
#include <string.h>

#include "runtime/cli/command.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/term.h"
#include "runtime/cli/value.h"

typedef struct explain_settings {
    const char *config, *rules;
    bool json;
} explain_settings;

static bool is_there(const nh_value *value) {
    return nh_value_kind(value) != NH_NIL;
}

static void print_line(const char *name, const nh_value *value, int indent) {
    if (!is_there(value))
        return;
    printf("%*s%s", indent, "", name);
    if (nh_value_kind(value) == NH_INT)
        printf("%lld", (long long)nh_value_int(value, 0));
    else if (nh_value_kind(value) == NH_REAL)
        printf("%g", nh_value_real(value, 0));
    else
        cli_value_print_lines(stdout, value, indent + 2);
    putchar('\n');
}

static void print_routes(const nh_value *routes, const cli_paint *paint) {
    if (nh_value_count(routes) > 0)
        puts("routes");
    for (size_t i = 0; i < nh_value_count(routes); i++) {
        const nh_value *route = nh_value_at(routes, i);
        const nh_value *why = nh_value_get(route, "why"), *source = nh_value_get(route, "source");
        bool taken = nh_value_bool(nh_value_get(route, "taken"));
        int indent = 2 * (int)nh_value_int(nh_value_get(route, "depth"), 1);
        printf("%*s%s%s ", indent, "", taken ? paint->green : paint->dim,
               taken ? "takes it" : "no");
        printf("%s  ", paint->off);
        cli_value_print(stdout, nh_value_get(route, "name"));
        if (is_there(source)) {
            printf(" %s(", paint->dim);
            cli_value_print(stdout, source);
            printf(")%s", paint->off);
        }
        if (is_there(why)) {
            fputs(": ", stdout);
            cli_value_print(stdout, why);
        }
        putchar('\n');
    }
}

/* A map of names and values, as HTTP has them, or a list of {name, value}, as mail. */
static void print_headers(const nh_value *headers, int indent) {
    for (size_t i = 0; i < nh_value_count(headers); i++) {
        const nh_value *value = nh_value_at(headers, i);
        bool map = nh_value_kind(headers) == NH_MAP;
        printf("%*s", indent, "");
        cli_value_print(stdout, map ? nh_value_key(headers, i) : nh_value_get(value, "name"));
        fputs(": ", stdout);
        cli_value_print(stdout, map ? value : nh_value_get(value, "value"));
        putchar('\n');
    }
}

static void print_list(const char *name, const nh_value *list, int indent) {
    for (size_t i = 0; nh_value_kind(list) == NH_ARRAY && i < nh_value_count(list); i++)
        print_line(name, nh_value_at(list, i), indent);
}

/* The request as its transport understands it: an HTTP request reads like one. */
static void print_request(const nh_value *request, int indent) {
    const nh_value *body = nh_value_get(request, "body");
    if (is_there(nh_value_get(request, "url"))) {
        printf("%*s", indent, "");
        if (is_there(nh_value_get(request, "method")))
            cli_value_print(stdout, nh_value_get(request, "method"));
        else
            fputs("to", stdout);
        putchar(' ');
        cli_value_print(stdout, nh_value_get(request, "url"));
        putchar('\n');
    }
    print_headers(nh_value_get(request, "headers"), indent);
    print_list("recipient = ", nh_value_get(request, "recipients"), indent);
    for (size_t i = 0; i < nh_value_count(request); i++) {
        const nh_value *key = nh_value_key(request, i), *value = nh_value_at(request, i);
        if (cli_value_is(key, "url") || cli_value_is(key, "method") || cli_value_is(key, "body") ||
            nh_value_kind(value) != NH_STRING)
            continue;
        printf("%*s", indent, "");
        cli_value_print(stdout, key);
        fputs(" = ", stdout);
        cli_value_print_lines(stdout, value, indent + 2);
        putchar('\n');
    }
    print_line("", body, indent);
}

static void print_requests(const nh_value *requests, const cli_paint *paint) {
    for (size_t i = 0; i < nh_value_count(requests); i++) {
        const nh_value *request = nh_value_at(requests, i);
        printf("%swould send to ", paint->bold);
        cli_value_print(stdout, nh_value_get(request, "target"));
        printf("%s (", paint->off);
        cli_value_print(stdout, nh_value_get(request, "platform"));
        fputs(", ", stdout);
        cli_value_print(stdout, nh_value_get(request, "transport"));
        double at = nh_value_real(nh_value_get(request, "at"), 0);
        if (at > 0)
            printf(", after %g s", at);
        puts(")");
        print_line("title  ", nh_value_get(request, "title"), 2);
        print_line("body   ", nh_value_get(request, "body"), 2);
        puts("  request");
        print_request(nh_value_get(request, "request"), 4);
    }
}

static void print_answer(const nh_doc *answer) {
    const cli_paint *paint = cli_paint_for(stdout);
    const nh_value *root = nh_doc_root(answer);
    const nh_value *failures = nh_value_get(root, "failures");
    const nh_value *warnings = nh_value_get(root, "warnings");
    print_routes(nh_value_get(root, "routes"), paint);
    print_line("route  ", nh_value_get(root, "route"), 0);
    print_requests(nh_value_get(root, "requests"), paint);
    for (size_t i = 0; i < nh_value_count(failures); i++) {
        printf("%swould fail%s ", paint->red, paint->off);
        cli_value_print(stdout, nh_value_get(nh_value_at(failures, i), "target"));
        fputs(": ", stdout);
        cli_value_print(stdout, nh_value_get(nh_value_at(failures, i), "error"));
        putchar('\n');
    }
    for (size_t i = 0; i < nh_value_count(warnings); i++) {
        printf("%swarning%s ", paint->yellow, paint->off);
        cli_value_print(stdout, nh_value_at(warnings, i));
        putchar('\n');
    }
    if (nh_value_count(failures) == 0)
        print_line("would fail: ", nh_value_get(root, "error"), 0);
}

#define FIELD(name) offsetof(explain_settings, name)

static const cli_option options[] = {
    {"rules", 'r', CLI_TEXT, FIELD(rules), "FOLDER", CLI_RULES_HELP, 0, 0},
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL, "print JSON", 0, 0},
    {0},
};

static int run_explain(const cli_command *self, int argc, char **argv) {
    explain_settings settings = {0};
    cli_operands operands;
    nh_error error;
    int status = cli_options_parse(self, argc, argv, &settings, &operands);
    if (status != CLI_GO)
        return status;
    nh_doc *message = cli_json_read(self->name, operands.items[0]);
    nh_doc *config = message ? cli_config_load(self->name, settings.config, settings.rules) : NULL;
    nh_doc *answer = config ? nh_rules_explain(config, message, &error) : NULL;
    status = CLI_USAGE;
    if (answer) {
        if (settings.json)
            cli_doc_print(stdout, answer);
        else
            print_answer(answer);
        bool delivers = cli_value_is(nh_value_get(nh_doc_root(answer), "status"), "delivered");
        status = delivers ? CLI_OK : CLI_FAILED;
    } else if (config)
        cli_complain(self->name, "%s", error.message);
    nh_doc_unref(answer);
    nh_doc_unref(config);
    nh_doc_unref(message);
    return status;
}

const cli_command cli_explain = {
    .name = "explain",
    .summary = "tell what would become of a message, and why",
    .operands = "MESSAGE.json",
    .operands_min = 1,
    .operands_max = 1,
    .options = options,
    .about =
        "Reads a message (- reads stdin) and tells which routes match it and why the others do "
        "not, who would be told, in what words, and the very request that each platform would "
        "get, without its secrets. Handlers run as they would, with a clock that jumps and "
        "deliveries that succeed. Sends nothing.",
    .exits = (const cli_exit[]){{CLI_OK, "it would be delivered"},
                                {CLI_FAILED, "something would not be delivered"},
                                {CLI_USAGE, "a mistake in the command line, the configuration, the "
                                            "rules or the message"},
                                {0}},
    .run = run_explain,
};
