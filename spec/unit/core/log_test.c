/* log_test.c — what a line of the log looks like, whatever is put into it. */
#include "runtime/core/log.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/utf8.h"
#include "spec/unit/check.h"

/* The last line, how many there were, and whether one of them broke a rule. */
static char last[NH_LOG_LINE_MOST + 1];
static size_t lines, ill;

static void keep(void *context, nh_log_level level, const char *text, size_t length) {
    (void)context, (void)level;
    lines++;
    ill += length >= NH_LOG_LINE_MOST || nh_control_at(text, length) != length ||
           !nh_utf8_valid(text, length);
    memcpy(last, text, length);
    last[length] = '\0';
}

static nh_log *open_log(nh_log_level level, nh_log_format format) {
    nh_log_options options = {level, format, NH_LOG_CALLBACK, keep, NULL};
    lines = ill = 0;
    *last = '\0';
    return nh_log_create(&options, NULL);
}

/* The last line without its time, whose form is checked. */
static const char *timeless(void) {
    static const char form[] = "0000-00-00T00:00:00.000Z";
    static char out[sizeof last];
    const char *time = strpbrk(last, "0123456789");
    for (size_t i = 0; time && i < sizeof form - 1; i++)
        if (!CHECK(form[i] == '0' ? time[i] >= '0' && time[i] <= '9' : time[i] == form[i]))
            return last;
    snprintf(out, sizeof out, "%.*s%s", time ? (int)(time - last) : 0, last,
             time ? time + sizeof form - 1 : "");
    return out;
}

static void write_a_bit_of_all(nh_log *log) {
    nh_log_write(log, NH_LOG_WARN, "delivery failed", nh_log_text("id", "018f-2a"),
                 nh_log_text("target", "slack #ops"), nh_log_int("attempts", -3),
                 nh_log_real("latency", 0.25), nh_log_bool("retryable", true),
                 nh_log_text("error", "said \"no\"\n\ttwice"), nh_log_text("empty", ""),
                 nh_log_text("none", NULL), nh_log_real("rate", NAN));
}

static void a_line_of_logfmt(void) {
    nh_log *log = open_log(NH_LOG_INFO, NH_LOG_LOGFMT);
    write_a_bit_of_all(log);
    CHECK_STR(timeless(),
              "time= level=warn event=\"delivery failed\" id=018f-2a target=\"slack #ops\" "
              "attempts=-3 latency=0.25 retryable=true error=\"said \\\"no\\\"\\n\\ttwice\" "
              "empty=\"\" none=\"\" rate=nan");
    nh_log_write(log, NH_LOG_INFO, "started");
    CHECK_STR(timeless(), "time= level=info event=started");
    nh_log_destroy(log);
}

static void a_line_of_json(void) {
    nh_log *log = open_log(NH_LOG_INFO, NH_LOG_JSON);
    write_a_bit_of_all(log);
    CHECK_STR(
        timeless(),
        "{\"time\":\"\",\"level\":\"warn\",\"event\":\"delivery failed\",\"id\":\"018f-2a\","
        "\"target\":\"slack #ops\",\"attempts\":-3,\"latency\":0.25,\"retryable\":true,"
        "\"error\":\"said \\\"no\\\"\\n\\ttwice\",\"empty\":\"\",\"none\":\"\",\"rate\":null}");
    nh_doc *doc = nh_doc_from_json(last, strlen(last), NULL);
    CHECK(doc);
    nh_doc_unref(doc);
    nh_log_destroy(log);
}

static int evaluated;

static const char *costly(void) {
    evaluated++;
    return "x";
}

static void what_is_off_costs_nothing(void) {
    nh_log *log = open_log(NH_LOG_WARN, NH_LOG_LOGFMT);
    nh_log *silent = nh_log_create(NULL, NULL);
    nh_log_write(log, NH_LOG_INFO, "event", nh_log_text("x", costly()));
    nh_log_write(silent, NH_LOG_ERROR, "event", nh_log_text("x", costly()));
    nh_log_write((nh_log *)NULL, NH_LOG_ERROR, "event", nh_log_text("x", costly()));
    CHECK_INT(evaluated, 0);
    nh_log_write(log, NH_LOG_WARN, "event", nh_log_text("x", costly()));
    nh_log_write(log, NH_LOG_ERROR, "event", nh_log_text("x", costly()));
    CHECK_INT(evaluated, 2);
    CHECK_INT(lines, 2);
    nh_log_destroy(log);
    nh_log_destroy(silent);
    nh_log_destroy(NULL);
    nh_log_level level;
    CHECK(nh_log_level_from_name("debug", &level) && level == NH_LOG_DEBUG);
    CHECK(!nh_log_level_from_name("loud", &level));
}

/* Every value in both formats stays one line of valid UTF-8 and, as JSON, can be read. */
static void hostile_values_stay_inside_their_line(void) {
    static const struct {
        const char *bytes, *shown;
    } values[] = {
        {"a\r\nb", "a\\r\\nb"},
        {"\x1B[31mred\x07", "\\u001b[31mred\\u0007"},
        {"\" level=error x=\"", "\\\" level=error x=\\\""},
        {"back\\", "back\\\\"},
        {"\x7F", "\\u007f"},
        {"\xC2\x9B!", "\\u009b!"},                        /* CSI as one character */
        {"\xE2\x80\xA8|\xE2\x80\xAE", "\\u2028|\\u202e"}, /* line separator, override */
        {"\xE2\x81\xA6", "\\u2066"},                      /* isolate */
        {"\xE2\x80\x8F", "\\u200f"},                      /* mark */
        {"bad \xFF\xC0\xAF", "bad \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a surrogate */
        {"\xF0\x9F\x98", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* cut off */
        {"gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80", "gr\xC3\xBC\xC3\x9F \xF0\x9F\x98\x80"},
    };
    for (nh_log_format format = NH_LOG_LOGFMT; format <= NH_LOG_JSON; format++) {
        nh_log *log = open_log(NH_LOG_INFO, format);
        bool json = format == NH_LOG_JSON;
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            char wanted[256];
            snprintf(wanted, sizeof wanted, "%s\"%s\"%s",
                     json ? "{\"time\":\"\",\"level\":\"info\",\"event\":\"e\",\"v\":"
                          : "time= level=info event=e v=",
                     values[i].shown, json ? "}" : "");
            nh_log_write(log, NH_LOG_INFO, "e", nh_log_text("v", values[i].bytes));
            CHECK_STR(timeless(), wanted);
        }
        nh_log_write(log, NH_LOG_INFO, "e", nh_log_bytes("n\nl=\"", "a\0b", 3));
        CHECK(strstr(last, "n_l__"));
        CHECK(strstr(last, "a\\u0000b"));
        nh_log_write(log, NH_LOG_INFO, "two\nlines", nh_log_text("", "x"));
        CHECK(strstr(last, "two\\nlines"));
        CHECK_INT(ill, 0);
        nh_log_destroy(log);
    }
}

static void a_line_is_bounded(void) {
    char *huge = malloc(1 << 20);
    for (nh_log_format format = NH_LOG_LOGFMT; format <= NH_LOG_JSON; format++)
        for (const char *fill = "a\n\xFF\xC3"; *fill; fill++) {
            nh_log *log = open_log(NH_LOG_INFO, format);
            nh_log_field fields[200];
            char names[200][32];
            memset(huge, *fill, 1 << 20);
            nh_log_write(log, NH_LOG_INFO, "e", nh_log_bytes("v", huge, 1 << 20));
            CHECK(strlen(last) < NH_LOG_VALUE_MOST + 100);
            CHECK(strstr(last, "\xE2\x80\xA6\""));
            CHECK(!strstr(last, "cut"));
            for (size_t i = 0; i < 200; i++) {
                snprintf(names[i], sizeof *names, "a_long_name_for_field_%zu", i);
                fields[i] = nh_log_bytes(names[i], huge, 20 + 31 * i);
            }
            nh_log_fields(log, NH_LOG_INFO, "e", fields, 200);
            CHECK(strstr(last, format == NH_LOG_JSON ? ",\"cut\":true}" : " cut=true"));
            nh_doc *doc = format == NH_LOG_JSON ? nh_doc_from_json(last, strlen(last), NULL) : NULL;
            CHECK(doc || format == NH_LOG_LOGFMT);
            nh_doc_unref(doc);
            CHECK_INT(ill, 0);
            nh_log_destroy(log);
        }
    free(huge);
}

static size_t number_after(const char *name) {
    const char *at = strstr(last, name);
    return at ? (size_t)strtoull(at + strlen(name), NULL, 10) : 0;
}

/* However slow the machine: what was written and what is told as suppressed add up. */
static void a_flood_of_one_event_is_summed_up(void) {
    enum { FLOOD = 20000 };
    nh_log *log = open_log(NH_LOG_INFO, NH_LOG_LOGFMT);
    uint64_t began = nh_monotonic();
    size_t written = 0, suppressed = 0;
    for (int i = 0; i < FLOOD; i++) {
        size_t before = lines;
        nh_log_write(log, NH_LOG_ERROR, "flood");
        written += lines - before;
        if (lines - before == 2 || strstr(last, "suppressed="))
            written--; /* a summary came before it */
    }
    double took = (double)(nh_monotonic() - began) / (double)NH_SECOND;
    CHECK((double)written <= (took + 1) * NH_LOG_EVENTS_A_SECOND);
    if (took < 0.9) {
        CHECK_INT(lines, NH_LOG_EVENTS_A_SECOND);
        nh_log_write(log, NH_LOG_INFO, "another");
        CHECK_STR(timeless(), "time= level=info event=another");
        nh_log_destroy(log);
        log = NULL;
        CHECK_STR(timeless(), "time= level=error event=flood suppressed=19900");
        suppressed = number_after("suppressed=");
        CHECK_INT(written + suppressed, FLOOD);
    }
    nh_log_destroy(log);
}

static void the_sum_is_told_when_the_second_is_over(void) {
    nh_log *log = open_log(NH_LOG_INFO, NH_LOG_LOGFMT);
    for (int i = 0; i < 2 * NH_LOG_EVENTS_A_SECOND; i++)
        nh_log_write(log, NH_LOG_ERROR, "flood");
    size_t before = lines;
    uint64_t until = nh_after(nh_monotonic(), 30);
    bool told = before > NH_LOG_EVENTS_A_SECOND; /* on a machine that took a second for that */
    while (!told && nh_monotonic() < until) {
        char event[32];
        snprintf(event, sizeof event, "event %zu", lines); /* never the same, never held back */
        before = lines;
        nh_log_write(log, NH_LOG_INFO, event);
        told = lines - before == 2;
        usleep(10000);
    }
    CHECK(told);
    nh_log_write(log, NH_LOG_ERROR, "flood");
    CHECK_STR(timeless(), "time= level=error event=flood");
    nh_log_destroy(log);
}

static void more_events_than_places_lose_no_count(void) {
    nh_log *log = open_log(NH_LOG_INFO, NH_LOG_LOGFMT);
    for (int i = 0; i < NH_LOG_EVENTS_A_SECOND + 7; i++)
        nh_log_write(log, NH_LOG_INFO, "first");
    bool told = false;
    for (int i = 0; i < 1000; i++) {
        char event[32];
        size_t before = lines;
        snprintf(event, sizeof event, "event %d", i);
        nh_log_write(log, NH_LOG_INFO, event);
        told |= lines - before == 2;
    }
    CHECK(told);
    nh_log_destroy(log);
}

/* ------------------------------------------------------------------ stderr */

static int own_stderr;

/* Standard error becomes a pipe; returns its reading end. */
static int divert(void) {
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    own_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return ends[0];
}

static void restore(void) {
    dup2(own_stderr, STDERR_FILENO);
    close(own_stderr);
}

static void standard_error_gets_whole_lines(void) {
    char text[8192];
    nh_log_options options = {.level = NH_LOG_INFO, .sink = NH_LOG_STDERR};
    nh_log *log = nh_log_create(&options, NULL);
    int from = divert();
    nh_log_write(log, NH_LOG_INFO, "one", nh_log_int("n", 1));
    nh_log_write(log, NH_LOG_INFO, "two", nh_log_int("n", 2));
    restore();
    ssize_t length = read(from, text, sizeof text - 1);
    text[length > 0 ? length : 0] = '\0';
    CHECK(strstr(text, " level=info event=one n=1\ntime="));
    CHECK(strstr(text, " level=info event=two n=2\n"));
    nh_log_destroy(log);
    close(from);
}

/* A reader that has stopped costs lines, never a thread; the next line tells how many. */
static void a_stalled_reader_stops_nobody(void) {
    static char filler[1500], text[1 << 16];
    nh_log_options options = {.level = NH_LOG_INFO, .sink = NH_LOG_STDERR};
    nh_log *log = nh_log_create(&options, NULL);
    int from = divert();
    memset(filler, 'x', sizeof filler);
    for (int i = 0; i < 200; i++) {
        char event[32];
        snprintf(event, sizeof event, "event %d", i);
        nh_log_write(log, NH_LOG_INFO, event, nh_log_bytes("v", filler, sizeof filler));
    }
    size_t taken = 0;
    for (ssize_t got; (got = read(from, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            taken += text[i] == '\n';
    CHECK(taken > 0 && taken < 200);
    nh_log_write(log, NH_LOG_INFO, "again");
    restore();
    ssize_t length = read(from, text, sizeof text - 1);
    text[length > 0 ? length : 0] = '\0';
    char wanted[64];
    snprintf(wanted, sizeof wanted, "event=again dropped=%zu\n", 200 - taken);
    CHECK(strstr(text, wanted));
    nh_log_destroy(log);
    close(from);
}

/* ----------------------------------------------------------------- threads */

static atomic_size_t together;

static void count(void *context, nh_log_level level, const char *text, size_t length) {
    (void)context, (void)level, (void)text, (void)length;
    atomic_fetch_add(&together, 1);
}

static void *write_many(void *argument) {
    for (int i = 0; i < 2000; i++) {
        nh_log_write(argument, NH_LOG_INFO, i % 2 ? "odd" : "even", nh_log_int("i", i));
    }
    return NULL;
}

static void threads_may_write_at_once(void) {
    pthread_t threads[8];
    nh_log_options options = {NH_LOG_INFO, NH_LOG_JSON, NH_LOG_CALLBACK, count, NULL};
    nh_log *log = nh_log_create(&options, NULL);
    for (size_t i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, write_many, log);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&together) >= 2 * NH_LOG_EVENTS_A_SECOND);
    CHECK(atomic_load(&together) < 16000);
    nh_log_destroy(log);
}

int main(void) {
    RUN(a_line_of_logfmt);
    RUN(a_line_of_json);
    RUN(what_is_off_costs_nothing);
    RUN(hostile_values_stay_inside_their_line);
    RUN(a_line_is_bounded);
    RUN(a_flood_of_one_event_is_summed_up);
    RUN(the_sum_is_told_when_the_second_is_over);
    RUN(more_events_than_places_lose_no_count);
    RUN(standard_error_gets_whole_lines);
    RUN(a_stalled_reader_stops_nobody);
    RUN(threads_may_write_at_once);
    return check_end();
}
