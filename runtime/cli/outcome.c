/* outcome.c — a receipt in lines for a person: one for each delivery, aligned, coloured on a
 * terminal.
 *
 * What a platform answered is foreign text and is printed as such.
 */
#include "runtime/cli/outcome.h"

#include <stdio.h>

#include "runtime/cli/term.h"

/* Prints a value's text in a column of at least `width` characters, counted as UTF-8. */
static void print_column(const nh_value *value, size_t width) {
    size_t length = 0, characters = 0;
    const char *text = nh_value_bytes(value, &length);
    if (!text)
        text = "-", length = 1;
    for (size_t i = 0; i < length; i++)
        characters += ((unsigned char)text[i] & 0xC0) != 0x80;
    cli_print_foreign(stdout, text, length, false, 0);
    printf("%*s  ", characters < width ? (int)(width - characters) : 0, "");
}

static void print_reason(const nh_value *of) {
    size_t code_length = 0, length = 0;
    const char *code = nh_value_bytes(nh_value_get(of, "code"), &code_length);
    const char *text = nh_value_bytes(nh_value_get(of, "error"), &length);
    if (code)
        printf("%.*s: ", (int)code_length, code);
    if (text)
        cli_print_foreign(stdout, text, length, false, 0);
}

/* "delivered  slack  #ops  0.12 s", or "failed  …  rejected: text". */
static void print_delivery(const cli_paint *paint, const nh_value *result, size_t line,
                           size_t target_width) {
    bool ok = nh_value_bool(nh_value_get(result, "ok"));
    printf("%s%-9s%s  ", ok ? paint->green : paint->red, ok ? "delivered" : "failed", paint->off);
    if (line)
        printf("line %zu  ", line);
    print_column(nh_value_get(result, "platform"), 8);
    print_column(nh_value_get(result, "target"), target_width);
    printf("%.2f s", nh_value_real(nh_value_get(result, "latency"), 0));
    if (!ok) {
        fputs("  ", stdout);
        print_reason(result);
    }
    putchar('\n');
}

void cli_outcome_print(const nh_value *receipt, nh_status status, size_t line) {
    const cli_paint *paint = cli_paint_for(stdout);
    const nh_value *results = nh_value_get(receipt, "results");
    size_t count = nh_value_count(results), width = 0;
    if (line && status == NH_DELIVERED)
        return;
    for (size_t i = 0; i < count; i++) {
        size_t length = 0;
        nh_value_bytes(nh_value_get(nh_value_at(results, i), "target"), &length);
        width = length > width && length <= 40 ? length : width;
    }
    for (size_t i = 0; i < count; i++) {
        const nh_value *result = nh_value_at(results, i);
        if (!line || !nh_value_bool(nh_value_get(result, "ok")))
            print_delivery(paint, result, line, width);
    }
    if (count)
        return;
    const char *colour = status == NH_DELIVERED ? paint->green : paint->red;
    printf("%s%-9s%s  ", colour, nh_status_name(status), paint->off);
    if (line)
        printf("line %zu  ", line);
    print_reason(receipt);
    putchar('\n');
}
