/* check.c — `notifyhub check`: everything that is wrong with a configuration and its rules, before
 * anything depends on them. */
#include "runtime/cli/command.h"
#include "runtime/cli/hub.h"
#include "runtime/cli/term.h"
#include "runtime/cli/value.h"

typedef struct check_settings {
    const char *config, *rules;
    bool json;
} check_settings;

static long long count(const nh_doc *answer, const char *name) {
    return (long long)nh_value_int(nh_value_get(nh_doc_root(answer), name), 0);
}

static int print_answer(const nh_doc *answer, bool json) {
    const nh_value *problems = nh_value_get(nh_doc_root(answer), "problems");
    size_t total = nh_value_count(problems);
    if (json)
        cli_doc_print(stdout, answer);
    for (size_t i = 0; !json && i < total; i++) {
        cli_value_print_lines(stdout, nh_value_at(problems, i), 4);
        putchar('\n');
    }
    if (!json && total == 0)
        printf("no problems: %lld files, %lld routes, %lld templates, %lld files of tests\n",
               count(answer, "files"), count(answer, "routes"), count(answer, "templates"),
               count(answer, "tests"));
    return total == 0 ? CLI_OK : CLI_USAGE;
}

#define FIELD(name) offsetof(check_settings, name)

static const cli_option options[] = {
    {"rules", 'r', CLI_TEXT, FIELD(rules), "FOLDER", CLI_RULES_HELP, 0, 0},
    {"config", 'c', CLI_TEXT, FIELD(config), "FILE", CLI_CONFIG_HELP, 0, 0},
    {"json", 'j', CLI_FLAG, FIELD(json), NULL, "print JSON", 0, 0},
    {0},
};

static int run_check(const cli_command *self, int argc, char **argv) {
    check_settings settings = {0};
    nh_error error;
    int status = cli_options_parse(self, argc, argv, &settings, NULL);
    if (status != CLI_GO)
        return status;
    nh_doc *config = cli_config_load(self->name, settings.config, settings.rules);
    if (!config)
        return CLI_USAGE;
    nh_doc *answer = nh_rules_check(config, &error);
    if (answer)
        status = print_answer(answer, settings.json);
    else {
        cli_complain(self->name, "%s", error.message);
        status = error.code == NH_E_INTERNAL ? CLI_FAILED : CLI_USAGE;
    }
    nh_doc_unref(answer);
    nh_doc_unref(config);
    return status;
}

const cli_command cli_check = {
    .name = "check",
    .summary = "tell what is wrong with a configuration and its rules",
    .operands = "",
    .options = options,
    .about = "Reads the configuration, compiles and loads its rules, and looks whether the targets "
             "and templates that they name are there. Tells all problems at once, one a line with "
             "file and line. Sends nothing.",
    .exits = (const cli_exit[]){{CLI_OK, "no problems"},
                                {CLI_FAILED, "it could not be checked"},
                                {CLI_USAGE, "there are problems"},
                                {0}},
    .run = run_check,
};
