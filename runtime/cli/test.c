/* test.c — `notifyhub test`: the rules' own tests, *_test.lua, with nothing sent and a clock that
 * jumps. */
#include "runtime/cli/command.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/term.h"
#include "runtime/cli/value.h"

typedef struct test_settings {
    const char *config;
    bool json;
} test_settings;

static void print_tests(const nh_doc *answer) {
    const cli_paint *paint = cli_paint_for(stdout);
    const nh_value *root = nh_doc_root(answer), *tests = nh_value_get(root, "tests");
    for (size_t i = 0; i < nh_value_count(tests); i++) {
        const nh_value *test = nh_value_at(tests, i);
        bool ok = nh_value_bool(nh_value_get(test, "ok"));
        printf("%s%s%s  ", ok ? paint->green : paint->red, ok ? "ok    " : "FAILED", paint->off);
        cli_value_print(stdout, nh_value_get(test, "file"));
        fputs(": ", stdout);
        cli_value_print(stdout, nh_value_get(test, "name"));
        putchar('\n');
        if (ok)
            continue;
        fputs("        ", stdout);
        cli_value_print_lines(stdout, nh_value_get(test, "error"), 8);
        putchar('\n');
    }
    printf("%lld passed, %lld failed\n", (long long)nh_value_int(nh_value_get(root, "passed"), 0),
           (long long)nh_value_int(nh_value_get(root, "failed"), 0));
}

#define FIELD(name) offsetof(test_settings, name)

static const cli_option options[] = {
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL, "print JSON", 0, 0},
    {0},
};

static int run_test(const cli_command *self, int argc, char **argv) {
    test_settings settings = {0};
    cli_operands operands;
    nh_error error;
    int status = cli_options_parse(self, argc, argv, &settings, &operands);
    if (status != CLI_GO)
        return status;
    const char *rules = operands.count ? operands.items[0] : NULL;
    nh_doc *config = cli_config_load(self->name, settings.config, rules);
    nh_doc *answer = config ? nh_rules_test(config, &error) : NULL;
    status = CLI_USAGE;
    if (answer) {
        if (settings.json)
            cli_doc_print(stdout, answer);
        else
            print_tests(answer);
        int64_t failed = nh_value_int(nh_value_get(nh_doc_root(answer), "failed"), 0);
        status = failed > 0 ? CLI_FAILED : CLI_OK;
    } else if (config)
        cli_complain(self->name, "%s", error.message);
    nh_doc_unref(answer);
    nh_doc_unref(config);
    return status;
}

const cli_command cli_test = {
    .name = "test",
    .summary = "run the rules' own tests",
    .operands = "[FOLDER]",
    .operands_max = 1,
    .options = options,
    .about =
        "Runs every *_test.lua of the folder of rules (default: the configuration's). Nothing "
        "is sent: what would have been is given to the test, and sleeps take no time:\n"
        "  local sent = simulate { title = \"Disk full\", metadata = { severity = \"page\" } }\n"
        "  assert(sent[1].target == \"oncall\")",
    .exits = (const cli_exit[]){{CLI_OK, "all tests passed"},
                                {CLI_FAILED, "a test failed"},
                                {CLI_USAGE, "a mistake in the command line, the configuration or "
                                            "the rules"},
                                {0}},
    .run = run_test,
};
